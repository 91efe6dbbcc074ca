//! The `exuvia` program.
fn main() {}
