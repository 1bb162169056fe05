//! What writers hand to the committer.

use weir::Record;
use weir::record::{Decoder, Record as _};

use crate::client::ProducerIdentity;

/// Form of the encoded committable.
const VERSION: u8 = 1;

/// What a writer has done for a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub(super) struct KafkaCommittable {
    pub(super) run: String,
    pub(super) subtask: u32,
    /// Number of subtasks.
    pub(super) parallelism: u32,
    pub(super) attempt: u32,
    /// None if nothing was written. The committable says then that this attempt is the one that counts.
    pub(super) transaction: Option<Prepared>,
}

/// A transaction that is complete and waits for its commit.
#[derive(Debug, Clone, PartialEq, Eq, Record)]
pub(super) struct Prepared {
    pub(super) id: String,
    pub(super) producer: i64,
    pub(super) epoch: i16,
}

impl Prepared {
    pub(super) fn identity(&self) -> ProducerIdentity {
        ProducerIdentity { id: self.producer, epoch: self.epoch }
    }
}

impl KafkaCommittable {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        self.encode(&mut bytes);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<KafkaCommittable, String> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => {
                KafkaCommittable::decode(&mut Decoder::new(rest)).map_err(|error| error.to_string())
            }
            Some((version, _)) => Err(format!("it has version {version}, expected is {VERSION}")),
            None => Err("it is empty".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_committable_survives_being_stored_and_another_version_is_refused() {
        let committable = KafkaCommittable {
            run: "r".to_owned(),
            subtask: 1,
            parallelism: 2,
            attempt: 3,
            transaction: Some(Prepared { id: "t".to_owned(), producer: 1 << 40, epoch: 7 }),
        };
        let mut bytes = committable.to_bytes();
        assert_eq!(KafkaCommittable::from_bytes(&bytes), Ok(committable));
        bytes[0] = 9;
        assert_eq!(KafkaCommittable::from_bytes(&bytes).unwrap_err(), "it has version 9, expected is 1");
        assert!(KafkaCommittable::from_bytes(&[]).is_err());
    }
}
