//! A router's record behind a desk where every commit succeeds, with made-up leaves.

use std::time::Duration;

use lifecycle::issuance::{
    Answer, Asked, Commit, EnrollmentKind, Epoch, Input, IssuancePolicy, NamesDigest, Record, Token, TokenId, Voucher,
};
use lifecycle::{Durable, Fingerprint, KeyId, Leaf, Now, RouterId, UnixTime, Uptime};

pub(crate) const HOUR_S: i64 = 3600;
pub(crate) const DAY_S: i64 = 86_400;
pub(crate) const LIFE_S: i64 = 90 * DAY_S;
/// Life of a token.
pub(crate) const TOKEN_S: i64 = 3 * HOUR_S;
/// The end of an issuer that limits nothing.
pub(crate) const FAR: UnixTime = UnixTime::from_s(1000 * LIFE_S);

pub(crate) fn at(s: i64) -> Now {
    Now { wall: UnixTime::from_s(s), uptime: Uptime::from_ms(u64::try_from(s).unwrap_or(0) * 1000) }
}

pub(crate) fn policy() -> IssuancePolicy {
    IssuancePolicy::for_leaf_life(Duration::from_secs(LIFE_S.unsigned_abs()))
}

fn mark(role: u8, n: u64) -> [u8; 32] {
    let mut mark = [role; 32];
    mark[24..].copy_from_slice(&n.to_be_bytes());
    mark
}

pub(crate) fn fingerprint(n: u64) -> Fingerprint {
    Fingerprint(mark(1, n))
}

/// Which leaf this is.
pub(crate) fn number(leaf: &Leaf) -> u64 {
    u64::from_be_bytes(leaf.fingerprint.0[24..].try_into().unwrap())
}

/// Client leaf `n` as a signer makes it at `born_s`.
pub(crate) fn leaf(n: u64, born_s: i64) -> Leaf {
    Leaf {
        fingerprint: fingerprint(n),
        key: KeyId(mark(3, n)),
        not_before: UnixTime::from_s(born_s),
        not_after: UnixTime::from_s(born_s + LIFE_S),
    }
}

/// The server leaf that is signed with client leaf `n`.
pub(crate) fn server(n: u64, born_s: i64) -> Leaf {
    Leaf { fingerprint: Fingerprint(mark(2, n)), ..leaf(n, born_s) }
}

/// A request with the keys `keys`, always for the same names.
pub(crate) fn asked(keys: u64) -> Asked {
    let key = KeyId(mark(3, keys));
    Asked { client_key: key, server_key: key, names: NamesDigest([1; 32]) }
}

/// Token `n`, made at `made_s`.
pub(crate) fn token(n: u8, made_s: i64) -> Token {
    Token {
        id: TokenId([n; 32]),
        kind: EnrollmentKind::Edge,
        expires: UnixTime::from_s(made_s + TOKEN_S),
        enrolled: None,
    }
}

pub(crate) fn token_id(n: u8) -> TokenId {
    TokenId([n; 32])
}

/// A record, what was committed last, and the time. Leaf `n` of a desk has the keys `n`, unless a test says otherwise.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) record: Record,
    pub(crate) now: Now,
    pub(crate) commit: Option<Commit>,
}

impl Desk {
    /// Waits for its enrollment with token 1.
    pub(crate) fn new() -> Self {
        Self { record: Record::new(RouterId::new("r1"), token(1, 0)), now: at(0), commit: None }
    }

    /// Enrolled with leaf 1, which was used.
    pub(crate) fn in_use() -> Self {
        let mut desk = Self::new();
        desk.enroll(1, 1, 1);
        assert!(desk.admits(1));
        desk
    }

    pub(crate) fn give(&mut self, input: Input) -> Answer {
        let (commit, held) = self.record.step(self.now, &policy(), input).split();
        if let Some(record) = commit.as_ref().and_then(|commit| commit.record.clone()) {
            self.record = record;
        }
        self.commit = commit;
        held.release(Durable::after_commit())
    }

    pub(crate) fn later(&mut self, s: i64) -> &mut Self {
        self.now = at(self.now_s() + s);
        self
    }

    pub(crate) fn now_s(&self) -> i64 {
        self.now.wall.as_s()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.record.epoch
    }

    /// An enrollment POST; a signer that is asked makes leaf `n`.
    pub(crate) fn enroll(&mut self, token: u8, keys: u64, n: u64) -> Answer {
        match self.give(enroll(token, keys)) {
            Answer::Sign => self.give(store_enrolled(token, keys, n, self.now_s())),
            answer => answer,
        }
    }

    /// A 20302; a signer that is asked makes leaf `n`.
    pub(crate) fn extend(&mut self, keys: u64, n: u64) -> Answer {
        match self.give(request(self.epoch(), keys)) {
            Answer::Sign => self.give(store(self.epoch(), keys, n, self.now_s())),
            answer => answer,
        }
    }

    /// A 20303.
    pub(crate) fn confirm(&mut self, n: u64) -> Answer {
        self.give(Input::Confirm { epoch: self.epoch(), fingerprint: fingerprint(n) })
    }

    /// 20302 and 20303 for leaf `n`, both answered.
    pub(crate) fn renew(&mut self, n: u64) -> &mut Self {
        assert!(matches!(self.extend(n, n), Answer::Send(_)));
        assert!(matches!(self.confirm(n), Answer::Confirmed(_)));
        self
    }

    /// A hello with leaf `n`, as the register knows it.
    pub(crate) fn hello(&mut self, n: u64) -> Answer {
        let born_s = self.record.leaf(fingerprint(n)).map_or(0, |leaf| leaf.client.not_before.as_s());
        self.give(Input::hello(leaf(n, born_s)))
    }

    pub(crate) fn admits(&mut self, n: u64) -> bool {
        matches!(self.hello(n), Answer::Admit(_))
    }

    /// The admitted set.
    pub(crate) fn set(&self) -> Vec<u64> {
        self.record.admitted(self.now, &policy()).map(|leaf| number(&leaf.client)).collect()
    }
}

/// What an operator names leaf `n` by.
pub(crate) fn voucher(n: u8) -> Voucher {
    let mut name = [5; 20];
    name[19] = n;
    Voucher(name)
}

/// A refused hello with leaf `n`, born at `born_s`, once more.
pub(crate) fn claim(n: u8, born_s: i64) -> Input {
    Input::Claim { leaf: leaf(u64::from(n), born_s), voucher: voucher(n) }
}

pub(crate) fn request(epoch: Epoch, keys: u64) -> Input {
    Input::Request { epoch, asked: asked(keys), issuer_not_after: FAR }
}

pub(crate) fn store(epoch: Epoch, keys: u64, n: u64, born_s: i64) -> Input {
    Input::Store { epoch, asked: asked(keys), client: leaf(n, born_s), server: server(n, born_s) }
}

pub(crate) fn enroll(token: u8, keys: u64) -> Input {
    Input::Enroll { token: token_id(token), kind: EnrollmentKind::Edge, asked: asked(keys) }
}

pub(crate) fn store_enrolled(token: u8, keys: u64, n: u64, born_s: i64) -> Input {
    Input::StoreEnrolled {
        token: token_id(token),
        asked: asked(keys),
        client: leaf(n, born_s),
        server: server(n, born_s),
    }
}
