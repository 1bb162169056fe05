//! Asynchronous functions on streams: requests to something outside, many of them in flight at once.
//!
//! Every record becomes a request, a future on threads of the worker's own (`runtime`). The task's thread goes on with the next
//! record, takes what has been answered (`answers`) and emits it in an order that `requests` knows. It never waits for a future but
//! when there is no room for more, or at the end of the input.
//!
//! What is in flight is state: a checkpoint holds the records whose results have not been emitted, and a restore asks for them again.

mod answers;
mod asking;
mod function;
mod operator;
mod options;
mod requests;
mod runtime;

pub use function::{AsyncContext, AsyncError, AsyncFunction, FnAsync, FnAsyncOne};
pub use operator::AsyncOperator;
pub use options::{AsyncOptions, RetryStrategy};
pub(crate) use runtime::AsyncRuntime;
