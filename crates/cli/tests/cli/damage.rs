//! Identity files that are missing, damaged or mixed up: said clearly, and nothing that is left is lost.

use std::fs;
use std::path::PathBuf;

use crate::support::Place;

/// What may have become of a file.
fn damaged(kept: &[u8], other: &[u8]) -> [(&'static str, Option<Vec<u8>>); 5] {
    [
        ("empty", Some(Vec::new())),
        ("torn", Some(kept[..kept.len() / 2].to_vec())),
        ("zeros", Some(vec![0; kept.len()])),
        ("swapped", Some(other.to_vec())),
        ("missing", None),
    ]
}

fn put(path: &PathBuf, content: Option<&[u8]>) {
    match content {
        Some(bytes) => fs::write(path, bytes).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

/// Two enrolled routers of one controller, of which neither runs.
fn two_routers() -> (Place, PathBuf, PathBuf) {
    let place = Place::logged_in();
    let state = |name: &str| {
        place.enrolled(name);
        let mut states = fs::read_dir(place.path(name).join(".exuvia")).unwrap();
        states.next().unwrap().unwrap().path()
    };
    let (one, other) = (state("r1"), state("r2"));
    (place, one, other)
}

#[test]
fn a_router_comes_back_whatever_became_of_one_file_of_its_store() {
    let (place, state, other) = two_routers();
    for name in ["manifest", "generations/0001/key.pem", "generations/0001/digest"] {
        let (path, other) = (state.join(name), fs::read(other.join(name)).unwrap());
        let kept = fs::read(&path).unwrap();
        for (what, content) in damaged(&kept, &other) {
            put(&path, content.as_deref());
            let mut router = place.running("r1");
            assert_eq!(router.terminate(), Some(0), "{name} {what}");
            assert!(router.log().contains("damaged"), "{name} {what}: {}", router.log());
            put(&path, Some(&kept));
        }
    }
    // It was the same identity all the time.
    let mut router = place.running("r1");
    assert_eq!(place.run(&["status", "r1.yml", "--json"]).ok().json()["generation"], 1);
    assert_eq!(router.terminate(), Some(0));
}

#[test]
fn a_store_that_is_damaged_as_a_whole_is_not_called_absent() {
    let (place, state, _) = two_routers();
    let key = state.join("generations/0001/key.pem");
    let kept = fs::read(&key).unwrap();
    fs::write(&key, b"").unwrap();
    place.run(&["status", "r1.yml"]).fails(4, &["damaged", "key.pem", "hint: "]);
    for name in ["key.pem", "server.pem", "ca.pem"] {
        fs::remove_file(place.path("r1").join(name)).unwrap();
    }
    place.run(&["router", "run", "r1.yml", "--log-level", "off"]).fails(4, &["damaged", "key.pem", "hint: "]);
    fs::write(&key, kept).unwrap();
    let mut router = place.running("r1");
    assert_eq!(router.terminate(), Some(0));
}

#[test]
fn configured_files_that_make_no_identity_are_refused_with_the_reason() {
    let (place, state, _) = two_routers();
    fs::remove_dir_all(state.parent().unwrap()).unwrap();
    for (name, reasons) in [
        ("client.pem", ["client.pem"; 5]),
        ("key.pem", ["key", "key", "key", "do not belong together", "not complete"]),
        ("ca.pem", ["certificate", "certificate", "certificate", "", "not complete"]),
    ] {
        let path = place.path("r1").join(name);
        let kept = fs::read(&path).unwrap();
        let other = fs::read(place.path("r2").join(name)).unwrap();
        for ((what, content), reason) in damaged(&kept, &other).into_iter().zip(reasons) {
            // Both routers trust the same CA, and another router's whole leaf is another router.
            if (name, what) == ("ca.pem", "swapped") || (name, what) == ("client.pem", "swapped") {
                continue;
            }
            put(&path, content.as_deref());
            place.run(&["router", "run", "r1.yml", "--log-level", "off"]).fails(3, &["no identity", reason, "hint: "]);
            put(&path, Some(&kept));
        }
    }
    let mut router = place.running("r1");
    assert_eq!(router.terminate(), Some(0));
}
