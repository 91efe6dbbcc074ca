//! What a rescue says: what is on the disk, what is admitted, what would be done, what it would cost.

use std::fmt;

use lifecycle::rescue::{ControllerKind, Place, Plan, RouterKind, Standing};
use lifecycle::{Leaf, UnixTime};
use router::rescue::{Proven, Set};
use router::status::StatusView;
use serde::Serialize;

use super::Case;
use crate::exit::Failure;
use crate::output::Printer;
use crate::words;

/// Everything that a person or a script wants to know before, and what came of it.
#[derive(Serialize)]
pub(super) struct Report {
    router: String,
    name: String,
    /// `edge`, `transit` or `fabric`.
    kind: &'static str,
    controller: String,
    /// `openziti` or `exuvia`.
    controller_kind: &'static str,
    /// `enrolled`, `awaiting_enrollment`, `disabled` or `revoked`.
    standing: &'static str,
    is_connected: bool,
    controller_unix_s: i64,
    found: Vec<FoundLine>,
    /// Of no use as it is.
    remarks: Vec<String>,
    plan: PlanLine,
    is_applied: bool,
    proven: Option<ProvenLine>,
}

#[derive(Serialize)]
struct FoundLine {
    /// `in_use`, `stored`, `aside` or `kept_by_controller`.
    place: &'static str,
    generation: Option<u64>,
    client_sha256: String,
    client_sha1: String,
    client_not_after_unix_s: i64,
    server_not_after_unix_s: Option<i64>,
    is_admitted: bool,
    is_from_signer: bool,
    is_in_dates: bool,
    files: Vec<String>,
}

#[derive(Serialize)]
struct PlanLine {
    /// `nothing`, `use`, `fetch`, `vouch`, `enroll`, `re_enroll` or `stuck`.
    action: &'static str,
    /// Which of `found`.
    which: Option<usize>,
    here: String,
    at_the_controller: String,
    cost: String,
}

#[derive(Serialize)]
struct ProvenLine {
    generation: u64,
    controller: String,
    unrenewed: Option<String>,
}

impl Report {
    pub(super) fn new(case: &Case, address: &str) -> Self {
        let registered = &case.registered;
        let sets = case.salvage.sets.iter().zip(&case.situation.found);
        let mut found: Vec<FoundLine> = sets
            .map(|(set, facts)| line(set, facts.place, facts.is_admitted, facts.is_from_signer, case.situation.now))
            .collect();
        if let Some(set) = &case.kept {
            let mut kept = line(set, Place::Aside, true, true, case.situation.now);
            kept.place = "kept_by_controller";
            found.push(kept);
        }
        Self {
            router: registered.id.to_string(),
            name: registered.name.clone(),
            kind: match registered.kind {
                RouterKind::Edge => "edge",
                RouterKind::Transit => "transit",
                RouterKind::Fabric => "fabric",
            },
            controller: address.to_owned(),
            controller_kind: match registered.controller {
                ControllerKind::OpenZiti => "openziti",
                ControllerKind::Exuvia => "exuvia",
            },
            standing: match registered.standing {
                Standing::Enrolled => "enrolled",
                Standing::Awaiting { .. } => "awaiting_enrollment",
                Standing::Disabled => "disabled",
                Standing::Revoked => "revoked",
            },
            is_connected: registered.is_connected,
            controller_unix_s: case.situation.now.as_s(),
            plan: plan_line(case, found.len()),
            found,
            remarks: case.salvage.remarks.iter().map(ToString::to_string).collect(),
            is_applied: false,
            proven: None,
        }
    }

    /// The same after it was done.
    pub(super) fn proven(mut self, proven: &Proven) -> Self {
        self.is_applied = true;
        self.proven = Some(ProvenLine {
            generation: proven.generation,
            controller: proven.controller.clone(),
            unrenewed: proven.unrenewed.clone(),
        });
        self
    }
}

fn line(set: &Set, place: Place, is_admitted: bool, is_from_signer: bool, now: UnixTime) -> FoundLine {
    FoundLine {
        place: match place {
            Place::InUse => "in_use",
            Place::Stored(_) => "stored",
            Place::Aside => "aside",
        },
        generation: set.stored.map(|number| number.0),
        client_sha256: set.client.fingerprint.to_string(),
        client_sha1: set.client_sha1.to_string(),
        client_not_after_unix_s: set.client.not_after.as_s(),
        server_not_after_unix_s: set.server.map(|leaf: Leaf| leaf.not_after.as_s()),
        is_admitted,
        is_from_signer,
        is_in_dates: set.client.not_before <= now && !set.client.is_expired(now),
        files: set.from.iter().map(|path| path.display().to_string()).collect(),
    }
}

fn plan_line(case: &Case, lines: usize) -> PlanLine {
    let renews = match (case.wants_renewal(), case.can_renew()) {
        (false, _) => "",
        (true, true) => ", then renew it, since there is no good server certificate",
        (true, false) => "; there is no good server certificate, and this controller cannot renew a transit router",
    };
    let keeps =
        "what lies at the configured paths is kept in the state folder, keys of no generation as `*.before-rescue`";
    let (action, which, here, there, cost) = match case.plan {
        Plan::Nothing { which } => (
            "nothing",
            Some(which),
            "nothing".to_owned(),
            "nothing",
            "none; `--apply` proves by a handshake that the router is admitted".to_owned(),
        ),
        Plan::Use { which, .. } => (
            "use",
            Some(which),
            format!("make an admitted identity of this disk the one in use{renews}"),
            "nothing",
            keeps.to_owned(),
        ),
        Plan::Fetch { .. } => (
            "fetch",
            lines.checked_sub(1),
            format!("put the certificate that the controller keeps to its key, which is here{renews}"),
            "nothing",
            keeps.to_owned(),
        ),
        Plan::Vouch { which, .. } => (
            "vouch",
            Some(which),
            format!("make this identity the one in use{renews}"),
            "admit this certificate, which it signed once, in the place of what it admits now",
            format!("whoever holds what is admitted now is refused from then on; {keeps}"),
        ),
        Plan::Enroll => (
            "enroll",
            None,
            "make new keys and enroll with the token that waits for this router".to_owned(),
            "the token is used up",
            "the key of the router changes; its id, name and policies stay".to_owned(),
        ),
        Plan::ReEnroll => (
            "re_enroll",
            None,
            "make new keys and enroll anew under the same id".to_owned(),
            "void what is admitted now, and make a new token",
            "the key of the router changes; its id, name and policies stay; whoever holds its old certificate is refused"
                .to_owned(),
        ),
        Plan::Stuck(_) => ("stuck", None, "nothing".to_owned(), "nothing", "see below".to_owned()),
    };
    PlanLine { action, which, here, at_the_controller: there.to_owned(), cost }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.controller_unix_s;
        writeln!(f, "router         {} ({}), {} router", self.name, self.router, self.kind)?;
        let connected = if self.is_connected { "connected" } else { "not connected" };
        let standing = self.standing.replace('_', " ");
        writeln!(f, "controller     {}, {}: {standing}, {connected}", self.controller, self.controller_kind)?;
        for (at, found) in self.found.iter().enumerate() {
            let admitted = if found.is_admitted { "ADMITTED" } else { "not admitted" };
            let signed = if found.is_from_signer { "" } else { ", not signed by this controller" };
            let place = match (found.place, found.generation) {
                (place, Some(number)) => format!("{}, generation {number:04}", place.replace('_', " ")),
                (place, None) => place.replace('_', " "),
            };
            let until = words::date(now, found.client_not_after_unix_s);
            writeln!(f, "found {at:<8} {place}: {admitted}{signed}, until {until}")?;
            let server = match found.server_not_after_unix_s {
                Some(at) => format!("server certificate until {}", words::exactly(at)),
                None => "no server certificate".to_owned(),
            };
            writeln!(f, "               SHA-1 {}, {server}", found.client_sha1)?;
            if !found.files.is_empty() {
                writeln!(f, "               in {}", found.files.join(", "))?;
            }
        }
        if self.found.is_empty() {
            writeln!(f, "found          nothing that could be used")?;
        }
        for remark in &self.remarks {
            writeln!(f, "remark         {remark}")?;
        }
        let which = self.plan.which.map_or_else(String::new, |which| format!(" {which}"));
        writeln!(f, "plan           {}{which}", self.plan.action.replace('_', "-"))?;
        writeln!(f, "  here         {}", self.plan.here)?;
        writeln!(f, "  controller   {}", self.plan.at_the_controller)?;
        write!(f, "  cost         {}", self.plan.cost)
    }
}

#[derive(Serialize)]
struct Well<'a> {
    router: &'a str,
    plan: Action,
    is_running: bool,
    generation: u64,
    controller: &'a str,
}

#[derive(Serialize)]
struct Action {
    action: &'static str,
}

/// Our own router runs, and a controller admits it.
pub(super) fn running_and_well(
    printer: Printer,
    is_json: bool,
    status: &StatusView,
    controller: &str,
) -> Result<(), Failure> {
    if is_json {
        let (router, generation) = (status.router.as_str(), status.generation);
        let plan = Action { action: "nothing" };
        return printer.json(&Well { router, plan, is_running: true, generation, controller });
    }
    let (router, generation) = (&status.router, status.generation);
    printer.data(&format!(
        "nothing is wrong: router `{router}` runs, and controller `{controller}` admits generation {generation}"
    ))
}

/// It was done, and proven.
pub(super) fn done(printer: Printer, proven: &Proven, is_beside: bool) -> Result<(), Failure> {
    let which = if is_beside { "the running router" } else { "this router" };
    let Proven { generation, controller, unrenewed } = proven;
    if let Some(why) = unrenewed {
        printer.warning(&format!(
            "there is no good server certificate, and the renewal that would bring one failed: {why}; others cannot dial this router"
        ));
    }
    printer.note(&format!("rescued: controller `{controller}` admits {which} with generation {generation}"));
    Ok(())
}
