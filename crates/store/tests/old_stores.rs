//! Stores that earlier releases wrote keep opening. Fixtures are never rewritten: a new format gets a new folder.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "scene/rig.rs"]
mod rig;

use lifecycle::manifest::{AttemptRecord, Manifest, Origin, ProjectionRecord};
use lifecycle::{Digest, UnixTime};
use rig::{STATE, candidate, facts, files, number, open};
use store::disk::SimDisk;
use store::format::{decode_manifest, encode_manifest};
use store::generation::digest_of;
use store::identity::Loaded;

const MANIFEST: &[u8] = include_bytes!("../../../fixtures/store-v1/manifest");
const DIGEST_11: &[u8] = include_bytes!("../../../fixtures/store-v1/0011.digest");
const DIGEST_12: &[u8] = include_bytes!("../../../fixtures/store-v1/0012.digest");

/// What the fixture says, in words. Leaves are made up, keys are no keys.
fn expected() -> Manifest {
    let mut older = candidate(11, digest_of(number(11), &files(11)));
    older.origin = Origin::Enrolled;
    older.first_admitted = Some(UnixTime::from_ms(1_767_225_600_123));
    let mut newer = candidate(12, digest_of(number(12), &files(12)));
    newer.jitter = 0xBEEF;
    newer.staged_at = UnixTime::from_ms(-5);
    Manifest {
        candidates: vec![older, newer],
        last_number: number(13),
        attempt: Some(AttemptRecord { number: number(13), began: UnixTime::from_ms(1_777_000_000_456), failures: 3 }),
        projection: Some(ProjectionRecord { number: number(11), digest: Digest([0xAB; 32]), foreign_rewrites: 2 }),
    }
}

#[test]
fn a_store_of_format_1_opens() {
    let mut disk = SimDisk::new();
    disk.put_file(format!("{STATE}/manifest"), MANIFEST, 0o600);
    for (n, digest) in [(11, DIGEST_11), (12, DIGEST_12)] {
        let files = files(n);
        let folder = format!("{STATE}/generations/{}", number(n));
        disk.put_file(format!("{folder}/key.pem"), files.keys.key.as_bytes(), 0o600);
        disk.put_file(format!("{folder}/client.pem"), &files.client, 0o600);
        disk.put_file(format!("{folder}/server.pem"), &files.server, 0o600);
        disk.put_file(format!("{folder}/bundle.pem"), &files.bundle, 0o600);
        disk.put_file(format!("{folder}/digest"), digest, 0o600);
    }
    let mut store = open(disk).unwrap();
    let loaded = store.load(facts).unwrap();
    let Loaded::Intact(found) = loaded else { panic!("{loaded:?}") };
    assert_eq!(found.manifest, expected());
    assert_eq!(found.generations.iter().map(|g| g.files.clone()).collect::<Vec<_>>(), [files(11), files(12)]);
    assert_eq!(found.prepared, None);
}

#[test]
fn format_1_is_still_written_byte_for_byte() {
    assert_eq!(encode_manifest(&expected()), MANIFEST);
    assert_eq!(decode_manifest(MANIFEST), Ok(expected()));
    assert_eq!(digest_of(number(12), &files(12)).0, DIGEST_12[224..]);
}
