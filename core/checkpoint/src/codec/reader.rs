//! Reads values from bytes that may be anything.

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("ends in the middle of {what} at byte {at}")]
    Truncated {
        /// What was being read.
        what: &'static str,
        /// Position of its beginning.
        at: usize,
    },
    /// A value that cannot be.
    #[error("has an impossible {what} at byte {at}")]
    Invalid {
        /// What was being read.
        what: &'static str,
        /// Position of its beginning.
        at: usize,
    },
    /// More follows than there should be.
    #[error("has {count} bytes too many at byte {at}")]
    Trailing {
        /// Position of the first.
        at: usize,
        /// How many.
        count: usize,
    },
}

/// Bytes being read.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

type Result<T> = std::result::Result<T, DecodeError>;

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { all: bytes, at: 0 }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.all.len() - self.at
    }

    /// What is wrong with the value just read, which began `length` bytes before.
    pub(crate) fn invalid(&self, what: &'static str, length: usize) -> DecodeError {
        DecodeError::Invalid { what, at: self.at.saturating_sub(length) }
    }

    pub(crate) fn raw(&mut self, length: usize, what: &'static str) -> Result<&'a [u8]> {
        let Some(bytes) = self.at.checked_add(length).and_then(|end| self.all.get(self.at..end)) else {
            return Err(DecodeError::Truncated { what, at: self.at });
        };
        self.at += length;
        Ok(bytes)
    }

    pub(crate) fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let at = self.at;
        self.raw(N, what)?.try_into().map_err(|_| DecodeError::Truncated { what, at })
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.fixed::<1>(what)?[0])
    }

    pub(crate) fn number(&mut self, what: &'static str) -> Result<u64> {
        let begin = self.at;
        let mut number = 0u64;
        for shift in (0..).step_by(7) {
            let byte = self.byte(what)?;
            let bits = u64::from(byte & 0x7f);
            // One way to write each number: nothing shifted out, no zeros on top.
            if shift > 63 || (bits << shift) >> shift != bits || (byte == 0 && shift > 0) {
                return Err(DecodeError::Invalid { what, at: begin });
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        Ok(number)
    }

    pub(crate) fn small(&mut self, what: &'static str) -> Result<u32> {
        let at = self.at;
        u32::try_from(self.number(what)?).map_err(|_| DecodeError::Invalid { what, at })
    }

    /// A number of items of which each takes a byte at least.
    pub(crate) fn count(&mut self, what: &'static str) -> Result<usize> {
        let at = self.at;
        let count = self.number(what)?;
        // So nothing is reserved for items that cannot be there.
        usize::try_from(count).ok().filter(|&count| count <= self.remaining()).ok_or(DecodeError::Invalid { what, at })
    }

    pub(crate) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8]> {
        let length = self.count(what)?;
        self.raw(length, what)
    }

    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a str> {
        let at = self.at;
        std::str::from_utf8(self.bytes(what)?).map_err(|_| DecodeError::Invalid { what, at })
    }

    pub(crate) fn flag(&mut self, what: &'static str) -> Result<bool> {
        match self.byte(what)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.invalid(what, 1)),
        }
    }

    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let count = self.count(what)?;
        (0..count).map(|_| read(self)).collect()
    }

    pub(crate) fn optional<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.flag(what)? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn end(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            count => Err(DecodeError::Trailing { at: self.at, count }),
        }
    }
}
