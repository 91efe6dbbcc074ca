//! OpenZiti's rules on the same network: a reply that is lost one way must lock the router out.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use evidence::{Control, Evidence, Plan};
use rig::{Controller, ControllerSettings, Exuvia};

use super::fault::Fault;
use super::hosts::Hosts;
use crate::network::peers::{Flow, Habit, Identity, Restart, RouterModel, STOCK_LEAF_LIFE, StockController};
use crate::proxy::ControllerKeys;

/// The router asks again every 350 ms, and waits 300 ms for an answer.
const LIVES: Duration = Duration::from_millis(1_500);
const COMES_BACK: Duration = Duration::from_secs(60);
/// Lost from so many bytes of the controller on: before, within and behind the exchange.
const AFTER: [u32; 6] = [0, 900, 1_800, 2_700, 3_600, 4_500];

pub(super) fn run(plan: &Plan, evidence: &mut Evidence) -> Result<()> {
    for (name, habit, is_wrong) in [
        ("openziti 2.1, verified extension (model), replies lost one way", Habit::WriteAfterAnswer, true),
        ("a router that keeps both leaves, openziti controller (model), replies lost one way", Habit::KeepBoth, false),
    ] {
        let caught = std::thread::scope(|scope| {
            let judging = scope.spawn(|| judge(plan, habit));
            judging.join().map_err(|_| anyhow!("the control panicked"))?
        })?;
        for after in AFTER {
            super::super::messages::count(evidence, name, "network: replies lost one way", caught.contains(&after));
        }
        evidence.controls.push(Control {
            name: name.to_owned(),
            is_wrong,
            caught: caught.len() as u64,
            states: AFTER.len() as u64,
            example: caught.first().map(|after| {
                format!("the controller's packets are lost after {after} bytes: it acts, the router does not hear of it, and is refused")
            }),
        });
    }
    Ok(())
}

/// After how many bytes it was locked out.
fn judge(plan: &Plan, habit: Habit) -> Result<Vec<u32>> {
    let hosts = Hosts::new(match habit {
        Habit::KeepBoth => 90,
        Habit::WriteAfterAnswer | Habit::WriteOnReceipt => 91,
    })?;
    hosts.enter_the_controllers()?;
    let authority = authority(plan, &hosts, habit)?;
    // The runtime's threads are where this one is.
    let controllers = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let address = Ipv4Addr::new(10, 99, 0, 2);
    let starting = StockController::start_at((address, 0).into(), authority.clone(), Flow::Verified, STOCK_LEAF_LIFE);
    let stock = controllers.block_on(starting).context("the stock controller")?;
    let (at, entered) = (stock.address(), mpsc::channel());
    let caught = std::thread::scope(|scope| {
        let judging = scope.spawn(|| -> Result<Vec<u32>> {
            hosts.enter_the_routers()?;
            let _ = entered.0.send(());
            let routers = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let mut caught = Vec::new();
            for after in AFTER {
                let name = format!("stock-{after}");
                let identity = Identity::issued(&name, &authority.issuer)?;
                stock.enroll(&name, identity.client.leaf().fingerprint());
                let model = RouterModel::new(&name, habit, identity, authority.bundle.clone());
                if routers.block_on(is_locked_out(&hosts, &model, at, after))? {
                    caught.push(after);
                }
            }
            Ok(caught)
        });
        judging.join().map_err(|_| anyhow!("the control's router panicked"))?
    })?;
    Ok(caught)
}

async fn is_locked_out(hosts: &Hosts, model: &RouterModel, at: SocketAddr, after: u32) -> Result<bool> {
    let put = std::cell::RefCell::new(None);
    model
        .renew(at, LIVES, || {
            *put.borrow_mut() = Some(Fault::RepliesLostAfter(after).put(hosts, at.port()));
        })
        .await;
    put.into_inner().ok_or_else(|| anyhow!("the model does not come online"))??.remove()?;
    match model.restarted(at, COMES_BACK).await {
        Restart::Admitted => Ok(false),
        Restart::Refused => Ok(true),
        Restart::Unanswered => Err(anyhow!("nobody answers a router on a free way")),
    }
}

/// A controller's keys, made by the real program, with the address of this network in its server leaf.
fn authority(plan: &Plan, hosts: &Hosts, habit: Habit) -> Result<Arc<ControllerKeys>> {
    let home = plan.scratch.join(format!("namespaces-{habit:?}"));
    let exuvia = Exuvia::new(&plan.exuvia).through(hosts.in_the_controllers());
    let address = hosts.controller_address().to_owned();
    let settings = ControllerSettings { listen: address.clone(), address, ..ControllerSettings::default() };
    let controller = Controller::start(&exuvia, &home, settings)?;
    controller.stop()?;
    Ok(Arc::new(ControllerKeys::from_folder(&home.join("ctl/pki"))?))
}
