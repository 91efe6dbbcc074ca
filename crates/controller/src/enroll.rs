//! Trading requests for leaves: enrollment with a one-time token, and extension by a channel or over HTTPS.
//!
//! Both run the same three steps: let the register decide on what is asked, sign, let the register decide again on what
//! was signed. What is answered is what the register holds, so a repeated request gets the same bytes.

use std::sync::{Arc, PoisonError, RwLock};

use api::native::EventKind;
use aws_lc_rs::digest;
use lifecycle::RouterId;
use lifecycle::issuance::{
    Answer, EnrollmentKind, EnrollmentRefusal, Epoch, Input, LeafSeq, RequestRefusal, Token, TokenId,
};
use pki::{Certificate, CsrError, EnrollmentMethod, EnrollmentToken, PrivateKey, TokenError, Which};
use store::register::{Answered, Attachment, Chains, Register, RegisterError, Submission, TokenText};

use crate::clock::Clock;
use crate::dice::{self, NoRandomness};
use crate::fleet::Events;
use crate::metrics::{Metrics, Outcome};
use crate::signer::{Requests, Signer, SignerError};

/// Trades requests for leaves. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Enroller(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    register: Arc<dyn Register>,
    signer: Signer,
    clock: Clock,
    events: Events,
    metrics: Metrics,
    tokens: RwLock<Arc<TokenMint>>,
}

/// What tokens are made with.
#[derive(Debug)]
pub struct TokenMint {
    /// Key of the leaf that the API presents.
    pub key: PrivateKey,
    /// That leaf.
    pub certificate: Certificate,
    /// `https://` and the address of the API, as routers reach it.
    pub issuer: String,
    /// Control addresses (`tls:host:port`).
    pub controllers: Vec<String>,
}

/// An enrollment brought no leaves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrollError {
    // The router's.
    /// No such token, or it is spent, or its router is gone.
    #[error("the token is unknown or spent; ask the controller's operator for a new one")]
    InvalidToken,
    /// The token is for the other kind of router.
    #[error("the token is for the other kind of router")]
    WrongMethod,
    /// The token is past its expiry.
    #[error("the token has expired; ask the controller's operator for a new one")]
    Expired,
    /// A request is missing.
    #[error("the {0} request is missing")]
    MissingRequest(Which),
    /// The client request is for another router.
    #[error(transparent)]
    WrongRouter(CsrError),

    // Somebody else's.
    /// A request is refused, or nothing can be signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The register did not keep it.
    #[error(transparent)]
    Register(RegisterError),
}

/// An extension brought no leaves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// The register decided against it.
    #[error("{}", .0.reason())]
    Refused(RequestRefusal),
    /// The client request is for another router.
    #[error(transparent)]
    WrongRouter(CsrError),
    /// A request is refused, or nothing can be signed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The register did not keep it.
    #[error(transparent)]
    Register(RegisterError),
}

/// A token could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// No secret.
    #[error(transparent)]
    Secret(#[from] NoRandomness),
    /// No signature.
    #[error(transparent)]
    Sign(#[from] TokenError),
}

/// The id under which the register knows a token.
pub fn token_id(jti: &str) -> TokenId {
    let mut out = [0; 32];
    let hash = digest::digest(&digest::SHA256, jti.as_bytes());
    out.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    TokenId(out)
}

/// How often a request is signed for, where the register finds that the signature has become too old to be stored.
const SIGNATURES_MAX: usize = 3;

impl Enroller {
    /// An enroller.
    pub fn new(
        register: Arc<dyn Register>,
        signer: Signer,
        clock: Clock,
        events: Events,
        metrics: Metrics,
        tokens: TokenMint,
    ) -> Self {
        let tokens = RwLock::new(Arc::new(tokens));
        Self(Arc::new(Inner { register, signer, clock, events, metrics, tokens }))
    }

    /// The signer behind it.
    pub fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// Makes later tokens with another leaf of the API. Tokens made before no longer verify once the old leaf is gone.
    pub fn replace_mint(&self, tokens: TokenMint) {
        *self.0.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    /// A new one-time token for `router`, to be given to the register.
    ///
    /// # Errors
    /// [`MintError`].
    pub fn mint(&self, router: &RouterId, kind: EnrollmentKind) -> Result<(Token, TokenText), MintError> {
        let tokens = Arc::clone(&self.0.tokens.read().unwrap_or_else(PoisonError::into_inner));
        let jti = dice::uuid()?;
        let expires = self.0.clock.now().wall.plus(self.0.signer.policy().token_life);
        let text = EnrollmentToken {
            issuer: tokens.issuer.clone(),
            router: router.clone(),
            secret: jti.clone(),
            method: match kind {
                EnrollmentKind::Edge => EnrollmentMethod::EdgeRouter,
                EnrollmentKind::Transit => EnrollmentMethod::TransitRouter,
            },
            expires_at: expires,
            controllers: tokens.controllers.clone(),
        };
        let jwt = text.sign(&tokens.key, &tokens.certificate)?;
        Ok((Token { id: token_id(&jti), kind, expires, enrolled: None }, TokenText { jti, jwt }))
    }

    /// The leaves for an enrollment: signed now, or those that the same request got before.
    ///
    /// # Errors
    /// [`EnrollError`]. Nothing was handed out then, and the token is as good as before.
    pub async fn enroll(
        &self,
        jti: &str,
        kind: EnrollmentKind,
        client_pem: String,
        server_pem: String,
    ) -> Result<Chains, EnrollError> {
        let result = self.try_enroll(jti, kind, client_pem, server_pem).await;
        self.0.metrics.enrollment(match &result {
            Ok(_) => Outcome::Success,
            Err(EnrollError::Register(_) | EnrollError::Signer(SignerError::Stopping | SignerError::Issue(_))) => {
                Outcome::Failed
            }
            Err(_) => Outcome::Refused,
        });
        result
    }

    async fn try_enroll(
        &self,
        jti: &str,
        kind: EnrollmentKind,
        client_pem: String,
        server_pem: String,
    ) -> Result<Chains, EnrollError> {
        let inner = &self.0;
        let token = token_id(jti);
        let router = inner.register.find_token(token).await.map_err(EnrollError::Register)?;
        let router = router.ok_or(EnrollError::InvalidToken)?;
        if kind == EnrollmentKind::Edge {
            for (which, pem) in [(Which::Client, &client_pem), (Which::Server, &server_pem)] {
                if pem.trim().is_empty() {
                    return Err(EnrollError::MissingRequest(which));
                }
            }
        }
        let requests = inner.signer.check(client_pem, server_pem).await?;
        if kind == EnrollmentKind::Edge {
            requests.client().check_router(&router).map_err(EnrollError::WrongRouter)?;
        }
        let asked = requests.asked();
        let submit = |input, attachment| {
            let (now, policy) = (inner.clock.now(), inner.signer.policy());
            inner.register.submit(Submission::new(router.clone(), now, policy, input).with(attachment))
        };
        let begin = Input::Enroll { token, kind, asked };
        let mut answered = submit(begin, Attachment::Nothing).await.map_err(of_enrollment)?;
        for _ in 0..SIGNATURES_MAX {
            if answered.answer != Answer::Sign {
                break;
            }
            let signed = inner.signer.sign(inner.clock.now(), &router, &requests).await?;
            let (client, server) = (signed.client_leaf(), signed.server_leaf());
            let input = Input::StoreEnrolled { token, asked, client, server };
            answered = submit(input, Attachment::Chains(signed.chains())).await.map_err(of_enrollment)?;
        }
        match answered.answer {
            Answer::Send(seq) => {
                self.tell(EventKind::Enrolled, &router, seq, &answered);
                answered.chains.ok_or_else(|| EnrollError::Register(lost_chains(&router)))
            }
            Answer::RefuseEnrollment(refusal) => Err(match refusal {
                EnrollmentRefusal::InvalidToken | EnrollmentRefusal::Revoked => EnrollError::InvalidToken,
                EnrollmentRefusal::WrongKind => EnrollError::WrongMethod,
                EnrollmentRefusal::Expired => EnrollError::Expired,
            }),
            Answer::Sign => Err(EnrollError::Register(too_slow())),
            _ => Err(EnrollError::Register(lost_chains(&router))),
        }
    }

    /// The leaves for an extension: signed now, or those that the same request got before. `epoch` is that of the
    /// admission that the asker proved himself with.
    ///
    /// # Errors
    /// [`ExtendError`]. The leaves that the router has are as good as before.
    pub async fn extend(
        &self,
        router: &RouterId,
        epoch: Epoch,
        client_pem: String,
        server_pem: String,
    ) -> Result<Extended, ExtendError> {
        let result = self.try_extend(router, epoch, client_pem, server_pem).await;
        self.0.metrics.extension(match &result {
            Ok(_) => Outcome::Success,
            Err(ExtendError::Register(_) | ExtendError::Signer(SignerError::Stopping | SignerError::Issue(_))) => {
                Outcome::Failed
            }
            Err(_) => Outcome::Refused,
        });
        result
    }

    async fn try_extend(
        &self,
        router: &RouterId,
        epoch: Epoch,
        client_pem: String,
        server_pem: String,
    ) -> Result<Extended, ExtendError> {
        let inner = &self.0;
        let requests: Requests = inner.signer.check(client_pem, server_pem).await?;
        requests.client().check_router(router).map_err(ExtendError::WrongRouter)?;
        let asked = requests.asked();
        let submit = |input, attachment| {
            let (now, policy) = (inner.clock.now(), inner.signer.policy());
            inner.register.submit(Submission::new(router.clone(), now, policy, input).with(attachment))
        };
        let request = Input::Request { epoch, asked, issuer_not_after: inner.signer.not_after() };
        let mut answered = submit(request, Attachment::Nothing).await.map_err(ExtendError::Register)?;
        for _ in 0..SIGNATURES_MAX {
            if answered.answer != Answer::Sign {
                break;
            }
            let signed = inner.signer.sign(inner.clock.now(), router, &requests).await?;
            let (client, server) = (signed.client_leaf(), signed.server_leaf());
            let input = Input::Store { epoch, asked, client, server };
            answered = submit(input, Attachment::Chains(signed.chains())).await.map_err(ExtendError::Register)?;
        }
        match answered.answer {
            Answer::Send(seq) => {
                self.tell(EventKind::Issued, router, seq, &answered);
                let chains = answered.chains.ok_or_else(|| ExtendError::Register(lost_chains(router)))?;
                Ok(Extended { seq, chains, is_repeated: !answered.changed })
            }
            Answer::RefuseRequest(refusal) => {
                let detail = Some(refusal.reason().to_owned());
                inner.events.publish(inner.clock.now().wall, EventKind::RequestRefused, Some(router), None, detail);
                Err(ExtendError::Refused(refusal))
            }
            Answer::Sign => Err(ExtendError::Register(too_slow())),
            _ => Err(ExtendError::Register(lost_chains(router))),
        }
    }

    fn tell(&self, kind: EventKind, router: &RouterId, seq: LeafSeq, answered: &Answered) {
        if answered.changed {
            self.0.events.publish(self.0.clock.now().wall, kind, Some(router), Some(seq), None);
        }
    }
}

/// What an extension brought.
#[derive(Clone, Debug)]
pub struct Extended {
    /// Where the register keeps it.
    pub seq: LeafSeq,
    /// The leaves.
    pub chains: Chains,
    /// Did an earlier, identical request get the same?
    pub is_repeated: bool,
}

/// A router that was deleted since its token was found is as good as none.
fn of_enrollment(error: RegisterError) -> EnrollError {
    match error {
        RegisterError::UnknownRouter(_) => EnrollError::InvalidToken,
        error => EnrollError::Register(error),
    }
}

/// Each time, so much passed between the signature and its storing that a copy of the register could not be trusted with the leaf.
fn too_slow() -> RegisterError {
    RegisterError::CommitFailed {
        detail: "what was signed could not be stored in time; the clock may have jumped".to_owned(),
    }
}

/// The register's contract is to send chains with `Send`, and nothing but the answers to its own inputs.
fn lost_chains(router: &RouterId) -> RegisterError {
    RegisterError::DamagedRouter { router: router.clone(), what: "the chains of an issued leaf are missing".to_owned() }
}
