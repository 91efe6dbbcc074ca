use std::fmt::Write as _;

use evidence::Cell;

use super::cell;
use crate::numbers::grouped;
use crate::run::{Finding, OURS};

/// More columns than this are not readable side by side.
const WIDEST: usize = 6;

/// Write order × layer: what every fault of a layer together did to it.
pub(super) fn write_summary(page: &mut String, findings: &[Finding]) {
    let judged: Vec<(&str, &[Cell])> = findings
        .iter()
        .filter_map(|finding| Some((finding.id.as_str(), finding.evidence()?.matrix.as_slice())))
        .filter(|(_, matrix)| !matrix.is_empty())
        .collect();
    page.push_str("## The crash matrix\n\n");
    if judged.is_empty() {
        page.push_str("No layer of this run counted states.\n\n");
        return;
    }
    page.push_str(
        "Who wrote the identity (rows), what happened to it (columns: all faults of one layer together): how many of so many states left **no usable \
        identity**. A dash means that the layer does not judge that order. Each layer's section has the faults one by one.\n\n",
    );
    let cells: Vec<(String, String, u64, u64)> = judged
        .iter()
        .flat_map(|(id, matrix)| {
            matrix.iter().map(move |cell| (cell.order.clone(), format!("[{id}](#{id})"), cell.unusable, cell.states))
        })
        .collect();
    grid(page, "write order", &cells, |row| row == OURS);
}

/// Write order × fault, of one layer.
pub(super) fn write_of_layer(page: &mut String, matrix: &[Cell]) {
    if matrix.is_empty() {
        return;
    }
    let faults = distinct(matrix.iter().map(|cell| cell.fault.as_str()));
    let orders = distinct(matrix.iter().map(|cell| cell.order.as_str()));
    let is_folded = faults.len() * orders.len() > 24;
    if is_folded {
        let _ = write!(
            page,
            "<details><summary>Crash matrix: {} write orders, {} faults</summary>\n\n",
            orders.len(),
            faults.len()
        );
    }
    let tuple = |cell: &Cell| (cell.order.clone(), cell.fault.clone(), cell.unusable, cell.states);
    if faults.len() <= WIDEST || orders.len() > WIDEST && faults.len() <= orders.len() {
        grid(page, "write order", &matrix.iter().map(tuple).collect::<Vec<_>>(), |row| row == OURS);
    } else if orders.len() <= WIDEST {
        let turned: Vec<_> =
            matrix.iter().map(tuple).map(|(order, fault, unusable, states)| (fault, order, unusable, states)).collect();
        grid(page, "fault", &turned, |_| false);
    } else {
        page.push_str("| write order | fault | unusable / states |\n|---|---|---|\n");
        for entry in matrix {
            let _ = writeln!(
                page,
                "| {} | {} | {} |",
                cell(&entry.order),
                cell(&entry.fault),
                share(entry.unusable, entry.states)
            );
        }
        page.push('\n');
    }
    if is_folded {
        page.push_str("</details>\n\n");
    }
}

/// A table of sums: rows and columns in order of first appearance.
fn grid(page: &mut String, corner: &str, cells: &[(String, String, u64, u64)], is_bold: impl Fn(&str) -> bool) {
    let rows = distinct(cells.iter().map(|(row, ..)| row.as_str()));
    let columns = distinct(cells.iter().map(|(_, column, ..)| column.as_str()));
    let _ =
        writeln!(page, "| {corner} | {} |", columns.iter().map(|column| cell(column)).collect::<Vec<_>>().join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(columns.len()));
    for row in rows {
        let mut line = if is_bold(row) { format!("| **{}** |", cell(row)) } else { format!("| {} |", cell(row)) };
        for column in &columns {
            let here: Vec<(u64, u64)> = cells
                .iter()
                .filter(|(r, c, ..)| r == row && c == column)
                .map(|(.., unusable, states)| (*unusable, *states))
                .collect();
            let text = if here.is_empty() {
                "–".to_string()
            } else {
                share(here.iter().map(|(unusable, _)| unusable).sum(), here.iter().map(|(_, states)| states).sum())
            };
            let _ = write!(line, " {text} |");
        }
        let _ = writeln!(page, "{line}");
    }
    page.push('\n');
}

fn share(unusable: u64, states: u64) -> String {
    format!("{} / {}", grouped(unusable), grouped(states))
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
