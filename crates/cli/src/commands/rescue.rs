//! `exuvia rescue`: back to the controller for a router that is locked out.
//!
//! [`operator`] asks the controller, [`registered`] is what it knows, [`router::rescue`] is what the disk holds; `lifecycle::rescue`
//! decides, [`report`] says it, and here it is carried out: this disk first, the controller second, the proof last.

mod operator;
mod registered;
mod report;

use std::io::{self, IsTerminal};

use lifecycle::RouterId;
use lifecycle::rescue::{ControllerKind, Obstacle, Plan, RouterKind, Situation};
use router::admin::Client;
use router::config::RouterConfig;
use router::rescue::{Proof, Proven, Remark, Salvage, Set, Wreck, prove, take_in};
use router::run;
use tokio::task::block_in_place;
use tokio::time::{Instant, timeout_at};

use self::operator::Operator;
use self::registered::Registered;
use super::daemon;
use crate::args::Rescue;
use crate::ask;
use crate::exit::{Exit, Failure};
use crate::output::Printer;
use crate::words;

/// Everything that is known before anything is done.
struct Case {
    registered: Registered,
    salvage: Salvage,
    /// The admitted leaf that the controller keeps, with the key that is here.
    kept: Option<Set>,
    situation: Situation,
    plan: Plan,
}

/// `exuvia rescue`.
pub async fn rescue(printer: Printer, args: &Rescue) -> Result<(), Failure> {
    // Warnings are about settings that our daemon ignores; the router that runs later may well use them.
    let (config, _) = run::load_config(&args.config.path)?;
    let mut ours = Client::connect(&run::admin_paths(&config)).await.ok();
    if let Some(client) = &mut ours {
        let status = client.status().await?;
        if let Some(connected) = status.controllers.iter().find(|one| one.is_connected) {
            return report::running_and_well(printer, args.json, &status, &connected.name);
        }
    } else if let Some(pid) = router::extend::other_router(&args.config.path) {
        let message = format!("a router runs with this configuration (pid {pid}); it was not disturbed");
        return Err(Failure::because(Exit::Busy, message).hint("stop it, and run this command again"));
    }
    let mut wreck = block_in_place(|| Wreck::read(&config))?;
    let mut operator = Operator::begin(printer, args, wreck.bundle()).await?;
    let registered = find(&mut operator, args, &wreck).await?;
    block_in_place(|| wreck.belongs_to(&config, &registered.id))?;
    let case = Case::new(&wreck, registered);
    let report = report::Report::new(&case, operator.address());
    if !args.json {
        printer.data(&report.to_string())?;
    }
    if let Plan::Stuck(obstacle) = case.plan {
        if args.json {
            printer.json(&report)?;
        }
        return Err(stuck(obstacle, &case.registered));
    }
    if !args.apply && !is_meant(printer, args, &case)? {
        if args.json {
            printer.json(&report)?;
        }
        return match case.plan {
            Plan::Nothing { .. } => Ok(()),
            _ => Err(Failure::silent(Exit::Failed)),
        };
    }
    let is_beside = ours.is_some();
    let proven = match ours {
        Some(client) => beside_ours(args, &config, client, &case, &mut operator).await?,
        None => carry_out(args, &config, &case, &mut operator).await?,
    };
    if args.json { printer.json(&report.proven(&proven)) } else { report::done(printer, &proven, is_beside) }
}

/// The router that is meant: as the operator says, else as the disk does. They must not disagree.
async fn find(operator: &mut Operator, args: &Rescue, wreck: &Wreck) -> Result<Registered, Failure> {
    let wanted = args.router.as_deref().or(wreck.router().map(RouterId::as_str));
    let wanted = wanted.ok_or_else(|| {
        Failure::because(Exit::Input, "nothing on this disk says which router it is")
            .hint("name it with `--router`; the controller lists names and ids")
    })?;
    let registered = operator.find(wanted).await?;
    if let Some(own) = wreck.router()
        && *own != registered.id
    {
        let message = format!(
            "this disk holds the identity of router `{own}`, and `{wanted}` is router `{}` at the controller",
            registered.id
        );
        return Err(Failure::because(Exit::Input, message)
            .hint("name the configuration of that router; to give this place to it, enroll it here with `--force`"));
    }
    Ok(registered)
}

impl Case {
    fn new(wreck: &Wreck, registered: Registered) -> Self {
        let mut salvage = wreck.salvage(&registered.id, &registered.signer, registered.now);
        let kept = Self::kept(wreck, &registered, &mut salvage);
        let facts = |set: &Set| set.facts(registered.admits(set), &registered.signer);
        let situation = Situation {
            now: registered.now,
            controller: registered.controller,
            kind: registered.kind,
            standing: registered.standing,
            is_connected: registered.is_connected,
            found: salvage.sets.iter().map(facts).collect(),
            kept: kept.as_ref().map(|set| set.client),
        };
        let plan = situation.plan();
        Self { registered, salvage, kept, situation, plan }
    }

    /// What the controller keeps of what it admits, if it lies on no disk here and its key does.
    fn kept(wreck: &Wreck, registered: &Registered, salvage: &mut Salvage) -> Option<Set> {
        for pem in &registered.kept {
            match wreck.assemble_kept(pem, &registered.signer, registered.now) {
                Ok(set) if salvage.sets.iter().any(|known| known.client.fingerprint == set.client.fingerprint) => {}
                Ok(set) if registered.admits(&set) => return Some(set),
                Ok(_) => {}
                Err(Remark { path, text }) => salvage.remarks.push(Remark { path, text }),
            }
        }
        None
    }

    /// The set that the plan is about.
    fn chosen(&self) -> Option<&Set> {
        match self.plan {
            Plan::Nothing { which } | Plan::Use { which, .. } | Plan::Vouch { which, .. } => {
                self.salvage.sets.get(which)
            }
            Plan::Fetch { .. } => self.kept.as_ref(),
            Plan::Enroll | Plan::ReEnroll | Plan::Stuck(_) => None,
        }
    }

    /// Has a renewal to follow, because there is no good server leaf?
    fn wants_renewal(&self) -> bool {
        match self.plan {
            Plan::Use { renew, .. } | Plan::Vouch { renew, .. } => renew,
            Plan::Fetch { .. } => self.kept.as_ref().is_some_and(|set| {
                set.server
                    .is_none_or(|leaf| leaf.is_expired(self.situation.now) || leaf.not_before > self.situation.now)
            }),
            Plan::Nothing { .. } | Plan::Enroll | Plan::ReEnroll | Plan::Stuck(_) => false,
        }
    }

    /// OpenZiti's controllers cannot finish the renewal of a transit router.
    fn can_renew(&self) -> bool {
        self.registered.controller == ControllerKind::Exuvia || self.registered.kind == RouterKind::Edge
    }
}

fn is_meant(printer: Printer, args: &Rescue, case: &Case) -> Result<bool, Failure> {
    let can_ask = io::stdin().is_terminal() && io::stdout().is_terminal() && !args.json;
    if !can_ask || matches!(case.plan, Plan::Nothing { .. }) {
        return Ok(false);
    }
    ask::is_yes(printer, "Do that?")
}

fn stuck(obstacle: Obstacle, registered: &Registered) -> Failure {
    let Registered { id, name, .. } = registered;
    let (text, hint) = match obstacle {
        Obstacle::Disabled => (
            "is switched off at the controller",
            "switch it on there first, if that is meant; then run this command again",
        ),
        Obstacle::Revoked => (
            "was revoked at the controller, and this command does not undo that",
            "make a new token there, if that is meant: `exuvia fleet re-enroll ROUTER`",
        ),
        Obstacle::InUseElsewhere => (
            "is connected to the controller while no router runs here: somebody else uses its identity",
            "find the other one and stop it; if there is none, wait until the controller has noticed, and run this command again",
        ),
        Obstacle::NoSecondEnrollment => (
            "is a transit router, which OpenZiti cannot enroll twice, and nothing on this disk can be vouched for",
            "make a new router at the controller (an edge router, which can be renewed safely) and enroll it here with `--force`; then delete this one",
        ),
        Obstacle::NeverEnrolled => (
            "was made by its fingerprint and has nothing to enroll with",
            "get a certificate from whoever issued the first one, and set its fingerprint: `ziti fabric update router ROUTER --fingerprint SHA1`",
        ),
    };
    Failure::because(Exit::Refused, format!("router `{name}` ({id}) {text}")).hint(hint)
}

async fn carry_out(
    args: &Rescue,
    config: &RouterConfig,
    case: &Case,
    operator: &mut Operator,
) -> Result<Proven, Failure> {
    let id = &case.registered.id;
    // What is in use may be admitted again one day by a controller that lags, or was restored: it is kept.
    let in_use = case.salvage.sets.iter().filter(|set| set.is_in_use && set.stored.is_none());
    let kept: Vec<&Set> = in_use.chain(case.chosen()).collect();
    let keep = |sets: &[&Set]| block_in_place(|| take_in(config, id, sets));
    match case.plan {
        Plan::Nothing { .. } => {}
        Plan::Use { .. } | Plan::Fetch { .. } => keep(&kept)?,
        Plan::Vouch { .. } => {
            // Durable here before the controller forgets what it admits now.
            keep(&kept)?;
            if let Some(set) = case.chosen() {
                operator.vouch(&case.registered, set).await?;
            }
        }
        Plan::Enroll | Plan::ReEnroll => {
            keep(&[])?;
            let token = match (&case.registered.token, case.plan) {
                (Some(token), Plan::Enroll) => token.clone(),
                _ => operator.re_enroll(&case.registered).await?,
            };
            router::enroll::enroll(config, token.reveal(), true).await?;
        }
        Plan::Stuck(obstacle) => return Err(stuck(obstacle, &case.registered)),
    }
    let renew = case.wants_renewal() && case.can_renew();
    let stopped = daemon::stop_on_signals()?;
    let mut proven = prove(config.clone(), Proof { renew, within: args.within }, stopped).await?;
    if case.wants_renewal() && !case.can_renew() {
        proven.unrenewed = Some("an OpenZiti controller cannot renew a transit router".to_owned());
    }
    Ok(proven)
}

/// Our own daemon runs and is refused. It holds the store, so only what the controller or the daemon itself can do is done.
async fn beside_ours(
    args: &Rescue,
    config: &RouterConfig,
    mut client: Client,
    case: &Case,
    operator: &mut Operator,
) -> Result<Proven, Failure> {
    let mut events = Client::connect(&run::admin_paths(config)).await?.events().await?;
    match case.plan {
        // It tries everything that is stored by itself.
        Plan::Nothing { .. } => {}
        Plan::Use { which, .. } if case.salvage.sets.get(which).is_some_and(|set| set.stored.is_some()) => {}
        Plan::Vouch { which, .. } => match case.salvage.sets.get(which) {
            Some(set) if set.stored.is_some() => operator.vouch(&case.registered, set).await?,
            Some(_) | None => return Err(stop_it_first()),
        },
        Plan::Enroll | Plan::ReEnroll => {
            let token = match (&case.registered.token, case.plan) {
                (Some(token), Plan::Enroll) => token.clone(),
                _ => operator.re_enroll(&case.registered).await?,
            };
            router::enroll::enroll(config, token.reveal(), true).await?;
        }
        Plan::Use { .. } | Plan::Fetch { .. } => return Err(stop_it_first()),
        Plan::Stuck(obstacle) => return Err(stuck(obstacle, &case.registered)),
    }
    let until = Instant::now() + args.within;
    loop {
        let status = client.status().await?;
        let admits = status
            .controllers
            .iter()
            .find(|one| one.is_connected && one.admitted_generation == Some(status.generation));
        if let Some(one) = admits {
            return Ok(Proven { generation: status.generation, controller: one.name.clone(), unrenewed: None });
        }
        match timeout_at(until, events.next()).await {
            Ok(event) => drop(event?.ok_or(router::admin::AdminError::HungUp)?),
            Err(_) => {
                let within = words::span(args.within);
                let message = format!("no controller admitted the running router within {within}");
                return Err(Failure::because(Exit::Unreachable, message)
                    .hint(format!("it goes on trying; see `exuvia status {}`", args.config.path.display())));
            }
        }
    }
}

fn stop_it_first() -> Failure {
    Failure::because(Exit::Busy, "our router runs with this configuration and holds its store")
        .hint("stop it, and run this command again")
}
