//! `docs/proof.md` and the pages beside it, made from evidence and from the tables of claims alone.

mod layer;
mod matrix;
mod opening;
mod pages;

#[cfg(test)]
pub(crate) use pages::all as pages;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::layers;
use crate::run::{Circumstances, Finding, KEPT};

/// Writes the report of one run, and the pages of claims into the folder of the same name beside it.
pub(crate) fn write(out: &Path, circumstances: &Circumstances, findings: &[Finding]) -> anyhow::Result<()> {
    let text = compose(circumstances, findings);
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create `{}`", folder.display()))?;
    }
    std::fs::write(out, text).with_context(|| format!("write `{}`", out.display()))?;
    write_pages(&out.with_extension(""))
}

/// `proof report`: from the evidence that the last runs left.
pub(crate) fn again(out: &Path, is_claims_only: bool) -> anyhow::Result<()> {
    if is_claims_only {
        return write_pages(&out.with_extension(""));
    }
    let read = |name: &str| {
        let path = Path::new(KEPT).join(name);
        std::fs::read(&path).with_context(|| format!("read `{}`\nhint: cargo xtask proof makes it", path.display()))
    };
    let circumstances: Circumstances = serde_json::from_slice(&read("run.json")?).context("read `run.json`")?;
    let mut findings: Vec<Finding> = Vec::new();
    for layer in layers::all() {
        let name = format!("{}.json", layer.id);
        if let Ok(text) = read(&name) {
            findings.push(serde_json::from_slice(&text).with_context(|| format!("read `{name}`"))?);
        } else {
            eprintln!("no evidence of `{}` is here", layer.id);
        }
    }
    write(out, &circumstances, &findings)
}

fn write_pages(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("create `{}`", folder.display()))?;
    for (name, text) in pages::all() {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("write `{}`", path.display()))?;
    }
    Ok(())
}

fn compose(circumstances: &Circumstances, findings: &[Finding]) -> String {
    let mut page = String::new();
    opening::write(&mut page, circumstances, findings);
    matrix::write_summary(&mut page, findings);
    page.push_str("## The layers, one by one\n\n");
    for finding in findings {
        layer::write(&mut page, circumstances, finding);
    }
    write_left_out(&mut page, findings);
    page
}

fn write_left_out(page: &mut String, findings: &[Finding]) {
    page.push_str("## What was not tried\n\n");
    let rows: Vec<(&str, &str, &evidence::Skip)> = findings
        .iter()
        .filter_map(|finding| Some((finding, finding.evidence()?)))
        .flat_map(|(finding, evidence)| {
            let missing = evidence.skipped.iter().map(|skip| (finding.id.as_str(), "this machine lacks it", skip));
            missing.chain(evidence.left_out.iter().map(|skip| (finding.id.as_str(), "by design", skip)))
        })
        .collect();
    if rows.is_empty() {
        page.push_str("Nothing that the layers know of.\n");
        return;
    }
    page.push_str("| layer | what | left out | why |\n|---|---|---|---|\n");
    for (id, kind, skip) in rows {
        let _ = writeln!(page, "| {id} | {} | {kind} | {} |", cell(&skip.what), cell(&skip.why));
    }
}

/// Text that may stand in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use evidence::{Chart, Control, Evidence};

    use super::*;
    use crate::run::Outcome;

    fn circumstances() -> Circumstances {
        Circumstances {
            is_long: false,
            is_strict: false,
            seed: 7,
            commit: "0123456789ab".into(),
            date: "2031-03-01".into(),
            machine: "2 cores, x86_64, Linux 6.18".into(),
        }
    }

    fn finding() -> Finding {
        let mut evidence = Evidence { seed: Some(9), ..Evidence::default() };
        evidence.tried("states", 1_234_567);
        evidence.cell("exuvia", "power cut", 0, 1000);
        evidence.cell("no file fsync", "power cut", 17, 40);
        evidence.controls.push(Control {
            name: "no file fsync".into(),
            is_wrong: true,
            caught: 17,
            states: 40,
            example: Some("a torn | manifest".into()),
        });
        evidence.charts.push(Chart {
            title: "The answer is lost".into(),
            text: "sequenceDiagram".into(),
            is_mermaid: true,
        });
        evidence.leave_out("an hour of it", "nightly only");
        Finding {
            id: "disk".into(),
            title: "Disks".into(),
            took_s: 41.0,
            outcome: Outcome::Answered(Box::new(evidence)),
        }
    }

    #[test]
    fn a_run_that_holds_says_so_with_its_counts_and_how_to_repeat_it() {
        let page = compose(&circumstances(), &[finding()]);
        for part in [
            "1,234,567",
            "cargo xtask proof --only disk --seed 9",
            "0 / 1,000",
            "17 / 40",
            "a torn \\| manifest",
            "```mermaid",
            "| disk | an hour of it | by design | nightly only |",
            "seed 7",
        ] {
            assert!(page.contains(part), "no `{part}` in\n{page}");
        }
        assert!(!page.contains("does not hold"), "{page}");
    }

    #[test]
    fn a_layer_that_ended_without_a_word_is_the_first_thing_that_the_page_says() {
        let broken =
            Finding { outcome: Outcome::Ended { how: "its process ended with signal: 9".into() }, ..finding() };
        let page = compose(&circumstances(), &[broken]);
        let result = page.find("does not hold").expect("the verdict is on the page");
        assert!(result < page.find("## ").expect("a heading follows"), "{page}");
        assert!(page.contains("its process ended with signal: 9"), "{page}");
    }
}
