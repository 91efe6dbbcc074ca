//! Everything that changes a store, as a process does it.

use std::path::PathBuf;

use lifecycle::manifest::Origin;
use store::StoreError;
use store::disk::{Fault, SimDisk};
use store::identity::Loaded;
use store::projection::{Projection, Slot};

use crate::scene::{Actor, HOME, Making, Run, STATE, Shown, candidate, number};

/// One thing that a router does with its store, from a start on.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    pub(crate) making: Making,
    /// How many generations there are before, all durable.
    generations: u64,
    set_scene: fn(&mut SimDisk, &mut Shown),
    act: fn(&mut Actor) -> Result<(), StoreError>,
}

const PLAIN: Making = Making { has_server_key: false, room_bytes: 8 * 1024 };

/// All of them.
pub(crate) const SCRIPTS: &[Script] = &[
    Script { name: "enroll", making: PLAIN, generations: 0, set_scene: |_, _| (), act: |actor| actor.renew(1, &[]) },
    Script { name: "renew", making: PLAIN, generations: 2, set_scene: |_, _| (), act: |actor| actor.renew(3, &[1]) },
    Script {
        name: "renew twice",
        making: PLAIN,
        generations: 2,
        set_scene: |_, _| (),
        act: |actor| {
            actor.renew(3, &[])?;
            actor.renew(4, &[1, 2])
        },
    },
    Script {
        name: "renew, server key of its own",
        making: Making { has_server_key: true, room_bytes: 8 * 1024 },
        generations: 2,
        set_scene: |_, _| (),
        act: |actor| actor.renew(3, &[1]),
    },
    Script {
        name: "renew, no reservation",
        making: Making { has_server_key: false, room_bytes: 600 },
        generations: 2,
        set_scene: |disk, _| disk.set_can_reserve(false),
        act: |actor| actor.renew(3, &[1]),
    },
    Script {
        name: "give up before 20303, renew",
        making: PLAIN,
        generations: 2,
        set_scene: |_, _| (),
        act: |actor| {
            actor.prepare(3)?;
            actor.show(|shown| shown.requested = None);
            actor.store.discard(number(3))?;
            actor.renew(4, &[1])
        },
    },
    Script {
        name: "roll back after 20303, renew",
        making: PLAIN,
        generations: 2,
        set_scene: |_, _| (),
        act: |actor| {
            actor.prepare(3)?;
            actor.stage(3)?;
            // The older one is admitted again; the newer stays, since nobody knows what became of its 20303.
            actor.promote(2, &[])?;
            actor.renew(4, &[1])
        },
    },
    Script { name: "import", making: PLAIN, generations: 2, set_scene: |_, _| (), act: |actor| import(actor, 3, 1) },
    Script { name: "project", making: PLAIN, generations: 2, set_scene: lay_old_files, act: project },
    Script {
        name: "project in place",
        making: PLAIN,
        generations: 2,
        set_scene: |disk, shown| {
            lay_old_files(disk, shown);
            for slot in SLOTS {
                disk.set_bound(target(slot), true);
            }
        },
        act: project,
    },
    Script {
        name: "sweep",
        making: PLAIN,
        generations: 2,
        set_scene: |disk, _| {
            for left in [".manifest-0.tmp", ".manifest-7.tmp"] {
                disk.put_file(format!("{STATE}/{left}"), b"EXUVIAMF half", 0o600);
            }
            for (folder, file) in [("0003", "key.pem"), ("0003", "digest"), ("0004", "client.pem"), ("0005", "key.pem")]
            {
                disk.put_folder(format!("{STATE}/generations/{folder}"));
                disk.put_file(format!("{STATE}/generations/{folder}/{file}"), b"", 0o600);
            }
        },
        act: |actor| actor.store.sweep().map(|_| ()),
    },
    Script {
        name: "renew a store that an earlier release wrote",
        making: PLAIN,
        generations: 0,
        set_scene: lay_format_1,
        act: |actor| actor.renew_next(),
    },
];

const FORMAT_1: &[u8] = include_bytes!("../../../fixtures/store-v1/manifest");
const FORMAT_1_DIGESTS: [(u64, &[u8]); 2] = [
    (11, include_bytes!("../../../fixtures/store-v1/0011.digest")),
    (12, include_bytes!("../../../fixtures/store-v1/0012.digest")),
];

/// Format 1 is the oldest there is; these bytes were written when it was made and never since.
fn lay_format_1(disk: &mut SimDisk, shown: &mut Shown) {
    disk.put_file(format!("{STATE}/manifest"), FORMAT_1, 0o600);
    for (n, digest) in FORMAT_1_DIGESTS {
        let files = PLAIN.files(n);
        let folder = format!("{STATE}/generations/{}", number(n));
        disk.put_file(format!("{folder}/key.pem"), files.keys.key.as_bytes(), 0o600);
        disk.put_file(format!("{folder}/client.pem"), &files.client, 0o600);
        disk.put_file(format!("{folder}/server.pem"), &files.server, 0o600);
        disk.put_file(format!("{folder}/bundle.pem"), &files.bundle, 0o600);
        disk.put_file(format!("{folder}/digest"), digest, 0o600);
        shown.needed.insert(n);
    }
    // Its manifest gave out 13 too, for an attempt that came to nothing.
    shown.highest = 12;
}

/// A store of a newer format: its generations are served, and every attempt to write is refused before it touches the disk.
pub(crate) fn check_newer_format() -> Result<(), String> {
    let mut shown = Shown::default();
    let mut disk = SimDisk::with_folder(HOME);
    lay_format_1(&mut disk, &mut shown);
    let mut manifest = FORMAT_1.to_vec();
    manifest.iter_mut().skip(8).take(1).for_each(|version| *version = 2);
    store::format::reseal(&mut manifest);
    store::format::reseal(&mut manifest);
    disk.put_file(format!("{STATE}/manifest"), &manifest, 0o600);
    let mut actor = Actor::start(disk, PLAIN, &shown).map_err(|(error, _)| format!("open: {error:?}"))?;
    let before = actor.store.disk().revision();
    let loaded = actor.load().map_err(|error| format!("load: {error:?}"))?;
    let is_served = matches!(loaded, Loaded::Newer(_)) && loaded.generations().len() == shown.needed.len();
    let manifest = loaded.manifest().cloned().unwrap_or_default();
    let refusals = [
        actor.store.commit(&manifest),
        actor.store.prepare(number(14), &PLAIN.keys(14), Default::default()),
        actor.store.erase(&[number(11)]),
        actor.store.sweep().map(|_| ()),
    ];
    let is_refused = refusals.iter().all(|answer| matches!(answer, Err(StoreError::Newer { .. })));
    let is_untouched = actor.store.disk().revision() == before;
    if is_served && is_refused && is_untouched {
        Ok(())
    } else {
        Err(format!("a store of a newer format: served {is_served}, refused {is_refused}, untouched {is_untouched}"))
    }
}

const SLOTS: [Slot; 4] = [Slot::Key, Slot::Cert, Slot::ServerCert, Slot::Ca];

fn target(slot: Slot) -> &'static str {
    match slot {
        Slot::Key | Slot::ServerKey => "/etc/ziti/r.key",
        Slot::Cert => "/etc/ziti/r.cert",
        Slot::ServerCert => "/etc/ziti/r.server.cert",
        Slot::Ca => "/etc/ziti/r.cas",
    }
}

fn projection() -> Projection {
    Projection::new(SLOTS.map(|slot| (slot, PathBuf::from(target(slot)))))
}

fn lay_old_files(disk: &mut SimDisk, _: &mut Shown) {
    for slot in SLOTS {
        let mode = if slot == Slot::Key { 0o600 } else { 0o644 };
        disk.put_file(target(slot), slot.content(&PLAIN.files(1)), mode);
    }
}

/// Somebody else's identity becomes a candidate, and is admitted; then an old one may go.
pub(crate) fn import(actor: &mut Actor, n: u64, dropped: u64) -> Result<(), StoreError> {
    let mut manifest = actor.manifest.clone();
    let digest = actor.store.write_generation(number(n), &actor.making.files(n))?;
    manifest.last_number = number(n);
    manifest.candidates.push(candidate(n, digest, Origin::Imported));
    actor.commit(manifest)?;
    actor.show(|shown| {
        shown.needed.insert(n);
        shown.highest = n;
    });
    actor.promote(n, &[dropped])
}

/// As a start does: leftovers first, then the default generation's files, then the record of it.
fn project(actor: &mut Actor) -> Result<(), StoreError> {
    let projection = projection();
    projection.sweep(actor.store.disk_mut())?;
    let done = projection.write(actor.store.disk_mut(), &actor.making.files(2))?;
    let mut manifest = actor.manifest.clone();
    manifest.projection = Some(done.record(number(2), manifest.projection.as_ref(), false));
    actor.commit(manifest)
}

impl Script {
    pub(crate) fn projects(&self) -> bool {
        self.name.starts_with("project")
    }

    /// Can a crash tear the configured files themselves?
    pub(crate) fn is_in_place(&self) -> bool {
        self.name == "project in place"
    }

    /// The disk before, everything durable, and what has been shown.
    pub(crate) fn scene(&self) -> Result<(SimDisk, Shown), String> {
        let mut shown = Shown::default();
        let mut disk = SimDisk::with_folder(HOME);
        for n in 1..=self.generations {
            let mut actor =
                Actor::start(disk, self.making, &shown).map_err(|(error, _)| format!("scene: {error:?}"))?;
            let done = actor.load().and_then(|_| actor.renew(n, &[]));
            done.map_err(|error| format!("scene: {error:?}"))?;
            shown = actor.shown.clone();
            disk = actor.end(Ok(())).disk.after_kill();
        }
        if disk.pending() > 0 {
            return Err("something that was shown is not durable".to_owned());
        }
        (self.set_scene)(&mut disk, &mut shown);
        Ok((disk, shown))
    }

    /// The whole of it, undisturbed, with history.
    pub(crate) fn run(&self, mut disk: SimDisk, shown: &Shown) -> Run {
        disk.record();
        disk.keep_history();
        let mut actor = match Actor::start(disk, self.making, shown) {
            Ok(actor) => actor,
            Err((error, disk)) => return Run { claim: Err(format!("{error:?}")), ..Run::unstarted(disk, shown) },
        };
        let done = actor.load().and_then(|_| (self.act)(&mut actor));
        actor.end(done.map_err(|error| format!("undisturbed, and yet: {error:?}")))
    }

    /// The whole of it with one thing going wrong; the process reacts as a router does: reads again, renews again, or ends.
    pub(crate) fn run_in_trouble(&self, mut disk: SimDisk, shown: &Shown, trouble: Trouble) -> Run {
        disk.keep_history();
        trouble.lay(&mut disk);
        let mut actor = match Actor::start(disk, self.making, shown) {
            Ok(actor) => actor,
            Err((_, disk)) => return Run::unstarted(disk, shown),
        };
        let claim = self.act_in_trouble(&mut actor);
        actor.end(claim)
    }

    fn act_in_trouble(&self, actor: &mut Actor) -> Result<(), String> {
        let holds_something = !actor.shown.needed.is_empty();
        let look = |actor: &mut Actor| match actor.load() {
            Ok(Loaded::Absent) if holds_something => Err("a failing disk was taken for an empty one".to_owned()),
            Ok(loaded) => {
                crate::scene::check_contents(&loaded, self.making)?;
                // Damage and nothing that can be used: the router says so and ends.
                Ok(loaded.damage().is_empty() || !loaded.generations().is_empty())
            }
            // Not readable now: the process ends or waits.
            Err(_) => Ok(false),
        };
        if !look(actor)? || (self.act)(actor).is_ok() {
            return Ok(());
        }
        // Twice: the second one meets a disk that has healed, unless it died.
        for _ in 0..2 {
            if !look(actor)? || actor.renew_next().is_ok() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// One thing that goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trouble {
    /// One operation.
    Once(u64, Fault),
    /// From this operation on everything.
    Dead(u64, store::disk::Errno),
}

impl Trouble {
    /// Does the store answer this by rewriting a configured file in place?
    pub(crate) fn may_tear(self) -> bool {
        use store::disk::Errno;
        matches!(self, Self::Once(_, Fault::Refuse(Errno::ACCESS | Errno::ROFS)))
    }

    pub(crate) fn lay(self, disk: &mut SimDisk) {
        match self {
            Self::Once(at, fault) => disk.fail(at, fault),
            Self::Dead(from, errno) => disk.die(Some((from, errno))),
        }
    }
}

/// The configured files after a crash: each whole, old or new, unless they are rewritten in place; a start mends them all.
///
/// `may_tear` = the process was refused the new file or its rename, and rewrote the old one where it is.
pub(crate) fn check_projection(disk: &SimDisk, script: &Script, may_tear: bool) -> Result<(), String> {
    let (old, new) = (script.making.files(1), script.making.files(2));
    if !may_tear && !script.is_in_place() {
        for slot in SLOTS {
            let Some(found) = disk.file(target(slot)) else { return Err(format!("{slot:?} is gone")) };
            if found != slot.content(&old) && found != slot.content(&new) {
                return Err(format!("{slot:?} is torn"));
            }
        }
    }
    let mut wide = false;
    disk.for_each_file(|name, mode, content| {
        let is_key = content == Slot::Key.content(&old) || content == Slot::Key.content(&new);
        wide |= is_key && mode & 0o077 != 0 && !name.is_empty();
    });
    if wide {
        return Err("a key can be read by others".to_owned());
    }
    let mut mended = disk.after_kill();
    let projection = projection();
    let again = projection.sweep(&mut mended).and_then(|_| projection.write(&mut mended, &new));
    again.map_err(|error| format!("mending: {error:?}"))?;
    let is_whole = SLOTS.iter().all(|slot| mended.file(target(*slot)) == Some(slot.content(&new)));
    let has_leftovers = mended.paths().iter().any(|path| {
        path.parent().is_some_and(|parent| parent == std::path::Path::new(HOME))
            && path.to_string_lossy().ends_with(".tmp")
    });
    if is_whole && !has_leftovers { Ok(()) } else { Err("a start did not mend the configured files".to_owned()) }
}
