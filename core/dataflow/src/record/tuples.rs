//! Tuples: the fields one after the other, as in a struct.

use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout};

macro_rules! tuples {
    ($(($($field:ident $at:tt),+))*) => {$(
        impl<$($field: Record),+> Record for ($($field,)+) {
            type View<'a> = ($($field::View<'a>,)+);
            const FIXED_LEN: Option<usize> = layout::sum(&[$($field::FIXED_LEN),+]);
            const PLAIN: bool = $($field::PLAIN)&&+;

            #[inline]
            fn encoded_len(&self) -> usize {
                0 $(+ self.$at.encoded_len())+
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                if Self::FIXED_LEN.is_some() {
                    return layout::append_fixed(self, out);
                }
                $(self.$at.encode(out);)+
            }

            #[inline]
            fn encode_fixed(&self, out: &mut [u8]) {
                let rest = out;
                $(let rest = layout::put_fixed(&self.$at, rest);)+
                debug_assert!(rest.is_empty());
            }

            #[inline]
            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                Ok(($($field::decode(input)?,)+))
            }

            #[inline]
            fn view<'a>(input: &mut Decoder<'a>) -> Result<Self::View<'a>, DecodeError> {
                Ok(($($field::view(input)?,)+))
            }

            fn schema(builder: &mut SchemaBuilder) -> Schema {
                Schema::Tuple(vec![$($field::schema(builder)),+])
            }

            fn detach(&mut self) {
                $(self.$at.detach();)+
            }
        }
    )*};
}

tuples! {
    (A 0)
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6)
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7)
}
