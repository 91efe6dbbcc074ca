use serde::{Deserialize, Serialize};

/// What one layer tried, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The seed, where anything was random.
    pub seed: Option<u64>,
    /// What was tried, and how often.
    pub tried: Vec<Count>,
    /// Rows of the crash matrix.
    pub matrix: Vec<Cell>,
    /// Wrong programs and right ones of others, and what the layer said of them.
    pub controls: Vec<Control>,
    /// What broke in ours. Anything here fails the proof.
    pub failures: Vec<Failure>,
    /// What this machine lacks: another machine could try it. In CI each of these fails the proof.
    pub skipped: Vec<Skip>,
    /// What no run of this length tries, on any machine: nightly only, impossible, or shown by an emulation instead. Never fails the proof.
    #[serde(default)]
    pub left_out: Vec<Skip>,
    /// Sentences for the report, in Markdown.
    pub notes: Vec<String>,
    /// Drawings for the report.
    pub charts: Vec<Chart>,
}

/// So many of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Plural noun with unit: `states`, `kills before a file-system call`.
    pub what: String,
    /// How many.
    pub count: u64,
}

/// One cell of the crash matrix: of so many states after this fault, so many left no usable identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Whose write order or protocol: `exuvia`, `openziti 2.1`, `no file fsync`.
    pub order: String,
    /// The fault: `power cut, weakest legal disk`.
    pub fault: String,
    /// States without a usable identity.
    pub unusable: u64,
    /// All states.
    pub states: u64,
}

/// A program that the layer must judge rightly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Its name.
    pub name: String,
    /// Must this layer find it wrong?
    pub is_wrong: bool,
    /// In how many states it was found wrong.
    pub caught: u64,
    /// Of how many.
    pub states: u64,
    /// The first state that told, as a person would tell it.
    pub example: Option<String>,
}

impl Control {
    /// Was it judged rightly?
    pub fn is_judged_rightly(&self) -> bool {
        self.is_wrong == (self.caught > 0)
    }
}

/// Something of ours that broke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The claim and the state that broke it.
    pub what: String,
    /// The command that shows it again.
    pub replay: String,
}

/// Something that was not tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// What.
    pub what: String,
    /// Why, and what would make it possible.
    pub why: String,
}

/// A drawing in plain text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chart {
    /// Its heading.
    pub title: String,
    /// A Mermaid sequence diagram, or text as it stands.
    pub text: String,
    /// Is it Mermaid?
    pub is_mermaid: bool,
}

impl Evidence {
    /// Counts one more kind of thing.
    pub fn tried(&mut self, what: impl Into<String>, count: u64) {
        self.tried.push(Count { what: what.into(), count });
    }

    /// Adds a cell of the crash matrix.
    pub fn cell(&mut self, order: impl Into<String>, fault: impl Into<String>, unusable: u64, states: u64) {
        self.matrix.push(Cell { order: order.into(), fault: fault.into(), unusable, states });
    }

    /// Adds something that broke.
    pub fn failed(&mut self, what: impl Into<String>, replay: impl Into<String>) {
        self.failures.push(Failure { what: what.into(), replay: replay.into() });
    }

    /// Adds something that this machine cannot try; in CI that fails the proof.
    pub fn skip(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.skipped.push(Skip { what: what.into(), why: why.into() });
    }

    /// Adds something that is left out by design, wherever this runs: nightly only, impossible, or emulated.
    pub fn leave_out(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.left_out.push(Skip { what: what.into(), why: why.into() });
    }

    /// Nothing of ours broke, and every control was judged rightly.
    pub fn holds(&self) -> bool {
        self.failures.is_empty() && self.controls.iter().all(Control::is_judged_rightly)
    }
}
