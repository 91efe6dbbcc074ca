//! Every committed plan, once more: worlds that broke something before it was mended, and mistakes that must go on breaking something.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;

use sim::{Plan, run};

#[test]
fn every_committed_seed_ends_as_it_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/seeds");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "plan") {
            continue;
        }
        found += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{}: the first line says what it is", path.display());
        let plan: Plan = text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let is_wrong = plan.mutant.is_some();
        let report = run(plan);
        assert_eq!(report.is_ok(), !is_wrong, "{}: {report}", path.display());
    }
    assert!(found > 0, "there are seeds");
}
