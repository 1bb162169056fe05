//! What TaskManagers are asked for, and whose answers come on streams of their own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use weir_proto::control::answer_chunk::Content;

/// Parts of an answer that may wait to be taken before its sender has to wait.
const AHEAD: usize = 4;

/// Requests that wait for their answer.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Sender<Content>>>,
}

/// The answer to a request; ends when nothing more comes. Dropping it takes the request back.
#[derive(Debug)]
pub(crate) struct PendingAnswer<'a> {
    requests: &'a Requests,
    pub(crate) id: u64,
    pub(crate) parts: Receiver<Content>,
}

impl Requests {
    /// Makes a request that an answer can come for.
    pub(crate) fn open(&self) -> PendingAnswer<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, parts) = channel(AHEAD);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        PendingAnswer { requests: self, id, parts }
    }

    /// Takes the answer's way to whoever waits for it; `None` if nobody does.
    pub(crate) fn take(&self, id: u64) -> Option<Sender<Content>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}

impl PendingAnswer<'_> {
    /// The rest of the answer, once its first part has come.
    pub(crate) fn into_rest(mut self) -> Receiver<Content> {
        // What is left behind is closed and empty.
        std::mem::replace(&mut self.parts, channel(1).1)
    }
}

impl Drop for PendingAnswer<'_> {
    fn drop(&mut self) {
        self.requests.take(self.id);
    }
}
