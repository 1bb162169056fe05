//! A socket that gives up on a peer who takes nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Writes fail with [`io::ErrorKind::TimedOut`] when the peer has taken nothing for some time. Reads are not limited.
#[derive(Debug)]
pub(crate) struct StallGuard<S> {
    inner: S,
    patience: Duration,
    /// When patience ends; set while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> StallGuard<S> {
    pub(crate) fn new(inner: S, patience: Duration) -> Self {
        Self { inner, patience, deadline: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.inner
    }

    /// Passes on what the socket said, unless it has been saying "wait" for too long.
    fn watch<T>(&mut self, said: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if said.is_ready() {
            self.deadline = None;
            return said;
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(self.patience)));
        ready!(deadline.as_mut().poll(context));
        // Armed anew, because some callers write again after an error.
        deadline.as_mut().reset(Instant::now() + self.patience);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watch(said, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let said = Pin::new(&mut self.inner).poll_flush(context);
        self.watch(said, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let said = Pin::new(&mut self.inner).poll_write_vectored(context, pieces);
        self.watch(said, context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (near, _far) = duplex(4);
        let mut guard = StallGuard::new(near, Duration::from_secs(5));
        guard.write_all(b"1234").await.unwrap();
        let error = guard.write_all(b"5").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_that_takes_something_is_not() {
        let (near, mut far) = duplex(1);
        let mut guard = StallGuard::new(near, Duration::from_secs(5));
        let reader = tokio::spawn(async move {
            let mut bytes = Vec::new();
            while bytes.len() < 6 {
                sleep(Duration::from_secs(4)).await;
                bytes.push(far.read_u8().await.unwrap());
            }
            bytes
        });
        guard.write_all(b"abcdef").await.unwrap();
        assert_eq!(reader.await.unwrap(), b"abcdef");
    }
}
