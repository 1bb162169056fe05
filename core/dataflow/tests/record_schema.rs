//! What types say about their layout, and what becomes of values when the type changes.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weir_checkpoint::{Field, Schema, SchemaBuilder, Variant, migration};
use weir_dataflow::record::{Bytes, DecodeError, Decoder, Record, Serde, Text};
use weir_derive::Record;

fn schema<T: Record>() -> Schema {
    T::schema(&mut SchemaBuilder::new())
}

fn field(name: &str, schema: Schema) -> Field {
    Field { name: name.to_owned(), former_names: Vec::new(), schema, default: None }
}

#[test]
fn built_in_types_have_the_schema_of_their_layout() {
    let check = |found: Schema, expect: Schema| assert_eq!(found, expect);
    let boxed = |schema| Box::new(schema);
    check(schema::<u8>(), Schema::Unsigned(8));
    check(schema::<i128>(), Schema::Signed(128));
    check(schema::<usize>(), Schema::Unsigned(64));
    check(schema::<f32>(), Schema::Float(32));
    check(schema::<bool>(), Schema::Bool);
    check(schema::<char>(), Schema::Char);
    check(schema::<()>(), Schema::Unit);
    for found in [schema::<String>(), schema::<Text>(), schema::<Arc<str>>(), schema::<Box<String>>()] {
        check(found, Schema::Text);
    }
    check(schema::<Bytes>(), Schema::Bytes);
    check(schema::<Option<u16>>(), Schema::Optional(boxed(Schema::Unsigned(16))));
    for found in [schema::<Vec<u16>>(), schema::<VecDeque<u16>>(), schema::<HashSet<u16>>()] {
        check(found, Schema::List(boxed(Schema::Unsigned(16))));
    }
    check(schema::<[u16; 3]>(), Schema::Array(boxed(Schema::Unsigned(16)), 3));
    check(schema::<BTreeMap<u8, Text>>(), Schema::Map(boxed(Schema::Unsigned(8)), boxed(Schema::Text)));
    check(schema::<(u8, Text)>(), Schema::Tuple(vec![Schema::Unsigned(8), Schema::Text]));
    let times = |name: &str, seconds| Schema::Struct {
        name: name.to_owned(),
        fields: vec![field("seconds", seconds), field("nanoseconds", Schema::Unsigned(32))],
    };
    check(schema::<Duration>(), times("Duration", Schema::Unsigned(64)));
    check(schema::<SystemTime>(), times("SystemTime", Schema::Signed(64)));
    assert!(matches!(schema::<Serde<u8>>(), Schema::Framed(name) if name == "u8"));
    let Schema::Enum { name, variants } = schema::<Result<u8, Text>>() else { panic!() };
    assert_eq!((name.as_str(), variants[1].name.as_str()), ("Result", "Err"));
    assert_eq!(variants[1].fields[0].schema, Schema::Text);
}

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
struct Bid {
    auction: u64,
    #[record(former_name = "cost", former_name = "amount")]
    price: f64,
    #[record(default)]
    note: String,
    #[record(default = 7 * 6)]
    r#type: u8,
    #[record(default = [1, if cfg!(test) { 2 } else { 3 }], former_name = "both")]
    pair: [u8; 2],
}

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
enum Side {
    #[record(former_name = "Ask")]
    Buy,
    Sell(u8),
}

#[derive(Record, Debug, Clone, PartialEq)]
#[record(crate = "weir_dataflow::record")]
struct Tree {
    value: u8,
    children: Vec<Tree>,
}

#[test]
fn derived_types_name_their_fields_defaults_and_former_names() {
    let expect = Schema::Struct {
        name: "Bid".to_owned(),
        fields: vec![
            field("auction", Schema::Unsigned(64)),
            Field { former_names: vec!["cost".to_owned(), "amount".to_owned()], ..field("price", Schema::Float(64)) },
            Field { default: Some(vec![0; 4]), ..field("note", Schema::Text) },
            Field { default: Some(vec![42]), ..field("type", Schema::Unsigned(8)) },
            Field {
                default: Some(vec![1, 2]),
                former_names: vec!["both".to_owned()],
                ..field("pair", Schema::Array(Box::new(Schema::Unsigned(8)), 2))
            },
        ],
    };
    assert_eq!(schema::<Bid>(), expect);
    let variant = |name: &str, former: &[&str], fields| Variant {
        name: name.to_owned(),
        former_names: former.iter().map(|&name| name.to_owned()).collect(),
        fields,
    };
    let variants =
        vec![variant("Buy", &["Ask"], Vec::new()), variant("Sell", &[], vec![field("0", Schema::Unsigned(8))])];
    assert_eq!(schema::<Side>(), Schema::Enum { name: "Side".to_owned(), variants });
}

#[test]
fn a_type_that_contains_itself_has_an_end() {
    let Schema::Struct { fields, .. } = schema::<Tree>() else { panic!() };
    assert_eq!(fields[1].schema, Schema::List(Box::new(Schema::Recursive("Tree".to_owned()))));
    // Not inside itself, but twice in something else.
    let Schema::Tuple(both) = schema::<(Tree, Tree)>() else { panic!() };
    assert_eq!(both[0], both[1]);
    assert!(matches!(both[1], Schema::Struct { .. }));
}

struct Own;

impl Record for Own {
    type View<'a> = ();
    const FIXED_LEN: Option<usize> = Some(0);

    fn encoded_len(&self) -> usize {
        0
    }

    fn encode(&self, _out: &mut Vec<u8>) {}

    fn decode(_input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Own)
    }

    fn view<'a>(_input: &mut Decoder<'a>) -> Result<(), DecodeError> {
        Ok(())
    }
}

#[test]
fn a_layout_written_by_hand_is_known_by_its_type_only() {
    assert!(matches!(schema::<Own>(), Schema::Opaque(name) if name.ends_with("Own")));
}

/// The types of an earlier version of a job.
mod earlier {
    use super::*;

    #[derive(Record, Debug, Clone, PartialEq)]
    #[record(crate = "weir_dataflow::record")]
    pub struct Bid {
        pub removed: Vec<Option<Text>>,
        pub cost: f32,
        pub auction: u32,
        pub side: Side,
    }

    #[derive(Record, Debug, Clone, PartialEq)]
    #[record(crate = "weir_dataflow::record")]
    pub enum Side {
        Ask,
        Sell(u8),
    }
}

/// The types of a later one.
mod later {
    use super::*;

    #[derive(Record, Debug, Clone, PartialEq)]
    #[record(crate = "weir_dataflow::record")]
    pub struct Bid {
        pub auction: i64,
        #[record(former_name = "cost")]
        pub price: f64,
        #[record(default = Some("none".to_owned()))]
        pub note: Option<String>,
        pub side: Option<Side>,
    }

    #[derive(Record, Debug, Clone, PartialEq)]
    #[record(crate = "weir_dataflow::record")]
    pub enum Side {
        Hold,
        Sell(u16),
        #[record(former_name = "Ask")]
        Buy,
    }
}

#[test]
fn values_of_an_earlier_type_are_read_as_those_of_a_later_one() {
    let migration = migration(&schema::<Vec<earlier::Bid>>(), &schema::<VecDeque<later::Bid>>()).unwrap();
    assert!(!migration.is_identity());
    let old = |side| earlier::Bid { removed: vec![None, Some("x".into())], cost: 1.25, auction: u32::MAX, side };
    let new = |side| later::Bid {
        auction: i64::from(u32::MAX),
        price: 1.25,
        note: Some("none".to_owned()),
        side: Some(side),
    };
    let (mut bytes, mut migrated) = (Vec::new(), Vec::new());
    vec![old(earlier::Side::Ask), old(earlier::Side::Sell(200))].encode(&mut bytes);
    migration.apply(&bytes, &mut migrated).unwrap();
    let mut input = Decoder::new(&migrated);
    let read = Vec::<later::Bid>::decode(&mut input).unwrap();
    assert_eq!(read, [new(later::Side::Buy), new(later::Side::Sell(200))]);
    assert!(input.is_empty());
}

#[test]
fn renaming_a_type_changes_no_bytes() {
    #[derive(Record)]
    #[record(crate = "weir_dataflow::record")]
    struct Forest {
        value: u8,
        children: VecDeque<Forest>,
    }
    assert!(migration(&schema::<Tree>(), &schema::<Forest>()).unwrap().is_identity());
    let error = migration(&schema::<Tree>(), &schema::<Bid>()).unwrap_err().to_string();
    assert!(error.contains("its field `auction` was not there"), "{error}");
}
