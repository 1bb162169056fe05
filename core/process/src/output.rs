//! What a process prints: into a log file, with the last lines at hand.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt};
use weir_logging::{LastLines, RollingFile};

/// Bytes taken at a time.
const CHUNK: usize = 32 * 1024;

/// Where output goes beside its file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Echo {
    /// To the standard output of this process.
    Stdout,
    /// To the standard error of this process.
    Stderr,
}

impl Echo {
    /// Passes it on; false if nobody reads it any more.
    fn write(self, bytes: &[u8]) -> bool {
        let write = |out: &mut dyn Write| out.write_all(bytes).and_then(|()| out.flush()).is_ok();
        match self {
            Echo::Stdout => write(&mut std::io::stdout().lock()),
            Echo::Stderr => write(&mut std::io::stderr().lock()),
        }
    }
}

/// Moves all that comes out of `pipe` into `file`, and to where `echo` says, until the pipe's last writer has closed it.
///
/// A process that prints faster than the disk takes it waits in its own `write`.
pub(crate) async fn pump(
    mut pipe: impl AsyncRead + Unpin,
    mut file: Option<RollingFile>,
    mut echo: Option<Echo>,
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
        if file.is_none() && echo.is_none() {
            buffer.clear();
            continue;
        }
        let (bytes, mut rolling, to) = (std::mem::take(&mut buffer), file.take(), echo.take());
        let written = tokio::task::spawn_blocking(move || {
            // Never fails: what cannot be written is counted and reported in the file itself.
            let _ = rolling.as_mut().map(|rolling| rolling.write_all(&bytes));
            (rolling, to.filter(|to| to.write(&bytes)))
        });
        (file, echo) = written.await.unwrap_or((None, None));
    }
}
