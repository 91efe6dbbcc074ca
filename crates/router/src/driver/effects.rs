//! Carrying out what the machine wants, one effect at a time, in order.

use std::sync::Arc;

use lifecycle::renewal::{DialOutcome, Effect, Event, Failure, Input};
use lifecycle::{ControllerId, GenerationNumber};
use net::credentials::Credentials;
use pki::{Chain, Subject, build_csr};
use tokio::task::block_in_place;
use wire::extension::ExtensionRequest;

use super::Driver;
use crate::clock;
use crate::commit::chain_text;
use crate::config::RouterKind;
use crate::control::Order;
use crate::events::{EventKind, failure_name};
use crate::paths::Finding;
use crate::status::AttemptOutcome;

/// Why no request can be made.
#[derive(Debug, thiserror::Error)]
enum RequestTrouble {
    #[error("the keys of generation `{0}` are not at hand")]
    NoKeys(GenerationNumber),
    #[error("the served generation is not at hand")]
    NotServed,
    #[error("the served client leaf cannot be read")]
    Chain(#[from] pki::ChainError),
    #[error("the request cannot be made; check `csr.sans` in the configuration")]
    Csr(#[from] pki::CsrError),
}

impl Driver {
    pub(super) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Dial { controller, generation } => match self.credentials(generation) {
                Some(credentials) => self.order(&controller, Order::Dial(credentials)),
                None => self.cannot_present(controller, generation),
            },
            Effect::Replace { controller, generation } => match self.credentials(generation) {
                Some(credentials) => self.order(&controller, Order::Replace(credentials)),
                None => self.cannot_present(controller, generation),
            },
            Effect::Prove { controller, generation } => {
                if let Some(credentials) = self.credentials(generation) {
                    self.order(&controller, Order::Prove(credentials));
                }
            }
            Effect::Request { controller, number, present } => self.request(&controller, number, present),
            Effect::Verify { controller, number } => self.verify(&controller, number),
            Effect::Publish(number) => {
                if let Some(credentials) = self.credentials(number) {
                    self.parts.slot.publish(credentials);
                    self.tell(EventKind::Published { generation: number.0 });
                }
            }
            Effect::Trim(number) => self.parts.lines.trim(number),
            // Not written blindly: somebody may have put another identity there. After a failure of the disk it can wait.
            Effect::Project(_) => {
                self.parts.paths.look_again();
                let input = self.look();
                self.queue.extend(input);
            }
            Effect::Erase(numbers) => {
                let custody = &mut self.parts.custody;
                if let Err(error) = block_in_place(|| custody.erase(&numbers)) {
                    tracing::warn!(target: "exuvia::router", cause = %chain_text(&error), "old keys stay until the next start sweeps them");
                }
            }
            Effect::Report(event) => self.note(event),
        }
    }

    fn credentials(&self, number: GenerationNumber) -> Option<Arc<Credentials>> {
        self.parts.custody.whole(number).map(|whole| whole.credentials.clone())
    }

    fn order(&self, controller: &ControllerId, order: Order) {
        if !self.parts.lines.order(controller, order) {
            tracing::debug!(%controller, "an order was lost: the line does not keep up");
        }
    }

    /// A candidate whose files cannot be used: its turn is over, the next one's comes.
    fn cannot_present(&mut self, controller: ControllerId, generation: GenerationNumber) {
        self.queue.push_back(Input::Dialed { controller, generation, outcome: DialOutcome::Refused });
    }

    fn request(&mut self, controller: &ControllerId, number: GenerationNumber, present: Option<GenerationNumber>) {
        let is_exuvia = self.peers.get(controller).is_some_and(|peer| peer.is_exuvia);
        let is_stock_transit = self.parts.settings.kind == RouterKind::Transit && !is_exuvia;
        if is_stock_transit && !self.parts.settings.allow_unverified {
            tracing::error!(
                target: "exuvia::router",
                %controller,
                "an OpenZiti controller cannot finish a safe renewal of a transit router: create this router as an edge router there, or accept \
                 with `exuvia: {{allowUnverified: true}}` that one lost reply locks it out"
            );
            self.queue.push_back(Input::IssueFailed { number, failure: Failure::Unsafe });
            return;
        }
        let request = match self.extension_request(number, !is_stock_transit) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(target: "exuvia::router", cause = %chain_text(&error), "no request for new leaves can be made");
                self.queue.push_back(Input::IssueFailed { number, failure: Failure::Unacceptable });
                return;
            }
        };
        match present {
            // A leaf that cannot be shown: the deadline ends this try.
            Some(number) if self.credentials(number).is_none() => {}
            Some(number) => self.order(controller, Order::Request { present: self.credentials(number), request }),
            None => self.order(controller, Order::Request { present: None, request }),
        }
    }

    /// CSRs for the keys of `number`: the subject of the served client leaf, the configured names.
    fn extension_request(
        &self,
        number: GenerationNumber,
        require_verification: bool,
    ) -> Result<ExtensionRequest, RequestTrouble> {
        let keys = self.parts.custody.prepared().filter(|keys| keys.number == number);
        let keys = keys.ok_or(RequestTrouble::NoKeys(number))?;
        let served = self.parts.custody.whole(self.parts.renewal.live()).ok_or(RequestTrouble::NotServed)?;
        let subject = Subject::of(Chain::from_pem(&served.files.client)?.leaf());
        let sans = &self.parts.settings.sans;
        Ok(ExtensionRequest {
            client_csr_pem: build_csr(&keys.client, &subject, sans)?,
            server_csr_pem: build_csr(&keys.server, &subject, sans)?,
            require_verification,
        })
    }

    fn verify(&self, controller: &ControllerId, number: GenerationNumber) {
        let Some(whole) = self.parts.custody.whole(number) else { return };
        let client_chain_pem = String::from_utf8_lossy(&whole.files.client).into_owned();
        self.order(controller, Order::Verify { number, client_chain_pem });
    }

    /// Keeps what an operator asks for later, and tells.
    fn note(&mut self, event: Event) {
        let at_ms = clock::wall().as_ms();
        match &event {
            Event::Promoted { number, .. } => {
                self.renewals += 1;
                self.last_proof_ms = Some(at_ms);
                self.last_outcome =
                    Some(AttemptOutcome { generation: number.0, at_ms, failure: None, retry_in_ms: None });
            }
            Event::AttemptFailed { number, failure, retry_in } => {
                self.failed_attempts += 1;
                self.last_outcome = Some(AttemptOutcome {
                    generation: number.0,
                    at_ms,
                    failure: Some(failure_name(*failure).to_owned()),
                    retry_in_ms: Some(u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX)),
                });
            }
            Event::AskDeferred { wait, .. } => self.deferral = Some(*wait),
            Event::Started(_)
            | Event::Connected { .. }
            | Event::Disconnected { .. }
            | Event::Refused { .. }
            | Event::AttemptBegan { .. }
            | Event::Requested { .. }
            | Event::Staged { .. }
            | Event::Proving { .. }
            | Event::OlderAdmitted { .. }
            | Event::Imported(_)
            | Event::Retired(_)
            | Event::Blocked(_)
            | Event::Lapsed
            | Event::Storage(_) => {}
        }
        // Whoever hears of it finds a status that agrees.
        self.show();
        self.tell(event.into());
    }

    /// What a look at the configured paths means to the machine.
    pub(super) fn found(&mut self, finding: Finding) -> Option<Input> {
        match finding {
            Finding::Nothing => None,
            Finding::Projected(record) => {
                if self.parts.renewal.manifest().projection != Some(record) {
                    self.tell(EventKind::Projected { generation: record.number.0 });
                }
                Some(Input::Projected(record))
            }
            Finding::Foreign(files) => {
                let number = self.parts.renewal.manifest().last_number.next();
                match self.parts.custody.lay_down_foreign(number, *files) {
                    Ok(issued) => Some(Input::Imported(issued)),
                    Err(error) => {
                        tracing::warn!(target: "exuvia::router", cause = %chain_text(&error), "the files at the configured paths are of no use");
                        None
                    }
                }
            }
        }
    }
}
