//! Crash-safe files: a router's generations, a controller's register.
//!
//! `FORMAT.md` describes every byte of the identity store and argues why no crash can take the identity away; read it first.

pub mod disk;
pub mod register;
