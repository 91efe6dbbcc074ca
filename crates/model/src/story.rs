//! A path through the states as people tell it: a sequence chart.

use core::fmt::Write as _;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    Operator,
    Disk,
    Router,
    Controller(u8),
    Register,
}

impl Actor {
    const ALL: [Self; 6] =
        [Self::Operator, Self::Disk, Self::Router, Self::Controller(0), Self::Controller(1), Self::Register];

    fn id(self) -> &'static str {
        match self {
            Self::Operator => "O",
            Self::Disk => "D",
            Self::Router => "R",
            Self::Controller(0) => "C",
            Self::Controller(_) => "C2",
            Self::Register => "DB",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Operator => "Operator",
            Self::Disk => "Router's disk",
            Self::Router => "Router",
            Self::Controller(0) => "Controller",
            Self::Controller(_) => "Second controller",
            Self::Register => "Register",
        }
    }
}

/// One line of a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Somebody hands something to somebody.
    Arrow { from: Actor, to: Actor, text: String },
    /// It never arrives.
    Lost { from: Actor, to: Actor, text: String },
    /// Something happens at one place.
    Note { at: Actor, text: String },
}

/// Lines, where anybody wants them: telling costs nothing otherwise.
#[derive(Debug, Default)]
pub(crate) struct Story(Option<Vec<Line>>);

impl Story {
    pub(crate) fn silent() -> Self {
        Self(None)
    }

    pub(crate) fn told() -> Self {
        Self(Some(Vec::new()))
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> Line) {
        if let Some(lines) = &mut self.0 {
            lines.push(line());
        }
    }

    pub(crate) fn note(&mut self, at: Actor, text: impl FnOnce() -> String) {
        self.say(|| Line::Note { at, text: text() });
    }

    pub(crate) fn arrow(&mut self, from: Actor, to: Actor, text: impl FnOnce() -> String) {
        self.say(|| Line::Arrow { from, to, text: text() });
    }

    pub(crate) fn lost(&mut self, from: Actor, to: Actor, text: impl FnOnce() -> String) {
        self.say(|| Line::Lost { from, to, text: text() });
    }

    pub(crate) fn into_lines(self) -> Vec<Line> {
        self.0.unwrap_or_default()
    }
}

impl Line {
    /// As one sentence.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Arrow { from, to, text } => format!("{} to {}: {text}", from.title(), to.title()),
            Self::Lost { from, to, text } => format!("{} to {}: {text}, lost", from.title(), to.title()),
            Self::Note { at, text } => format!("{}: {text}", at.title()),
        }
    }
}

/// The lines as a Mermaid sequence diagram.
pub(crate) fn mermaid(lines: &[Line]) -> String {
    let mut text = String::from("sequenceDiagram\n");
    let takes_part = |actor: Actor| {
        lines.iter().any(|line| match line {
            Line::Arrow { from, to, .. } | Line::Lost { from, to, .. } => *from == actor || *to == actor,
            Line::Note { at, .. } => *at == actor,
        })
    };
    for actor in Actor::ALL.into_iter().filter(|actor| takes_part(*actor)) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    participant {} as {}", actor.id(), actor.title());
    }
    for line in lines {
        let _ = match line {
            Line::Arrow { from, to, text: said } => writeln!(text, "    {}->>{}: {}", from.id(), to.id(), clean(said)),
            Line::Lost { from, to, text: said } => {
                writeln!(text, "    {}--x{}: {} (lost)", from.id(), to.id(), clean(said))
            }
            Line::Note { at, text: said } => writeln!(text, "    Note over {}: {}", at.id(), clean(said)),
        };
    }
    text
}

/// A semicolon ends a statement in Mermaid, and a hash begins an entity.
fn clean(text: &str) -> String {
    text.replace(';', ",").replace('#', "no. ")
}
