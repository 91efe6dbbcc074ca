//! Durations as Go writes them (`1h30m`, `500ms`), plus `d` for a day of 24 hours.

use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurationError {
    /// Nothing was written.
    #[error("an empty text is not a duration")]
    Empty,
    /// A number without a unit.
    #[error("a duration needs a unit: `ms`, `s`, `m`, `h` or `d`")]
    NoUnit,
    /// Something that is neither number nor unit.
    #[error("not a duration such as `1h30m`, `500ms` or `7d`")]
    Malformed,
    /// Below zero.
    #[error("a duration cannot be negative")]
    Negative,
    /// More than a thousand years.
    #[error("longer than a thousand years")]
    TooLong,
}

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const DAY_NS: u128 = 86_400_000_000_000;
const MAX_NS: u128 = 365_250 * DAY_NS;

/// Reads a sum of numbers with units. Only a bare `0` needs no unit.
///
/// # Errors
/// When the text is not such a sum, is negative, or exceeds a thousand years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    let mut rest = match text.strip_prefix('+') {
        Some(rest) => rest,
        None if text.starts_with('-') => return Err(DurationError::Negative),
        None => text,
    };
    if rest.is_empty() {
        return Err(DurationError::Empty);
    }
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        if number.is_empty() {
            return Err(DurationError::Malformed);
        }
        if unit.is_empty() {
            return Err(DurationError::NoUnit);
        }
        let unit_ns = if unit == "d" {
            DAY_NS
        } else {
            UNITS.iter().find(|(name, _)| *name == unit).map(|(_, ns)| *ns).ok_or(DurationError::Malformed)?
        };
        total_ns = total_ns
            .checked_add(amount_ns(number, unit_ns)?)
            .filter(|ns| *ns <= MAX_NS)
            .ok_or(DurationError::TooLong)?;
        rest = next;
    }
    let nanos = u32::try_from(total_ns % 1_000_000_000).map_err(|_| DurationError::TooLong)?;
    let secs = u64::try_from(total_ns / 1_000_000_000).map_err(|_| DurationError::TooLong)?;
    Ok(Duration::new(secs, nanos))
}

fn amount_ns(number: &str, unit_ns: u128) -> Result<u128, DurationError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return Err(DurationError::Malformed);
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| DurationError::TooLong)? };
    let mut ns = whole.checked_mul(unit_ns).ok_or(DurationError::TooLong)?;
    let mut place_ns = unit_ns;
    for digit in fraction.chars().filter_map(|c| c.to_digit(10)) {
        place_ns /= 10;
        ns = ns.saturating_add(u128::from(digit).saturating_mul(place_ns));
    }
    Ok(ns)
}

/// Writes a duration the way [`parse_duration`] reads it, in its largest whole units.
pub fn show_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let secs = duration.as_secs();
    let mut text = String::new();
    for (amount, unit) in [
        (secs / 86_400, "d"),
        (secs % 86_400 / 3_600, "h"),
        (secs % 3_600 / 60, "m"),
        (secs % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
        (u64::from(duration.subsec_micros() % 1_000), "us"),
        (u64::from(duration.subsec_nanos() % 1_000), "ns"),
    ] {
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, ms) in [
            ("1h30m", 5_400_000),
            ("500ms", 500),
            ("7d", 604_800_000),
            ("1.5h", 5_400_000),
            ("0", 0),
            (" .5s ", 500),
            ("+2s", 2_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn each_way_to_get_a_duration_wrong_has_its_own_words() {
        use DurationError as E;
        for (text, error) in [
            ("", E::Empty),
            ("30", E::NoUnit),
            ("1h30", E::NoUnit),
            ("soon", E::Malformed),
            ("3 days", E::Malformed),
            ("1..5s", E::Malformed),
            (".s", E::Malformed),
            ("-1s", E::Negative),
            ("400000d", E::TooLong),
            ("99999999999999999999999999999999999999999999h", E::TooLong),
        ] {
            assert_eq!(parse_duration(text), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_read_again(ns in 0u64..u64::MAX) {
            let duration = Duration::from_nanos(ns);
            prop_assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".*") {
            let _ = parse_duration(&text);
        }
    }
}
