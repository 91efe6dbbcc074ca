//! Processes that die, stand still or forget.

use std::time::Duration;

use netfault::proxy::{Action, Message};

use crate::fault::{Act, Fault, Goal, Group, Position, Traced, When};
use crate::stories;

const NOW: Duration = Duration::ZERO;
/// A message that is held back while something is done to its receiver.
const HELD: Action = Action::Delay(Duration::from_secs(2));

pub(super) fn all() -> Vec<Fault> {
    let mut all = routers();
    all.extend(controllers());
    all
}

fn routers() -> Vec<Fault> {
    let fault = |id, what, how| Fault::new(Group::Router, id, what, how);
    let at_change = |id, what, position| {
        fault(id, what, "our tracer; changes are counted in a rehearsal of the same pairing")
            .when(When::Change(position, Traced::Kill))
    };
    let killed = Act::KillRouter(NOW);
    vec![
        fault("kill-20302-lost", "killed as it asks; the request is lost", "20302 dropped by the proxy, kill -9")
            .on(Message::Request, Action::Drop)
            .then(killed),
        fault("kill-20302", "killed after the controller was asked", "20301 dropped, kill -9")
            .on(Message::Certs, Action::Drop)
            .then(killed),
        fault("kill-20301", "killed after it received the new certificates", "20303 dropped, kill -9")
            .on(Message::Verify, Action::Drop)
            .then(killed),
        fault("kill-20303", "killed after the controller received 20303", "20002 dropped, kill -9")
            .on(Message::Confirmation, Action::Drop)
            .then(killed),
        fault("kill-20002", "killed 3 ms after 20002 left for it", "kill -9 while it handles the answer")
            .on(Message::Confirmation, Action::Late(NOW))
            .then(Act::KillRouter(Duration::from_millis(3))),
        at_change("kill-change-first", "killed before the first change to its files", Position::First),
        at_change("kill-change-25", "killed before the change at a quarter", Position::Percent(25)),
        at_change("kill-change-50", "killed before the change in the middle", Position::Percent(50)),
        at_change("kill-change-75", "killed before the change at three quarters", Position::Percent(75)),
        at_change("kill-change-last", "killed before the last change to its files", Position::Last),
        fault("term-20303", "ended politely while 20002 is on its way", "20002 held for 2 s, SIGTERM")
            .on(Message::Confirmation, HELD)
            .then(Act::TerminateRouter),
        fault("stop-20303", "stands still for 60 s while 20002 is on its way", "20002 held for 2 s, SIGSTOP, SIGCONT")
            .on(Message::Confirmation, HELD)
            .then(Act::FreezeRouter)
            .lasting(60),
        crash_loop(),
    ]
}

fn crash_loop() -> Fault {
    let words = "a crash loop with `--extend` at every start";
    let how = "14 starts, each killed -9 between 0.6 and 3.2 s after it";
    let mut fault = Fault::new(Group::Router, "crash-loop", words, how);
    fault.flags = &["--extend"];
    fault.then(Act::Story(stories::crash_loop))
}

fn controllers() -> Vec<Fault> {
    let fault = |id, what, how| Fault::new(Group::Controller, id, what, how).alone();
    let mut restored = fault(
        "ctl-restored",
        "restored from a copy that is older than the renewal",
        "backup, renewal, restore; ours with its commands, the stock one by its data folder",
    )
    .then(Act::Story(stories::restored));
    restored.goal = Goal::Online;
    vec![
        fault("ctl-kill-20302", "killed as it is asked", "20302 dropped, controller killed -9, started after 5 s")
            .on(Message::Request, Action::Drop)
            .then(Act::KillController)
            .lasting(5),
        fault("ctl-kill-20301", "killed as it answers", "20301 dropped, controller killed -9, started after 5 s")
            .on(Message::Certs, Action::Drop)
            .then(Act::KillController)
            .lasting(5),
        fault(
            "ctl-kill-20303",
            "killed before 20303 reaches it",
            "20303 dropped, controller killed -9, started after 5 s",
        )
        .on(Message::Verify, Action::Drop)
        .then(Act::KillController)
        .lasting(5),
        fault(
            "ctl-kill-20002",
            "killed after it has committed",
            "20002 dropped, controller killed -9, started after 5 s",
        )
        .on(Message::Confirmation, Action::Drop)
        .then(Act::KillController)
        .lasting(5),
        fault(
            "ctl-stop-20303",
            "stands still for 45 s before it handles 20303",
            "20303 held for 2 s, SIGSTOP, SIGCONT",
        )
        .on(Message::Verify, HELD)
        .then(Act::FreezeController)
        .lasting(45),
        restored,
    ]
}
