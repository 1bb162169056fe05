//! What `#[derive(Record)]` generates: exact bytes, views, and the errors for bytes that are none of the type's.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use proptest::prelude::*;
use std::collections::HashMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use weir_dataflow::record::{DecodeError, Decoder, Record, SeqView, SharedBuf, Text};
use weir_derive::Record;

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
struct Bid {
    auction: u64,
    price: u32,
    channel: Text,
    tags: Vec<String>,
}

#[derive(Record, Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[record(crate = "weir_dataflow::record")]
struct Point {
    x: i32,
    y: i32,
}

#[derive(Record, Debug, Clone, PartialEq, Eq, Hash)]
#[record(crate = "weir_dataflow::record")]
struct UserId(u64);

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
struct Nothing;

#[derive(Record, Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[record(crate = "weir_dataflow::record")]
enum Side {
    Buy,
    Sell,
}

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
enum Event {
    Tick,
    Moved(Point, bool),
    Named { name: String, side: Side },
}

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
enum SameLength {
    Number(u32),
    Letter(char),
    Bytes([u8; 4]),
}

/// Neither parameter need be `Clone`, `Debug` or comparable for its view to be.
#[derive(Record)]
#[record(crate = "weir_dataflow::record")]
struct Pair<A, B: Send = u32, const N: usize = 2>
where
    A: Sync,
{
    first: A,
    rest: [B; N],
    unit: PhantomData<A>,
}

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
enum Either<L, R> {
    Neither,
    Left(L),
    Right { right: R },
}

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
enum Tree {
    Leaf(u8),
    Node(Box<Tree>, Box<Tree>),
    Many(Vec<Tree>),
}

mod elsewhere {
    /// Public like its view, with names that the generated code must not trip over.
    #[derive(weir_derive::Record, Debug, Clone, PartialEq)]
    #[record(crate = "weir_dataflow::record")]
    pub struct Awkward {
        pub r#type: u8,
        pub out: u16,
        pub input: Option<u8>,
        pub at: String,
        pub f: u8,
        pub tag: u8,
    }

    #[allow(dead_code)]
    pub type Result = ();
    #[allow(dead_code)]
    pub type Option<T> = std::option::Option<T>;
}

fn bytes_of<T: Record>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    value.encode(&mut bytes);
    assert_eq!(bytes.len(), value.encoded_len());
    if let Some(len) = T::FIXED_LEN {
        assert_eq!(bytes.len(), len);
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

fn check<T: Record + PartialEq + Debug>(value: T, expect: &[u8]) {
    assert_eq!(bytes_of(&value), expect);
    assert_eq!(decode::<T>(expect).unwrap(), value);
    for len in 0..expect.len() {
        assert!(decode::<T>(&expect[..len]).is_err(), "{len} bytes of {value:?}");
        assert!(T::view(&mut Decoder::new(&expect[..len])).is_err());
    }
}

fn bid() -> Bid {
    Bid { auction: 7, price: 0x01020304, channel: "web".into(), tags: vec!["a".into(), "".into()] }
}

#[test]
fn a_struct_is_its_fields_in_order() {
    let mut expect = vec![7, 0, 0, 0, 0, 0, 0, 0, 4, 3, 2, 1];
    expect.extend_from_slice(b"\x03\0\0\0web");
    expect.extend_from_slice(b"\x02\0\0\0\x01\0\0\0a\0\0\0\0");
    check(bid(), &expect);
    check(Point { x: 1, y: -1 }, &[1, 0, 0, 0, 255, 255, 255, 255]);
    check(UserId(9), &[9, 0, 0, 0, 0, 0, 0, 0]);
    check(Nothing, &[]);
}

#[test]
fn an_enum_is_a_tag_and_the_fields_of_the_variant() {
    check(Event::Tick, &[0]);
    check(Event::Moved(Point { x: 1, y: 2 }, true), &[1, 1, 0, 0, 0, 2, 0, 0, 0, 1]);
    check(Event::Named { name: "ab".into(), side: Side::Sell }, &[2, 2, 0, 0, 0, b'a', b'b', 1]);
    check(Side::Buy, &[0]);
    check(SameLength::Letter('é'), &[1, 0xe9, 0, 0, 0]);
}

#[test]
fn a_generic_type_has_the_layout_of_its_arguments() {
    let pair = Pair::<String, u8> { first: "x".into(), rest: [5, 6], unit: PhantomData };
    assert_eq!(bytes_of(&pair), [1, 0, 0, 0, b'x', 5, 6]);
    check(Either::<u8, Text>::Neither, &[0]);
    check(Either::<u8, Text>::Left(3), &[1, 3]);
    check(Either::<u8, Text>::Right { right: "hi".into() }, &[2, 2, 0, 0, 0, b'h', b'i']);
}

#[test]
fn lengths_are_fixed_where_every_value_has_the_same() {
    assert_eq!(Point::FIXED_LEN, Some(8));
    assert_eq!(UserId::FIXED_LEN, Some(8));
    assert_eq!(Nothing::FIXED_LEN, Some(0));
    assert_eq!(Side::FIXED_LEN, Some(1));
    assert_eq!(SameLength::FIXED_LEN, Some(5));
    assert_eq!(Pair::<u8, u16, 3>::FIXED_LEN, Some(7));
    assert_eq!(Pair::<String>::FIXED_LEN, None);
    assert_eq!((Bid::FIXED_LEN, Event::FIXED_LEN, Tree::FIXED_LEN), (None, None, None));
    assert_eq!((Point::PLAIN, Side::PLAIN, SameLength::PLAIN, Bid::PLAIN), (true, false, false, false));
}

#[test]
fn views_borrow_from_the_bytes() {
    let bytes = bytes_of(&bid());
    let view: BidView<'_> = Bid::view(&mut Decoder::new(&bytes)).unwrap();
    let channel: &str = view.channel;
    let tags: SeqView<'_, String> = view.tags;
    assert_eq!((view.auction, view.price, channel), (7, 0x01020304, "web"));
    assert!(bytes.as_ptr_range().contains(&channel.as_ptr()));
    assert!(tags.iter().eq(["a", ""]));
    assert_eq!(view, view.clone());

    let bytes = bytes_of(&Event::Named { name: "n".into(), side: Side::Buy });
    let view = Event::view(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(view, EventView::Named { name: "n", side: SideView::Buy });
    assert_eq!(format!("{view:?}"), r#"Named { name: "n", side: Buy }"#);

    let bytes = bytes_of(&Nothing);
    assert_eq!(Nothing::view(&mut Decoder::new(&bytes)).unwrap(), NothingView);
}

#[test]
fn views_of_generic_types_ask_nothing_of_the_arguments() {
    struct Opaque;
    impl Record for Opaque {
        type View<'a> = ();
        const FIXED_LEN: Option<usize> = Some(0);
        fn encoded_len(&self) -> usize {
            0
        }
        fn encode(&self, _: &mut Vec<u8>) {}
        fn decode(_: &mut Decoder<'_>) -> Result<Self, DecodeError> {
            Ok(Opaque)
        }
        fn view<'a>(_: &mut Decoder<'a>) -> Result<(), DecodeError> {
            Ok(())
        }
    }
    let bytes = bytes_of(&Pair::<Opaque, Opaque> { first: Opaque, rest: [Opaque, Opaque], unit: PhantomData });
    let view: PairView<'_, Opaque, Opaque> = Pair::view(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(view.clone().rest, [(), ()]);

    let bytes = bytes_of(&Either::<String, Vec<u8>>::Right { right: vec![1, 2] });
    let view = Either::<String, Vec<u8>>::view(&mut Decoder::new(&bytes)).unwrap();
    assert_eq!(format!("{view:?}"), "Right { right: [1, 2] }");
    assert_eq!(view, view.clone());
    assert_ne!(view, EitherView::Neither);
}

#[test]
fn recursive_types_work_and_deep_input_is_refused() {
    let leaf = || Box::new(Tree::Leaf(1));
    check(Tree::Node(leaf(), Box::new(Tree::Many(vec![Tree::Leaf(2)]))), &[1, 0, 1, 2, 1, 0, 0, 0, 0, 2]);
    let deep = vec![1; 100_000];
    assert!(decode::<Tree>(&deep).unwrap_err().expected().contains("nested"));
    assert!(Tree::view(&mut Decoder::new(&deep)).is_err());
}

#[test]
fn unknown_variants_are_reported_with_their_place() {
    let error = decode::<Event>(&[1, 1, 0, 0, 0, 2, 0, 0, 0, 7]).unwrap_err();
    assert_eq!((error.offset(), error.found()), (9, "7"));
    let error = decode::<(u8, Event)>(&[5, 3]).unwrap_err();
    assert_eq!(error.to_string(), "malformed record at byte 1: expected a variant of Event below 3, found 3");
}

#[test]
fn a_derived_key_hashes_its_bytes() {
    let point = Point { x: 1, y: -1 };
    assert_eq!(point.key_hash(), 0x621aff70cfb292e2);
    assert_eq!(UserId(9).key_hash(), 9u64.key_hash());
    assert_eq!(bid().key_hash(), weir_dataflow::record::hash_bytes(&bytes_of(&bid())));
}

#[test]
fn detaching_reaches_every_field() {
    #[derive(Record, Debug, Clone, PartialEq)]
    #[record(crate = "weir_dataflow::record")]
    enum Holder {
        Map { map: HashMap<Text, Option<Text>>, list: Vec<(Text, u8)> },
    }
    let long = Text::from("longer than what is stored in the value");
    let holder =
        Holder::Map { map: [(long.clone(), Some(long.clone()))].into(), list: vec![(long.clone(), 1), (long, 2)] };
    let buffer = SharedBuf::from(bytes_of(&holder));
    let mut decoded = Holder::decode(&mut Decoder::shared(&buffer)).unwrap();
    assert_eq!(decoded, holder);
    let buffer = buffer.try_into_vec().unwrap_err();
    decoded.detach();
    assert_eq!(decoded, holder);
    assert!(buffer.try_into_vec().is_ok());
}

#[test]
fn names_of_the_generated_code_do_not_clash() {
    let value = elsewhere::Awkward { r#type: 1, out: 2, input: Some(3), at: "x".into(), f: 4, tag: 5 };
    check(value, &[1, 2, 0, 1, 3, 1, 0, 0, 0, b'x', 4, 5]);
}

/// More variants than a byte can tell apart.
#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
#[rustfmt::skip]
#[allow(dead_code)]
enum Wide {
    V0, V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12, V13, V14, V15, V16, V17, V18, V19, V20, V21, V22, V23,
    V24, V25, V26, V27, V28, V29, V30, V31, V32, V33, V34, V35, V36, V37, V38, V39, V40, V41, V42, V43, V44, V45,
    V46, V47, V48, V49, V50, V51, V52, V53, V54, V55, V56, V57, V58, V59, V60, V61, V62, V63, V64, V65, V66, V67,
    V68, V69, V70, V71, V72, V73, V74, V75, V76, V77, V78, V79, V80, V81, V82, V83, V84, V85, V86, V87, V88, V89,
    V90, V91, V92, V93, V94, V95, V96, V97, V98, V99, V100, V101, V102, V103, V104, V105, V106, V107, V108, V109,
    V110, V111, V112, V113, V114, V115, V116, V117, V118, V119, V120, V121, V122, V123, V124, V125, V126, V127,
    V128, V129, V130, V131, V132, V133, V134, V135, V136, V137, V138, V139, V140, V141, V142, V143, V144, V145,
    V146, V147, V148, V149, V150, V151, V152, V153, V154, V155, V156, V157, V158, V159, V160, V161, V162, V163,
    V164, V165, V166, V167, V168, V169, V170, V171, V172, V173, V174, V175, V176, V177, V178, V179, V180, V181,
    V182, V183, V184, V185, V186, V187, V188, V189, V190, V191, V192, V193, V194, V195, V196, V197, V198, V199,
    V200, V201, V202, V203, V204, V205, V206, V207, V208, V209, V210, V211, V212, V213, V214, V215, V216, V217,
    V218, V219, V220, V221, V222, V223, V224, V225, V226, V227, V228, V229, V230, V231, V232, V233, V234, V235,
    V236, V237, V238, V239, V240, V241, V242, V243, V244, V245, V246, V247, V248, V249, V250, V251, V252, V253,
    V254, V255,
    V256(u8),
}

#[test]
fn more_than_256_variants_take_a_tag_of_two_bytes() {
    check(Wide::V3, &[3, 0]);
    check(Wide::V256(9), &[0, 1, 9]);
    assert!(decode::<Wide>(&[1, 1]).unwrap_err().to_string().contains("a variant of Wide below 257, found 257"));
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Tick),
        (any::<i32>(), any::<i32>(), any::<bool>()).prop_map(|(x, y, flag)| Event::Moved(Point { x, y }, flag)),
        any::<String>().prop_map(|name| Event::Named { name, side: Side::Sell }),
    ]
}

fn trees() -> impl Strategy<Value = Tree> {
    any::<u8>().prop_map(Tree::Leaf).prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| Tree::Node(left.into(), right.into())),
            proptest::collection::vec(inner, 0..4).prop_map(Tree::Many),
        ]
    })
}

proptest! {
    #[test]
    fn values_survive_the_journey(event in events(), tree in trees(), tags in any::<Vec<String>>()) {
        let bid = Bid { tags, ..bid() };
        let value = (event, tree, bid);
        let bytes = bytes_of(&value);
        prop_assert_eq!(decode::<(Event, Tree, Bid)>(&bytes).unwrap(), value.clone());
        let buffer = SharedBuf::from(bytes);
        prop_assert_eq!(<(Event, Tree, Bid)>::decode(&mut Decoder::shared(&buffer)).unwrap(), value);
    }

    #[test]
    fn noise_is_refused_or_decoded_but_never_panics(bytes in any::<Vec<u8>>()) {
        let _ = decode::<(Event, Bid)>(&bytes);
        let _ = decode::<Vec<Tree>>(&bytes);
        let _ = decode::<Vec<SameLength>>(&bytes);
        let _ = <(Event, Bid)>::view(&mut Decoder::new(&bytes));
        let _ = Vec::<Tree>::view(&mut Decoder::new(&bytes)).map(|view| format!("{view:?}"));
        let _ = Vec::<Side>::view(&mut Decoder::new(&bytes)).map(|view| view.to_vec());
    }
}
