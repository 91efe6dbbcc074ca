//! `docs/interop.md`: rows of a run, over the rows of earlier runs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::groups;
use crate::scenario::Group;

/// What came of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The claim holds.
    Holds,
    /// It does not.
    Broken,
    /// It makes no sense with this peer.
    LeftOut,
}

impl Verdict {
    /// As it stands in the table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Broken => "BROKEN",
            Self::LeftOut => "left out",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Holds, Self::Broken, Self::LeftOut].into_iter().find(|verdict| verdict.word() == word)
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) group: String,
    pub(crate) id: String,
    pub(crate) claim: String,
    /// Version of OpenZiti.
    pub(crate) peer: String,
    pub(crate) verdict: Verdict,
    pub(crate) seconds: u64,
    /// One line.
    pub(crate) evidence: String,
    pub(crate) facts: Vec<String>,
}

impl Row {
    fn key(&self) -> (&str, &str) {
        (&self.id, &self.peer)
    }
}

/// Writes the report: rows that were not run this time stay as they were, unless their scenario is gone.
pub(crate) fn write(path: &Path, rows: &[Row]) -> Result<()> {
    let before = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("read `{}`", path.display())),
    };
    let mut kept = parse(&before);
    kept.retain(|old| rows.iter().all(|new| new.key() != old.key()));
    kept.extend(rows.iter().cloned());
    std::fs::write(path, spell(&groups::all(), &kept)).with_context(|| format!("write `{}`", path.display()))
}

/// For a terminal.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let (verdict, id, peer) = (row.verdict.word(), &row.id, &row.peer);
        let _ = writeln!(text, "{verdict:<9} {id:<34} {peer:<6} {:>5} s  {}", row.seconds, plain(&row.evidence));
    }
    let broken = rows.iter().filter(|row| row.verdict == Verdict::Broken).count();
    let _ = write!(text, "{} scenarios, {broken} broken", rows.len());
    text
}

/// Longer evidence is cut.
const LINE_CHARS: usize = 1_500;

const OPENING: &str = "\
# Together with OpenZiti

Made by `ZITI_BIN=/path/to/ziti cargo xtask interop`; do not edit. Each row is one scenario over real programs: ours, and OpenZiti's of the
version named, built from its public source. A row is what the last run of that scenario against that version showed; runs of a part leave
the other rows as they were. What the peers do that is not in their documents: [wire.md](wire.md).

";

fn spell(groups: &[Group], rows: &[Row]) -> String {
    let mut text = OPENING.to_owned();
    for group in groups {
        let mut of_group: Vec<&Row> = Vec::new();
        for scenario in &group.scenarios {
            let mut of_scenario: Vec<&Row> = rows.iter().filter(|row| row.id == scenario.id).collect();
            of_scenario.sort_by(|one, other| other.peer.cmp(&one.peer));
            of_group.extend(of_scenario);
        }
        if of_group.is_empty() {
            continue;
        }
        let _ = writeln!(text, "## {}\n\nGroup `{}`.\n", group.title, group.id);
        text.push_str("| scenario | claim | OpenZiti | verdict | seconds | evidence |\n|---|---|---|---|---|---|\n");
        for row in &of_group {
            let claim = group.scenarios.iter().find(|scenario| scenario.id == row.id).map_or("", |found| found.claim);
            let (verdict, evidence) = (row.verdict.word(), plain(&row.evidence));
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {verdict} | {} | {evidence} |",
                row.id,
                plain(claim),
                row.peer,
                row.seconds
            );
        }
        text.push('\n');
        if of_group.iter().any(|row| !row.facts.is_empty()) {
            text.push_str("Seen besides:\n\n");
            for row in &of_group {
                for fact in &row.facts {
                    let _ = writeln!(text, "- `{}`, {}: {}", row.id, row.peer, plain(fact));
                }
            }
            text.push('\n');
        }
    }
    text
}

/// One line that breaks no table, and names no folder of the machine that it was made on.
fn plain(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().replace('|', "/");
    let words = line.split(' ').map(|word| match word.find("/xi-") {
        Some(_) => word.rsplit('/').next().unwrap_or_default(),
        None => word,
    });
    words.collect::<Vec<_>>().join(" ").chars().take(LINE_CHARS).collect()
}

fn parse(text: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut group = String::new();
    for line in text.lines() {
        if let Some(id) = line.strip_prefix("Group `").and_then(|rest| rest.strip_suffix("`.")) {
            group = id.to_owned();
        }
        if let Some(row) = parse_row(line, &group) {
            rows.push(row);
        }
        let fact = line.strip_prefix("- `").and_then(|rest| rest.split_once("`, "));
        if let Some((id, (peer, fact))) = fact.and_then(|(id, rest)| Some((id, rest.split_once(": ")?)))
            && let Some(row) = rows.iter_mut().find(|row| row.key() == (id, peer))
        {
            row.facts.push(fact.to_owned());
        }
    }
    rows
}

fn parse_row(line: &str, group: &str) -> Option<Row> {
    let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix(" |")?.splitn(6, " | ").collect();
    let [id, claim, peer, verdict, seconds, evidence] = cells.as_slice() else { return None };
    Some(Row {
        group: group.to_owned(),
        id: id.strip_suffix('`')?.to_owned(),
        claim: (*claim).to_owned(),
        peer: (*peer).to_owned(),
        verdict: Verdict::of(verdict)?,
        seconds: seconds.parse().ok()?,
        evidence: (*evidence).to_owned(),
        facts: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn row(id: &str, peer: &str, evidence: &str) -> Row {
        let group = groups::all().into_iter().find(|group| group.scenarios.iter().any(|one| one.id == id)).unwrap();
        let claim = group.scenarios.iter().find(|one| one.id == id).unwrap().claim;
        Row {
            group: group.id.to_owned(),
            id: id.to_owned(),
            claim: claim.to_owned(),
            peer: peer.to_owned(),
            verdict: Verdict::Holds,
            seconds: 3,
            evidence: evidence.to_owned(),
            facts: vec!["it was seen: twice".to_owned()],
        }
    }

    #[test]
    fn a_run_of_a_part_leaves_the_other_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("interop.md");
        let id = groups::all()[0].scenarios[0].id;
        let (old, other) = (row(id, "2.1", "before"), row(id, "1.6", "kept"));
        write(&path, &[old, other.clone()]).unwrap();
        let new = row(id, "2.1", "after");
        write(&path, std::slice::from_ref(&new)).unwrap();
        assert_eq!(parse(&std::fs::read_to_string(&path).unwrap()), [new, other]);
    }

    #[test]
    fn evidence_names_no_folder_and_breaks_no_table() {
        assert_eq!(plain("a | b in `/var/tmp/xi-AbC/w/key.pem`: no\nmore"), "a / b in key.pem`: no");
    }
}
