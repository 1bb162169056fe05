//! Sixteen-byte ids, written as 32 lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

/// A text that is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a {expected}: expected 32 hexadecimal digits, {problem}")]
pub struct ParseIdError {
    expected: &'static str,
    found: String,
    problem: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id with exactly these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The id's bytes, in the order they are written.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                write_hex(&self.0, f)?;
                f.write_str(")")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text)
                    .map(Self)
                    .map_err(|problem| ParseIdError { expected: $what, found: excerpt(text), problem })
            }
        }
    };
}

id! {
    /// Names one submission of a job. Drawn at random by whoever accepts the job.
    JobId, "job id"
}

id! {
    /// Names a vertex of a JobGraph; the same in every run of the same builder.
    VertexId, "vertex id"
}

id! {
    /// Names an operator, and with it the operator's state; the same in every run of the same builder.
    OperatorId, "operator id"
}

/// Names a TaskManager: free text without spaces, chosen by whoever starts it. What Flink calls a ResourceID.
///
/// Shared, because it stands beside every slot and every task.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskManagerId(Arc<str>);

impl TaskManagerId {
    /// The id with this text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for TaskManagerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskManagerId({})", self.0)
    }
}

/// Names a file by its content: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactId([u8; 32]);

impl ArtifactId {
    /// The id with exactly these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The digest, in the order it is written.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ArtifactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ArtifactId({self})")
    }
}

impl FromStr for ArtifactId {
    type Err = ParseArtifactIdError;

    fn from_str(text: &str) -> Result<Self, ParseArtifactIdError> {
        let wrong = || ParseArtifactIdError { found: excerpt(text) };
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// A text that is not an [`ArtifactId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not the SHA-256 of an artifact: expected 64 hexadecimal digits")]
pub struct ParseArtifactIdError {
    found: String,
}

impl VertexId {
    /// The id derived from `seed` by XXH3-128 (big-endian), e.g. from a uid. Equal seeds give equal ids.
    pub fn from_seed(seed: &[u8]) -> Self {
        Self(xxh3_128(seed).to_be_bytes())
    }
}

impl OperatorId {
    /// The id derived from `seed` by XXH3-128 (big-endian), e.g. from a uid. Equal seeds give equal ids.
    pub fn from_seed(seed: &[u8]) -> Self {
        Self(xxh3_128(seed).to_be_bytes())
    }
}

/// A vertex carries the id of its first operator.
impl From<OperatorId> for VertexId {
    fn from(operator: OperatorId) -> Self {
        Self(operator.0)
    }
}

fn write_hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{:032x}", u128::from_be_bytes(*bytes))
}

fn parse_hex(text: &str) -> Result<[u8; 16], String> {
    // Checked by hand because integer parsing also takes a leading `+`.
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("found the character {bad:?}"));
    }
    if text.len() != 32 {
        return Err(format!("found {}", text.len()));
    }
    u128::from_str_radix(text, 16).map(u128::to_be_bytes).map_err(|error| error.to_string())
}

/// Keeps an error message readable when the text is a whole file by mistake.
fn excerpt(text: &str) -> String {
    const LIMIT: usize = 64;
    match text.char_indices().nth(LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_hex_and_parse_back() {
        let id = JobId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("000102030405060708090A0B0C0D0EFF".parse(), Ok(id));
        assert_eq!(format!("{id:?}"), "JobId(000102030405060708090a0b0c0d0eff)");
    }

    #[test]
    fn seeds_give_fixed_ids() {
        assert_eq!(OperatorId::from_seed(b"").to_string(), "99aa06d3014798d86001c324468d497f");
        let counts = OperatorId::from_seed(b"counts");
        assert_eq!(counts, OperatorId::from_seed(b"counts"));
        assert_ne!(counts, OperatorId::from_seed(b"count"));
        assert_eq!(VertexId::from(counts), VertexId::from_seed(b"counts"));
    }

    #[test]
    fn artifact_ids_print_as_hex_and_parse_back() {
        let id = ArtifactId::from_bytes([0xa7; 32]);
        assert_eq!(id.to_string(), "a7".repeat(32));
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "a7", &"g7".repeat(32), &"é".repeat(32)] {
            let error = wrong.parse::<ArtifactId>().expect_err(wrong).to_string();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn a_wrong_id_is_explained() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<VertexId>().expect_err(text).to_string();
            assert!(error.contains("vertex id") && error.contains(expect), "{error}");
        };
        check("", "found 0");
        check("abc", "found 3");
        check("+00102030405060708090a0b0c0d0eff", "found the character '+'");
        check("g00102030405060708090a0b0c0d0eff", "found the character 'g'");
        check(&"a".repeat(1000), "found 1000");
        check(&"é".repeat(1000), "found the character 'é'");
    }
}
