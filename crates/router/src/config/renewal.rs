//! When and how to renew: our section `exuvia`.

use std::time::Duration;

use ::config::Section;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// When a renewal is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueRule {
    /// When this much of the leaf's life is over, in thousandths.
    LifeShare {
        /// Thousandths of the life, 100 to 900.
        permille: u16,
    },
    /// When the leaf's end is nearer than this, as in OpenZiti (`openziti/ziti:router/state/certchecker.go`: 7 days).
    BeforeExpiry(Duration),
}

/// A duration that a short-lived leaf shortens: the smaller of a fixed duration and a share of the leaf's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtMost {
    /// The fixed duration.
    pub limit: Duration,
    /// The life is divided by this; never 0.
    pub life_divisor: u32,
}

impl AtMost {
    /// The duration that holds for a leaf that lives this long.
    pub fn for_life(self, life: Duration) -> Duration {
        self.limit.min(life / self.life_divisor.max(1))
    }
}

/// Does a renewal make new keys?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rekey {
    /// Only where no Go router reads the projected files.
    Auto,
    /// Every time.
    Always,
    /// Never.
    Never,
}

/// Are renewed files copied to the paths of the section `identity`?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// As the installation asks for: on for a `router.yml` that OpenZiti wrote.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// When and how to renew, with the defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RenewalSettings {
    /// When a renewal is due.
    pub due: DueRule,
    /// How far that moment is moved at random, either way, in percent of the leaf's life.
    pub jitter_percent: u8,
    /// The least time between the beginnings of two attempts.
    pub spacing: AtMost,
    /// The first pause after a failure; each pause is drawn between nothing and its full length.
    pub backoff_min: Duration,
    /// The longest pause after a failure; not shorter than `backoff_min`.
    pub backoff_max: Duration,
    /// How long an attempt may wait for an answer.
    pub attempt_deadline: Duration,
    /// How long connections that were made with the former leaf are left alone after a promotion.
    pub drain: AtMost,
    /// New keys or the old ones.
    pub rekey: Rekey,
    /// Copies for other readers of the identity files.
    pub projection: Projection,
    /// Use the unverified extension where the verified one cannot work. Loses the promise that the old leaf stays admitted.
    pub allow_unverified: bool,
}

impl Default for RenewalSettings {
    fn default() -> Self {
        Self {
            due: DueRule::LifeShare { permille: 667 },
            jitter_percent: 5,
            spacing: AtMost { limit: 10 * MINUTE, life_divisor: 20 },
            backoff_min: SECOND,
            backoff_max: 5 * MINUTE,
            attempt_deadline: 30 * SECOND,
            drain: AtMost { limit: 10 * MINUTE, life_divisor: 10 },
            rekey: Rekey::Auto,
            projection: Projection::Auto,
            allow_unverified: false,
        }
    }
}

pub(super) fn read(section: Option<&Section<'_>>) -> RenewalSettings {
    let usual = RenewalSettings::default();
    let Some(section) = section else { return usual };
    let threshold = section.field("threshold").and_then(|field| field.duration(MINUTE..=365 * DAY));
    let share = section.field("renewAt").and_then(|field| field.integer::<u16>(10..=90));
    if let (Some(_), Some(field)) = (section.field("threshold"), section.field("renewAt")) {
        field.error("`exuvia.renewAt` and `exuvia.threshold` exclude each other", Some("keep one of the two"));
    }
    let due = match (threshold, share) {
        (Some(before), _) => DueRule::BeforeExpiry(before),
        (None, Some(percent)) => DueRule::LifeShare { permille: percent * 10 },
        (None, None) => usual.due,
    };
    let millisecond = Duration::from_millis(1);
    let backoff_min = section.duration_or("backoffMin", usual.backoff_min, 10 * millisecond..=60 * MINUTE);
    let backoff_max = section.duration_or("backoffMax", usual.backoff_max, 10 * millisecond..=DAY);
    if backoff_max < backoff_min {
        let field = section.field("backoffMax").or_else(|| section.field("backoffMin"));
        if let Some(field) = field {
            field.error("`exuvia.backoffMax` is shorter than `exuvia.backoffMin`", Some("exchange the two values"));
        }
    }
    let limit =
        |name, usual: AtMost| AtMost { limit: section.duration_or(name, usual.limit, Duration::ZERO..=DAY), ..usual };
    let allow_unverified = section.boolean_or("allowUnverified", usual.allow_unverified);
    if let Some(field) = section.field("allowUnverified").filter(|_| allow_unverified) {
        field.warn(
            "with the unverified extension the controller forgets the old certificate before this router has stored the new one",
            Some("remove it unless this is a transit router on an OpenZiti controller"),
        );
    }
    RenewalSettings {
        due,
        jitter_percent: section.integer_or("jitter", usual.jitter_percent, 0..=20),
        spacing: limit("spacing", usual.spacing),
        backoff_min,
        backoff_max,
        attempt_deadline: section.duration_or("attemptDeadline", usual.attempt_deadline, SECOND..=10 * MINUTE),
        drain: limit("drain", usual.drain),
        rekey: section
            .field("rekey")
            .and_then(|field| {
                field.choice(&[("auto", Rekey::Auto), ("always", Rekey::Always), ("never", Rekey::Never)])
            })
            .unwrap_or(usual.rekey),
        projection: section
            .field("projection")
            .and_then(|field| {
                field.choice(&[("auto", Projection::Auto), ("on", Projection::On), ("off", Projection::Off)])
            })
            .unwrap_or(usual.projection),
        allow_unverified,
    }
}
