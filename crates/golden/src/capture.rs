//! Makes the conversations anew, with real peers on the loopback.
//!
//! The proxy of `netfault` stands between; it holds keys that were made for this and are thrown away. What it keeps is what a peer wrote,
//! byte for byte. Enrollments go through [`tap`], which does the same for HTTP.

mod cluster;
mod ours;
mod stock;
pub mod tap;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use netfault::proxy::{Path as Line, Recorded, Way};
use rig::{Exuvia, Ziti};
use wire::content_type;

use crate::fixture::Conversation;

/// Longer than anything takes that a peer does by itself: an index of the data model comes every 30 s.
const PATIENCE: Duration = Duration::from_secs(90);

/// What came of one capture.
pub type Outcome = Result<String>;

/// Captures everything that there is with one program, below `into`. What fails is told; the rest goes on.
pub fn all(ziti: &Ziti, exuvia: &Exuvia, home: &Path, into: &Path) -> Vec<(&'static str, Outcome)> {
    vec![
        ("stock controller", stock::capture(ziti, exuvia, &home.join("s"), into)),
        ("our controller", ours::capture(ziti, exuvia, &home.join("o"), into)),
        ("stock cluster", cluster::capture(ziti, exuvia, &home.join("c"), into)),
    ]
}

/// Who said it.
fn stock_name(ziti: &Ziti) -> String {
    format!("ziti {}", ziti.version())
}

/// Who said it.
const OURS: &str = "exuvia";

/// Keeps what this line has recorded.
fn keep(line: &Arc<Line>, name: &str, controller: &str, router: &str, into: &Path) -> Result<String> {
    let conversation = Conversation::of_recording(name, controller, router, &line.recorded());
    conversation.save(into)?;
    let bytes: usize = conversation.frames.iter().map(|one| one.bytes.len()).sum();
    Ok(format!("{name}: {} frames, {bytes} bytes", conversation.frames.len()))
}

/// Waits for frames of these types, in this direction.
fn until(line: &Arc<Line>, wanted: &[(Way, i32)]) -> Result<()> {
    let is_there = |frames: &[Recorded], (way, kind): (Way, i32)| {
        frames.iter().any(|one| one.way == way && one.frame.content_type == kind)
    };
    for one in wanted {
        if !line.records_within(PATIENCE, |frames| is_there(frames, *one)) {
            let (way, kind) = *one;
            bail!("no {} went {way:?}; there are {:?}", content_type::name(kind).unwrap_or("?"), line.recorded());
        }
    }
    Ok(())
}

/// Like [`until`], for what only some releases send: says what did not come.
fn if_it_comes(line: &Arc<Line>, within: Duration, wanted: &[(Way, i32)]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    for (way, kind) in wanted {
        let is_there =
            |frames: &[Recorded]| frames.iter().any(|one| one.way == *way && one.frame.content_type == *kind);
        if !line.records_within(within, is_there) {
            missing.push(content_type::name(*kind).unwrap_or("?"));
        }
    }
    missing
}
