//! Where an arriving hello or frame becomes an input of `lifecycle::issuance`, goes through the register, and comes back as
//! frames. Nothing else in the controller does this for what arrives on control channels.
//!
//! | arrives | input | leaves |
//! |---|---|---|
//! | hello, its handshake finished | `Use`, and `Claim` if an operator vouched for a leaf | [`LetIn`], so that a Result with success may be written, or [`Refused`] |
//! | 20302 | `Request`, then `Store` (in [`Enroller::extend`]) | 20301 with what the register holds |
//! | 20303 | `Confirm` | 20002 |
//! | 1036 | none: link verification is no use of a leaf | Result |
//!
//! An answer of the register exists only once what it tells of is durable, so whatever is returned here may be sent at once.

use std::net::IpAddr;
use std::sync::Arc;

use api::native::EventKind;
use lifecycle::issuance::{
    AdmissionRefusal, Admitted, Answer, ConfirmRefusal, Epoch, Fork, ForkVerdict, Input, IssuedLeaf, LeafSeq,
    NamesDigest, Opening, RequestRefusal, Standing, Voucher,
};
use lifecycle::{Leaf, Now, RouterId, UnixTime};
use net::peer::PeerCertificates;
use pki::{Certificate, Chain, Usage, ValidationError, validate_chain};
use store::register::{Answered, Attachment, Chains, Register, RegisterError, Sha1, Submission};
use tokio::sync::Notify;
use wire::Frame;
use wire::control::VerifyRouter;
use wire::extension::{CertsResponse, ErrorAnswer, ExtensionRequest, ExtensionVerify, error_code};
use wire::hello::RefusalClass;
use wire::outcome::Outcome;

use crate::clock::Clock;
use crate::enroll::{Enroller, ExtendError};
use crate::fleet::Events;
use crate::metrics::{self, Metrics};
use crate::signer::SignerError;

/// What the register needs to be asked with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Driver {
    /// Decides, and keeps.
    pub register: Arc<dyn Register>,
    /// Signs for extensions; its bundle judges chains.
    pub enroller: Enroller,
    /// The time.
    pub clock: Clock,
    /// What happens.
    pub events: Events,
    /// What is counted.
    pub metrics: Metrics,
    /// The register came from a backup: leaves that it does not know may be proved, and then need their text.
    pub was_restored: bool,
    /// Told when the register could not write, so that whoever tends it looks at once.
    pub trouble: Arc<Notify>,
}

/// A hello that may be answered with success: the use of its leaf is durable.
#[derive(Clone, Debug)]
pub struct LetIn {
    /// Whom the handshake proved.
    pub router: RouterId,
    /// What the channel speaks for.
    pub admitted: Admitted,
    /// The leaf that was presented, as the register holds it.
    pub leaf: Option<IssuedLeaf>,
}

/// A hello that is not answered with success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub reason: String,
    /// What a peer of ours may be told; `None` before its chain was verified.
    pub class: Option<RefusalClass>,
}

impl Refused {
    fn unproven(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), class: None }
    }

    fn proven(reason: impl Into<String>, class: RefusalClass) -> Self {
        Self { reason: reason.into(), class: Some(class) }
    }
}

/// Why a 20302 brought no leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotExtended {
    /// One word for the router's machine.
    pub code: &'static str,
    /// A sentence for its log.
    pub message: String,
}

/// Codes of 20002 as the answer to a 20302. Ours: stock controllers keep silent, and so do we towards stock routers.
pub mod extension_code {
    /// A request cannot be used: unreadable, weak, for another router, or with a name that is not allowed.
    pub const INVALID_CSR: &str = "INVALID_CSR";
    /// The signing certificate ends too soon.
    pub const ISSUER_ENDS: &str = "ISSUER_ENDS";
    /// The controller could not do it now; the same request may be sent again.
    pub const UNAVAILABLE: &str = "UNAVAILABLE";
}

impl Driver {
    /// Decides on a hello whose TLS handshake has finished. `hello_id` is what it says, `peer` what it proved, `opens` what it would open.
    ///
    /// # Errors
    /// [`Refused`]; nothing may be said of it to a peer unless it has a class.
    pub async fn admit(&self, hello_id: &str, peer: &PeerCertificates, opens: Opening) -> Result<LetIn, Refused> {
        let now = self.clock.now();
        let (leaf, is_in_date) = self.proven_leaf(peer, now.wall).map_err(|error| {
            self.metrics.admission(metrics::Outcome::Refused, "the chain is not verified");
            Refused::unproven(error.to_string())
        })?;
        if leaf.cn() != Some(hello_id) {
            self.metrics.admission(metrics::Outcome::Refused, "the hello names another router");
            let said: String = hello_id.chars().take(80).flat_map(char::escape_default).collect();
            let reason = format!("the hello names `{said}`, the presented leaf is for `{}`", leaf.subject_text());
            return Err(Refused::proven(reason, RefusalClass::NotPermitted));
        }
        let router = RouterId::new(hello_id);
        let facts = leaf.facts();
        let attachment = if self.was_restored { chains_of(&leaf, peer) } else { Attachment::Nothing };
        let mut was_vouched_for = false;
        let mut answered = self.present(&router, now, Input::Use { leaf: facts, opens }, attachment).await?;
        if matches!(answered.answer, Answer::RefuseAdmission(_)) && answered.record.voucher.is_some() {
            let claim = Input::Claim { leaf: facts, voucher: Voucher(leaf.fingerprint_sha1().0) };
            answered = self.present(&router, now, claim, chains_of(&leaf, peer)).await?;
            was_vouched_for = answered.changed;
        }
        let fork = answered.record.fork.filter(|fork| answered.changed && fork.older == facts.fingerprint);
        if let Some(fork) = fork {
            self.alarm(&router, &fork);
        }
        match answered.answer {
            // A leaf out of its dates is only shown to the register so that the refusal is in the audit trail.
            Answer::Admit(admitted) if is_in_date => {
                let leaf = answered.record.leaf_at(admitted.seq).copied();
                if answered.changed && fork.is_none() {
                    let kind = if was_vouched_for { EventKind::Readmitted } else { first_use(leaf.as_ref()) };
                    self.events.publish(now.wall, kind, Some(&router), Some(admitted.seq), None);
                }
                self.metrics.admission(metrics::Outcome::Success, "admitted");
                Ok(LetIn { router, admitted, leaf })
            }
            Answer::RefuseAdmission(refusal) => Err(self.refused(&router, &facts, now.wall, refusal)),
            _ => Err(self.refused(&router, &facts, now.wall, out_of_date(&facts, now.wall))),
        }
    }

    async fn present(
        &self,
        router: &RouterId,
        now: Now,
        input: Input,
        attachment: Attachment,
    ) -> Result<Answered, Refused> {
        let submission = Submission::new(router.clone(), now, self.enroller.signer().policy(), input);
        match self.register.submit(submission.with(attachment)).await {
            Ok(answered) => Ok(answered),
            Err(RegisterError::UnknownRouter(_)) => {
                self.metrics.admission(metrics::Outcome::Refused, "no router has this id");
                Err(Refused::proven("no router has this id here", RefusalClass::NotPermitted))
            }
            Err(error) => {
                self.metrics.admission(metrics::Outcome::Failed, "the register did not answer");
                self.trouble.notify_one();
                tracing::warn!(%router, %error, "a router could not be admitted");
                Err(Refused::proven("the controller cannot decide now; try again", RefusalClass::Busy))
            }
        }
    }

    /// An older leaf came back after a newer one was used. Both addresses are named: an operator has to tell a crash from a copy.
    fn alarm(&self, router: &RouterId, fork: &Fork) {
        let text = |address: Option<IpAddr>| address.map_or("an unknown address".to_owned(), |at| at.to_string());
        let (older_from, newer_from) = (text(fork.older_from), text(fork.newer_from));
        let outcome = match fork.verdict {
            ForkVerdict::Frozen => "it was let in, and no leaf of this router is retired before its end",
            ForkVerdict::Refused => "it was refused",
        };
        let detail = format!(
            "leaf {} came back from {older_from} while newer leaf #{} is in use from {newer_from}: {outcome}. A router that crashed does this \
             once; a copied disk does it again",
            fork.older, fork.newer.0
        );
        tracing::warn!(%router, older = %fork.older, %older_from, %newer_from, outcome, "an older leaf of a router came back");
        self.metrics.fork(fork.verdict);
        self.events.publish(fork.at, EventKind::Alarm, Some(router), Some(fork.newer), Some(detail));
    }

    fn refused(&self, router: &RouterId, leaf: &Leaf, at: UnixTime, refusal: AdmissionRefusal) -> Refused {
        self.metrics.admission(metrics::Outcome::Refused, refusal.reason());
        let detail = format!("{}: {}", leaf.fingerprint, refusal.reason());
        self.events.publish(at, EventKind::Refused, Some(router), None, Some(detail));
        let reason = match refusal {
            AdmissionRefusal::Expired => expired_text(leaf, at),
            AdmissionRefusal::NotYetValid => {
                let ahead = leaf.not_before.since(at).as_secs();
                format!("the leaf begins {ahead} s from now by this controller's clock: compare the clocks")
            }
            other => other.reason().to_owned(),
        };
        Refused::proven(reason, RefusalClass::NotPermitted)
    }

    /// The leaf whose key the handshake proved, if its chain leads to our bundle, and whether all of it is valid now.
    /// One that fails by its own dates alone is judged at them: it cannot be admitted, but its holder may be told why.
    fn proven_leaf(&self, peer: &PeerCertificates, at: UnixTime) -> Result<(Certificate, bool), ValidationError> {
        let presented: Vec<_> = peer.iter().cloned().collect();
        let bundle = self.enroller.signer().bundle();
        let error = match validate_chain(&presented, bundle, at, Usage::Any) {
            Ok(leaf) => return Ok((leaf, true)),
            Err(error) => error,
        };
        let own_date = match &error {
            ValidationError::Expired { leaf_not_after, .. } => *leaf_not_after,
            ValidationError::NotYetValid { leaf_not_before, .. } => *leaf_not_before,
            _ => return Err(error),
        };
        match validate_chain(&presented, bundle, own_date, Usage::Any) {
            Ok(leaf) if leaf.facts().is_expired(at) || at < leaf.facts().not_before => Ok((leaf, false)),
            // An issuer is out of its dates, not the leaf: that is the operator's business, not the router's.
            _ => Err(error),
        }
    }

    /// A 20302 that came on a channel of `router` and `epoch`: the frame with the leaves that the register holds now.
    ///
    /// # Errors
    /// [`NotExtended`]. What the router has is as good as before.
    pub async fn extend(&self, router: &RouterId, epoch: Epoch, frame: &Frame) -> Result<Frame, NotExtended> {
        let request = ExtensionRequest::from_frame(frame)
            .map_err(|error| NotExtended { code: error_code::COULD_NOT_UNMARSHAL, message: error.to_string() })?;
        let extended = self.enroller.extend(router, epoch, request.client_csr_pem, request.server_csr_pem).await;
        let extended = extended.map_err(|error| {
            if matches!(&error, ExtendError::Register(_)) {
                self.trouble.notify_one();
            }
            tracing::warn!(%router, %error, "an extension was refused");
            NotExtended { code: code_of(&error), message: error.to_string() }
        })?;
        tracing::debug!(%router, leaf = extended.seq.0, repeated = extended.is_repeated, "an extension is answered");
        let certs = CertsResponse {
            client_chain_pem: extended.chains.client_pem.to_string(),
            server_chain_pem: extended.chains.server_pem.to_string(),
            // As stock controllers do.
            ca_pem: String::new(),
        };
        Ok(certs.to_frame())
    }

    /// A 20303 that came on a channel of `router` and `epoch`: the 20002 that answers it, to be sent as its reply.
    pub async fn confirm(&self, router: &RouterId, epoch: Epoch, frame: &Frame) -> ErrorAnswer {
        let result = self.try_confirm(router, epoch, frame).await;
        self.metrics.confirmation(match &result {
            Ok(_) => metrics::Outcome::Success,
            Err(answer) if answer.code == error_code::VERIFY_ERROR => metrics::Outcome::Failed,
            Err(_) => metrics::Outcome::Refused,
        });
        match result {
            Ok(_) => ErrorAnswer::success(),
            Err(answer) => {
                if answer.code == error_code::VERIFY_ERROR {
                    self.trouble.notify_one();
                }
                tracing::warn!(%router, code = answer.code, message = answer.message, "a confirmation was refused");
                answer
            }
        }
    }

    async fn try_confirm(&self, router: &RouterId, epoch: Epoch, frame: &Frame) -> Result<LeafSeq, ErrorAnswer> {
        let verify = ExtensionVerify::from_frame(frame)
            .map_err(|error| ErrorAnswer::failure(error_code::COULD_NOT_UNMARSHAL, error.to_string()))?;
        // Certificates are compared, not texts: a router may have rewritten the PEM.
        let chain = Chain::from_pem(verify.client_chain_pem.as_bytes())
            .map_err(|error| ErrorAnswer::failure(error_code::MISSING_CLIENT_PEM, error.to_string()))?;
        let now = self.clock.now();
        let input = Input::Confirm { epoch, fingerprint: chain.leaf().fingerprint() };
        let submission = Submission::new(router.clone(), now, self.enroller.signer().policy(), input);
        let answered = self.register.submit(submission).await.map_err(|error| match error {
            RegisterError::UnknownRouter(_) => ErrorAnswer::failure(error_code::ROUTER_NOT_FOUND, error.to_string()),
            error => ErrorAnswer::failure(error_code::VERIFY_ERROR, error.to_string()),
        })?;
        match answered.answer {
            Answer::Confirmed(seq) => {
                if answered.changed {
                    self.events.publish(now.wall, EventKind::Confirmed, Some(router), Some(seq), None);
                }
                Ok(seq)
            }
            Answer::RefuseConfirm(ConfirmRefusal::NotThatLeaf) => {
                let told = "this leaf does not wait for confirmation: it was replaced, or is another router's";
                Err(ErrorAnswer::failure(error_code::INVALID_CLIENT_PEM, told))
            }
            Answer::RefuseConfirm(ConfirmRefusal::NothingPending) => {
                Err(ErrorAnswer::failure(error_code::INVALID_ROUTER_STATE, "no leaf waits for confirmation"))
            }
            _ => {
                let told = "the router was enrolled anew, switched off or revoked since this channel was admitted";
                Err(ErrorAnswer::failure(error_code::INVALID_ROUTER_STATE, told))
            }
        }
    }

    /// A 1036: may the holder of one of these leaves be that router? Changes nothing.
    pub async fn verify_router(&self, frame: &Frame) -> Frame {
        let outcome = match VerifyRouter::from_frame(frame) {
            Ok(asked) => self.verified(&asked).await,
            Err(error) => Outcome::failure(error.to_string()),
        };
        outcome.to_reply(frame)
    }

    async fn verified(&self, asked: &VerifyRouter) -> Outcome {
        /// Nobody presents more.
        const FINGERPRINTS_MAX: usize = 16;
        let router = RouterId::new(asked.router_id.clone());
        let record = match self.register.record(router.clone()).await {
            Ok(Some(record)) => record,
            Ok(None) => return Outcome::failure(format!("no router has the id `{router}`")),
            Err(error) => return Outcome::failure(error.to_string()),
        };
        let (now, policy) = (self.clock.now(), self.enroller.signer().policy());
        let mut reason = match record.standing {
            // A revocation forgets the leaves, too.
            Standing::Revoked => AdmissionRefusal::Revoked.reason().to_owned(),
            Standing::Active | Standing::Disabled => "none of the presented leaves is the router's".to_owned(),
        };
        for text in asked.fingerprints.iter().take(FINGERPRINTS_MAX) {
            let Ok(sha1) = text.parse::<Sha1>() else { continue };
            let found = match self.register.find_leaf(sha1).await {
                Ok(found) => found,
                Err(error) => return Outcome::failure(error.to_string()),
            };
            for leaf in found.into_iter().filter(|leaf| leaf.router == router) {
                match record.check_link(now, &policy, leaf.fingerprint) {
                    Ok(()) => return Outcome::success(""),
                    Err(refusal) => reason = refusal.reason().to_owned(),
                }
            }
        }
        Outcome::failure(reason)
    }
}

fn first_use(leaf: Option<&IssuedLeaf>) -> EventKind {
    // A leaf that was adopted came with no request.
    match leaf {
        Some(leaf) if leaf.asked.names == NamesDigest([0; 32]) => EventKind::ReadmittedAfterRestore,
        _ => EventKind::FirstUse,
    }
}

fn out_of_date(leaf: &Leaf, at: UnixTime) -> AdmissionRefusal {
    if leaf.is_expired(at) { AdmissionRefusal::Expired } else { AdmissionRefusal::NotYetValid }
}

fn expired_text(leaf: &Leaf, at: UnixTime) -> String {
    let ago = at.since(leaf.not_after).as_secs();
    format!("the leaf expired {ago} s ago by this controller's clock; if the clocks agree, re-enroll the router")
}

/// What makes an adopted leaf known to link verification.
fn chains_of(leaf: &Certificate, peer: &PeerCertificates) -> Attachment {
    let mut client_pem = leaf.to_pem();
    for certificate in peer.intermediates() {
        if let Ok(certificate) = Certificate::from_der(certificate) {
            client_pem.push_str(&certificate.to_pem());
        }
    }
    Attachment::Chains(Chains {
        client_pem: client_pem.into(),
        server_pem: "".into(),
        client_sha1: Sha1(leaf.fingerprint_sha1().0),
    })
}

fn code_of(error: &ExtendError) -> &'static str {
    match error {
        ExtendError::Refused(RequestRefusal::IssuerEndsSoon) | ExtendError::Signer(SignerError::IssuerEnds(_)) => {
            extension_code::ISSUER_ENDS
        }
        ExtendError::Refused(_) => error_code::INVALID_ROUTER_STATE,
        ExtendError::WrongRouter(_) | ExtendError::Signer(SignerError::Csr { .. } | SignerError::San { .. }) => {
            extension_code::INVALID_CSR
        }
        ExtendError::Register(RegisterError::UnknownRouter(_)) => error_code::ROUTER_NOT_FOUND,
        ExtendError::Signer(SignerError::Issue(_) | SignerError::Stopping) | ExtendError::Register(_) => {
            extension_code::UNAVAILABLE
        }
    }
}
