//! Every input that was ever interesting, at its door, with every test run.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests are claims")]

use hostile::{TARGETS, corpus, corpus_folder, target};

/// Most files of one target's corpus, and their bytes together.
const FILES_MAX: usize = 200;
const BYTES_MAX: usize = 300 * 1024;

fn replay(name: &str) {
    let target = target(name).unwrap();
    let files = corpus(name).unwrap();
    let bytes: usize = files.iter().map(|(_, data)| data.len()).sum();
    assert!(!files.is_empty(), "the corpus of `{name}` is empty");
    assert!(files.len() <= FILES_MAX && bytes <= BYTES_MAX, "`{name}`: {} files, {bytes} bytes", files.len());
    target.warm();
    for (file, data) in files {
        if let Err(breach) = target.feed(&data) {
            panic!("`fuzz/corpus/{name}/{file}`: {breach}");
        }
    }
}

macro_rules! replayed {
    ($($name:ident),+ $(,)?) => {
        const REPLAYED: &[&str] = &[$(stringify!($name)),+];

        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })+
    };
}

replayed!(
    frame,
    hello,
    headers,
    messages,
    jwt,
    csr,
    certificate,
    pem_bundle,
    private_key,
    manifest,
    router_yml,
    controller_yml,
    endpoints_yml,
    rest_body,
    rest_filter,
);

#[test]
fn every_target_has_a_test_a_fuzz_target_and_a_corpus() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, REPLAYED);
    let fuzz = corpus_folder("").join("..");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "`fuzz/Cargo.toml` lacks `{name}`");
        let source = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("hostile::fuzz(\"{name}\", data)")), "`{name}` feeds another target");
    }
}

#[test]
fn no_private_key_lies_in_the_corpus() {
    for target in TARGETS {
        for (file, data) in corpus(target.name).unwrap() {
            let is_key = pki::PrivateKey::from_pem(&data).is_ok();
            assert!(!is_key, "`fuzz/corpus/{}/{file}` holds a private key", target.name);
        }
    }
}

#[test]
fn the_seeds_pass_every_door() {
    for target in TARGETS {
        target.warm();
        let seeds = hostile::seeds::seeds(target.name);
        assert!(seeds.len() >= 2, "`{}` has {} seeds", target.name, seeds.len());
        for seed in seeds {
            target.feed(&seed).unwrap_or_else(|breach| panic!("`{}`: {breach}", target.name));
        }
    }
}

/// Unoptimized code would take minutes for the longest.
const LONGEST: usize = if cfg!(debug_assertions) { 32 * 1024 } else { usize::MAX };

#[test]
fn inputs_as_long_as_a_door_takes_cost_no_more_than_is_allowed() {
    let mut broken = Vec::new();
    for target in TARGETS {
        target.warm();
        for giant in hostile::seeds::giants(target, LONGEST) {
            if let Err(breach) = target.feed(&giant) {
                broken.push(format!("`{}`: {:?}...: {breach}", target.name, String::from_utf8_lossy(&giant[..40])));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
