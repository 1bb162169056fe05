//! Schemas as bytes: a tag and what it needs, fields and variants one after the other.

use super::{DecodeError, Reader, Writer};
use crate::{Field, Schema, Variant};

/// How deep schemas may be nested. Deeper ones are damaged bytes.
const MAX_DEPTH: u32 = 128;

/// Appends a schema.
pub(crate) fn write_schema(schema: &Schema, out: &mut Writer) {
    match schema {
        Schema::Unit => out.byte(0),
        Schema::Bool => out.byte(1),
        Schema::Unsigned(bits) => tagged(2, *bits, out),
        Schema::Signed(bits) => tagged(3, *bits, out),
        Schema::Float(bits) => tagged(4, *bits, out),
        Schema::Char => out.byte(5),
        Schema::Text => out.byte(6),
        Schema::Bytes => out.byte(7),
        Schema::Optional(inner) => {
            out.byte(8);
            write_schema(inner, out);
        }
        Schema::List(item) => {
            out.byte(9);
            write_schema(item, out);
        }
        Schema::Array(item, count) => {
            out.byte(10);
            write_schema(item, out);
            out.number(u64::from(*count));
        }
        Schema::Map(key, value) => {
            out.byte(11);
            write_schema(key, out);
            write_schema(value, out);
        }
        Schema::Tuple(items) => {
            out.byte(12);
            out.list(items, |out, item| write_schema(item, out));
        }
        Schema::Struct { name, fields } => {
            out.byte(13);
            out.text(name);
            out.list(fields, |out, field| write_field(field, out));
        }
        Schema::Enum { name, variants } => {
            out.byte(14);
            out.text(name);
            out.list(variants, |out, variant| {
                out.text(&variant.name);
                out.list(&variant.former_names, |out, name| out.text(name));
                out.list(&variant.fields, |out, field| write_field(field, out));
            });
        }
        Schema::Recursive(name) => {
            out.byte(15);
            out.text(name);
        }
        Schema::Opaque(name) => {
            out.byte(16);
            out.text(name);
        }
        Schema::Framed(name) => {
            out.byte(17);
            out.text(name);
        }
    }
}

fn tagged(tag: u8, bits: u16, out: &mut Writer) {
    out.byte(tag);
    out.number(u64::from(bits));
}

fn write_field(field: &Field, out: &mut Writer) {
    out.text(&field.name);
    out.list(&field.former_names, |out, name| out.text(name));
    write_schema(&field.schema, out);
    out.optional(field.default.as_deref(), |out, default| out.bytes(default));
}

/// Reads what [`write_schema`] wrote.
pub(crate) fn read_schema(reader: &mut Reader<'_>) -> Result<Schema, DecodeError> {
    nested(reader, 0)
}

fn nested(reader: &mut Reader<'_>, depth: u32) -> Result<Schema, DecodeError> {
    let tag = reader.byte("schema")?;
    if depth > MAX_DEPTH {
        return Err(reader.invalid("depth of a schema", 1));
    }
    let boxed = |reader: &mut Reader<'_>| nested(reader, depth + 1).map(Box::new);
    Ok(match tag {
        0 => Schema::Unit,
        1 => Schema::Bool,
        2 => Schema::Unsigned(bits(reader, &[8, 16, 32, 64, 128])?),
        3 => Schema::Signed(bits(reader, &[8, 16, 32, 64, 128])?),
        4 => Schema::Float(bits(reader, &[32, 64])?),
        5 => Schema::Char,
        6 => Schema::Text,
        7 => Schema::Bytes,
        8 => Schema::Optional(boxed(reader)?),
        9 => Schema::List(boxed(reader)?),
        10 => Schema::Array(boxed(reader)?, reader.small("length of an array")?),
        11 => Schema::Map(boxed(reader)?, boxed(reader)?),
        12 => Schema::Tuple(reader.list("fields of a tuple", |reader| nested(reader, depth + 1))?),
        13 => Schema::Struct { name: text(reader)?, fields: fields(reader, depth)? },
        14 => Schema::Enum {
            name: text(reader)?,
            variants: reader.list("variants of an enum", |reader| {
                Ok(Variant { name: text(reader)?, former_names: names(reader)?, fields: fields(reader, depth)? })
            })?,
        },
        15 => Schema::Recursive(text(reader)?),
        16 => Schema::Opaque(text(reader)?),
        17 => Schema::Framed(text(reader)?),
        _ => return Err(reader.invalid("kind of schema", 1)),
    })
}

fn bits(reader: &mut Reader<'_>, possible: &[u16]) -> Result<u16, DecodeError> {
    let found = reader.small("width of a number")?;
    possible
        .iter()
        .copied()
        .find(|&bits| u32::from(bits) == found)
        .ok_or_else(|| reader.invalid("width of a number", 1))
}

fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    reader.text("name in a schema").map(str::to_owned)
}

fn names(reader: &mut Reader<'_>) -> Result<Vec<String>, DecodeError> {
    reader.list("former names", text)
}

fn fields(reader: &mut Reader<'_>, depth: u32) -> Result<Vec<Field>, DecodeError> {
    reader.list("fields", |reader| {
        Ok(Field {
            name: text(reader)?,
            former_names: names(reader)?,
            schema: nested(reader, depth + 1)?,
            default: reader
                .optional("default of a field", |reader| reader.bytes("default of a field").map(<[u8]>::to_vec))?,
        })
    })
}
