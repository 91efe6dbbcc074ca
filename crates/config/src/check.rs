//! Walks a document along a table of keys and collects everything that is wrong.
//!
//! The walk never stops at a problem. Whoever reads a value gets `None` for "absent or wrong, and noted"; [`Check::finish`] decides at the end.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::document::{ConfigDocument, Content, Entry, Node, Place};
use crate::duration::{parse_duration, show_duration};
use crate::problem::{ConfigErrors, Found, MAX_SHOWN, Problem, Severity, Warnings, quote};
use crate::spelling::nearest;

/// One key that a section may hold.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// How it is spelled.
    pub name: &'static str,
    /// What it holds.
    pub kind: KeyKind,
}

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum KeyKind {
    /// A value, or a list of values.
    Value,
    /// A section with keys of its own.
    Section(&'static [Key]),
    /// A list of such sections.
    List(&'static [Key]),
    /// Something that OpenZiti knows and we do not serve; whatever is below it is not looked at.
    Unserved,
}

/// What a value must look like, for messages.
pub type Shape = &'static str;

impl Key {
    /// A key that holds a value or a list of values.
    pub const fn value(name: &'static str) -> Self {
        Self { name, kind: KeyKind::Value }
    }

    /// A key that holds a section.
    pub const fn section(name: &'static str, keys: &'static [Self]) -> Self {
        Self { name, kind: KeyKind::Section(keys) }
    }

    /// A key that holds a list of sections.
    pub const fn list(name: &'static str, keys: &'static [Self]) -> Self {
        Self { name, kind: KeyKind::List(keys) }
    }

    /// A key that OpenZiti knows and we do not serve.
    pub const fn unserved(name: &'static str) -> Self {
        Self { name, kind: KeyKind::Unserved }
    }
}

/// Paths of all served keys of a table, such as `web[].bindPoints[].interface`, in its order.
pub fn key_paths(table: &[Key]) -> Vec<String> {
    let mut paths = Vec::new();
    collect_paths("", table, &mut paths);
    paths
}

fn collect_paths(prefix: &str, table: &[Key], paths: &mut Vec<String>) {
    for key in table {
        let path = join(prefix, key.name);
        match key.kind {
            KeyKind::Value => paths.push(path),
            KeyKind::Section(keys) => {
                paths.push(path.clone());
                collect_paths(&path, keys, paths);
            }
            KeyKind::List(keys) => {
                paths.push(format!("{path}[]"));
                collect_paths(&format!("{path}[]"), keys, paths);
            }
            KeyKind::Unserved => {}
        }
    }
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// What happens to keys that no table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKeys {
    /// They are ignored with a warning; so are keys that only OpenZiti serves.
    Warn,
    /// They are errors.
    Refuse,
}

/// The walk through one document.
#[derive(Debug)]
pub struct Check<'d> {
    document: &'d ConfigDocument,
    unknown: UnknownKeys,
    found: RefCell<Vec<Found>>,
    unserved: RefCell<Vec<(String, Place)>>,
}

impl<'d> Check<'d> {
    /// Begins a walk.
    pub fn new(document: &'d ConfigDocument, unknown: UnknownKeys) -> Self {
        Self { document, unknown, found: RefCell::new(document.found.clone()), unserved: RefCell::default() }
    }

    /// The whole document as a section. An empty document is an empty section.
    pub fn root<'c>(&'c self, table: &'static [Key]) -> Section<'c> {
        let node = &self.document.root;
        let field = Field { check: self, path: String::new(), key_place: None, node, kind: KeyKind::Section(table) };
        match &node.content {
            Content::Null => Section { check: self, path: String::new(), place: None, entries: &[], table },
            _ => field.section().unwrap_or(Section {
                check: self,
                path: String::new(),
                place: None,
                entries: &[],
                table,
            }),
        }
    }

    fn note(&self, found: Found) {
        self.found.borrow_mut().push(found);
    }

    /// Notes an error that belongs to no key.
    pub fn error(&self, message: impl Into<String>, hint: Option<&str>) {
        self.note(Found::error(None, String::new(), message.into(), hint));
    }

    /// Ends the walk: `built` and its warnings, or everything that is wrong.
    ///
    /// # Errors
    /// When an error was noted, or nothing was built.
    pub fn finish<T>(self, built: Option<T>) -> Result<(T, Warnings), ConfigErrors> {
        self.note_unserved();
        let mut found = self.found.take();
        let has_error = found.iter().any(|one| one.severity == Severity::Error);
        if built.is_none() && !has_error {
            found.push(Found::error(
                None,
                String::new(),
                "the configuration cannot be used, and nobody noted why".to_owned(),
                Some("please report this as a bug"),
            ));
        }
        // Locating reads the text again for each problem, so only as many as are shown are located, errors first.
        found.sort_by_key(|one| (one.severity, one.place));
        let mut problems: Vec<Problem> =
            found.into_iter().enumerate().map(|(index, one)| self.locate(one, index < MAX_SHOWN)).collect();
        if problems.len() <= MAX_SHOWN {
            problems.sort_by_key(|problem| (problem.line, problem.column));
        }
        match built {
            Some(built) if !has_error => Ok((built, Warnings::new(self.document.file(), problems))),
            _ => Err(ConfigErrors::new(self.document.file(), problems)),
        }
    }

    fn note_unserved(&self) {
        let unserved = self.unserved.take();
        let Some((_, first)) = unserved.first() else { return };
        let names: Vec<String> = unserved.iter().map(|(path, _)| format!("`{path}`")).collect();
        let names = names.join(", ");
        self.note(match self.unknown {
            UnknownKeys::Warn => Found::warning(
                Some(*first),
                String::new(),
                format!(
                    "OpenZiti knows these settings, but this program does not serve them yet and ignores them: {names}"
                ),
                None,
            ),
            UnknownKeys::Refuse => Found::error(
                Some(*first),
                String::new(),
                format!("OpenZiti knows these settings, but this program does not serve them: {names}"),
                Some("remove them"),
            ),
        });
    }

    fn locate(&self, found: Found, exactly: bool) -> Problem {
        let text = &self.document.text;
        let span = found.place.filter(|_| exactly).and_then(|place| self.document.locate(place));
        let Some(span) = span else {
            let mut problem = Problem::of_file(found.severity, found.message, found.hint);
            problem.key = found.key;
            return problem;
        };
        let problem = Problem::at(found.severity, found.key, text, span.clone(), found.message, found.hint);
        match found.beside.and_then(|(place, label)| Some((self.document.locate(place)?, label))) {
            Some(beside) => problem.with_beside(text, span, &[beside]),
            None => problem,
        }
    }
}

/// A section of the document and the table of what it may hold.
#[derive(Clone, Debug)]
pub struct Section<'c> {
    check: &'c Check<'c>,
    path: String,
    place: Option<Place>,
    entries: &'c [Entry],
    table: &'static [Key],
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.key)
    }
}

impl<'c> Section<'c> {
    /// Path of the section; empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Notes keys that do not belong here.
    fn look_for_strangers(&self) {
        let is_free = |name: &&str| !self.entries.iter().any(|entry| entry.key == *name);
        let free: Vec<&str> = self.table.iter().map(|key| key.name).filter(is_free).collect();
        for entry in self.entries {
            match self.table.iter().find(|key| key.name == entry.key) {
                Some(Key { kind: KeyKind::Unserved, .. }) => {
                    self.check.unserved.borrow_mut().push((join(&self.path, &entry.key), entry.key_place));
                }
                Some(_) => {}
                None => self.note_stranger(entry, &free),
            }
        }
    }

    /// `free` are the keys of the table that the section does not have yet.
    fn note_stranger(&self, entry: &Entry, free: &[&str]) {
        let hint = match nearest(&entry.key, free.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => {
                let names: Vec<&str> = self
                    .table
                    .iter()
                    .filter(|key| !matches!(key.kind, KeyKind::Unserved))
                    .map(|key| key.name)
                    .collect();
                format!("known here: {}", names.join(", "))
            }
        };
        let whole = join(&self.path, &entry.key);
        let message = format!("unknown key {}", quote(&whole));
        self.check.note(match self.check.unknown {
            UnknownKeys::Warn => {
                Found::warning(Some(entry.key_place), whole, format!("{message} is ignored"), Some(&hint))
            }
            UnknownKeys::Refuse => Found::error(Some(entry.key_place), whole, message, Some(&hint)),
        });
    }

    /// The value under `name`, unless it is absent or null.
    pub fn field(&self, name: &'static str) -> Option<Field<'c>> {
        let kind = self.table.iter().find(|key| key.name == name).map(|key| key.kind);
        debug_assert!(kind.is_some(), "`{name}` is in no table");
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        let is_null = matches!(entry.value.content, Content::Null);
        (!is_null).then(|| Field {
            check: self.check,
            path: join(&self.path, name),
            key_place: Some(entry.key_place),
            node: &entry.value,
            kind: kind.unwrap_or(KeyKind::Value),
        })
    }

    /// As [`Self::field`]; notes an error if it is not there.
    pub fn required(&self, name: &'static str, hint: &str) -> Option<Field<'c>> {
        let field = self.field(name);
        if field.is_none() {
            let empty = self.entries.iter().find(|entry| entry.key == name).map(|entry| entry.key_place);
            let whole = join(&self.path, name);
            let state = if empty.is_some() { "empty" } else { "missing" };
            self.check.note(Found::error(
                empty.or(self.place),
                whole.clone(),
                format!("`{whole}` is {state}"),
                Some(hint),
            ));
        }
        field
    }

    /// The section under `name`, if there is one.
    pub fn section(&self, name: &'static str) -> Option<Section<'c>> {
        self.field(name)?.section()
    }

    /// The section under `name`; notes an error if it is not there.
    pub fn required_section(&self, name: &'static str, hint: &str) -> Option<Section<'c>> {
        self.required(name, hint)?.section()
    }

    /// The sections of the list under `name`; none if it is absent.
    pub fn sections(&self, name: &'static str) -> Vec<Section<'c>> {
        let items = self.field(name).and_then(|field| field.items()).unwrap_or_default();
        items.iter().filter_map(Field::section).collect()
    }

    /// The duration under `name`, or `default` if it is absent.
    pub fn duration_or(&self, name: &'static str, default: Duration, range: RangeInclusive<Duration>) -> Duration {
        self.field(name).and_then(|field| field.duration(range)).unwrap_or(default)
    }

    /// The number under `name`, or `default` if it is absent.
    pub fn integer_or<N: TryFrom<i128>>(&self, name: &'static str, default: N, range: RangeInclusive<i128>) -> N {
        self.field(name).and_then(|field| field.integer(range)).unwrap_or(default)
    }

    /// The answer under `name`, or `default` if it is absent.
    pub fn boolean_or(&self, name: &'static str, default: bool) -> bool {
        self.field(name).and_then(|field| field.boolean()).unwrap_or(default)
    }

    /// Notes an error about the section as a whole.
    pub fn error(&self, message: impl Into<String>, hint: Option<&str>) {
        self.check.note(Found::error(self.place, self.path.clone(), message.into(), hint));
    }
}

/// One value of the document.
#[derive(Clone)]
pub struct Field<'c> {
    check: &'c Check<'c>,
    path: String,
    key_place: Option<Place>,
    node: &'c Node,
    kind: KeyKind,
}

impl std::fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Field").field("path", &self.path).finish_non_exhaustive()
    }
}

impl<'c> Field<'c> {
    /// Path of the key, such as `ctrl.endpoints[1]`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Notes an error about this value.
    pub fn error(&self, message: impl Into<String>, hint: Option<&str>) {
        self.check.note(Found::error(Some(self.node.place), self.path.clone(), message.into(), hint));
    }

    /// Notes a warning about this value.
    pub fn warn(&self, message: impl Into<String>, hint: Option<&str>) {
        self.check.note(Found::warning(Some(self.node.place), self.path.clone(), message.into(), hint));
    }

    fn wrong_type(&self, expected: Shape, hint: Option<&str>) {
        self.error(format!("expected {expected}, found {}", self.node.content.kind()), hint);
    }

    /// Is it text? For keys that hold either a word or a section.
    pub fn is_text(&self) -> bool {
        matches!(self.node.content, Content::Text(_))
    }

    /// Is it the null value, as an empty list item is?
    pub fn is_null(&self) -> bool {
        matches!(self.node.content, Content::Null)
    }

    /// A text that is not empty.
    pub fn text(&self) -> Option<&'c str> {
        let text = self.text_or_empty()?;
        if text.trim().is_empty() {
            self.error("expected text, found an empty one", None);
            return None;
        }
        Some(text)
    }

    /// A text.
    pub fn text_or_empty(&self) -> Option<&'c str> {
        match &self.node.content {
            Content::Text(text) => Some(text.as_str()),
            Content::Bool(_) | Content::Integer(_) | Content::Float => {
                self.wrong_type("text", Some("put the value in quotes"));
                None
            }
            Content::Null | Content::List(_) | Content::Map(_) => {
                self.wrong_type("text", None);
                None
            }
        }
    }

    /// A path that is not empty, as it is written.
    pub fn path_buf(&self) -> Option<PathBuf> {
        let text = self.text()?;
        if text.contains('\0') {
            self.error("a path cannot hold a zero character", None);
            return None;
        }
        Some(PathBuf::from(text))
    }

    /// A whole number within `range`.
    pub fn integer<N: TryFrom<i128>>(&self, range: RangeInclusive<i128>) -> Option<N> {
        let Content::Integer(number) = self.node.content else {
            let hint = matches!(&self.node.content, Content::Text(text) if text.trim().parse::<i128>().is_ok())
                .then_some("remove the quotes");
            self.wrong_type("a whole number", hint);
            return None;
        };
        match N::try_from(number).ok().filter(|_| range.contains(&number)) {
            Some(number) => Some(number),
            None => {
                self.error(format!("must be between {} and {}, found {number}", range.start(), range.end()), None);
                None
            }
        }
    }

    /// `true` or `false`, also as YAML 1.1 spelled them (`yes`, `off`), which OpenZiti reads.
    pub fn boolean(&self) -> Option<bool> {
        let word = match &self.node.content {
            Content::Bool(value) => return Some(*value),
            Content::Text(text) => text.to_ascii_lowercase(),
            Content::Null | Content::Integer(_) | Content::Float | Content::List(_) | Content::Map(_) => String::new(),
        };
        match word.as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => {
                self.wrong_type("`true` or `false`", None);
                None
            }
        }
    }

    /// A duration within `range`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = match &self.node.content {
            Content::Text(text) => text.as_str(),
            Content::Integer(0) => "0",
            Content::Integer(number) => {
                self.error("a duration needs a unit", Some(&format!("write `{number}s` or `{number}ms`, for example")));
                return None;
            }
            Content::Null | Content::Bool(_) | Content::Float | Content::List(_) | Content::Map(_) => {
                self.wrong_type("a duration such as `30s`", None);
                return None;
            }
        };
        match parse_duration(text) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(_) => {
                let (low, high) = (show_duration(*range.start()), show_duration(*range.end()));
                self.error(format!("must be between `{low}` and `{high}`, found {}", quote(text)), None);
                None
            }
            Err(error) => {
                self.error(
                    format!("{} is no duration: {error}", quote(text)),
                    Some("write it as in `30s`, `1h30m`, `500ms` or `7d`"),
                );
                None
            }
        }
    }

    /// One of the named values.
    pub fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        // `on` and `off` may arrive as text, and `true` and `false` are what other tools make of them.
        let word = match &self.node.content {
            Content::Bool(true) => "on",
            Content::Bool(false) => "off",
            _ => self.text()?,
        };
        let chosen = choices.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if chosen.is_none() {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            let hint =
                nearest(word, choices.iter().map(|(name, _)| *name)).map(|meant| format!("did you mean `{meant}`?"));
            self.error(format!("expected one of {}, found {}", names.join(", "), quote(word)), hint.as_deref());
        }
        chosen
    }

    /// A text that parses as `T`.
    pub fn parse<T>(&self, hint: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.text()?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(format!("cannot use {}: {error}", quote(text)), Some(hint));
                None
            }
        }
    }

    /// The items of a list.
    pub fn items(&self) -> Option<Vec<Field<'c>>> {
        let Content::List(items) = &self.node.content else {
            self.wrong_type("a list", Some("begin each item with `- `"));
            return None;
        };
        let kind = match self.kind {
            KeyKind::List(table) => KeyKind::Section(table),
            other => other,
        };
        Some(
            items
                .iter()
                .enumerate()
                .map(|(index, node)| Field {
                    check: self.check,
                    path: format!("{}[{index}]", self.path),
                    key_place: None,
                    node,
                    kind,
                })
                .collect(),
        )
    }

    /// The text that is there, if it is one. Notes nothing: for looking into what is not served.
    pub fn peek_text(&self) -> Option<&'c str> {
        match &self.node.content {
            Content::Text(text) => Some(text.as_str()),
            _ => None,
        }
    }

    /// The items that are there. Notes nothing.
    pub fn peek_items(&self) -> Vec<Field<'c>> {
        if matches!(self.node.content, Content::List(_)) { self.items().unwrap_or_default() } else { Vec::new() }
    }

    /// The value under `name`, if this is a section that has it. Notes nothing.
    pub fn peek(&self, name: &str) -> Option<Field<'c>> {
        let Content::Map(entries) = &self.node.content else { return None };
        let entry = entries.iter().find(|entry| entry.key == name)?;
        Some(Field {
            check: self.check,
            path: join(&self.path, name),
            key_place: Some(entry.key_place),
            node: &entry.value,
            kind: KeyKind::Unserved,
        })
    }

    /// A section, its keys looked at.
    pub fn section(&self) -> Option<Section<'c>> {
        let Content::Map(entries) = &self.node.content else {
            self.wrong_type("a section with keys", None);
            return None;
        };
        let table = match self.kind {
            KeyKind::Section(table) | KeyKind::List(table) => table,
            KeyKind::Value | KeyKind::Unserved => &[],
        };
        let place = (!self.path.is_empty()).then(|| self.key_place.unwrap_or(self.node.place));
        let section = Section { check: self.check, path: self.path.clone(), place, entries, table };
        section.look_for_strangers();
        Some(section)
    }
}
