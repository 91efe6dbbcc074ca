//! The part of OpenZiti's query language that lists of routers need.
//!
//! `name = "r1"`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `icontains`, `in [..]`, `between 1 and 5`, each also after `not`;
//! `datetime(2026-01-01T00:00:00Z)`, `null`, `tags.site`; `anyOf(roleAttributes) = "x"`, `allOf(..)`, `count(..)`,
//! `isEmpty(..)`; a flag by itself; `true`, `false`; joined by `and`, `or`, `not` and parentheses, and then optionally
//! `sort by name desc`, `skip 10`, `limit 20` or `limit none`. Everything else is refused with a sentence.
//!
//! `and` and `or` bind alike, and to the right: `a and b or c` is `a and (b or c)`, and `not a and b` is `not (a and b)`.
//! That is no mistake of ours: it is what a stock controller does with them, and a `delete … where` must not choose other
//! routers here than there. Source: `openziti/ziti:controller/storage/zitiql/ZitiQl.g4`, tried against 2.1.

mod condition;
mod kinds;
mod lex;
mod parse;

use std::cmp::Ordering;

use condition::{Condition, rank};
pub use kinds::{Field, FieldKind};
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

/// What a field of a row holds, or what a query compares it with.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// Text.
    Text(String),
    /// Number.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// An instant: milliseconds since 1970, UTC.
    Time(i64),
    /// Several texts.
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
    /// A field that cannot be compared like this.
    #[error("`{field}` {is}, which cannot be compared with {with}")]
    Incomparable {
        /// Which field.
        field: String,
        /// What it is.
        is: &'static str,
        /// What it is compared with.
        with: &'static str,
    },
    /// A function of sets on a field that is none.
    #[error("`{function}` needs a field that holds several values; `{field}` does not")]
    NotSeveral {
        /// Which function.
        function: &'static str,
        /// Which field.
        field: String,
    },
    /// A field that has no order.
    #[error("`{0}` holds several values and cannot be sorted by")]
    NoOrder(String),
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

    /// Are all fields of the query among `known`, compared with what they can be compared with?
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check_fields(&self, known: &[Field]) -> Result<(), FilterError> {
        self.condition.check(known)?;
        kinds::check_sort(&self.sort, known)
    }

    /// Can rows be sorted like this?
    ///
    /// # Errors
    /// The first key by which they cannot.
    pub fn check_sort(sort: &[Sort], known: &[Field]) -> Result<(), FilterError> {
        kinds::check_sort(sort, known)
    }

    /// Field and text pairs of which a row must match one, if the query says so about the fields of `indexed`: a register can
    /// look them up instead of reading every row.
    pub fn lookups(&self, indexed: &[&str]) -> Option<Vec<(&str, &str)>> {
        self.condition.lookups(indexed)
    }

    /// Does the query, its order included, ask for this field at all?
    pub fn mentions(&self, field: &str) -> bool {
        self.condition.mentions(field) || self.sort.iter().any(|sort| sort.field == field)
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

#[cfg(test)]
mod tests;
