//! What a query demands of a row.

use std::cmp::Ordering;

use super::FieldValue;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    Always(bool),
    Not(Box<Condition>),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    /// A field that is true by itself.
    Flag(String),
    Empty(String),
    Compare {
        field: String,
        over: Over,
        operator: Operator,
        values: Vec<FieldValue>,
    },
}

/// Which part of a field a comparison is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The field; of several values any.
    Itself,
    Any,
    All,
    Count,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    NotContains,
    ContainsIgnoringCase,
    NotContainsIgnoringCase,
    In,
    NotIn,
    /// From the first value, which counts, to the second, which does not.
    Between,
    NotBetween,
}

impl Condition {
    pub(super) fn holds(&self, read: &dyn Fn(&str) -> FieldValue) -> bool {
        match self {
            Self::Always(yes) => *yes,
            Self::Not(inner) => !inner.holds(read),
            Self::All(inner) => inner.iter().all(|condition| condition.holds(read)),
            Self::Any(inner) => inner.iter().any(|condition| condition.holds(read)),
            Self::Flag(field) => read(field) == FieldValue::Flag(true),
            Self::Empty(field) => match read(field) {
                FieldValue::Texts(texts) => texts.is_empty(),
                held => held == FieldValue::Null,
            },
            Self::Compare { field, over, operator, values } => match (over, read(field)) {
                // Counts of a router's attributes are far below what a float holds exactly.
                #[expect(clippy::cast_precision_loss, reason = "a body holds at most a million bytes")]
                (Over::Count, FieldValue::Texts(texts)) => {
                    operator.holds(&FieldValue::Number(texts.len() as f64), values)
                }
                (Over::Count, held) => operator.holds(&held, values),
                (_, FieldValue::Texts(texts)) if values == &[FieldValue::Null] => {
                    texts.is_empty() == (*operator == Operator::Equal)
                }
                (Over::All, FieldValue::Texts(texts)) => {
                    texts.into_iter().all(|text| operator.holds(&FieldValue::Text(text), values))
                }
                (Over::Itself | Over::Any, FieldValue::Texts(texts)) => {
                    texts.into_iter().any(|text| operator.holds(&FieldValue::Text(text), values))
                }
                (_, held) => operator.holds(&held, values),
            },
        }
    }

    pub(super) fn lookups(&self, indexed: &[&str]) -> Option<Vec<(&str, &str)>> {
        match self {
            Self::Compare { field, over: Over::Itself, operator: Operator::Equal | Operator::In, values }
                if indexed.contains(&field.as_str()) =>
            {
                let texts = values.iter().map(|value| match value {
                    FieldValue::Text(text) => Some((field.as_str(), text.as_str())),
                    _ => None,
                });
                texts.collect()
            }
            Self::All(inner) => inner.iter().find_map(|condition| condition.lookups(indexed)),
            Self::Any(inner) => {
                let all: Option<Vec<Vec<_>>> = inner.iter().map(|condition| condition.lookups(indexed)).collect();
                all.map(|all| all.concat())
            }
            _ => None,
        }
    }

    /// The condition and every one inside it.
    pub(super) fn parts(&self) -> Vec<&Self> {
        let mut parts = vec![self];
        let mut next = 0;
        while let Some(part) = parts.get(next).copied() {
            match part {
                Self::Not(inner) => parts.push(inner),
                Self::All(inner) | Self::Any(inner) => parts.extend(inner),
                Self::Always(_) | Self::Flag(_) | Self::Empty(_) | Self::Compare { .. } => {}
            }
            next += 1;
        }
        parts
    }

    pub(super) fn mentions(&self, wanted: &str) -> bool {
        self.parts().into_iter().any(|part| match part {
            Self::Flag(field) | Self::Empty(field) | Self::Compare { field, .. } => field == wanted,
            Self::Always(_) | Self::Not(_) | Self::All(_) | Self::Any(_) => false,
        })
    }
}

impl Operator {
    fn holds(self, held: &FieldValue, values: &[FieldValue]) -> bool {
        let Some(first) = values.first() else { return false };
        match self {
            Self::Equal => held == first,
            Self::NotEqual => held != first,
            Self::In => values.contains(held),
            Self::NotIn => !values.contains(held),
            Self::Less => same_kind(held, first) && rank(held, first).is_lt(),
            Self::LessOrEqual => same_kind(held, first) && rank(held, first).is_le(),
            Self::Greater => same_kind(held, first) && rank(held, first).is_gt(),
            Self::GreaterOrEqual => same_kind(held, first) && rank(held, first).is_ge(),
            Self::Between | Self::NotBetween => {
                let is_between = values.get(1).is_some_and(|upper| {
                    same_kind(held, first)
                        && same_kind(held, upper)
                        && rank(held, first).is_ge()
                        && rank(held, upper).is_lt()
                });
                is_between == (self == Self::Between)
            }
            Self::Contains | Self::NotContains => {
                let contains = match (text(held), text(first)) {
                    (Some(held), Some(part)) => held.contains(&part),
                    _ => false,
                };
                contains == (self == Self::Contains)
            }
            Self::ContainsIgnoringCase | Self::NotContainsIgnoringCase => {
                let contains = match (text(held), text(first)) {
                    (Some(held), Some(part)) => held.to_uppercase().contains(&part.to_uppercase()),
                    _ => false,
                };
                contains == (self == Self::ContainsIgnoringCase)
            }
        }
    }
}

/// Texts and numbers hold parts; nothing else does.
fn text(value: &FieldValue) -> Option<String> {
    match value {
        FieldValue::Text(text) => Some(text.clone()),
        FieldValue::Number(number) => Some(number.to_string()),
        FieldValue::Flag(_) | FieldValue::Time(_) | FieldValue::Texts(_) | FieldValue::Null => None,
    }
}

fn same_kind(left: &FieldValue, right: &FieldValue) -> bool {
    std::mem::discriminant(left) == std::mem::discriminant(right)
}

/// Any two values in one order: nothing first, then by kind, then by value.
pub(super) fn rank(left: &FieldValue, right: &FieldValue) -> Ordering {
    let kind = |value: &FieldValue| match value {
        FieldValue::Null => 0,
        FieldValue::Flag(_) => 1,
        FieldValue::Number(_) => 2,
        FieldValue::Time(_) => 3,
        FieldValue::Text(_) => 4,
        FieldValue::Texts(_) => 5,
    };
    match (left, right) {
        (FieldValue::Text(left), FieldValue::Text(right)) => left.cmp(right),
        (FieldValue::Texts(left), FieldValue::Texts(right)) => left.cmp(right),
        (FieldValue::Number(left), FieldValue::Number(right)) => left.total_cmp(right),
        (FieldValue::Time(left), FieldValue::Time(right)) => left.cmp(right),
        (FieldValue::Flag(left), FieldValue::Flag(right)) => left.cmp(right),
        (left, right) => kind(left).cmp(&kind(right)),
    }
}
