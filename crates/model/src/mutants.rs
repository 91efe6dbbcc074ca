//! Programs that are wrong on purpose. The checker must refute every one of them.

use crate::scope::{Make, Mistake, Scope};

/// One of them: what it is called, where it is explored, and which claim it breaks.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What the report calls it.
    pub name: &'static str,
    /// Its bounds, with the mistake in it.
    pub scope: Scope,
}

const fn mutant(name: &'static str, mistake: Mistake, router: Make, controller: Make) -> Mutant {
    let scope = Scope {
        days: &[61, 62, 95],
        router_crashes: 1,
        controller_crashes: 1,
        power_cuts: true,
        doubles: false,
        breaks: false,
        attempts: 1,
        mistake: Some(mistake),
        ..Scope::new(name, router, controller)
    };
    Mutant { name, scope }
}

/// Every mutant.
pub const MUTANTS: &[Mutant] = &[
    mutant("verify before stage", Mistake::VerifyBeforeStage, Make::Exuvia, Make::Stock),
    mutant("promote before durable", Mistake::PromoteBeforeDurable, Make::Exuvia, Make::Stock),
    mutant("forget the new generation on a lost answer", Mistake::ForgetOnLostAnswer, Make::Exuvia, Make::Stock),
    Mutant {
        scope: Scope {
            restores: true,
            router_crashes: 0,
            controller_crashes: 0,
            ..mutant("", Mistake::EraseOnPromote, Make::Exuvia, Make::Stock).scope
        },
        name: "erase the old generation at once",
    },
    mutant("single fingerprint", Mistake::SingleFingerprint, Make::Stock, Make::Exuvia),
    mutant("20303 removes the older leaves at once", Mistake::ConfirmRemovesOld, Make::Stock, Make::Exuvia),
    mutant("answer before the commit", Mistake::AnswerBeforeCommit, Make::Stock, Make::Exuvia),
    Mutant {
        scope: Scope {
            re_enrolls: true,
            router_crashes: 0,
            ..mutant("", Mistake::EpochNotRechecked, Make::Exuvia, Make::Exuvia).scope
        },
        name: "epoch not re-checked",
    },
];
