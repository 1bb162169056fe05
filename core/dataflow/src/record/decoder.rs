//! The cursor that values are decoded from, and what it says about malformed input.

use super::bytes::Bytes;
use super::shared::SharedBuf;

/// How deep boxes and collections may be nested in encoded input. Deeper input is refused, because decoding recurses
/// and an attacker's (or a flipped bit's) depth must not overflow the stack.
pub const MAX_DEPTH: u32 = 256;

/// Encoded bytes that are not a value of the expected type. The bytes were damaged, or written by a program whose
/// types differ: retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct DecodeError(Box<Malformed>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed record at byte {offset}: expected {expected}, found {found}")]
struct Malformed {
    offset: usize,
    expected: String,
    found: String,
}

impl DecodeError {
    /// An error at `offset`: what the type needs there, and what the bytes hold.
    #[cold]
    pub fn new(offset: usize, expected: impl Into<String>, found: impl Into<String>) -> Self {
        DecodeError(Box::new(Malformed { offset, expected: expected.into(), found: found.into() }))
    }

    /// The same error in input that begins `by` bytes before.
    #[cold]
    pub(super) fn shifted(mut self, by: usize) -> Self {
        self.0.offset += by;
        self
    }

    /// Where the malformed part begins, in bytes from the start of the decoder's input.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// What the type needs at that place.
    pub fn expected(&self) -> &str {
        &self.0.expected
    }

    /// What the bytes hold instead.
    pub fn found(&self) -> &str {
        &self.0.found
    }
}

/// A cursor over encoded bytes, optionally backed by a shared buffer that decoded text and byte strings then slice.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    rest: &'a [u8],
    /// Offset of the end of `rest`, so that the offset of the cursor costs nothing to maintain.
    end: usize,
    shared: Option<&'a SharedBuf>,
    depth: u32,
}

impl<'a> Decoder<'a> {
    /// A cursor at the start of plain bytes. Text and byte strings decoded from it are copied.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Decoder { rest: bytes, end: bytes.len(), shared: None, depth: 0 }
    }

    /// A cursor at the start of a shared buffer. Long text and byte strings decoded from it are slices of the buffer.
    #[inline]
    pub fn shared(buffer: &'a SharedBuf) -> Self {
        Decoder { rest: buffer, end: buffer.len(), shared: Some(buffer), depth: 0 }
    }

    /// A cursor over the next `len` bytes, which this one skips; offsets in errors stay relative to the whole input.
    #[inline]
    pub fn split(&mut self, len: usize) -> Result<Decoder<'a>, DecodeError> {
        let bytes = self.take(len)?;
        Ok(Decoder { rest: bytes, end: self.offset(), shared: self.shared, depth: self.depth })
    }

    /// Bytes consumed so far.
    #[inline]
    pub fn offset(&self) -> usize {
        self.end - self.rest.len()
    }

    /// Bytes not yet consumed.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether every byte has been consumed.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes not yet consumed, without consuming them.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Checks that nothing is left over.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(self.malformed("the end of the input", format!("{} more bytes", self.remaining())))
    }

    /// Consumes `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(self.too_short(len)),
        }
    }

    /// Consumes the bytes of one fixed-size field.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(self.too_short(N)),
        }
    }

    /// Consumes one byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    /// Consumes the u32 that counts the bytes or elements of what follows.
    #[inline]
    pub fn length(&mut self) -> Result<usize, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    /// Consumes a length-prefixed byte string.
    #[inline]
    pub fn byte_string(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.length()?;
        self.take(len)
    }

    /// Consumes a length-prefixed UTF-8 string.
    #[inline]
    pub fn str(&mut self) -> Result<&'a str, DecodeError> {
        let bytes = self.byte_string()?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(error) => Err(self.not_utf8(bytes, error)),
        }
    }

    /// Consumes a length-prefixed byte string as [`Bytes`]: inline when short, a slice of the shared buffer if there
    /// is one, a copy otherwise.
    #[inline]
    pub fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.length()?;
        let window = self.rest;
        let content = self.take(len)?;
        if len <= Bytes::INLINE {
            return Ok(Bytes::inline_from_window(window, len));
        }
        Ok(match self.shared {
            // SAFETY: `content` is part of `rest`, which is part of the shared buffer since the decoder was made.
            Some(buffer) => unsafe { Bytes::slice_unchecked(buffer, content) },
            None => Bytes::copy_from_slice(content),
        })
    }

    /// Consumes the tag byte of an enum-like value that has `variants` variants.
    #[inline]
    pub fn tag(&mut self, variants: u8, of: &'static str) -> Result<u8, DecodeError> {
        let tag = self.byte()?;
        if tag < variants {
            return Ok(tag);
        }
        Err(DecodeError::new(self.offset() - 1, format!("a tag of {of} below {variants}"), format!("{tag}")))
    }

    /// Runs `decode` one nesting level deeper; refuses more than [`MAX_DEPTH`] levels.
    #[inline]
    pub fn nested<T>(&mut self, decode: impl FnOnce(&mut Self) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        if self.depth == MAX_DEPTH {
            return Err(self.malformed(format!("at most {MAX_DEPTH} nested boxes and collections"), "one more"));
        }
        self.depth += 1;
        let result = decode(self);
        self.depth -= 1;
        result
    }

    /// An error about the byte at the cursor.
    #[cold]
    pub fn malformed(&self, expected: impl Into<String>, found: impl Into<String>) -> DecodeError {
        DecodeError::new(self.offset(), expected, found)
    }

    #[cold]
    #[inline(never)]
    fn too_short(&self, len: usize) -> DecodeError {
        self.malformed(format!("{len} bytes"), format!("{} bytes before the end of the input", self.remaining()))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn not_utf8(&self, bytes: &[u8], error: std::str::Utf8Error) -> DecodeError {
        let at = error.valid_up_to();
        let found = bytes.get(at).map_or_else(String::new, |byte| format!("byte 0x{byte:02x}"));
        DecodeError::new(self.offset() - bytes.len() + at, "UTF-8 text", found)
    }
}
