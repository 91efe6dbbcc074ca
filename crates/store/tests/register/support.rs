//! Routers and leaves by number, and both backends behind one name.

use std::sync::Arc;
use std::time::Duration;

use lifecycle::issuance::{Answer, Asked, EnrollmentKind, Epoch, Input, IssuancePolicy, NamesDigest, Token, TokenId};
use lifecycle::{Fingerprint, KeyId, Leaf, Now, RouterId, UnixTime, Uptime};
use store::register::{
    Answered, Attachment, By, Chains, FirstIdentity, MemoryRegister, NewRouter, Register, RegisterError, RouterPatch,
    Sha1, SqliteRegister, Submission, TokenText,
};

pub(crate) const DAY: u64 = 86_400;

pub(crate) fn at(s: u64) -> Now {
    Now {
        wall: UnixTime::from_s(1_700_000_000 + i64::try_from(s).unwrap()),
        uptime: Uptime::from_ms(1_000_000 + s * 1000),
    }
}

pub(crate) fn policy() -> IssuancePolicy {
    IssuancePolicy::for_leaf_life(Duration::from_secs(90 * DAY))
}

fn bytes<const N: usize>(number: u64, salt: u8) -> [u8; N] {
    let mut out = [salt; N];
    out[..8].copy_from_slice(&number.to_be_bytes());
    out
}

pub(crate) fn id(router: u64) -> RouterId {
    RouterId::new(format!("router{router:05}"))
}

pub(crate) fn leaf(number: u64) -> Leaf {
    leaf_from(number, at(0).wall)
}

pub(crate) fn leaf_from(number: u64, not_before: UnixTime) -> Leaf {
    Leaf {
        fingerprint: Fingerprint(bytes(number, 1)),
        key: KeyId(bytes(number, 2)),
        not_before,
        not_after: not_before.plus(Duration::from_secs(90 * DAY)),
    }
}

pub(crate) fn server_leaf(number: u64) -> Leaf {
    Leaf { fingerprint: Fingerprint(bytes(number, 3)), ..leaf(number) }
}

pub(crate) fn asked(number: u64) -> Asked {
    Asked { client_key: KeyId(bytes(number, 2)), server_key: KeyId(bytes(number, 2)), names: NamesDigest(bytes(7, 4)) }
}

pub(crate) fn sha1(number: u64) -> Sha1 {
    Sha1(bytes(number, 5))
}

pub(crate) fn chains(number: u64) -> Chains {
    Chains {
        client_pem: Arc::from(format!("client {number} {}", "c".repeat(1500))),
        server_pem: Arc::from(format!("server {number} {}", "s".repeat(1500))),
        client_sha1: sha1(number),
    }
}

pub(crate) fn token(router: u64) -> Token {
    Token {
        id: TokenId(bytes(router, 6)),
        kind: if router.is_multiple_of(2) { EnrollmentKind::Edge } else { EnrollmentKind::Transit },
        expires: at(3 * 3600).wall,
        enrolled: None,
    }
}

pub(crate) fn token_text(router: u64) -> TokenText {
    TokenText { jti: format!("jti-{router}").into(), jwt: format!("ey.{router}.sig").into() }
}

pub(crate) fn new_router(router: u64) -> NewRouter {
    NewRouter {
        id: id(router),
        name: format!("Router {router}"),
        first: FirstIdentity::Enrolled { token: token(router), text: token_text(router) },
        settings: RouterPatch::default(),
    }
}

pub(crate) fn by(s: u64) -> By {
    By::admin(at(s), "alice")
}

pub(crate) fn submission(router: u64, s: u64, input: Input) -> Submission {
    Submission::new(id(router), at(s), policy(), input)
}

pub(crate) fn enroll(router: u64, number: u64) -> Submission {
    let input = Input::StoreEnrolled {
        token: token(router).id,
        asked: asked(number),
        client: leaf(number),
        server: server_leaf(number),
    };
    submission(router, 1, input).with(Attachment::Chains(chains(number)))
}

pub(crate) fn use_leaf(router: u64, number: u64, s: u64) -> Submission {
    submission(router, s, Input::hello(leaf(number)))
}

pub(crate) fn store_in(router: u64, number: u64, epoch: u64, s: u64) -> Submission {
    // Signed right before it is stored.
    let client = leaf_from(number, at(s).wall);
    let server = Leaf { fingerprint: server_leaf(number).fingerprint, ..client };
    let input = Input::Store { epoch: Epoch(epoch), asked: asked(number), client, server };
    submission(router, s, input).with(Attachment::Chains(chains(number)))
}

pub(crate) fn confirm(router: u64, number: u64, s: u64) -> Submission {
    submission(router, s, Input::Confirm { epoch: Epoch(1), fingerprint: leaf(number).fingerprint })
}

/// A router that exists and has used leaf `number`.
pub(crate) async fn enrolled(register: &dyn Register, router: u64, number: u64) {
    register.create_router(new_router(router), by(0)).await.unwrap();
    register.submit(enroll(router, number)).await.unwrap();
    let used = register.submit(use_leaf(router, number, 2)).await.unwrap();
    assert!(matches!(used.answer, Answer::Admit(_)), "{used:?}");
}

pub(crate) async fn events(register: &dyn Register, router: u64) -> Vec<(String, u64)> {
    let mut told = Vec::new();
    let mut query = store::register::AuditQuery { router: Some(id(router)), ascending: true, ..Default::default() };
    loop {
        let entries = register.audit(query.clone()).await.unwrap();
        let Some(last) = entries.last() else { return told };
        query.after = Some(last.seq);
        told.extend(entries.into_iter().map(|entry| (entry.event, entry.count)));
    }
}

pub(crate) fn send_of(answered: &Result<Answered, RegisterError>) -> u64 {
    match answered {
        Ok(Answered { answer: Answer::Send(seq), .. }) => seq.0,
        other => panic!("no leaves to send: {other:?}"),
    }
}

/// Both backends; what is true of one is true of the other.
pub(crate) struct Both {
    _folder: tempfile::TempDir,
    pub(crate) all: Vec<Box<dyn Register>>,
}

pub(crate) fn both() -> Both {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteRegister::create(&folder.path().join("register.db"), "instance", at(0).wall).unwrap();
    Both { _folder: folder, all: vec![Box::new(sqlite), Box::new(MemoryRegister::new("instance"))] }
}
