//! Numbers, `bool`, `char` and `()`: the types whose values all have the same length.

use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout};
use std::marker::PhantomData;

macro_rules! numbers {
    ($($number:ty: $kind:ident)*) => {$(
        impl Record for $number {
            type View<'a> = $number;
            const FIXED_LEN: Option<usize> = Some(size_of::<$number>());
            const PLAIN: bool = true;

            #[inline]
            fn encoded_len(&self) -> usize {
                size_of::<$number>()
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn encode_fixed(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                Ok(<$number>::from_le_bytes(input.array()?))
            }

            #[inline]
            fn view<'a>(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
                Self::decode(input)
            }

            #[inline]
            fn key_hash(&self) -> u64 {
                layout::hash_bytes(&self.to_le_bytes())
            }

            fn schema(_builder: &mut SchemaBuilder) -> Schema {
                Schema::$kind(8 * size_of::<$number>() as u16)
            }
        }
    )*};
}

numbers! {
    u8: Unsigned u16: Unsigned u32: Unsigned u64: Unsigned u128: Unsigned
    i8: Signed i16: Signed i32: Signed i64: Signed i128: Signed
    f32: Float f64: Float
}

/// A type that travels as another one.
macro_rules! travels_as {
    ($type:ty as $wire:ty, $plain:literal, $to:expr, $from:expr, $expected:literal, $schema:expr) => {
        impl Record for $type {
            type View<'a> = $type;
            const FIXED_LEN: Option<usize> = <$wire>::FIXED_LEN;
            const PLAIN: bool = $plain;

            #[inline]
            fn encoded_len(&self) -> usize {
                size_of::<$wire>()
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                let wire: $wire = $to(*self);
                wire.encode(out);
            }

            #[inline]
            fn encode_fixed(&self, out: &mut [u8]) {
                let wire: $wire = $to(*self);
                wire.encode_fixed(out);
            }

            #[inline]
            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                let at = input.offset();
                let wire = <$wire>::decode(input)?;
                $from(wire).ok_or_else(|| DecodeError::new(at, $expected, format!("{wire}")))
            }

            #[inline]
            fn view<'a>(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
                Self::decode(input)
            }

            #[inline]
            fn key_hash(&self) -> u64 {
                let wire: $wire = $to(*self);
                wire.key_hash()
            }

            fn schema(_builder: &mut SchemaBuilder) -> Schema {
                $schema
            }
        }
    };
}

travels_as!(
    usize as u64,
    true,
    |value| value as u64,
    |wire| usize::try_from(wire).ok(),
    "a usize",
    Schema::Unsigned(64)
);
travels_as!(
    isize as i64,
    true,
    |value| value as i64,
    |wire| isize::try_from(wire).ok(),
    "an isize",
    Schema::Signed(64)
);
travels_as!(bool as u8, false, u8::from, |wire| (wire < 2).then_some(wire == 1), "a bool, 0 or 1", Schema::Bool);
travels_as!(char as u32, false, u32::from, char::from_u32, "a Unicode scalar value", Schema::Char);

macro_rules! nothing {
    ($([$($parameter:ident)?] $type:ty, $value:expr);*) => {$(
        /// Encodes to nothing.
        impl $(<$parameter: Send + 'static>)? Record for $type {
            type View<'a> = $type;
            const FIXED_LEN: Option<usize> = Some(0);
            const PLAIN: bool = true;

            #[inline]
            fn encoded_len(&self) -> usize {
                0
            }

            #[inline]
            fn encode(&self, _out: &mut Vec<u8>) {}

            #[inline]
            fn encode_fixed(&self, _out: &mut [u8]) {}

            #[inline]
            fn decode(_input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                Ok($value)
            }

            #[inline]
            fn view<'a>(_input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
                Ok($value)
            }

            fn schema(_builder: &mut SchemaBuilder) -> Schema {
                Schema::Unit
            }
        }
    )*};
}

nothing!([] (), (); [T] PhantomData<T>, PhantomData);
