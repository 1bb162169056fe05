//! The schema of what is kept in state: enough to read it without the type it was written with, and to tell what changed.

use std::any::TypeId;

/// The layout of a record type, as its bytes tell nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Schema {
    /// No bytes.
    Unit,
    /// One byte, 0 or 1.
    Bool,
    /// An unsigned integer of so many bits: 8, 16, 32, 64 or 128.
    Unsigned(u16),
    /// A signed integer of so many bits.
    Signed(u16),
    /// A floating-point number of so many bits: 32 or 64.
    Float(u16),
    /// A Unicode scalar value.
    Char,
    /// Text: a length and UTF-8.
    Text,
    /// A length and bytes.
    Bytes,
    /// A value that may be absent.
    Optional(Box<Schema>),
    /// A count and that many items.
    List(Box<Schema>),
    /// So many items without a count.
    Array(Box<Schema>, u32),
    /// A count and that many entries.
    Map(Box<Schema>, Box<Schema>),
    /// Fields without names.
    Tuple(Vec<Schema>),
    /// A struct.
    Struct {
        /// Its name; only for messages.
        name: String,
        /// In the order of their bytes.
        fields: Vec<Field>,
    },
    /// One of several variants behind a tag.
    Enum {
        /// Its name; only for messages.
        name: String,
        /// In the order of their tags.
        variants: Vec<Variant>,
    },
    /// A type that contains itself: the struct or enum around it with this name.
    Recursive(String),
    /// A length, and bytes in a format of their own; only the type of the same name can read them.
    Framed(String),
    /// Bytes in a format of their own, which tells where they end; only the type of the same name can read them.
    Opaque(String),
}

/// A field of a struct or variant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name; the position for fields without names.
    pub name: String,
    /// Names it had in earlier versions.
    pub former_names: Vec<String>,
    /// Its layout.
    pub schema: Schema,
    /// The encoded value it has where state was written without it; `None`: there is no default.
    pub default: Option<Vec<u8>>,
}

/// A variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Names it had in earlier versions.
    pub former_names: Vec<String>,
    /// Its fields.
    pub fields: Vec<Field>,
}

/// Builds schemas; knows which types it is inside of, so that a type that contains itself comes to an end.
#[derive(Debug, Default)]
pub struct SchemaBuilder {
    /// Types that are being described, outermost first, with their names.
    open: Vec<(TypeId, String)>,
}

impl SchemaBuilder {
    /// Inside of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The schema of the struct `T`, whose fields `fields` describes.
    pub fn structure<T: 'static>(&mut self, name: &str, fields: impl FnOnce(&mut Self) -> Vec<Field>) -> Schema {
        self.nested::<T>(name, |builder, name| Schema::Struct { name, fields: fields(builder) })
    }

    /// The schema of the enum `T`, whose variants `variants` describes.
    pub fn enumeration<T: 'static>(&mut self, name: &str, variants: impl FnOnce(&mut Self) -> Vec<Variant>) -> Schema {
        self.nested::<T>(name, |builder, name| Schema::Enum { name, variants: variants(builder) })
    }

    fn nested<T: 'static>(&mut self, name: &str, describe: impl FnOnce(&mut Self, String) -> Schema) -> Schema {
        let id = TypeId::of::<T>();
        if let Some((_, name)) = self.open.iter().find(|(open, _)| *open == id) {
            return Schema::Recursive(name.clone());
        }
        // Two types of one name inside each other must be told apart.
        let namesakes = self.open.iter().filter(|(_, open)| open.split('#').next() == Some(name)).count();
        let unique = if namesakes == 0 { name.to_owned() } else { format!("{name}#{}", namesakes + 1) };
        self.open.push((id, unique.clone()));
        let schema = describe(self, unique);
        self.open.pop();
        schema
    }
}
