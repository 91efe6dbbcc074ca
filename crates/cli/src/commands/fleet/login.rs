//! Beginning and ending a session. Whom to trust is settled before the password leaves this machine.

use std::io::{self, IsTerminal};
use std::path::Path;

use api::envelope::Empty;
use api::ziti::{AuthenticateRequest, SessionView};
use api::{Operation, Secret, route};
use bytes::Bytes;
use http::Request;
use lifecycle::Fingerprint;
use net::http::HttpClient;
use net::tls::ServerTrust;
use pki::{Certificate, MAX_CERTIFICATES_PEM_BYTES, TrustBundle, decode_cacerts};

use super::client::{Client, NO_BODY};
use super::session::Session;
use crate::args::Login;
use crate::ask;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::output::Printer;
use crate::words;

/// `exuvia fleet login`.
pub(super) async fn login(printer: Printer, file: &Path, args: &Login) -> Result<(), Failure> {
    let place = Session::prepare(file)?;
    let bundle = trusted(printer, args).await?;
    let mut client = Client::new(&args.controller, &bundle)?;
    let password = ask::password(printer, &args.password, &format!("`{}`", args.username))?;
    let request = AuthenticateRequest { username: args.username.clone(), password: Secret::new(password.as_str()) };
    let begun: SessionView = client.one(Operation::Authenticate, "", &[("method", "password")], Some(&request)).await?;
    let session = Session::new(args.controller.clone(), args.username.clone(), bundle.to_pem(), begun.token.clone());
    session.store(place)?;
    printer.note(&format!(
        "logged in to {} as `{}`; the session ends after {} without use",
        args.controller,
        args.username,
        words::seconds(begun.expiration_seconds)
    ));
    Ok(())
}

/// `exuvia fleet logout`. The file goes even if the controller cannot be told: its session ends by itself.
pub(super) async fn logout(printer: Printer, file: &Path) -> Result<(), Failure> {
    let mut client = Client::of_session(file)?;
    let told = client.one::<Empty>(Operation::EndSession, "", &[], NO_BODY).await;
    std::fs::remove_file(file).map_err(|error| {
        Failure::new(Exit::Failed, anyhow::Error::new(error).context(format!("cannot remove `{}`", file.display())))
    })?;
    match told {
        Ok(_) => printer.note("logged out"),
        Err(failure) if failure.exit == Exit::Refused => printer.note("logged out; the session had ended already"),
        Err(failure) => {
            printer.failure(&failure.told);
            printer.warning("logged out here; at the controller the session ends once it is not used for a while");
        }
    }
    Ok(())
}

/// The CA certificates that the person vouches for.
async fn trusted(printer: Printer, args: &Login) -> Result<TrustBundle, Failure> {
    if let Some(path) = &args.ca {
        let text = files::read(path, "CA certificate", MAX_CERTIFICATES_PEM_BYTES as u64)?;
        return TrustBundle::from_pem(&text).map_err(|error| {
            Failure::new(Exit::Input, error)
                .context(format!("`{}` holds no CA certificates that can be trusted", path.display()))
                .hint("the file must hold certificates as PEM, `-----BEGIN CERTIFICATE-----`")
        });
    }
    let offered = offered(&args.controller).await?;
    match args.fingerprint {
        Some(wanted) => pinned(&offered, wanted),
        None => confirmed(printer, &args.controller, offered),
    }
}

/// What the server says its CA certificates are. Nobody vouches for it yet, and it is told nothing.
async fn offered(controller: &str) -> Result<TrustBundle, Failure> {
    let request = Request::get(format!("{controller}{}", route(Operation::CaCertificates).path))
        .body(Bytes::new())
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let answer = HttpClient::new(ServerTrust::learn()).send(request).await?;
    let not_ours = "is this the address of a controller's API? `--ca FILE` needs no such answer";
    if !answer.status.is_success() {
        let message = format!("{controller} hands out no CA certificates: HTTP status {}", answer.status.as_u16());
        return Err(Failure::because(Exit::Unreachable, message).hint(not_ours));
    }
    decode_cacerts(&answer.body).map_err(|error| {
        Failure::new(Exit::Unreachable, error)
            .context(format!("{controller} hands out no CA certificates"))
            .hint(not_ours)
    })
}

/// Only the certificate that the person named: whatever else is offered beside it proves nothing.
fn pinned(offered: &TrustBundle, wanted: Fingerprint) -> Result<TrustBundle, Failure> {
    let named: Vec<Certificate> =
        offered.certificates().iter().filter(|one| one.fingerprint() == wanted).cloned().collect();
    if named.is_empty() {
        let seen: Vec<String> = offered.certificates().iter().map(described).collect();
        let message =
            format!("none of the controller's CA certificates has the fingerprint {wanted}\n{}", seen.join("\n"));
        return Err(Failure::because(Exit::Unreachable, message)
            .hint("compare with the controller's own `ca` file; if it is right, somebody is in between"));
    }
    TrustBundle::new(named).map_err(|error| Failure::new(Exit::Input, error))
}

fn confirmed(printer: Printer, controller: &str, offered: TrustBundle) -> Result<TrustBundle, Failure> {
    let seen: Vec<String> = offered.certificates().iter().map(described).collect();
    let seen = format!("{controller} says that its CA certificates are:\n{}", seen.join("\n"));
    if !io::stdin().is_terminal() {
        return Err(Failure::because(Exit::Usage, format!("nobody vouches for the controller\n{seen}"))
            .hint("name its CA with `--ca FILE`, or with `--fingerprint SHA256` after comparing with the controller's `ca` file"));
    }
    printer.note(&seen);
    if ask::is_yes(printer, "Compare them with the controller's `ca` file. Are they the same?")? {
        Ok(offered)
    } else {
        Err(Failure::because(Exit::Failed, "not confirmed; nothing was sent"))
    }
}

fn described(certificate: &Certificate) -> String {
    let hex = certificate.fingerprint().to_string().to_uppercase();
    let pairs: Vec<String> = hex.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).into_owned()).collect();
    format!("  {}\n    SHA-256 {}", certificate.subject_text(), pairs.join(":"))
}
