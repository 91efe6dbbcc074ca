//! What reaches the driver from outside, in the machine's words.

use std::sync::Arc;

use lifecycle::ControllerId;
use lifecycle::renewal::{Cause, DialOutcome, Failure, Input};
use pki::{Chain, Expected, check_issued};
use serde_json::json;
use tokio::task::block_in_place;
use wire::extension::CertsResponse;

use super::{Driver, Incoming};
use crate::admin::{Answer, Ask, Command};
use crate::clock;
use crate::commit::chain_text;
use crate::control::{Applied, Order, Report};
use crate::events::EventKind;

/// What to make of a 20301.
enum Judged {
    /// For an attempt that is over, or for nobody.
    Stale(String),
    /// For the attempt, and of no use.
    Unacceptable(String),
    /// For the attempt, and good.
    Good(Box<pki::Issued>),
}

impl Driver {
    pub(super) fn hear(&mut self, message: Incoming) -> Option<Input> {
        match message {
            Incoming::Control { controller, report } => self.hear_controller(controller, report),
            Incoming::Admin(ask) => self.hear_admin(ask),
            Incoming::Enrollment(news) => {
                self.enrollment_news(news);
                None
            }
        }
    }

    fn hear_controller(&mut self, controller: ControllerId, report: Report) -> Option<Input> {
        // A line that was just dropped may still have had something to say.
        self.parts.directory.entry(&controller)?;
        match report {
            Report::Dialed { generation, outcome, peer, reason } => {
                let is_admitted = matches!(outcome, DialOutcome::Admitted { .. });
                self.refusals.dialed(clock::now(), &controller, generation, &outcome);
                match reason {
                    Some(reason) => {
                        // Once for each reason: every further try says only that it failed.
                        if self.troubles.get(&controller) != Some(&reason) {
                            tracing::warn!(target: "exuvia::router", %controller, %generation, "no control channel: {reason}");
                        }
                        self.troubles.insert(controller.clone(), reason);
                    }
                    None => drop(self.troubles.remove(&controller)),
                }
                if let (true, Some(peer)) = (is_admitted, peer) {
                    let twin = peer.id.as_deref().and_then(|id| self.parts.directory.announced(&controller, id));
                    let is_another_list = self.parts.directory.admitted(&controller, Some(&peer.at));
                    self.peers.insert(controller.clone(), peer);
                    if let Some(twin) = twin {
                        return Some(self.same_controller(&twin));
                    }
                    if is_another_list {
                        self.directory_changed();
                        self.queue.push_back(Input::Controllers(self.parts.directory.contacts()));
                    }
                } else if self.peers.is_empty() && self.parts.directory.fall_back() {
                    tracing::warn!(target: "exuvia::router", "no known controller can be reached: the configured addresses are tried too");
                    self.directory_changed();
                    self.queue.push_back(Input::Controllers(self.parts.directory.contacts()));
                }
                self.show_controllers();
                self.tell_if_locked_out(&controller);
                Some(Input::Dialed { controller, generation, outcome })
            }
            Report::Closed(reason) => {
                self.troubles.insert(controller.clone(), reason.to_string());
                self.peers.remove(&controller);
                self.parts.directory.closed(&controller);
                self.show_controllers();
                Some(Input::ChannelClosed { controller })
            }
            Report::Proved { generation, outcome } => Some(Input::Proved { controller, generation, outcome }),
            Report::Certs(certs) => self.hear_certs(&controller, &certs),
            Report::RequestRefused(answer) => {
                tracing::warn!(target: "exuvia::router", %controller, code = %answer.code, message = %answer.message, "the controller issues no leaves now");
                let number = self.parts.renewal.phase().attempt()?;
                Some(Input::IssueFailed { number, failure: Failure::RefusedByController })
            }
            Report::VerifyAnswered { number, answer, text } => {
                if !text.trim().is_empty() {
                    tracing::warn!(target: "exuvia::router", %controller, generation = %number, answer = %text, "20303 was not confirmed");
                }
                Some(Input::VerifyAnswered { controller, number, answer })
            }
            Report::Advice(window) => Some(Input::WindowAdvised(window)),
            Report::Addresses(update) => self.hear_addresses(&controller, &update),
            Report::Leads(index) => {
                self.parts.directory.leads(&controller, index);
                None
            }
            Report::Moved(address) => {
                let is_new = self.parts.directory.moved(&controller, &address);
                if is_new {
                    tracing::info!(target: "exuvia::router", %controller, %address, "the controller moves");
                    self.directory_changed();
                }
                None
            }
            Report::Opened { kind, generation } => {
                let (controller, generation) = (controller.to_string(), generation.map(|number| number.0));
                self.tell(EventKind::UnderlayOpened { controller, kind, generation });
                None
            }
            Report::Left { kind, is_by_us, reason } => {
                self.tell(EventKind::UnderlayClosed { controller: controller.to_string(), kind, is_by_us, reason });
                None
            }
        }
    }

    /// Once, when a controller has refused everything for so long that a person must look.
    fn tell_if_locked_out(&mut self, controller: &ControllerId) {
        let candidates = self.candidates();
        if self.refusals.newly_all_since(controller, &candidates).is_some()
            && let Some(found) = self.lock_out()
        {
            tracing::error!(target: "exuvia::router", %controller, hint = %found.hint, "{}", found.what);
        }
    }

    /// Two addresses turned out to be one controller: the line that came second goes.
    fn same_controller(&mut self, twin: &ControllerId) -> Input {
        tracing::info!(target: "exuvia::router", address = %twin, "another address of a controller that is connected already");
        self.peers.remove(twin);
        self.directory_changed();
        Input::Controllers(self.parts.directory.contacts())
    }

    fn hear_addresses(
        &mut self,
        controller: &ControllerId,
        update: &wire::control::UpdateCtrlAddresses,
    ) -> Option<Input> {
        let contacts = self.parts.renewal.contacts();
        let is_connected = |id: &ControllerId| contacts.get(id).is_some_and(|contact| contact.is_up());
        match self.parts.directory.apply(controller, update, is_connected) {
            Applied::Nothing => None,
            Applied::Empty => {
                let asked = self.parts.directory.leader().unwrap_or(controller).clone();
                self.parts.lines.order(&asked, Order::AskMembers);
                None
            }
            Applied::Changed { asks_leader } => {
                if let Some(leader) = asks_leader {
                    self.parts.lines.order(&leader, Order::AskMembers);
                }
                self.directory_changed();
                Some(Input::Controllers(self.parts.directory.contacts()))
            }
        }
    }

    /// Lines follow, and the endpoints file.
    fn directory_changed(&mut self) {
        let directory = &self.parts.directory;
        self.parts.lines.know(directory.entries());
        self.peers.retain(|contact, _| directory.entry(contact).is_some());
        self.troubles.retain(|contact, _| directory.entry(contact).is_some());
        if let Err(error) = block_in_place(|| directory.save()) {
            tracing::warn!(target: "exuvia::router", cause = %error, "the endpoints file could not be written; a restart uses the old addresses");
        }
        self.show_controllers();
    }

    /// What an inspection by a controller may see.
    fn show_controllers(&self) {
        let list: Vec<_> = self
            .parts
            .directory
            .entries()
            .iter()
            .map(|entry| {
                let peer = self.peers.get(&entry.contact);
                json!({
                    "controllerId": entry.id.as_deref().unwrap_or(entry.contact.as_str()),
                    "isConnected": peer.is_some(),
                    "version": peer.and_then(|peer| peer.version.clone()),
                    "endpoints": entry.addresses.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>(),
                })
            })
            .collect();
        self.parts.lines.show(&Arc::from(json!({ "controllers": list }).to_string()));
    }

    /// A 20301 carries no request id: the keys tell which attempt it belongs to.
    fn hear_certs(&mut self, controller: &ControllerId, certs: &CertsResponse) -> Option<Input> {
        let number = self.parts.custody.prepared().map(|keys| keys.number);
        let (number, judged) = match number {
            Some(number) => (number, self.judge(certs)),
            None => (lifecycle::GenerationNumber(0), Judged::Stale("no attempt is under way".to_owned())),
        };
        let issued = match judged {
            Judged::Good(issued) => issued,
            Judged::Stale(reason) => {
                self.tell(EventKind::StaleAnswer { controller: controller.to_string(), reason });
                return None;
            }
            Judged::Unacceptable(reason) => {
                tracing::error!(target: "exuvia::router", %controller, generation = %number, %reason, "the controller sent certificates that this router cannot use");
                return Some(Input::IssueFailed { number, failure: Failure::Unacceptable });
            }
        };
        let bundle = self.parts.custody.whole(self.parts.renewal.live())?.files.bundle.clone();
        let (client, server) = (certs.client_chain_pem.as_bytes(), certs.server_chain_pem.as_bytes());
        match self.parts.custody.lay_down(number, &issued, client, server, &bundle) {
            Ok(issued) => Some(Input::Issued { number, issued }),
            Err(error) => {
                tracing::error!(target: "exuvia::router", cause = %chain_text(&error), "the certificates that arrived cannot be kept");
                None
            }
        }
    }

    fn judge(&self, certs: &CertsResponse) -> Judged {
        let (Some(keys), Some(served)) =
            (self.parts.custody.prepared(), self.parts.custody.whole(self.parts.renewal.live()))
        else {
            return Judged::Stale("no attempt is under way".to_owned());
        };
        match Chain::from_pem(certs.client_chain_pem.as_bytes()) {
            Ok(chain) if chain.leaf().key_id() != keys.client.key_id() => {
                return Judged::Stale("they are for other keys than those of the attempt".to_owned());
            }
            Ok(chain) => {
                // With kept keys the leaf of an earlier attempt has the right key too; one that was admitted is no news.
                let fingerprint = chain.leaf().fingerprint();
                let known =
                    self.parts.renewal.manifest().candidates.iter().find(|c| c.client.fingerprint == fingerprint);
                if known.is_some_and(|candidate| candidate.first_admitted.is_some()) {
                    return Judged::Stale("this router has them already".to_owned());
                }
            }
            Err(error) => return Judged::Unacceptable(chain_text(&error)),
        }
        let hosts = self.hosts_to_keep(&served.files.server);
        let expected = Expected {
            router: &self.parts.settings.router,
            client_key: keys.client.key_id(),
            server_key: keys.server.key_id(),
            bundle: served.credentials.bundle(),
            hosts: &hosts,
        };
        match check_issued(certs.client_chain_pem.as_bytes(), certs.server_chain_pem.as_bytes(), &expected) {
            Ok(issued) => Judged::Good(Box::new(issued)),
            Err(error) => Judged::Unacceptable(chain_text(&error)),
        }
    }

    /// Names that we ask for and that the served leaf has: a renewal must not lose them. Names that it never had are no reason
    /// to refuse a leaf that keeps the router alive.
    fn hosts_to_keep(&self, server_pem: &[u8]) -> Vec<String> {
        let Ok(chain) = Chain::from_pem(server_pem) else { return Vec::new() };
        let had = chain.leaf().sans();
        let asked = &self.parts.settings.sans;
        let names = asked.dns.iter().filter(|name| had.dns.contains(name) && !name.contains('*')).cloned();
        let ips = asked.ips.iter().filter(|ip| had.ips.contains(ip)).map(ToString::to_string);
        names.chain(ips).collect()
    }

    fn hear_admin(&mut self, ask: Ask) -> Option<Input> {
        let Ask { command, reply } = ask;
        match command {
            Command::Status => {
                self.look_at_storage_for_somebody();
                // The asker may have hung up.
                let _ = reply.send(Answer::Status(Box::new(self.status())));
                None
            }
            Command::Renew => {
                let _ = reply.send(self.renew(Cause::Operator));
                None
            }
            Command::RenewUnlessRecent => {
                let _ = reply.send(self.renew(Cause::StartFlag));
                None
            }
            Command::Enroll { token, force } => {
                self.enroll(token, force, reply);
                None
            }
        }
    }

    fn renew(&mut self, cause: Cause) -> Answer {
        let before = self.parts.renewal.manifest().last_number;
        self.deferral = None;
        self.advance(Input::RenewAsked(cause));
        let after = self.parts.renewal.manifest().last_number;
        let wait = self.deferral.filter(|wait| !wait.is_zero());
        match (after > before, wait) {
            (true, _) => Answer::Began { generation: after.0 },
            (false, Some(wait)) => Answer::Deferred { wait_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) },
            (false, None) => {
                Answer::NotBegun { phase: self.parts.renewal.phase().name().to_string(), blocked: self.blocked() }
            }
        }
    }
}
