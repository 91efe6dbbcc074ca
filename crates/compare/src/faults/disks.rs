//! Disks that are full, read-only, locked, broken, or lose power.

use std::time::Duration;

use diskfault::storage::FileSystem;
use diskfault::trace::Errno;
use netfault::proxy::{Action, Message};

use crate::fault::{Act, Fault, Group, Position, Traced, When};
use crate::pairing;
use crate::place::Kind;

/// A message is held while the disk is made to fail.
const HELD: Action = Action::Delay(Duration::from_secs(2));
/// Kibibytes and inodes; enough for what either router keeps.
const SMALL: Kind = Kind::Small(768, 400);
/// How long the disk fails, in seconds.
const FAILS: u64 = 30;

pub(super) fn all() -> Vec<Fault> {
    let mut all = full();
    all.extend(refusing());
    all.extend(broken());
    all.extend(without_power());
    all
}

fn fault(id: &'static str, what: &'static str, how: &'static str) -> Fault {
    Fault::new(Group::Disk, id, what, how).lasting(FAILS)
}

fn full() -> Vec<Fault> {
    let how = "tmpfs of 768 KiB filled to the last byte while the message is held for 2 s; room again after 30 s";
    let full = |id, what, message| fault(id, what, how).at(SMALL).on(message, HELD).then(Act::Fill);
    let inodes = |id, what, message| {
        let how = "tmpfs with 400 inodes, all used, while the message is held for 2 s; room again after 30 s";
        fault(id, what, how).at(SMALL).on(message, HELD).then(Act::FillInodes)
    };
    let on_disk = |id, what, message| {
        let how = "ext4 of 24 MiB filled to the last byte and synced while the message is held for 2 s; room again after 30 s";
        fault(id, what, how).at(Kind::Disk(FileSystem::Ext4)).on(message, HELD).then(Act::Fill)
    };
    vec![
        fault("full-start", "full from the start on", "tmpfs of 768 KiB filled to the last byte; room after 30 s")
            .at(SMALL)
            .when(When::Start)
            .then(Act::Fill),
        full("full-20302", "full from 20302 on", Message::Request),
        full("full-20301", "full from 20301 on", Message::Certs),
        full("full-20303", "full from 20303 on", Message::Verify),
        full("full-20002", "full from 20002 on", Message::Confirmation),
        on_disk("full-ext4-20301", "the same from 20301 on, ext4", Message::Certs),
        on_disk("full-ext4-20002", "the same from 20002 on, ext4", Message::Confirmation),
        inodes("inodes-20301", "no inode left from 20301 on", Message::Certs),
        inodes("inodes-20002", "no inode left from 20002 on", Message::Confirmation),
    ]
}

fn refusing() -> Vec<Fault> {
    let how = "bind mount remounted read-only while the message is held for 2 s; writable again after 30 s";
    let read_only = |id, what, message| fault(id, what, how).at(Kind::Bound).on(message, HELD).then(Act::ReadOnly);
    vec![
        fault("ro-start", "read-only from the start on", "bind mount remounted read-only; writable after 30 s")
            .at(Kind::Bound)
            .when(When::Start)
            .then(Act::ReadOnly),
        read_only("ro-20302", "read-only from 20302 on", Message::Request),
        read_only("ro-20301", "read-only from 20301 on", Message::Certs),
        read_only("ro-20303", "read-only from 20303 on", Message::Verify),
        read_only("ro-20002", "read-only from 20002 on", Message::Confirmation),
        fault(
            "bound-files",
            "each file of the identity is a mount of its own",
            "bind mounts of single files, for good",
        )
        .at(Kind::BoundFiles)
        .when(When::Start)
        .lasting(0),
        fault("immutable-start", "the configured files are immutable from the start on", "chattr +i, for 30 s")
            .when(When::Start)
            .then(Act::Immutable),
        fault("immutable-20002", "the configured files are immutable from 20002 on", "chattr +i, for 30 s")
            .on(Message::Confirmation, HELD)
            .then(Act::Immutable),
    ]
}

fn broken() -> Vec<Fault> {
    let how = "our tracer answers this change of a file and all later ones so, for 30 s";
    let from = |id, what, position, errno| fault(id, what, how).when(When::Change(position, Traced::Fail(errno)));
    let mut first = from("enospc-first", "ENOSPC from the first change on", Position::First, Errno::ENOSPC);
    first.left_out = |pairing| {
        let why = "its first change is an `ftruncate` to nothing, which no full disk refuses";
        (pairing.router == pairing::Kind::Stock).then_some(why)
    };
    vec![
        first,
        from("enospc-50", "ENOSPC from the change in the middle on", Position::Percent(50), Errno::ENOSPC),
        from("enospc-last", "ENOSPC at the last change", Position::Last, Errno::ENOSPC),
        from("eio-first", "EIO from the first change on", Position::First, Errno::EIO),
        from("eio-50", "EIO from the change in the middle on", Position::Percent(50), Errno::EIO),
    ]
}

fn without_power() -> Vec<Fault> {
    let how = "the file system's shutdown call, process killed -9, mounted again: what was not synced is gone";
    let cut = |id, what, system, when| {
        Fault::new(Group::Power, id, what, how).at(Kind::Disk(system)).when(when).then(Act::PowerCut)
    };
    let (ext4, xfs) = (FileSystem::Ext4, FileSystem::Xfs);
    vec![
        cut("power-20002", "power fails while 20002 is on its way, ext4", ext4, When::Struck)
            .on(Message::Confirmation, HELD),
        cut("power-written", "power fails when the new leaf is in a file, ext4", ext4, When::Written(Duration::ZERO)),
        cut("power-2s", "power fails 2 s after that, ext4", ext4, When::Written(Duration::from_secs(2))),
        cut("power-written-xfs", "power fails when the new leaf is in a file, xfs", xfs, When::Written(Duration::ZERO)),
        cut("power-2s-xfs", "power fails 2 s after that, xfs", xfs, When::Written(Duration::from_secs(2))),
    ]
}
