//! Links between two stock routers. Our controller tells routers nothing of each other, so the proxy does it in its place; what is our
//! controller's is the answer to 1036, by which the accepting router decides.

use std::time::Duration;

use anyhow::{Context as _, Result};
use netfault::proxy::Way as Direction;
use rig::{Mark, Process};
use serde_json::json;
use wire::control::{LinkListener, PeerState, PeerStateChange, PeerStateChanges};

use super::host::{EDGE, Guest, Host, TRANSIT, last_words, said};
use crate::scenario::{Bench, Shown};

const LINKS_WITHIN: Duration = Duration::from_secs(45);

pub(super) fn verified(bench: &Bench) -> Result<Shown> {
    let host = Host::start(bench, "h", None)?;
    let (dialer, accepter) = (host.guest("dialer", EDGE)?, host.guest("accepter", TRANSIT)?);
    let accepting = host.online(&accepter, &[])?;
    let dialing = host.online(&dialer, &[])?;
    linked(&dialer, &accepter, &accepting)?;

    // With a leaf that was just extended, and used nowhere yet.
    host.kill(&dialer, dialing)?;
    let dialing = host.online(&dialer, &["--extend"])?;
    dialer.until_extended(&dialing)?;
    linked(&dialer, &accepter, &accepting)?;

    // Its process goes on without a control channel, and dials again when the link is gone.
    let path = format!("/api/v1/routers/{}/revoke", dialer.id);
    host.world.controller.ask("POST", &path, Some(&json!({})))?;
    host.kill(&accepter, accepting)?;
    let accepting = host.online(&accepter, &[])?;
    let refused = accepting.log().wait(Mark::default(), LINKS_WITHIN, |line| {
        let (_, reason) = line.text.split_once("unable to verify link [")?;
        Some(reason.split_once(']')?.0.to_owned())
    });
    let reason = refused.with_context(|| format!("nobody refuses the link: {}", last_words(&accepting)))?;
    drop(dialing);
    let line = "verified with the leaf of the enrollment and after an extension; refused once revoked";
    Ok(Shown::holds(format!("{line}: {reason}")))
}

/// Tells the dialer of the accepter, and waits until the accepter has had it verified.
fn linked(dialer: &Guest, accepter: &Guest, accepting: &Process) -> Result<()> {
    let mark = accepting.log().mark();
    dialer.way.slip_in(Direction::ToRouter, told_of(accepter)?);
    let verified = accepting.log().wait(mark, LINKS_WITHIN, |line| {
        (said(line).contains("successfully verified router for link") && line.text_of("routerId") == dialer.id)
            .then_some(())
    });
    verified.with_context(|| format!("no link: {}", last_words(accepting)))
}

/// What a controller says of a router that is connected.
fn told_of(guest: &Guest) -> Result<wire::Frame> {
    let text = std::fs::read_to_string(guest.router.config())?;
    let advertised = text.lines().find_map(|line| line.trim().strip_prefix("advertise:")).map(str::trim);
    let address = advertised.filter(|address| address.starts_with("tls:")).context("it takes no links")?.to_owned();
    let listener = LinkListener {
        address,
        protocol: "tls".to_owned(),
        groups: vec!["default".to_owned()],
        ..LinkListener::default()
    };
    let change = PeerStateChange {
        id: guest.id.clone(),
        version: "v2.1.0".to_owned(),
        state: PeerState::Healthy,
        listeners: vec![listener],
    };
    Ok(PeerStateChanges { changes: vec![change] }.to_frame())
}
