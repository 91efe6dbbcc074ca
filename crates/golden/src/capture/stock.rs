//! A stock controller with stock routers, and with ours.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use netfault::proxy::{ControllerKeys, KeyFile, Path as Line, Proxy, StateFolder, Way};
use rig::{Exuvia, Router, Ziti, ZitiNetwork, ZitiRouter, ZitiSettings, free_port};
use wire::content_type;

use super::tap::Tap;
use super::{OURS, Outcome, if_it_comes, keep, stock_name, until};

const SOME_TIME: Duration = Duration::from_secs(20);
/// The index of the data model comes every 30 s.
const HALF_A_MINUTE: Duration = Duration::from_secs(35);

/// Three conversations with one controller: two stock routers, and ours.
pub(super) fn capture(ziti: &Ziti, exuvia: &Exuvia, home: &Path, into: &Path) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let settings = ZitiSettings { is_behind_proxy: true, ..ZitiSettings::default() };
    let network = ZitiNetwork::laid_down(ziti, home, settings)?;
    let node = network.node();
    let keys = Arc::new(ControllerKeys::from_folder(&node.home().join("pki"))?);
    let proxy = runtime.block_on(Proxy::listen(node.ctrl_port()))?;
    proxy.carry(([127, 0, 0, 1], node.ctrl_listens()).into(), keys.clone());
    let hidden = free_port()?;
    move_rest(&node.home().join("controller.yml"), node.api_port(), hidden)?;
    let tap = runtime.block_on(Tap::listen(node.api_port(), &keys, ([127, 0, 0, 1], hidden).into()))?;
    network.assemble(|_| ())?;
    let (label, stock) = (ziti.label(), stock_name(ziti));
    let cli = network.cli();
    let mut told = Vec::new();

    let mut stock_routers = Vec::new();
    for name in ["edge-a", "edge-b"] {
        let jwt = cli.create_edge_router(name)?;
        let router = ZitiRouter::edge(ziti, &home.join(name), name, node.ctrl_port())?;
        router.enroll(&jwt)?.ok()?;
        if name == "edge-a" {
            tap.keep_enrollment(&into.join(label).join("http"), "stock-controller-stock-router")?;
        }
        let line = proxy.add(Line::of_messages(router.id()?, KeyFile(router.key())));
        line.record();
        // The first one renews as soon as it is connected; the second one makes a link to it.
        let flags: &[&str] = if name == "edge-a" { &["--extend"] } else { &[] };
        let process = router.start(flags)?;
        until(&line, &[(Way::ToRouter, content_type::SERVER_HELLO), (Way::ToController, content_type::CLIENT_HELLO)])?;
        stock_routers.push((line, process));
    }
    let [(first, _first), (second, _second)] = stock_routers.as_slice() else { bail!("two routers were started") };
    until(
        first,
        &[
            (Way::ToController, content_type::EXTENSION_REQUEST),
            (Way::ToRouter, content_type::ENROLLMENT_CERTS),
            (Way::ToController, content_type::EXTENSION_VERIFY),
            (Way::ToRouter, content_type::ERROR),
            (Way::ToController, content_type::HEARTBEAT),
            (Way::ToRouter, content_type::HEARTBEAT),
        ],
    )?;
    // The model changes, and somebody looks inside; releases differ in what they send then.
    let orders: [&[&str]; 3] = [
        &["edge", "create", "service", "golden-service"],
        &["edge", "create", "identity", "golden-user"],
        &["fabric", "inspect", ".*", "links", "router-controllers"],
    ];
    for order in orders {
        let ran = cli.run(order)?;
        if ran.code != Some(0) {
            told.push(format!("`ziti {}` ended with {:?}", order.join(" "), ran.code));
        }
    }
    let wanted = [
        (Way::ToController, content_type::ROUTER_LINKS),
        (Way::ToRouter, content_type::PEER_STATE_CHANGE),
        (Way::ToRouter, content_type::INSPECT_REQUEST),
        (Way::ToRouter, content_type::DATA_STATE_CHANGE_SET),
    ];
    let mut missing = if_it_comes(first, SOME_TIME, &wanted);
    missing.extend(if_it_comes(first, HALF_A_MINUTE, &[(Way::ToRouter, content_type::CURRENT_INDEX)]));
    if !missing.is_empty() {
        told.push(format!("not seen: {}", missing.join(", ")));
    }
    told.push(keep(first, &format!("{label}/stock-controller-stock-router"), &stock, &stock, into)?);
    told.push(keep(second, &format!("{label}/stock-controller-second-stock-router"), &stock, &stock, into)?);

    let name = "edge-c";
    let jwt = cli.create_edge_router(name)?;
    let id = cli.edge_router(name)?.get("id").and_then(|id| id.as_str().map(str::to_owned)).context("no id")?;
    let files = ZitiRouter::edge(ziti, &home.join(name), name, node.ctrl_port())?;
    let router = Router::of_file(exuvia, files.config(), files.folder(), name, &id, &jwt)?;
    router.enroll()?.ok()?;
    tap.keep_enrollment(&into.join(label).join("http"), "stock-controller-our-router")?;
    let line = proxy.add(Line::of_messages(&id, StateFolder(router.state())));
    line.record();
    let running = router.online()?;
    until(&line, &[(Way::ToController, content_type::CLIENT_HELLO), (Way::ToRouter, content_type::HEARTBEAT)])?;
    running.renew()?;
    let beats = [(Way::ToController, content_type::HEARTBEAT), (Way::ToRouter, content_type::HEARTBEAT)];
    until(&line, &[&[(Way::ToRouter, content_type::ERROR)], &beats[..]].concat())?;
    told.push(keep(&line, &format!("{label}/stock-controller-our-router"), &stock, OURS, into)?);
    Ok(told.join("; "))
}

/// Has the REST interfaces listen elsewhere than they announce.
pub(super) fn move_rest(config: &Path, from: u16, to: u16) -> Result<()> {
    let text = fs::read_to_string(config)?;
    let mut moved = text.clone();
    for quote in ["", "\""] {
        let interface = |port| format!("interface: {quote}127.0.0.1:{port}{quote}\n");
        moved = moved.replace(&interface(from), &interface(to));
    }
    ensure!(moved != text, "`{}` names no listener at port {from}", config.display());
    Ok(fs::write(config, moved)?)
}
