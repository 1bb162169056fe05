//! File systems behind one trait, and the content-addressed store of artifacts.
//!
//! Owns bytes at rest. Never decides what is kept or for how long: its users tell it.
