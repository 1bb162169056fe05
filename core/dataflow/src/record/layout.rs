//! The pieces that hand-written and derived [`Record`] implementations are made of.

use super::{DecodeError, Record, SchemaBuilder, SchemaField};
use std::cell::Cell;
use xxhash_rust::xxh3::xxh3_64;

/// Encoded values up to this length are hashed on the stack.
const STACK_HASH: usize = 128;

/// A hash buffer that a huge key has grown beyond this is not kept.
const KEPT_SCRATCH: usize = 64 << 10;

thread_local! {
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The key hash of bare content: XXH3-64 with seed 0. It is what strings and byte strings hash to.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The key hash of a value: [`hash_bytes`] of its encoded bytes, without an allocation per call.
#[inline]
pub fn hash_encoded<T: Record>(value: &T) -> u64 {
    match T::FIXED_LEN {
        Some(len) if len <= STACK_HASH => {
            let mut bytes = [0; STACK_HASH];
            value.encode_fixed(&mut bytes[..len]);
            hash_bytes(&bytes[..len])
        }
        _ => hash_through_scratch(value),
    }
}

fn hash_through_scratch<T: Record>(value: &T) -> u64 {
    // Taken out, not borrowed, so that an `encode` that itself hashes a key is only slower and not a panic.
    let mut bytes = SCRATCH.take();
    bytes.clear();
    value.encode(&mut bytes);
    let hash = hash_bytes(&bytes);
    if bytes.capacity() <= KEPT_SCRATCH {
        SCRATCH.set(bytes);
    }
    hash
}

/// Appends a length or count as u32.
///
/// # Panics
/// If it does not fit: a single string or collection beyond 4 GiB cannot be a record.
#[inline]
pub fn put_len(len: usize, out: &mut Vec<u8>) {
    let len =
        u32::try_from(len).expect("a string or collection inside a record has at most u32::MAX bytes or elements");
    out.extend_from_slice(&len.to_le_bytes());
}

/// The fixed length of `T`, or 0 if it has none (then the caller's own length is not fixed either and is not used).
#[inline]
pub const fn fixed_len<T: Record>() -> usize {
    match T::FIXED_LEN {
        Some(len) => len,
        None => 0,
    }
}

/// Writes a fixed-length field at the start of `out` and returns what follows it.
#[inline]
pub fn put_fixed<'o, T: Record>(value: &T, out: &'o mut [u8]) -> &'o mut [u8] {
    let (field, rest) = out.split_at_mut(fixed_len::<T>());
    value.encode_fixed(field);
    rest
}

/// Appends a fixed-length value through its `encode_fixed`: one check for room whatever the number of its fields.
#[inline]
pub fn append_fixed<T: Record>(value: &T, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + fixed_len::<T>(), 0);
    value.encode_fixed(&mut out[start..]);
}

/// The length of fields one after the other: fixed only if each of them is.
pub const fn sum(fields: &[Option<usize>]) -> Option<usize> {
    let (mut total, mut at) = (0, 0);
    while at < fields.len() {
        match fields[at] {
            Some(len) => total += len,
            None => return None,
        }
        at += 1;
    }
    Some(total)
}

/// The length of one of several alternatives behind a tag of `tag` bytes: fixed only if all have the same length.
pub const fn same(tag: usize, variants: &[Option<usize>]) -> Option<usize> {
    let Some((Some(first), rest)) = variants.split_first() else { return None };
    let mut at = 0;
    while at < rest.len() {
        match rest[at] {
            Some(len) if len == *first => at += 1,
            _ => return None,
        }
    }
    Some(tag + *first)
}

/// Whether all of `parts` hold.
pub const fn all(parts: &[bool]) -> bool {
    let mut at = 0;
    while at < parts.len() {
        if !parts[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// A field of a struct or variant in a schema. `default`: what it is where state was written without it.
pub fn field<T: Record>(
    builder: &mut SchemaBuilder,
    name: &str,
    former_names: &[&str],
    default: Option<fn() -> T>,
) -> SchemaField {
    let encoded = |default: fn() -> T| {
        let mut bytes = Vec::new();
        default().encode(&mut bytes);
        bytes
    };
    SchemaField {
        name: name.to_owned(),
        former_names: former_names.iter().map(|&name| name.to_owned()).collect(),
        schema: T::schema(builder),
        default: default.map(encoded),
    }
}

/// The error for an enum tag at `offset` that none of the type's variants has.
#[cold]
pub fn unknown_tag(offset: usize, of: &str, variants: usize, found: u32) -> DecodeError {
    DecodeError::new(offset, format!("a variant of {of} below {variants}"), found.to_string())
}
