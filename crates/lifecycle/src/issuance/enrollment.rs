//! The first identity, from a one-time token. Token and router change in one transaction, and the same request repeated
//! after a lost answer gets the same leaves until the router's first admitted connection.

use super::{Answer, Asked, Audit, LeafSeq, Outcome, Record, Standing, changed, unchanged};
use crate::facts::{Leaf, Now, UnixTime};

/// SHA-256 of the token's text; the text itself never enters the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(pub [u8; 32]);

/// Which of OpenZiti's two router enrollments a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EnrollmentKind {
    /// `erott`: an edge router.
    Edge,
    /// `trott`: a transit router.
    Transit,
}

/// A one-time token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Which text it is.
    pub id: TokenId,
    /// What it is for.
    pub kind: EnrollmentKind,
    /// Last instant at which it may first be used.
    pub expires: UnixTime,
    /// Set by the first use: the leaves that it got.
    pub enrolled: Option<LeafSeq>,
}

/// Why an enrollment is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EnrollmentRefusal {
    /// No such token, or it is spent.
    InvalidToken,
    /// The token is for the other kind of router.
    WrongKind,
    /// The token is past its expiry.
    Expired,
    /// The router is revoked.
    Revoked,
}

impl Record {
    pub(super) fn enroll(&self, now: Now, token: super::TokenId, kind: EnrollmentKind, asked: Asked) -> Outcome {
        match self.open_token(now, token, asked) {
            Err(refusal) => refuse(refusal),
            Ok(held) if held.kind != kind => refuse(EnrollmentRefusal::WrongKind),
            Ok(Token { enrolled: Some(seq), .. }) => unchanged(Answer::Send(seq)),
            Ok(Token { enrolled: None, .. }) => unchanged(Answer::Sign),
        }
    }

    pub(super) fn store_enrolled(&self, now: Now, token: TokenId, asked: Asked, client: Leaf, server: Leaf) -> Outcome {
        let held = match self.open_token(now, token, asked) {
            Err(refusal) => return refuse(refusal),
            Ok(Token { enrolled: Some(seq), .. }) => return unchanged(Answer::Send(seq)),
            Ok(held) => held,
        };
        if Self::is_stale(now, &client) {
            return unchanged(Answer::Sign);
        }
        let (mut record, seq) = self.with_leaf(now, asked, client, server);
        record.token = Some(Token { enrolled: Some(seq), ..held });
        changed(record, Audit::Enrolled(seq), Answer::Send(seq))
    }

    /// The token, if this request may still use it: unused and unexpired, or used by the very same request before.
    fn open_token(&self, now: Now, token: TokenId, asked: Asked) -> Result<Token, EnrollmentRefusal> {
        if self.standing == Standing::Revoked {
            return Err(EnrollmentRefusal::Revoked);
        }
        let held = self.token.filter(|held| held.id == token).ok_or(EnrollmentRefusal::InvalidToken)?;
        match held.enrolled {
            Some(seq) if self.leaf_at(seq).is_some_and(|leaf| leaf.asked == asked) => Ok(held),
            Some(_) => Err(EnrollmentRefusal::InvalidToken),
            None if now.wall > held.expires => Err(EnrollmentRefusal::Expired),
            None => Ok(held),
        }
    }
}

fn refuse(refusal: EnrollmentRefusal) -> Outcome {
    unchanged(Answer::RefuseEnrollment(refusal))
}
