//! What makes a generation whole, and what publishing one changes.

use net::credentials::{CredentialsError, Which};
use pki::Profile;

use crate::authority::{Authority, key, lasting};

#[test]
fn a_mixture_of_two_generations_is_no_credentials() {
    let authority = Authority::new();
    let (old, new) = (authority.generation("r1", &lasting(-60, 60)), authority.generation("r1", &lasting(-60, 60)));
    let mut mixed = authority.generation("r1", &lasting(-60, 60));
    mixed.client = old.client;
    assert!(matches!(mixed.load(1), Err(CredentialsError::KeyMismatch(Which::Client))));
    let mut mixed = authority.generation("r1", &lasting(-60, 60));
    mixed.server = new.server;
    assert!(matches!(mixed.load(1), Err(CredentialsError::KeyMismatch(Which::Server))));
}

#[test]
fn leaves_that_do_not_chain_to_the_bundle_are_no_credentials() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let mut generation = authority.generation("r1", &lasting(-60, 60));
    generation.bundle = foreign.bundle();
    assert!(matches!(generation.load(1), Err(CredentialsError::Untrusted { which: Which::Client, .. })));
    let mut generation = authority.generation("r1", &lasting(-60, 60));
    generation.server = foreign.leaf("r1", &generation.key, Profile::Server, &lasting(-60, 60));
    assert!(matches!(generation.load(1), Err(CredentialsError::Untrusted { which: Which::Server, .. })));
}

#[test]
fn an_expired_generation_still_loads_so_that_its_router_can_say_so() {
    let authority = Authority::new();
    for validity in [lasting(-7200, -3600), lasting(3600, 7200)] {
        let generation = authority.generation("r1", &validity);
        let credentials = generation.load(3).unwrap();
        assert_eq!(credentials.client_leaf().not_after.as_s(), validity.not_after.as_s());
    }
}

#[test]
fn no_key_shows_in_debug_output() {
    let authority = Authority::new();
    let generation = authority.generation("r1", &lasting(-60, 60));
    let shown = format!("{:?}", generation.load(1).unwrap());
    assert!(shown.contains("generation") && shown.len() < 600, "{shown}");
    drop(key());
}
