//! Files of the state folder and at the configured paths that a crash, a full disk, a restore or a person has damaged.

use std::fs;
use std::path::Path;

use crate::support::{Router, listing, shared};

/// Ways to damage a file; the last one puts another whole file of the same kind in its place.
const KINDS: [&str; 4] = ["empty", "torn", "zero-filled", "swapped"];

fn damaged(kind: &str, whole: &[u8], other: &[u8]) -> Vec<u8> {
    match kind {
        "empty" => Vec::new(),
        "torn" => whole[..whole.len() / 2].to_vec(),
        "zero-filled" => vec![0; whole.len()],
        _ => other.to_vec(),
    }
}

/// Two whole generations, the newer one admitted; the daemon is not running.
fn twice_renewed<'a>(site: &'a crate::support::Site, name: &str) -> (Router<'a>, u64, u64) {
    let router = Router::enrolled(site, name);
    router.configure("");
    let text = fs::read_to_string(site.path(&router.config())).unwrap();
    fs::write(site.path(&router.config()), text.replace("exuvia: {", "exuvia: {rekey: always, ")).unwrap();
    let process = router.admitted();
    let older = router.status()["generation"].as_u64().unwrap();
    let newer = router.renew();
    process.terminate();
    (router, older, newer)
}

/// Puts a folder back as it was.
fn restore(folder: &Path, files: &[(std::path::PathBuf, Vec<u8>)]) {
    for (path, _) in listing(folder).iter().filter(|(path, _)| files.iter().all(|(known, _)| known != path)) {
        fs::remove_file(path).unwrap();
    }
    for entry in fs::read_dir(folder.join("generations")).unwrap().flatten() {
        // Only the folders of generations that were made meanwhile are empty now.
        let _ = fs::remove_dir(entry.path());
    }
    for (path, bytes) in files {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Each damage to each file of the newest generation: the other one is admitted and the damage is named.
fn every_damage_to(file: &str, site: &crate::support::Site) {
    let (router, older, newer) = twice_renewed(site, &format!("damaged-{}", file.replace('.', "-")));
    let before = listing(&router.state());
    let path = router.generation(newer).join(file);
    let whole = fs::read(&path).unwrap();
    let other = fs::read(router.generation(older).join(file)).unwrap();
    for kind in KINDS {
        let bytes = damaged(kind, &whole, &other);
        if bytes == whole {
            continue;
        }
        fs::write(&path, &bytes).unwrap();
        let process = router.admitted();
        let status = router.status();
        assert_ne!(status["generation"], newer, "{file} {kind}: {status:#}");
        assert!(status["lockout_in_s"].as_u64().unwrap() > 0, "{file} {kind}: {status:#}");
        let log = process.kill();
        assert!(log.contains("damaged: ") && log.contains(&format!("{newer:04}")), "{file} {kind}: {log}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{file} {kind}: evidence and keys stay as they are");
        restore(&router.state(), &before);
    }
    let process = router.admitted();
    assert_eq!(router.status()["generation"], newer, "mended by hand, it is used again");
    assert!(router.renew() > newer);
    process.terminate();
}

/// The same for several files at once, each with a router of its own.
fn every_damage_to_each(files: &[&str]) {
    let site = shared();
    std::thread::scope(|scope| {
        for file in files {
            let site = &site;
            scope.spawn(move || every_damage_to(file, site));
        }
    });
}

#[test]
fn a_key_or_chain_of_a_generation_that_is_damaged_costs_that_generation_only() {
    every_damage_to_each(&["key.pem", "client.pem"]);
}

#[test]
fn a_server_chain_bundle_or_digest_that_is_damaged_costs_that_generation_only() {
    every_damage_to_each(&["server.pem", "bundle.pem", "digest"]);
}

#[test]
fn a_damaged_manifest_is_said_and_every_generation_is_used() {
    let site = shared();
    let (router, older, newer) = twice_renewed(&site, "damaged-manifest");
    let (stranger, ..) = twice_renewed(&site, "other-manifest");
    let path = router.state().join("manifest");
    let whole = fs::read(&path).unwrap();
    let other = fs::read(stranger.state().join("manifest")).unwrap();
    let before = listing(&router.state());
    let is_kept = || {
        let all = before.iter().filter(|(path, _)| path.starts_with(router.state().join("generations")));
        all.into_iter().all(|(path, bytes)| fs::read(path).is_ok_and(|now| now == *bytes))
    };
    for kind in KINDS.iter().chain(&["missing"]) {
        if *kind == "missing" {
            fs::remove_file(&path).unwrap();
        } else {
            fs::write(&path, damaged(kind, &whole, &other)).unwrap();
        }
        let process = router.admitted();
        let status = router.status();
        // The manifest of another router names nothing here; then the copies at the configured paths are taken in again.
        assert!(*kind == "swapped" || status["generation"] == newer, "{kind}: {status:#}");
        assert!(status["lockout_in_s"].as_u64().unwrap() > 0, "{kind}: {status:#}");
        let log = process.kill();
        assert!(log.contains("damaged: "), "{kind}: {log}");
        assert!(is_kept(), "{kind}: nothing is swept");
        restore(&router.state(), &before);
    }
    fs::remove_file(&path).unwrap();
    let process = router.admitted();
    assert!(router.renew() > newer);
    process.terminate();
    assert!(router.generation(older).is_dir(), "a generation is not erased because a manifest was lost");
}

#[test]
fn a_router_whose_only_generation_is_damaged_lives_on_the_files_at_the_configured_paths() {
    let site = shared();
    let router = Router::enrolled(&site, "only-one");
    router.admitted().terminate();
    let folder = fs::read_dir(router.state().join("generations")).unwrap().next().unwrap().unwrap().path();
    let client = folder.join("client.pem");
    let whole = fs::read(&client).unwrap();
    fs::write(&client, "").unwrap();
    let log = router.admitted().terminate();
    assert!(log.contains("damaged: "), "{log}");
    assert_eq!(fs::read(&client).unwrap(), b"", "what is damaged stays for a person to look at");
    // And without those files either, a person must act and is told how; then everything is there again.
    let at_paths = router.folder().join("client.pem");
    fs::write(&at_paths, "").unwrap();
    let told = router.run(&["router", "run", &router.config(), "--log-level", "off"]);
    assert!(matches!(told.code, Some(3 | 4)), "{told:#?}");
    assert!(told.stderr.contains("client.pem") && told.stderr.contains("hint: "), "{told:#?}");
    assert!(told.stderr.contains("damaged") || told.stderr.contains("not intact"), "{told:#?}");
    crate::support::assert_calm(&told.stderr);
    fs::write(&client, whole).unwrap();
    router.admitted().terminate();
}

#[test]
fn damaged_copies_at_the_configured_paths_are_written_again() {
    let site = shared();
    let names = ["key.pem", "client.pem", "server.pem", "ca.pem"];
    let kinds = ["empty", "torn", "zero-filled", "missing"];
    std::thread::scope(|scope| {
        // Over all rounds each file meets each damage; in each round every file has another one.
        for round in 0..kinds.len() {
            let site = &site;
            scope.spawn(move || {
                let router = Router::enrolled(site, &format!("copies-{round}"));
                router.admitted().terminate();
                let right: Vec<_> = names.iter().map(|name| fs::read(router.folder().join(name)).unwrap()).collect();
                for (place, name) in names.iter().enumerate() {
                    let path = router.folder().join(name);
                    match kinds[(place + round) % kinds.len()] {
                        "missing" => fs::remove_file(path).unwrap(),
                        kind => fs::write(path, damaged(kind, &right[place], &[])).unwrap(),
                    }
                }
                let mut process = router.admitted();
                let is_right = |(name, right): (&&str, &Vec<u8>)| {
                    fs::read(router.folder().join(name)).is_ok_and(|now| now == *right)
                };
                wait_until(&mut process, &format!("round {round} is mended"), || {
                    names.iter().zip(&right).all(is_right)
                });
                process.kill();
            });
        }
    });
}

#[test]
fn whole_files_in_each_others_places_are_left_alone_and_the_router_lives_on_its_state() {
    let site = shared();
    let router = Router::enrolled(&site, "swapped-copies");
    router.admitted().terminate();
    let path = |name: &str| router.folder().join(name);
    let [key, ca] = ["key.pem", "ca.pem"].map(|name| fs::read(path(name)).unwrap());
    fs::write(path("key.pem"), &ca).unwrap();
    fs::write(path("ca.pem"), &key).unwrap();
    let process = router.admitted();
    assert_eq!(router.status()["generation"], 1);
    process.kill();
    // What a person put there stays until that person takes it away; then the copies are back.
    fs::remove_file(path("key.pem")).unwrap();
    fs::remove_file(path("ca.pem")).unwrap();
    let mut process = router.admitted();
    let is_mended = || fs::read(path("key.pem")).is_ok_and(|now| now == key) && path("ca.pem").exists();
    wait_until(&mut process, "the copies are back", is_mended);
    process.terminate();
}

/// Files have nobody who tells of them; the copies are compared at the start and at every look.
fn wait_until(process: &mut crate::support::Process, what: &str, is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "never: {what}:\n{}", process.log());
        process.pause();
    }
}

#[test]
fn leftovers_of_strangers_in_the_state_folder_disturb_nobody() {
    let site = shared();
    let router = Router::enrolled(&site, "leftovers");
    let put = |name: &str, bytes: &[u8]| {
        let path = router.state().join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(".manifest-999.tmp", b"half a mani");
    put("generations/9999/key.pem", b"");
    put("generations/letter.txt", b"dear");
    put("holder", &[0xff; 64]);
    let process = router.admitted();
    assert!(router.renew() > 0);
    process.terminate();
    assert_eq!(fs::read(router.state().join("generations/letter.txt")).unwrap(), b"dear");
}
