//! Exit codes, and which error ends with which.

/// All went well.
pub(crate) const OK: u8 = 0;
/// Something failed.
pub(crate) const FAILED: u8 = 1;
/// The command was used wrongly: started again the same way, it would fail again.
pub(crate) const USAGE: u8 = 2;

/// A job was stopped, or left behind, because somebody wanted it.
pub(crate) const INTERRUPTED: u8 = 130;

/// An error in how the command was used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

/// A [`Usage`] error.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Usage(message.into()).into()
}

/// The exit code of a command that ends with `error`.
pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() { USAGE } else { FAILED }
}
