//! What is claimed, and what would fail if it were not so: the promises, the defects of others, the holes of our own earlier draft.
//!
//! Everything here is data. Tests below hold that no row is missing and that every test named exists.

pub(crate) mod holes;
pub(crate) mod promises;
pub(crate) mod upstream;

/// A test by file, from the root of the repository, and function: `crates/store/tests/crashes.rs::recovery_crashed_again_recovers`.
pub(crate) type TestName = &'static str;

/// The file and the function.
pub(crate) fn split(name: TestName) -> (&'static str, &'static str) {
    name.split_once("::").unwrap_or((name, ""))
}

/// A promise of the design.
#[derive(Debug)]
pub(crate) struct Promise {
    /// `P1`.
    pub(crate) id: &'static str,
    /// Two or three words.
    pub(crate) name: &'static str,
    /// The promise in full.
    pub(crate) claim: &'static str,
    /// Tests that would fail without it.
    pub(crate) tests: &'static [TestName],
    /// Layers that would fail without it.
    pub(crate) layers: &'static [&'static str],
    /// Mistakes that were made on purpose.
    pub(crate) mutations: &'static [Mutation],
}

/// A mistake made on purpose, one line of code or so, and the test that failed then.
#[derive(Debug)]
pub(crate) struct Mutation {
    /// What was changed.
    pub(crate) change: &'static str,
    /// Where, from the root of the repository.
    pub(crate) file: &'static str,
    /// What failed.
    pub(crate) caught_by: TestName,
}

/// A way in which things went wrong elsewhere, or in an earlier draft of ours.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its id.
    pub(crate) id: &'static str,
    /// What goes wrong, in one line.
    pub(crate) what: &'static str,
    /// Where that can be read, as `owner/repository:path`; may be empty.
    pub(crate) source: &'static str,
    /// What is different here, in one line.
    pub(crate) guard: &'static str,
    /// Tests that would fail if we had it.
    pub(crate) tests: &'static [TestName],
    /// Layers that would fail if we had it.
    pub(crate) layers: &'static [&'static str],
    /// Where our answer ends, or why the row cannot apply to us.
    pub(crate) limit: Option<&'static str>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use super::holes::HOLES;
    use super::promises::PROMISES;
    use super::upstream::DEFECTS;
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn every_test() -> Vec<TestName> {
        let promised = PROMISES.iter().flat_map(|promise| {
            promise.tests.iter().chain(promise.mutations.iter().map(|mutation| &mutation.caught_by))
        });
        promised.chain(DEFECTS.iter().chain(HOLES).flat_map(|row| row.tests)).copied().collect()
    }

    #[test]
    fn every_test_that_a_claim_names_exists() {
        let mut absent = Vec::new();
        for name in every_test() {
            let (path, function) = split(name);
            let text = std::fs::read_to_string(root().join(path)).unwrap_or_default();
            if function.is_empty() || !text.contains(&format!("fn {function}(")) {
                absent.push(name);
            }
        }
        assert!(absent.is_empty(), "{absent:#?}");
    }

    #[test]
    fn every_file_that_was_broken_on_purpose_exists() {
        for mutation in PROMISES.iter().flat_map(|promise| promise.mutations) {
            assert!(root().join(mutation.file).exists(), "{}", mutation.file);
        }
    }

    #[test]
    fn every_layer_that_a_claim_names_exists() {
        let known: BTreeSet<&str> = crate::layers::all().iter().map(|layer| layer.id).collect();
        let named = PROMISES.iter().flat_map(|promise| promise.layers);
        let named = named.chain(DEFECTS.iter().chain(HOLES).flat_map(|row| row.layers));
        let absent: BTreeSet<&&str> = named.filter(|id| !known.contains(**id)).collect();
        assert!(absent.is_empty(), "{absent:?} are not among {known:?}");
    }

    #[test]
    fn every_promise_has_tests_and_a_mistake_that_was_caught() {
        let ids: Vec<&str> = PROMISES.iter().map(|promise| promise.id).collect();
        assert_eq!(ids, ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9"]);
        for promise in PROMISES {
            assert!(!promise.tests.is_empty() && !promise.mutations.is_empty(), "{}", promise.id);
        }
    }

    #[test]
    fn no_defect_and_no_hole_is_missing_and_each_is_held_or_limited() {
        let upstream = [("A", 8), ("B", 12), ("C", 10), ("D", 9), ("E", 5), ("F", 2), ("X", 3)];
        let design = [("A-", 8), ("B-", 7), ("C-", 4), ("D-", 10), ("E-", 9)];
        for (rows, sections) in [(DEFECTS, upstream.as_slice()), (HOLES, design.as_slice())] {
            let wanted: Vec<String> = sections
                .iter()
                .flat_map(|(letter, count)| (1..=*count).map(move |number| format!("{letter}{number}")))
                .collect();
            let found: Vec<&str> = rows.iter().map(|row| row.id).collect();
            assert_eq!(found, wanted);
            for row in rows {
                assert!(!row.tests.is_empty() || !row.layers.is_empty() || row.limit.is_some(), "{}", row.id);
            }
        }
    }

    /// As with the OpenAPI document: `cargo run -p proof -- report --claims-only` writes them.
    #[test]
    fn the_committed_pages_are_those_that_the_tables_make() {
        for (name, text) in crate::report::pages() {
            let path = root().join("docs/proof").join(name);
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == text, "docs/proof/{name} is stale: cargo run -p proof -- report --claims-only");
        }
    }
}
