//! The proof: a controller admits what a start would serve, and the configured files hold it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lifecycle::GenerationNumber;
use net::stop::{Stop, StopSignal};
use store::disk::RealDisk;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::RescueError;
use crate::admin::{Answer, Command};
use crate::config::{Rekey, RouterConfig};
use crate::doctor::read_served;
use crate::driver::Incoming;
use crate::extend::{UNFINISHED, admitting, ask, hurry, relay};
use crate::paths::ConfiguredPaths;
use crate::place;
use crate::run;
use crate::status::StatusView;

/// How often the configured files are compared while something is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is to be proved.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// Renew once it is admitted: a leaf is missing or over.
    pub renew: bool,
    /// The longest time for all of it.
    pub within: Duration,
}

/// What was proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The generation that a controller admitted, and that the configured files hold.
    pub generation: u64,
    /// Who admitted it.
    pub controller: String,
    /// Why the renewal that was wanted too did not come to its end.
    pub unrenewed: Option<String>,
}

/// Runs the router's own loop, without listeners, until a controller has admitted it and the configured files hold what was admitted.
///
/// # Errors
/// [`RescueError`]; everything that was durable before still is.
pub async fn prove(mut config: RouterConfig, proof: Proof, stopped: StopSignal) -> Result<Proven, RescueError> {
    let until = Instant::now() + proof.within;
    hurry(&mut config);
    if place::is_projected(&config) {
        // Whoever reads the files may start at any moment: every mixture of old and new ones must load.
        config.renewal.rekey = Rekey::Never;
    }
    let (stop, own) = Stop::new();
    let relaying = relay(stopped.clone(), stop.clone());
    let ready = timeout_at(until, run::prepare(config.clone(), false, own.clone())).await;
    let too_late =
        || RescueError::NotProven { within: proof.within, trouble: "another process has the identity".to_owned() };
    let ready = ready.map_err(|_| too_late())??.ok_or(RescueError::Stopped)?;
    let (mut status, sender) = (ready.status(), ready.sender());
    let serving = tokio::spawn(ready.serve(own));
    let mut waiting =
        Waiting { config: &config, proof, until, asked: None, again_at: None, longer: Duration::ZERO, trouble: None };
    let outcome = waiting.go(&mut status, &sender, &stopped).await;
    stop.stop();
    relaying.abort();
    // The end of the loop closes the channels and gives the lock back.
    let _ = serving.await;
    outcome
}

struct Waiting<'a> {
    config: &'a RouterConfig,
    proof: Proof,
    until: Instant,
    /// The generation of the renewal that was asked for last.
    asked: Option<u64>,
    again_at: Option<Instant>,
    /// What is begun is finished.
    longer: Duration,
    trouble: Option<String>,
}

impl Waiting<'_> {
    async fn go(
        &mut self,
        status: &mut watch::Receiver<Arc<StatusView>>,
        sender: &mpsc::Sender<Incoming>,
        stopped: &StopSignal,
    ) -> Result<Proven, RescueError> {
        loop {
            let now = status.borrow_and_update().clone();
            self.learn(&now);
            let is_admitted = admitted(&now);
            // What was begun is finished: a controller that was told of a newer leaf may know no other one afterwards.
            let is_settled = is_admitted && now.next_generation.is_none() && self.holds(&now);
            let is_late = Instant::now() >= self.until + self.longer;
            if is_settled && (!self.proof.renew || now.renewals > 0 || is_late) {
                let unrenewed = (self.proof.renew && now.renewals == 0)
                    .then(|| self.trouble.clone().unwrap_or_else(|| "no answer".to_owned()));
                let controller = admitting(&now, now.generation);
                return Ok(Proven { generation: now.generation, controller, unrenewed });
            }
            if stopped.is_stopped() {
                return Err(RescueError::Stopped);
            }
            if is_late {
                return Err(self.too_late(is_admitted, &now));
            }
            if is_settled && self.again_at.is_none_or(|at| at <= Instant::now()) {
                self.renew(sender).await?;
            }
            if let Ok(Err(_)) = timeout(LOOK_EVERY, status.changed()).await {
                return Err(RescueError::Stopped);
            }
        }
    }

    async fn renew(&mut self, sender: &mpsc::Sender<Incoming>) -> Result<(), RescueError> {
        let answer = ask(sender, Command::Renew).await.map_err(|_| RescueError::Stopped)?;
        match answer {
            Answer::Began { generation } => self.asked = Some(generation),
            Answer::NotBegun { blocked: Some(reason), .. } | Answer::Failed { error: reason, .. } => {
                self.trouble = Some(reason);
            }
            Answer::NotBegun { blocked: None, .. } | Answer::Deferred { .. } | Answer::Done | Answer::Status(_) => {}
        }
        // The next one is asked for when this one has failed, or been refused.
        self.again_at = Some(Instant::now() + Duration::from_secs(5));
        Ok(())
    }

    fn learn(&mut self, now: &StatusView) {
        if now.next_generation.is_some() {
            self.longer = UNFINISHED;
        }
        let failed = now.last_attempt.as_ref().filter(|last| self.asked.is_some_and(|asked| last.generation >= asked));
        if let Some(failure) = failed.and_then(|last| last.failure.as_ref()) {
            self.trouble = Some(failure.clone());
        }
        let of_controllers = now.controllers.iter().find_map(|controller| {
            controller.trouble.as_ref().map(|trouble| format!("{}: {trouble}", controller.name))
        });
        if of_controllers.is_some() {
            self.trouble = of_controllers;
        }
    }

    fn holds(&self, status: &StatusView) -> bool {
        if !place::is_projected(self.config) {
            return true;
        }
        tokio::task::block_in_place(|| {
            let served = read_served(Path::new(&status.state_folder), GenerationNumber(status.generation));
            let paths = ConfiguredPaths::new(&self.config.identity, true, false);
            served.is_some_and(|whole| paths.hold(&mut RealDisk, &whole.files))
        })
    }

    fn too_late(&self, is_admitted: bool, now: &StatusView) -> RescueError {
        if is_admitted {
            return RescueError::NotCopied { generation: now.generation };
        }
        let trouble = self.trouble.clone().unwrap_or_else(|| "no answer".to_owned());
        RescueError::NotProven { within: self.proof.within, trouble }
    }
}

/// Does a controller that is connected admit what is served?
fn admitted(status: &StatusView) -> bool {
    let mut controllers = status.controllers.iter();
    controllers.any(|controller| controller.is_connected && controller.admitted_generation == Some(status.generation))
}
