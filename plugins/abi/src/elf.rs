//! Looks into a plugin's file before the dynamic linker does.
//!
//! Mapping a truncated library and touching its missing pages raises SIGBUS, and loading one runs its constructors. So the file's bounds are
//! checked first, and the head of its provider table (magic, versions, size, kind of panics) is read out of the file itself:
//! nothing of a file that is no plugin of this version is ever run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::LoadProblem;
use crate::abi;

const ELF_HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;
const SECTION_HEADER: u64 = 64;
const SYMBOL: u64 = 24;
/// The fields of a provider table that lie in the file as they are: everything before the first pointer.
const TABLE_HEAD: u64 = 24;
const TABLE_SIZE: u64 = size_of::<abi::ProviderTable>() as u64;
/// More than any library has; keeps a damaged header from asking for gigabytes.
const MAX_TABLE: u64 = 1 << 28;

const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const SHT_NULL: u32 = 0;
const SHT_NOBITS: u32 = 8;
const SHT_DYNSYM: u32 = 11;

#[cfg(target_arch = "x86_64")]
const MACHINE: (u16, &str) = (62, "x86-64");
#[cfg(target_arch = "aarch64")]
const MACHINE: (u16, &str) = (183, "64-bit ARM");
#[cfg(target_arch = "riscv64")]
const MACHINE: (u16, &str) = (243, "RISC-V");
#[cfg(not(all(
    target_endian = "little",
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
compile_error!("plugins are loaded on 64-bit little-endian Linux only: add the machine to plugins/abi/src/elf.rs");

/// Checks that the file at `path` is a whole library for this machine with a provider table that this version understands.
pub(crate) fn check(path: &Path) -> Result<(), LoadProblem> {
    let unreadable = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => LoadProblem::NotFound("Check the path".to_owned()),
        _ => LoadProblem::Unreadable(error.to_string()),
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder" } else { "a device, socket or pipe" };
        return Err(LoadProblem::NotALibrary { found: found.to_owned() });
    }
    let file = File::open(path).map_err(unreadable)?;
    Library { file, size: metadata.len() }.check()
}

struct Library {
    file: File,
    size: u64,
}

struct Segment {
    offset: u64,
    address: u64,
    file_size: u64,
}

struct Section {
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
}

struct Symbol {
    address: u64,
    size: u64,
}

impl Library {
    fn check(&self) -> Result<(), LoadProblem> {
        let header = self.header()?;
        let segments = self.segments(&header)?;
        let sections = self.sections(&header)?;
        let symbol = self.provider_symbol(&sections)?;
        self.check_table(&segments, &symbol)
    }

    /// The bytes `[offset, offset + len)`, which are in the file if it is whole.
    fn bytes(&self, part: &'static str, offset: u64, len: u64) -> Result<Vec<u8>, LoadProblem> {
        self.require(part, offset, len)?;
        if len > MAX_TABLE {
            return Err(LoadProblem::Damaged(format!("its {part} claims to have {len} bytes")));
        }
        let mut bytes = vec![0; len as usize];
        self.file.read_exact_at(&mut bytes, offset).map_err(|error| LoadProblem::Unreadable(error.to_string()))?;
        Ok(bytes)
    }

    fn require(&self, part: &'static str, offset: u64, len: u64) -> Result<(), LoadProblem> {
        match offset.checked_add(len) {
            None => Err(LoadProblem::Damaged(format!("its {part} ends beyond any file"))),
            Some(needs) if needs > self.size => Err(LoadProblem::Truncated { size: self.size, part, needs }),
            Some(_) => Ok(()),
        }
    }

    fn header(&self) -> Result<Vec<u8>, LoadProblem> {
        let start = self.bytes("beginning", 0, self.size.min(ELF_HEADER))?;
        if !start.starts_with(b"\x7fELF") {
            return Err(LoadProblem::NotALibrary { found: looks_like(&start) });
        }
        self.require("ELF header", 0, ELF_HEADER)?;
        let (bits, order, machine, kind) = (start[4], start[5], u16_at(&start, 18), u16_at(&start, 16));
        if (bits, order, machine) != (2, 1, MACHINE.0) {
            let found = architecture(bits, order, machine);
            return Err(LoadProblem::OtherArchitecture { found, expected: MACHINE.1 });
        }
        match kind {
            ET_DYN => Ok(start),
            1 => Err(LoadProblem::NotALibrary { found: "an object file that is not linked".to_owned() }),
            2 => Err(LoadProblem::NotALibrary { found: "a program".to_owned() }),
            4 => Err(LoadProblem::NotALibrary { found: "a core dump".to_owned() }),
            other => Err(LoadProblem::Damaged(format!("its ELF type is {other}, that of a library is {ET_DYN}"))),
        }
    }

    fn segments(&self, header: &[u8]) -> Result<Vec<Segment>, LoadProblem> {
        let (offset, each, count) = (u64_at(header, 32), u16_at(header, 54), u16_at(header, 56));
        if u64::from(each) != PROGRAM_HEADER {
            return Err(LoadProblem::Damaged(format!(
                "its program headers have {each} bytes instead of {PROGRAM_HEADER}"
            )));
        }
        let table = self.bytes("program header table", offset, u64::from(count) * PROGRAM_HEADER)?;
        let mut segments = Vec::new();
        for entry in table.chunks_exact(PROGRAM_HEADER as usize) {
            let segment =
                Segment { offset: u64_at(entry, 8), address: u64_at(entry, 16), file_size: u64_at(entry, 32) };
            self.require("program segment", segment.offset, segment.file_size)?;
            if u32_at(entry, 0) != PT_LOAD {
                continue;
            }
            if segment.file_size > u64_at(entry, 40) {
                return Err(LoadProblem::Damaged("a segment is larger in the file than in memory".to_owned()));
            }
            segments.push(segment);
        }
        Ok(segments)
    }

    fn sections(&self, header: &[u8]) -> Result<Vec<Section>, LoadProblem> {
        let (offset, each, count) = (u64_at(header, 40), u16_at(header, 58), u16_at(header, 60));
        if offset == 0 || u64::from(each) != SECTION_HEADER {
            return Err(LoadProblem::Damaged("it has no section headers (was it stripped of them?)".to_owned()));
        }
        let table = self.bytes("section header table", offset, u64::from(count) * SECTION_HEADER)?;
        let entries = table.chunks_exact(SECTION_HEADER as usize);
        let sections: Vec<Section> = entries
            .map(|entry| Section {
                kind: u32_at(entry, 4),
                offset: u64_at(entry, 24),
                size: u64_at(entry, 32),
                link: u32_at(entry, 40),
            })
            .collect();
        // What a copy that was broken off has where the rest should be.
        if sections.iter().all(|section| section.kind == SHT_NULL) {
            return Err(LoadProblem::Damaged("its section headers are empty".to_owned()));
        }
        for section in sections.iter().filter(|section| section.kind != SHT_NOBITS) {
            self.require("section", section.offset, section.size)?;
        }
        Ok(sections)
    }

    /// Where the provider table is.
    fn provider_symbol(&self, sections: &[Section]) -> Result<Symbol, LoadProblem> {
        let Some(dynamic) = sections.iter().find(|section| section.kind == SHT_DYNSYM) else {
            return Err(LoadProblem::NotAPlugin);
        };
        let Some(names) = sections.get(dynamic.link as usize) else {
            return Err(LoadProblem::Damaged("its symbols have no names".to_owned()));
        };
        let symbols = self.bytes("symbol table", dynamic.offset, dynamic.size)?;
        let names = self.bytes("symbol names", names.offset, names.size)?;
        let mut other_major = None;
        for entry in symbols.chunks_exact(SYMBOL as usize) {
            let defined = u16_at(entry, 6) != 0;
            let name = names.get(u32_at(entry, 0) as usize..).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            let Some(major) = name.strip_prefix(abi::SYMBOL_STEM.as_bytes()) else { continue };
            if !defined {
                continue;
            }
            if name == abi::SYMBOL.as_bytes() {
                return Ok(Symbol { address: u64_at(entry, 8), size: u64_at(entry, 16) });
            }
            other_major = other_major.or(std::str::from_utf8(major).ok().and_then(|major| major.parse().ok()));
        }
        Err(match other_major {
            Some(found) => LoadProblem::OtherMajor { found },
            None => LoadProblem::NotAPlugin,
        })
    }

    fn check_table(&self, segments: &[Segment], symbol: &Symbol) -> Result<(), LoadProblem> {
        if !symbol.address.is_multiple_of(align_of::<abi::ProviderTable>() as u64) {
            return Err(LoadProblem::NotATable("it is not aligned to 8 bytes".to_owned()));
        }
        let holds = |segment: &&Segment| {
            symbol.address >= segment.address
                && symbol.address.saturating_add(TABLE_HEAD) <= segment.address.saturating_add(segment.file_size)
        };
        let Some(segment) = segments.iter().find(holds) else {
            return Err(LoadProblem::NotATable("it is not among the initialized data".to_owned()));
        };
        let head = self.bytes("provider table", segment.offset + (symbol.address - segment.address), TABLE_HEAD)?;
        if head[..8] != abi::MAGIC {
            let expected = String::from_utf8_lossy(&abi::MAGIC);
            return Err(LoadProblem::NotATable(format!("it does not begin with {expected:?}")));
        }
        let major = u32_at(&head, 8);
        if major != abi::ABI_MAJOR {
            return Err(LoadProblem::OtherMajor { found: major });
        }
        // A symbol's size is what the compiler made, struct_size is what the author claims: neither may be less than is read later.
        let claimed = u64::from(u32_at(&head, 16));
        let size = if symbol.size == 0 { claimed } else { claimed.min(symbol.size) };
        if size < TABLE_SIZE {
            return Err(LoadProblem::TableTooSmall { found: size, expected: TABLE_SIZE });
        }
        match head[20] {
            abi::PANICS_NONE | abi::PANICS_UNWIND => Ok(()),
            abi::PANICS_ABORT => Err(LoadProblem::AbortsOnPanic),
            other => Err(LoadProblem::NotATable(format!("its field panics is {other}, which means nothing"))),
        }
    }
}

fn looks_like(start: &[u8]) -> String {
    if start.is_empty() {
        return "an empty file".to_owned();
    }
    match start {
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "a static library (.a)".to_owned(),
        [b'#', b'!', ..] => "a script".to_owned(),
        [b'M', b'Z', ..] => "a Windows file".to_owned(),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] => "a macOS file".to_owned(),
        _ if start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => "a text file".to_owned(),
        _ => "a file of another kind (its first bytes are not those of ELF)".to_owned(),
    }
}

fn architecture(bits: u8, order: u8, machine: u16) -> String {
    let name = match machine {
        3 => "32-bit x86",
        40 => "32-bit ARM",
        62 => "x86-64",
        183 => "64-bit ARM",
        243 => "RISC-V",
        other => return format!("another machine (ELF machine number {other})"),
    };
    match (bits, order) {
        (1, _) => format!("{name}, 32-bit"),
        (_, 2) => format!("{name}, big-endian"),
        (_, _) => name.to_owned(),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
