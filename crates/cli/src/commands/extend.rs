//! `exuvia extend`: renews the identity files of any router, once, safely.

use std::path::Path;
use std::time::Duration;

use router::admin::{Answer, Client};
use router::config::RouterConfig;
use router::events::EventKind;
use router::extend::{Extended, Wish};
use router::run;
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::daemon;
use crate::args::Extend;
use crate::exit::{Exit, Failure};
use crate::output::Printer;
use crate::words;

#[derive(Serialize)]
struct Line {
    /// `renewed`, `mended`, `not_due` or `too_soon`.
    outcome: &'static str,
    generation: Option<u64>,
    controller: Option<String>,
    renew_at_ms: Option<i64>,
    wait_ms: Option<u64>,
}

/// `exuvia extend`.
pub async fn extend(printer: Printer, args: &Extend) -> Result<(), Failure> {
    // Warnings are about settings that our daemon ignores; the router that runs later may well use them.
    let (config, _) = run::load_config(&args.config.path)?;
    if let Ok(client) = Client::connect(&run::admin_paths(&config)).await {
        return ask_daemon(printer, args, client, &config).await;
    }
    if !args.beside_running
        && let Some(pid) = router::extend::other_router(&args.config.path)
    {
        let message = format!("a router runs with this configuration (pid {pid}); it was not disturbed");
        return Err(Failure::because(Exit::Busy, message).hint(
            "stop it, run this command, and start it again; or accept with `--beside-running` that it loses its control channel for a moment",
        ));
    }
    let wish =
        Wish { is_only_if_due: args.if_due, is_regardless: args.now, is_new_key: args.new_key, within: args.within };
    let stopped = daemon::stop_on_signals()?;
    let extended = router::extend::extend(config, &wish, stopped).await?;
    tell(printer, args, extended)
}

/// Our own daemon runs: it has the lock, and needs no second process to renew.
async fn ask_daemon(printer: Printer, args: &Extend, mut client: Client, config: &RouterConfig) -> Result<(), Failure> {
    let status = client.status().await?;
    if args.if_due && status.next_generation.is_none() && status.renew_at_ms > status.at_ms {
        return tell(printer, args, Extended::NotDue { renew_at_ms: status.renew_at_ms });
    }
    let mut events = Client::connect(&run::admin_paths(config)).await?.events().await?;
    let generation = match client.renew().await? {
        Answer::Began { generation } => generation,
        // Its newest attempt is as good as another one.
        Answer::NotBegun { blocked: None, .. } => status.next_generation.unwrap_or(status.generation + 1),
        Answer::NotBegun { blocked: Some(reason), .. } => {
            return Err(Failure::because(Exit::Storage, format!("no renewal can begin: {reason}"))
                .hint(see_doctor(&args.config.path)));
        }
        Answer::Failed { error, hint } => return Err(Failure::because(Exit::Failed, error).hint(hint)),
        Answer::Deferred { wait_ms } => {
            return tell(printer, args, Extended::TooSoon { wait: Duration::from_millis(wait_ms) });
        }
        Answer::Done | Answer::Status(_) => return Err(router::admin::AdminError::Unexpected(None).into()),
    };
    let until = Instant::now() + args.within;
    loop {
        let Ok(event) = timeout_at(until, events.next()).await else {
            let within = words::span(args.within);
            let message = format!("the running router did not prove generation {generation} within {within}");
            return Err(Failure::because(Exit::Failed, message).hint(see_doctor(&args.config.path)));
        };
        let event = event?.ok_or(router::admin::AdminError::HungUp)?;
        if let EventKind::Promoted { generation: proven, controller } = event.what
            && proven >= generation
        {
            return tell(printer, args, Extended::Renewed { generation: proven, controller });
        }
    }
}

fn see_doctor(config: &Path) -> String {
    format!("see `exuvia doctor {}`", config.display())
}

fn tell(printer: Printer, args: &Extend, extended: Extended) -> Result<(), Failure> {
    let mut line = Line { outcome: "renewed", generation: None, controller: None, renew_at_ms: None, wait_ms: None };
    let text = match extended {
        Extended::Renewed { generation, controller } => {
            let text = format!("renewed: controller `{controller}` admitted generation {generation}");
            (line.generation, line.controller) = (Some(generation), Some(controller));
            text
        }
        Extended::Mended { generation } => {
            line.outcome = "mended";
            line.generation = Some(generation);
            format!("mended: the configured files hold generation {generation}; no renewal was due")
        }
        Extended::NotDue { renew_at_ms } => {
            line.outcome = "not_due";
            line.renew_at_ms = Some(renew_at_ms);
            let at = renew_at_ms.div_euclid(1000);
            format!(
                "not due: the next renewal is due {} ({})",
                words::away(words::now_unix_s(), at),
                words::exactly(at)
            )
        }
        Extended::TooSoon { wait } => {
            line.outcome = "too_soon";
            line.wait_ms = u64::try_from(wait.as_millis()).ok();
            format!(
                "too soon: the last attempt was just made; try again in {}, or insist with `--now`",
                words::span(wait.max(Duration::from_secs(1)))
            )
        }
    };
    if args.json {
        return printer.json(&line);
    }
    printer.note(&text);
    Ok(())
}
