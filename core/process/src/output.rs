//! What a process prints: into a log file, with the last lines at hand.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use weir_logging::{LastLines, RollingFile};

/// Bytes taken at a time.
const CHUNK: usize = 32 * 1024;

/// Moves all that comes out of `pipe` into `file`, until the pipe's last writer has closed it.
///
/// A process that prints faster than the disk takes it waits in its own `write`.
pub(crate) async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    mut file: Option<RollingFile>,
    last_lines: Option<Arc<Mutex<LastLines>>>,
) {
    let mut buffer = Vec::new();
    loop {
        // Most processes print little: the buffer is there only while they do.
        buffer.reserve(CHUNK);
        match pipe.read_buf(&mut buffer).await {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "the output of a process cannot be read any more");
                return;
            }
        }
        if let Some(last_lines) = &last_lines {
            last_lines.lock().unwrap_or_else(PoisonError::into_inner).push(&buffer);
        }
        let Some(mut rolling) = file.take() else {
            buffer.clear();
            continue;
        };
        let bytes = std::mem::take(&mut buffer);
        let written = tokio::task::spawn_blocking(move || {
            // Never fails: what cannot be written is counted and reported in the file itself.
            let _ = rolling.write_all(&bytes);
            rolling
        });
        file = written.await.ok();
    }
}
