//! Plans as text: one `key value` per line, one `strike` line per fault. What fixtures are written in.

use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

use super::{Fault, Make, Plan, Strike, Target};
use crate::mutant::Mutant;

/// Why a text is no plan: which line, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Counted from 1; 0 when something is missing altogether.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for PlanError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 { write!(f, "{}", self.what) } else { write!(f, "line {}: {}", self.line, self.what) }
    }
}

impl std::error::Error for PlanError {}

/// A time as people write it: `90d`, `12h`, `250ms`, in the largest unit that it is a whole number of.
pub(crate) fn time(time: Duration) -> String {
    let ms = time.as_millis();
    for (unit_ms, unit) in UNITS {
        if ms >= unit_ms && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    "0ms".to_owned()
}

const UNITS: [(u128, &str); 5] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];

fn parse_time(text: &str) -> Option<Duration> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(end)?;
    let (unit_ms, _) = UNITS.into_iter().find(|(_, name)| *name == unit)?;
    let ms = number.parse::<u64>().ok()?.checked_mul(u64::try_from(unit_ms).ok()?)?;
    Some(Duration::from_millis(ms))
}

impl Plan {
    /// The plan as text; [`Plan::from_str`] reads it. Lines that begin with `#` are remarks.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let mut line = |key: &str, value: String| {
            let _ = writeln!(text, "{key} {value}");
        };
        line("seed", self.seed.to_string());
        line("first-router", self.first_router.to_string());
        line("routers", format!("{} {}", self.routers, self.router_make));
        line("controllers", format!("{} {}", self.controllers, self.controller_make));
        line("groups", if self.are_grouped { "yes" } else { "no" }.to_owned());
        line("leaf-life", time(self.leaf_life));
        line("time", time(self.time));
        line("loss-per-mille", self.net.loss_per_mille.to_string());
        line("double-per-mille", self.net.double_per_mille.to_string());
        line("slow-per-mille", self.net.slow_per_mille.to_string());
        line("slow-ms", self.net.slow_ms.to_string());
        line("lag-ms", self.lag_ms.to_string());
        if self.projected_per_mille > 0 {
            line("projected-per-mille", self.projected_per_mille.to_string());
        }
        if let Some(mutant) = self.mutant {
            line("mutant", mutant.name().to_owned());
        }
        match &self.strikes {
            None => {
                line("fault-every", time(self.fault_every));
                for fault in &self.faults {
                    line("fault", fault.name().to_owned());
                }
            }
            Some(strikes) => {
                line("strikes", "listed".to_owned());
                for Strike { at_ms, target, fault, lasts_ms, luck } in strikes {
                    let target = match target {
                        Target::Router(number) => format!("router {number}"),
                        Target::Controllers => "controllers -".to_owned(),
                    };
                    line("strike", format!("{at_ms} {target} {} {lasts_ms} {luck}", fault.name()));
                }
            }
        }
        text
    }
}

impl FromStr for Plan {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let mut plan = Self { fault_every: Duration::ZERO, ..Self::calm(0, Make::Exuvia, Make::Exuvia) };
        let mut has_seed = false;
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            has_seed |= key == "seed";
            plan.take(key, value.trim()).map_err(|what| PlanError { line: at + 1, what })?;
        }
        let is_sorted = |strikes: &Vec<Strike>| strikes.is_sorted_by_key(|strike| strike.at_ms);
        let what = if !has_seed {
            "no `seed`"
        } else if plan.routers == 0 || plan.controllers == 0 {
            "a world needs a router and a controller"
        } else if plan.leaf_life < Duration::from_secs(60) {
            "a leaf lives a minute at least"
        } else if !plan.strikes.as_ref().is_none_or(is_sorted) {
            "the strikes are not in the order of time"
        } else {
            return Ok(plan);
        };
        Err(PlanError { line: 0, what: what.to_owned() })
    }
}

impl Plan {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "seed" => self.seed = number(key, value)?,
            "first-router" => self.first_router = number(key, value)?,
            "routers" => (self.routers, self.router_make) = count_and_make(key, value)?,
            "controllers" => (self.controllers, self.controller_make) = count_and_make(key, value)?,
            "groups" => self.are_grouped = yes_or_no(key, value)?,
            "leaf-life" => self.leaf_life = read_time(key, value)?,
            "time" => self.time = read_time(key, value)?,
            "loss-per-mille" => self.net.loss_per_mille = number(key, value)?,
            "double-per-mille" => self.net.double_per_mille = number(key, value)?,
            "slow-per-mille" => self.net.slow_per_mille = number(key, value)?,
            "slow-ms" => self.net.slow_ms = number(key, value)?,
            "projected-per-mille" => self.projected_per_mille = number(key, value)?,
            "lag-ms" => self.lag_ms = number(key, value)?,
            "fault-every" => self.fault_every = read_time(key, value)?,
            "fault" => self.faults.push(Fault::of_name(value).ok_or_else(|| format!("no fault is called `{value}`"))?),
            "mutant" => {
                let mutant = Mutant::of_name(value).ok_or_else(|| format!("no mutant is called `{value}`"))?;
                self.mutant = Some(mutant);
            }
            "strikes" if value == "listed" => drop(self.strikes.get_or_insert_default()),
            "strike" => {
                let strike =
                    read_strike(value).ok_or("a strike is `AT-MS router N|controllers - FAULT LASTS-MS LUCK`")?;
                self.strikes.get_or_insert_default().push(strike);
            }
            _ => return Err(format!("`{key}` is no word of a plan")),
        }
        Ok(())
    }
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{key}` takes a number, and not `{value}`"))
}

fn read_time(key: &str, value: &str) -> Result<Duration, String> {
    parse_time(value)
        .ok_or_else(|| format!("`{key}` takes a time such as `90d`, `12h`, `5min`, `30s`, `250ms`, and not `{value}`"))
}

fn yes_or_no(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(format!("`{key}` is `yes` or `no`, and not `{value}`")),
    }
}

fn count_and_make(key: &str, value: &str) -> Result<(usize, Make), String> {
    let (count, make) = value.split_once(' ').unwrap_or((value, "exuvia"));
    let make = match make {
        "exuvia" => Make::Exuvia,
        "stock" => Make::Stock,
        _ => return Err(format!("`{key}` are of make `exuvia` or `stock`, and not `{make}`")),
    };
    Ok((number(key, count)?, make))
}

fn read_strike(text: &str) -> Option<Strike> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [at, kind, number, fault, lasts, luck] = words.as_slice() else { return None };
    let target = match (*kind, *number) {
        ("router", number) => Target::Router(number.parse().ok()?),
        ("controllers", "-") => Target::Controllers,
        _ => return None,
    };
    Some(Strike {
        at_ms: at.parse().ok()?,
        target,
        fault: Fault::of_name(fault)?,
        lasts_ms: lasts.parse().ok()?,
        luck: luck.parse().ok()?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_plan_comes_back_as_it_was_written() {
        for seed in 0..200 {
            for plan in [Plan::swarm(seed), Plan::drawn(seed, 5, 30)] {
                assert_eq!(plan.to_text().parse(), Ok(plan.clone()));
                let strikes = super::super::Stream::all(&plan).first_mut().map(|stream| stream.take(5).collect());
                let listed = Plan { strikes, faults: Vec::new(), fault_every: Duration::ZERO, ..plan };
                assert_eq!(listed.to_text().parse(), Ok(listed.clone()));
            }
        }
    }

    #[test]
    fn what_is_no_plan_is_told_by_line_and_word() {
        let told = |text: &str| text.parse::<Plan>().unwrap_err().to_string();
        assert_eq!(told(""), "no `seed`");
        assert_eq!(told("seed 1\n\nfault flood"), "line 3: no fault is called `flood`");
        assert_eq!(told("seed x"), "line 1: `seed` takes a number, and not `x`");
        assert_eq!(told("# a remark\nsed 1"), "line 2: `sed` is no word of a plan");
        assert!(told("seed 1\nleaf-life 90").contains("takes a time such as"));
        assert!(told("seed 1\nrouters 1 ziti").contains("`exuvia` or `stock`"));
        assert!(told("seed 1\nstrike 1 router 0 power-cut").contains("a strike is"));
        assert_eq!(told("seed 1\nrouters 0"), "a world needs a router and a controller");
    }

    #[test]
    fn a_time_is_told_in_its_largest_whole_unit() {
        let told: Vec<String> = [0, 999, 5_000, 90_000, 3_600_000, 86_400_000 * 90]
            .into_iter()
            .map(|ms| time(Duration::from_millis(ms)))
            .collect();
        assert_eq!(told, ["0ms", "999ms", "5s", "90s", "1h", "90d"]);
    }
}
