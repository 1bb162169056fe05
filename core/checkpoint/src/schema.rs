//! The schema of what is kept in state: enough to read it without the type it was written with, and to tell what changed.

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
    /// Bytes in a format of their own; only the type of the same name can read them.
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
