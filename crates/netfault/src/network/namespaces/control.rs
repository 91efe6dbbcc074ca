//! OpenZiti's rules on the same network: a reply that is lost one way must lock the router out.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use evidence::{Control, Evidence, Plan};
use rig::{Controller, ControllerSettings, Exuvia};

use super::fault::Fault;
use super::hosts::Hosts;
use crate::network::peers::{Flow, Habit, Identity, Restart, RouterModel, STOCK_LEAF_LIFE, StockController};
use crate::proxy::ControllerKeys;

/// For a controller that never hears of it; otherwise it is over sooner.
const LIVES: Duration = Duration::from_secs(4);
/// A router here waits 300 ms for an answer, and asks again every 350.
const GIVES_UP: Duration = Duration::from_millis(900);
const COMES_BACK: Duration = Duration::from_secs(60);
/// Lost from so many bytes before the end of an exchange on: the last packet, of about 110 bytes, is 20002. Signatures and bare
/// acknowledgements make exchanges a little longer or shorter.
const BEFORE_THE_END: [u32; 10] = [10, 25, 40, 55, 70, 85, 100, 115, 800, 2_000];

/// The pairs of rules, and what must be said of them.
const PAIRS: [(&str, Habit, bool); 2] = [
    ("openziti 2.1, verified extension (model), replies lost one way", Habit::WriteAfterAnswer, true),
    ("a router that keeps both leaves, openziti controller (model), replies lost one way", Habit::KeepBoth, false),
];

/// For each pair, how many bytes before the end it was locked out. Takes as long as its waits.
pub(super) fn judge_all(plan: &Plan) -> Result<Vec<Vec<u32>>> {
    std::thread::scope(|scope| {
        let judging: Vec<_> = PAIRS.iter().map(|(_, habit, _)| scope.spawn(|| judge(plan, *habit))).collect();
        let lost = || Err(anyhow!("a control panicked"));
        judging.into_iter().map(|judging| judging.join().unwrap_or_else(|_| lost())).collect()
    })
}

pub(super) fn report(judged: &[Vec<u32>], evidence: &mut Evidence) {
    for ((name, _, is_wrong), caught) in PAIRS.iter().zip(judged) {
        for before in BEFORE_THE_END {
            super::super::messages::count(evidence, name, "network: replies lost one way", caught.contains(&before));
        }
        evidence.controls.push(Control {
            name: (*name).to_owned(),
            is_wrong: *is_wrong,
            caught: caught.len() as u64,
            states: BEFORE_THE_END.len() as u64,
            example: caught.first().map(|before| {
                format!(
                    "the controller's packets are lost from {before} bytes before the end of the exchange on: it acts, the router does not \
                     hear of it, and is refused"
                )
            }),
        });
    }
}

/// Where it was locked out.
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
            let new = |name: &str| -> Result<RouterModel> {
                let identity = Identity::issued(name, &authority.issuer)?;
                stock.enroll(name, identity.client.leaf().fingerprint());
                Ok(RouterModel::new(name, habit, identity, authority.bundle.clone()))
            };
            let whole = routers.block_on(bytes_of_an_exchange(&hosts, &new("stock-whole")?, at))?;
            let mut caught = Vec::new();
            for before in BEFORE_THE_END {
                let name = format!("stock-{before}");
                let model = new(&name)?;
                if routers.block_on(is_locked_out(&hosts, &stock, &name, &model, whole.saturating_sub(before)))? {
                    caught.push(before);
                }
            }
            Ok(caught)
        });
        judging.join().map_err(|_| anyhow!("the control's router panicked"))?
    })?;
    Ok(caught)
}

/// What the controller sends from the request to 20002.
async fn bytes_of_an_exchange(hosts: &Hosts, model: &RouterModel, at: SocketAddr) -> Result<u32> {
    let put = RefCell::new(None);
    let patience = Duration::from_secs(60);
    let renewed = model.renew(at, patience, || *put.borrow_mut() = Some(Fault::Counted.put(hosts, at.port()))).await;
    ensure!(renewed, "the model does not renew on a free way");
    let put = put.into_inner().ok_or_else(|| anyhow!("the model was never connected"))??;
    let bytes = put.bytes()?;
    put.remove()?;
    Ok(u32::try_from(bytes)?)
}

async fn is_locked_out(
    hosts: &Hosts,
    stock: &StockController,
    name: &str,
    model: &RouterModel,
    after: u32,
) -> Result<bool> {
    let (at, put, first) = (stock.address(), RefCell::new(None), stock.admitted(name));
    let life = model.renew(at, Duration::from_secs(60), || {
        *put.borrow_mut() = Some(Fault::RepliesLostAfter(after).put(hosts, at.port()));
    });
    let has_acted = async {
        let began = tokio::time::Instant::now();
        // From the moment on which the fault is there.
        while put.borrow().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        while stock.admitted(name) == first && began.elapsed() < LIVES {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(GIVES_UP).await;
    };
    tokio::select! {
        _ = life => {}
        () = has_acted => {}
    }
    put.into_inner().ok_or_else(|| anyhow!("the model was never connected"))??.remove()?;
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
