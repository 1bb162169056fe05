//! How a task fails: typed errors, captured panics, and the unwinding that carries both out of a fused chain.
//!
//! A chain is one loop of inlined calls, so a `Result` per record would cost on every record what happens at most once.
//! Errors and cancellation leave the chain by unwinding instead: [`raise`] starts it, the task's thread catches it.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;

pub use weir_model::{FailureKind, TaskFailure};

/// Why a task ended without finishing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskError {
    /// The job is being cancelled; nobody is to blame.
    Canceled,
    /// The task failed.
    Failed(Box<TaskFailure>),
}

impl TaskError {
    /// A failure of `kind` with a message and nothing else known.
    pub fn failed(kind: FailureKind, message: impl fmt::Display) -> TaskError {
        TaskError::Failed(Box::new(TaskFailure::new(kind, message)))
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TaskError::Canceled => f.write_str("canceled"),
            TaskError::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for TaskError {}

/// Leaves the chain with `error`, without printing anything; the task's thread reports it.
#[cold]
pub fn raise(error: TaskError) -> ! {
    panic::resume_unwind(Box::new(error))
}

struct CapturedPanic {
    message: String,
    location: Option<String>,
    backtrace: Option<String>,
}

thread_local! {
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
    static CAPTURED: RefCell<Option<CapturedPanic>> = const { RefCell::new(None) };
    static FAILED_OPERATOR: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Names the operator in which unwinding starts: held while its code runs, it notes its id when dropped by a panic.
/// The innermost one unwinds first, so the first note wins. Costs nothing on the way without a panic.
pub(crate) struct OperatorGuard(pub(crate) u32);

impl Drop for OperatorGuard {
    #[inline(always)]
    fn drop(&mut self) {
        // The guard is always forgotten on the normal path, so reaching this means unwinding.
        note_operator(self.0);
    }
}

#[cold]
fn note_operator(node: u32) {
    FAILED_OPERATOR.with(|cell| {
        if cell.get().is_none() {
            cell.set(Some(node));
        }
    });
}

/// Runs a task's body on this thread and turns panics and raised errors into a [`TaskError`].
///
/// `operator_name` gives the name of an operator by its node id.
pub fn catch<R>(
    body: impl FnOnce() -> Result<R, TaskError>,
    operator_name: impl Fn(u32) -> String,
) -> Result<R, TaskError> {
    install_hook();
    IN_TASK.set(true);
    FAILED_OPERATOR.set(None);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(body));
    IN_TASK.set(false);
    let operator = FAILED_OPERATOR.take().map(operator_name);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(with_operator(error, operator)),
        Err(payload) => Err(with_operator(error_of(payload), operator)),
    }
}

fn with_operator(error: TaskError, operator: Option<String>) -> TaskError {
    match error {
        TaskError::Failed(mut failure) => {
            failure.operator = failure.operator.or(operator);
            TaskError::Failed(failure)
        }
        TaskError::Canceled => TaskError::Canceled,
    }
}

fn error_of(payload: Box<dyn Any + Send>) -> TaskError {
    let payload = match payload.downcast::<TaskError>() {
        Ok(error) => return *error,
        Err(payload) => payload,
    };
    let captured = CAPTURED.take();
    let fallback = || message_of(payload.as_ref());
    let (message, location, backtrace) = match captured {
        Some(c) => (c.message, c.location, c.backtrace),
        None => (fallback(), None, None),
    };
    TaskError::Failed(Box::new(TaskFailure { kind: FailureKind::Panic, message, operator: None, location, backtrace }))
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic whose payload is not text".to_owned())
}

/// Keeps panics of task threads for the report instead of printing them among the progress lines.
fn install_hook() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info: &PanicHookInfo<'_>| {
            if !IN_TASK.get() {
                return previous(info);
            }
            let backtrace = Backtrace::capture();
            let captured = CapturedPanic {
                message: message_of(info.payload()),
                location: info.location().map(ToString::to_string),
                backtrace: (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
            };
            CAPTURED.set(Some(captured));
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_reported_with_message_location_and_innermost_operator() {
        let error = catch::<()>(
            || {
                let outer = OperatorGuard(1);
                let inner = OperatorGuard(2);
                let values: Vec<u32> = Vec::new();
                let index = values.len() + 3;
                let value = values[index];
                std::mem::forget(inner);
                std::mem::forget(outer);
                assert_eq!(value, 0);
                Ok(())
            },
            |node| format!("op{node}"),
        )
        .unwrap_err();
        let TaskError::Failed(failure) = error else { panic!("expected a failure") };
        assert_eq!(failure.kind, FailureKind::Panic);
        assert!(failure.message.contains("index out of bounds"), "{}", failure.message);
        assert_eq!(failure.operator.as_deref(), Some("op2"));
        assert!(failure.location.unwrap().contains("failure.rs"));
    }

    #[test]
    fn a_raised_error_keeps_its_kind() {
        let error = catch::<()>(|| raise(TaskError::failed(FailureKind::Sink, "disk full")), |_| String::new());
        assert_eq!(error.unwrap_err(), TaskError::failed(FailureKind::Sink, "disk full"));
        assert_eq!(catch::<()>(|| raise(TaskError::Canceled), |_| String::new()), Err(TaskError::Canceled));
    }
}
