//! The ResourceManager as a state machine: owns slots, matches them to jobs, has TaskManagers started and stopped.
//!
//! Pure: event and time in, effects out.
