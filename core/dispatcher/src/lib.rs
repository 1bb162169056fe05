//! The Dispatcher as a state machine: accepts jobs, has a JobMaster started for each, remembers the ended ones.
//!
//! Pure: event and time in, effects out.
