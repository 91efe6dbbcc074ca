//! Commands that only look.

use std::path::Path;

use api::Operation;
use api::native::{AuditPageView, AuditView, ForkVerdictName, ForkView, LeafView, PipelineView, RouterView};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::client::{Client, NO_BODY};
use crate::args::{Audit, List, Pipeline, Show};
use crate::exit::{Exit, Failure};
use crate::output::Printer;
use crate::words;

/// `exuvia fleet list`.
pub(super) async fn list(printer: Printer, file: &Path, args: &List) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let routers: Vec<RouterView> = client.all(Operation::ListRouters, args.filter.as_deref(), &args.sort).await?;
    if args.json {
        return printer.json(&routers);
    }
    if routers.is_empty() {
        printer.note("no routers; make one: `exuvia fleet create NAME -o FILE`");
        return Ok(());
    }
    let now = words::now_unix_s();
    let mut table =
        table(["LOCK-OUT", "NAME", "ID", "KIND", "PROGRESS", "LEAF ENDS", "NEXT RENEWAL", "CONNECTED FROM"]);
    for router in &routers {
        table.add_row([
            lockout(router),
            printable(&router.name),
            router.id.clone(),
            router.kind.to_string(),
            router.progress.to_string(),
            words::moment_or_dash(now, router.client_not_after_unix_s),
            router.renew_due_unix_s.map_or_else(dash, |at| words::away(now, at)),
            router.connection.as_ref().map_or_else(dash, |one| one.remote_address.clone()),
        ]);
    }
    printer.data(&table.trim_fmt())
}

#[derive(Serialize)]
struct Shown {
    router: RouterView,
    audit: Vec<AuditView>,
}

/// `exuvia fleet show`.
pub(super) async fn show(printer: Printer, file: &Path, args: &Show) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let router = client.find(&args.router).await?;
    let audit = match args.audit {
        0 => Vec::new(),
        lines => trail(&mut client, &router.id, lines, None).await?.entries,
    };
    if args.json {
        return printer.json(&Shown { router, audit });
    }
    let now = words::now_unix_s();
    let mut text = facts(now, &router);
    if router.leaves.is_empty() {
        text.push_str("\nno leaves\n");
    } else {
        let mut leaves = table(["LEAF", "ADMITTED", "STAGE", "ISSUED", "ENDS", "SHA-256"]);
        for leaf in &router.leaves {
            leaves.add_row(leaf_row(now, leaf, router.last_used_seq));
        }
        text.push_str(&format!("\n{}\n", leaves.trim_fmt()));
    }
    if !audit.is_empty() {
        text.push_str(&format!("\n{}\n", audit_table(now, &audit).trim_fmt()));
    }
    printer.data(&text)
}

fn facts(now: i64, router: &RouterView) -> String {
    let admitted = router.leaves.iter().filter(|leaf| leaf.is_admitted).map(|leaf| leaf.seq.to_string());
    let admitted = admitted.collect::<Vec<_>>().join(", ");
    let ends = |at: Option<i64>| at.map_or_else(|| "none".to_owned(), |at| format!("ends {}", words::moment(now, at)));
    let mut lines = vec![
        ("lock-out", lockout(router)),
        ("router", format!("{} ({}), {}", printable(&router.name), router.id, router.kind)),
        ("progress", router.progress.to_string()),
        ("standing", format!("{}, enrollment {}", router.standing, router.epoch)),
        ("admitted", if admitted.is_empty() { "no leaf".to_owned() } else { format!("leaf {admitted}") }),
        ("client leaf", ends(router.client_not_after_unix_s)),
        ("server leaf", ends(router.server_not_after_unix_s)),
        ("next renewal", words::moment_or_dash(now, router.renew_due_unix_s)),
    ];
    lines.push((
        "connection",
        match &router.connection {
            Some(one) => {
                let version =
                    one.version.as_deref().map_or(String::new(), |version| format!(", runs {}", printable(version)));
                let since = words::date(now, one.since_unix_s);
                format!("from {} since {since}, {} underlays{version}", one.remote_address, one.underlays)
            }
            None => "none".to_owned(),
        },
    ));
    if let Some(at) = router.token_expires_unix_s {
        lines.push(("token", format!("not used yet, ends {}", words::moment(now, at))));
    }
    if let Some(at) = router.restored_from_unix_s {
        lines.push(("restored", format!("from a copy taken {}", words::moment(now, at))));
    }
    if let Some(fork) = &router.fork {
        lines.push(("alarm", fork_text(now, fork)));
    }
    let lines: Vec<String> =
        lines.into_iter().map(|(name, value)| format!("{:<13} {value}\n", format!("{name}:"))).collect();
    lines.concat()
}

/// Both addresses, what was made of it, and what to do.
fn fork_text(now: i64, fork: &ForkView) -> String {
    let from = |address: &Option<String>| address.clone().unwrap_or_else(|| "an unknown address".to_owned());
    let outcome = match fork.verdict {
        ForkVerdictName::Frozen => "let in; nothing is retired before its end",
        ForkVerdictName::Refused => "refused",
    };
    format!(
        "older leaf {} came back from {} {}, while leaf {} is in use from {}: {outcome}. A crash, or a copied disk: see `fleet dismiss`, \
         `fleet readmit`",
        fork.older_sha256.get(..16).unwrap_or(&fork.older_sha256),
        from(&fork.older_from),
        words::moment(now, fork.at_unix_s),
        fork.newer_seq,
        from(&fork.newer_from)
    )
}

/// How long the router stays admissible: the first thing on every screen.
fn lockout(router: &RouterView) -> String {
    use api::native::Progress;
    match (router.lockout_s, router.progress) {
        (0, Progress::AwaitingEnrollment) => "not enrolled".to_owned(),
        (0, Progress::Revoked) => "revoked".to_owned(),
        (0, _) => "0 s: mend it".to_owned(),
        (left, _) => words::seconds(left),
    }
}

fn leaf_row(now: i64, leaf: &LeafView, last_used: Option<u64>) -> [String; 6] {
    let mark = if last_used == Some(leaf.seq) { " (in use)" } else { "" };
    [
        format!("{}{mark}", leaf.seq),
        if leaf.is_admitted { "yes" } else { "no" }.to_owned(),
        leaf.stage.to_string(),
        words::away(now, leaf.issued_unix_s),
        words::moment(now, leaf.not_after_unix_s),
        leaf.fingerprint_sha256.clone(),
    ]
}

/// `exuvia fleet audit`.
pub(super) async fn audit(printer: Printer, file: &Path, args: &Audit) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let id = match client.find(&args.router).await {
        Ok(router) => router.id,
        // The trail of a router that was deleted is still there, under its id.
        Err(failure) if failure.exit == Exit::Refused => {
            let page = trail(&mut client, &args.router, 1, None).await;
            if page.is_ok_and(|page| !page.entries.is_empty()) { args.router.clone() } else { return Err(failure) }
        }
        Err(failure) => return Err(failure),
    };
    let page = trail(&mut client, &id, args.limit, args.before).await?;
    if args.json {
        return printer.json(&page);
    }
    printer.data(&audit_table(words::now_unix_s(), &page.entries).trim_fmt())?;
    if let Some(before) = page.next_before {
        printer.note(&format!("older ones: `exuvia fleet audit {} --before {before}`", args.router));
    }
    Ok(())
}

async fn trail(client: &mut Client, id: &str, lines: u16, before: Option<u64>) -> Result<AuditPageView, Failure> {
    let (limit, before) = (lines.to_string(), before.map(|before| before.to_string()));
    let mut query = vec![("limit", limit.as_str())];
    query.extend(before.as_deref().map(|before| ("before", before)));
    client.one(Operation::RouterAudit, id, &query, NO_BODY).await
}

fn audit_table(now: i64, entries: &[AuditView]) -> Table {
    let mut table = table(["SEQ", "LAST", "WHEN", "TIMES", "WHO", "WHAT", "DETAIL"]);
    for entry in entries {
        let at = entry.last_at_unix_ms.div_euclid(1000);
        table.add_row([
            entry.seq.to_string(),
            words::away(now, at),
            words::exactly(at),
            entry.count.to_string(),
            printable(&entry.actor),
            printable(&entry.event),
            detail(&entry.detail),
        ]);
    }
    table
}

/// An object as `name: value` pairs; nothing for an empty one.
fn detail(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => printable(text),
        serde_json::Value::Object(map) => {
            let pairs = map.iter().filter(|(_, value)| !value.is_null());
            pairs.map(|(name, value)| format!("{}: {}", printable(name), detail(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// `exuvia fleet pipeline`.
pub(super) async fn pipeline(printer: Printer, file: &Path, args: &Pipeline) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let limit = args.limit.to_string();
    let view: PipelineView = client.one(Operation::Pipeline, "", &[("limit", &limit)], NO_BODY).await?;
    if args.json {
        return printer.json(&view);
    }
    let now = words::now_unix_s();
    let mut routers = table(["LOCK-OUT", "NAME", "PROGRESS", "LEAF ENDS", "NEXT RENEWAL", "CONNECTED"]);
    for router in &view.routers {
        routers.add_row([
            words::seconds(router.lockout_s),
            printable(&router.name),
            router.progress.to_string(),
            words::moment_or_dash(now, router.client_not_after_unix_s),
            router.renew_due_unix_s.map_or_else(dash, |at| words::away(now, at)),
            if router.is_connected { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let counts: Vec<String> = view.counts.iter().map(|(progress, count)| format!("{count} {progress}")).collect();
    let mut text = format!("{}\n\nrouters:  {}\n", routers.trim_fmt(), counts.join(", "));
    let issuer = &view.issuer;
    let ends = words::moment(now, issuer.not_after_unix_s);
    let life = words::seconds(issuer.leaf_life_s);
    text.push_str(&format!("issuer:   {}, ends {ends}, leaves live {life}\n", printable(&issuer.subject)));
    if let Some(campaign) = &view.campaign {
        let until = words::date(now, campaign.until_unix_s);
        text.push_str(&format!("re-key:   {} routers outstanding, until {until}\n", campaign.outstanding));
    }
    printer.data(&text)?;
    if let Some(warning) = &issuer.warning {
        printer.warning(warning);
    }
    Ok(())
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn dash() -> String {
    "-".to_owned()
}

/// Text that a peer chose, without anything that a terminal would obey.
pub(in crate::commands) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{detail, printable};

    #[test]
    fn what_a_peer_wrote_cannot_command_the_terminal() {
        assert_eq!(printable("r1\u{1b}[2J\r\n"), "r1\u{fffd}[2J\u{fffd}\u{fffd}");
        assert_eq!(detail(&json!({ "name\u{7}": "a\u{1b}" })), "name\u{fffd}: a\u{fffd}");
    }

    #[test]
    fn a_detail_reads_as_names_and_values() {
        assert_eq!(detail(&json!({})), "");
        assert_eq!(detail(&json!({ "leaf": 2, "none": null, "why": "late" })), "leaf: 2, why: late");
    }
}
