//! How a job's executable is told from any other program, and asked what is in it.
//!
//! The executable carries an ELF note, so whoever is given a file knows what it is before anything of it runs. What the
//! note cannot say, because code decides it, is asked with [`ROLE_VARIABLE`].

pub use crate::elf::{NotAJob, check, check_protocol};

/// Environment variable that tells a job's executable to do something else than to run a job.
///
/// With [`ROLE_DESCRIBE`] it prints one line of JSON and exits with 0:
/// `{"weir":"0.1.0","protocol":1,"jobs":[{"name":"wordcount"}]}`. Readers ignore fields they do not know. A role that the
/// executable does not know ends it with exit code 2 and a message.
pub const ROLE_VARIABLE: &str = "WEIR_ROLE";

/// Value of [`ROLE_VARIABLE`]: describe yourself.
pub const ROLE_DESCRIBE: &str = "describe";

/// Name of the section that holds the note. Tools that strip executables keep it, because it is loaded.
pub const NOTE_SECTION: &str = ".note.weir";

const NAME: [u8; 8] = *b"Weir\0\0\0\0";
/// The terminating zero counts, the padding does not.
const NAME_SIZE: u32 = 5;
const KIND: u32 = 1;
const VERSION_BYTES: usize = 24;

/// The note as it lies in an executable: an `Elf_Nhdr`, the name, and what it says.
#[repr(C, align(4))]
#[derive(Debug, Clone, Copy)]
pub struct ArtifactNote {
    name_size: u32,
    description_size: u32,
    kind: u32,
    name: [u8; 8],
    protocol: u32,
    version: [u8; VERSION_BYTES],
}

impl ArtifactNote {
    /// A note of an SDK of this version.
    ///
    /// Panics, which in a constant is an error of the compiler, if the version is longer than 24 bytes.
    pub const fn new(protocol: u32, version: &str) -> ArtifactNote {
        let mut bytes = [0; VERSION_BYTES];
        let (head, _) = bytes.split_at_mut(version.len());
        head.copy_from_slice(version.as_bytes());
        let description_size = (size_of::<u32>() + VERSION_BYTES) as u32;
        ArtifactNote { name_size: NAME_SIZE, description_size, kind: KIND, name: NAME, protocol, version: bytes }
    }

    /// Version of the protocol between the executable and the process that starts it.
    pub fn protocol(&self) -> u32 {
        self.protocol
    }

    /// Version of the SDK in the executable.
    pub fn version(&self) -> String {
        let end = self.version.iter().position(|byte| *byte == 0).unwrap_or(VERSION_BYTES);
        String::from_utf8_lossy(&self.version[..end]).into_owned()
    }

    /// The note in a segment of type `PT_NOTE` of this machine's byte order; `None` if there is none in it.
    pub fn find(segment: &[u8], alignment: u64) -> Option<ArtifactNote> {
        // Everything is padded to 4 bytes, or to 8 in a segment that is aligned to 8.
        let unit = if alignment == 8 { 8 } else { 4 };
        let number = |offset: usize| Some(u32::from_ne_bytes(*segment.get(offset..)?.first_chunk()?));
        let mut start = 0;
        loop {
            let (name_size, size, kind) = (number(start)?, number(start + 4)?, number(start + 8)?);
            let name = segment.get(start + 12..)?.get(..name_size as usize)?;
            let description_start = (start + 12 + name_size as usize).next_multiple_of(unit);
            let description = segment.get(description_start..)?.get(..size as usize)?;
            if kind == KIND && name == &NAME[..NAME_SIZE as usize] {
                let (protocol, rest) = description.split_first_chunk()?;
                let version = *rest.first_chunk()?;
                let protocol = u32::from_ne_bytes(*protocol);
                return Some(ArtifactNote { protocol, version, ..ArtifactNote::new(0, "") });
            }
            start = (description_start + size as usize).next_multiple_of(unit);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(note: &ArtifactNote) -> Vec<u8> {
        let numbers = [note.name_size, note.description_size, note.kind].map(u32::to_ne_bytes).concat();
        [&numbers, &note.name[..], &note.protocol.to_ne_bytes(), &note.version].concat()
    }

    #[test]
    fn the_note_is_found_behind_others() {
        let note = ArtifactNote::new(7, "1.22.333-beta.1");
        let build_id = [&[4u32, 20, 3].map(u32::to_ne_bytes).concat()[..], b"GNU\0", &[9; 20]].concat();
        let segment = [build_id.clone(), bytes(&note)].concat();
        let found = ArtifactNote::find(&segment, 4).expect("found");
        assert_eq!((found.protocol(), found.version().as_str()), (7, "1.22.333-beta.1"));
        assert_eq!(bytes(&note).len(), size_of::<ArtifactNote>());
        assert!(ArtifactNote::find(&build_id, 4).is_none());
        assert!(ArtifactNote::find(&segment[..segment.len() - 1], 4).is_none(), "cut short");
        assert_eq!(ArtifactNote::new(1, "123456789012345678901234").version().len(), VERSION_BYTES);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(segment in prop::collection::vec(any::<u8>(), 0..200), alignment in 0u64..16) {
            let _ = ArtifactNote::find(&segment, alignment);
        }
    }
}
