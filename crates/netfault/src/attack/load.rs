//! Routers that renew without a pause, and how long it takes them.

use std::time::{Duration, Instant};

use rig::Running;

/// How long renewals took.
#[derive(Debug, Default)]
pub(super) struct Latencies {
    taken: Vec<Duration>,
    /// Why renewals failed.
    pub(super) failed: Vec<String>,
}

impl Latencies {
    pub(super) fn count(&self) -> u64 {
        self.taken.len() as u64
    }

    pub(super) fn add(&mut self, other: Self) {
        self.taken.extend(other.taken);
        self.failed.extend(other.failed);
        self.taken.sort_unstable();
    }

    /// So many of a hundred renewals took no longer, in milliseconds; 0 if there was none.
    pub(super) fn percentile_ms(&self, percent: usize) -> f64 {
        let at = (self.taken.len() * percent / 100).min(self.taken.len().saturating_sub(1));
        self.taken.get(at).map_or(0.0, |taken| taken.as_secs_f64() * 1000.0)
    }

    /// How many times as long as over there.
    pub(super) fn ratio(&self, calm: &Self, percent: usize) -> f64 {
        self.percentile_ms(percent) / calm.percentile_ms(percent).max(0.001)
    }
}

/// Renews with all of them for so long, each one in turn after its last.
pub(super) fn renewing(routers: &[Running], time: Duration) -> Latencies {
    let until = Instant::now() + time;
    let mut all = Latencies::default();
    std::thread::scope(|scope| {
        let each: Vec<_> = routers
            .iter()
            .map(|router| {
                scope.spawn(move || {
                    let mut latencies = Latencies::default();
                    while Instant::now() < until {
                        let began = Instant::now();
                        match router.renew() {
                            Ok(_) => latencies.taken.push(began.elapsed()),
                            Err(error) => {
                                latencies.failed.push(format!("{error:#}"));
                                break;
                            }
                        }
                    }
                    latencies
                })
            })
            .collect();
        for router in each {
            match router.join() {
                Ok(latencies) => all.add(latencies),
                Err(_) => all.failed.push("the thread that ordered renewals panicked".to_owned()),
            }
        }
    });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut latencies = Latencies::default();
        assert!(latencies.percentile_ms(99).abs() < f64::EPSILON);
        latencies.add(Latencies { taken: (1..=100).rev().map(Duration::from_millis).collect(), failed: Vec::new() });
        assert!((latencies.percentile_ms(50) - 51.0).abs() < 1e-9);
        assert!((latencies.percentile_ms(99) - 100.0).abs() < 1e-9);
    }
}
