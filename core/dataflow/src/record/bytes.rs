//! [`Bytes`]: a byte string that is stored inside the value when short and is a slice of a shared buffer otherwise.

use super::shared::{Header, SharedBuf};
use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::ManuallyDrop;
use std::ops::{Bound, Deref, Range, RangeBounds};

/// An immutable byte string of 24 bytes that is cheap to clone and to slice.
///
/// Up to [`INLINE`](Self::INLINE) bytes are stored in the value itself: no allocation and no reference count. Longer
/// content is a slice of a [`SharedBuf`]. At most `u32::MAX` bytes.
#[repr(C, align(8))]
pub struct Bytes {
    // Two forms, told apart by `tag`.
    // Inline: the first 23 bytes are the content followed by zeros, so that two inline values are equal exactly if
    // their 24 bytes are. Content that fits is always inline.
    // Shared: `first` owns a reference to the buffer, `second` is the start of the content, `len` its length.
    first: Word,
    second: Word,
    len: u32,
    padding: [u8; 3],
    tag: Tag,
}

#[derive(Clone, Copy)]
#[repr(C)]
union Word {
    bits: u64,
    owner: *const Header,
    data: *const u8,
}

/// The length of inline content, or that the content is shared. An enum and not a byte so that `Option<Bytes>` needs
/// no room of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[rustfmt::skip]
#[allow(dead_code, reason = "the lengths are made from numbers")]
enum Tag {
    L0, L1, L2, L3, L4, L5, L6, L7, L8, L9, L10, L11, L12, L13, L14, L15, L16, L17, L18, L19, L20, L21, L22, L23,
    Shared,
}

const SIZE: usize = 24;

const _: () = assert!(size_of::<Bytes>() == SIZE && size_of::<Option<Bytes>>() == SIZE);
const _: () = assert!(size_of::<usize>() == 8, "Weir supports 64-bit platforms");

// SAFETY: inline content is plain data, and a shared buffer is immutable with an atomic count.
unsafe impl Send for Bytes {}
// SAFETY: as above.
unsafe impl Sync for Bytes {}

/// For each length, the bytes of an inline value that belong to its content.
static MASKS: [[u64; 3]; SIZE] = masks();

const fn masks() -> [[u64; 3]; SIZE] {
    let mut table = [[0; 3]; SIZE];
    let mut len = 0;
    while len < SIZE {
        let mut bytes = [[0; 8]; 3];
        let mut at = 0;
        while at < len {
            bytes[at / 8][at % 8] = 0xff;
            at += 1;
        }
        table[len] = [u64::from_ne_bytes(bytes[0]), u64::from_ne_bytes(bytes[1]), u64::from_ne_bytes(bytes[2])];
        len += 1;
    }
    table
}

impl Bytes {
    /// The longest content stored in the value itself.
    pub const INLINE: usize = SIZE - 1;

    /// The empty byte string.
    #[inline]
    pub const fn new() -> Self {
        Bytes { first: Word { bits: 0 }, second: Word { bits: 0 }, len: 0, padding: [0; 3], tag: Tag::L0 }
    }

    /// Copies `bytes`; allocates only if they do not fit inline.
    #[inline]
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        if bytes.len() <= Self::INLINE {
            return Self::inline(bytes);
        }
        let buffer = SharedBuf::copy_from_slice(bytes);
        let data: *const [u8] = &*buffer;
        // SAFETY: `data` is the whole of `buffer`.
        unsafe { Self::from_parts(buffer, data) }
    }

    /// A part of a shared buffer: the buffer stays alive as long as the slice, unless the content fits inline.
    ///
    /// # Panics
    /// If the range is out of bounds or longer than `u32::MAX`.
    #[inline]
    pub fn from_shared(buffer: &SharedBuf, range: impl RangeBounds<usize>) -> Self {
        let Range { start, end } = resolve(range, buffer.len());
        let content = &buffer[start..end];
        if content.len() <= Self::INLINE {
            return Self::inline_from_window(&buffer[start..], content.len());
        }
        // SAFETY: `content` was just taken from the buffer.
        unsafe { Self::slice_unchecked(buffer, content) }
    }

    /// A part of this byte string, sharing its buffer.
    ///
    /// # Panics
    /// If the range is out of bounds.
    #[inline]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let Range { start, end } = resolve(range, self.len());
        self.part(start, end, self.readable())
    }

    /// The content.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        let len = match self.tag {
            Tag::Shared => self.len as usize,
            tag => tag as usize,
        };
        let data = self.start();
        // SAFETY: shared content is alive as long as our reference to its buffer; inline content is the first `tag`
        // bytes of `self`, all of which are initialised.
        unsafe { std::slice::from_raw_parts(data, len) }
    }

    /// Copies the content off a larger shared buffer, so that keeping this value does not keep the buffer.
    pub fn detach(&mut self) {
        if let Some(owner) = self.owner()
            && owner.len() != self.len()
        {
            *self = Bytes::copy_from_slice(self);
        }
    }

    /// Whether the content is a slice of a shared buffer.
    #[inline]
    pub fn is_shared(&self) -> bool {
        self.tag == Tag::Shared
    }

    /// The content from `start` to `end` (in bounds) as a value of its own; `readable` is [`readable`](Self::readable).
    #[inline]
    pub(super) fn part(&self, start: usize, end: usize, readable: usize) -> Self {
        let len = end - start;
        if len > Self::INLINE {
            let content = &self.as_slice()[start..end];
            // Content longer than INLINE comes from a value longer than INLINE, which is shared.
            let owner = self.owner().expect("long content is shared");
            // SAFETY: `content` is part of our content, which is part of the buffer.
            return unsafe { Self::slice_unchecked(&owner, content) };
        }
        if start + SIZE <= readable {
            // SAFETY: `readable` bytes can be read from the start of the content, and `len` ≤ INLINE.
            return unsafe { Self::inline_unchecked(self.start().add(start), len) };
        }
        Self::inline(&self.as_slice()[start..end])
    }

    /// Where the content begins.
    #[inline]
    pub(super) fn start(&self) -> *const u8 {
        match self.tag {
            // SAFETY: a shared value's second word is a pointer.
            Tag::Shared => unsafe { self.second.data },
            _ => (&raw const *self).cast(),
        }
    }

    /// How many bytes can be read from the start of the content on: it may be in the middle of a buffer.
    #[inline]
    pub(super) fn readable(&self) -> usize {
        match self.owner() {
            // SAFETY: shared content points into its buffer.
            Some(owner) => unsafe { owner.as_ptr_range().end.offset_from_unsigned(self.second.data) },
            // The whole value is initialised.
            None => SIZE,
        }
    }

    /// The first `len` bytes of `window`, which fit inline and in the window. Reads up to 24 bytes of it at once.
    #[inline]
    pub(super) fn inline_from_window(window: &[u8], len: usize) -> Self {
        if window.len() >= SIZE {
            // SAFETY: 24 bytes are readable; the index below panics for a `len` that is too long.
            unsafe { Self::inline_unchecked(window.as_ptr(), len) }
        } else {
            Self::inline(&window[..len])
        }
    }

    /// The content of a shared buffer at `content`, longer than INLINE.
    ///
    /// # Safety
    /// `content` lies inside `buffer`.
    #[inline]
    pub(super) unsafe fn slice_unchecked(buffer: &SharedBuf, content: *const [u8]) -> Self {
        // SAFETY: passed on.
        unsafe { Self::from_parts(buffer.clone(), content) }
    }

    /// # Safety
    /// `content` lies inside `buffer`.
    #[inline]
    unsafe fn from_parts(buffer: SharedBuf, content: *const [u8]) -> Self {
        debug_assert!(content.len() > Self::INLINE);
        // The buffer's own pointer and not the slice's, because `readable` goes beyond the slice.
        let start = buffer.as_ptr();
        let data = start.wrapping_add(content.cast::<u8>().addr() - start.addr());
        let len = u32::try_from(content.len()).expect("a byte string has at most u32::MAX bytes");
        Bytes {
            first: Word { owner: buffer.into_raw() },
            second: Word { data },
            len,
            padding: [0; 3],
            tag: Tag::Shared,
        }
    }

    #[inline]
    fn inline(bytes: &[u8]) -> Self {
        let mut window = [0; SIZE];
        window[..bytes.len()].copy_from_slice(bytes);
        // SAFETY: the window is 24 bytes long.
        unsafe { Self::inline_unchecked(window.as_ptr(), bytes.len()) }
    }

    /// # Safety
    /// 24 bytes are readable from `window`.
    ///
    /// # Panics
    /// If `len` is greater than INLINE.
    #[inline]
    unsafe fn inline_unchecked(window: *const u8, len: usize) -> Self {
        let mask = &MASKS[len];
        let window = window.cast::<u64>();
        // SAFETY: three words are readable, at any alignment.
        let words = unsafe {
            [
                window.read_unaligned() & mask[0],
                window.add(1).read_unaligned() & mask[1],
                (window.add(2).read_unaligned() & mask[2]) | u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, len as u8]),
            ]
        };
        // SAFETY: both are 24 bytes; the words hold zero-padded content and, in the last byte, a tag below `Shared`.
        unsafe { std::mem::transmute::<[u64; 3], Bytes>(words) }
    }

    /// The buffer this value is a slice of. The reference is ours: it must not be dropped.
    #[inline]
    fn owner(&self) -> Option<ManuallyDrop<SharedBuf>> {
        match self.tag {
            // SAFETY: a shared value's first word came from `into_raw`; `ManuallyDrop` leaves the reference with us.
            Tag::Shared => Some(ManuallyDrop::new(unsafe { SharedBuf::from_raw(self.first.owner) })),
            _ => None,
        }
    }

    /// The three words of an inline value.
    #[inline]
    fn words(&self) -> [u64; 3] {
        debug_assert!(!self.is_shared());
        // SAFETY: both are 24 bytes, aligned to 8, and every byte is initialised.
        unsafe { (&raw const *self).cast::<[u64; 3]>().read() }
    }
}

pub(super) fn resolve(range: impl RangeBounds<usize>, len: usize) -> Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last + 1,
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    assert!(start <= end && end <= len, "range {start}..{end} is out of bounds of {len} bytes");
    start..end
}

impl Clone for Bytes {
    #[inline]
    fn clone(&self) -> Self {
        if let Some(owner) = self.owner() {
            // The new value below owns this reference.
            std::mem::forget(SharedBuf::clone(&owner));
        }
        Bytes { first: self.first, second: self.second, len: self.len, padding: self.padding, tag: self.tag }
    }
}

impl Drop for Bytes {
    #[inline]
    fn drop(&mut self) {
        if let Some(owner) = self.owner() {
            drop(ManuallyDrop::into_inner(owner));
        }
    }
}

impl Default for Bytes {
    fn default() -> Self {
        Bytes::new()
    }
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Bytes {
    #[inline]
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Bytes {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        if self.tag != other.tag {
            return false;
        }
        if !self.is_shared() {
            let ([a, b, c], [x, y, z]) = (self.words(), other.words());
            return (a ^ x) | (b ^ y) | (c ^ z) == 0;
        }
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bytes {}

impl PartialEq<[u8]> for Bytes {
    #[inline]
    fn eq(&self, other: &[u8]) -> bool {
        self.as_slice() == other
    }
}

impl PartialEq<&[u8]> for Bytes {
    #[inline]
    fn eq(&self, other: &&[u8]) -> bool {
        self.as_slice() == *other
    }
}

impl PartialOrd for Bytes {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bytes {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

/// The same as the slice's, so that a map keyed by `Bytes` can be asked with a `&[u8]`.
impl Hash for Bytes {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= Bytes::INLINE { Bytes::inline(&bytes) } else { SharedBuf::from(bytes).into() }
    }
}

impl From<SharedBuf> for Bytes {
    fn from(buffer: SharedBuf) -> Self {
        if buffer.len() <= Bytes::INLINE {
            return Bytes::inline(&buffer);
        }
        let content: *const [u8] = &*buffer;
        // SAFETY: `content` is the whole of `buffer`.
        unsafe { Bytes::from_parts(buffer, content) }
    }
}

impl Record for Bytes {
    type View<'a> = &'a [u8];
    const FIXED_LEN: Option<usize> = None;

    #[inline]
    fn encoded_len(&self) -> usize {
        4 + self.len()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        layout::put_len(self.len(), out);
        out.extend_from_slice(self);
    }

    #[inline]
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.bytes()
    }

    #[inline]
    fn view<'a>(input: &mut Decoder<'a>) -> Result<&'a [u8], DecodeError> {
        input.byte_string()
    }

    #[inline]
    fn key_hash(&self) -> u64 {
        layout::hash_bytes(self)
    }

    fn schema(_builder: &mut SchemaBuilder) -> Schema {
        Schema::Bytes
    }

    fn detach(&mut self) {
        Bytes::detach(self);
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(bytes.into())
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(bytes.into())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                Ok(text.as_bytes().into())
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut elements: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = elements.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes.into())
            }
        }

        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn every_length() -> impl Iterator<Item = Vec<u8>> {
        (0..100u8).map(|len| (0..len).map(|at| at.wrapping_mul(37) ^ len).collect())
    }

    #[test]
    fn every_length_keeps_its_content_however_it_was_made() {
        let noise = SharedBuf::from(vec![0xaa; 200]);
        for content in every_length() {
            let mut padded = b"some bytes before ".to_vec();
            let start = padded.len();
            padded.extend_from_slice(&content);
            let end = padded.len();
            padded.extend_from_slice(&noise);
            let exact = SharedBuf::from(content.clone());
            let inside = SharedBuf::from(padded);
            let made = [
                Bytes::from(content.clone()),
                Bytes::from(&content[..]),
                Bytes::from(exact.clone()),
                Bytes::from_shared(&exact, ..),
                Bytes::from_shared(&inside, start..end),
                Bytes::from(inside.clone()).slice(start..end),
                Bytes::from_shared(&inside, start..end).slice(..),
            ];
            for bytes in &made {
                assert_eq!(bytes.as_slice(), content);
                assert_eq!(bytes, &made[0]);
                assert_eq!(bytes.clone(), made[0]);
                assert_eq!(bytes.is_shared(), content.len() > Bytes::INLINE);
            }
        }
    }

    #[test]
    fn different_content_is_unequal() {
        let all: Vec<Bytes> = every_length().map(Bytes::from).collect();
        for (at, one) in all.iter().enumerate() {
            for (other_at, other) in all.iter().enumerate() {
                assert_eq!(one == other, at == other_at);
                assert_eq!(one.cmp(other), one.as_slice().cmp(other.as_slice()));
            }
        }
        assert_ne!(Bytes::from(&b"a"[..]), Bytes::from(&b"a\0"[..]));
    }

    #[test]
    fn slices_of_slices_stay_in_bounds() {
        let text = Bytes::from((0..=255u8).collect::<Vec<_>>());
        for start in 0..=256 {
            for end in start..=256 {
                let part = text.slice(start..end);
                assert_eq!(part.as_slice(), &text[start..end]);
                let half = part.len() / 2;
                assert_eq!(part.slice(half..).as_slice(), &text[start + half..end]);
            }
        }
    }

    #[test]
    fn detaching_frees_the_buffer() {
        let buffer = SharedBuf::from(vec![1; 1000]);
        let mut part = Bytes::from_shared(&buffer, 100..200);
        part.detach();
        assert_eq!(part.as_slice(), [1; 100]);
        assert!(buffer.try_into_vec().is_ok());
    }

    #[test]
    fn a_map_is_asked_with_a_slice() {
        let map: HashMap<Bytes, usize> =
            every_length().map(|content| (content.clone().into(), content.len())).collect();
        for content in every_length() {
            assert_eq!(map.get(&content[..]), Some(&content.len()));
        }
    }
}
