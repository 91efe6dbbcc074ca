//! The controller daemon.
