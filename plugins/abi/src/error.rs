//! Why a plugin could not be loaded.

use std::path::PathBuf;
use std::time::Duration;

use crate::abi;

/// A plugin that could not be loaded. Who: the operator who put the file there, or its author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plugin {} cannot be used: {problem}", path.display())]
pub struct LoadError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: LoadProblem,
}

/// What is wrong with a plugin's file: what was found, what was expected, and how to put it right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadProblem {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// No file for the provider.
    #[error("there is no such file. {0}")]
    NotFound(String),
    /// Some other file.
    #[error("it is not a shared library, but {found}. Build the plugin as a cdylib (C: cc -shared -fPIC)")]
    NotALibrary {
        /// What it looks like.
        found: String,
    },
    /// Its end is missing.
    #[error(
        "it is truncated: it has {size} bytes, but its {part} reaches to byte {needs}. Copy the file again (to another name, then rename it)"
    )]
    Truncated {
        /// Bytes it has.
        size: u64,
        /// What is not there in full.
        part: &'static str,
        /// Where that ends.
        needs: u64,
    },
    /// Its headers contradict each other.
    #[error("it is damaged: {0}. Build or copy it again")]
    Damaged(String),
    /// For another machine.
    #[error("it was built for {found}, but this machine is {expected}. Build it for this machine")]
    OtherArchitecture {
        /// What the file says.
        found: String,
        /// What this process is.
        expected: &'static str,
    },
    /// A library, but no plugin.
    #[error(
        "it is a shared library but not a provider plugin: it does not export the symbol {symbol}. Use export_provider! (C: define weir_provider_v1 as weir_provider.h says)",
        symbol = abi::SYMBOL
    )]
    NotAPlugin,
    /// The symbol is something else.
    #[error("its symbol {symbol} is not a provider table: {0}", symbol = abi::SYMBOL)]
    NotATable(String),
    /// Another major version.
    #[error(
        "it speaks version {found} of the plugin interface, but this Weir speaks version {expected}. {remedy}",
        expected = abi::ABI_MAJOR,
        remedy = if *found > abi::ABI_MAJOR { "Use a newer Weir, or an older version of the plugin" } else { "Build it against this version of Weir, or use a newer version of the plugin" }
    )]
    OtherMajor {
        /// The plugin's.
        found: u32,
    },
    /// Functions are missing.
    #[error(
        "its provider table has {found} bytes, but version {major}.0 of the plugin interface has {expected}. Build it against the weir_provider.h or weir-plugin of that version",
        major = abi::ABI_MAJOR
    )]
    TableTooSmall {
        /// Bytes of the plugin's table.
        found: u64,
        /// Bytes of this version's.
        expected: u64,
    },
    /// A panic would end the JobManager.
    #[error(
        "it was built with panic = \"abort\", so that a panic in it would end the JobManager. Build it with panic = \"unwind\" (the default: remove the setting from its profile)"
    )]
    AbortsOnPanic,
    /// Built on a newer system.
    #[error(
        "it needs {needs}, which this machine's C library does not have ({message}). Build it on a system as old as this one, or with cargo-zigbuild for an older glibc"
    )]
    NewerGlibc {
        /// E.g. `GLIBC_2.38`.
        needs: String,
        /// What the dynamic linker said.
        message: String,
    },
    /// The dynamic linker did not want it.
    #[error("the dynamic linker refused it: {0}. `ldd` on the file shows which libraries are missing")]
    Refused(String),
    /// It does not come back.
    #[error(
        "it has not returned from {call} for {}, so it is left alone; nothing it does later is used. Its author has to look at it",
        crate::host::seconds(*.waited)
    )]
    Hangs {
        /// Which call.
        call: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// It panicked or reported an error.
    #[error("its {call} failed: {message}")]
    Failed {
        /// Which call.
        call: &'static str,
        /// What it said.
        message: String,
    },
    /// It says nothing sensible about itself.
    #[error("its description is not valid: {0}")]
    BadDescription(String),
    /// The file is named after another provider.
    #[error(
        "it says that it is the provider {described:?}, but its file is named after {named:?}. Rename the file to {}",
        crate::load::file_name(described)
    )]
    OtherName {
        /// What it calls itself.
        described: String,
        /// What the file is called.
        named: String,
    },
}
