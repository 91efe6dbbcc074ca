//! Our router on a stock controller: one, and a cluster of three.

mod channel;
mod cluster;
mod faults;
mod restored;
mod transit;

use crate::scenario::{Group, Scenario};

pub(super) fn group() -> Group {
    let scenarios = vec![
        Scenario::new(
            "enrolled-with-their-files",
            "enrolled with the JWT of `ziti edge create edge-router` and the unchanged file of `ziti create config router edge`, it is \
             listed as online",
            channel::enrolled_with_their_files,
        ),
        Scenario::new(
            "stays-connected",
            "it stays connected for a minute (ten in a long run): heartbeats, addresses, data model, inspections, and a Go \
             router that comes and goes, without a reconnect",
            channel::stays_connected,
        )
        .within(240, 780),
        Scenario::new(
            "renews-on-one-channel",
            "on their unchanged file it renews three times on one unbroken channel; the Go router's key is kept",
            channel::renews_on_one_channel,
        ),
        Scenario::new(
            "renews-with-new-keys",
            "with `rekey: always` it renews three times with new keys on one unbroken channel",
            channel::renews_with_new_keys,
        ),
        Scenario::new(
            "renews-without-groups",
            "where no further underlay can join a channel, it replaces the channel once, after the churn window, to prove the new leaf",
            channel::renews_without_groups,
        ),
        Scenario::new(
            "router-killed-at-every-message",
            "kill -9 of the router before and after every message of a renewal: started again, it is admitted and renews",
            faults::router_killed_at_every_message,
        )
        .within(420, 420),
        Scenario::new(
            "controller-killed-at-every-message",
            "kill -9 of the controller before and after every message of a renewal: started again, it admits the router, which renews",
            faults::controller_killed_at_every_message,
        )
        .within(600, 600),
        Scenario::new(
            "messages-lost",
            "each message of a renewal is lost, or the last one on its connection: the router renews without an operator",
            faults::messages_lost,
        )
        .within(900, 900),
        Scenario::new(
            "messages-doubled",
            "each message of a renewal arrives twice (20302 in a long run only: it costs ten minutes): the router renews without an operator",
            faults::messages_doubled,
        )
        .within(300, 1_500),
        Scenario::new(
            "messages-late",
            "20302, 20301, 20303 and 20002 arrive 36 s late, after OpenZiti's time-outs of 30 and 35 s (in a long run also with everything \
             behind them, which may cost ten minutes): the router renews without an operator",
            faults::messages_late,
        )
        .within(300, 1_500),
        Scenario::new(
            "cluster-renews",
            "on a cluster of three it is connected to every controller and renews, and every controller admits the new leaf",
            cluster::renews,
        )
        .within(300, 300),
        Scenario::new(
            "cluster-leader-changes",
            "the leader is killed, or hands over, while a renewal is under way: the router renews without an operator",
            cluster::leader_changes,
        )
        .within(600, 600),
        Scenario::new(
            "cluster-node-lags",
            "one of three controllers stands still or is cut off from the others during renewals and comes back: it admits the router again",
            cluster::node_lags,
        )
        .within(600, 600),
        Scenario::new(
            "controller-restored",
            "a controller is restored from a database from before two renewals: the router is admitted with the leaf that it admits, and \
             renews; where no leaf is left that it admits, log, `status` and `doctor` say what happened and how to mend it, and that works",
            restored::restored,
        )
        .within(300, 300),
        Scenario::new(
            "transit-is-refused",
            "a transit router, which cannot finish a verified extension, is told so with the safe choices, and asks for nothing",
            transit::is_refused,
        ),
        Scenario::new(
            "transit-unverified",
            "with `allowUnverified` a transit router renews by the unverified exchange",
            transit::renews_unverified,
        ),
        Scenario::new(
            "transit-becomes-edge",
            "the safe choice: registered anew as an edge router, the router of the same place enrolls and renews by the verified exchange",
            transit::becomes_edge,
        ),
    ];
    Group { id: "router-on-stock", title: "Our router on a stock controller", scenarios }
}
