//! Write orders of others, and ours with one mistake at a time, as controls of a layer that loses what was not synced.

use std::ffi::OsString;
use std::path::Path;

use crash::order::{About, Moment, ORDERS, OrderError, Protocol, WriteOrder, find, install};
use evidence::{Control, Evidence};
use store::disk::RealDisk;

/// What a write order claims: from now on the controller admits this generation alone.
pub(crate) type Committed = u64;

/// One order on the real disk.
pub(crate) struct Order {
    pub(crate) about: &'static About,
    protocol: Protocol,
    order: Box<dyn WriteOrder<RealDisk>>,
}

/// All of them, but for ours as it ships: that one is the real program. Of others only the order of files is judged; ours with a mistake
/// stand before a controller with one fingerprint.
pub(crate) fn all() -> impl Iterator<Item = Order> {
    ORDERS.iter().filter(|about| about.name != "exuvia").filter_map(|about| Order::find(about.name))
}

impl Order {
    /// The order with this name.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let (about, order) = find::<RealDisk>(name)?;
        let protocol = if about.is_peer { Protocol::FilesOnly } else { Protocol::OneFingerprint };
        Some(Self { about, protocol, order })
    }

    /// Must a layer that loses what was not synced find it wrong?
    pub(crate) fn is_wrong_without_power(&self) -> bool {
        match self.protocol {
            Protocol::FilesOnly => self.about.wrong_in_files.power,
            Protocol::OneFingerprint => self.about.wrong_in_protocol.power,
        }
    }

    /// Stores generation 1 and renews up to `last`; tells of every commit when it happens.
    pub(crate) fn perform(&self, folder: &Path, last: u64, mut tell: impl FnMut(Committed)) -> anyhow::Result<()> {
        let mut disk = RealDisk;
        install(&*self.order, &mut disk, folder, 1)?;
        tell(1);
        for number in 2..=last {
            let put = self.order.put(&mut disk, folder, number, self.protocol, &mut |_, moment| {
                if let Moment::Commit(number) = moment {
                    tell(number);
                }
            });
            match put {
                Ok(()) => {}
                // An order whose mistake is what it does when the answer is lost.
                Err(OrderError::NoAnswer) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The arguments of the program `write-order` for the renewal to this generation.
    pub(crate) fn arguments(&self, folder: &Path, number: u64) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            vec![self.about.name.into(), "put".into(), folder.into(), number.to_string().into()];
        if self.protocol == Protocol::OneFingerprint {
            arguments.push("--protocol".into());
        }
        arguments
    }

    /// Is what a start finds good for anything after these commits?
    pub(crate) fn check(&self, folder: &Path, commits: &[Committed]) -> Result<(), String> {
        let Some(admitted) = commits.iter().max() else { return Ok(()) };
        // While the next renewal is under way, both count if files alone are judged.
        let is_admitted =
            |number: u64| number == *admitted || (self.protocol == Protocol::FilesOnly && number == *admitted + 1);
        match self.order.load(&mut RealDisk, folder) {
            Ok(usable) if usable.iter().any(|number| is_admitted(*number)) => Ok(()),
            Ok(usable) => Err(format!("generation {admitted} is admitted, and a start finds {usable:?}")),
            Err(error) => Err(format!("generation {admitted} is admitted, and a start says: {error}")),
        }
    }
}

/// How an order fared, over all file systems of a layer.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) states: u64,
    pub(crate) bad: u64,
    pub(crate) example: Option<String>,
}

impl Tally {
    /// Counts one state.
    pub(crate) fn count(&mut self, outcome: Result<(), String>, state: impl FnOnce() -> String) {
        self.states += 1;
        if let Err(why) = outcome {
            self.bad += 1;
            if self.example.is_none() {
                self.example = Some(format!("{}: {why}", state()));
            }
        }
    }

    /// Adds another file system's.
    pub(crate) fn add(&mut self, other: Self) {
        self.states += other.states;
        self.bad += other.bad;
        self.example = self.example.take().or(other.example);
    }

    /// As a control that must be found wrong, or must not.
    pub(crate) fn control(self, name: &str, is_wrong: bool, evidence: &mut Evidence) {
        evidence.controls.push(Control {
            name: name.to_owned(),
            is_wrong,
            caught: self.bad,
            states: self.states,
            example: self.example,
        });
    }
}
