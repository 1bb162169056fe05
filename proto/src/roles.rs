//! How a process of Weir tells a job's executable to play a role in a run: environment variables, and the lines behind them.
//!
//! The command line of a process in a role is that of the run, so that every process builds the same job. The process that
//! starts one sets in it, between `fork` and `exec`: SIGINT and SIGTERM ignored, and on Linux the parent-death signal SIGKILL,
//! because whoever plays a role decides nothing and has no purpose without who started it.

/// Makes the process the *coordinator* of a job: path of the Unix socket on which its JobManager listens.
/// See `weir/coordinator.proto`.
pub const COORDINATOR_SOCKET_VARIABLE: &str = "WEIR_COORDINATOR_SOCKET";

/// Makes the process a *worker*: path of the Unix socket on which its driver listens. Needs [`WORKER_INDEX_VARIABLE`] and
/// [`WORKER_TOKEN_VARIABLE`] as well. See `weir/worker.proto`.
pub const WORKER_SOCKET_VARIABLE: &str = "WEIR_WORKER_SOCKET";

/// Which of the deployment's workers this one is, from 0, in decimal.
pub const WORKER_INDEX_VARIABLE: &str = "WEIR_WORKER_INDEX";

/// The secret by which the workers of a deployment know each other: 32 bytes as [`token_to_hex`] writes them.
pub const WORKER_TOKEN_VARIABLE: &str = "WEIR_WORKER_TOKEN";

/// IP address of the interface that a worker's data port is on, and under which the other workers reach it. Loopback if it is
/// not set.
pub const WORKER_BIND_HOST_VARIABLE: &str = "WEIR_WORKER_BIND_HOST";

/// Path of the Unix socket on which the TaskManager serves storage to the worker. Without it the worker uses this machine's files
/// itself. See `weir/storage.proto`.
pub const WORKER_STORAGE_VARIABLE: &str = "WEIR_WORKER_STORAGE";

/// Folder for the working files of a worker, which need not be there; whoever started the worker removes it afterwards.
pub const WORKER_FOLDER_VARIABLE: &str = "WEIR_WORKER_FOLDER";

/// Number of cores that a builder takes for that of the machine, in decimal: processes on different machines, or in different
/// control groups, must build the same graph. For coordinator and workers alike.
pub const CORES_VARIABLE: &str = "WEIR_JOB_CORES";

/// Length of a token in bytes.
pub const TOKEN_BYTES: usize = 32;

/// A token as text: 64 lower-case hexadecimal digits.
pub fn token_to_hex(token: &[u8; TOKEN_BYTES]) -> String {
    use std::fmt::Write;
    token.iter().fold(String::with_capacity(2 * TOKEN_BYTES), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String grows as needed");
        text
    })
}

/// The inverse of [`token_to_hex`]; `None` for any other text.
pub fn token_from_hex(hex: &str) -> Option<[u8; TOKEN_BYTES]> {
    if hex.len() != 2 * TOKEN_BYTES || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; TOKEN_BYTES];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_as_text_and_other_text_is_none() {
        let token: [u8; TOKEN_BYTES] = std::array::from_fn(|i| (i * 9) as u8);
        let hex = token_to_hex(&token);
        assert_eq!((hex.len(), &hex[..8]), (64, "0009121b"));
        assert_eq!(token_from_hex(&hex), Some(token));
        for wrong in ["", &hex[1..], &format!("+{}", &hex[1..]), &"ä".repeat(32)] {
            assert_eq!(token_from_hex(wrong), None, "{wrong}");
        }
    }
}
