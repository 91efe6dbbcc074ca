//! `exuvia controller`: on the machine of a controller.

use std::path::Path;

use config::Warnings;
use controller::clock::Clock;
use controller::config::ControllerConfig;
use controller::{daemon as server, init, maintenance};
use sd_notify::NotifyState;
use serde::Serialize;
use store::register::RestoredRouter;

use super::daemon;
use crate::args::{Backup, ControllerRun, Init, ResetPassword, Restore};
use crate::ask;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::logging::LogFormat;
use crate::output::Printer;
use crate::words;

/// `exuvia controller run`.
pub async fn run(printer: Printer, format: LogFormat, args: &ControllerRun) -> Result<(), Failure> {
    let (config, warnings) = read(&args.config.path)?;
    daemon::warn(printer, format, &warnings);
    if args.check {
        printer.note(&format!("`{}` is in order", args.config.path.display()));
        return Ok(());
    }
    server::run(&config, |_| daemon::tell(&[NotifyState::Ready])).await?;
    Ok(())
}

#[derive(Serialize)]
struct Made<'a> {
    config: &'a Path,
    root: &'a Path,
    ca: &'a Path,
    api: &'a str,
    control: &'a str,
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    issuer_not_after_unix_s: i64,
}

/// `exuvia controller init`.
pub async fn init(printer: Printer, args: &Init) -> Result<(), Failure> {
    let options = init::InitOptions {
        id: args.id.clone(),
        names: args.names.clone(),
        listen: args.listen.to_string(),
        control_port: args.ctrl_port,
        api_port: args.api_port,
        leaf_life: args.leaf_life,
        admin: args.username.clone(),
        password: ask::new_password(printer, &args.password)?,
        ..init::InitOptions::new(&args.folder, &args.address)
    };
    let made = init::init(&options, Clock::system().now()).await?;
    if made.started_over {
        printer.note("an init that was interrupted was cleared away first");
    }
    let password = made.password.as_ref().map(|password| password.as_str());
    if args.json {
        return printer.json(&Made {
            config: &made.config,
            root: &made.root,
            ca: &made.bundle,
            api: &made.api,
            control: &made.control,
            username: &made.admin,
            password,
            issuer_not_after_unix_s: made.signer_not_after.as_s(),
        });
    }
    let (config, root, ca) = (made.config.display(), made.root.display(), made.bundle.display());
    let ends = words::exactly(made.signer_not_after.as_s());
    printer.note(&format!("made a controller in `{}`; its signing CA ends {ends}", args.folder.display()));
    printer.note(&format!("move the root's key to a safe place: `{root}`"));
    printer.note(&format!("next: exuvia controller run {config}"));
    printer.note(&format!("then: exuvia fleet login {} --ca {ca} --username {}", made.api, made.admin));
    hand_out_password(printer, password)
}

/// A password that was drawn is data: it is shown once and kept nowhere.
fn hand_out_password(printer: Printer, password: Option<&str>) -> Result<(), Failure> {
    match password {
        Some(password) => {
            printer.note("the password, which is written nowhere:");
            printer.data(password)
        }
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct Copied<'a> {
    file: &'a Path,
    taken_unix_s: i64,
    bytes: u64,
    routers: u64,
}

/// `exuvia controller backup`.
pub async fn backup(printer: Printer, args: &Backup) -> Result<(), Failure> {
    let config = load(printer, &args.config.path)?;
    // Nothing else runs in this process that could be held up.
    let copy = maintenance::backup(&config, &args.file, args.overwrite, Clock::system().now())?;
    if args.json {
        let taken_unix_s = copy.taken_at.as_s();
        return printer.json(&Copied { file: &copy.path, taken_unix_s, bytes: copy.bytes, routers: copy.routers });
    }
    let (file, taken) = (copy.path.display(), words::exactly(copy.taken_at.as_s()));
    printer.note(&format!("`{file}` holds {} routers as of {taken}, {} bytes", copy.routers, copy.bytes));
    Ok(())
}

#[derive(Serialize)]
struct RestoredLine<'a> {
    taken_unix_s: i64,
    set_aside: Option<&'a Path>,
    routers: usize,
    may_have_renewed: Vec<Named<'a>>,
    lapsed: Vec<Named<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    id: &'a str,
    name: &'a str,
}

/// `exuvia controller restore`.
pub async fn restore(printer: Printer, args: &Restore) -> Result<(), Failure> {
    let config = load(printer, &args.config.path)?;
    let question = format!("Put `{}` in the place of `{}`?", args.file.display(), config.db.display());
    ask::confirm(printer, args.yes, &question)?;
    let restored = maintenance::restore(&config, &args.file, Clock::system().now())?;
    if args.json {
        return printer.json(&RestoredLine {
            taken_unix_s: restored.taken_at.as_s(),
            set_aside: restored.set_aside.as_deref(),
            routers: restored.routers.len(),
            may_have_renewed: restored.may_have_renewed.iter().map(named).collect(),
            lapsed: restored.lapsed.iter().map(named).collect(),
        });
    }
    let taken = words::exactly(restored.taken_at.as_s());
    printer.note(&format!("the register is the copy of {taken}, with {} routers", restored.routers.len()));
    if let Some(path) = &restored.set_aside {
        printer.note(&format!("what was in its place is now `{}`", path.display()));
    }
    tell_of(printer, "may have renewed since; admitted once they prove their leaf", &restored.may_have_renewed);
    tell_of(printer, "no leaf that the copy knows is valid; enroll anew those that do not come back", &restored.lapsed);
    Ok(())
}

fn named(router: &RestoredRouter) -> Named<'_> {
    Named { id: router.id.as_str(), name: &router.name }
}

fn tell_of(printer: Printer, what: &str, routers: &[RestoredRouter]) {
    if !routers.is_empty() {
        let names: Vec<String> = routers.iter().map(|router| format!("  {} ({})", router.name, router.id)).collect();
        printer.warning(&format!("{what}:\n{}", names.join("\n")));
    }
}

#[derive(Serialize)]
struct Reset<'a> {
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

/// `exuvia controller reset-password`.
pub async fn reset_password(printer: Printer, args: &ResetPassword) -> Result<(), Failure> {
    let config = load(printer, &args.config.path)?;
    let given = ask::new_password(printer, &args.password)?;
    let username = args.username.as_deref().unwrap_or(&config.admin_username);
    let drawn = maintenance::reset_password(&config, Some(username), given, Clock::system().now()).await?;
    let password = drawn.as_ref().map(|password| password.as_str());
    if args.json {
        return printer.json(&Reset { username, password });
    }
    printer.note(&format!("administrator `{username}` has a new password"));
    hand_out_password(printer, password)
}

fn load(printer: Printer, path: &Path) -> Result<ControllerConfig, Failure> {
    let (config, warnings) = read(path)?;
    if !warnings.is_empty() {
        printer.report(&warnings.to_string());
    }
    Ok(config)
}

fn read(path: &Path) -> Result<(ControllerConfig, Warnings), Failure> {
    if files::is_dash(path) {
        let message = "the configuration must be a file: relative paths in it start at its folder";
        return Err(Failure::because(Exit::Usage, message));
    }
    let text = files::read_text(path, "configuration", config::MAX_TEXT_BYTES as u64)?;
    Ok(ControllerConfig::load(&text, &path.display().to_string(), &|name| std::env::var(name).ok())?)
}
