//! Our controller with a stock router.

use std::fs;
use std::path::Path;

use netfault::network::world::World;
use netfault::proxy::{KeyFile, Path as Line, Way};
use rig::{Exuvia, Ziti, ZitiRouter, free_port};
use wire::content_type;

use super::stock::move_rest;
use super::tap::Tap;
use super::{OURS, Outcome, keep, stock_name, until};

/// One conversation, with a renewal at the start as `--extend` has it.
pub(super) fn capture(ziti: &Ziti, exuvia: &Exuvia, home: &Path, into: &Path) -> Outcome {
    let world = World::start(exuvia, home, None)?;
    let hidden = free_port()?;
    world.controller.stop()?;
    move_rest(&home.join("ctl/controller.yml"), world.controller.api_port(), hidden)?;
    let tap = Tap::listen(world.controller.api_port(), &world.authority, ([127, 0, 0, 1], hidden).into());
    let tap = world.runtime.block_on(tap)?;
    world.controller.run()?;
    let name = "edge-d";
    let (id, token) = world.controller.create(name)?;
    let jwt = home.join("edge-d.jwt");
    fs::write(&jwt, token)?;
    let router = ZitiRouter::edge(ziti, &home.join(name), name, world.controller.ctrl_port())?;
    router.enroll(&jwt)?.ok()?;
    tap.keep_enrollment(&into.join(ziti.label()).join("http"), "our-controller-stock-router")?;
    let line = world.proxy.add(Line::of_messages(&id, KeyFile(router.key())));
    line.record();
    let _process = router.start(&["--extend"])?;
    until(
        &line,
        &[
            (Way::ToController, content_type::CLIENT_HELLO),
            (Way::ToController, content_type::EXTENSION_REQUEST),
            (Way::ToRouter, content_type::ENROLLMENT_CERTS),
            (Way::ToController, content_type::EXTENSION_VERIFY),
            (Way::ToRouter, content_type::ERROR),
            (Way::ToController, content_type::HEARTBEAT),
            (Way::ToRouter, content_type::HEARTBEAT),
        ],
    )?;
    keep(&line, &format!("{}/our-controller-stock-router", ziti.label()), OURS, &stock_name(ziti), into)
}
