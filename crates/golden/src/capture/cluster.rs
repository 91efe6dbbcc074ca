//! Our router on a stock cluster of three, which loses its leader.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use netfault::proxy::{ControllerKeys, Path as Line, Proxy, StateFolder, Way};
use rig::{Exuvia, Router, Ziti, ZitiNetwork, ZitiNode, ZitiRouter, ZitiSettings};
use wire::content_type;

use super::{OURS, Outcome, if_it_comes, keep, stock_name, until};

const ELECTION: Duration = Duration::from_secs(40);

/// What the node says that leads afterwards.
pub(super) fn capture(ziti: &Ziti, exuvia: &Exuvia, home: &Path, into: &Path) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let settings = ZitiSettings { nodes: 3, is_behind_proxy: true, ..ZitiSettings::default() };
    let network = ZitiNetwork::laid_down(ziti, home, settings)?;
    let (mut gates, mut peers) = (Vec::new(), Vec::new());
    for (place, node) in network.nodes().iter().enumerate() {
        let proxy = runtime.block_on(Proxy::listen(node.ctrl_port()))?;
        let keys = Arc::new(ControllerKeys::from_folder(&node.home().join("pki"))?);
        proxy.carry(([127, 0, 0, 1], node.ctrl_listens()).into(), keys);
        // Controllers reach one another through the proxies, too, which do not look at what they say.
        let others = network.nodes().iter().enumerate().filter(|(other, _)| *other != place);
        peers.extend(others.map(|(other, node)| (other, proxy.add(Line::of_bytes(node.id())))));
        gates.push(proxy);
    }
    network.assemble(|_| {
        for (place, line) in &peers {
            if let Some(pid) = network.nodes().get(*place).and_then(ZitiNode::pid) {
                line.set_process(pid);
            }
        }
    })?;
    let cli = network.cli();
    let name = "edge-e";
    let jwt = cli.create_edge_router(name)?;
    let id = cli.edge_router(name)?.get("id").and_then(|id| id.as_str().map(str::to_owned)).context("no id")?;
    let files = ZitiRouter::edge(ziti, &home.join(name), name, network.ctrl_port())?;
    let router = Router::of_file(exuvia, files.config(), files.folder(), name, &id, &jwt)?;
    router.enroll()?.ok()?;
    let lines: Vec<_> =
        gates.iter().map(|gate| gate.add(Line::of_messages(&id, StateFolder(router.state())))).collect();
    for line in &lines {
        line.record();
    }
    let _running = router.online()?;
    for line in &lines {
        until(line, &[(Way::ToRouter, content_type::UPDATE_CTRL_ADDRESSES)])?;
    }
    let leader = network.leader().context("nobody leads")?;
    let old = leader.id().to_owned();
    leader.kill();
    let new = network.until_leader(|node| node.id() != old)?;
    let place = network.nodes().iter().position(|node| node.id() == new.id()).context("the leader is nobody")?;
    let line = lines.get(place).context("no way to the leader")?;
    until(line, &[(Way::ToRouter, content_type::HEARTBEAT)])?;
    let missing = if_it_comes(line, ELECTION, &[(Way::ToRouter, content_type::UPDATE_CLUSTER_LEADER)]);
    let name = format!("{}/stock-cluster-our-router", ziti.label());
    let told = keep(line, &name, &stock_name(ziti), OURS, into)?;
    Ok(if missing.is_empty() { told } else { format!("{told}; not seen: {}", missing.join(", ")) })
}
