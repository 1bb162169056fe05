//! The JobMaster as a state machine: takes one job from its graph to its end.
//!
//! Pure: event and time in, effects out.
