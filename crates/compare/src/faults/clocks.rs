//! Clocks that are wrong, that jump, or that were off.

use std::time::Duration;

use netfault::proxy::{Action, Message};

use crate::fault::{Act, Fault, Group, When};
use crate::stories;

/// Whatever tells a story of months has a controller for itself, whose clock goes along, and no renewal due at the beginning.
fn story(id: &'static str, what: &'static str, how: &'static str, act: Act) -> Fault {
    let mut fault = Fault::new(Group::Clock, id, what, how).alone().then(act);
    fault.is_due = false;
    fault
}

/// With a renewal due at the beginning.
fn due(fault: Fault) -> Fault {
    Fault { is_due: true, ..fault }
}

pub(super) fn all() -> Vec<Fault> {
    vec![
        story(
            "suspend",
            "suspended until five days before the leaf's end",
            "SIGSTOP; wall clocks of router and controller move on by the leaf's life less five days, timers do not; SIGCONT",
            Act::Story(stories::suspended),
        ),
        story(
            "clock-behind",
            "started with the clock of months ago, five days before the leaf's end; set right after 20 s",
            "the router's wall clock is behind the controller's by the leaf's life less five days",
            Act::Story(stories::behind),
        ),
        story(
            "clock-ahead",
            "started with a clock that says that the leaf has expired, five days before its end; set right after 20 s",
            "the router's wall clock is 30 days ahead of the controller's",
            Act::Story(stories::ahead),
        ),
        story(
            "clock-1970",
            "started in 1970, five days before the leaf's end; set right after 20 s",
            "the router's wall clock begins with 0",
            Act::Story(stories::in_1970),
        ),
        story(
            "expired",
            "off until a day after the leaf's end",
            "wall clocks of router and controller are moved before the router starts; no promise covers this: a leaf that has ended is admitted \
             by nobody, and an operator enrolls the router anew",
            Act::Story(stories::expired),
        ),
        due(story(
            "skew-behind",
            "the clock is 10 minutes behind the controller's",
            "the controller's wall clock moved on before the router starts",
            Act::Story(stories::skewed_behind),
        )),
        Fault::new(
            Group::Clock,
            "skew-ahead",
            "the clock is 10 minutes ahead of the controller's",
            "the router's wall clock moved on from its start on",
        )
        .when(When::Start)
        .then(Act::MoveClock(600)),
        due(story(
            "step-back",
            "the clock is set back by a day while 20301 is on its way",
            "both wall clocks begin a day ahead; 20301 held for 2 s; the router's is set back meanwhile",
            Act::Story(stories::set_back),
        ))
        .on(Message::Certs, Action::Delay(Duration::from_secs(2))),
    ]
}
