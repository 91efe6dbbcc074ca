//! Crash-safe files: a router's generations, a controller's register.
//!
//! `FORMAT.md` describes every byte of the identity store and argues why no crash can take the identity away; read it first. Then
//! [`identity::IdentityStore`]; [`disk`] is what it stands on.

pub mod disk;
mod error;
pub mod format;
pub mod generation;
pub mod identity;
pub mod import;
pub mod mode;
pub mod projection;

pub use error::{Refusal, StoreError};
pub mod register;
