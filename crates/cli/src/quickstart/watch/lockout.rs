//! Is any router locked out? Computed from the truth: what is whole on its disk, against what the controller admits.
//!
//! A router's disk is read between two looks at the register. If the register said the same both times, disk and register are
//! of one instant and the verdict is exact; if it changed meanwhile, the sample is taken again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::native::RouterView;
use net::stop::StopSignal;
use tokio::sync::Mutex;

use super::disk::{self, OnDisk};
use crate::quickstart::controller_api::ControllerApi;
use crate::quickstart::load::wall;
use crate::quickstart::tally::Tally;

/// Between two samples.
const EVERY: Duration = Duration::from_millis(400);
/// Tries to catch register and disk at one instant.
const TRIES: usize = 6;

/// A router whose state folder is read.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) id: String,
    pub(crate) state: PathBuf,
}

/// Takes samples.
#[derive(Debug)]
pub(crate) struct Lockout {
    api: Mutex<ControllerApi>,
    subjects: Vec<Subject>,
    tally: Arc<Tally>,
}

/// Fingerprints that are admitted, by router.
type Admitted = BTreeMap<String, Vec<String>>;

impl Lockout {
    pub(crate) fn new(api: ControllerApi, subjects: Vec<Subject>, tally: Arc<Tally>) -> Self {
        Self { api: Mutex::new(api), subjects, tally }
    }

    /// Samples again and again until told to stop.
    pub(crate) async fn run(&self, mut stop: StopSignal) {
        loop {
            self.sample().await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = stop.stopped() => return,
            }
        }
    }

    /// One sample of every router. Without a controller there is no register to look at; the next sample follows.
    pub(crate) async fn sample(&self) {
        let mut pending: Vec<usize> = (0..self.subjects.len()).collect();
        let Some(mut before) = self.admitted().await else { return };
        for attempt in 1..=TRIES {
            let disks: Vec<_> = pending.iter().map(|index| (*index, self.read(*index))).collect();
            let Some(after) = self.admitted().await else { return };
            pending.clear();
            for (index, found) in disks {
                let Some(subject) = self.subjects.get(index) else { continue };
                let (was, is) = (before.get(&subject.id), after.get(&subject.id));
                let is_one_instant = was == is;
                let empty = Vec::new();
                match left(&found, is.unwrap_or(&empty)) {
                    Some(left) if is_one_instant || attempt == TRIES => self.note(index, left),
                    None if is_one_instant || attempt == TRIES => {
                        self.lock_out(index, &found, is.unwrap_or(&empty));
                    }
                    Some(_) | None => pending.push(index),
                }
            }
            if pending.is_empty() {
                return;
            }
            before = after;
        }
    }

    fn read(&self, index: usize) -> Result<OnDisk, String> {
        self.subjects.get(index).map_or_else(|| Err("no such router".to_owned()), |subject| disk::read(&subject.state))
    }

    async fn admitted(&self) -> Option<Admitted> {
        let routers = self.api.lock().await.routers().await.ok()?;
        Some(
            routers
                .into_iter()
                .map(|router: RouterView| {
                    let leaves = router.leaves.into_iter().filter(|leaf| leaf.is_admitted);
                    (router.id, leaves.map(|leaf| leaf.fingerprint_sha256).collect())
                })
                .collect(),
        )
    }

    fn note(&self, index: usize, left: Duration) {
        self.tally.router(index, |router| {
            router.worst_left = Some(router.worst_left.map_or(left, |worst| worst.min(left)));
            router.left = Some(left);
        });
    }

    fn lock_out(&self, index: usize, found: &Result<OnDisk, String>, admitted: &[String]) {
        let what = match found {
            Ok(on_disk) => {
                let numbers: Vec<u64> = on_disk.whole.iter().map(|whole| whole.number).collect();
                format!(
                    "generations {numbers:?} are on its disk, and the controller admits {} other leaves",
                    admitted.len()
                )
            }
            Err(why) => format!("nothing on its disk can be used: {why}"),
        };
        self.note(index, Duration::ZERO);
        self.tally.router(index, |router| {
            router.locked_out.get_or_insert(what);
        });
    }
}

/// How long this router stays admissible if it restarted now; `None` if it is not.
fn left(found: &Result<OnDisk, String>, admitted: &[String]) -> Option<Duration> {
    let now = wall();
    let on_disk = found.as_ref().ok()?;
    on_disk
        .whole
        .iter()
        .filter(|whole| admitted.iter().any(|fingerprint| *fingerprint == whole.leaf.to_string()))
        .map(|whole| whole.not_after.since(now))
        .max()
        .filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use lifecycle::Fingerprint;

    use super::*;
    use crate::quickstart::watch::disk::Whole;

    fn disk_with(leaves: &[(u8, u64)]) -> Result<OnDisk, String> {
        let whole = leaves.iter().map(|(leaf, left_s)| Whole {
            number: u64::from(*leaf),
            leaf: Fingerprint([*leaf; 32]),
            not_after: wall().plus(Duration::from_secs(*left_s)),
        });
        Ok(OnDisk { whole: whole.collect(), phase: "Steady" })
    }

    fn admits(leaves: &[u8]) -> Vec<String> {
        leaves.iter().map(|leaf| Fingerprint([*leaf; 32]).to_string()).collect()
    }

    #[test]
    fn the_longest_leaf_that_is_on_disk_and_admitted_counts() {
        let left = left(&disk_with(&[(1, 10), (2, 50), (3, 90)]), &admits(&[1, 2])).unwrap();
        assert!(left > Duration::from_secs(40) && left <= Duration::from_secs(50), "{left:?}");
    }

    #[test]
    fn a_router_whose_disk_and_controller_have_nothing_in_common_is_locked_out() {
        assert_eq!(left(&disk_with(&[(1, 10)]), &admits(&[2])), None);
        assert_eq!(left(&disk_with(&[]), &admits(&[2])), None);
        assert_eq!(left(&Err("torn".to_owned()), &admits(&[1])), None);
        assert_eq!(left(&disk_with(&[(1, 0)]), &admits(&[1])), None);
    }
}
