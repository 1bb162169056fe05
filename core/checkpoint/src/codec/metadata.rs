//! The metadata file.
//!
//! Eight bytes that say what it is, the version of the format (u32), the length of what follows the checksum (u64), XXH3-64 of that
//! (u64), all little-endian; then the content.

use weir_model::{CheckpointKind, JobId, OperatorId};
use xxhash_rust::xxh3::xxh3_64;

use super::snapshot::{Known, Shared, read_lists, read_tables, write_lists, write_tables};
use super::{DecodeError, Reader, Writer};
use crate::{CheckpointMetadata, OperatorMetadata, SubtaskState};

/// Say what the file is.
const MAGIC: &[u8; 8] = b"WEIRCHKP";

/// The newest format of metadata that this release reads, and the one it writes.
pub const FORMAT_VERSION: u32 = 1;

/// Why metadata cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// It is something else.
    #[error("it is not the metadata of a checkpoint: it does not begin with WEIRCHKP")]
    NotMetadata,
    /// It was written by a newer release.
    #[error(
        "it has format {found}, and this release reads formats 1 to {supported}; use the release that wrote it, or a newer one"
    )]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest that can be read.
        supported: u32,
    },
    /// There is no such format.
    #[error("it has format 0, which does not exist: the file is damaged")]
    NoFormat,
    /// The file is shorter or longer than it was written.
    #[error("it has {found} bytes and should have {expected}: the file is damaged")]
    Length {
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// Its content is not what was written.
    #[error("its checksum is {found:016x} and should be {expected:016x}: the file is damaged")]
    Checksum {
        /// As written.
        expected: u64,
        /// Of what is there.
        found: u64,
    },
    /// Its content makes no sense, although its checksum is right.
    #[error("its content {0}")]
    Content(#[from] DecodeError),
}

impl CheckpointMetadata {
    /// The content of the metadata file in the folder `directory`. What lies in that folder is referred to relative to it, so that
    /// the folder can be moved as a whole.
    pub fn encode(&self, directory: &str) -> Vec<u8> {
        let mut shared = Shared::new();
        let mut body = Writer::default();
        self.write(&mut shared, &mut body);
        let mut content = Writer::default();
        shared.write(Some(directory), &mut content);
        content.raw(&body.into_bytes());
        let content = content.into_bytes();
        let mut out = Writer::default();
        out.raw(MAGIC);
        out.raw(&FORMAT_VERSION.to_le_bytes());
        out.raw(&(content.len() as u64).to_le_bytes());
        out.raw(&xxh3_64(&content).to_le_bytes());
        out.raw(&content);
        out.into_bytes()
    }

    /// Reads the metadata file of the folder `directory`.
    pub fn decode(bytes: &[u8], directory: &str) -> Result<Self, MetadataError> {
        let mut reader = Reader::new(bytes);
        if !bytes.starts_with(MAGIC) {
            return Err(MetadataError::NotMetadata);
        }
        reader.raw(MAGIC.len(), "beginning")?;
        match u32::from_le_bytes(reader.fixed("version")?) {
            FORMAT_VERSION => {}
            0 => return Err(MetadataError::NoFormat),
            found => return Err(MetadataError::NewerFormat { found, supported: FORMAT_VERSION }),
        }
        let length = u64::from_le_bytes(reader.fixed("length")?);
        let expected = u64::from_le_bytes(reader.fixed("checksum")?);
        let header = (bytes.len() - reader.remaining()) as u64;
        if length != reader.remaining() as u64 {
            return Err(MetadataError::Length { expected: header.saturating_add(length), found: bytes.len() as u64 });
        }
        let content = reader.raw(reader.remaining(), "content")?;
        let found = xxh3_64(content);
        if found != expected {
            return Err(MetadataError::Checksum { expected, found });
        }
        let mut reader = Reader::new(content);
        let known = Known::read(Some(directory), &mut reader)?;
        let metadata = Self::read(&known, &mut reader)?;
        reader.end()?;
        Ok(metadata)
    }

    fn write<'a>(&'a self, shared: &mut Shared<'a>, out: &mut Writer) {
        out.raw(self.job.as_bytes());
        out.text(&self.job_name);
        out.number(self.checkpoint);
        out.raw(&self.timestamp.to_le_bytes());
        out.byte(kind_tag(self.kind));
        out.list(&self.enumerators, |out, (operator, state)| {
            out.raw(operator.as_bytes());
            out.bytes(state);
        });
        out.list(&self.committables, |out, (operator, payloads)| {
            out.raw(operator.as_bytes());
            out.list(payloads, |out, payload| out.bytes(payload));
        });
        out.count(self.operators.len());
        for operator in &self.operators {
            out.raw(operator.id.as_bytes());
            out.text(&operator.name);
            out.optional(operator.uid.as_deref(), Writer::text);
            out.number(u64::from(operator.parallelism));
            out.number(u64::from(operator.max_parallelism));
            out.list(&operator.finished, |out, &subtask| out.number(u64::from(subtask)));
            out.count(operator.subtasks.len());
            for state in &operator.subtasks {
                out.number(u64::from(state.subtask));
                write_tables(&state.tables, shared, out);
                write_lists(&state.lists, shared, out);
            }
        }
    }

    fn read(known: &Known, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            job: JobId::from_bytes(reader.fixed("id of the job")?),
            job_name: reader.text("name of the job")?.to_owned(),
            checkpoint: reader.number("number of the checkpoint")?,
            timestamp: i64::from_le_bytes(reader.fixed("time")?),
            kind: read_kind(reader)?,
            enumerators: reader.list("enumerators", |reader| {
                Ok((read_operator(reader)?, reader.bytes("state of an enumerator")?.to_vec()))
            })?,
            committables: reader.list("output", |reader| {
                let payload = |reader: &mut Reader<'_>| reader.bytes("output of a sink").map(<[u8]>::to_vec);
                Ok((read_operator(reader)?, reader.list("output of a sink", payload)?))
            })?,
            operators: reader.list("operators", |reader| {
                Ok(OperatorMetadata {
                    id: read_operator(reader)?,
                    name: reader.text("name of an operator")?.to_owned(),
                    uid: reader.optional("uid", |reader| reader.text("uid").map(str::to_owned))?,
                    parallelism: reader.small("parallelism")?,
                    max_parallelism: reader.small("max-parallelism")?,
                    finished: reader.list("finished subtasks", |reader| reader.small("finished subtask"))?,
                    subtasks: reader.list("subtasks", |reader| {
                        Ok(SubtaskState {
                            subtask: reader.small("subtask")?,
                            tables: read_tables(known, reader)?,
                            lists: read_lists(known, reader)?,
                        })
                    })?,
                })
            })?,
        })
    }
}

fn read_operator(reader: &mut Reader<'_>) -> Result<OperatorId, DecodeError> {
    reader.fixed("id of an operator").map(OperatorId::from_bytes)
}

fn kind_tag(kind: CheckpointKind) -> u8 {
    match kind {
        CheckpointKind::Checkpoint => 0,
        CheckpointKind::Savepoint => 1,
        CheckpointKind::Suspend => 2,
        CheckpointKind::Drain => 3,
    }
}

fn read_kind(reader: &mut Reader<'_>) -> Result<CheckpointKind, DecodeError> {
    let tag = reader.byte("kind of checkpoint")?;
    let found = CheckpointKind::ALL.into_iter().find(|&kind| kind_tag(kind) == tag);
    found.ok_or_else(|| reader.invalid("kind of checkpoint", 1))
}
