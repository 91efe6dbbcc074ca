//! Placeholder, replaced by its owner's first commit.
fn main() {}
