//! Records: what travels between tasks, and the fixed little-endian layout it has on the wire and in state.

mod decoder;

pub use decoder::{DecodeError, Decoder};

/// A value that can travel between tasks and be kept in state. Derived with `#[derive(Record)]`.
pub trait Record: Sized + Send + 'static {
    /// The borrowed form: the same fields without copies, valid while the encoded bytes are.
    type View<'a>;

    /// Encoded length when every value of the type has the same one, in bytes.
    const FIXED_LEN: Option<usize>;

    /// Exact number of bytes [`encode`](Self::encode) appends.
    fn encoded_len(&self) -> usize;

    /// Appends the value's bytes.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads one value, advancing `input`. Text and byte fields may become cheap slices of the decoder's shared buffer.
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError>;

    /// Reads one value as a borrowed view, advancing `input`.
    fn view<'a>(input: &mut Decoder<'a>) -> Result<Self::View<'a>, DecodeError>;

    /// The hash that decides the key group when the value is a key: XXH3-64 (seed 0) of the encoded bytes,
    /// or of the bare content for strings and byte strings (so `String`, `Text` and `&str` agree).
    fn key_hash(&self) -> u64;

    /// Lets go of buffers shared with other records, so that keeping the value does not keep a whole input buffer alive.
    fn detach(&mut self) {}
}
