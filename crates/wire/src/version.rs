//! Version strings: `version|revision|build date|os|arch`, exactly five fields.
//!
//! Upstream: `openziti/foundation:versions/versions.go`.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Header 4 of hello and result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VersionInfo {
    /// Such as `v2.1.0`.
    pub version: String,
    /// Revision of the source.
    pub revision: String,
    /// When it was built, any text.
    pub build_date: String,
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub arch: String,
}

/// Why a text is no version.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum VersionError {
    /// Not five fields.
    #[error("a version has five fields separated by `|`; found {found}")]
    Fields {
        /// How many it has.
        found: usize,
    },
    /// The first field is no `1.2.3` or `v1.2.3-pre4`.
    #[error("`{text}` is no version number such as `v2.1.0`")]
    Number {
        /// What it is.
        text: String,
    },
}

impl VersionInfo {
    /// Whether this is `least` or later. A version number of all zeros, or none that can be read as one, is taken for a
    /// development build: later than everything.
    pub fn is_at_least(&self, least: &Release) -> bool {
        match self.release() {
            Ok(release) => release.is_development() || release.compare(least) != Ordering::Less,
            Err(_) => true,
        }
    }

    /// The first field as a number.
    ///
    /// # Errors
    /// [`VersionError::Number`].
    pub fn release(&self) -> Result<Release, VersionError> {
        self.version.parse()
    }
}

impl FromStr for VersionInfo {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let fields: Vec<&str> = text.split('|').take(6).collect();
        let [version, revision, build_date, os, arch] = fields.as_slice() else {
            return Err(VersionError::Fields { found: text.split('|').count() });
        };
        Ok(Self {
            version: (*version).to_owned(),
            revision: (*revision).to_owned(),
            build_date: (*build_date).to_owned(),
            os: (*os).to_owned(),
            arch: (*arch).to_owned(),
        })
    }
}

/// The form on the wire. A `|` inside a field would make a sixth one, so it is written as `/`.
impl fmt::Display for VersionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = |text: &str| text.replace('|', "/");
        let Self { version, revision, build_date, os, arch } = self;
        write!(f, "{}|{}|{}|{}|{}", field(version), field(revision), field(build_date), field(os), field(arch))
    }
}

/// A version number: numbers between dots, and perhaps a pre-release after a hyphen.
///
/// Not `Ord`: upstream compares pre-releases as numbers where both are and as text where not, which is no total order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Release {
    parts: Vec<u32>,
    pre: String,
}

impl Release {
    /// `major.minor.patch`.
    pub fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self { parts: vec![major, minor, patch], pre: String::new() }
    }

    /// Whether this is `0.0.0`, which stands for "newer than anything released".
    pub fn is_development(&self) -> bool {
        self.pre.is_empty() && self.parts == [0, 0, 0]
    }

    /// Upstream's comparison: part by part, the one with fewer parts first, a pre-release before its release.
    pub fn compare(&self, other: &Self) -> Ordering {
        self.parts.cmp(&other.parts).then_with(|| compare_pre(&self.pre, &other.pre))
    }
}

fn compare_pre(ours: &str, theirs: &str) -> Ordering {
    match (ours.is_empty(), theirs.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let numbers = ["pre", "alpha", "beta", "rc"].into_iter().find_map(|word| {
        let (ours, theirs) = (ours.strip_prefix(word)?, theirs.strip_prefix(word)?);
        Some((ours.parse::<i64>().ok()?, theirs.parse::<i64>().ok()?))
    });
    numbers.map_or_else(|| ours.cmp(theirs), |(ours, theirs)| ours.cmp(&theirs))
}

impl FromStr for Release {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError::Number { text: text.to_owned() };
        let bare = text.strip_prefix('v').unwrap_or(text);
        let (number, pre) = bare.split_once('-').unwrap_or((bare, ""));
        if pre.contains('-') {
            return Err(wrong());
        }
        let part = |part: &str| match part.parse::<u32>() {
            Ok(part) if i32::try_from(part).is_ok() => Ok(part),
            _ => Err(wrong()),
        };
        Ok(Self { parts: number.split('.').map(part).collect::<Result<_, _>>()?, pre: pre.to_owned() })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.parts.iter().enumerate() {
            write!(f, "{}{part}", if index == 0 { "" } else { "." })?;
        }
        if self.pre.is_empty() { Ok(()) } else { write!(f, "-{}", self.pre) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        text.parse().unwrap()
    }

    #[test]
    fn exactly_five_fields_make_a_version() {
        let text = "v2.1.0|abc123|2026-01-01T00:00:00Z|linux|amd64";
        let version: VersionInfo = text.parse().unwrap();
        assert_eq!(version.version, "v2.1.0");
        assert_eq!(version.to_string(), text);
        assert_eq!("v2.1.0|a|b|c".parse::<VersionInfo>(), Err(VersionError::Fields { found: 4 }));
        assert_eq!("v2.1.0|a|b|c|d|e|f".parse::<VersionInfo>(), Err(VersionError::Fields { found: 7 }));
        assert!("||||".parse::<VersionInfo>().is_ok());
    }

    #[test]
    fn a_field_cannot_make_a_sixth() {
        let version = VersionInfo { revision: "a|b".into(), ..VersionInfo::default() };
        assert_eq!(version.to_string(), "|a/b|||");
    }

    #[test]
    fn versions_compare_as_upstream_compares_them() {
        for (lower, higher) in [
            ("1.6.3", "1.6.6"),
            ("v1.6.18", "2.0.0"),
            ("2.0", "2.0.0"),
            ("2.1.0-pre1", "2.1.0"),
            ("2.1.0-pre2", "2.1.0-pre10"),
            ("2.1.0-alpha9", "2.1.0-beta1"),
            ("2.1.0-pre", "2.1.0-pre1"),
        ] {
            assert_eq!(release(lower).compare(&release(higher)), Ordering::Less, "{lower} < {higher}");
            assert_eq!(release(higher).compare(&release(lower)), Ordering::Greater, "{higher} > {lower}");
        }
        assert_eq!(release("v2.1.0").compare(&release("2.1.0")), Ordering::Equal);
        for text in ["", "v", "2..1", "2.1.0-pre-1", "a.b", "2.-1", "4294967296"] {
            assert!(text.parse::<Release>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_development_build_is_newer_than_everything() {
        let version = |text: &str| VersionInfo { version: text.into(), ..VersionInfo::default() };
        assert!(version("v0.0.0").is_at_least(&Release::new(9, 0, 0)));
        assert!(version("v2.0.3").is_at_least(&Release::new(2, 0, 0)));
        assert!(!version("v1.6.18").is_at_least(&Release::new(2, 0, 0)));
        assert!(version("my own build").is_at_least(&Release::new(2, 0, 0)));
    }
}
