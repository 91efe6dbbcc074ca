//! The operators' page names tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for (place, line) in lines.iter().enumerate() {
                let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) else { continue };
                let is_test = lines[place.saturating_sub(4)..place].iter().any(|line| line.contains("test"));
                if let (true, Some((name, _))) = (is_test, rest.split_once('(')) {
                    found.insert(name.to_owned());
                }
            }
        }
    }
}

#[test]
fn every_row_of_the_operators_page_names_a_test_that_exists_and_a_documented_exit_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    functions(&root.join("crates"), &mut tests);
    let page = fs::read_to_string(root.join("docs/operating/bad-luck.md")).unwrap();
    let codes = fs::read_to_string(root.join("docs/operating/exit-codes.md")).unwrap();
    let mut rows = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what goes wrong")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        assert_eq!(cells.len(), 5, "{row}");
        let code = cells[3].trim();
        let is_documented = code == "runs on" || code.split(", ").all(|code| codes.contains(&format!("| {code} | ")));
        assert!(is_documented || code == "HTTP 413" || code == "HTTP 4xx", "`{code}` in {row}");
        let named: Vec<&str> = cells[4].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test: {row}");
        for name in named {
            assert!(tests.contains(name), "there is no test `{name}`: {row}");
        }
        rows += 1;
    }
    assert!(rows >= 25, "only {rows} rows");
}
