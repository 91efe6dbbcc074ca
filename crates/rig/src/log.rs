//! What a process says, line by line, and waiting for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// One line that a process wrote on standard error.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// As it stands.
    pub text: String,
    /// As an object, if it is one: the fields of a log event.
    pub fields: Value,
}

impl Line {
    pub(crate) fn new(text: String) -> Self {
        let fields = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { text, fields }
    }

    /// The router's or controller's word for what happened: `connected`, `promoted`, ...; empty where the line is no event.
    pub fn event(&self) -> &str {
        self.text_of("event")
    }

    /// The generation that it is about.
    pub fn generation(&self) -> Option<u64> {
        self.fields.get("generation").and_then(Value::as_u64)
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        self.text_of("message")
    }

    /// A field that is text; empty where there is none.
    pub fn text_of(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

/// A place in a log: what comes after it is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(usize);

/// Everything that a process has said, shared with the threads that read it. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    said: Mutex<Said>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Said {
    lines: Vec<Line>,
    is_over: bool,
}

impl Log {
    pub(crate) fn push(&self, line: Line) {
        self.lock().lines.push(line);
        self.0.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        self.lock().is_over = true;
        self.0.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Here and now.
    pub fn mark(&self) -> Mark {
        Mark(self.lock().lines.len())
    }

    /// Everything after the mark.
    pub fn since(&self, mark: Mark) -> Vec<Line> {
        self.lock().lines.get(mark.0..).unwrap_or_default().to_vec()
    }

    /// All of it as text.
    pub fn text(&self) -> String {
        let said = self.lock();
        said.lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect()
    }

    /// The first line after the mark that `wanted` gives an answer for, waiting for it if need be. `None` when the process
    /// ended without it, or it took too long.
    pub fn wait<T>(&self, mark: Mark, patience: Duration, mut wanted: impl FnMut(&Line) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut seen = mark.0;
        let mut said = self.lock();
        loop {
            for line in said.lines.get(seen..).unwrap_or_default() {
                if let Some(found) = wanted(line) {
                    return Some(found);
                }
            }
            seen = said.lines.len().max(seen);
            let left = deadline.saturating_duration_since(Instant::now());
            if said.is_over || left.is_zero() {
                return None;
            }
            let (next, _) = self.0.changed.wait_timeout(said, left).unwrap_or_else(PoisonError::into_inner);
            said = next;
        }
    }

    /// The first line after the mark with one of these events.
    pub fn event(&self, mark: Mark, patience: Duration, names: &[&str]) -> Option<Line> {
        self.wait(mark, patience, |line| names.contains(&line.event()).then(|| line.clone()))
    }

    /// What looks like a panic, if anything does.
    pub fn panic(&self) -> Option<String> {
        let signs = ["panicked", "internal error", "RUST_BACKTRACE", "stack overflow"];
        let said = self.lock();
        let line = said.lines.iter().find(|line| signs.iter().any(|sign| line.text.contains(sign)));
        line.map(|line| line.text.clone())
    }

    /// Has everything been said?
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }
}
