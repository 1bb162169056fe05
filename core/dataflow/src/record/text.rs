//! [`Text`]: a string that is stored inside the value when short and is a slice of a shared buffer otherwise.

use super::bytes::{Bytes, resolve};
use super::shared::SharedBuf;
use super::{DecodeError, Decoder, Record, Schema, SchemaBuilder, layout, scan};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::convert::Infallible;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, RangeBounds};
use std::str::{FromStr, Utf8Error};

/// An immutable UTF-8 string of 24 bytes that is cheap to clone, to slice and to split.
///
/// Up to [`INLINE`](Self::INLINE) bytes are stored in the value itself: a usual word costs neither an allocation nor a
/// reference count. Longer text is a slice of a [`SharedBuf`], such as the buffer a source read it into. It compares and
/// hashes as `str` does.
#[derive(Clone, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Text(Bytes);

impl Text {
    /// The longest text stored in the value itself, in bytes.
    pub const INLINE: usize = Bytes::INLINE;

    /// The empty text.
    #[inline]
    pub const fn new() -> Self {
        Text(Bytes::new())
    }

    /// A part of a shared buffer, which must be UTF-8.
    ///
    /// # Panics
    /// If the range is out of bounds or longer than `u32::MAX`.
    #[inline]
    pub fn from_utf8_shared(buffer: &SharedBuf, range: impl RangeBounds<usize>) -> Result<Self, Utf8Error> {
        Self::from_utf8(Bytes::from_shared(buffer, range))
    }

    /// The text in `bytes`, which must be UTF-8.
    #[inline]
    pub fn from_utf8(bytes: Bytes) -> Result<Self, Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Text(bytes))
    }

    /// The text in `bytes`, with what is not UTF-8 replaced by U+FFFD.
    pub fn from_utf8_lossy(bytes: Bytes) -> Self {
        if let Cow::Owned(replaced) = String::from_utf8_lossy(&bytes) {
            return Text::from(replaced);
        }
        Text(bytes)
    }

    /// The text in `bytes`, unchecked.
    ///
    /// # Safety
    /// `bytes` is UTF-8.
    #[inline]
    pub unsafe fn from_utf8_unchecked(bytes: Bytes) -> Self {
        debug_assert!(std::str::from_utf8(&bytes).is_ok());
        Text(bytes)
    }

    /// The text as a string slice.
    #[inline]
    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor checks, or is given, UTF-8.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// The bytes, sharing the buffer.
    #[inline]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// A part of the text, sharing its buffer.
    ///
    /// # Panics
    /// If the range is out of bounds or not on character boundaries.
    #[inline]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let range = resolve(range, self.len());
        assert!(
            self.is_char_boundary(range.start) && self.is_char_boundary(range.end),
            "range {range:?} is not on character boundaries"
        );
        Text(self.0.slice(range))
    }

    /// The words, as `str::split_whitespace` finds them. The iterator holds its own reference to the text, so that a
    /// `flat_map` can return it.
    #[inline]
    pub fn words(&self) -> Words {
        self.clone().into_words()
    }

    /// The words, as [`words`](Self::words), using the text up.
    #[inline]
    pub fn into_words(self) -> Words {
        Words { readable: self.0.readable(), text: self, at: 0 }
    }

    /// The parts between occurrences of `separator`, as `str::split` finds them.
    #[inline]
    pub fn split(&self, separator: char) -> Split {
        Split { text: self.clone(), readable: self.0.readable(), separator, at: Some(0) }
    }

    /// The lines without their `\n` or `\r\n`, as `str::lines` finds them.
    #[inline]
    pub fn lines(&self) -> Lines {
        Lines { text: self.clone(), readable: self.0.readable(), at: 0 }
    }

    /// The text without white space at its ends.
    #[inline]
    pub fn trim(&self) -> Self {
        let start = self.len() - self.trim_start().len();
        let end = self.trim_end().len();
        // Both ends cross over when there is nothing but white space.
        self.part(start.min(end), end)
    }

    /// The text in lower case.
    pub fn to_lowercase(&self) -> Self {
        self.mapped(|byte| byte.is_ascii_uppercase(), u8::to_ascii_lowercase, str::to_lowercase)
    }

    /// The text in upper case.
    pub fn to_uppercase(&self) -> Self {
        self.mapped(|byte| byte.is_ascii_lowercase(), u8::to_ascii_uppercase, str::to_uppercase)
    }

    /// Copies the content off a larger shared buffer, so that keeping this value does not keep the buffer.
    pub fn detach(&mut self) {
        self.0.detach();
    }

    fn mapped(&self, changes: fn(&u8) -> bool, ascii: fn(&u8) -> u8, other: fn(&str) -> String) -> Self {
        if !self.is_ascii() {
            return other(self).into();
        }
        if !self.as_bytes().iter().any(changes) {
            return self.clone();
        }
        if self.len() > Self::INLINE {
            return Text(self.as_bytes().iter().map(ascii).collect::<Vec<_>>().into());
        }
        let mut bytes = [0; Self::INLINE];
        for (to, from) in bytes.iter_mut().zip(self.as_bytes()) {
            *to = ascii(from);
        }
        Text(Bytes::copy_from_slice(&bytes[..self.len()]))
    }

    /// The text from `start` to `end`, which are character boundaries.
    #[inline]
    fn part(&self, start: usize, end: usize) -> Self {
        Text(self.0.part(start, end, self.0.readable()))
    }
}

/// The words of a [`Text`]; see [`Text::words`].
#[derive(Debug, Clone)]
pub struct Words {
    text: Text,
    readable: usize,
    at: usize,
}

impl Iterator for Words {
    type Item = Text;

    #[inline]
    fn next(&mut self) -> Option<Text> {
        let bytes = &self.text.0;
        // SAFETY: the text is UTF-8, `at` is where the scan said to go on, and `readable` was asked of these bytes:
        // moving them into the iterator can move inline content, but not change how much is readable.
        let word = unsafe { scan::next_word(bytes.start(), bytes.len(), self.at, self.readable)? };
        self.at = word.next;
        Some(Text(bytes.part(word.start, word.end, self.readable)))
    }

    /// The same loop with its state in registers: this is what `for_each` and a fused chain run.
    #[inline]
    fn fold<A, F: FnMut(A, Text) -> A>(self, mut folded: A, mut f: F) -> A {
        let (bytes, readable, mut at) = (&self.text.0, self.readable, self.at);
        let (start, len) = (bytes.start(), bytes.len());
        // SAFETY: as in `next`; the bytes do not move while `self` is held here.
        while let Some(word) = unsafe { scan::next_word(start, len, at, readable) } {
            at = word.next;
            folded = f(folded, Text(bytes.part(word.start, word.end, readable)));
        }
        folded
    }
}

/// The parts of a [`Text`]; see [`Text::split`].
#[derive(Debug, Clone)]
pub struct Split {
    text: Text,
    readable: usize,
    separator: char,
    at: Option<usize>,
}

impl Iterator for Split {
    type Item = Text;

    #[inline]
    fn next(&mut self) -> Option<Text> {
        let start = self.at?;
        let rest = &self.text[start..];
        let end = match rest.find(self.separator) {
            Some(len) => {
                self.at = Some(start + len + self.separator.len_utf8());
                start + len
            }
            None => {
                self.at = None;
                self.text.len()
            }
        };
        Some(Text(self.text.0.part(start, end, self.readable)))
    }
}

/// The lines of a [`Text`]; see [`Text::lines`].
#[derive(Debug, Clone)]
pub struct Lines {
    text: Text,
    readable: usize,
    at: usize,
}

impl Iterator for Lines {
    type Item = Text;

    #[inline]
    fn next(&mut self) -> Option<Text> {
        let bytes = &self.text.0;
        let rest = &bytes[self.at..];
        if rest.is_empty() {
            return None;
        }
        let start = self.at;
        let mut end = match memchr::memchr(b'\n', rest) {
            Some(len) => {
                self.at += len + 1;
                start + len
            }
            None => {
                self.at = bytes.len();
                return Some(Text(bytes.part(start, self.at, self.readable)));
            }
        };
        if end > start && bytes[end - 1] == b'\r' {
            end -= 1;
        }
        Some(Text(bytes.part(start, end, self.readable)))
    }
}

impl Deref for Text {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<str> for Text {
    #[inline]
    fn borrow(&self) -> &str {
        self
    }
}

/// The same as the string slice's, so that a map keyed by `Text` can be asked with a `&str`.
impl Hash for Text {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialOrd for Text {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

macro_rules! compares_with {
    ($($other:ty),*) => {$(
        impl PartialEq<$other> for Text {
            #[inline]
            fn eq(&self, other: &$other) -> bool {
                self.as_str() == AsRef::<str>::as_ref(other)
            }
        }

        impl PartialEq<Text> for $other {
            #[inline]
            fn eq(&self, other: &Text) -> bool {
                AsRef::<str>::as_ref(self) == other.as_str()
            }
        }
    )*};
}

compares_with!(str, &str, String);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl From<&str> for Text {
    #[inline]
    fn from(text: &str) -> Self {
        Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(text.into_bytes().into())
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Self {
        text.as_str().into()
    }
}

impl From<char> for Text {
    fn from(one: char) -> Self {
        (&*one.encode_utf8(&mut [0; 4])).into()
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.as_str().into()
    }
}

impl FromStr for Text {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl FromIterator<char> for Text {
    fn from_iter<I: IntoIterator<Item = char>>(characters: I) -> Self {
        characters.into_iter().collect::<String>().into()
    }
}

impl Record for Text {
    type View<'a> = &'a str;
    const FIXED_LEN: Option<usize> = None;

    #[inline]
    fn encoded_len(&self) -> usize {
        self.0.encoded_len()
    }

    #[inline]
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    #[inline]
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let bytes = input.bytes()?;
        match std::str::from_utf8(&bytes) {
            Ok(_) => Ok(Text(bytes)),
            Err(error) => Err(input.not_utf8(&bytes, error)),
        }
    }

    #[inline]
    fn view<'a>(input: &mut Decoder<'a>) -> Result<&'a str, DecodeError> {
        input.str()
    }

    #[inline]
    fn key_hash(&self) -> u64 {
        layout::hash_bytes(&self.0)
    }

    fn schema(_builder: &mut SchemaBuilder) -> Schema {
        Schema::Text
    }

    fn detach(&mut self) {
        self.0.detach();
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }

            fn visit_string<E: de::Error>(self, text: String) -> Result<Text, E> {
                Ok(text.into())
            }
        }

        // Borrowed input is enough: asking for an owned string could make the format allocate one.
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    const SAMPLES: &[&str] = &[
        "",
        " ",
        "word",
        "to be, or not to be: that is the question",
        "a,b,,c,",
        "one\ntwo\r\n\nthree\r",
        "one\n",
        " \u{3000} Grüße aus Köln, 日本語のテキスト\u{a0}\n naïve café \t",
        "exactly 23 bytes here!!",
        "exactly 24 bytes here!!!",
        "a-very-long-word-that-does-not-fit-into-the-value another-very-long-word-that-does-not",
    ];

    fn check(text: &str) {
        let text_in_buffer = |before: &str, after: &str| {
            let buffer = SharedBuf::from([before, text, after].concat().into_bytes());
            Text::from_utf8_shared(&buffer, before.len()..before.len() + text.len()).unwrap()
        };
        for value in [Text::from(text), text_in_buffer("", ""), text_in_buffer("x ", " y, and so on, and so forth…")]
        {
            assert_eq!(value, text);
            assert!(value.words().eq(text.split_whitespace()), "{text:?}");
            assert!(value.clone().into_words().eq(text.split_whitespace()));
            assert!(value.lines().eq(text.lines()));
            for separator in [',', ' ', 'é', '語'] {
                assert!(value.split(separator).eq(text.split(separator)));
            }
            assert_eq!(value.trim(), text.trim());
            assert_eq!(value.to_lowercase(), text.to_lowercase());
            assert_eq!(value.to_uppercase(), text.to_uppercase());
            assert_eq!(value.slice(..), text);
            assert_eq!(value.key_hash(), text.to_owned().key_hash());
            assert_eq!(format!("{value} {value:?}"), format!("{text} {text:?}"));
            let json = serde_json::to_string(&value).unwrap();
            assert_eq!(json, serde_json::to_string(text).unwrap());
            assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text);
            let mut detached = value.clone();
            detached.detach();
            assert_eq!(detached, value);
        }
    }

    #[test]
    fn behaves_as_str_does() {
        SAMPLES.iter().for_each(|text| check(text));
    }

    proptest! {
        #[test]
        fn behaves_as_str_does_on_any_text(text in ".{0,60}") {
            check(&text);
        }
    }

    #[test]
    fn maps_and_sets_are_asked_with_str() {
        let set: HashSet<Text> = SAMPLES.iter().map(|text| Text::from(*text)).collect();
        assert!(SAMPLES.iter().all(|text| set.contains(*text)));
        let map: HashMap<Text, u32> = [(Text::from("a"), 1)].into();
        assert_eq!(map["a"], 1);
        let hashbrown: hashbrown::HashMap<Text, u32> = [(Text::from("a"), 1)].into_iter().collect();
        assert_eq!(hashbrown.get("a"), Some(&1));
    }

    #[test]
    fn not_utf8_is_refused_or_replaced() {
        let bytes = Bytes::from(&b"caf\xe9"[..]);
        assert_eq!(Text::from_utf8(bytes.clone()).unwrap_err().valid_up_to(), 3);
        assert_eq!(Text::from_utf8_lossy(bytes), "caf\u{fffd}");
        assert!(Text::from_utf8_shared(&SharedBuf::from("é".as_bytes().to_vec()), 0..1).is_err());
    }

    #[test]
    #[should_panic = "character boundaries"]
    fn a_slice_through_a_character_panics() {
        Text::from("é").slice(..1);
    }

    #[test]
    fn parses_and_travels_between_threads() {
        fn sendable<T: Send + Sync>() {}
        sendable::<Text>();
        assert_eq!(Text::from(" 42 ").trim().parse(), Ok(42));
        assert_eq!("x".parse::<Text>().unwrap(), "x");
        assert_eq!(size_of::<Option<Text>>(), 24);
    }
}
