use std::fmt::Write as _;

use evidence::{Chart, Control};

use super::{cell, matrix};
use crate::numbers::{grouped, spoken};
use crate::run::{Circumstances, Finding};

/// One layer's section.
pub(super) fn write(page: &mut String, circumstances: &Circumstances, finding: &Finding) {
    let _ = write!(page, "### {}\n\n{}. ", finding.id, finding.title.trim_end_matches('.'));
    let _ = write!(page, "Took {}; again: `{}`\n\n", spoken(finding.took()), finding.replay(circumstances));
    let faults = finding.faults(circumstances.is_strict);
    if !faults.is_empty() {
        page.push_str("**This layer does not hold:**\n\n");
        for fault in faults {
            let _ = writeln!(page, "- {fault}");
        }
        page.push('\n');
    }
    let Some(evidence) = finding.evidence() else {
        return;
    };
    for note in &evidence.notes {
        let _ = write!(page, "{note}\n\n");
    }
    if !evidence.tried.is_empty() {
        page.push_str("| tried | how often |\n|---|---|\n");
        for count in &evidence.tried {
            let _ = writeln!(page, "| {} | {} |", cell(&count.what), grouped(count.count));
        }
        page.push('\n');
    }
    matrix::write_of_layer(page, &evidence.matrix);
    write_controls(page, &evidence.controls);
    write_charts(page, &evidence.charts);
}

fn write_controls(page: &mut String, controls: &[Control]) {
    if controls.is_empty() {
        return;
    }
    let wrong = controls.iter().filter(|control| control.is_wrong);
    let caught = wrong.clone().filter(|control| control.caught > 0).count();
    let accused = controls.iter().filter(|control| !control.is_wrong && control.caught > 0).count();
    let _ = write!(
        page,
        "<details><summary>Controls: {caught} of {} wrong programs caught, {accused} of {} right ones accused</summary>\n\n\
        | program | must be | found wrong in | the first state that told |\n|---|---|---|---|\n",
        wrong.count(),
        controls.iter().filter(|control| !control.is_wrong).count(),
    );
    for control in controls {
        let _ = writeln!(
            page,
            "| {} | {} | {} of {}{} | {} |",
            cell(&control.name),
            if control.is_wrong { "caught" } else { "spared" },
            grouped(control.caught),
            grouped(control.states),
            if control.is_judged_rightly() { "" } else { " **(misjudged)**" },
            cell(control.example.as_deref().unwrap_or("–")),
        );
    }
    page.push_str("\n</details>\n\n");
}

fn write_charts(page: &mut String, charts: &[Chart]) {
    for chart in charts {
        let fence = if chart.is_mermaid { "mermaid" } else { "text" };
        let _ = write!(
            page,
            "<details><summary>{}</summary>\n\n```{fence}\n{}\n```\n\n</details>\n\n",
            chart.title.replace('<', "&lt;"),
            chart.text.trim_end(),
        );
    }
}
