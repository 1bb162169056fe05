//! The fallback for types that only know serde.

use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder};
use postcard::ser_flavors::{Flavor, Size};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Makes a record of any type that serde can serialise, in the [postcard](https://postcard.jamesmunns.com) format.
///
/// For types of other crates, which cannot derive [`Record`]. It is two to three times slower than a derived record, has
/// no borrowed fields, and its length must be computed by serialising once more. Types that need a self-describing
/// format (`#[serde(untagged)]`, `#[serde(flatten)]`) do not work. As a key it needs a serialisation that is the same
/// for equal values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serde<T>(
    /// The value.
    pub T,
);

impl<T> Deref for Serde<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Serde<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Serde<T> {
    fn from(value: T) -> Self {
        Serde(value)
    }
}

/// The borrowed form of [`Serde`]: its bytes, not yet deserialised.
pub struct SerdeView<'a, T> {
    bytes: &'a [u8],
    offset: usize,
    value: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> SerdeView<'_, T> {
    /// Deserialises the value.
    pub fn get(&self) -> Result<T, DecodeError> {
        let malformed = |found: String| DecodeError::new(self.offset, format!("a {}", type_name::<T>()), found);
        match postcard::take_from_bytes(self.bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(malformed(format!("{} bytes more", rest.len()))),
            Err(error) => Err(malformed(format!("bytes that postcard refuses: {error}"))),
        }
    }
}

impl<T> Clone for SerdeView<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SerdeView<'_, T> {}

impl<T> PartialEq for SerdeView<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> fmt::Debug for SerdeView<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerdeView<{}>({} bytes)", type_name::<T>(), self.bytes.len())
    }
}

impl<T: Serialize + DeserializeOwned + Send + 'static> Record for Serde<T> {
    type View<'a> = SerdeView<'a, T>;
    const FIXED_LEN: Option<usize> = None;

    fn encoded_len(&self) -> usize {
        4 + serialized(postcard::serialize_with_flavor::<T, _, _>(&self.0, Size::default()))
    }

    /// # Panics
    /// If the type's own `Serialize` fails, or postcard cannot represent it.
    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        serialized(postcard::serialize_with_flavor::<T, _, _>(&self.0, Append(out)));
        let len = u32::try_from(out.len() - start - 4).expect("a value inside a record has at most u32::MAX bytes");
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Self::view(input)?.get().map(Serde)
    }

    fn view<'a>(input: &mut Decoder<'a>) -> Result<SerdeView<'a, T>, DecodeError> {
        let bytes = input.byte_string()?;
        Ok(SerdeView { bytes, offset: input.offset() - bytes.len(), value: PhantomData })
    }

    fn schema(_builder: &mut SchemaBuilder) -> Schema {
        Schema::Framed(type_name::<T>().to_owned())
    }
}

fn serialized<T>(result: postcard::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a value of a record's serde type cannot be serialised: {error}"),
    }
}

struct Append<'o>(&'o mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
