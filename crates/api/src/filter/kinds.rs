//! Which fields a list knows, and what each can be compared with. A comparison that could never hold is a mistake of
//! whoever wrote it, and is told instead of answered with an empty list.

use super::condition::{Condition, Operator, Over};
use super::{FieldValue, FilterError, Sort};

/// A field that a list can be filtered and sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name. One that ends in `.*` stands for every name that begins like it.
    pub name: &'static str,
    /// What it holds.
    pub kind: FieldKind,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Text.
    Text,
    /// A number.
    Number,
    /// Yes or no.
    Flag,
    /// An instant.
    Time,
    /// Several texts.
    Texts,
    /// Whatever was put there.
    Any,
}

impl Field {
    /// A field of this name and kind.
    pub const fn new(name: &'static str, kind: FieldKind) -> Self {
        Self { name, kind }
    }

    fn is_called(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()),
            None => self.name == name,
        }
    }
}

fn kind_of(name: &str, known: &[Field]) -> Result<FieldKind, FilterError> {
    let found = known.iter().find(|field| field.is_called(name));
    found.map(|field| field.kind).ok_or_else(|| FilterError::UnknownField(name.to_owned()))
}

pub(super) fn check_sort(sort: &[Sort], known: &[Field]) -> Result<(), FilterError> {
    for key in sort {
        if kind_of(&key.field, known)? == FieldKind::Texts {
            return Err(FilterError::NoOrder(key.field.clone()));
        }
    }
    Ok(())
}

impl Condition {
    pub(super) fn check(&self, known: &[Field]) -> Result<(), FilterError> {
        for part in self.parts() {
            match part {
                Self::Always(_) | Self::Not(_) | Self::All(_) | Self::Any(_) => {}
                Self::Flag(field) => match kind_of(field, known)? {
                    FieldKind::Flag | FieldKind::Any => {}
                    kind => return Err(incomparable(field, kind, "nothing")),
                },
                Self::Empty(field) => several(field, "isEmpty", known)?,
                Self::Compare { field, over, operator, values } => {
                    let kind = match over {
                        Over::Itself => kind_of(field, known)?,
                        Over::Any => several(field, "anyOf", known).map(|()| FieldKind::Texts)?,
                        Over::All => several(field, "allOf", known).map(|()| FieldKind::Texts)?,
                        Over::Count => several(field, "count", known).map(|()| FieldKind::Number)?,
                    };
                    for value in values {
                        if let Some(with) = mismatch(kind, *operator, value) {
                            return Err(incomparable(field, kind, with));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

fn several(field: &str, function: &'static str, known: &[Field]) -> Result<(), FilterError> {
    match kind_of(field, known)? {
        FieldKind::Texts => Ok(()),
        _ => Err(FilterError::NotSeveral { function, field: field.to_owned() }),
    }
}

fn incomparable(field: &str, kind: FieldKind, with: &'static str) -> FilterError {
    let is = match kind {
        FieldKind::Text | FieldKind::Texts => "is text",
        FieldKind::Number => "is a number",
        FieldKind::Flag => "is true or false",
        FieldKind::Time => "is an instant",
        FieldKind::Any => "is anything",
    };
    FilterError::Incomparable { field: field.to_owned(), is, with }
}

/// What is wrong with comparing a field of this kind with this value, if anything is.
fn mismatch(kind: FieldKind, operator: Operator, value: &FieldValue) -> Option<&'static str> {
    let is_equality = matches!(operator, Operator::Equal | Operator::NotEqual);
    let is_about_parts = matches!(
        operator,
        Operator::Contains | Operator::NotContains | Operator::ContainsIgnoringCase | Operator::NotContainsIgnoringCase
    );
    match (kind, value) {
        (FieldKind::Any, _) => None,
        (_, FieldValue::Null) => (!is_equality).then_some("`null` in this way"),
        (FieldKind::Text | FieldKind::Texts | FieldKind::Number, FieldValue::Text(_) | FieldValue::Number(_))
            if is_about_parts =>
        {
            None
        }
        (_, _) if is_about_parts => Some("a part of a text"),
        (FieldKind::Text | FieldKind::Texts, FieldValue::Text(_))
        | (FieldKind::Number, FieldValue::Number(_))
        | (FieldKind::Time, FieldValue::Time(_)) => None,
        (FieldKind::Flag, FieldValue::Flag(_)) if is_equality => None,
        (FieldKind::Flag, FieldValue::Flag(_)) => Some("more or less"),
        (_, FieldValue::Text(_) | FieldValue::Texts(_)) => Some("a text"),
        (_, FieldValue::Number(_)) => Some("a number"),
        (_, FieldValue::Time(_)) => Some("an instant"),
        (_, FieldValue::Flag(_)) => Some("true or false"),
    }
}
