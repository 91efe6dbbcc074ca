//! What each command does. One function per command; `main` picks it.

pub mod controller;
pub mod daemon;
pub mod extend;
pub mod fleet;
pub mod rescue;
pub mod router;
pub mod sim;
pub mod tools;
