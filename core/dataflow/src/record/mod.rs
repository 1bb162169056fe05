//! Records: what travels between tasks, and the fixed little-endian layout it has on the wire and in state.
//!
//! The layout and the key hash are part of the product's contract: they are specified, with golden values, in
//! `docs/record-format.md`. Nothing here knows about channels or files; it turns values into bytes and bytes into
//! values, and never panics on bytes it did not write itself.

mod bytes;
mod decoder;
mod fixed;
mod foreign;
pub mod layout;
mod maps;
mod scan;
mod sequences;
mod shared;
mod text;
mod times;
mod tuples;
mod wrappers;

use std::fmt::Debug;
use std::hash::Hash;

pub use bytes::Bytes;
pub use decoder::{DecodeError, Decoder, MAX_DEPTH};
pub use foreign::{Serde, SerdeView};
pub use layout::hash_bytes;
pub use sequences::{SeqIter, SeqView};
pub use shared::SharedBuf;
pub use text::{Lines, Split, Text, Words};
pub use weir_checkpoint::{Field as SchemaField, Schema, SchemaBuilder, Variant as SchemaVariant};

/// A value that can travel between tasks and be kept in state. Derived with `#[derive(Record)]`.
///
/// Values that compare equal must encode to the same bytes if the type is used as a key.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel between tasks: it is not a `Record`",
    label = "not a `Record`",
    note = "derive it with `#[derive(Record)]`, or wrap a foreign serde type in `weir::record::Serde<…>`"
)]
pub trait Record: Sized + Send + 'static {
    /// The borrowed form: the same fields without copies, valid while the encoded bytes are.
    type View<'a>: Clone + Debug + PartialEq;

    /// Encoded length when every value of the type has the same one, in bytes.
    const FIXED_LEN: Option<usize>;

    /// Whether every string of [`FIXED_LEN`](Self::FIXED_LEN) bytes is a valid value, so that nothing needs checking.
    const PLAIN: bool = false;

    /// Exact number of bytes [`encode`](Self::encode) appends.
    fn encoded_len(&self) -> usize;

    /// Appends the value's bytes.
    ///
    /// # Panics
    /// If a string or collection inside has more than `u32::MAX` bytes or elements.
    fn encode(&self, out: &mut Vec<u8>);

    /// Writes the value's bytes over `out`, whose length is [`FIXED_LEN`](Self::FIXED_LEN). Only called for types that
    /// have one; it is what lets a batch of them compile to plain stores.
    fn encode_fixed(&self, out: &mut [u8]) {
        let mut bytes = Vec::with_capacity(out.len());
        self.encode(&mut bytes);
        out.copy_from_slice(&bytes);
    }

    /// Appends the bytes of every item in order, as repeated [`encode`](Self::encode) would, with the room for
    /// fixed-length items made once.
    fn encode_batch(items: &[Self], out: &mut Vec<u8>) {
        match Self::FIXED_LEN {
            Some(0) => {}
            Some(size) => {
                let start = out.len();
                out.resize(start + size * items.len(), 0);
                for (item, slot) in items.iter().zip(out[start..].chunks_exact_mut(size)) {
                    item.encode_fixed(slot);
                }
            }
            None => items.iter().for_each(|item| item.encode(out)),
        }
    }

    /// Reads one value, advancing `input`. Text and byte fields may become cheap slices of the decoder's shared buffer.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// Reads `count` values and appends them to `out`; fixed-length items are checked for room once per batch.
    /// On an error `out` keeps the items decoded before it.
    fn decode_batch(input: &mut Decoder<'_>, count: usize, out: &mut Vec<Self>) -> Result<(), DecodeError> {
        sequences::decode_batch(input, count, out)
    }

    /// Reads one value as a borrowed view, advancing `input`.
    fn view<'a>(input: &mut Decoder<'a>) -> Result<Self::View<'a>, DecodeError>;

    /// The hash that decides the key group when the value is a key: XXH3-64 (seed 0) of the encoded bytes,
    /// or of the bare content for strings and byte strings (so `String`, `Text` and `&str` agree).
    fn key_hash(&self) -> u64 {
        layout::hash_encoded(self)
    }

    /// The layout, for state that outlives this version of the type: what is read later by another one is checked against it. The
    /// default says that only this type can read its values.
    fn schema(builder: &mut SchemaBuilder) -> Schema {
        let _ = builder;
        Schema::Opaque(std::any::type_name::<Self>().to_owned())
    }

    /// Lets go of buffers shared with other records, so that keeping the value does not keep a whole input buffer alive.
    fn detach(&mut self) {}
}

/// What a stream can be keyed by: any record that can be compared and hashed.
///
/// Equal keys must encode to the same bytes, as derived types do; hash maps and floating-point numbers are no keys
/// because they are not `Hash` or not `Eq`.
pub trait Key: Record + Clone + Eq + Hash {}

impl<T: Record + Clone + Eq + Hash> Key for T {}
