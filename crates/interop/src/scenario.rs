//! What a scenario is.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rig::{Exuvia, Ziti};
use serde::{Deserialize, Serialize};

/// Scenarios about one thing: one item of the list of what must work together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// Short name for the command line.
    pub(crate) id: &'static str,
    /// A heading of the report.
    pub(crate) title: &'static str,
    /// Its scenarios, in the order of the report.
    pub(crate) scenarios: Vec<Scenario>,
}

/// One claim, tried on real programs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// Its name, which no other scenario of any group has.
    pub(crate) id: &'static str,
    /// What holds when it ends well.
    pub(crate) claim: &'static str,
    /// Tries it. An error is a claim that does not hold.
    pub(crate) run: fn(&Bench) -> Result<Shown>,
    limit: Duration,
    long_limit: Duration,
}

impl Scenario {
    /// This claim, tried by this function, which takes less than three minutes.
    pub(crate) fn new(id: &'static str, claim: &'static str, run: fn(&Bench) -> Result<Shown>) -> Self {
        let limit = Duration::from_secs(180);
        Self { id, claim, run, limit, long_limit: limit }
    }

    /// With another time limit, in seconds, for a usual run and for a long one.
    pub(crate) fn within(self, limit_s: u64, long_limit_s: u64) -> Self {
        let (limit, long_limit) = (Duration::from_secs(limit_s), Duration::from_secs(long_limit_s));
        Self { limit, long_limit, ..self }
    }

    /// When it is ended.
    pub(crate) fn limit(&self, is_long: bool) -> Duration {
        if is_long { self.long_limit } else { self.limit }
    }
}

/// What a scenario has to work with.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    /// The real peer.
    pub(crate) ziti: Ziti,
    /// Ours.
    pub(crate) exuvia: Exuvia,
    /// An empty folder on a disk, with a short path.
    pub(crate) scratch: PathBuf,
    /// Is there time?
    pub(crate) is_long: bool,
}

impl Bench {
    /// Do its controllers let further underlays join a control channel?
    pub(crate) fn has_groups(&self) -> bool {
        has_groups(&self.ziti)
    }
}

/// Releases before 2.0 have no grouped control channels. There a new leaf is proven by replacing the channel, a minute after it opened.
pub(crate) fn has_groups(ziti: &Ziti) -> bool {
    ziti.release().is_none_or(|release| release >= (2, 0))
}

/// What a scenario has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// One line of evidence; or why it was not run.
    pub(crate) line: String,
    /// Was it left out with this peer?
    pub(crate) is_left_out: bool,
    /// What else was seen and should be known.
    pub(crate) facts: Vec<String>,
}

impl Shown {
    /// The claim holds, and this is what was seen.
    pub(crate) fn holds(line: impl Into<String>) -> Self {
        Self { line: line.into(), ..Self::default() }
    }

    /// It makes no sense with this peer.
    pub(crate) fn left_out(why: impl Into<String>) -> Self {
        Self { line: why.into(), is_left_out: true, facts: Vec::new() }
    }

    /// And this was seen, too.
    pub(crate) fn and(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }
}
