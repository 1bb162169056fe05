//! Lines for whoever started the process. A reader that has gone away (`job | head -1`) is no reason to panic.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

/// Writes a line on standard output; returns whether it could, or nobody wanted it.
pub(super) fn out(text: impl Display) -> bool {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            err(format!("standard output cannot be written ({error})"));
            false
        }
        _ => true,
    }
}

/// Writes a line on standard error.
pub(super) fn err(text: impl Display) {
    // There is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
