//! Where a person reads: lines that stay, and on a terminal a table below them that is drawn anew.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Standard output, or standard error when standard output belongs to a script.
#[derive(Debug)]
pub(crate) struct Screen {
    began: Instant,
    to_stderr: bool,
    is_terminal: bool,
    /// Lines of the table that is on the terminal now.
    drawn: Mutex<Vec<String>>,
}

impl Screen {
    pub(crate) fn new(began: Instant, to_stderr: bool) -> Self {
        let is_terminal = if to_stderr { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        Self { began, to_stderr, is_terminal, drawn: Mutex::new(Vec::new()) }
    }

    /// Is there a terminal that a table can be drawn on?
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Since the process began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A line that stays.
    pub(crate) fn say(&self, line: &str) {
        let drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = erase(&drawn);
        out.push_str(line);
        out.push('\n');
        drawn.iter().for_each(|row| push_row(&mut out, row));
        self.write(&out);
    }

    /// Draws the table anew; only on a terminal.
    pub(crate) fn draw(&self, rows: Vec<String>) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        let rows: Vec<String> = rows.into_iter().map(|row| self.fit(row)).collect();
        let mut out = erase(&drawn);
        rows.iter().for_each(|row| push_row(&mut out, row));
        self.write(&out);
        *drawn = rows;
    }

    /// What does not fit on the terminal's line is left out, and a mark says so.
    fn fit(&self, row: String) -> String {
        let size = if self.to_stderr {
            rustix::termios::tcgetwinsize(io::stderr())
        } else {
            rustix::termios::tcgetwinsize(io::stdout())
        };
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        if columns == 0 || row.chars().count() <= columns {
            return row;
        }
        let mut cut: String = row.chars().take(columns - 1).collect();
        cut.push('…');
        cut
    }

    /// Leaves the table where it is; what is said from now on comes below it.
    pub(crate) fn leave(&self) {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn write(&self, text: &str) {
        // A reader that has gone is no reason to stop: the summary still counts.
        let _ = if self.to_stderr {
            io::stderr().write_all(text.as_bytes())
        } else {
            io::stdout().write_all(text.as_bytes())
        };
        let _ = if self.to_stderr { io::stderr().flush() } else { io::stdout().flush() };
    }
}

/// Moves to the first drawn row and clears from there on.
fn erase(drawn: &[String]) -> String {
    if drawn.is_empty() { String::new() } else { format!("\x1b[{}A\x1b[J", drawn.len()) }
}

/// Rows must not wrap, or the cursor would not find back.
fn push_row(out: &mut String, row: &str) {
    out.push_str("\x1b[?7l");
    out.push_str(row);
    out.push_str("\x1b[?7h\n");
}
