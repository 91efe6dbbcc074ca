//! Messages that are lost, late, doubled, reordered or forged, and connections that are cut.

use std::time::Duration;

use netfault::proxy::{Action, ByteRule, Forgery, Message, Way};

use crate::fault::{Act, Fault, Goal, Group, When};
use crate::stories;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn fault(id: &'static str, what: &'static str, how: &'static str) -> Fault {
    Fault::new(Group::Network, id, what, how)
}

pub(super) fn all() -> Vec<Fault> {
    let mut all = lost_and_late();
    all.extend(doubled_and_forged());
    all.extend(cut());
    all.push(re_enrolled());
    all
}

fn lost_and_late() -> Vec<Fault> {
    let lost = |id, what, message| fault(id, what, "dropped once by the proxy").on(message, Action::Drop);
    let late = |id, what, message, by: u64| {
        fault(id, what, "held back by the proxy while everything else passes")
            .on(message, Action::Late(seconds(by)))
            .lasting(by)
    };
    vec![
        lost("lost-20302", "20302 (the request) is lost", Message::Request),
        lost("lost-20301", "20301 (the certificates) is lost", Message::Certs),
        lost("lost-20303", "20303 (`I have them`) is lost", Message::Verify),
        lost("lost-20002", "20002 (the answer to that) is lost", Message::Confirmation),
        late("late-20302", "20302 comes after 36 s, when the router has asked again", Message::Request, 36),
        late("late-20301", "20301 comes after 36 s: two renewals overlap", Message::Certs, 36),
        late("late-20303", "20303 comes after 32 s, when the router has given up", Message::Verify, 32),
        late("late-20002", "20002 comes after 32 s, when the router has given up", Message::Confirmation, 32),
    ]
}

fn doubled_and_forged() -> Vec<Fault> {
    let doubled = |id, what, message| fault(id, what, "sent twice by the proxy").on(message, Action::Duplicate);
    vec![
        doubled("double-20302", "20302 comes twice", Message::Request),
        doubled("double-20301", "20301 comes twice", Message::Certs),
        doubled("double-20303", "20303 comes twice", Message::Verify),
        doubled("double-20002", "20002 comes twice", Message::Confirmation),
        fault(
            "swap-20301",
            "20301 is overtaken by the next message",
            "held until the next one has passed, 5 s at most",
        )
        .on(Message::Certs, Action::SwapWithNext(seconds(5))),
        fault(
            "error-20002",
            "20303 is committed, but answered with VERIFY_ERROR",
            "the answer replaced by the one that a cluster gives when its commit takes too long",
        )
        .on(Message::Confirmation, Action::Forge(Forgery::VerifyError)),
    ]
}

fn cut() -> Vec<Fault> {
    let bytes = |id, what, rule| {
        // Of whom a connection is has to be looked up, which would slow down everybody who shares the proxy.
        let mut cut = fault(id, what, "every connection, for 30 s; TLS is not looked at").lasting(30).alone();
        cut.bytes = rule;
        cut
    };
    vec![
        fault("reset-20302", "connection reset after 20302 arrived", "TCP reset both ways")
            .on(Message::Request, Action::ResetAfter),
        fault("reset-20301", "connection reset instead of 20301", "TCP reset both ways")
            .on(Message::Certs, Action::ResetBefore),
        fault("close-20303", "connection closed after 20303 arrived", "TLS closed both ways")
            .on(Message::Verify, Action::CloseAfter),
        fault("reset-20002", "connection reset instead of 20002", "TCP reset both ways")
            .on(Message::Confirmation, Action::ResetBefore),
        bytes("cut-3k", "reset after 3,000 bytes to the router", ByteRule::ResetAfter(Way::ToRouter, 3_000)),
        bytes("cut-4k", "reset after 4,500 bytes to the router", ByteRule::ResetAfter(Way::ToRouter, 4_500)),
        bytes(
            "cut-up-3k",
            "closed after 3,500 bytes to the controller",
            ByteRule::CloseAfter(Way::ToController, 3_500),
        ),
        fault(
            "one-way",
            "for 60 s no answer reaches the router, while what it sends arrives",
            "20301, 20002, heartbeats, and Results of later hellos dropped",
        )
        .always(Message::Certs, Action::Drop, 0)
        .always(Message::Confirmation, Action::Drop, 0)
        .always(Message::HeartbeatDown, Action::Drop, 0)
        .always(Message::ProofResult, Action::Drop, 0)
        .always(Message::HelloResult, Action::Drop, 1)
        .lasting(60),
        fault(
            "one-way-20303",
            "the same from the answer to 20303 on",
            "20002, heartbeats, and Results of later hellos dropped",
        )
        .always(Message::Confirmation, Action::Drop, 0)
        .always(Message::HelloResult, Action::Drop, 1)
        .lasting(60),
    ]
}

fn re_enrolled() -> Fault {
    let mut fault = Fault::new(
        Group::Operator,
        "re-enroll",
        "re-enrolled while 20303 of the old identity is on its way",
        "20303 held for 15 s; meanwhile `re-enroll` and the router's own `enroll`; then the router is restarted",
    )
    .on(Message::Verify, Action::Late(seconds(15)))
    .when(When::Struck)
    .then(Act::Story(stories::re_enrolled));
    fault.goal = Goal::Online;
    fault
}
