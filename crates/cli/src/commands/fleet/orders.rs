//! Commands that change something at the controller.

use std::path::Path;

use api::envelope::{Created, Empty};
use api::native::{CampaignRequest, CampaignView, EnrollmentView, ReadmitRequest, RenewView, RouterKind, RouterView};
use api::ziti::{EdgeRouterCreate, EdgeRouterView, TransitRouterCreate, TransitRouterView};
use api::{Operation, Secret};
use pki::MAX_CERTIFICATES_PEM_BYTES;
use serde::Serialize;

use super::client::{Client, NO_BODY};
use super::reports::printable;
use super::token::Destination;
use crate::args::{Confirmed, Create, ReEnroll, Readmit, Rekey, Several};
use crate::ask;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::output::Printer;
use crate::words;

/// `exuvia fleet create`.
pub(super) async fn create(printer: Printer, file: &Path, args: &Create) -> Result<(), Failure> {
    let destination = Destination::prepare(&args.token)?;
    let mut client = Client::of_session(file)?;
    let (id, jwt, expires) = if args.transit {
        let wanted = TransitRouterCreate {
            name: args.name.clone(),
            tags: None,
            cost: None,
            no_traversal: None,
            disabled: None,
            ctrl_chan_listeners: None,
            configs: None,
        };
        let made: Created = client.one(Operation::CreateTransitRouter, "", &[], Some(&wanted)).await?;
        let view: TransitRouterView = client.one(Operation::GetTransitRouter, &made.id, &[], NO_BODY).await?;
        (made.id, view.enrollment_jwt, view.enrollment_expires_at)
    } else {
        let wanted = EdgeRouterCreate {
            name: args.name.clone(),
            tags: None,
            role_attributes: Some(args.roles.clone()).filter(|roles| !roles.is_empty()),
            is_tunneler_enabled: None,
            cost: None,
            no_traversal: None,
            disabled: None,
            app_data: None,
            ctrl_chan_listeners: None,
            configs: None,
        };
        let made: Created = client.one(Operation::CreateEdgeRouter, "", &[], Some(&wanted)).await?;
        let view: EdgeRouterView = client.one(Operation::GetEdgeRouter, &made.id, &[], NO_BODY).await?;
        (made.id, view.enrollment_jwt, view.enrollment_expires_at)
    };
    let expires = expires.and_then(|at| at.parse::<jiff::Timestamp>().ok()).map(|at| at.as_second());
    hand_out(printer, destination, (&id, &args.name), jwt.as_ref(), expires)
}

/// `exuvia fleet re-enroll`.
pub(super) async fn re_enroll(printer: Printer, file: &Path, args: &ReEnroll) -> Result<(), Failure> {
    let destination = Destination::prepare(&args.token)?;
    let mut client = Client::of_session(file)?;
    let router = client.find(&args.router).await?;
    let question = format!("{} is out until it enrolls with the new token.", named(&router));
    ask::confirm(printer, args.yes, &question)?;
    let made: EnrollmentView = client.one(Operation::ReEnrollRouter, &router.id, &[], NO_BODY).await?;
    hand_out(printer, destination, (&router.id, &router.name), Some(&made.jwt), Some(made.expires_unix_s))
}

fn hand_out(
    printer: Printer,
    destination: Destination,
    (id, name): (&str, &str),
    jwt: Option<&Secret>,
    expires_unix_s: Option<i64>,
) -> Result<(), Failure> {
    let jwt = jwt.ok_or_else(|| {
        Failure::because(Exit::Failed, format!("router `{name}` was made, but its token is gone already"))
            .hint(format!("make another one: `exuvia fleet re-enroll {name}`"))
    })?;
    destination.hand_out(printer, (id, name), jwt, expires_unix_s)
}

/// `exuvia fleet delete`.
pub(super) async fn delete(printer: Printer, file: &Path, args: &Confirmed) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let routers = all_of(&mut client, &args.routers).await?;
    ask::confirm(printer, args.yes, &format!("Delete {} for good?", listed(&routers)))?;
    for router in &routers {
        let operation = match router.kind {
            RouterKind::Edge => Operation::DeleteEdgeRouter,
            RouterKind::Transit => Operation::DeleteTransitRouter,
        };
        let _: Empty = client.one(operation, &router.id, &[], NO_BODY).await?;
        printer.note(&format!("deleted {}", named(router)));
    }
    report(printer, args.json, &routers.iter().map(|router| &router.id).collect::<Vec<_>>())
}

/// `exuvia fleet revoke`.
pub(super) async fn revoke(printer: Printer, file: &Path, args: &Confirmed) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let routers = all_of(&mut client, &args.routers).await?;
    let question = format!("Withdraw the identity of {} at once? Only re-enrollment brings it back.", listed(&routers));
    ask::confirm(printer, args.yes, &question)?;
    let mut after: Vec<RouterView> = Vec::new();
    for router in &routers {
        after.push(client.one(Operation::RevokeRouter, &router.id, &[], NO_BODY).await?);
        printer.note(&format!("revoked {}", named(router)));
    }
    report(printer, args.json, &after)
}

#[derive(Serialize)]
struct Renewed {
    id: String,
    name: String,
    #[serde(flatten)]
    order: RenewView,
}

/// `exuvia fleet renew`.
pub(super) async fn renew(printer: Printer, file: &Path, args: &Several) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let mut done = Vec::new();
    for router in all_of(&mut client, &args.routers).await? {
        let order: RenewView = client.one(Operation::RenewRouter, &router.id, &[], NO_BODY).await?;
        let now = words::now_unix_s();
        printer.note(&match order.told {
            true => format!("{}: told to renew, until {}", named(&router), words::date(now, order.to_unix_s)),
            false => format!(
                "{}: not connected, or too old to be told; it learns of it when it connects next",
                named(&router)
            ),
        });
        done.push(Renewed { id: router.id, name: router.name, order });
    }
    report(printer, args.json, &done)
}

/// `exuvia fleet rekey`.
pub(super) async fn rekey(printer: Printer, file: &Path, args: &Rekey) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let view: CampaignView = match args.within {
        Some(within) => {
            let question = format!("Have the whole fleet renew within {}?", words::span(within));
            ask::confirm(printer, args.yes, &question)?;
            let order = CampaignRequest { within_s: within.as_secs() };
            client.one(Operation::StartCampaign, "", &[], Some(&order)).await?
        }
        None => client.one(Operation::CurrentCampaign, "", &[], NO_BODY).await?,
    };
    if args.json {
        return printer.json(&view);
    }
    let now = words::now_unix_s();
    printer.data(&format!(
        "ordered:      {}\nends:         {}\ntold at once: {} routers\noutstanding:  {} routers",
        words::moment(now, view.ordered_at_unix_s),
        words::moment(now, view.until_unix_s),
        view.told,
        view.outstanding
    ))
}

/// `exuvia fleet readmit`.
pub(super) async fn readmit(printer: Printer, file: &Path, args: &Readmit) -> Result<(), Failure> {
    let cert_pem = match &args.cert {
        Some(path) => {
            let text = files::read_text(path, "certificate", MAX_CERTIFICATES_PEM_BYTES as u64)?;
            pki::Certificate::from_pem(text.as_bytes()).map_err(|error| {
                Failure::new(Exit::Input, error).context(format!("`{}` holds no certificate", path.display()))
            })?;
            Some(text.to_string())
        }
        None => None,
    };
    let order = ReadmitRequest { fingerprint_sha256: args.fingerprint.map(|hash| hash.to_string()), cert_pem };
    let mut client = Client::of_session(file)?;
    let router = client.find(&args.router).await?;
    let question = format!("Whoever holds that leaf's key will be admitted as {}. Is that meant?", named(&router));
    ask::confirm(printer, args.yes, &question)?;
    let after: RouterView = client.one(Operation::ReadmitRouter, &router.id, &[], Some(&order)).await?;
    printer.note(&format!("readmitted {}", named(&after)));
    report(printer, args.json, &after)
}

/// `exuvia fleet dismiss`.
pub(super) async fn dismiss(printer: Printer, file: &Path, args: &Confirmed) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let mut done = Vec::new();
    for router in all_of(&mut client, &args.routers).await? {
        if router.fork.is_none() {
            printer.note(&format!("{}: no older leaf has come back", named(&router)));
            continue;
        }
        let question = format!("Did {} only crash, and does nobody else hold a copy of its disk?", named(&router));
        ask::confirm(printer, args.yes, &question)?;
        let after: RouterView = client.one(Operation::DismissFork, &router.id, &[], NO_BODY).await?;
        printer.note(&format!("{}: dismissed", named(&after)));
        done.push(after);
    }
    report(printer, args.json, &done)
}

/// Every router is looked up before anything is done to the first.
async fn all_of(client: &mut Client, names: &[String]) -> Result<Vec<RouterView>, Failure> {
    let mut routers: Vec<RouterView> = Vec::new();
    for name in names {
        let router = client.find(name).await?;
        if routers.iter().all(|other| other.id != router.id) {
            routers.push(router);
        }
    }
    Ok(routers)
}

fn report(printer: Printer, is_json: bool, value: &impl Serialize) -> Result<(), Failure> {
    if is_json { printer.json(value) } else { Ok(()) }
}

fn named(router: &RouterView) -> String {
    format!("router `{}` ({})", printable(&router.name), router.id)
}

fn listed(routers: &[RouterView]) -> String {
    routers.iter().map(named).collect::<Vec<_>>().join(", ")
}
