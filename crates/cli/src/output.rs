//! The one place that prints: data on standard output, everything else on standard error.
//!
//! Colour never carries anything that the words do not, and is off where the stream is no terminal or `NO_COLOR` is set.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use crate::exit::{Exit, Failure, Told};

const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[1;33m";
const CYAN: &str = "\x1b[1;36m";
const PLAIN: &str = "\x1b[0m";

/// Prints.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    colours_notes: bool,
}

impl Printer {
    /// Looks at the terminal and at `NO_COLOR`, `TERM`.
    pub fn from_environment() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colours_notes: io::stderr().is_terminal() && !is_set("NO_COLOR") && !is_dumb }
    }

    /// Data, with a line break at the end.
    ///
    /// # Errors
    /// When standard output cannot be written. A reader that went away ends the command without a word.
    pub fn data(self, text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| match text.ends_with('\n') {
            true => Ok(()),
            false => out.write_all(b"\n"),
        });
        written.and_then(|()| out.flush()).map_err(|error| match error.kind() {
            ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
            _ => Failure::new(Exit::Failed, anyhow::Error::new(error).context("cannot write to standard output")),
        })
    }

    /// One JSON value, indented.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn json(self, value: &impl Serialize) -> Result<(), Failure> {
        self.data(&serde_json::to_string_pretty(value).map_err(|error| Failure::new(Exit::Internal, error))?)
    }

    /// One JSON value on one line, for streams.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn json_line(self, value: &impl Serialize) -> Result<(), Failure> {
        self.data(&serde_json::to_string(value).map_err(|error| Failure::new(Exit::Internal, error))?)
    }

    /// A remark for the person, on standard error.
    pub fn note(self, text: &str) {
        self.say(text);
    }

    /// A question or anything else that ends without a line break, on standard error.
    pub fn ask(self, text: &str) {
        let mut err = io::stderr().lock();
        let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
    }

    /// Something that deserves attention, on standard error.
    pub fn warning(self, text: &str) {
        self.say(&self.coloured(&format!("warning: {text}"), "warning:", YELLOW));
    }

    /// A whole report, such as a configuration's warnings, on standard error.
    pub fn report(self, text: &str) {
        self.say(text.trim_end());
    }

    /// Why the command failed, on standard error.
    pub fn failure(self, told: &Told) {
        if matches!(told, Told::Nothing) {
            return;
        }
        let text = self.coloured(&told.to_string(), "error:", RED);
        self.say(&self.coloured(&text, "hint:", CYAN));
    }

    /// What cannot be printed on standard error cannot be printed anywhere.
    fn say(self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    fn coloured(self, text: &str, label: &str, colour: &str) -> String {
        if !self.colours_notes {
            return text.to_owned();
        }
        let lines: Vec<String> = text
            .split('\n')
            .map(|line| match line.strip_prefix(label) {
                Some(rest) => format!("{colour}{label}{PLAIN}{rest}"),
                None => line.to_owned(),
            })
            .collect();
        lines.join("\n")
    }
}
