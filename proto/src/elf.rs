//! As much of an ELF file as tells a job's executable from anything else.

use std::env::consts::ARCH;
use std::fmt;
use std::io::{Read, Seek, SeekFrom};

use crate::artifact::ArtifactNote;
use crate::worker::PROTOCOL_VERSION;

/// Why a file is no job's executable for this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAJob {
    /// Not ELF but this.
    NotElf(&'static str),
    /// The file ends before what it says it has.
    Truncated,
    /// A program for another machine.
    Architecture {
        /// Which one.
        found: String,
    },
    /// ELF, but no program.
    NotAProgram(&'static str),
    /// A program, but without the note that the SDK puts into a job's executable.
    NoNote,
    /// A job whose SDK speaks another version of the protocol.
    Protocol {
        /// The version it speaks.
        found: u32,
        /// The version of its SDK.
        sdk: String,
    },
}

impl NotAJob {
    /// A sentence for people about the file they know as `shown`.
    pub fn explain(&self, shown: impl fmt::Display) -> String {
        match self {
            NotAJob::NotElf(found) => {
                format!(
                    "{shown} is {found}, not an executable of this system: expected what `cargo build` makes of a job"
                )
            }
            NotAJob::Truncated => format!("{shown} is cut short: build or copy it again"),
            NotAJob::Architecture { found } => format!(
                "{shown} is for another architecture: it is built for {found}, this machine is {ARCH}; build it with --target {ARCH}-unknown-linux-gnu",
            ),
            NotAJob::NotAProgram(found) => format!("{shown} is {found}, not a program: expected a job's executable"),
            NotAJob::NoNote => format!(
                "{shown} is a program, but no Weir job: a job's `main` is made by `weir::main!`, from the crate `weir` of this version"
            ),
            NotAJob::Protocol { found, sdk } => format!(
                "{shown} is a job of another version of Weir: its SDK {sdk} speaks version {found} of the protocol, this is Weir {} \
                 with version {PROTOCOL_VERSION}; build it with the crate `weir` of this version",
                env!("CARGO_PKG_VERSION")
            ),
        }
    }
}

/// `e_machine` of the architectures people have, by the name Rust gives them.
const MACHINES: [(u16, &str); 10] = [
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (258, "loongarch64"),
];

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const TYPE_NOTE: u32 = 4;
/// More than any file has; a wrong number is not followed further.
const MAX_PROGRAM_HEADERS: u16 = 1024;
const MAX_NOTE_BYTES: u64 = 1 << 20;

/// Looks at `file` for the note of a job. The outer error is one of reading. What the note says is not judged; see
/// [`check_protocol`].
pub fn check(file: &mut (impl Read + Seek)) -> std::io::Result<Result<ArtifactNote, NotAJob>> {
    let mut head = Vec::new();
    file.rewind()?;
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut head)?;
    let head = head.as_slice();
    let headers = match program_headers(head) {
        Ok(headers) => headers,
        Err(what) => return Ok(Err(what)),
    };
    let length = file.seek(SeekFrom::End(0))?;
    if headers.end_of_sections > length {
        return Ok(Err(NotAJob::Truncated));
    }
    let mut found = None;
    for index in 0..u64::from(headers.count) {
        let start = headers.start.saturating_add(index * u64::from(headers.size));
        let mut header = [0; PROGRAM_HEADER_BYTES];
        if !read_at(file, start, &mut header)? {
            return Ok(Err(NotAJob::Truncated));
        }
        let (offset, size, alignment) = (u64_at(&header, 8), u64_at(&header, 32), u64_at(&header, 48));
        if offset.checked_add(size).is_none_or(|end| end > length) {
            return Ok(Err(NotAJob::Truncated));
        }
        if u32_at(&header, 0) != TYPE_NOTE || found.is_some() {
            continue;
        }
        let mut segment = vec![0; size.min(MAX_NOTE_BYTES) as usize];
        if !read_at(file, offset, &mut segment)? {
            return Ok(Err(NotAJob::Truncated));
        }
        found = ArtifactNote::find(&segment, alignment);
    }
    Ok(found.ok_or(NotAJob::NoNote))
}

/// An error unless processes of this version can talk to the job.
pub fn check_protocol(note: &ArtifactNote) -> Result<(), NotAJob> {
    if note.protocol() == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(NotAJob::Protocol { found: note.protocol(), sdk: note.version() })
}

struct ProgramHeaders {
    start: u64,
    size: u16,
    count: u16,
    /// The table of sections is what linkers write last.
    end_of_sections: u64,
}

fn program_headers(head: &[u8]) -> Result<ProgramHeaders, NotAJob> {
    if !head.starts_with(b"\x7fELF") {
        return Err(NotAJob::NotElf(other_format(head)));
    }
    let Some((wide, little)) = head.get(4).zip(head.get(5)).map(|(class, data)| (*class == 2, *data == 1)) else {
        return Err(NotAJob::Truncated);
    };
    let Some(machine) = head.get(18..20).map(|bytes| [bytes[0], bytes[1]]) else { return Err(NotAJob::Truncated) };
    let machine = if little { u16::from_le_bytes(machine) } else { u16::from_be_bytes(machine) };
    let name = MACHINES.iter().find(|(number, _)| *number == machine).map(|(_, name)| *name);
    let same = wide == cfg!(target_pointer_width = "64") && little == cfg!(target_endian = "little");
    if name != Some(ARCH) || !same {
        let found = name.map_or_else(|| format!("machine {machine}"), str::to_owned);
        let bits = if wide { 64 } else { 32 };
        let order = if little { "little" } else { "big" };
        return Err(NotAJob::Architecture { found: format!("{found} ({bits} bits, {order}-endian)") });
    }
    if head.len() < HEADER_BYTES {
        return Err(NotAJob::Truncated);
    }
    match u16_at(head, 16) {
        2 | 3 => {}
        1 => return Err(NotAJob::NotAProgram("an object file")),
        4 => return Err(NotAJob::NotAProgram("a core dump")),
        _ => return Err(NotAJob::NotAProgram("an ELF file of an unknown type")),
    }
    let sections = u64::from(u16_at(head, 58)) * u64::from(u16_at(head, 60));
    let headers = ProgramHeaders {
        start: u64_at(head, 32),
        size: u16_at(head, 54),
        count: u16_at(head, 56),
        end_of_sections: u64_at(head, 40).saturating_add(sections),
    };
    match headers {
        ProgramHeaders { size, count, .. } if usize::from(size) < PROGRAM_HEADER_BYTES && count > 0 => {
            Err(NotAJob::Truncated)
        }
        ProgramHeaders { count, .. } if count > MAX_PROGRAM_HEADERS => Err(NotAJob::Truncated),
        headers => Ok(headers),
    }
}

/// What a file that is not ELF is, by its first bytes.
fn other_format(head: &[u8]) -> &'static str {
    let begins = |magic: &[u8]| head.starts_with(magic);
    match head {
        [] => "an empty file",
        _ if begins(b"#!") => "a script",
        _ if begins(b"PK\x03\x04") => "a zip or Java archive",
        _ if begins(b"MZ") => "a program for Windows",
        _ if [&b"\xcf\xfa\xed\xfe"[..], b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe"].iter().any(|m| begins(m)) => {
            "a program for macOS or a Java class"
        }
        _ if begins(b"\0asm") => "a WebAssembly module",
        _ if begins(b"\x1f\x8b") || begins(b"\x28\xb5\x2f\xfd") => "a compressed file",
        _ if begins(b"!<arch>\n") => "a static library",
        _ if head.iter().all(|byte| !byte.is_ascii_control() || byte.is_ascii_whitespace()) => "a text",
        _ => "a file of an unknown kind",
    }
}

/// Fills `buffer` from `start` on; false if the file ends before.
fn read_at(file: &mut (impl Read + Seek), start: u64, buffer: &mut [u8]) -> std::io::Result<bool> {
    let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(buffer));
    match read {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidInput) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

// The byte order is this machine's: another one was refused.
fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_ne_bytes(*bytes[offset..].first_chunk().expect("headers are read whole"))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_ne_bytes(*bytes[offset..].first_chunk().expect("headers are read whole"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_ne_bytes(*bytes[offset..].first_chunk().expect("headers are read whole"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn look_at(bytes: &[u8]) -> Result<ArtifactNote, NotAJob> {
        check(&mut Cursor::new(bytes)).unwrap()
    }

    fn this_program() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    #[test]
    fn a_program_without_the_note_is_no_job() {
        assert_eq!(look_at(&this_program()).unwrap_err(), NotAJob::NoNote);
    }

    #[test]
    fn a_broken_file_is_refused_wherever_it_ends() {
        let program = this_program();
        for length in (4..200).chain([1000, program.len() / 3, program.len() - 1]) {
            assert_eq!(look_at(&program[..length]).unwrap_err(), NotAJob::Truncated, "{length} bytes");
        }
        let mut program = program[..4096].to_vec();
        // The table of program headers lies behind the end of all numbers.
        program[32..40].fill(0xff);
        assert_eq!(look_at(&program).unwrap_err(), NotAJob::Truncated);
    }

    #[test]
    fn a_job_of_another_version_is_refused_by_name() {
        assert_eq!(check_protocol(&ArtifactNote::new(PROTOCOL_VERSION, "0.1.0")), Ok(()));
        let refused = check_protocol(&ArtifactNote::new(9999, "77.1.2")).unwrap_err().explain("my-job");
        assert!(refused.starts_with("my-job is a job of another version of Weir: its SDK 77.1.2"), "{refused}");
        assert!(refused.contains("version 9999 of the protocol"), "{refused}");
    }

    #[test]
    fn files_of_other_machines_and_kinds_are_named() {
        let mut program = this_program();
        program[16] = 1;
        assert_eq!(look_at(&program).unwrap_err(), NotAJob::NotAProgram("an object file"));
        program[18..20].copy_from_slice(&22u16.to_ne_bytes());
        let NotAJob::Architecture { found } = look_at(&program).unwrap_err() else { panic!("not refused") };
        assert!(found.starts_with("s390x (64 bits"), "{found}");
        let kinds: [(&[u8], &str); 6] = [
            (b"", "an empty file"),
            (b"#!/bin/sh\n", "a script"),
            (b"PK\x03\x04...", "a zip or Java archive"),
            (b"MZ\x90", "a program for Windows"),
            (b"hello\n", "a text"),
            (b"\x01\x02", "a file of an unknown kind"),
        ];
        for (bytes, expect) in kinds {
            assert_eq!(look_at(bytes).unwrap_err(), NotAJob::NotElf(expect));
        }
    }
}
