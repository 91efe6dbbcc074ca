//! One door, what it may cost, and what it did cost.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::allocation::peak_of;

/// A door through which bytes of others come in.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the fuzz target and of the folder of its corpus.
    pub name: &'static str,
    /// What the bytes are, and who sends them.
    pub door: &'static str,
    /// Takes any bytes. Panics only if a promise is broken.
    pub run: fn(&[u8]),
    /// What it may cost.
    pub caps: Caps,
    /// Words of its language, which a mutation may put anywhere.
    pub words: &'static [&'static [u8]],
}

/// What one input may cost. Memory is what is held at once; it may grow with what has *arrived*, never with what is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// The longest input that the door takes, in bytes; longer ones are refused unread, or cut.
    pub input_bytes: usize,
    /// Memory for the shortest input, in bytes.
    pub fixed_bytes: usize,
    /// Memory for each byte of the input, in bytes.
    pub bytes_per_byte: usize,
    /// Processor time for one input, in a release build.
    pub time: Duration,
}

impl Caps {
    /// Memory for an input of this length, in bytes.
    pub fn memory_bytes(&self, input_bytes: usize) -> usize {
        self.fixed_bytes + self.bytes_per_byte * input_bytes.min(self.input_bytes)
    }

    /// Processor time in this build: unoptimized code, and code that a sanitizer watches, is many times slower.
    pub fn time_here(&self) -> Duration {
        if cfg!(debug_assertions) { self.time * 20 } else { self.time }
    }
}

/// What one input cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Memory held at once, in bytes.
    pub memory_bytes: usize,
    /// Processor time of this thread.
    pub time: Duration,
}

/// What an input broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// It panicked, and said this: either it is not total, or what it read does not survive being written and read again.
    Panicked(String),
    /// It held more memory than it may.
    Memory {
        /// Bytes held at once.
        held: usize,
        /// Bytes allowed for an input of this length.
        allowed: usize,
    },
    /// It took longer than it may.
    Time {
        /// Processor time taken.
        taken: Duration,
        /// Processor time allowed.
        allowed: Duration,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(said) => write!(f, "panicked: {said}"),
            Self::Memory { held, allowed } => write!(f, "held {held} bytes, {allowed} are allowed"),
            Self::Time { taken, allowed } => write!(f, "took {taken:?} of processor time, {allowed:?} are allowed"),
        }
    }
}

impl Target {
    /// Feeds it one input.
    ///
    /// # Errors
    /// What the input broke.
    pub fn feed(&self, data: &[u8]) -> Result<Spent, Breach> {
        let before = processor_time();
        let (done, memory_bytes) = peak_of(|| catch_unwind(AssertUnwindSafe(|| (self.run)(data))));
        let time = processor_time().saturating_sub(before);
        done.map_err(|panic| Breach::Panicked(words_of(panic.as_ref())))?;
        let allowed = self.caps.memory_bytes(data.len());
        if memory_bytes > allowed {
            return Err(Breach::Memory { held: memory_bytes, allowed });
        }
        let allowed = self.caps.time_here();
        if time > allowed {
            return Err(Breach::Time { taken: time, allowed });
        }
        Ok(Spent { memory_bytes, time })
    }

    /// Lets it make its keys and tables, which no input is to be charged with.
    pub fn warm(&self) {
        (self.run)(&[]);
        for seed in crate::seeds::seeds(self.name).iter().take(2) {
            (self.run)(seed);
        }
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "nothing".to_owned())
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
