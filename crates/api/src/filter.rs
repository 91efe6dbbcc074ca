//! The part of OpenZiti's query language that lists of routers need.
//!
//! `name = "r1"`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `icontains`, `in [..]`, `not contains`, `not in`,
//! `anyOf(roleAttributes) = "x"`, `true`, `false`, joined by `and`, `or`, `not` and parentheses, and then optionally
//! `sort by name desc`, `skip 10`, `limit 20` or `limit none`. Everything else is refused with a sentence.
//! Source: `openziti/storage:zitiql/ZitiQl.g4`.

mod lex;
mod parse;

use std::cmp::Ordering;

pub use parse::MAX_FILTER_BYTES;

/// A query that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    condition: Condition,
    /// Order that the query itself asks for.
    pub sort: Vec<Sort>,
    /// Rows to skip, if the query itself says so.
    pub skip: Option<u64>,
    /// Most rows, if the query itself says so.
    pub limit: Option<Limit>,
}

/// Most rows that a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many as the server is willing to send.
    None,
    /// This many.
    Rows(u64),
}

/// One key to sort by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    /// Which field.
    pub field: String,
    /// Greatest first?
    pub is_descending: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Condition {
    Always(bool),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Compare { field: String, operator: Operator, values: Vec<FieldValue> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    ContainsIgnoringCase,
    In,
}

/// What a field of a row holds, or what a query compares it with.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// Text.
    Text(String),
    /// Number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// Several texts; a comparison holds if it holds for any of them.
    Texts(Vec<String>),
    /// Nothing.
    Null,
}

/// Why a query was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It is longer than any person would write.
    #[error("the query has {0} bytes; at most {MAX_FILTER_BYTES} are accepted")]
    TooLong(usize),
    /// It nests deeper than any person would write.
    #[error("the query nests too deep")]
    TooDeep,
    /// A text has no end.
    #[error("the text that starts at position {0} has no closing quote")]
    OpenText(usize),
    /// Something that the grammar does not have.
    #[error("expected {expected} at position {at}, found `{found}`")]
    Unexpected {
        /// Where, in bytes.
        at: usize,
        /// What would do.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A field that cannot be asked about.
    #[error("`{0}` is not a field that can be filtered or sorted by")]
    UnknownField(String),
}

impl Query {
    /// The query that every row matches.
    pub fn everything() -> Self {
        Self { condition: Condition::Always(true), sort: Vec::new(), skip: None, limit: None }
    }

    /// Reads a query.
    ///
    /// # Errors
    /// What cannot be understood, and where it is.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::query(text)
    }

    /// Reads the value of a `sort` parameter: fields separated by commas, each with `asc` or `desc`.
    ///
    /// # Errors
    /// What cannot be understood, and where it is.
    pub fn parse_sort(text: &str) -> Result<Vec<Sort>, FilterError> {
        parse::sort_only(text)
    }

    /// Are all fields of the query among `known`?
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check_fields(&self, known: &[&str]) -> Result<(), FilterError> {
        let unknown = |field: &String| FilterError::UnknownField(field.clone());
        let mut open = vec![&self.condition];
        while let Some(condition) = open.pop() {
            match condition {
                Condition::Always(_) => {}
                Condition::Not(inner) => open.push(inner),
                Condition::All(inner) | Condition::Any(inner) => open.extend(inner),
                Condition::Compare { field, .. } if known.contains(&field.as_str()) => {}
                Condition::Compare { field, .. } => return Err(unknown(field)),
            }
        }
        match self.sort.iter().find(|sort| !known.contains(&sort.field.as_str())) {
            Some(sort) => Err(unknown(&sort.field)),
            None => Ok(()),
        }
    }

    /// The text that `field` must equal for a row to match, if the query says so: a register can look it up.
    pub fn required_text(&self, field: &str) -> Option<&str> {
        fn of<'a>(condition: &'a Condition, wanted: &str) -> Option<&'a str> {
            match condition {
                Condition::Compare { field, operator: Operator::Equal, values } if field == wanted => {
                    match values.as_slice() {
                        [FieldValue::Text(text)] => Some(text),
                        _ => None,
                    }
                }
                Condition::All(inner) => inner.iter().find_map(|condition| of(condition, wanted)),
                _ => None,
            }
        }
        of(&self.condition, field)
    }

    /// Does every row match?
    pub fn is_everything(&self) -> bool {
        self.condition == Condition::Always(true)
    }

    /// Does the row whose fields `read` tells match?
    pub fn matches(&self, read: &dyn Fn(&str) -> FieldValue) -> bool {
        self.condition.holds(read)
    }

    /// Compares two rows by `sort`.
    pub fn compare(sort: &[Sort], left: &dyn Fn(&str) -> FieldValue, right: &dyn Fn(&str) -> FieldValue) -> Ordering {
        for key in sort {
            let order = rank(&left(&key.field), &right(&key.field));
            let order = if key.is_descending { order.reverse() } else { order };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }
}

impl Condition {
    fn holds(&self, read: &dyn Fn(&str) -> FieldValue) -> bool {
        match self {
            Self::Always(yes) => *yes,
            Self::Not(inner) => !inner.holds(read),
            Self::All(inner) => inner.iter().all(|condition| condition.holds(read)),
            Self::Any(inner) => inner.iter().any(|condition| condition.holds(read)),
            Self::Compare { field, operator, values } => match read(field) {
                FieldValue::Texts(texts) => {
                    texts.into_iter().any(|text| operator.holds(&FieldValue::Text(text), values))
                }
                held => operator.holds(&held, values),
            },
        }
    }
}

impl Operator {
    fn holds(self, held: &FieldValue, values: &[FieldValue]) -> bool {
        let Some(first) = values.first() else { return false };
        match self {
            Self::Equal => held == first,
            Self::In => values.contains(held),
            Self::Less => same_kind(held, first) && rank(held, first).is_lt(),
            Self::LessOrEqual => same_kind(held, first) && rank(held, first).is_le(),
            Self::Greater => same_kind(held, first) && rank(held, first).is_gt(),
            Self::GreaterOrEqual => same_kind(held, first) && rank(held, first).is_ge(),
            Self::Contains | Self::ContainsIgnoringCase => match (held, first) {
                (FieldValue::Text(held), FieldValue::Text(part)) if self == Self::Contains => held.contains(part),
                (FieldValue::Text(held), FieldValue::Text(part)) => held.to_lowercase().contains(&part.to_lowercase()),
                _ => false,
            },
        }
    }
}

fn same_kind(left: &FieldValue, right: &FieldValue) -> bool {
    std::mem::discriminant(left) == std::mem::discriminant(right)
}

fn rank(left: &FieldValue, right: &FieldValue) -> Ordering {
    let kind = |value: &FieldValue| match value {
        FieldValue::Null => 0,
        FieldValue::Flag(_) => 1,
        FieldValue::Number(_) => 2,
        FieldValue::Text(_) => 3,
        FieldValue::Texts(_) => 4,
    };
    match (left, right) {
        (FieldValue::Text(left), FieldValue::Text(right)) => left.cmp(right),
        (FieldValue::Texts(left), FieldValue::Texts(right)) => left.cmp(right),
        (FieldValue::Number(left), FieldValue::Number(right)) => left.total_cmp(right),
        (FieldValue::Flag(left), FieldValue::Flag(right)) => left.cmp(right),
        (left, right) => kind(left).cmp(&kind(right)),
    }
}

#[cfg(test)]
mod tests;
