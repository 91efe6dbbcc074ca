//! `docs/compare.md`, from the records alone.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::Page;
use crate::fault::{Fault, Group};
use crate::pairing::Pairing;
use crate::record::{self, Figures, Record, Verdict};
use crate::run::record_path;

/// Writes the page.
///
/// # Errors
/// When a record cannot be read or the page cannot be written.
pub(crate) fn write(page: &Page) -> Result<()> {
    let records = read_all(&page.records)?;
    let figures: Option<Figures> = record::read(&page.records.join("figures.json"))?;
    let text = rendered(&crate::faults::all(), &records, figures.as_ref());
    std::fs::write(&page.out, text).with_context(|| format!("cannot write `{}`", page.out.display()))?;
    eprintln!("wrote {}", page.out.display());
    Ok(())
}

fn read_all(folder: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for fault in crate::faults::all() {
        for pairing in Pairing::ALL {
            records.extend(record::read::<Record>(&record_path(folder, pairing, fault.id))?);
        }
    }
    Ok(records)
}

fn rendered(faults: &[Fault], records: &[Record], figures: Option<&Figures>) -> String {
    let mut out = String::new();
    opening(&mut out, faults, records);
    summary(&mut out, records);
    if let Some(figures) = figures {
        numbers(&mut out, figures);
    }
    judged(&mut out);
    for group in Group::ALL {
        section(&mut out, group, faults, records);
    }
    not_tried(&mut out, faults, records);
    // One line feed at the end.
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// Writing to a string does not fail.
macro_rules! put {
    ($out:expr, $($words:tt)*) => { let _ = writeln!($out, $($words)*); };
}

fn opening(out: &mut String, faults: &[Fault], records: &[Record]) {
    let ziti: std::collections::BTreeSet<&str> = records.iter().map(|record| record.ziti.as_str()).collect();
    let versions: Vec<&str> = ziti.into_iter().collect();
    put!(out, "# Side by side with OpenZiti\n");
    put!(
        out,
        "A stock OpenZiti router and an Exuvia router, each on a stock controller and on ours, under the same {} faults while a certificate is renewed.",
        faults.len()
    );
    let last = records.iter().map(|record| record.at).max();
    let day = last.and_then(|at| jiff::Timestamp::from_second(at).ok());
    let day = day.map(|day| day.strftime("%Y-%m-%d").to_string()).unwrap_or_default();
    put!(
        out,
        "The peers are real programs: OpenZiti {}, built from its public source, and this repository's release. Last run {day}.\n",
        if versions.is_empty() { "(none yet)".to_owned() } else { versions.join(", ") }
    );
    put!(out, "```console\n$ ZITI_BIN=/path/to/ziti cargo xtask compare\n```\n");
    put!(
        out,
        "makes this page; `--only NAME` tries one fault again, `--pairings ss,xs,sx,xx` one pairing (router first, s for stock, x for Exuvia). \
         It needs root, for mounts and clocks.\n"
    );
}

fn summary(out: &mut String, records: &[Record]) {
    put!(out, "## Summary\n");
    put!(out, "| pairing | locked out | stuck | recovered alone | of | median until recovered | longest |");
    put!(out, "|---|--:|--:|--:|--:|--:|--:|");
    for pairing in Pairing::ALL {
        let of: Vec<&Record> =
            records.iter().filter(|record| record.pairing == pairing && record.verdict != Verdict::NotTried).collect();
        let count = |verdict| of.iter().filter(|record| record.verdict == verdict).count();
        let mut seconds: Vec<f64> = of.iter().filter_map(|record| record.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let median = seconds.get(seconds.len() / 2).map_or("–".to_owned(), |seconds| format!("{seconds:.1} s"));
        let longest = seconds.last().map_or("–".to_owned(), |seconds| format!("{seconds:.1} s"));
        put!(
            out,
            "| {} | **{}** | {} | {} | {} | {median} | {longest} |",
            pairing.title(),
            count(Verdict::LockedOut),
            count(Verdict::Stuck),
            count(Verdict::Recovered),
            of.len()
        );
    }
    let mended = |pairing| {
        let of = records.iter().filter(|record| record.pairing == pairing && record.verdict == Verdict::Stuck);
        of.filter(|record| record.is_mended_by_restart == Some(true)).count()
    };
    let mended: Vec<String> = Pairing::ALL
        .into_iter()
        .filter(|pairing| mended(*pairing) > 0)
        .map(|pairing| format!("{} ({})", mended(pairing), pairing.title()))
        .collect();
    put!(out, "");
    if !mended.is_empty() {
        put!(out, "Of the stuck ones, a restart with `--extend` mends {}.\n", mended.join(", "));
    }
    let ours: std::collections::BTreeSet<&str> = records
        .iter()
        .filter(|record| record.pairing.router == crate::pairing::Kind::Exuvia)
        .filter(|record| matches!(record.verdict, Verdict::LockedOut | Verdict::Stuck))
        .map(|record| record.fault.as_str())
        .collect();
    if ours.len() == 1 && ours.contains("expired") {
        put!(
            out,
            "The one fault from which an Exuvia router does not recover is `expired`: it was off until its leaf had ended. No promise covers that."
        );
        put!(out, "");
    }
    put!(
        out,
        "*Locked out*: no leaf on the router's disk is admitted any more, or none is left; a person has to act. *Stuck*: a leaf is \
         admitted, but it is not renewed within two minutes after the end of the fault, or the router does not start. *Recovered alone*: it \
         is online with a new leaf, and a kill -9 and a start after that are admitted, too; seconds count from the end of the fault. They are those of a run in \
         which up to 28 routers are tried at once on few cores; most are shorter for a router that is tried alone.\n"
    );
}

fn numbers(out: &mut String, figures: &Figures) {
    put!(out, "## What both cost\n");
    put!(out, "| what | stock | Exuvia | stock ÷ Exuvia | how |");
    put!(out, "|---|--:|--:|--:|---|");
    for row in &figures.rows {
        let ratio = if row.exuvia > 0.0 { format!("{:.1}", row.stock / row.exuvia) } else { "–".to_owned() };
        put!(
            out,
            "| {} | {} | {} | **{ratio}** | {} |",
            row.what,
            number(row.stock, &row.unit),
            number(row.exuvia, &row.unit),
            row.how
        );
    }
    put!(
        out,
        "\nMeasured in one run (`cargo xtask compare --only figures`): {}. Ratios travel, numbers do not.\n",
        figures.machine
    );
}

fn number(value: f64, unit: &str) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$} {unit}")
}

fn judged(out: &mut String) {
    put!(out, "## How it is done\n");
    put!(
        out,
        "- Both routers run with the file that `ziti create config router edge` writes; only the folder of the identity is another one, so that its \
         disk can fail alone. Exuvia's has one line more: `exuvia: {{threshold: 365d, spacing: 30s}}`. The first makes a renewal due at \
         every start; the second makes it ask again as often as OpenZiti does (every 35 s; by default Exuvia waits 10 minutes, and is \
         online meanwhile). In the stories about clocks the threshold is the usual one."
    );
    put!(
        out,
        "- OpenZiti's router renews in the last seven days of a leaf, and then asks again every 35 s. Its leaf therefore has six days left: on the \
         stock controller one that the test's CA signed for its key and the operator's fingerprint patch put in place, on ours one that was \
         issued so. That is kinder to it than `--extend` alone, which asks once."
    );
    put!(
        out,
        "- A service manager is played: a process that ends is started again after a second, as it was. Nobody else helps."
    );
    put!(
        out,
        "- Messages are met by our own proxy, which holds the test's keys and presents to each side exactly the leaf that the other one presented; file \
         changes by our own tracer; disks, mounts and power cuts are real ones in a mount namespace. The wall clock of one process is moved by \
         replacing the code in its vDSO (`libfaketime` cannot be loaded into static Go programs); timers go on as they are, as in a suspend."
    );
    put!(
        out,
        "- The verdict comes from the controller's listing (online, admitted fingerprint), from the leaves on the disk, and from handshakes: \
         who does not come back is stopped, every leaf on its disk is presented to the controller, and once more after 62 s if all are \
         refused (OpenZiti limits reconnects to one a minute). Nothing is read from logs."
    );
    put!(
        out,
        "- Each trial is run once. Where a fault leaves two things racing, another run may end otherwise: with the stock router on the stock \
         controller, `ctl-stop-20303` was seen to recover in one run and to be locked out in another."
    );
    put!(
        out,
        "- OpenZiti's keys are P-256 here (`--keyAlg EC`), which is what Exuvia makes; its default, RSA 4096, only takes longer.\n"
    );
}

fn section(out: &mut String, group: Group, faults: &[Fault], records: &[Record]) {
    put!(out, "## {}\n", group.title());
    put!(out, "| | fault | stock on stock | Exuvia on stock | stock on Exuvia | Exuvia on Exuvia |");
    put!(out, "|---|---|---|---|---|---|");
    let of =
        |fault: &Fault, pairing| records.iter().find(|record| record.fault == fault.id && record.pairing == pairing);
    let faults: Vec<&Fault> = faults.iter().filter(|fault| fault.group == group).collect();
    for fault in &faults {
        let cells: Vec<String> =
            Pairing::ALL.iter().map(|pairing| cell(fault, *pairing, of(fault, *pairing))).collect();
        put!(out, "| `{}` | {} | {} |", fault.id, fault.what, cells.join(" | "));
    }
    put!(out, "\nHow:\n");
    for fault in &faults {
        put!(out, "- `{}`: {}", fault.id, fault.how);
    }
    let bad: Vec<(&Fault, &Record)> = faults
        .iter()
        .flat_map(|fault| Pairing::ALL.iter().filter_map(|pairing| Some((*fault, of(fault, *pairing)?))))
        .filter(|(_, record)| matches!(record.verdict, Verdict::LockedOut | Verdict::Stuck))
        .collect();
    if !bad.is_empty() {
        put!(out, "\nWhat was seen where it did not recover:\n");
        for (fault, record) in bad {
            let again = format!("`--only {} --pairings {}`", fault.id, record.pairing.id());
            put!(
                out,
                "- `{}`, {}: **{}**. {}. ({again})",
                fault.id,
                record.pairing.title(),
                record.verdict.words(),
                sentence(&record.why)
            );
        }
    }
    put!(out, "");
}

fn sentence(text: &str) -> String {
    let mut letters = text.trim_end_matches('.').chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

fn cell(fault: &Fault, pairing: Pairing, record: Option<&Record>) -> String {
    if (fault.left_out)(pairing).is_some() {
        return "does not apply".to_owned();
    }
    let Some(record) = record else { return "not run".to_owned() };
    match record.verdict {
        Verdict::Recovered => format!("{:.1} s", record.seconds.unwrap_or_default()),
        Verdict::Stuck if record.is_mended_by_restart == Some(true) => "stuck until a restart".to_owned(),
        Verdict::Stuck => "**stuck**".to_owned(),
        Verdict::LockedOut => "**locked out**".to_owned(),
        Verdict::NotTried => "not judged".to_owned(),
    }
}

fn not_tried(out: &mut String, faults: &[Fault], records: &[Record]) {
    put!(out, "## What was not tried, and why\n");
    for fault in faults {
        for pairing in Pairing::ALL {
            if let Some(why) = (fault.left_out)(pairing) {
                put!(out, "- `{}`, {}: {why}", fault.id, pairing.title());
            }
        }
    }
    for record in records.iter().filter(|record| record.verdict == Verdict::NotTried) {
        let why = record.why.lines().next().unwrap_or_default();
        put!(
            out,
            "- `{}`, {}: it could not be judged in this run ({})",
            record.fault,
            record.pairing.title(),
            why.trim_end_matches(':')
        );
    }
    for why in LEFT_OUT {
        put!(out, "- {why}");
    }
}

/// What no run of this does.
const LEFT_OUT: &[&str] = &[
    "Clusters of controllers (a lagging node, a leader that changes under a renewal): `cargo xtask interop` has them for our router. The answer \
     that a cluster gives when its commit takes too long is `error-20002` here.",
    "A disk that is filled again as soon as room appears: OpenZiti rewrites its files in place and is content with the room that its own truncation \
     frees, which somebody else may take first. `enospc-50` shows what follows then.",
    "Transit routers: OpenZiti can never finish a verified extension of one ([wire.md](wire.md)), so there is nothing to compare.",
    "Reordered writes below the file system, torn sectors and failing flushes: [proof.md](proof.md) has them for ours; for OpenZiti's write order too.",
    "A real suspend to memory: no test machine should do that.",
    "Changes of roots and intermediates, `server_key`, `file:` addresses, engines: differences of configuration, not faults.",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fault: &str, pairing: Pairing, verdict: Verdict, seconds: Option<f64>) -> Record {
        Record {
            fault: fault.to_owned(),
            pairing,
            verdict,
            seconds,
            why: "offline; the leaf is refused".to_owned(),
            is_mended_by_restart: None,
            starts: 1,
            took_s: 1.0,
            at: 1_790_000_000,
            said: String::new(),
            ziti: "2.1".to_owned(),
        }
    }

    #[test]
    fn the_page_counts_what_was_recorded_and_says_what_was_not() {
        let faults = crate::faults::all();
        let [stock, ours, ..] = Pairing::ALL;
        let records = vec![
            record("lost-20002", stock, Verdict::LockedOut, None),
            record("lost-20002", ours, Verdict::Recovered, Some(1.25)),
            record("kill-20303", ours, Verdict::Recovered, Some(3.0)),
            record("kill-20303", stock, Verdict::NotTried, None),
        ];
        let page = rendered(&faults, &records, None);
        assert!(page.contains("| stock router, stock controller | **1** | 0 | 0 | 1 | – | – |"), "{page}");
        assert!(page.contains("| Exuvia router, stock controller | **0** | 0 | 2 | 2 | 3.0 s | 3.0 s |"), "{page}");
        assert!(
            page.contains(
                "| `lost-20002` | 20002 (the answer to that) is lost | **locked out** | 1.2 s | not run | not run |"
            ),
            "{page}"
        );
        assert!(page.contains("(`--only lost-20002 --pairings ss`)"), "{page}");
        assert!(page.contains("- `kill-20303`, stock router, stock controller: it could not be judged"), "{page}");
    }
}
