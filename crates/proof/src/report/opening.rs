use std::fmt::Write as _;
use std::time::Duration;

use evidence::Evidence;

use crate::claims::promises::PROMISES;
use crate::numbers::{grouped, spoken};
use crate::run::{Circumstances, Finding, OURS};

/// The first ten lines, the table of layers and the table of promises.
pub(super) fn write(page: &mut String, circumstances: &Circumstances, findings: &[Finding]) {
    let evidence: Vec<&Evidence> = findings.iter().filter_map(Finding::evidence).collect();
    let states: u64 = cells(&evidence, true).map(|(_, states)| states).sum();
    let unusable: u64 = cells(&evidence, true).map(|(unusable, _)| unusable).sum();
    let wrong: Vec<&evidence::Control> =
        evidence.iter().flat_map(|evidence| &evidence.controls).filter(|control| control.is_wrong).collect();
    let caught = wrong.iter().filter(|control| control.caught > 0).count();
    let broken: Vec<&Finding> =
        findings.iter().filter(|finding| !finding.faults(circumstances.is_strict).is_empty()).collect();
    let absent =
        crate::layers::all().iter().filter(|layer| findings.iter().all(|finding| finding.id != layer.id)).count();
    let result = if broken.is_empty() && absent == 0 {
        "**Everything holds.**".to_string()
    } else if broken.is_empty() {
        format!("**Everything that was run holds;** {absent} layers were not run.")
    } else {
        let names: Vec<String> = broken.iter().map(|finding| format!("`{}`", finding.id)).collect();
        format!("**The proof does not hold:** {} broke; see below.", names.join(", "))
    };
    let _ = write!(
        page,
        "# Proof: no fault leaves a router without an identity\n\n\
        **Claimed:** at every instant, also after a crash at any instruction or a power cut, some complete identity on the router's disk is one \
        that a controller admits; and eight promises more (below).\n\n\
        **Tried:** {layers} ways of doing harm, {cost} in all: both state machines explored state by state, simulated disks that forget and \
        tear, whole worlds from seeds, and the program that ships, killed, starved of space, unplugged, cut off, mistimed and attacked.\n\n\
        **Result:** {result} Our write order left **{unusable}** of {states} crash states without a usable identity. The same suite was let loose on {wrong} \
        programs known to be wrong (ours with one mistake, and the write orders and protocols of others) and caught {caught} of them.\n\n\
        Made by `cargo xtask proof{long}` on {date}: commit {commit}, seed {seed}, {machine}. Numbers differ a little from run to run where a layer \
        races real processes; verdicts must not. What was not tried is [at the end](#what-was-not-tried).\n\n",
        layers = findings.len(),
        cost = spoken(findings.iter().map(Finding::took).sum::<Duration>()),
        states = grouped(states),
        unusable = grouped(unusable),
        wrong = wrong.len(),
        long = if circumstances.is_long { " --long" } else { "" },
        date = circumstances.date,
        commit = circumstances.commit,
        seed = circumstances.seed,
        machine = circumstances.machine,
    );

    page.push_str(
        "| layer | what it does | tried | took | wrong programs caught | verdict |\n|---|---|---|---|---|---|\n",
    );
    for finding in findings {
        let _ = writeln!(
            page,
            "| [{id}](#{id}) | {} | {} | {} | {} | {} |",
            super::cell(&finding.title),
            tried(finding),
            spoken(finding.took()),
            controls(finding),
            if finding.faults(circumstances.is_strict).is_empty() { "holds" } else { "**does not hold**" },
            id = finding.id,
        );
    }

    page.push_str(
        "\n## The promises\n\nEvery promise names the tests and layers that would fail without it, and for each a mistake was made on purpose to \
        see them fail: [promises](proof/promises.md). What goes wrong in OpenZiti today, row by row, and what holds it here: \
        [upstream defects](proof/upstream-defects.md). The interleavings that broke an earlier draft of this design: \
        [design holes](proof/design-holes.md).\n\n\
        | promise | layers of this run | named tests |\n|---|---|---|\n",
    );
    for promise in PROMISES {
        let found = |id: &&&str| findings.iter().find(|finding| finding.id == **id);
        let mut layers: Vec<String> = promise
            .layers
            .iter()
            .filter_map(|id| {
                let broke = !found(&id)?.faults(circumstances.is_strict).is_empty();
                Some(format!("[{id}](#{id}) {}", if broke { "**does not hold**" } else { "holds" }))
            })
            .collect();
        let absent: Vec<&str> = promise.layers.iter().filter(|id| found(id).is_none()).copied().collect();
        if !absent.is_empty() {
            layers.push(format!("not run: {}", absent.join(", ")));
        }
        let layers = if layers.is_empty() { "held by tests alone".to_string() } else { layers.join(", ") };
        let _ = writeln!(page, "| **{}** {} | {layers} | {} |", promise.id, promise.name, promise.tests.len());
    }
    page.push('\n');
}

fn cells<'a>(evidence: &'a [&Evidence], is_ours: bool) -> impl Iterator<Item = (u64, u64)> + 'a {
    evidence
        .iter()
        .flat_map(|evidence| &evidence.matrix)
        .filter(move |cell| (cell.order == OURS) == is_ours)
        .map(|cell| (cell.unusable, cell.states))
}

fn tried(finding: &Finding) -> String {
    let Some(evidence) = finding.evidence() else {
        return "no answer".to_string();
    };
    let mut counts: Vec<_> = evidence.tried.iter().collect();
    counts.sort_by_key(|count| std::cmp::Reverse(count.count));
    let told: Vec<String> =
        counts.iter().take(3).map(|count| format!("{} {}", grouped(count.count), super::cell(&count.what))).collect();
    told.join(", ")
}

fn controls(finding: &Finding) -> String {
    let Some(evidence) = finding.evidence() else {
        return String::new();
    };
    let wrong = evidence.controls.iter().filter(|control| control.is_wrong);
    let caught = wrong.clone().filter(|control| control.caught > 0).count();
    match wrong.count() {
        0 => "–".to_string(),
        all => format!("{caught} of {all}"),
    }
}
