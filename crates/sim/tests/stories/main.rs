//! Stories of one router, told step by step: what is done to it, and what must be so afterwards.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod answers;
mod attempts;
mod backups;
mod channels;
mod clocks;
mod crashes;
mod disks;
mod expiry;
mod operator;
mod scene;
mod stock_routers;
