//! The controller under attack.

/// None yet.
pub fn layers() -> Vec<evidence::Layer> {
    Vec::new()
}
