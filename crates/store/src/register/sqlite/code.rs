//! How values are spelled in the tables. Numbers never change their meaning.

use std::net::IpAddr;

use lifecycle::issuance::{EnrollmentKind, ForkVerdict, LeafStage, Standing};

use crate::register::error::RegisterError;

pub(super) fn kind_code(kind: EnrollmentKind) -> i64 {
    match kind {
        EnrollmentKind::Edge => 1,
        EnrollmentKind::Transit => 2,
    }
}

pub(super) fn kind_of(code: i64) -> Result<EnrollmentKind, String> {
    match code {
        1 => Ok(EnrollmentKind::Edge),
        2 => Ok(EnrollmentKind::Transit),
        _ => Err(format!("`{code}` is no kind of router")),
    }
}

pub(super) fn standing_code(standing: Standing) -> i64 {
    match standing {
        Standing::Active => 1,
        Standing::Disabled => 2,
        Standing::Revoked => 3,
    }
}

pub(super) fn standing_of(code: i64) -> Result<Standing, String> {
    match code {
        1 => Ok(Standing::Active),
        2 => Ok(Standing::Disabled),
        3 => Ok(Standing::Revoked),
        _ => Err(format!("`{code}` is no standing")),
    }
}

pub(super) fn stage_code(stage: LeafStage) -> i64 {
    match stage {
        LeafStage::Pending => 1,
        LeafStage::Confirmed => 2,
        LeafStage::Used => 3,
    }
}

pub(super) fn stage_of(code: i64) -> Result<LeafStage, String> {
    match code {
        1 => Ok(LeafStage::Pending),
        2 => Ok(LeafStage::Confirmed),
        3 => Ok(LeafStage::Used),
        _ => Err(format!("`{code}` is no stage of a leaf")),
    }
}

pub(super) fn verdict_code(verdict: ForkVerdict) -> i64 {
    match verdict {
        ForkVerdict::Frozen => 1,
        ForkVerdict::Refused => 2,
    }
}

pub(super) fn verdict_of(code: i64) -> Result<ForkVerdict, String> {
    match code {
        1 => Ok(ForkVerdict::Frozen),
        2 => Ok(ForkVerdict::Refused),
        _ => Err(format!("`{code}` is no verdict on a fork")),
    }
}

pub(super) fn address_text(address: Option<IpAddr>) -> Option<String> {
    address.map(|address| address.to_string())
}

pub(super) fn address_of(text: Option<&str>) -> Result<Option<IpAddr>, String> {
    text.map(|text| text.parse().map_err(|_| format!("`{text}` is no address"))).transpose()
}

pub(super) fn unsigned(number: i64) -> Result<u64, String> {
    u64::try_from(number).map_err(|_| format!("`{number}` is negative"))
}

/// SQLite's integers are signed; positions and epochs never come near the end of them.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn bytes<const N: usize>(blob: &[u8]) -> Result<[u8; N], String> {
    blob.try_into().map_err(|_| format!("{} bytes where {N} belong", blob.len()))
}

pub(super) fn read_failed(error: rusqlite::Error) -> RegisterError {
    RegisterError::ReadFailed { detail: error.to_string() }
}

pub(super) fn write_failed(error: rusqlite::Error) -> RegisterError {
    RegisterError::CommitFailed { detail: error.to_string() }
}
