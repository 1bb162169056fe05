//! `Option`, `Result` and the pointers.

use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder, SchemaVariant, layout};
use std::sync::Arc;

/// A tag byte, 0 for `None` and 1 for `Some`, and then the value if there is one.
impl<T: Record> Record for Option<T> {
    type View<'a> = Option<T::View<'a>>;
    const FIXED_LEN: Option<usize> = None;

    #[inline]
    fn encoded_len(&self) -> usize {
        1 + self.as_ref().map_or(0, T::encoded_len)
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(out);
        }
    }

    #[inline]
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match input.tag(2, "Option")? {
            0 => None,
            _ => Some(T::decode(input)?),
        })
    }

    #[inline]
    fn view<'a>(input: &mut Decoder<'a>) -> Result<Option<T::View<'a>>, DecodeError> {
        Ok(match input.tag(2, "Option")? {
            0 => None,
            _ => Some(T::view(input)?),
        })
    }

    fn schema(builder: &mut SchemaBuilder) -> Schema {
        Schema::Optional(Box::new(T::schema(builder)))
    }

    fn detach(&mut self) {
        if let Some(value) = self {
            value.detach();
        }
    }
}

/// A tag byte, 0 for `Ok` and 1 for `Err`, and then the content.
impl<T: Record, E: Record> Record for Result<T, E> {
    type View<'a> = Result<T::View<'a>, E::View<'a>>;
    const FIXED_LEN: Option<usize> = None;

    fn encoded_len(&self) -> usize {
        1 + match self {
            Ok(value) => value.encoded_len(),
            Err(error) => error.encoded_len(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_err()));
        match self {
            Ok(value) => value.encode(out),
            Err(error) => error.encode(out),
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match input.tag(2, "Result")? {
            0 => Ok(T::decode(input)?),
            _ => Err(E::decode(input)?),
        })
    }

    fn view<'a>(input: &mut Decoder<'a>) -> Result<Self::View<'a>, DecodeError> {
        Ok(match input.tag(2, "Result")? {
            0 => Ok(T::view(input)?),
            _ => Err(E::view(input)?),
        })
    }

    fn schema(builder: &mut SchemaBuilder) -> Schema {
        builder.enumeration::<Self>("Result", |builder| {
            let content = [layout::field::<T>(builder, "0", &[], None), layout::field::<E>(builder, "0", &[], None)];
            let variants = ["Ok", "Err"].into_iter().zip(content).map(|(name, field)| SchemaVariant {
                name: name.to_owned(),
                former_names: Vec::new(),
                fields: vec![field],
            });
            variants.collect()
        })
    }

    fn detach(&mut self) {
        match self {
            Ok(value) => value.detach(),
            Err(error) => error.detach(),
        }
    }
}

/// As the value in it. The length does not count as fixed: a type may contain a box of itself, and its length could
/// then not be computed.
impl<T: Record> Record for Box<T> {
    type View<'a> = Box<T::View<'a>>;
    const FIXED_LEN: Option<usize> = None;

    #[inline]
    fn encoded_len(&self) -> usize {
        (**self).encoded_len()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.nested(T::decode).map(Box::new)
    }

    fn view<'a>(input: &mut Decoder<'a>) -> Result<Box<T::View<'a>>, DecodeError> {
        input.nested(T::view).map(Box::new)
    }

    #[inline]
    fn key_hash(&self) -> u64 {
        (**self).key_hash()
    }

    fn schema(builder: &mut SchemaBuilder) -> Schema {
        T::schema(builder)
    }

    fn detach(&mut self) {
        (**self).detach();
    }
}

/// As the value in it; what was shared between records is a copy for each of them after the exchange.
impl<T: Record + Sync> Record for Arc<T> {
    type View<'a> = Box<T::View<'a>>;
    const FIXED_LEN: Option<usize> = None;

    fn encoded_len(&self) -> usize {
        (**self).encoded_len()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        (**self).encode(out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.nested(T::decode).map(Arc::new)
    }

    fn view<'a>(input: &mut Decoder<'a>) -> Result<Box<T::View<'a>>, DecodeError> {
        input.nested(T::view).map(Box::new)
    }

    fn key_hash(&self) -> u64 {
        (**self).key_hash()
    }

    fn schema(builder: &mut SchemaBuilder) -> Schema {
        T::schema(builder)
    }

    /// Does what it can: a value that others hold as well is left as it is.
    fn detach(&mut self) {
        if let Some(value) = Arc::get_mut(self) {
            value.detach();
        }
    }
}
