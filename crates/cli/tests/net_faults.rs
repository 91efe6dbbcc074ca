//! A sample of the layer `messages` on the program as this build made it: faults of messages and of bytes, and every router comes
//! online again on what its disk holds. The whole product is `cargo xtask proof --only messages`.
#![allow(clippy::panic, clippy::unwrap_used, reason = "the functions beside the tests fail a test this way")]

use std::path::Path;

use netfault::network::messages::{Scenario, Strike, sample};
use netfault::proxy::{Action, ByteRule, Message};

#[test]
fn no_lost_message_no_cut_handshake_and_no_black_hole_locks_a_router_out() {
    let home = tempfile::tempdir().unwrap();
    let exuvia = Path::new(env!("CARGO_BIN_EXE_exuvia"));
    let tried = sample(exuvia, home.path(), is_wanted).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(tried >= 20, "only {tried} scenarios");
}

/// Everything that is lost in a renewal, living on and killed, and a few cuts.
fn is_wanted(scenario: &Scenario) -> bool {
    match scenario.strike {
        Strike::Message(rule) => {
            let is_of_the_renewal = matches!(
                rule.message,
                Message::Request
                    | Message::Certs
                    | Message::Verify
                    | Message::Confirmation
                    | Message::ProofHello
                    | Message::ProofResult
            );
            is_of_the_renewal && rule.action == Action::Drop
        }
        Strike::Bytes { rule, on_a_new_connection } => {
            on_a_new_connection && matches!(rule, ByteRule::Lose(_) | ByteRule::CloseAfter(..))
        }
        Strike::Mixture(_) => false,
    }
}
