//! Times as people read them: how far away, and when exactly, UTC.

use std::time::Duration;

use jiff::Timestamp;

/// The present, in seconds since the Unix epoch.
pub fn now_unix_s() -> i64 {
    Timestamp::now().as_second()
}

/// The two largest units: `59 d 23 h`, `3 min 5 s`, `0 s`.
pub fn span(duration: Duration) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    let total = duration.as_secs();
    let first = UNITS.iter().position(|(_, size)| total >= *size).unwrap_or(UNITS.len() - 1);
    let mut left = total;
    let mut parts = Vec::new();
    for (name, size) in UNITS.iter().skip(first).take(2) {
        let count = left / size;
        left %= size;
        if count > 0 || parts.is_empty() {
            parts.push(format!("{count} {name}"));
        }
    }
    parts.join(" ")
}

/// A span of that many seconds.
pub fn seconds(seconds: u64) -> String {
    span(Duration::from_secs(seconds))
}

/// An instant, exactly: `2031-03-01T00:00:00Z`.
pub fn exactly(unix_s: i64) -> String {
    Timestamp::from_second(unix_s).map_or_else(|_| format!("{unix_s} s"), |at| at.to_string())
}

/// An instant by its distance: `in 3 h 5 min`, `now`, `12 s ago`.
pub fn away(now_unix_s: i64, unix_s: i64) -> String {
    let distance = Duration::from_secs(unix_s.abs_diff(now_unix_s));
    if distance.is_zero() {
        return "now".to_owned();
    }
    if unix_s >= now_unix_s { format!("in {}", span(distance)) } else { format!("{} ago", span(distance)) }
}

/// Both: `in 3 h 5 min (2031-03-01T00:00:00Z)`.
pub fn moment(now_unix_s: i64, unix_s: i64) -> String {
    format!("{} ({})", away(now_unix_s, unix_s), exactly(unix_s))
}

/// Both, the other way round, for behind `until` and `since`: `2031-03-01T00:00:00Z (in 3 h 5 min)`.
pub fn date(now_unix_s: i64, unix_s: i64) -> String {
    format!("{} ({})", exactly(unix_s), away(now_unix_s, unix_s))
}

/// Both, or a dash.
pub fn moment_or_dash(now_unix_s: i64, unix_s: Option<i64>) -> String {
    unix_s.map_or_else(|| "-".to_owned(), |at| moment(now_unix_s, at))
}

#[cfg(test)]
mod tests {
    use super::{date, moment, seconds};

    #[test]
    fn a_span_has_its_two_largest_units() {
        assert_eq!(seconds(0), "0 s");
        assert_eq!(seconds(59), "59 s");
        assert_eq!(seconds(185), "3 min 5 s");
        assert_eq!(seconds(3_600), "1 h");
        assert_eq!(seconds(3_601), "1 h");
        assert_eq!(seconds(60 * 86_400 - 1), "59 d 23 h");
    }

    #[test]
    fn a_moment_is_told_from_here_and_on_the_calendar() {
        assert_eq!(moment(1_000, 1_065), "in 1 min 5 s (1970-01-01T00:17:45Z)");
        assert_eq!(moment(1_000, 940), "1 min ago (1970-01-01T00:15:40Z)");
        assert_eq!(date(1_000, 1_000), "1970-01-01T00:16:40Z (now)");
    }
}
