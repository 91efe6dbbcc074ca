//! How the routers are doing, as rows for a terminal or as plain lines.

use super::load::wall;
use super::tally::RouterTally;
use super::watch::Now;

/// Everything that one row shows.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) tally: RouterTally,
    pub(crate) now: Now,
    /// What is being done with it before it runs.
    pub(crate) stage: &'static str,
}

const HEADINGS: [&str; 10] = [
    "ROUTER",
    "PHASE",
    "GEN",
    "CLIENT LEAF",
    "SERVER LEAF",
    "LOCK-OUT IN",
    "RENEW IN",
    "RENEWALS",
    "LAST PROOF",
    "LOAD",
];

/// The table, heading first, columns aligned.
pub(crate) fn rows(all: &[Row]) -> Vec<String> {
    let now_ms = wall().as_ms();
    let mut cells: Vec<Vec<String>> = vec![HEADINGS.map(str::to_owned).to_vec()];
    cells.extend(all.iter().map(|row| row.cells(now_ms).to_vec()));
    let width = |column: usize| cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..HEADINGS.len()).map(|column| width(column).unwrap_or(0)).collect();
    cells
        .iter()
        .map(|row| {
            let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// One router on one line, for logs.
pub(crate) fn line(row: &Row) -> String {
    let [name, phase, generation, client, server, lockout, next, renewals, proof, load] = row.cells(wall().as_ms());
    format!(
        "{name}  {phase}, generation {generation}, leaves {client} / {server}, lock-out in {lockout}, renewal in {next}, \
         renewals: {renewals}, last proof {proof}, {load}"
    )
}

impl Row {
    fn cells(&self, now_ms: i64) -> [String; 10] {
        let Self { tally, now, stage } = self;
        let until = |at_ms: i64| if at_ms == 0 { "-".to_owned() } else { seconds(at_ms - now_ms) };
        let phase = match (now.is_running, now.is_connected) {
            (false, _) if now.starts == 0 => (*stage).to_owned(),
            (false, _) => "down".to_owned(),
            (true, false) => format!("{} (not connected)", now.phase),
            (true, true) => now.phase.clone(),
        };
        let storage =
            if matches!(now.storage.as_str(), "" | "writable") { String::new() } else { format!(" ({})", now.storage) };
        let lost = tally.losses.failed_handshakes + tally.losses.dropped_connections;
        let excused = tally.excused.failed_handshakes + tally.excused.dropped_connections;
        let excused = if excused == 0 { String::new() } else { format!(", {excused} excused") };
        [
            tally.name.clone(),
            phase,
            if now.generation == 0 { "-".to_owned() } else { format!("{}{storage}", now.generation) },
            until(now.client_not_after_ms),
            until(now.server_not_after_ms),
            tally.left.map_or_else(|| "-".to_owned(), |left| format!("{} s", left.as_secs())),
            until(now.renew_at_ms),
            match tally.failed_attempts {
                0 => tally.promoted.len().to_string(),
                failed => format!("{} (+{failed} failed)", tally.promoted.len()),
            },
            now.last_proof_ms.map_or_else(|| "-".to_owned(), |at_ms| format!("{} ago", seconds(now_ms - at_ms))),
            format!("{} handshakes, {} requests, {lost} lost{excused}", tally.handshakes, tally.requests),
        ]
    }
}

fn seconds(ms: i64) -> String {
    format!("{} s", ms.max(0) / 1_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn row() -> Row {
        let now_ms = wall().as_ms();
        let mut tally = RouterTally::default();
        tally.name = "r1".to_owned();
        tally.promoted = [2, 3].into();
        tally.handshakes = 40;
        tally.requests = 90;
        tally.left = Some(Duration::from_secs(31));
        Row {
            tally,
            now: Now {
                is_running: true,
                is_connected: true,
                phase: "Steady".to_owned(),
                generation: 3,
                client_not_after_ms: now_ms + 31_500,
                server_not_after_ms: now_ms + 31_500,
                renew_at_ms: now_ms + 12_500,
                last_proof_ms: Some(now_ms - 9_100),
                storage: "writable".to_owned(),
                starts: 1,
            },
            stage: "starting",
        }
    }

    #[test]
    fn a_line_tells_everything_about_a_router() {
        assert_eq!(
            line(&row()),
            "r1  Steady, generation 3, leaves 31 s / 31 s, lock-out in 31 s, renewal in 12 s, renewals: 2, last proof 9 s ago, \
             40 handshakes, 90 requests, 0 lost"
        );
    }

    #[test]
    fn columns_are_aligned() {
        let mut other = row();
        other.tally.name = "a longer name".to_owned();
        other.now = Now::default();
        let rows = rows(&[row(), other]);
        let column = rows[0].find("PHASE").unwrap();
        assert!(rows[1][column..].starts_with("Steady"), "{rows:#?}");
        assert!(rows[2][column..].starts_with("starting"), "{rows:#?}");
    }
}
