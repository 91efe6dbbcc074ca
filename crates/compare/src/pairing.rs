//! Whose router meets whose controller.

use serde::{Deserialize, Serialize};

/// Whose program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// OpenZiti's.
    Stock,
    /// Ours.
    Exuvia,
}

impl Kind {
    /// For the page.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Exuvia => "Exuvia",
        }
    }

    fn letter(self) -> &'static str {
        match self {
            Self::Stock => "s",
            Self::Exuvia => "x",
        }
    }
}

/// A router of one kind on a controller of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Pairing {
    /// The router's program.
    pub(crate) router: Kind,
    /// The controller's program.
    pub(crate) controller: Kind,
}

impl Pairing {
    /// In the order of the page.
    pub(crate) const ALL: [Self; 4] = [
        Self { router: Kind::Stock, controller: Kind::Stock },
        Self { router: Kind::Exuvia, controller: Kind::Stock },
        Self { router: Kind::Stock, controller: Kind::Exuvia },
        Self { router: Kind::Exuvia, controller: Kind::Exuvia },
    ];

    /// For the command line and for files: `ss`, `xs`, `sx`, `xx`; the router first.
    pub(crate) fn id(self) -> String {
        format!("{}{}", self.router.letter(), self.controller.letter())
    }

    /// For the page.
    pub(crate) fn title(self) -> String {
        format!("{} router, {} controller", self.router.name(), self.controller.name())
    }
}
