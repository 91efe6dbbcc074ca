//! How a command ends: the exit status, and what is said about a failure. Decided here and nowhere else.
//!
//! The table of `docs/operating/exit-codes.md` is this one; a test keeps them in step.

mod causes;

use std::fmt;

macro_rules! exits {
    ($( $(#[doc = $doc:literal])+ $name:ident = $code:literal; )*) => {
        /// The exit status of the process.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Exit { $( $(#[doc = $doc])+ $name, )* }

        impl Exit {
            /// Every status with its meaning.
            #[cfg(test)]
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, concat!($($doc),+))),*];

            /// The number that the shell sees.
            pub const fn code(self) -> u8 {
                match self { $(Self::$name => $code),* }
            }
        }
    };
}

exits! {
    /// Everything that was asked for was done. A daemon that ended because of SIGTERM or SIGINT, too
    Done = 0;
    /// It was tried and failed, or what was looked at is not well: `doctor` found something to mend, `rescue` found a router to bring back and was not told to, `quickstart` or `sim` saw a promise broken
    Failed = 1;
    /// The command line is wrong
    Usage = 2;
    /// A configuration, token, certificate, key or session file is missing, cannot be read, or is not what it should be
    Input = 3;
    /// The state folder or the register cannot be written, or is damaged
    Storage = 4;
    /// The other side cannot be reached, is not trusted, does not answer in time, or says that it cannot serve now. Trying again later may help
    Unreachable = 5;
    /// The other side answered, and refused: password, session, token, or what was asked for
    Refused = 6;
    /// Somebody else has it: another process runs this identity, or the port is in use
    Busy = 7;
    /// A fault of this program
    Internal = 70;
}

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What is printed.
    pub told: Told,
}

/// What is printed about a failure.
#[derive(Debug)]
pub enum Told {
    /// What happened, its causes, and what to do about it.
    Chain {
        /// What happened; its sources follow as causes.
        error: anyhow::Error,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A whole report, as it is.
    Report(String),
    /// Nothing: the reader of standard output is gone, or everything was said already.
    Nothing,
}

impl Failure {
    /// From an error or a sentence.
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Self {
        Self { exit, told: Told::Chain { error: error.into(), hint: None } }
    }

    /// From a sentence.
    pub fn because(exit: Exit, message: impl fmt::Display + fmt::Debug + Send + Sync + 'static) -> Self {
        Self::new(exit, anyhow::Error::msg(message))
    }

    /// A report that is printed as it is.
    pub fn report(exit: Exit, report: impl fmt::Display) -> Self {
        Self { exit, told: Told::Report(report.to_string()) }
    }

    /// An end of which everything was said already.
    pub fn silent(exit: Exit) -> Self {
        Self { exit, told: Told::Nothing }
    }

    /// As one event of the log, where people asked for that.
    pub fn log(&self) {
        let exit_code = self.exit.code();
        match &self.told {
            Told::Nothing => {}
            Told::Report(report) => tracing::error!(exit_code, "{}", report.trim_end()),
            Told::Chain { error, hint } => {
                let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
                let caused_by = Some(causes.join(": ")).filter(|causes| !causes.is_empty());
                tracing::error!(exit_code, caused_by, hint, "{error}");
            }
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        if let Told::Chain { hint, .. } = &mut self.told {
            *hint = Some(text.into());
        }
        self
    }

    /// Says first what was being done.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display + Send + Sync + 'static) -> Self {
        if let Told::Chain { error, hint } = self.told {
            self.told = Told::Chain { error: error.context(doing), hint };
        }
        self
    }
}

impl fmt::Display for Told {
    /// `error:`, the causes, an empty line and the hint; without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Report(report) => f.write_str(report.trim_end()),
            Self::Chain { error, hint } => {
                write!(f, "error: {error}")?;
                // Some errors repeat their source in their own text.
                let mut said = error.to_string();
                for cause in error.chain().skip(1) {
                    let text = cause.to_string();
                    if !said.contains(&text) {
                        write!(f, "\n  caused by: {text}")?;
                    }
                    said = text;
                }
                match hint {
                    Some(hint) => write!(f, "\n\nhint: {hint}"),
                    None => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::io;

    use super::{Exit, Failure};

    #[test]
    fn the_documented_table_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operating/exit-codes.md");
        let document = std::fs::read_to_string(path).unwrap();
        let documented: Vec<&str> =
            document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| code")).collect();
        let made: Vec<String> =
            Exit::ALL.iter().map(|(exit, meaning)| format!("| {} |{meaning} |", exit.code())).collect();
        assert_eq!(documented, made, "docs/operating/exit-codes.md differs from crates/cli/src/exit.rs");
    }

    #[test]
    fn no_two_ends_share_a_number() {
        let codes: BTreeSet<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes.len(), Exit::ALL.len());
    }

    #[test]
    fn a_failure_tells_what_happened_then_the_causes_then_the_remedy() {
        let cause = io::Error::new(io::ErrorKind::StorageFull, "no space left");
        let failure =
            Failure::new(Exit::Storage, anyhow::Error::new(cause).context("cannot write `a`")).hint("free some");
        assert_eq!(failure.told.to_string(), "error: cannot write `a`\n  caused by: no space left\n\nhint: free some");
    }
}
