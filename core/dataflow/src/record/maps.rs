//! Maps: encoded as a vector of `(key, value)` pairs, in whatever order the map has.

use super::sequences::{count, detached, room};
use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder, SeqView, layout};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};
use std::mem::needs_drop;

macro_rules! maps {
    ($([$($hasher:ident)?] $map:ty, ($($bound:tt)+), $new:expr);* $(;)?) => {$(
        impl<K: Record + $($bound)+, V: Record $(, $hasher: BuildHasher + Default + Send + 'static)?> Record for $map {
            type View<'a> = SeqView<'a, (K, V)>;
            const FIXED_LEN: Option<usize> = None;

            fn encoded_len(&self) -> usize {
                match (K::FIXED_LEN, V::FIXED_LEN) {
                    (Some(key), Some(value)) => 4 + self.len() * (key + value),
                    _ => self.iter().fold(4, |sum, (key, value)| sum + key.encoded_len() + value.encoded_len()),
                }
            }

            fn encode(&self, out: &mut Vec<u8>) {
                layout::put_len(self.len(), out);
                for (key, value) in self {
                    key.encode(out);
                    value.encode(out);
                }
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                let count = count::<(K, V)>(input)?;
                let mut map: $map = $new(room::<(K, V)>(input, count));
                input.nested(|input| {
                    for _ in 0..count {
                        let key = K::decode(input)?;
                        map.insert(key, V::decode(input)?);
                    }
                    Ok(map)
                })
            }

            fn view<'a>(input: &mut Decoder<'a>) -> Result<SeqView<'a, (K, V)>, DecodeError> {
                Vec::<(K, V)>::view(input)
            }

            fn schema(builder: &mut SchemaBuilder) -> Schema {
                Schema::Map(Box::new(K::schema(builder)), Box::new(V::schema(builder)))
            }

            fn detach(&mut self) {
                // Keys cannot be changed in place; those that own nothing have nothing to let go of.
                if needs_drop::<K>() {
                    *self = std::mem::take(self)
                        .into_iter()
                        .map(|(key, value)| (detached(key), detached(value)))
                        .collect();
                } else {
                    self.values_mut().for_each(V::detach);
                }
            }
        }
    )*};
}

maps! {
    [] BTreeMap<K, V>, (Ord), |_| BTreeMap::new();
    [S] HashMap<K, V, S>, (Eq + Hash), |room| HashMap::with_capacity_and_hasher(room, S::default());
    [S] hashbrown::HashMap<K, V, S>, (Eq + Hash), |room| hashbrown::HashMap::with_capacity_and_hasher(room, S::default());
}
