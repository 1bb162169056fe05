//! The interface does not depend on the language.

use std::mem::offset_of;
use std::process::Command;

use weir_plugin::abi::{self, HostTable, Output, ProviderTable};
use weir_plugin::{LoadOptions, load};
use weir_provider_api::conformance::{Level, Setup, run as conformance};

use crate::build::{c_library, crate_folder, run, rust_plugin};

#[test]
fn a_provider_in_c_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("libweir_provider_tiny.so");
    c_library("tiny.c", &["-Wpedantic"], &path);
    let plugin = load(&path, &LoadOptions::default()).unwrap();
    let setup = Setup { checks_at_once: 4, ..Setup::with_shell(dir.path()) };
    conformance(&plugin, &setup, Level::Basic).assert_passed();
}

#[test]
fn a_provider_in_rust_built_apart_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let plugin = load(&rust_plugin("processes"), &LoadOptions::default()).unwrap();
    let setup = Setup { checks_at_once: 4, ..Setup::with_shell(dir.path()) };
    conformance(&plugin, &setup, Level::Basic).assert_passed();
}

#[test]
fn the_header_says_what_rust_says() {
    macro_rules! layout {
        ($($table:ident { $($field:ident),* })*) => {
            vec![$(
                (format!("RUST_SIZE_{}", stringify!($table)), size_of::<$table>()),
                $((format!("RUST_{}_{}", stringify!($table), stringify!($field)), offset_of!($table, $field)),)*
            )*]
        };
    }
    macro_rules! constants {
        ($($name:ident)*) => { [$((format!("RUST_{}", stringify!($name)), abi::$name as usize)),*] };
    }
    let mut numbers = layout! {
        Output { ctx, write }
        HostTable { struct_size, abi_minor, ctx, on_event, log }
        ProviderTable {
            magic, abi_major, abi_minor, struct_size, panics, reserved, build_info, describe, open, request, close
        }
    };
    numbers.extend(constants! {
        ABI_MAJOR ABI_MINOR PANICS_NONE PANICS_UNWIND PANICS_ABORT OK ERROR PANICKED LOG_ERROR LOG_WARN LOG_INFO LOG_DEBUG
    });
    let dir = tempfile::tempdir().unwrap();
    let compile = |numbers: &[(String, usize)]| {
        let mut cc = Command::new("cc");
        cc.args(["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-c", "-o"]).arg(dir.path().join("layout.o"));
        cc.arg("-I").arg(crate_folder().join("include")).arg(crate_folder().join("tests/c/layout.c"));
        cc.args(numbers.iter().map(|(name, number)| format!("-D{name}={number}")));
        cc
    };
    run(compile(&numbers));
    // The comparison can fail.
    numbers[0].1 += 1;
    assert!(!compile(&numbers).output().unwrap().status.success());
}
