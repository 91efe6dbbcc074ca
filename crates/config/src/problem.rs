//! Problems of a configuration, and the report that shows them all.

use std::fmt::{self, Write as _};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};

use crate::document::Place;

/// The most problems that a report shows; the rest is counted.
pub(crate) const MAX_SHOWN: usize = 40;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but somebody should know.
    Warning,
}

/// One thing wrong with a configuration. Quotes no secret: excerpts are masked before they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Path of the key, such as `ctrl.endpoints[1]`; empty if the problem belongs to none.
    pub key: String,
    /// Line, counted from 1, if it is known.
    pub line: Option<usize>,
    /// Column in characters, counted from 1, if it is known.
    pub column: Option<usize>,
    /// What is wrong, in one line.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    excerpt: Option<Excerpt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Excerpt {
    first_line: usize,
    source: String,
    span: Range<usize>,
    beside: Vec<(Range<usize>, &'static str)>,
}

impl Problem {
    pub(crate) fn of_file(severity: Severity, message: String, hint: Option<String>) -> Self {
        Self { severity, key: String::new(), line: None, column: None, message, hint, excerpt: None }
    }

    /// A problem at bytes `span` of `text`.
    pub(crate) fn at(
        severity: Severity,
        key: String,
        text: &str,
        span: Range<usize>,
        message: String,
        hint: Option<String>,
    ) -> Self {
        let before = text.get(..span.start).unwrap_or("");
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        let excerpt = Some(Excerpt::cut(text, span, &[]));
        Self { severity, key, line: Some(line), column: Some(column), message, hint, excerpt }
    }

    /// Shows another place in the same excerpt.
    pub(crate) fn with_beside(
        mut self,
        text: &str,
        span: Range<usize>,
        beside: &[(Range<usize>, &'static str)],
    ) -> Self {
        self.excerpt = Some(Excerpt::cut(text, span, beside));
        self
    }

    fn render(&self, file: &str, out: &mut String) {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let title = if self.key.is_empty() || self.message.contains(&format!("`{}`", self.key)) {
            self.message.clone()
        } else {
            format!("`{}`: {}", self.key, self.message)
        };
        let mut group = match &self.excerpt {
            Some(excerpt) => {
                let mut snippet = Snippet::source(excerpt.source.as_str())
                    .path(file)
                    .line_start(excerpt.first_line)
                    .annotation(AnnotationKind::Primary.span(excerpt.span.clone()));
                for (span, label) in &excerpt.beside {
                    snippet = snippet.annotation(AnnotationKind::Context.span(span.clone()).label(*label));
                }
                level.primary_title(title).element(snippet)
            }
            None => level.primary_title(title).element(Origin::path(file)),
        };
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.message(hint.as_str()));
        }
        let rendered = Renderer::plain().render(&[group]);
        for line in rendered.lines() {
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

impl Excerpt {
    /// The lines of `text` that hold `span` and `beside`, masked.
    fn cut(text: &str, span: Range<usize>, beside: &[(Range<usize>, &'static str)]) -> Self {
        let masked = mask(text);
        let low = beside.iter().map(|(other, _)| other.start).fold(span.start, usize::min).min(masked.len());
        let high = beside.iter().map(|(other, _)| other.end).fold(span.end, usize::max).min(masked.len());
        let (start, end) = (line_start(&masked, low), line_end(&masked, high));
        let within = |range: &Range<usize>| {
            let from = range.start.clamp(start, end) - start;
            from..(range.end.clamp(start, end) - start).max(from)
        };
        Self {
            first_line: masked.get(..start).unwrap_or("").matches('\n').count() + 1,
            source: masked.get(start..end).unwrap_or("").to_owned(),
            span: within(&span),
            beside: beside.iter().map(|(range, label)| (within(range), *label)).collect(),
        }
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1)
}

fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|after| after.find('\n')).map_or(text.len(), |newline| at + newline)
}

/// `text` with private keys and PINs replaced by asterisks. Every character keeps its length and its line.
fn mask(text: &str) -> String {
    let mut hidden: Vec<Range<usize>> = Vec::new();
    let mut from = 0;
    while let Some(at) = text.get(from..).and_then(|rest| rest.find("PRIVATE KEY-----")) {
        let start = from + at + "PRIVATE KEY-----".len();
        let end = text.get(start..).and_then(|rest| rest.find("-----END")).map_or(text.len(), |found| start + found);
        hidden.push(start..end);
        from = text.get(end..).and_then(|rest| rest.find('\n')).map_or(text.len(), |newline| end + newline);
    }
    for mark in ["pin=", "pin-value=", "PIN="] {
        for (at, _) in text.match_indices(mark) {
            let start = at + mark.len();
            let length = text
                .get(start..)
                .and_then(|rest| rest.find(['&', ';', '"', '\'', '\n', ' ', '?']))
                .unwrap_or(text.len() - start);
            hidden.push(start..start + length);
        }
    }
    if hidden.is_empty() {
        return text.to_owned();
    }
    hidden.sort_by_key(|range| range.start);
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for range in hidden {
        let start = range.start.max(done);
        let end = range.end.max(start);
        out.push_str(text.get(done..start).unwrap_or(""));
        for c in text.get(start..end).unwrap_or("").chars() {
            if c == '\n' { out.push('\n') } else { out.extend(std::iter::repeat_n('*', c.len_utf8())) }
        }
        done = end;
    }
    out.push_str(text.get(done..).unwrap_or(""));
    out
}

/// `value` in backticks, shortened, without control characters, and never a private key or a PIN.
pub fn quote(value: &str) -> String {
    const LONGEST: usize = 60;
    if value.contains("PRIVATE KEY") || value.to_ascii_lowercase().contains("pin") && value.contains('=') {
        return "a value with a secret in it".to_owned();
    }
    let mut shown: String =
        value.chars().take(LONGEST).map(|c| if c.is_control() || c == '`' { ' ' } else { c }).collect();
    if value.chars().count() > LONGEST {
        shown.push('\u{2026}');
    }
    format!("`{shown}`")
}

/// A problem before it is located.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) severity: Severity,
    pub(crate) place: Option<Place>,
    pub(crate) beside: Option<(Place, &'static str)>,
    pub(crate) key: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Found {
    pub(crate) fn error(place: Option<Place>, key: String, message: String, hint: Option<&str>) -> Self {
        Self { severity: Severity::Error, place, beside: None, key, message, hint: hint.map(str::to_owned) }
    }

    pub(crate) fn warning(place: Option<Place>, key: String, message: String, hint: Option<&str>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, key, message, hint) }
    }

    pub(crate) fn beside(mut self, place: Place, label: &'static str) -> Self {
        self.beside = Some((place, label));
        self
    }
}

/// Everything wrong with a configuration, at least one error among it. `Display` is a report for a person, of several lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    problems: Vec<Problem>,
}

impl std::error::Error for ConfigErrors {}

impl ConfigErrors {
    pub(crate) fn new(file: &str, problems: Vec<Problem>) -> Self {
        Self { file: file.to_owned(), problems }
    }

    /// All problems, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |severity| self.problems.iter().filter(|problem| problem.severity == severity).count();
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        let mut out = show(&self.file, &self.problems);
        let _ = write!(out, "\n{errors} error{}", if errors == 1 { "" } else { "s" });
        if warnings > 0 {
            let _ = write!(out, " and {warnings} warning{}", if warnings == 1 { "" } else { "s" });
        }
        let _ = write!(out, " in `{}`", self.file);
        f.write_str(&out)
    }
}

/// What is worth knowing about a configuration that can be used. `Display` is a report for a person; nothing if there is nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warnings {
    file: String,
    problems: Vec<Problem>,
}

impl Warnings {
    pub(crate) fn new(file: &str, problems: Vec<Problem>) -> Self {
        Self { file: file.to_owned(), problems }
    }

    /// All warnings, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Is there nothing to say?
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(show(&self.file, &self.problems).trim_end())
    }
}

fn show(file: &str, problems: &[Problem]) -> String {
    let mut out = String::new();
    for (index, problem) in problems.iter().take(MAX_SHOWN).enumerate() {
        if index > 0 {
            out.push('\n');
        }
        problem.render(file, &mut out);
    }
    if let Some(more) = problems.len().checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(out, "\nand {more} more");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn private_keys_and_pins_are_masked_and_nothing_moves() {
        let text = "a: 1\nkey: |\n  -----BEGIN EC PRIVATE KEY-----\n  MHcCAQ\n  \u{e9}\n  -----END EC PRIVATE KEY-----\nhsm: pkcs11:x?slot=1&pin=1234\nb: 2\n";
        let masked = mask(text);
        assert_eq!(
            masked,
            "a: 1\nkey: |\n  -----BEGIN EC PRIVATE KEY-----\n********\n****\n**-----END EC PRIVATE KEY-----\nhsm: pkcs11:x?slot=1&pin=****\nb: 2\n"
        );
        assert_eq!(masked.len(), text.len());
    }

    #[test]
    fn a_quoted_value_is_short_and_holds_no_secret() {
        assert_eq!(quote("x\ny`z"), "`x y z`");
        assert_eq!(quote(&"a".repeat(99)).chars().count(), 63);
        assert_eq!(quote("-----BEGIN PRIVATE KEY-----abc"), "a value with a secret in it");
        assert_eq!(quote("pkcs11:lib?pin=1234"), "a value with a secret in it");
    }

    proptest! {
        #[test]
        fn masking_keeps_every_length(text in "(PRIVATE KEY-----|-----END|pin=|\u{e9}|\n|[a-z& ]){0,30}") {
            prop_assert_eq!(mask(&text).len(), text.len());
        }
    }
}
