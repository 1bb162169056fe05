//! Strings, vectors, arrays and sets, and the view that decodes elements one by one.

use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::mem::{MaybeUninit, needs_drop};

/// A collection's borrowed form: its elements stay encoded and are decoded as views when asked for.
pub struct SeqView<'a, T> {
    /// Checked to hold `len` valid elements and nothing else when the view was made.
    elements: &'a [u8],
    len: usize,
    element: PhantomData<fn() -> T>,
}

impl<'a, T: Record> SeqView<'a, T> {
    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements as views, in order.
    #[inline]
    pub fn iter(&self) -> SeqIter<'a, T> {
        SeqIter { input: Decoder::new(self.elements), left: self.len, element: PhantomData }
    }

    /// The element at `index`; found at once if elements have a fixed length, by counting otherwise.
    #[inline]
    pub fn get(&self, index: usize) -> Option<T::View<'a>> {
        match T::FIXED_LEN {
            _ if index >= self.len => None,
            Some(size) => Some(valid(T::view(&mut Decoder::new(&self.elements[index * size..])))),
            None => self.iter().nth(index),
        }
    }

    /// The encoded elements, without their count. For elements of one byte these are the elements themselves.
    #[inline]
    pub fn encoded(&self) -> &'a [u8] {
        self.elements
    }

    /// The elements, decoded.
    pub fn to_vec(&self) -> Vec<T> {
        let mut elements = Vec::with_capacity(self.len);
        valid(T::decode_batch(&mut Decoder::new(self.elements), self.len, &mut elements));
        elements
    }

    fn read(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let len = count::<T>(input)?;
        let before = input.rest();
        input.nested(|input| match T::FIXED_LEN {
            Some(size) if T::PLAIN => input.take(size * len).map(drop),
            // Elements that are nothing are valid.
            Some(0) => Ok(()),
            _ => (0..len).try_for_each(|_| T::view(input).map(drop)),
        })?;
        let elements = &before[..before.len() - input.remaining()];
        Ok(SeqView { elements, len, element: PhantomData })
    }
}

/// What was decoded once when the view was made decodes again.
#[inline]
fn valid<T>(result: Result<T, DecodeError>) -> T {
    result.expect("elements were checked when the view was made")
}

impl<T> Clone for SeqView<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SeqView<'_, T> {}

impl<T: Record> fmt::Debug for SeqView<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Record> PartialEq for SeqView<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<'a, T: Record> IntoIterator for SeqView<'a, T> {
    type Item = T::View<'a>;
    type IntoIter = SeqIter<'a, T>;

    fn into_iter(self) -> SeqIter<'a, T> {
        self.iter()
    }
}

/// The elements of a [`SeqView`].
pub struct SeqIter<'a, T> {
    input: Decoder<'a>,
    left: usize,
    element: PhantomData<fn() -> T>,
}

impl<'a, T: Record> Iterator for SeqIter<'a, T> {
    type Item = T::View<'a>;

    #[inline]
    fn next(&mut self) -> Option<T::View<'a>> {
        self.left = self.left.checked_sub(1)?;
        Some(valid(T::view(&mut self.input)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Record> ExactSizeIterator for SeqIter<'_, T> {}

/// How many elements that encode to nothing, such as `()`, a collection may have: no input bytes bear witness to their
/// count, and a damaged one must not cost billions of turns.
const MAX_OF_NOTHING: usize = 1 << 16;

/// Reads a count of elements and refuses one that the remaining bytes cannot hold.
#[inline]
pub(super) fn count<T: Record>(input: &mut Decoder<'_>) -> Result<usize, DecodeError> {
    let count = input.length()?;
    let possible = match T::FIXED_LEN {
        Some(0) => count <= MAX_OF_NOTHING,
        Some(size) => count.checked_mul(size).is_some_and(|bytes| bytes <= input.remaining()),
        // An element may still be nothing: a box of nothing has no fixed length.
        None => count <= input.remaining().max(MAX_OF_NOTHING),
    };
    if possible {
        return Ok(count);
    }
    let least = T::FIXED_LEN.unwrap_or(1);
    Err(input.malformed(
        format!("{count} elements of at least {least} bytes"),
        format!("{} bytes before the end of the input", input.remaining()),
    ))
}

/// Room to make for `count` elements about to be decoded: no more memory than the input is large, so that a bogus count
/// cannot ask for much. Honest input of small encodings grows beyond it as it arrives.
#[inline]
pub(super) fn room<T>(input: &Decoder<'_>, count: usize) -> usize {
    count.min(input.remaining() / size_of::<T>().max(1) + 4)
}

pub(super) fn decode_batch<T: Record>(
    input: &mut Decoder<'_>,
    count: usize,
    out: &mut Vec<T>,
) -> Result<(), DecodeError> {
    let Some(size) = T::FIXED_LEN.filter(|size| *size > 0) else {
        out.reserve(room::<T>(input, count));
        for _ in 0..count {
            out.push(T::decode(input)?);
        }
        return Ok(());
    };
    // The length of each chunk is a constant once this is compiled for a type, so that decoding it checks nothing.
    let base = input.offset();
    let bytes = input.take(size.saturating_mul(count))?;
    out.reserve(count);
    let decoded = bytes
        .chunks_exact(size)
        .enumerate()
        .map(|(at, chunk)| T::decode(&mut Decoder::new(chunk)).map_err(|error| error.shifted(base + at * size)));
    for value in decoded {
        out.push(value?);
    }
    Ok(())
}

#[inline]
pub(super) fn elements_len<'t, T: Record>(elements: impl ExactSizeIterator<Item = &'t T>) -> usize {
    match T::FIXED_LEN {
        Some(size) => 4 + size * elements.len(),
        None => elements.fold(4, |sum, element| sum + element.encoded_len()),
    }
}

/// Strings: a length in bytes, and UTF-8.
macro_rules! strings {
    ($($type:ty),*) => {$(
        impl Record for $type {
            type View<'a> = &'a str;
            const FIXED_LEN: Option<usize> = None;

            #[inline]
            fn encoded_len(&self) -> usize {
                4 + self.len()
            }

            #[inline]
            fn encode(&self, out: &mut Vec<u8>) {
                layout::put_len(self.len(), out);
                out.extend_from_slice(self.as_bytes());
            }

            #[inline]
            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                Ok(input.str()?.into())
            }

            #[inline]
            fn view<'a>(input: &mut Decoder<'a>) -> Result<&'a str, DecodeError> {
                input.str()
            }

            #[inline]
            fn key_hash(&self) -> u64 {
                layout::hash_bytes(self.as_bytes())
            }

            fn schema(_builder: &mut SchemaBuilder) -> Schema {
                Schema::Text
            }
        }
    )*};
}

strings!(String, Box<str>, std::sync::Arc<str>);

impl<T: Record> Record for Vec<T> {
    type View<'a> = SeqView<'a, T>;
    const FIXED_LEN: Option<usize> = None;

    #[inline]
    fn encoded_len(&self) -> usize {
        elements_len(self.iter())
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        layout::put_len(self.len(), out);
        T::encode_batch(self, out);
    }

    #[inline]
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let count = count::<T>(input)?;
        let mut elements = Vec::new();
        input.nested(|input| T::decode_batch(input, count, &mut elements))?;
        Ok(elements)
    }

    #[inline]
    fn view<'a>(input: &mut Decoder<'a>) -> Result<SeqView<'a, T>, DecodeError> {
        SeqView::read(input)
    }

    fn schema(builder: &mut SchemaBuilder) -> Schema {
        Schema::List(Box::new(T::schema(builder)))
    }

    fn detach(&mut self) {
        self.iter_mut().for_each(T::detach);
    }
}

impl<T: Record> Record for VecDeque<T> {
    type View<'a> = SeqView<'a, T>;
    const FIXED_LEN: Option<usize> = None;

    fn encoded_len(&self) -> usize {
        elements_len(self.iter())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        layout::put_len(self.len(), out);
        let (front, back) = self.as_slices();
        T::encode_batch(front, out);
        T::encode_batch(back, out);
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Vec::decode(input).map(Into::into)
    }

    fn view<'a>(input: &mut Decoder<'a>) -> Result<SeqView<'a, T>, DecodeError> {
        SeqView::read(input)
    }

    fn schema(builder: &mut SchemaBuilder) -> Schema {
        Schema::List(Box::new(T::schema(builder)))
    }

    fn detach(&mut self) {
        self.iter_mut().for_each(T::detach);
    }
}

/// Sets: encoded as a vector of their elements, in whatever order the set has.
macro_rules! sets {
    ($([$($hasher:ident)?] $set:ty, ($($bound:tt)+), $new:expr);* $(;)?) => {$(
        impl<T: Record + $($bound)+ $(, $hasher: BuildHasher + Default + Send + 'static)?> Record for $set {
            type View<'a> = SeqView<'a, T>;
            const FIXED_LEN: Option<usize> = None;

            fn encoded_len(&self) -> usize {
                elements_len(self.iter())
            }

            fn encode(&self, out: &mut Vec<u8>) {
                layout::put_len(self.len(), out);
                self.iter().for_each(|element| element.encode(out));
            }

            fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
                let count = count::<T>(input)?;
                let mut set: $set = $new(room::<T>(input, count));
                input.nested(|input| {
                    for _ in 0..count {
                        set.insert(T::decode(input)?);
                    }
                    Ok(set)
                })
            }

            fn view<'a>(input: &mut Decoder<'a>) -> Result<SeqView<'a, T>, DecodeError> {
                SeqView::read(input)
            }

            fn schema(builder: &mut SchemaBuilder) -> Schema {
                Schema::List(Box::new(T::schema(builder)))
            }

            fn detach(&mut self) {
                // Elements cannot be changed in place; those that own nothing have nothing to let go of.
                if needs_drop::<T>() {
                    *self = std::mem::take(self).into_iter().map(detached).collect();
                }
            }
        }
    )*};
}

sets! {
    [] BTreeSet<T>, (Ord), |_| BTreeSet::new();
    [S] HashSet<T, S>, (Eq + Hash), |room| HashSet::with_capacity_and_hasher(room, S::default());
    [S] hashbrown::HashSet<T, S>, (Eq + Hash), |room| hashbrown::HashSet::with_capacity_and_hasher(room, S::default());
}

pub(super) fn detached<T: Record>(mut value: T) -> T {
    value.detach();
    value
}

impl<T: Record, const N: usize> Record for [T; N] {
    type View<'a> = [T::View<'a>; N];
    const FIXED_LEN: Option<usize> = match T::FIXED_LEN {
        Some(size) => Some(size * N),
        None => None,
    };
    const PLAIN: bool = T::PLAIN;

    #[inline]
    fn encoded_len(&self) -> usize {
        self.iter().map(T::encoded_len).sum()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        T::encode_batch(self, out);
    }

    #[inline]
    fn encode_fixed(&self, out: &mut [u8]) {
        self.iter().fold(out, |rest, element| layout::put_fixed(element, rest));
    }

    #[inline]
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        try_array(|| T::decode(input))
    }

    #[inline]
    fn view<'a>(input: &mut Decoder<'a>) -> Result<[T::View<'a>; N], DecodeError> {
        try_array(|| T::view(input))
    }

    fn schema(builder: &mut SchemaBuilder) -> Schema {
        let count = u32::try_from(N).expect("an array inside a record has at most u32::MAX elements");
        Schema::Array(Box::new(T::schema(builder)), count)
    }

    fn detach(&mut self) {
        self.iter_mut().for_each(T::detach);
    }
}

/// An array of what `next` returns, or its first error.
#[inline]
fn try_array<T, const N: usize>(mut next: impl FnMut() -> Result<T, DecodeError>) -> Result<[T; N], DecodeError> {
    /// Drops what was made so far if `next` fails.
    struct Made<T, const N: usize> {
        array: [MaybeUninit<T>; N],
        made: usize,
    }

    impl<T, const N: usize> Drop for Made<T, N> {
        fn drop(&mut self) {
            for slot in &mut self.array[..self.made] {
                // SAFETY: the first `made` elements are initialised and not used again.
                unsafe { slot.assume_init_drop() }
            }
        }
    }

    let mut so_far = Made { array: [const { MaybeUninit::uninit() }; N], made: 0 };
    while so_far.made < N {
        so_far.array[so_far.made].write(next()?);
        so_far.made += 1;
    }
    // The elements are moved out.
    so_far.made = 0;
    // SAFETY: all N elements are initialised, and the guard will not drop them.
    Ok(unsafe { (&raw const so_far.array).cast::<[T; N]>().read() })
}
