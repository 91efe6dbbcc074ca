//! Words into a query, by recursive descent with a bound on its depth.

use super::condition::{Condition, Operator, Over};
use super::lex::{Placed, Token, tokens};
use super::{FieldValue, FilterError, Limit, Query, Sort};

/// Longest query, in bytes.
pub const MAX_FILTER_BYTES: usize = 4096;

const MAX_DEPTH: usize = 32;

/// What joins an operand to those before it.
#[derive(Clone, Copy)]
enum Joint {
    And,
    Or,
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Placed>>,
    end: usize,
}

pub(super) fn query(text: &str) -> Result<Query, FilterError> {
    let mut parser = Parser::new(text)?;
    let starts_with_condition = match parser.tokens.peek() {
        None => false,
        Some(Placed { token: Token::Word(word), .. }) => !matches!(lower(word).as_str(), "sort" | "skip" | "limit"),
        Some(_) => true,
    };
    let mut query = Query::everything();
    if starts_with_condition {
        query.condition = parser.joined(0)?;
    }
    if parser.take_word("sort") {
        if !parser.take_word("by") {
            return Err(parser.unexpected("`by`"));
        }
        query.sort = parser.sort_keys()?;
    }
    if parser.take_word("skip") {
        query.skip = Some(parser.count()?);
    }
    if parser.take_word("limit") {
        let rows = if parser.take_word("none") { Limit::None } else { Limit::Rows(parser.count()?) };
        query.limit = Some(rows);
    }
    parser.finish("`and`, `or`, `sort by`, `skip`, `limit` or the end")?;
    Ok(query)
}

pub(super) fn sort_only(text: &str) -> Result<Vec<Sort>, FilterError> {
    let mut parser = Parser::new(text)?;
    let keys = parser.sort_keys()?;
    parser.finish("`,`, `asc`, `desc` or the end")?;
    Ok(keys)
}

impl Parser {
    fn new(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_FILTER_BYTES {
            return Err(FilterError::TooLong(text.len()));
        }
        Ok(Self { tokens: tokens(text)?.into_iter().peekable(), end: text.len() })
    }

    /// Operands joined by `and` and `or`, which bind alike and to the right.
    fn joined(&mut self, depth: usize) -> Result<Condition, FilterError> {
        if depth > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        let mut operands = vec![(Joint::And, self.one(depth)?)];
        loop {
            let joint = if self.take_word("and") {
                Joint::And
            } else if self.take_word("or") {
                Joint::Or
            } else {
                break;
            };
            operands.push((joint, self.one(depth)?));
        }
        let mut whole: Option<(Joint, Condition)> = None;
        for (joint, operand) in operands.into_iter().rev() {
            whole = Some((
                joint,
                match whole {
                    None => operand,
                    Some((Joint::And, rest)) => match rest {
                        Condition::All(mut inner) => {
                            inner.insert(0, operand);
                            Condition::All(inner)
                        }
                        rest => Condition::All(vec![operand, rest]),
                    },
                    Some((Joint::Or, rest)) => match rest {
                        Condition::Any(mut inner) => {
                            inner.insert(0, operand);
                            Condition::Any(inner)
                        }
                        rest => Condition::Any(vec![operand, rest]),
                    },
                },
            ));
        }
        Ok(whole.map_or(Condition::Always(true), |(_, condition)| condition))
    }

    fn one(&mut self, depth: usize) -> Result<Condition, FilterError> {
        if self.take_sign("(") {
            let inner = self.joined(depth + 1)?;
            return if self.take_sign(")") { Ok(inner) } else { Err(self.unexpected("`)`")) };
        }
        if self.take_word("not") {
            // Everything that follows is denied, whatever joins it.
            return Ok(Condition::Not(Box::new(self.joined(depth + 1)?)));
        }
        if self.take_word("true") {
            return Ok(Condition::Always(true));
        }
        if self.take_word("false") {
            return Ok(Condition::Always(false));
        }
        if self.take_word("isEmpty") {
            return Ok(Condition::Empty(self.argument()?));
        }
        let (field, over) = self.subject()?;
        if over == Over::Itself && self.is_operand_over() {
            return Ok(Condition::Flag(field));
        }
        let is_denied = self.take_word("not");
        self.comparison(field, over, is_denied)
    }

    /// Does a field stand by itself?
    fn is_operand_over(&mut self) -> bool {
        match self.tokens.peek().map(|placed| &placed.token) {
            None => true,
            Some(Token::Sign(sign)) => *sign == ")",
            Some(Token::Word(word)) => ["and", "or", "sort", "skip", "limit"].contains(&lower(word).as_str()),
            Some(Token::Text(_) | Token::Number(_) | Token::Time(_)) => false,
        }
    }

    fn subject(&mut self) -> Result<(String, Over), FilterError> {
        let word = self.word("a field")?;
        let over = match lower(&word).as_str() {
            "anyof" => Over::Any,
            "allof" => Over::All,
            "count" => Over::Count,
            _ => return Ok((word, Over::Itself)),
        };
        Ok((self.argument()?, over))
    }

    /// A field in parentheses.
    fn argument(&mut self) -> Result<String, FilterError> {
        if !self.take_sign("(") {
            return Err(self.unexpected("`(`"));
        }
        let field = self.word("a field")?;
        if self.take_sign(")") { Ok(field) } else { Err(self.unexpected("`)`")) }
    }

    fn comparison(&mut self, field: String, over: Over, is_denied: bool) -> Result<Condition, FilterError> {
        const SIGNS: &[(&str, Operator)] = &[
            ("=", Operator::Equal),
            ("!=", Operator::NotEqual),
            ("<", Operator::Less),
            ("<=", Operator::LessOrEqual),
            (">", Operator::Greater),
            (">=", Operator::GreaterOrEqual),
        ];
        const WORDS: &[(&str, Operator, Operator)] = &[
            ("contains", Operator::Contains, Operator::NotContains),
            ("icontains", Operator::ContainsIgnoringCase, Operator::NotContainsIgnoringCase),
            ("in", Operator::In, Operator::NotIn),
            ("between", Operator::Between, Operator::NotBetween),
        ];
        let sign = SIGNS.iter().find(|(sign, _)| !is_denied && self.take_sign(sign));
        let operator = match sign {
            Some((_, operator)) => *operator,
            None => match WORDS.iter().find(|(word, _, _)| self.take_word(word)) {
                Some((_, plain, denied)) => {
                    if is_denied {
                        *denied
                    } else {
                        *plain
                    }
                }
                None if is_denied => return Err(self.unexpected("`contains`, `icontains`, `in` or `between`")),
                None => {
                    return Err(
                        self.unexpected("`=`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `icontains`, `in` or `between`")
                    );
                }
            },
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.list()?,
            Operator::Between | Operator::NotBetween => {
                let lower = self.value()?;
                if !self.take_word("and") {
                    return Err(self.unexpected("`and`"));
                }
                vec![lower, self.value()?]
            }
            _ => vec![self.value()?],
        };
        Ok(Condition::Compare { field, over, operator, values })
    }

    fn list(&mut self) -> Result<Vec<FieldValue>, FilterError> {
        if !self.take_sign("[") {
            return Err(self.unexpected("`[`"));
        }
        let mut values = vec![self.value()?];
        while self.take_sign(",") {
            values.push(self.value()?);
        }
        if self.take_sign("]") { Ok(values) } else { Err(self.unexpected("`,` or `]`")) }
    }

    fn value(&mut self) -> Result<FieldValue, FilterError> {
        const VALUES: &str = "a text in double quotes, a number, `datetime(..)`, `true`, `false` or `null`";
        let value = match self.tokens.peek().map(|placed| &placed.token) {
            Some(Token::Text(text)) => FieldValue::Text(text.clone()),
            Some(Token::Number(number)) => FieldValue::Number(*number),
            Some(Token::Time(ms)) => FieldValue::Time(*ms),
            Some(Token::Word(word)) => match lower(word).as_str() {
                "true" => FieldValue::Flag(true),
                "false" => FieldValue::Flag(false),
                "null" => FieldValue::Null,
                _ => return Err(self.unexpected(VALUES)),
            },
            _ => return Err(self.unexpected(VALUES)),
        };
        self.tokens.next();
        Ok(value)
    }

    fn sort_keys(&mut self) -> Result<Vec<Sort>, FilterError> {
        let mut keys = Vec::new();
        loop {
            let field = self.word("a field")?;
            let is_descending = self.take_word("desc");
            if !is_descending {
                self.take_word("asc");
            }
            keys.push(Sort { field, is_descending });
            if !self.take_sign(",") {
                return Ok(keys);
            }
        }
    }

    fn count(&mut self) -> Result<u64, FilterError> {
        match self.tokens.peek().map(|placed| &placed.token) {
            Some(Token::Number(number)) if *number >= 0.0 && number.fract() == 0.0 && *number < 9.0e15 => {
                // Just checked to be a whole number that a u64 holds exactly.
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
                let count = *number as u64;
                self.tokens.next();
                Ok(count)
            }
            _ => Err(self.unexpected("a whole number")),
        }
    }

    fn word(&mut self, expected: &'static str) -> Result<String, FilterError> {
        match self.tokens.peek() {
            Some(Placed { token: Token::Word(word), .. }) => {
                let word = word.clone();
                self.tokens.next();
                Ok(word)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        self.tokens
            .next_if(|placed| matches!(&placed.token, Token::Word(word) if word.eq_ignore_ascii_case(wanted)))
            .is_some()
    }

    fn take_sign(&mut self, wanted: &str) -> bool {
        self.tokens.next_if(|placed| matches!(&placed.token, Token::Sign(sign) if *sign == wanted)).is_some()
    }

    fn finish(&mut self, expected: &'static str) -> Result<(), FilterError> {
        if self.tokens.peek().is_none() { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn unexpected(&mut self, expected: &'static str) -> FilterError {
        match self.tokens.peek() {
            None => FilterError::Unexpected { at: self.end, expected, found: "the end".to_owned() },
            Some(Placed { at, token }) => {
                let found = match token {
                    Token::Word(word) => word.clone(),
                    Token::Text(text) => format!("\"{text}\""),
                    Token::Number(number) => number.to_string(),
                    Token::Time(_) => "datetime(..)".to_owned(),
                    Token::Sign(sign) => (*sign).to_owned(),
                };
                FilterError::Unexpected { at: *at, expected, found }
            }
        }
    }
}

fn lower(word: &str) -> String {
    word.to_ascii_lowercase()
}
