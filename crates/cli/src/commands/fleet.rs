//! `exuvia fleet`: the routers of a controller, over its API.
//!
//! [`login`] decides whom to trust and leaves a [`session`] behind; every other command takes it up and asks through one
//! [`client`].

mod client;
mod events;
mod login;
mod orders;
mod reports;
mod session;
mod token;

use std::path::{Path, PathBuf};

use http::Uri;

pub(super) use self::client::encoded;
pub(super) use self::reports::printable;
pub(super) use self::session::Session;

use crate::args::{Fleet, FleetCommand};
use crate::exit::{Exit, Failure};
use crate::output::Printer;

/// Runs one command.
pub async fn run(printer: Printer, fleet: &Fleet) -> Result<(), Failure> {
    let file = session_file(fleet.session.as_deref())?;
    match &fleet.command {
        FleetCommand::Login(args) => login::login(printer, &file, args).await,
        FleetCommand::Logout => login::logout(printer, &file).await,
        FleetCommand::List(args) => reports::list(printer, &file, args).await,
        FleetCommand::Show(args) => reports::show(printer, &file, args).await,
        FleetCommand::Audit(args) => reports::audit(printer, &file, args).await,
        FleetCommand::Pipeline(args) => reports::pipeline(printer, &file, args).await,
        FleetCommand::Create(args) => orders::create(printer, &file, args).await,
        FleetCommand::ReEnroll(args) => orders::re_enroll(printer, &file, args).await,
        FleetCommand::Delete(args) => orders::delete(printer, &file, args).await,
        FleetCommand::Revoke(args) => orders::revoke(printer, &file, args).await,
        FleetCommand::Renew(args) => orders::renew(printer, &file, args).await,
        FleetCommand::Rekey(args) => orders::rekey(printer, &file, args).await,
        FleetCommand::Readmit(args) => orders::readmit(printer, &file, args).await,
        FleetCommand::Dismiss(args) => orders::dismiss(printer, &file, args).await,
        FleetCommand::Events(args) => events::events(printer, &file, args).await,
    }
}

/// Where the session is kept.
pub(super) fn session_file(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = || folder("XDG_STATE_HOME").or_else(|| Some(folder("HOME")?.join(".local/state")));
    named.map(Path::to_owned).or_else(|| Some(state()?.join("exuvia/session.json"))).ok_or_else(|| {
        Failure::because(Exit::Usage, "there is no place for the session: neither `XDG_STATE_HOME` nor `HOME` is set")
            .hint("name a file with `--session FILE`")
    })
}

/// The address of an API as people write it: `https://HOST[:PORT]`, or the same without `https://`.
pub fn parse_controller(text: &str) -> Result<String, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    if scheme != "https" {
        return Err(format!("`{scheme}` will not do: passwords travel over `https` only"));
    }
    let uri: Uri = format!("https://{rest}").parse().map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let authority = uri.authority().ok_or("it names no host")?;
    if !uri.path().trim_matches('/').is_empty() || uri.query().is_some() || authority.as_str().contains('@') {
        return Err("expected a host and a port and nothing else, such as `https://ctrl.example.org:1280`".to_owned());
    }
    if authority.host().trim_matches(['[', ']']).contains(':') && !authority.host().starts_with('[') {
        return Err("put an IPv6 address in brackets, such as `https://[::1]:1280`".to_owned());
    }
    Ok(format!("https://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::parse_controller;

    #[test]
    fn an_address_is_taken_with_or_without_its_scheme() {
        assert_eq!(parse_controller("ctrl:1280").as_deref(), Ok("https://ctrl:1280"));
        assert_eq!(parse_controller("https://ctrl:1280/").as_deref(), Ok("https://ctrl:1280"));
        assert_eq!(parse_controller("https://[::1]:1280").as_deref(), Ok("https://[::1]:1280"));
        for bad in ["http://ctrl:1280", "https://ctrl/edge", "https://me:secret@ctrl:1280", "::1", "https://", "a b"] {
            assert!(parse_controller(bad).is_err(), "{bad}");
        }
    }
}
