//! The standalone provider: starts TaskManager processes on this machine.
