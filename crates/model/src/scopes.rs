//! The explorations that are run: who plays, and which faults are mixed. Each is exhaustive within its bounds.

use crate::scope::{Make, Scope};

/// No fault; every exploration adds its own.
const fn calm(name: &'static str, router: Make, controller: Make) -> Scope {
    Scope {
        router_crashes: 0,
        power_cuts: false,
        controller_crashes: 0,
        loses: false,
        doubles: false,
        breaks: false,
        ..Scope::new(name, router, controller)
    }
}

const A: Scope = calm("", Make::Exuvia, Make::Exuvia);
const B: Scope = calm("", Make::Exuvia, Make::Stock);
const C: Scope = calm("", Make::Stock, Make::Exuvia);
const D: Scope = calm("", Make::Stock, Make::Stock);

/// Everything that the issue asks for at once: two attempts, two deaths a side, three steps of the clock, four messages in flight, every kind of
/// fault, two controllers of which one lags; and no more than `faults` of them in all.
const fn together(name: &'static str, router: Make, controller: Make, faults: u8) -> Scope {
    Scope {
        nodes: 2,
        second_lags: true,
        days: DUE,
        attempts: 2,
        leaves: 3,
        in_flight: 4,
        router_crashes: 2,
        power_cuts: true,
        controller_crashes: 2,
        disk_failures: 1,
        loses: true,
        doubles: true,
        strays: true,
        breaks: true,
        revokes: true,
        re_enrolls: true,
        restores: true,
        clock_jumps: 1,
        faults: Some(faults),
        ..Scope::new(name, router, controller)
    }
}

/// Every kind of fault in one exploration, each where it hurts most, one in each history.
const fn everything(name: &'static str, router: Make, controller: Make) -> Scope {
    Scope {
        nodes: 1,
        second_lags: false,
        days: &[61, 62],
        attempts: 1,
        leaves: 2,
        ..together(name, router, controller, 1)
    }
}

/// From the day on which the renewal is due.
const DUE: &[u16] = &[61, 62, 95, 170];

/// Due, an overlap later, N expired.
const THREE: &[u16] = &[61, 62, 95];

/// What `cargo test` and CI explore of the first three pairings.
pub const SHORT: &[Scope] = &[
    Scope { name: "a1 router dies", attempts: 1, router_crashes: 2, power_cuts: true, days: THREE, ..A },
    Scope { name: "a2 controller dies", attempts: 1, controller_crashes: 2, days: THREE, ..A },
    Scope {
        name: "a3 both die",
        attempts: 1,
        router_crashes: 2,
        power_cuts: true,
        controller_crashes: 2,
        days: &[61],
        ..A
    },
    Scope {
        name: "a4 both die, losses",
        attempts: 1,
        loses: true,
        router_crashes: 1,
        power_cuts: true,
        controller_crashes: 1,
        days: &[61, 62],
        ..A
    },
    Scope { name: "a5 messages", attempts: 1, loses: true, doubles: true, breaks: true, days: &[61, 62], ..A },
    Scope { name: "a6 strays", attempts: 1, loses: true, strays: true, breaks: true, days: &[61, 62], ..A },
    Scope { name: "a7 two attempts", leaves: 2, loses: true, days: &[61], ..A },
    Scope { name: "a8 two attempts, death", router_crashes: 1, power_cuts: true, days: &[61], ..A },
    Scope { name: "a9 time", attempts: 1, loses: true, ..A },
    Scope { name: "a10 two controllers", attempts: 1, nodes: 2, second_lags: true, days: &[61, 62], ..A },
    Scope { name: "a11 operator", attempts: 1, leaves: 2, re_enrolls: true, revokes: true, days: &[61], ..A },
    Scope { name: "a12 restore", attempts: 1, leaves: 2, restores: true, days: &[61, 62], ..A },
    Scope { name: "a13 clock", attempts: 1, clock_jumps: 2, days: THREE, ..A },
    Scope {
        name: "a14 disk",
        attempts: 1,
        disk_failures: 2,
        router_crashes: 1,
        power_cuts: true,
        days: &[61, 62],
        ..A
    },
    Scope { name: "a15 same key", keeps_key: true, loses: true, days: &[61], ..A },
    everything("a16 everything, one fault", Make::Exuvia, Make::Exuvia),
    Scope { name: "b1 router dies", attempts: 1, leaves: 2, router_crashes: 2, power_cuts: true, days: &[61], ..B },
    Scope { name: "b2 controller dies", attempts: 1, leaves: 2, controller_crashes: 2, days: &[61], ..B },
    Scope {
        name: "b3 both die, losses",
        attempts: 1,
        leaves: 2,
        loses: true,
        router_crashes: 1,
        power_cuts: true,
        controller_crashes: 1,
        days: &[61],
        ..B
    },
    Scope { name: "b4 messages", attempts: 1, leaves: 2, loses: true, doubles: true, days: &[61], ..B },
    Scope { name: "b5 two attempts", leaves: 2, days: &[61], ..B },
    Scope { name: "b6 time", attempts: 1, leaves: 1, loses: true, days: DUE, ..B },
    Scope { name: "b7 two controllers", attempts: 1, leaves: 1, nodes: 2, days: &[61], ..B },
    Scope { name: "b8 restore", attempts: 1, leaves: 2, restores: true, days: &[61], ..B },
    Scope { name: "b9 no groups", attempts: 1, leaves: 2, is_grouped: false, days: &[61], ..B },
    Scope {
        name: "b10 both die",
        attempts: 1,
        leaves: 1,
        router_crashes: 2,
        power_cuts: true,
        controller_crashes: 2,
        days: &[61],
        ..B
    },
    Scope { leaves: 1, days: &[61], ..everything("b11 everything, one fault", Make::Exuvia, Make::Stock) },
    Scope { name: "b12 operator", attempts: 1, leaves: 2, re_enrolls: true, revokes: true, days: &[61], ..B },
    Scope { name: "b13 clock", attempts: 1, leaves: 1, clock_jumps: 1, days: &[61, 95], ..B },
    Scope {
        name: "b14 disk",
        attempts: 1,
        leaves: 1,
        disk_failures: 1,
        router_crashes: 1,
        power_cuts: true,
        days: &[61],
        ..B
    },
    Scope {
        name: "c1 both die",
        attempts: 1,
        router_crashes: 2,
        power_cuts: true,
        controller_crashes: 2,
        days: THREE,
        ..C
    },
    Scope { name: "c2 messages", attempts: 1, leaves: 1, loses: true, doubles: true, breaks: true, days: &[61], ..C },
    Scope {
        name: "c3 both die, losses",
        loses: true,
        router_crashes: 1,
        power_cuts: true,
        controller_crashes: 1,
        days: DUE,
        ..C
    },
    Scope { name: "c4 two controllers", nodes: 2, second_lags: true, days: DUE, ..C },
    Scope { name: "c5 operator", attempts: 1, leaves: 2, re_enrolls: true, revokes: true, days: &[61, 62], ..C },
    Scope { name: "c6 restore", attempts: 1, restores: true, days: &[61, 62, 95], ..C },
    Scope { name: "c7 clock", attempts: 2, loses: true, clock_jumps: 2, days: DUE, ..C },
    Scope {
        name: "c8 disk",
        disk_failures: 2,
        router_crashes: 1,
        power_cuts: true,
        controller_crashes: 1,
        days: DUE,
        ..C
    },
    everything("c9 everything, one fault", Make::Stock, Make::Exuvia),
];

/// Stock against stock, counted.
pub const STOCK: Scope =
    Scope { name: "d stock + stock", loses: true, router_crashes: 1, power_cuts: true, days: DUE, ..D };

/// What is explored at night, beside the short ones.
pub const LONG: &[Scope] = &[
    Scope {
        name: "A1 both die, later",
        attempts: 1,
        router_crashes: 2,
        power_cuts: true,
        controller_crashes: 2,
        days: &[61, 62],
        ..A
    },
    Scope { name: "A2 two attempts", loses: true, leaves: 2, days: THREE, ..A },
    Scope {
        name: "A3 two attempts, both die",
        leaves: 2,
        router_crashes: 1,
        power_cuts: true,
        controller_crashes: 1,
        days: &[61],
        ..A
    },
    Scope { name: "A4 messages", attempts: 1, loses: true, doubles: true, breaks: true, days: THREE, ..A },
    Scope {
        name: "B1 both die, losses",
        attempts: 1,
        leaves: 2,
        loses: true,
        router_crashes: 2,
        power_cuts: true,
        controller_crashes: 2,
        days: &[61],
        ..B
    },
    Scope { name: "B2 two attempts", leaves: 2, loses: true, days: &[61], ..B },
    Scope { name: "B3 two controllers", attempts: 1, leaves: 2, nodes: 2, days: &[61], ..B },
    Scope { name: "B4 time", attempts: 1, leaves: 2, loses: true, days: THREE, ..B },
    Scope {
        name: "C1 both die, losses",
        loses: true,
        router_crashes: 2,
        power_cuts: true,
        controller_crashes: 2,
        days: DUE,
        ..C
    },
    Scope { name: "C2 messages", attempts: 1, leaves: 2, loses: true, doubles: true, breaks: true, days: &[61], ..C },
    together("A5 together", Make::Exuvia, Make::Exuvia, 2),
    together("B5 together", Make::Exuvia, Make::Stock, 2),
    together("C3 together", Make::Stock, Make::Exuvia, 2),
];

/// Stock against stock, at night.
pub const STOCK_LONG: Scope = Scope {
    name: "D stock + stock",
    loses: true,
    router_crashes: 1,
    power_cuts: true,
    controller_crashes: 1,
    days: DUE,
    ..D
};
