//! Bytes into words, numbers, texts and signs.

use super::FilterError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    Number(f64),
    /// `datetime(..)`: milliseconds since 1970, UTC.
    Time(i64),
    Sign(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) at: usize,
    pub(super) token: Token,
}

const SIGNS: &[&str] = &["!=", "<=", ">=", "=", "<", ">", "(", ")", "[", "]", ","];

pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, FilterError> {
    let mut out = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some(&(at, c)) = rest.peek() {
        if c.is_whitespace() {
            rest.next();
            continue;
        }
        let token = if c == '"' {
            rest.next();
            Token::Text(quoted(&mut rest).ok_or(FilterError::OpenText(at))?)
        } else if c.is_ascii_alphabetic() || c == '_' {
            let mut word = String::new();
            while let Some(&(_, c)) = rest.peek() {
                if !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
                    break;
                }
                word.push(c);
                rest.next();
            }
            if word.eq_ignore_ascii_case("datetime") { Token::Time(instant(at, &mut rest)?) } else { Token::Word(word) }
        } else if c == '\'' {
            rest.next();
            Token::Word(name(&mut rest).ok_or(FilterError::OpenText(at))?)
        } else if c.is_ascii_digit() || c == '-' {
            let mut number = String::new();
            while let Some(&(_, c)) = rest.peek() {
                if !(c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E')) {
                    break;
                }
                number.push(c);
                rest.next();
            }
            let unexpected = || FilterError::Unexpected { at, expected: "a number", found: number.clone() };
            Token::Number(number.parse().map_err(|_| unexpected())?)
        } else {
            let tail = text.get(at..).unwrap_or_default();
            let Some(sign) = SIGNS.iter().find(|sign| tail.starts_with(**sign)) else {
                let found = c.to_string();
                return Err(FilterError::Unexpected { at, expected: "a field, a value or an operator", found });
            };
            for _ in sign.chars() {
                rest.next();
            }
            Token::Sign(sign)
        };
        out.push(Placed { at, token });
    }
    Ok(out)
}

/// What follows `datetime`: an RFC 3339 text in parentheses.
fn instant(at: usize, rest: &mut std::iter::Peekable<std::str::CharIndices<'_>>) -> Result<i64, FilterError> {
    let mut text = String::new();
    let mut is_open = false;
    for (_, c) in rest.by_ref() {
        match c {
            '(' if !is_open => is_open = true,
            ')' if is_open => {
                let parsed = text.trim().parse::<jiff::Timestamp>();
                return parsed.map(jiff::Timestamp::as_millisecond).map_err(|_| FilterError::Unexpected {
                    at,
                    expected: "an instant like `datetime(2026-01-31T00:00:00Z)`",
                    found: text,
                });
            }
            c if is_open => text.push(c),
            c if c.is_whitespace() => {}
            _ => break,
        }
    }
    Err(FilterError::Unexpected { at, expected: "`datetime(..)`", found: format!("datetime({text}") })
}

/// A field's name in single quotes.
fn name(rest: &mut std::iter::Peekable<std::str::CharIndices<'_>>) -> Option<String> {
    let mut name = String::new();
    loop {
        match rest.next()?.1 {
            '\'' => return Some(name),
            c => name.push(c),
        }
    }
}

fn quoted(rest: &mut std::iter::Peekable<std::str::CharIndices<'_>>) -> Option<String> {
    let mut text = String::new();
    loop {
        match rest.next()?.1 {
            '"' => return Some(text),
            '\\' => match rest.next()?.1 {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                c => text.push(c),
            },
            c => text.push(c),
        }
    }
}
