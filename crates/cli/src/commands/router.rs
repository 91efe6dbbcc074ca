//! `exuvia router`: on the machine of a router.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use router::admin::{AdminError, Answer, Client};
use router::config::RouterConfig;
use router::doctor::{self, Finding, Level};
use router::events::EventKind;
use router::forecast::ZitiVersion;
use router::run;
use router::status::StatusView;
use sd_notify::NotifyState;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::daemon::{self, Threads};
use crate::args::{Doctor, Enroll, Renew, Run, Status};
use crate::exit::{Exit, Failure};
use crate::files;
use crate::logging::LogFormat;
use crate::output::Printer;
use crate::words;

/// Threads of a router: one for its loop and one for what blocks it.
pub const THREADS: Threads = Threads::Count(2);
/// A running router answers at once, or something is wrong with it.
const ANSWER: Duration = Duration::from_secs(10);

/// `exuvia router run`.
pub async fn run(printer: Printer, format: LogFormat, args: &Run) -> Result<(), Failure> {
    let (config, warnings) = run::load_config(&args.config.path)?;
    daemon::warn(printer, format, &warnings);
    if args.check {
        return show_findings(printer, false, &doctor::check(&config));
    }
    let stopped = daemon::stop_on_signals()?;
    let Some(ready) = run::prepare(config, args.extend, stopped.clone()).await? else { return Ok(()) };
    daemon::tell(&[NotifyState::Ready]);
    let telling = tokio::spawn(tell_standing(ready.status()));
    ready.serve(stopped).await;
    telling.abort();
    Ok(())
}

/// Keeps the service manager's one line about this router up to date.
async fn tell_standing(mut status: watch::Receiver<Arc<StatusView>>) {
    let mut told = String::new();
    loop {
        let line = {
            let now = status.borrow_and_update();
            let connection =
                if now.is_connected() { "admitted by a controller" } else { "no controller admits it yet" };
            format!("router {}: {}, generation {}, {connection}", now.router, now.phase, now.generation)
        };
        if line != told {
            daemon::tell(&[NotifyState::Status(&line)]);
            told = line;
        }
        if status.changed().await.is_err() {
            return;
        }
    }
}

#[derive(Serialize)]
struct EnrolledLine<'a> {
    router: &'a str,
    generation: Option<u64>,
    state_folder: &'a Path,
    warnings: &'a [String],
}

/// `exuvia router enroll`.
pub async fn enroll(printer: Printer, args: &Enroll) -> Result<(), Failure> {
    let config = load(printer, &args.config.path)?;
    let token = files::read_text(&args.jwt, "enrollment token", pki::MAX_TOKEN_BYTES as u64 + 1024)?;
    let enrolled = router::enroll::enroll(&config, token.trim(), args.force).await?;
    for warning in &enrolled.warnings {
        printer.warning(warning);
    }
    if args.json {
        return printer.json(&EnrolledLine {
            router: enrolled.router.as_str(),
            generation: enrolled.generation.map(|number| number.0),
            state_folder: &enrolled.state_folder,
            warnings: &enrolled.warnings,
        });
    }
    printer.note(&match enrolled.generation {
        Some(number) => {
            format!(
                "enrolled router `{}`: generation {number} in `{}`",
                enrolled.router,
                enrolled.state_folder.display()
            )
        }
        None => format!("the running router enrolled as `{}`", enrolled.router),
    });
    Ok(())
}

/// `exuvia status`.
pub async fn status(printer: Printer, args: &Status) -> Result<(), Failure> {
    let config = load(printer, &args.config.path)?;
    let status = match connect(&config).await {
        Ok(mut client) => in_time(client.status()).await?,
        Err(AdminError::NotRunning { .. } | AdminError::HungUp) => run::status_from_disk(&config)?,
        Err(error) => return Err(error.into()),
    };
    if args.json { printer.json(&status) } else { printer.data(&status.to_string()) }
}

/// `exuvia doctor`.
pub async fn doctor(printer: Printer, args: &Doctor) -> Result<(), Failure> {
    if let Some(version) = ziti_version(args)? {
        return forecast(printer, args, version);
    }
    let config = load(printer, &args.config.path)?;
    show_findings(printer, args.json, &doctor::examine(&config).await)
}

/// The version of OpenZiti that the person named, or that the program tells.
fn ziti_version(args: &Doctor) -> Result<Option<ZitiVersion>, Failure> {
    let Some(program) = &args.ziti else { return Ok(args.ziti_version) };
    let shown = program.display();
    let hint = "name OpenZiti's program, or its version with `--ziti-version`";
    let told = std::process::Command::new(program).arg("version").stdin(std::process::Stdio::null()).output();
    let told = told.map_err(|error| {
        Failure::new(Exit::Input, anyhow::Error::new(error).context(format!("cannot run `{shown} version`"))).hint(hint)
    })?;
    let text = String::from_utf8_lossy(&told.stdout);
    let version = text.lines().find_map(|line| line.trim().parse().ok());
    version.map(Some).ok_or_else(|| {
        Failure::because(Exit::Input, format!("`{shown} version` does not tell a version of OpenZiti")).hint(hint)
    })
}

/// What OpenZiti's own renewal would do. A configuration that only OpenZiti would take is looked at all the same.
fn forecast(printer: Printer, args: &Doctor, version: ZitiVersion) -> Result<(), Failure> {
    let path = &args.config.path;
    let text = std::fs::read_to_string(path)
        .map_err(|source| Failure::from(run::RunError::ReadConfig { path: path.display().to_string(), source }))?;
    let config = match run::load_config(path) {
        Ok((config, _)) => Some(config),
        Err(error) => {
            printer.report(&error.to_string());
            None
        }
    };
    let facts = router::forecast::look(&text, config.as_ref(), version);
    show_findings(printer, args.json, &router::forecast::foresee(&facts))
}

fn show_findings(printer: Printer, is_json: bool, findings: &[Finding]) -> Result<(), Failure> {
    if is_json {
        printer.json(&findings)?;
    } else {
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        printer.data(&lines.join("\n"))?;
    }
    if findings.iter().any(|finding| finding.level == Level::Fail) {
        Err(Failure::silent(Exit::Failed))
    } else {
        Ok(())
    }
}

#[derive(Serialize)]
struct RenewedLine {
    generation: u64,
    is_proven: bool,
    controller: Option<String>,
}

/// `exuvia router renew`.
pub async fn renew(printer: Printer, args: &Renew) -> Result<(), Failure> {
    let config = load(printer, &args.config.path)?;
    // Listens first, so that a quick renewal is not missed.
    let mut events = in_time(connect(&config).await?.events()).await?;
    let generation = match in_time(connect(&config).await?.renew()).await? {
        Answer::Began { generation } => generation,
        Answer::NotBegun { blocked: Some(reason), .. } => {
            return Err(Failure::because(Exit::Failed, format!("no renewal can begin: {reason}"))
                .hint(format!("see `exuvia doctor {}`", args.config.path.display())));
        }
        Answer::NotBegun { phase, blocked: None } => {
            return Err(Failure::because(Exit::Busy, format!("no renewal began: the router is in phase `{phase}`"))
                .hint(format!("see `exuvia status {}`", args.config.path.display())));
        }
        Answer::Failed { error, hint } => return Err(Failure::because(Exit::Failed, error).hint(hint)),
        Answer::Deferred { .. } | Answer::Done | Answer::Status(_) => {
            return Err(AdminError::Unexpected(None).into());
        }
    };
    if args.no_wait {
        return report_renewal(printer, args.json, RenewedLine { generation, is_proven: false, controller: None });
    }
    let until = Instant::now() + args.within;
    let mut last_failure = None;
    loop {
        let Ok(event) = timeout_at(until, events.next()).await else {
            let within = words::span(args.within);
            let message = format!("generation {generation} was not proven within {within}");
            let failure = match last_failure {
                Some(failure) => Failure::new(Exit::Failed, anyhow::Error::msg(failure).context(message)),
                None => Failure::because(Exit::Failed, message),
            };
            let see = format!("exuvia status {}", args.config.path.display());
            return Err(failure.hint(format!("the router goes on trying, and serves what it had; see `{see}`")));
        };
        // A failed attempt is followed by another one with a higher number.
        match event?.ok_or(AdminError::HungUp)?.what {
            EventKind::Promoted { generation: proven, controller } if proven >= generation => {
                let line = RenewedLine { generation: proven, is_proven: true, controller: Some(controller) };
                return report_renewal(printer, args.json, line);
            }
            EventKind::AttemptFailed { generation: failed, failure, retry_in_ms } if failed >= generation => {
                let pause = words::span(Duration::from_millis(retry_in_ms));
                printer.note(&format!("generation {failed}: {failure}; next try in {pause}"));
                last_failure = Some(failure);
            }
            _ => {}
        }
    }
}

fn report_renewal(printer: Printer, is_json: bool, line: RenewedLine) -> Result<(), Failure> {
    if is_json {
        return printer.json(&line);
    }
    printer.note(&match &line.controller {
        Some(controller) => format!("generation {} was admitted by controller `{controller}`", line.generation),
        None => format!("the renewal to generation {} has begun", line.generation),
    });
    Ok(())
}

fn load(printer: Printer, path: &Path) -> Result<RouterConfig, Failure> {
    let (config, warnings) = run::load_config(path)?;
    if !warnings.is_empty() {
        printer.report(&warnings.to_string());
    }
    Ok(config)
}

async fn connect(config: &RouterConfig) -> Result<Client, AdminError> {
    Client::connect(&run::admin_paths(config)).await
}

async fn in_time<T>(answer: impl Future<Output = Result<T, AdminError>>) -> Result<T, Failure> {
    match timeout(ANSWER, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::because(
            Exit::Unreachable,
            format!("the running router did not answer within {}", words::span(ANSWER)),
        )
        .hint("look into its log; it may be stuck on its disk")),
    }
}
