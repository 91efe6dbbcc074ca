//! A YAML text as a tree whose every node can be located again.
//!
//! `yaml_serde` tells a position only with an error. So nodes are numbered in the order of reading ([`Place`]), and a node is located by
//! reading the text once more and failing on purpose at its number: exact for block and flow style, quotes, anchors and aliases.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::de::{self, DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use zeroize::Zeroizing;

use crate::expand::expand;
use crate::problem::{ConfigErrors, Found, Problem, Severity};

/// The longest text that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// The most nodes a text may have, aliases counted each time they are used.
const MAX_NODES: usize = 20_000;

/// One node of a document, by the order of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub(crate) usize);

/// A parsed text. Holds what the text holds, secrets too, so its `Debug` shows only the file's name.
pub struct ConfigDocument {
    pub(crate) file: String,
    pub(crate) text: Zeroizing<String>,
    pub(crate) root: Node,
    /// What was wrong already while reading: duplicate keys, keys that are no text, variables that are not set.
    pub(crate) found: Vec<Found>,
}

impl fmt::Debug for ConfigDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigDocument").field("file", &self.file).finish_non_exhaustive()
    }
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) content: Content,
}

#[derive(Clone)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    Integer(i128),
    /// A number that is not whole; no key holds one, so its value is not kept.
    Float,
    Text(Zeroizing<String>),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) value: Node,
}

impl Content {
    /// What it is, for "expected …, found …".
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) | Self::Float => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a section",
        }
    }
}

/// Deepest nesting of brackets and braces that the YAML parser is given.
const MAX_BRACKETS: usize = 128;

/// Would the YAML parser, which looks at every open bracket for each word, take minutes for this? It refuses what nests deeper than 128 as
/// well, but only when it has read it all. Brackets in quotes and comments count; nobody leaves so many of those open.
pub fn nests_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return true;
        }
    }
    false
}

impl ConfigDocument {
    /// Reads `text` and replaces the variables in its values by what `env` knows.
    ///
    /// # Errors
    /// When the text is not one YAML document, or too large. Anything else that is wrong waits for [`crate::Check`].
    pub fn parse(file: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let fail = |problem| ConfigErrors::new(file, vec![problem]);
        if text.len() > MAX_TEXT_BYTES {
            let message = format!("the file has {} bytes; {MAX_TEXT_BYTES} are read at most", text.len());
            return Err(ConfigErrors::new(
                file,
                vec![Problem::of_file(Severity::Error, message, Some("is this the right file?".to_owned()))],
            ));
        }
        if nests_too_deep(text) {
            let message = format!("brackets are nested deeper than {MAX_BRACKETS}");
            let hint = Some("is a closing bracket missing?".to_owned());
            return Err(fail(Problem::of_file(Severity::Error, message, hint)));
        }
        let mut walk = Walk::default();
        let mut root = read(text, &mut walk).map_err(|error| {
            let at = error.location().map_or(0, |location| text.floor_char_boundary(location.index()));
            fail(Problem::at(Severity::Error, String::new(), text, at..at, yaml_words(&error), yaml_hint(&error)))
        })?;
        let mut found = walk.found;
        expand_values(&mut root, env, &mut |place, name| {
            found.push(Found::warning(
                Some(place),
                String::new(),
                format!("the variable {} is not set, so it becomes empty", crate::quote(name)),
                Some("set it where this program is started, or write the value out"),
            ));
        });
        Ok(Self { file: file.to_owned(), text: Zeroizing::new(text.to_owned()), root, found })
    }

    /// The file's name as it was given.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Where in the text a node stands, in bytes. `None` if it cannot be told.
    pub(crate) fn locate(&self, place: Place) -> Option<Range<usize>> {
        let mut walk = Walk { stop_at: Some(place), ..Walk::default() };
        let error = read(&self.text, &mut walk).err()?;
        let start = self.text.floor_char_boundary(error.location()?.index());
        Some(start..token_end(&self.text, start, walk.stopped_at_key))
    }
}

/// The end of the token that begins at `start`, on the same line: for the underline only.
fn token_end(text: &str, start: usize, is_key: bool) -> usize {
    let rest = text.get(start..).unwrap_or("");
    let line = rest.lines().next().unwrap_or("");
    let length = match line.chars().next() {
        Some(quote @ ('"' | '\'')) => {
            line.get(1..).and_then(|inside| inside.find(quote)).map_or(line.len(), |at| at + 2)
        }
        _ if is_key => line.find([':', ' ', ',', '}']).unwrap_or(line.len()),
        Some('[' | '{' | '-') => 1,
        _ => {
            let cut = [" #", ", ", "]", " }", ": "].iter().filter_map(|end| line.find(end)).min().unwrap_or(line.len());
            line.get(..cut).map_or(line.len(), |kept| {
                kept.trim_end().trim_end_matches(if kept.contains('{') { '\n' } else { '}' }).len()
            })
        }
    };
    start + length
}

/// The library's words without its own position, which the report shows better.
fn yaml_words(error: &yaml_serde::Error) -> String {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    format!("this is not valid YAML: {}", text.get(..end).unwrap_or(&text))
}

fn yaml_hint(error: &yaml_serde::Error) -> Option<String> {
    let text = error.to_string();
    let hint = if text.contains("cannot start any token") {
        "a tab cannot indent, and a value that begins with `@`, `%` or a backtick needs quotes"
    } else if text.contains("more than one document") {
        "keep one document and remove the others, with the `---` between them"
    } else if text.contains("mapping values are not allowed") || text.contains("did not find expected") {
        "look at the indentation here and in the line above, and put quotes around values that hold `: `"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

fn expand_values(node: &mut Node, env: &dyn Fn(&str) -> Option<String>, unset: &mut dyn FnMut(Place, &str)) {
    let place = node.place;
    match &mut node.content {
        Content::Text(text) if text.contains('$') => **text = expand(text, env, &mut |name| unset(place, name)),
        Content::List(items) => items.iter_mut().for_each(|item| expand_values(item, env, unset)),
        Content::Map(entries) => entries.iter_mut().for_each(|entry| expand_values(&mut entry.value, env, unset)),
        Content::Null | Content::Bool(_) | Content::Integer(_) | Content::Float | Content::Text(_) => {}
    }
}

#[derive(Default)]
struct Walk {
    next: usize,
    stop_at: Option<Place>,
    stopped_at_key: bool,
    found: Vec<Found>,
}

fn read(text: &str, walk: &mut Walk) -> Result<Node, yaml_serde::Error> {
    NodeSeed { walk, is_key: false }.deserialize(yaml_serde::Deserializer::from_str(text))
}

struct NodeSeed<'w> {
    walk: &'w mut Walk,
    is_key: bool,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let place = Place(self.walk.next);
        self.walk.next += 1;
        deserializer.deserialize_any(NodeVisitor { walk: self.walk, place, is_key: self.is_key })
    }
}

struct NodeVisitor<'w> {
    walk: &'w mut Walk,
    place: Place,
    is_key: bool,
}

impl NodeVisitor<'_> {
    /// Fails here if this is the node that is being located: the parser adds the position.
    fn pass<E: de::Error>(&mut self) -> Result<(), E> {
        if self.walk.stop_at == Some(self.place) {
            self.walk.stopped_at_key = self.is_key;
            return Err(E::custom("located"));
        }
        if self.walk.next > MAX_NODES {
            return Err(E::custom(format_args!("more than {MAX_NODES} values, aliases counted each time")));
        }
        Ok(())
    }

    fn scalar<E: de::Error>(mut self, content: Content) -> Result<Node, E> {
        self.pass()?;
        Ok(Node { place: self.place, content })
    }
}

impl<'de> Visitor<'de> for NodeVisitor<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Node, E> {
        self.scalar(Content::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Node, E> {
        self.scalar(Content::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        self.scalar(Content::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Node, E> {
        self.scalar(Content::Integer(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        self.scalar(Content::Integer(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Node, E> {
        self.scalar(Content::Integer(value))
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<Node, E> {
        self.scalar(Content::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<Node, E> {
        self.scalar(Content::Float)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        self.scalar(Content::Text(Zeroizing::new(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Node, A::Error> {
        self.pass()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(NodeSeed { walk: self.walk, is_key: false })? {
            list.push(item);
        }
        Ok(Node { place: self.place, content: Content::List(list) })
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut pairs: A) -> Result<Node, A::Error> {
        self.pass()?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut merged: Vec<Entry> = Vec::new();
        // Looking a key up among thousands, again for each, would take minutes: the text is read once more for every problem shown.
        let mut known: BTreeMap<String, Place> = BTreeMap::new();
        while let Some(key) = pairs.next_key_seed(NodeSeed { walk: self.walk, is_key: true })? {
            let key_place = key.place;
            let value = pairs.next_value_seed(NodeSeed { walk: self.walk, is_key: false })?;
            let name = match &key.content {
                Content::Text(text) => String::from(text.as_str()),
                Content::Bool(value) => value.to_string(),
                Content::Integer(value) => value.to_string(),
                Content::Null | Content::Float | Content::List(_) | Content::Map(_) => {
                    let message = format!("a key must be text, found {}", key.content.kind());
                    self.walk.found.push(Found::error(
                        Some(key_place),
                        String::new(),
                        message,
                        Some("put the key in quotes"),
                    ));
                    continue;
                }
            };
            if name == "<<" {
                match merge(value.content) {
                    Some(more) => merged.extend(more),
                    None => {
                        let message = "`<<` merges a section or a list of sections".to_owned();
                        self.walk.found.push(Found::error(
                            Some(key_place),
                            name,
                            message,
                            Some("point it at a section with `*name`"),
                        ));
                    }
                }
            } else if let Some(first) = known.get(&name) {
                let message = format!("the key {} is there twice", crate::quote(&name));
                let found = Found::error(Some(key_place), name, message, Some("keep one of the two"));
                self.walk.found.push(found.beside(*first, "first here"));
            } else {
                known.insert(name.clone(), key_place);
                entries.push(Entry { key: name, key_place, value });
            }
        }
        for entry in merged {
            if !known.contains_key(&entry.key) {
                known.insert(entry.key.clone(), entry.key_place);
                entries.push(entry);
            }
        }
        Ok(Node { place: self.place, content: Content::Map(entries) })
    }

    /// A tag (`!secret x`) says nothing to us; its value is taken as it is.
    fn visit_enum<A: EnumAccess<'de>>(mut self, tagged: A) -> Result<Node, A::Error> {
        self.pass()?;
        let (_tag, value): (String, _) = tagged.variant()?;
        value.newtype_variant_seed(NodeSeed { walk: self.walk, is_key: self.is_key })
    }
}

fn merge(content: Content) -> Option<Vec<Entry>> {
    match content {
        Content::Map(entries) => Some(entries),
        Content::List(items) => {
            let mut all = Vec::new();
            for item in items {
                match item.content {
                    Content::Map(entries) => all.extend(entries),
                    _ => return None,
                }
            }
            Some(all)
        }
        Content::Null | Content::Bool(_) | Content::Integer(_) | Content::Float | Content::Text(_) => None,
    }
}
