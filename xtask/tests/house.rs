//! House rules that a compiler does not check.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_string()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        // Packages of other platforms are not on this machine, and need not be.
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host()])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Names of every package that the binary is linked from or built with, not those of tests.
fn shipped() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "exuvia", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(String::from).collect()
}

#[test]
fn nothing_banned_is_linked_and_the_graph_stays_small() {
    let shipped = shipped();
    let banned = [
        "ring",
        "openssl-sys",
        "native-tls",
        "serde_yaml",
        "serde_yml",
        "rustls-pemfile",
        "bincode",
        "rsa",
        "rcgen",
        "reqwest",
    ];
    for name in banned {
        assert!(!shipped.contains(name), "`{name}` is banned (docs/decisions/0002-dependencies.md)");
    }
    assert!(shipped.len() <= 230, "{} packages are linked; argue for more than 230", shipped.len());
}

#[test]
fn every_licence_is_one_that_we_accept() {
    let accepted = [
        "MIT",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "ISC",
        "BSD-3-Clause",
        "BSD-2-Clause",
        "Unicode-3.0",
        "Zlib",
        "0BSD",
        "BSL-1.0",
        "CC0-1.0",
        "MIT-0",
        "Unlicense",
        "OpenSSL",
    ];
    for package in metadata()["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none");
        let licence = licence.replace(['(', ')'], "").replace('/', " OR ");
        let is_fine =
            licence.split(" AND ").all(|part| part.split(" OR ").any(|choice| accepted.contains(&choice.trim())));
        assert!(is_fine, "`{name}` is under `{licence}`");
    }
}

/// Who may depend on whom: arrows point inward only (ARCHITECTURE.md).
#[test]
fn arrows_between_our_crates_point_inward() {
    const SHIPPED: &[&str] =
        &["api", "config", "controller", "lifecycle", "net", "pki", "router", "sim", "store", "wire"];
    let allowed: &[(&str, &[&str])] = &[
        ("lifecycle", &[]),
        ("wire", &[]),
        ("config", &[]),
        ("api", &[]),
        ("pki", &["lifecycle"]),
        ("store", &["lifecycle"]),
        ("net", &["lifecycle", "pki", "wire"]),
        ("sim", &["evidence", "lifecycle", "store"]),
        ("router", &["config", "lifecycle", "net", "pki", "store", "wire", "api"]),
        ("controller", &["api", "config", "lifecycle", "net", "pki", "store", "wire"]),
        ("exuvia", &["api", "config", "controller", "lifecycle", "net", "pki", "router", "sim", "store", "wire"]),
        // The proof: nothing that ships may depend on these. They may look at all that ships.
        ("evidence", &[]),
        ("model", &["evidence", "lifecycle"]),
        ("crash", &["evidence", "lifecycle", "store"]),
        ("rig", SHIPPED),
        ("diskfault", &[SHIPPED, &["crash", "evidence", "rig"]].concat()),
        ("netfault", &[SHIPPED, &["evidence", "rig"]].concat()),
        ("golden", &[SHIPPED, &["netfault", "rig"]].concat()),
        ("hostile", &[SHIPPED, &["evidence"]].concat()),
        ("proof", &["crash", "diskfault", "evidence", "hostile", "model", "netfault", "sim"]),
        // The same for programs of others.
        ("interop", &[SHIPPED, &["diskfault", "netfault", "rig"]].concat()),
        ("compare", &[SHIPPED, &["diskfault", "netfault", "rig"]].concat()),
        ("xtask", &[]),
    ];
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        if !package["source"].is_null() {
            continue;
        }
        let name = package["name"].as_str().unwrap();
        let may =
            allowed.iter().find(|(ours, _)| *ours == name).unwrap_or_else(|| panic!("`{name}` is not in the map")).1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let is_ours = !dependency["path"].is_null() && dependency["kind"].as_str() != Some("dev");
            let on = dependency["name"].as_str().unwrap();
            assert!(!is_ours || may.contains(&on), "`{name}` must not depend on `{on}`");
        }
    }
}

/// Pure crates name no clock, disk, socket, dice or runtime.
#[test]
fn pure_crates_stay_pure() {
    let forbidden = [
        "std::fs",
        "std::time::SystemTime",
        "SystemTime::now",
        "Instant::now",
        "tokio",
        "thread_rng",
        "getrandom",
        "async fn",
        "std::process",
        "std::env",
    ];
    for name in ["lifecycle", "wire", "pki"] {
        for path in sources(&root().join("crates").join(name).join("src")) {
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for word in forbidden {
                let hit = code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
                assert!(!hit, "{} names `{word}`", path.display());
            }
        }
    }
}

#[test]
fn no_source_file_outgrows_one_idea() {
    let mut files = sources(&root().join("crates"));
    files.extend(sources(&root().join("xtask")));
    for path in files {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 700, "{} has {lines} lines", path.display());
    }
}

/// The README's "follow one renewal" names files that exist.
#[test]
fn the_six_hops_of_the_readme_lead_somewhere() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let hops: Vec<&str> = readme
        .split("## Follow one renewal")
        .nth(1)
        .expect("the README tells how one renewal travels")
        .split("\n## ")
        .next()
        .unwrap()
        .split('`')
        .filter(|word| word.starts_with("crates/"))
        .collect();
    assert!(hops.len() >= 6, "six hops, found {hops:?}");
    for hop in hops {
        assert!(root().join(hop).exists(), "`{hop}` does not exist");
    }
}

/// Every link of a document to another file of the repository leads somewhere.
#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = vec![root().join("README.md"), root().join("ARCHITECTURE.md"), root().join("CHANGELOG.md")];
    documents.extend(files(&root().join("docs"), "md"));
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            if link.is_empty() || link.contains("://") {
                continue;
            }
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{} links to `{link}`", document.display());
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    files(folder, "rs")
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(path);
        }
    }
    found
}
