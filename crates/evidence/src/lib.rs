//! What a layer of the proof tried, and what came of it.
//!
//! A [`Layer`] is one way of doing harm. It is run with a [`Plan`] and answers [`Evidence`]: counts, a crash matrix, controls that must
//! fail, and what it left out. The report is made from evidence alone, so a layer cannot claim what it did not count.
#![forbid(unsafe_code)]

mod layer;
mod record;

pub use layer::{Lane, Layer, Plan};
pub use record::{Cell, Chart, Control, Count, Evidence, Failure, Skip};
