//! Values in the record format, read by their schema instead of by their type.

use serde_json::{Map, Value};
use weir_checkpoint::{Field, Schema};

/// How deep values may be nested.
const MAX_DEPTH: u32 = 256;
/// How many items that take no bytes a list may have.
const MAX_EMPTY_ITEMS: usize = 65_536;

/// The value that `bytes` are; its bytes in hexadecimal digits, if they are none of this schema or in a format of their own.
pub(super) fn read(schema: &Schema, bytes: &[u8]) -> Value {
    let mut reader = Reader { bytes, around: Vec::new() };
    let value = reader.value(schema, 0).filter(|_| reader.bytes.is_empty());
    value.unwrap_or_else(|| hex(bytes))
}

fn hex(bytes: &[u8]) -> Value {
    Value::String(format!("0x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

struct Reader<'b, 's> {
    bytes: &'b [u8],
    /// The types around the value, outermost first.
    around: Vec<&'s Schema>,
}

impl<'b, 's> Reader<'b, 's> {
    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    fn number(&mut self, bytes: usize) -> Option<u128> {
        let taken = self.take(bytes)?;
        Some(taken.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte)))
    }

    fn length(&mut self) -> Option<usize> {
        self.number(4).map(|length| length as usize)
    }

    fn value(&mut self, schema: &'s Schema, depth: u32) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match schema {
            Schema::Unit => Value::Null,
            Schema::Bool => Value::Bool(match self.number(1)? {
                0 => false,
                1 => true,
                _ => return None,
            }),
            Schema::Unsigned(bits) => {
                let number = self.number(usize::from(*bits / 8))?;
                u64::try_from(number).map_or_else(|_| Value::String(number.to_string()), Value::from)
            }
            Schema::Signed(bits) => {
                let unused = 128u32.checked_sub(u32::from(*bits))?;
                let number = (self.number(usize::from(*bits / 8))? << unused) as i128 >> unused;
                i64::try_from(number).map_or_else(|_| Value::String(number.to_string()), Value::from)
            }
            Schema::Float(32) => float(f64::from(f32::from_bits(self.number(4)? as u32))),
            Schema::Float(_) => float(f64::from_bits(self.number(8)? as u64)),
            Schema::Char => Value::String(char::from_u32(self.number(4)? as u32)?.to_string()),
            Schema::Text => {
                let length = self.length()?;
                Value::String(String::from_utf8(self.take(length)?.to_vec()).ok()?)
            }
            Schema::Bytes | Schema::Framed(_) => {
                let length = self.length()?;
                hex(self.take(length)?)
            }
            Schema::Optional(inner) => match self.number(1)? {
                0 => Value::Null,
                1 => self.value(inner, depth + 1)?,
                _ => return None,
            },
            Schema::List(item) => {
                let count = self.length()?;
                self.items(item, count, depth)?
            }
            Schema::Array(item, count) => self.items(item, *count as usize, depth)?,
            Schema::Map(key, value) => {
                let count = self.length()?;
                let mut entries = Vec::new();
                for _ in 0..self.plausible(count)? {
                    entries.push(Value::Array(vec![self.value(key, depth + 1)?, self.value(value, depth + 1)?]));
                }
                Value::Array(entries)
            }
            Schema::Tuple(items) => {
                let items = items.iter().map(|item| self.value(item, depth + 1));
                Value::Array(items.collect::<Option<_>>()?)
            }
            Schema::Struct { fields, .. } => {
                self.around.push(schema);
                let value = self.fields(fields, depth)?;
                self.around.pop();
                value
            }
            Schema::Enum { variants, .. } => {
                let tag = self.number(if variants.len() > 256 { 2 } else { 1 })? as usize;
                let variant = variants.get(tag)?;
                self.around.push(schema);
                let fields = self.fields(&variant.fields, depth)?;
                self.around.pop();
                match variant.fields.is_empty() {
                    true => Value::String(variant.name.clone()),
                    false => Value::Object(Map::from_iter([(variant.name.clone(), fields)])),
                }
            }
            Schema::Recursive(of) => {
                let position = self.around.iter().rposition(
                    |around| matches!(around, Schema::Struct { name, .. } | Schema::Enum { name, .. } if name == of),
                )?;
                let (schema, inside) = (self.around[position], self.around.split_off(position));
                let value = self.value(schema, depth + 1)?;
                self.around.extend(inside);
                value
            }
            Schema::Opaque(_) => return None,
        })
    }

    /// By name; as a list if the fields have only positions.
    fn fields(&mut self, fields: &'s [Field], depth: u32) -> Option<Value> {
        let positions = fields.iter().enumerate().all(|(position, field)| field.name == position.to_string());
        let mut values = Vec::new();
        for field in fields {
            values.push((field.name.clone(), self.value(&field.schema, depth + 1)?));
        }
        Some(match positions {
            true => Value::Array(values.into_iter().map(|(_, value)| value).collect()),
            false => Value::Object(values.into_iter().collect()),
        })
    }

    fn items(&mut self, item: &'s Schema, count: usize, depth: u32) -> Option<Value> {
        let mut items = Vec::new();
        for _ in 0..self.plausible(count)? {
            items.push(self.value(item, depth + 1)?);
        }
        Some(Value::Array(items))
    }

    /// A count, if the bytes could be so many.
    fn plausible(&self, count: usize) -> Option<usize> {
        (count <= self.bytes.len().max(MAX_EMPTY_ITEMS)).then_some(count)
    }
}

/// What JSON has no number for becomes a text.
fn float(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or_else(|| Value::String(value.to_string()), Value::Number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_checkpoint::Variant;

    use super::*;

    fn field(name: &str, schema: Schema) -> Field {
        Field { name: name.to_owned(), former_names: Vec::new(), schema, default: None }
    }

    fn check(schema: &Schema, bytes: &[u8], expect: Value) {
        assert_eq!(read(schema, bytes), expect, "{schema}");
    }

    #[test]
    fn values_are_read_as_the_record_format_says() {
        check(&Schema::Unsigned(16), &[2, 1], json!(0x0102));
        check(&Schema::Signed(64), &[0xff; 8], json!(-1));
        check(&Schema::Signed(128), &[0xff; 16], json!(-1));
        check(&Schema::Unsigned(128), &[0xff; 16], json!(u128::MAX.to_string()));
        check(&Schema::Float(64), &1.5f64.to_le_bytes(), json!(1.5));
        check(&Schema::Float(32), &f32::NAN.to_le_bytes(), json!("NaN"));
        check(&Schema::Char, &[0xe9, 0, 0, 0], json!("é"));
        check(&Schema::Text, b"\x04\0\0\0weir", json!("weir"));
        check(&Schema::Bytes, &[2, 0, 0, 0, 1, 0xfe], json!("0x01fe"));
        check(&Schema::Optional(Box::new(Schema::Bool)), &[1, 1], json!(true));
        check(&Schema::Optional(Box::new(Schema::Bool)), &[0], json!(null));
        check(&Schema::List(Box::new(Schema::Unsigned(16))), &[2, 0, 0, 0, 1, 0, 2, 0], json!([1, 2]));
        check(&Schema::Array(Box::new(Schema::Unsigned(8)), 2), &[1, 2], json!([1, 2]));
        check(&Schema::Tuple(vec![Schema::Unsigned(8), Schema::Unit]), &[7], json!([7, null]));
        let map = Schema::Map(Box::new(Schema::Unsigned(8)), Box::new(Schema::Bool));
        check(&map, &[1, 0, 0, 0, 7, 1], json!([[7, true]]));
    }

    #[test]
    fn structs_and_enums_have_their_names_also_inside_of_themselves() {
        let node = |next: Schema| Schema::Struct {
            name: "Node".to_owned(),
            fields: vec![field("value", Schema::Unsigned(8)), field("next", Schema::Optional(Box::new(next)))],
        };
        let schema = node(Schema::Recursive("Node".to_owned()));
        check(&schema, &[1, 1, 2, 0], json!({"value": 1, "next": {"value": 2, "next": null}}));
        let variant = |name: &str, fields| Variant { name: name.to_owned(), former_names: Vec::new(), fields };
        let variants = vec![variant("Quiet", Vec::new()), variant("Loud", vec![field("0", Schema::Unsigned(8))])];
        let schema = Schema::Enum { name: "Volume".to_owned(), variants };
        check(&schema, &[0], json!("Quiet"));
        check(&schema, &[1, 9], json!({"Loud": [9]}));
    }

    #[test]
    fn what_cannot_be_read_is_shown_as_bytes() {
        check(&Schema::Opaque("Own".to_owned()), &[1, 2], json!("0x0102"));
        check(&Schema::Framed("Own".to_owned()), &[1, 0, 0, 0, 9], json!("0x09"));
        check(&Schema::Bool, &[2], json!("0x02"));
        check(&Schema::Unsigned(16), &[1, 2, 3], json!("0x010203"));
        check(&Schema::Text, &[255, 255, 255, 255, 1], json!("0xffffffff01"));
        check(&Schema::List(Box::new(Schema::Unit)), &[255; 4], json!("0xffffffff"));
        check(&Schema::Recursive("Nobody".to_owned()), &[1], json!("0x01"));
    }
}
