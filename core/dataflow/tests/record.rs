//! The layout and key hash of the standard types, held to the golden values of `docs/record-format.md`. The hashes there
//! were computed with another implementation of XXH3.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use weir_dataflow::record::{Bytes, DecodeError, Decoder, Key, Record, Serde, SharedBuf, Text};

fn bytes_of<T: Record>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    assert_eq!(bytes.len(), value.encoded_len());
    if let Some(len) = T::FIXED_LEN {
        let mut fixed = vec![0xee; len];
        value.encode_fixed(&mut fixed);
        assert_eq!(fixed, bytes);
    }
    bytes
}

fn decode<T: Record>(bytes: &[u8]) -> Result<T, DecodeError> {
    let mut input = Decoder::new(bytes);
    let value = T::decode(&mut input)?;
    input.finish()?;
    Ok(value)
}

/// Round trips by every route.
fn travels<T: Record + PartialEq + Debug>(value: &T) -> Vec<u8> {
    let bytes = bytes_of(value);
    assert_eq!(decode::<T>(&bytes).unwrap(), *value);
    let buffer = SharedBuf::from(bytes.clone());
    let mut shared = T::decode(&mut Decoder::shared(&buffer)).unwrap();
    assert_eq!(shared, *value);
    shared.detach();
    assert_eq!(shared, *value);
    assert!(buffer.try_into_vec().is_ok(), "detached from the buffer");
    let mut input = Decoder::new(&bytes);
    T::view(&mut input).unwrap();
    input.finish().unwrap();
    bytes
}

fn refuses<T: Record + Debug>(short: &[u8]) {
    assert!(decode::<T>(short).is_err());
    assert!(T::view(&mut Decoder::new(short)).is_err());
}

fn check<T: Record + PartialEq + Debug>(value: T, expect: &[u8]) {
    assert_eq!(travels(&value), expect, "{value:?}");
    (0..expect.len()).for_each(|len| refuses::<T>(&expect[..len]));
}

#[test]
fn numbers_are_little_endian() {
    check((), &[]);
    check(1u8, &[1]);
    check(0x0102u16, &[2, 1]);
    check(0x01020304u32, &[4, 3, 2, 1]);
    check(1u64, &[1, 0, 0, 0, 0, 0, 0, 0]);
    check(1u128 << 120, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    check(-2i8, &[254]);
    check(-2i16, &[254, 255]);
    check(-2i32, &[254, 255, 255, 255]);
    check(-2i64, &[254, 255, 255, 255, 255, 255, 255, 255]);
    check(-1i128, &[255; 16]);
    check(3usize, &[3, 0, 0, 0, 0, 0, 0, 0]);
    check(-1isize, &[255; 8]);
    check(1.0f32, &[0, 0, 0x80, 0x3f]);
    check(-1.5f64, &[0, 0, 0, 0, 0, 0, 0xf8, 0xbf]);
    check(true, &[1]);
    check('é', &[0xe9, 0, 0, 0]);
}

#[test]
fn strings_and_collections_follow_their_length() {
    check(String::from("hé"), b"\x03\0\0\0h\xc3\xa9");
    check(Text::from("hé"), b"\x03\0\0\0h\xc3\xa9");
    check(Box::<str>::from("a"), b"\x01\0\0\0a");
    check(Arc::<str>::from("a"), b"\x01\0\0\0a");
    check(Bytes::from(&[1u8, 255][..]), &[2, 0, 0, 0, 1, 255]);
    check(vec![1u8, 255], &[2, 0, 0, 0, 1, 255]);
    check(vec![1u16, 2, 3], &[3, 0, 0, 0, 1, 0, 2, 0, 3, 0]);
    check(vec![String::from("a"), String::new()], b"\x02\0\0\0\x01\0\0\0a\0\0\0\0");
    check(vec![(), (), ()], &[3, 0, 0, 0]);
    check(vec![Box::new(())], &[1, 0, 0, 0]);
    check(VecDeque::from([1u8, 2]), &[2, 0, 0, 0, 1, 2]);
    check(BTreeSet::from([2u8, 1]), &[2, 0, 0, 0, 1, 2]);
    check(BTreeMap::from([(2u8, true), (1, false)]), &[2, 0, 0, 0, 1, 0, 2, 1]);
    check(HashMap::<u8, u8>::from([(2, 3)]), &[1, 0, 0, 0, 2, 3]);
    check(HashSet::<u8>::from([2]), &[1, 0, 0, 0, 2]);
    check(hashbrown::HashMap::<u8, u8>::from_iter([(2, 3)]), &[1, 0, 0, 0, 2, 3]);
    check(hashbrown::HashSet::<u8>::from_iter([2]), &[1, 0, 0, 0, 2]);
    check([1u16, 2], &[1, 0, 2, 0]);
    check([String::from("a")], b"\x01\0\0\0a");
}

#[test]
fn wrappers_are_tags_or_nothing() {
    check(None::<u16>, &[0]);
    check(Some(7u16), &[1, 7, 0]);
    check(Some(Some(7u8)), &[1, 1, 7]);
    check(Ok::<u8, String>(7), &[0, 7]);
    check(Err::<u8, String>("no".into()), b"\x01\x02\0\0\0no");
    check(Box::new(7u8), &[7]);
    check(Arc::new(7u8), &[7]);
    check((1u8, 2u16, true), &[1, 2, 0, 1]);
    check((1u8, String::from("a")), b"\x01\x01\0\0\0a");
    check((1u8, 2u8, 3u8, 4u8, 5u8, 6u8, 7u8, 8u8), &[1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn times_are_seconds_and_nanoseconds() {
    check(Duration::new(1, 2), &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    check(SystemTime::UNIX_EPOCH + Duration::new(1, 2), &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]);
    let half_before = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
    check(half_before, &[255, 255, 255, 255, 255, 255, 255, 255, 0, 0x65, 0xcd, 0x1d]);
    check(SystemTime::UNIX_EPOCH - Duration::from_secs(1), &[255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]);
    assert!(decode::<Duration>(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0xca, 0x9a, 0x3b]).is_err());
    assert!(decode::<SystemTime>(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0]).is_ok());
}

#[test]
fn foreign_types_travel_through_serde() {
    let value = Serde(BTreeMap::from([("a".to_owned(), 300u32)]));
    check(value.clone(), b"\x05\0\0\0\x01\x01a\xac\x02");
    assert_eq!(value.get("a"), Some(&300));
    let bytes = bytes_of(&value);
    let view = Serde::<BTreeMap<String, u32>>::view(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(view.get().unwrap(), value.0);
    let error = decode::<(u8, Serde<bool>)>(&[9, 1, 0, 0, 0, 7]).unwrap_err();
    assert_eq!((error.offset(), error.expected()), (5, "a bool"));
}

#[test]
fn key_hashes_are_those_of_the_specification() {
    fn hash(value: impl Key, expect: u64) {
        assert_eq!(value.key_hash(), expect, "{:#x}", value.key_hash());
    }
    hash((), 0x2d06800538d394c2);
    hash(1u8, 0xe12ef9d2eb86ceeb);
    hash(0x0102u16, 0x66e9c4aa7c53ef78);
    hash(1u32, 0xdb02334e96d65708);
    hash(0u64, 0xc77b3abb6f87acd9);
    hash(1u64, 0x2fbc593564db792e);
    hash(1usize, 0x2fbc593564db792e);
    hash(-1i64, 0x5111c7e47d784413);
    hash(1u128, 0x26f2a1148cf52011);
    hash(true, 0xe12ef9d2eb86ceeb);
    hash('é', 0x5874c6e996bdf0a5);
    hash(String::new(), 0x2d06800538d394c2);
    hash(String::from("weir"), 0x09831dc741817118);
    hash(Text::from("weir"), 0x09831dc741817118);
    hash(Bytes::from(&b"weir"[..]), 0x09831dc741817118);
    hash(Box::new(Text::from("weir")), 0x09831dc741817118);
    hash(Text::from("Grüße"), 0xb40c17e2196d97d8);
    hash(Text::from("a string that is longer than twenty-three bytes"), 0x25c059d74d3c2c16);
    hash((1u32, 2u64), 0xfbb890e2ef969bde);
    hash((String::from("weir"), 1u32), 0x0909456f00428329);
    hash((Text::from("weir"), 1u32), 0x0909456f00428329);
    hash(Some(1u32), 0x03036954137dc302);
    hash(vec![1u16, 2, 3], 0x0edc501400849118);
    hash(Duration::from_millis(1500), 0x9bacbef84d185954);
    hash(std::array::from_fn::<u64, 32, _>(|at| at as u64), 0x4d038606151e13fc);
}

#[test]
fn malformed_input_is_described_with_its_place() {
    fn refused<T: Record + Debug>(bytes: &[u8], expect: &str) {
        assert_eq!(decode::<T>(bytes).unwrap_err().to_string(), format!("malformed record at byte {expect}"));
    }
    refused::<u32>(&[1, 2], "0: expected 4 bytes, found 2 bytes before the end of the input");
    refused::<(u8, bool)>(&[1, 2], "1: expected a bool, 0 or 1, found 2");
    refused::<char>(&[0, 0xd8, 0, 0], "0: expected a Unicode scalar value, found 55296");
    refused::<Option<u8>>(&[9], "0: expected a tag of Option below 2, found 9");
    refused::<String>(&[2, 0, 0, 0, b'a', 0xff], "5: expected UTF-8 text, found byte 0xff");
    refused::<Text>(&[2, 0, 0, 0, b'a', 0xff], "5: expected UTF-8 text, found byte 0xff");
    refused::<Vec<bool>>(&[2, 0, 0, 0, 1, 5], "5: expected a bool, 0 or 1, found 5");
    refused::<u8>(&[1, 2], "1: expected the end of the input, found 1 more bytes");
    let bogus = "4: expected 4294967295 elements of at least 8 bytes, found 1 bytes before the end of the input";
    refused::<Vec<u64>>(&[255, 255, 255, 255, 0], bogus);
    refused::<Vec<()>>(&[255, 255, 255, 255], &bogus.replace("8 bytes", "0 bytes").replace("1 bytes", "0 bytes"));
    refused::<HashMap<u32, u32>>(&[255, 255, 255, 255, 0], bogus);
}

#[test]
fn views_of_collections_decode_on_demand() {
    let value = vec![("one".to_owned(), 1u8), ("three".to_owned(), 3)];
    let bytes = bytes_of(&value);
    let view = Vec::<(String, u8)>::view(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(view.len(), 2);
    assert!(view.iter().eq([("one", 1), ("three", 3)]));
    assert_eq!((view.get(1), view.get(2)), (Some(("three", 3)), None));
    assert_eq!(view.to_vec(), value);

    let bytes = bytes_of(&vec![7u8, 8, 9]);
    let view = Vec::<u8>::view(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!((view.encoded(), view.get(1)), (&[7, 8, 9][..], Some(8)));
}

#[test]
fn batches_are_the_values_one_after_the_other() {
    let items: Vec<(u64, i16)> = (0..100).map(|at| (at, -(at as i16))).collect();
    let mut one_by_one = vec![1, 2, 3];
    items.iter().for_each(|item| item.encode(&mut one_by_one));
    let mut batch = vec![1, 2, 3];
    Record::encode_batch(&items, &mut batch);
    assert_eq!(batch, one_by_one);
    let mut input = Decoder::new(&batch[3..]);
    let mut decoded = Vec::new();
    Record::decode_batch(&mut input, items.len(), &mut decoded).unwrap();
    assert_eq!(decoded, items);
    let mut short = Decoder::new(&batch[4..]);
    assert!(<(u64, i16)>::decode_batch(&mut short, items.len(), &mut decoded).is_err());
    assert!(<(u64, i16)>::decode_batch(&mut short, usize::MAX, &mut decoded).is_err());
}

#[test]
fn long_text_of_a_shared_buffer_is_not_copied() {
    let text = Text::from("more than twenty-three bytes of text");
    let buffer = SharedBuf::from(bytes_of(&(1u8, text.clone(), Text::from("short"))));
    let (_, long, short) = <(u8, Text, Text)>::decode(&mut Decoder::shared(&buffer)).unwrap();
    assert_eq!((&long, &*short), (&text, "short"));
    assert!(buffer.as_ptr_range().contains(&long.as_ptr()));
    assert!(!buffer.as_ptr_range().contains(&short.as_ptr()));
}

type Everything = (
    (u64, i8, f64, bool, char),
    (String, Option<String>, Vec<Vec<u16>>),
    (HashMap<String, u32>, BTreeMap<u8, Vec<u8>>, HashSet<String>),
    (Result<u8, String>, [Option<u8>; 3], Box<i128>),
    (Duration, Vec<()>, Vec<bool>),
);

fn texts() -> impl Strategy<Value = Vec<(Text, Bytes)>> {
    let pair = (".{0,40}", any::<Vec<u8>>());
    proptest::collection::vec(pair.prop_map(|(text, bytes)| (text.into(), bytes.into())), 0..4)
}

fn look_at<T: Record>(bytes: &[u8]) {
    let _ = decode::<T>(bytes);
    let _ = T::decode(&mut Decoder::shared(&SharedBuf::from(bytes.to_vec())));
    if let Ok(view) = T::view(&mut Decoder::new(bytes)) {
        // Goes through every lazily decoded element.
        let _ = format!("{view:?}");
    }
}

proptest! {
    // The values are large.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn values_survive_the_journey(value in any::<Everything>(), texts in texts(), end: prop::sample::Index) {
        // NaN is not equal to itself.
        prop_assume!(!value.0.2.is_nan());
        let bytes = travels(&value);
        refuses::<Everything>(&bytes[..end.index(bytes.len())]);
        let bytes = travels(&texts);
        refuses::<Vec<(Text, Bytes)>>(&bytes[..end.index(bytes.len())]);
    }

    #[test]
    fn damaged_input_is_refused_or_decoded_but_never_panics(
        value in any::<Everything>(), texts in texts(), at in any::<prop::sample::Index>(), bit in 0..8,
    ) {
        for mut bytes in [bytes_of(&value), bytes_of(&(texts, 0u8))] {
            let at = at.index(bytes.len());
            bytes[at] ^= 1u8 << bit;
            look_at::<Everything>(&bytes);
            look_at::<(Vec<(Text, Bytes)>, u8)>(&bytes);
        }
    }

    #[test]
    fn noise_is_refused_or_decoded_but_never_panics(bytes in any::<Vec<u8>>()) {
        look_at::<Everything>(&bytes);
        look_at::<Vec<Text>>(&bytes);
        look_at::<Vec<Option<Box<u8>>>>(&bytes);
        look_at::<(SystemTime, Duration)>(&bytes);
        look_at::<hashbrown::HashMap<Bytes, Serde<String>>>(&bytes);
    }
}
