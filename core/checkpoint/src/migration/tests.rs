use proptest::prelude::*;

use super::*;
use Schema::{Bytes, Float, Signed, Text, Unsigned};

fn field(name: &str, schema: Schema) -> Field {
    Field { name: name.to_owned(), former_names: Vec::new(), schema, default: None }
}

fn structure(fields: &[(&str, Schema)]) -> Schema {
    let fields = fields.iter().map(|(name, schema)| field(name, schema.clone())).collect();
    Schema::Struct { name: "Bid".to_owned(), fields }
}

fn with(field_at: usize, schema: Schema, change: impl FnOnce(&mut Field)) -> Schema {
    let Schema::Struct { name, mut fields } = schema else { panic!() };
    change(&mut fields[field_at]);
    Schema::Struct { name, fields }
}

fn variants(names: &[&str]) -> Schema {
    let variant = |name: &&str| Variant {
        name: (*name).to_owned(),
        former_names: Vec::new(),
        fields: vec![field("0", Unsigned(8))],
    };
    Schema::Enum { name: "Side".to_owned(), variants: names.iter().map(variant).collect() }
}

fn boxed(schema: Schema) -> Box<Schema> {
    Box::new(schema)
}

#[track_caller]
fn becomes(from: &Schema, to: &Schema, old: &[u8], new: &[u8]) {
    let migration = migration(from, to).unwrap();
    let mut out = vec![0xee];
    migration.apply(old, &mut out).unwrap();
    assert_eq!(out[1..], *new);
    assert_eq!(migration.is_identity(), old == new);
}

#[track_caller]
fn refused(from: &Schema, to: &Schema, expect: &str) {
    let error = migration(from, to).unwrap_err().to_string();
    assert!(error.contains(expect), "{error}");
}

#[test]
fn numbers_become_wider() {
    becomes(&Unsigned(8), &Unsigned(16), &[200], &[200, 0]);
    becomes(&Unsigned(8), &Signed(16), &[200], &[200, 0]);
    becomes(&Signed(8), &Signed(32), &[0xfe], &[0xfe, 0xff, 0xff, 0xff]);
    becomes(&Signed(32), &Signed(64), &5i32.to_le_bytes(), &5i64.to_le_bytes());
    becomes(&Unsigned(64), &Signed(128), &u64::MAX.to_le_bytes(), &i128::from(u64::MAX).to_le_bytes());
    becomes(&Float(32), &Float(64), &1.5f32.to_le_bytes(), &1.5f64.to_le_bytes());
    becomes(&Unsigned(32), &Unsigned(32), &[1, 2, 3, 4], &[1, 2, 3, 4]);
    for (from, to, expect) in [
        (Unsigned(16), Unsigned(8), "its values were u16 and are u8 now"),
        (Unsigned(32), Signed(32), "u32 and are i32"),
        (Signed(8), Unsigned(64), "i8 and are u64"),
        (Float(64), Float(32), "f64 and are f32"),
        (Unsigned(8), Float(64), "numbers can only become wider ones"),
    ] {
        refused(&from, &to, expect);
    }
}

#[test]
fn fields_are_added_removed_renamed_and_moved() {
    let old = structure(&[("a", Unsigned(8)), ("b", Text), ("c", Unsigned(16))]);
    let bytes = [1, 1, 0, 0, 0, b'x', 3, 0];
    becomes(&old, &old, &bytes, &bytes);
    becomes(&old, &structure(&[("c", Unsigned(16)), ("a", Unsigned(32))]), &bytes, &[3, 0, 1, 0, 0, 0]);
    let renamed = with(0, structure(&[("z", Text), ("a", Unsigned(8)), ("c", Unsigned(16))]), |field| {
        field.former_names = vec!["y".to_owned(), "b".to_owned()];
    });
    becomes(&old, &renamed, &bytes, &[1, 0, 0, 0, b'x', 1, 3, 0]);
    let added = with(1, structure(&[("a", Unsigned(8)), ("new", Text), ("b", Text), ("c", Unsigned(16))]), |field| {
        field.default = Some(vec![2, 0, 0, 0, b'h', b'i']);
    });
    becomes(&old, &added, &bytes, &[1, 2, 0, 0, 0, b'h', b'i', 1, 0, 0, 0, b'x', 3, 0]);
    let only_renamed = with(0, structure(&[("z", Unsigned(8)), ("b", Text), ("c", Unsigned(16))]), |field| {
        field.former_names = vec!["a".to_owned()];
    });
    assert!(migration(&old, &only_renamed).unwrap().is_identity());

    refused(
        &old,
        &structure(&[("z", Unsigned(8))]),
        "its field `z` was not there and is u8 now: a new field needs `#[record(default)]`",
    );
    refused(&old, &structure(&[("b", Bytes)]), "its field `b` was text and is bytes now");
}

#[test]
fn a_name_that_is_still_in_use_is_nobodys_former_name() {
    let old = structure(&[("a", Unsigned(8)), ("b", Unsigned(8))]);
    let new = with(1, old.clone(), |field| {
        field.former_names = vec!["a".to_owned()];
        field.name = "c".to_owned();
    });
    // `a` is there as itself, so `c` is new.
    refused(&old, &new, "its field `c` was not there");
}

#[test]
fn a_refusal_names_the_way_to_the_field() {
    let inner = |schema| structure(&[("price", schema)]);
    let outer = |schema| {
        structure(&[("bids", Schema::List(boxed(Schema::Optional(boxed(Schema::Tuple(vec![Text, inner(schema)]))))))])
    };
    refused(&outer(Text), &outer(Unsigned(8)), "its field `bids.1.price` was text and is u8 now");
    let map = |schema| structure(&[("by_name", Schema::Map(boxed(Text), boxed(schema)))]);
    refused(&map(Text), &map(Unsigned(8)), "`by_name.value` was text");
}

#[test]
fn values_become_optional() {
    let optional = |schema| Schema::Optional(boxed(schema));
    becomes(&Unsigned(8), &optional(Unsigned(16)), &[7], &[1, 7, 0]);
    becomes(&optional(Unsigned(8)), &optional(Unsigned(16)), &[1, 7], &[1, 7, 0]);
    becomes(&optional(Unsigned(8)), &optional(Unsigned(8)), &[0], &[0]);
    refused(&optional(Unsigned(8)), &Unsigned(8), "optional u8 and are u8");
}

#[test]
fn variants_are_added_moved_and_renamed_but_not_removed() {
    let old = variants(&["Buy", "Sell"]);
    becomes(&old, &variants(&["Buy", "Sell", "Hold"]), &[1, 9], &[1, 9]);
    becomes(&old, &variants(&["Hold", "Sell", "Buy"]), &[0, 9], &[2, 9]);
    refused(&old, &variants(&["Buy"]), "its field `Sell` was a variant and is not there now");
    let mut renamed = variants(&["Buy", "Ask"]);
    let Schema::Enum { variants: all, .. } = &mut renamed else { panic!() };
    all[1].former_names.push("Sell".to_owned());
    becomes(&old, &renamed, &[1, 9], &[1, 9]);
    assert!(migration(&old, &old).unwrap().is_identity());

    // The tag becomes wider with the 257th variant.
    let many: Vec<String> = (0..257).map(|number| format!("V{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    becomes(&variants(&many[..256]), &variants(&many), &[255, 9], &[255, 0, 9]);
}

#[test]
fn collections_change_item_by_item() {
    let list = |schema| Schema::List(boxed(schema));
    becomes(&list(Unsigned(8)), &list(Unsigned(16)), &[2, 0, 0, 0, 5, 6], &[2, 0, 0, 0, 5, 0, 6, 0]);
    let array = |count| Schema::Array(boxed(Unsigned(8)), count);
    becomes(&array(2), &Schema::Array(boxed(Unsigned(16)), 2), &[5, 6], &[5, 0, 6, 0]);
    refused(&array(2), &array(3), "array of 2 u8 and are array of 3 u8");
    let map = |value| Schema::Map(boxed(Unsigned(8)), boxed(value));
    becomes(&map(Unsigned(8)), &map(Signed(16)), &[1, 0, 0, 0, 3, 4], &[1, 0, 0, 0, 3, 4, 0]);
    assert!(migration(&Bytes, &list(Unsigned(8))).unwrap().is_identity());
    refused(&Bytes, &list(Unsigned(16)), "bytes and are list of u16");
}

#[test]
fn formats_of_their_own_stay_with_their_type() {
    let framed = |name: &str| Schema::Framed(name.to_owned());
    let opaque = |name: &str| Schema::Opaque(name.to_owned());
    assert!(migration(&opaque("A"), &opaque("A")).unwrap().is_identity());
    refused(&opaque("A"), &opaque("B"), "A (a format of its own) and are B");
    refused(&framed("A"), &framed("B"), "can be read by the type that wrote it only");
    // What follows framed bytes can be found, what follows others cannot.
    let around = |inner: Schema, last| structure(&[("inner", inner), ("last", last)]);
    becomes(
        &around(framed("A"), Unsigned(8)),
        &around(framed("A"), Unsigned(16)),
        &[1, 0, 0, 0, 0xaa, 7],
        &[1, 0, 0, 0, 0xaa, 7, 0],
    );
    refused(
        &around(opaque("A"), Unsigned(8)),
        &around(opaque("A"), Unsigned(16)),
        "values of `A` have a format of their own",
    );
    assert!(migration(&around(opaque("A"), Text), &around(opaque("A"), Text)).unwrap().is_identity());
}

/// A list of trees in trees.
fn tree(value: Schema) -> Schema {
    structure(&[("value", value), ("children", Schema::List(boxed(Schema::Recursive("Bid".to_owned()))))])
}

#[test]
fn types_that_contain_themselves_change_at_every_depth() {
    let old = [1, 1, 0, 0, 0, 2, 0, 0, 0, 0];
    let new = [1, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0];
    becomes(&tree(Unsigned(8)), &tree(Unsigned(16)), &old, &new);
    assert!(migration(&tree(Text), &tree(Text)).unwrap().is_identity());
    refused(&tree(Text), &tree(Bytes), "`value` was text");
    refused(&Schema::Recursive("X".to_owned()), &Text, "nowhere described");
}

#[test]
fn deep_values_take_time_in_proportion_and_have_a_limit() {
    // Fields change places, so each level passes over what is inside.
    let new =
        structure(&[("children", Schema::List(boxed(Schema::Recursive("Bid".to_owned())))), ("value", Unsigned(16))]);
    let migration = migration(&tree(Unsigned(8)), &new).unwrap();
    let value = |depth: usize| {
        let mut bytes = [1, 1, 0, 0, 0].repeat(depth);
        bytes.extend_from_slice(&[1, 0, 0, 0, 0]);
        bytes
    };
    let mut out = Vec::new();
    migration.apply(&value(100), &mut out).unwrap();
    assert_eq!(out.len(), 101 * 6);
    assert!(migration.apply(&value(10_000), &mut out).unwrap_err().to_string().contains("depth of a value"));
}

proptest! {
    #[test]
    fn foreign_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let inner = |number| Schema::Tuple(vec![Schema::Optional(boxed(number)), Schema::List(boxed(Schema::Unit)), Text]);
        let around = |number| structure(&[("side", variants(&["Buy"])), ("list", Schema::List(boxed(inner(number))))]);
        let plan = migration(&around(Unsigned(8)), &around(Unsigned(16))).unwrap();
        let _ = plan.apply(&bytes, &mut Vec::new());
        let _ = migration(&tree(Unsigned(8)), &tree(Unsigned(16))).unwrap().apply(&bytes, &mut Vec::new());
    }
}

#[test]
fn a_value_must_be_whole() {
    let plan = migration(&Unsigned(16), &Unsigned(32)).unwrap();
    assert!(plan.apply(&[1], &mut Vec::new()).unwrap_err().to_string().contains("ends in the middle"));
    assert!(plan.apply(&[1, 2, 3], &mut Vec::new()).unwrap_err().to_string().contains("1 bytes too many"));
    let plan = migration(
        &Schema::List(boxed(Schema::Tuple(vec![]))),
        &Schema::List(boxed(Schema::Optional(boxed(Schema::Tuple(vec![]))))),
    )
    .unwrap();
    assert!(plan.apply(&u32::MAX.to_le_bytes(), &mut Vec::new()).unwrap_err().to_string().contains("number of items"));
}
