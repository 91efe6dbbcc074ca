use store::disk::Disk;

use super::WriteOrder;
use super::careless::Care;
use super::links::{AtomicWriter, Certbot, ClientGo};
use super::ours::{Exuvia, InPlace, Mistake};
use super::single::{CertMagic, OpenZiti, Spire, Step, SwarmKit};

/// Under which faults an order leaves no usable identity in some state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// The process is killed between two calls; the machine lives.
    pub killed: bool,
    /// The power fails; what was not synced may be lost.
    pub power: bool,
    /// One call is refused (full disk, I/O error, …); the process reacts as it does, and is started anew.
    pub refused: bool,
    /// One call is refused, and then the power fails.
    pub refused_then_power: bool,
}

impl Wrong {
    const NEVER: Self = Self { killed: false, power: false, refused: false, refused_then_power: false };
    const ALWAYS: Self = Self { killed: true, power: true, refused: true, refused_then_power: true };
    const POWER: Self = Self { killed: false, power: true, refused: false, refused_then_power: true };
    const UNSYNCED: Self = Self { killed: false, power: false, refused: false, refused_then_power: true };

    /// Under any of them?
    pub fn is_ever(self) -> bool {
        self != Self::NEVER
    }
}

/// An order by name.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its name in the report.
    pub title: &'static str,
    /// What it does, in a line.
    pub what: &'static str,
    /// Somebody else's, not ours and not ours with a mistake.
    pub is_peer: bool,
    /// Expected to be wrong although both generations are admitted until it is done: the order of files alone is to blame.
    pub wrong_in_files: Wrong,
    /// Expected to be wrong where the controller admits one fingerprint at a time.
    pub wrong_in_protocol: Wrong,
    pub(crate) make: Make,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Make {
    OpenZiti,
    Step,
    Certbot,
    ClientGo,
    Spire,
    SwarmKit,
    CertMagic,
    AtomicWriter,
    Ours(Care, Option<Mistake>),
    InPlace,
}

impl Make {
    pub(crate) fn order<D: Disk + Default>(self) -> Box<dyn WriteOrder<D>> {
        match self {
            Self::OpenZiti => Box::new(OpenZiti),
            Self::Step => Box::new(Step),
            Self::Certbot => Box::new(Certbot),
            Self::ClientGo => Box::new(ClientGo),
            Self::Spire => Box::new(Spire),
            Self::SwarmKit => Box::new(SwarmKit),
            Self::CertMagic => Box::new(CertMagic),
            Self::AtomicWriter => Box::new(AtomicWriter),
            Self::Ours(care, mistake) => Box::new(Exuvia { care, mistake }),
            Self::InPlace => Box::new(InPlace),
        }
    }
}

const CAREFUL: Care = Care {
    skips_file_sync: false,
    skips_folder_sync: false,
    ignores_sync_errors: false,
    renames_in_place: false,
    takes_errors_for_absence: false,
};

const fn peer(name: &'static str, title: &'static str, what: &'static str, wrong_in_files: Wrong, make: Make) -> About {
    About { name, title, what, is_peer: true, wrong_in_files, wrong_in_protocol: Wrong::ALWAYS, make }
}

const fn ours(
    name: &'static str,
    what: &'static str,
    wrong_in_files: Wrong,
    wrong_in_protocol: Wrong,
    make: Make,
) -> About {
    About { name, title: name, what, is_peer: false, wrong_in_files, wrong_in_protocol, make }
}

/// Every order: ours, those of others, and ours with one mistake.
pub const ORDERS: &[About] = &[
    ours("exuvia", "our store as it ships", Wrong::NEVER, Wrong::NEVER, Make::Ours(CAREFUL, None)),
    peer(
        "openziti",
        "OpenZiti router",
        "client and server certificate truncated and rewritten, no sync, errors logged",
        Wrong::ALWAYS,
        Make::OpenZiti,
    ),
    peer("step", "step ca renew", "certificate truncated and rewritten, no sync", Wrong::ALWAYS, Make::Step),
    peer(
        "certbot",
        "certbot-like pairs",
        "new files, then one link after another unlinked and made anew, no sync",
        Wrong::ALWAYS,
        Make::Certbot,
    ),
    peer(
        "client-go",
        "client-go certificate store",
        "one new file with chain and key, link turned in two steps that a start completes, no sync",
        Wrong::POWER,
        Make::ClientGo,
    ),
    peer(
        "spire",
        "SPIRE agent",
        "two key slots in one file, then identity in another, each synced, renamed and its folder synced",
        Wrong::NEVER,
        Make::Spire,
    ),
    peer(
        "swarmkit",
        "Docker SwarmKit",
        "hidden certificate, key, rename of the certificate; files synced, folder not",
        Wrong::POWER,
        Make::SwarmKit,
    ),
    peer(
        "certmagic",
        "certmagic",
        "key, certificate and metadata replaced one after another; files synced, folder not; a failure deletes what was replaced",
        Wrong::ALWAYS,
        Make::CertMagic,
    ),
    peer(
        "atomic-writer",
        "Kubernetes AtomicWriter",
        "new folder, link renamed, old folder removed, no sync",
        Wrong::POWER,
        Make::AtomicWriter,
    ),
    ours(
        "no-file-fsync",
        "ours without syncs of files",
        Wrong::POWER,
        Wrong::POWER,
        Make::Ours(Care { skips_file_sync: true, ..CAREFUL }, None),
    ),
    ours(
        "no-folder-fsync",
        "ours without syncs of folders",
        Wrong::POWER,
        Wrong::POWER,
        Make::Ours(Care { skips_folder_sync: true, ..CAREFUL }, None),
    ),
    ours(
        "fsync-errors-ignored",
        "ours taking a failed sync for one that worked",
        Wrong::UNSYNCED,
        Wrong::UNSYNCED,
        Make::Ours(Care { ignores_sync_errors: true, ..CAREFUL }, None),
    ),
    ours("in-place", "one set of files, rewritten with syncs", Wrong::ALWAYS, Wrong::ALWAYS, Make::InPlace),
    ours(
        "verify-before-stage",
        "ours, with 20303 sent before the new generation is on the disk",
        Wrong::NEVER,
        Wrong::ALWAYS,
        Make::Ours(CAREFUL, Some(Mistake::VerifyBeforeStage)),
    ),
    ours(
        "promote-before-durable",
        "ours, with the manifest and 20303 before the new generation's syncs",
        Wrong::NEVER,
        Wrong::POWER,
        Make::Ours(CAREFUL, Some(Mistake::PromoteBeforeDurable)),
    ),
    ours(
        "forget-next",
        "ours, erasing the new generation when the answer to 20303 is lost",
        Wrong::NEVER,
        Wrong::ALWAYS,
        Make::Ours(CAREFUL, Some(Mistake::ForgetNext)),
    ),
    ours(
        "one-generation",
        "ours, dropping the old generation when the new one is staged",
        Wrong::NEVER,
        Wrong::ALWAYS,
        Make::Ours(CAREFUL, Some(Mistake::OneGeneration)),
    ),
];
