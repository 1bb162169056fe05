//! Windows over keyed streams.
//!
//! The half before the exchange ([`WindowPartOperator`]) folds records into one accumulator per key and pane, as far as that can be
//! done there; the half behind it ([`WindowOperator`]) keeps windows and fires them. Windows on a grid lie in tables by pane, so that
//! firing a window is one walk over a table and needs no timer per key.

mod grid;
mod handover;
mod kind;
mod late;
mod logic;
mod operator;
mod part;
mod queue;
mod session;
mod sliding;
mod slots;
mod state;
mod table;
mod time_window;

pub use kind::{EventTimeOf, ProcessingTimeOf, TimeOf, Trigger, WindowAssigner, WindowOptions};
pub use late::LateWindowOperator;
pub use logic::{AggregateWindow, EmitWindow, ProcessWindow, WindowContext, WindowFunction, WindowLogic};
pub use operator::WindowOperator;
pub use part::WindowPartOperator;
pub use time_window::TimeWindow;

#[cfg(test)]
mod tests;
