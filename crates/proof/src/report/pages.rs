use std::fmt::Write as _;

use super::cell;
use crate::claims::holes::HOLES;
use crate::claims::promises::PROMISES;
use crate::claims::upstream::DEFECTS;
use crate::claims::{Row, TestName, split};

const GENERATED: &str = "Generated from `crates/proof/src/claims` by `cargo xtask proof`; a test holds that every test named here exists.\n\n";

/// The pages of claims: name and text. They depend on no run.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    vec![
        ("promises.md", promises()),
        ("upstream-defects.md", rows(UPSTREAM, DEFECTS)),
        ("design-holes.md", rows(DESIGN, HOLES)),
    ]
}

const UPSTREAM: &str = "# What goes wrong upstream, and what holds it here\n\n\
    Read from the sources of OpenZiti 1.6 to 2.1; `openziti/ziti:path` names the file there. Each row points to tests and layers that would fail \
    if Exuvia had the same defect, or says why it cannot.\n\n";

const DESIGN: &str = "# Holes of an earlier draft, each a test\n\n\
    A review tried to break an earlier draft of this design (three slots, keys erased after a deadline, leaves dropped on 20303). Each interleaving that \
    broke it is held by a named test, or is a stated limit.\n\n";

fn promises() -> String {
    let mut page = format!(
        "# Nine promises, and what would fail without them\n\n\
        For each promise: the tests and layers that hold it, and mistakes that were made on purpose, one at a time, with the test that then failed.\n\n{GENERATED}"
    );
    for promise in PROMISES {
        let _ = write!(page, "## {} {}\n\n{}\n\n", promise.id, promise.name, promise.claim);
        if !promise.layers.is_empty() {
            let _ = write!(page, "Layers: {}\n\n", linked_layers(promise.layers));
        }
        page.push_str("| mistake made on purpose | in | then failed |\n|---|---|---|\n");
        for mutation in promise.mutations {
            let _ =
                writeln!(page, "| {} | `{}` | {} |", cell(mutation.change), mutation.file, test(mutation.caught_by));
        }
        page.push_str("\nTests:\n\n");
        for name in promise.tests {
            let _ = writeln!(page, "- {}", test(name));
        }
        page.push('\n');
    }
    page
}

fn rows(opening: &str, rows: &[Row]) -> String {
    let mut page = format!("{opening}{GENERATED}| id | what goes wrong | what holds it here |\n|---|---|---|\n");
    for row in rows {
        let mut held = vec![cell(row.guard)];
        held.extend(row.limit.map(|limit| format!("*Limit:* {}", cell(limit))));
        held.extend(row.tests.iter().map(|name| test(name)));
        if !row.layers.is_empty() {
            held.push(format!("layers {}", linked_layers(row.layers)));
        }
        let source = if row.source.is_empty() { String::new() } else { format!("<br>`{}`", row.source) };
        let _ = writeln!(page, "| **{}** | {}{source} | {} |", row.id, cell(row.what), held.join("<br>"));
    }
    page
}

fn linked_layers(ids: &[&str]) -> String {
    ids.iter().map(|id| format!("[{id}](../proof.md#{id})")).collect::<Vec<_>>().join(", ")
}

fn test(name: TestName) -> String {
    let (path, function) = split(name);
    format!("[`{function}`](../../{path})")
}
