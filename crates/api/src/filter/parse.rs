//! Words into a query, by recursive descent with a bound on its depth.

use super::lex::{Placed, Token, tokens};
use super::{Condition, FieldValue, FilterError, Limit, Operator, Query, Sort};

/// Longest query, in bytes.
pub const MAX_FILTER_BYTES: usize = 4096;

const MAX_DEPTH: usize = 32;

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
        query.condition = parser.any(0)?;
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

    fn any(&mut self, depth: usize) -> Result<Condition, FilterError> {
        if depth > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        let mut all = vec![self.all(depth)?];
        while self.take_word("or") {
            all.push(self.all(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::Any(all) })
    }

    fn all(&mut self, depth: usize) -> Result<Condition, FilterError> {
        let mut all = vec![self.one(depth)?];
        while self.take_word("and") {
            all.push(self.one(depth)?);
        }
        Ok(if all.len() == 1 { all.remove(0) } else { Condition::All(all) })
    }

    fn one(&mut self, depth: usize) -> Result<Condition, FilterError> {
        if depth > MAX_DEPTH {
            return Err(FilterError::TooDeep);
        }
        if self.take_sign("(") {
            let inner = self.any(depth + 1)?;
            return if self.take_sign(")") { Ok(inner) } else { Err(self.unexpected("`)`")) };
        }
        if self.take_word("not") {
            return Ok(Condition::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take_word("true") {
            return Ok(Condition::Always(true));
        }
        if self.take_word("false") {
            return Ok(Condition::Always(false));
        }
        let field = self.field()?;
        if self.take_word("not") {
            return Ok(Condition::Not(Box::new(self.comparison(field)?)));
        }
        self.comparison(field)
    }

    fn field(&mut self) -> Result<String, FilterError> {
        let word = self.word("a field")?;
        if lower(&word) != "anyof" {
            return Ok(word);
        }
        if !self.take_sign("(") {
            return Err(self.unexpected("`(`"));
        }
        let field = self.word("a field")?;
        if self.take_sign(")") { Ok(field) } else { Err(self.unexpected("`)`")) }
    }

    fn comparison(&mut self, field: String) -> Result<Condition, FilterError> {
        const SIGNS: &[(&str, Operator)] = &[
            ("=", Operator::Equal),
            ("<", Operator::Less),
            ("<=", Operator::LessOrEqual),
            (">", Operator::Greater),
            (">=", Operator::GreaterOrEqual),
        ];
        if self.take_sign("!=") {
            let values = vec![self.value()?];
            return Ok(Condition::Not(Box::new(Condition::Compare { field, operator: Operator::Equal, values })));
        }
        for (sign, operator) in SIGNS {
            if self.take_sign(sign) {
                return Ok(Condition::Compare { field, operator: *operator, values: vec![self.value()?] });
            }
        }
        for (word, operator) in [("contains", Operator::Contains), ("icontains", Operator::ContainsIgnoringCase)] {
            if self.take_word(word) {
                return Ok(Condition::Compare { field, operator, values: vec![self.value()?] });
            }
        }
        if self.take_word("in") {
            if !self.take_sign("[") {
                return Err(self.unexpected("`[`"));
            }
            let mut values = vec![self.value()?];
            while self.take_sign(",") {
                values.push(self.value()?);
            }
            return if self.take_sign("]") {
                Ok(Condition::Compare { field, operator: Operator::In, values })
            } else {
                Err(self.unexpected("`,` or `]`"))
            };
        }
        Err(self.unexpected("`=`, `!=`, `<`, `<=`, `>`, `>=`, `contains`, `icontains` or `in`"))
    }

    fn value(&mut self) -> Result<FieldValue, FilterError> {
        let value = match self.tokens.peek().map(|placed| &placed.token) {
            Some(Token::Text(text)) => FieldValue::Text(text.clone()),
            Some(Token::Number(number)) => FieldValue::Number(*number),
            Some(Token::Word(word)) => match lower(word).as_str() {
                "true" => FieldValue::Flag(true),
                "false" => FieldValue::Flag(false),
                "null" => FieldValue::Null,
                _ => return Err(self.unexpected("a text in double quotes, a number, `true`, `false` or `null`")),
            },
            _ => return Err(self.unexpected("a text in double quotes, a number, `true`, `false` or `null`")),
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
