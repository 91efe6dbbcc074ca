//! A machine in any phase, with made-up leaves.

use std::time::Duration;

use lifecycle::manifest::{AttemptRecord, Candidate, Manifest, Origin};
use lifecycle::policy::Policy;
use lifecycle::recovery::{Found, recover};
use lifecycle::renewal::{Barrier, DialOutcome, Effect, Input, Issued, PhaseName, Renewal, Storage, VerifyAnswer};
use lifecycle::{ControllerId, Digest, Fingerprint, GenerationNumber, KeyId, Leaf, Now, UnixTime, Uptime};

pub(crate) const DAY_S: i64 = 86_400;
pub(crate) const LIFE_S: i64 = 90 * DAY_S;

pub(crate) fn at(s: i64) -> Now {
    Now { wall: UnixTime::from_s(s), uptime: Uptime::from_ms(u64::try_from(s * 1000).unwrap()) }
}

pub(crate) fn controller() -> ControllerId {
    ControllerId::new("ctrl-1")
}

pub(crate) fn number(n: u64) -> GenerationNumber {
    GenerationNumber(n)
}

/// The leaf that a signer makes at `born_s`.
pub(crate) fn leaf(n: u64, role: u8, born_s: i64, life_s: i64) -> Leaf {
    let mut mark = [0; 32];
    mark[0] = role;
    mark[24..].copy_from_slice(&n.to_be_bytes());
    Leaf {
        fingerprint: Fingerprint(mark),
        key: KeyId(mark),
        not_before: UnixTime::from_s(born_s),
        not_after: UnixTime::from_s(born_s + life_s),
    }
}

pub(crate) fn issued(n: u64, born_s: i64) -> Issued {
    Issued {
        client: leaf(n, 1, born_s, LIFE_S),
        server: leaf(n, 2, born_s, LIFE_S),
        digest: Digest([n.to_be_bytes()[7]; 32]),
    }
}

pub(crate) fn candidate(n: u64, born_s: i64, admitted: bool) -> Candidate {
    let Issued { client, server, digest } = issued(n, born_s);
    Candidate {
        number: number(n),
        digest,
        client,
        server,
        origin: Origin::Renewed,
        verify_sent: admitted,
        first_admitted: admitted.then(|| UnixTime::from_s(born_s)),
        staged_at: UnixTime::from_s(born_s),
        jitter: 32_768,
    }
}

pub(crate) fn found(candidates: Vec<Candidate>) -> Found {
    let last_number = candidates.last().map(|c| c.number).unwrap_or_default();
    let attempt = Some(AttemptRecord { number: last_number, began: UnixTime::from_s(0), failures: 0 });
    let manifest = Manifest { candidates, last_number, attempt, projection: None };
    Found { manifest, prepared: None, storage: Storage::Writable }
}

/// A machine with what it did last; every barrier succeeds, and the disk remembers.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) machine: Renewal,
    pub(crate) now: Now,
    pub(crate) disk: Manifest,
    pub(crate) effects: Vec<Effect>,
    pub(crate) barrier: Option<&'static str>,
    /// How often in a row it asked to be woken at once.
    idle: u32,
}

impl Bench {
    pub(crate) fn new(now: Now, found: Found) -> Self {
        let disk = found.manifest.clone();
        let machine = recover(now, Policy::default(), found).expect("there are candidates");
        let mut bench = Self { machine, now, disk, effects: vec![], barrier: None, idle: 0 };
        bench.give(Input::Started { controllers: vec![controller()] });
        // A machine that restarts with an unproven generation writes the manifest again before it dials.
        let unproven = bench.disk.candidates.last().is_some_and(|newest| newest.first_admitted.is_none());
        if unproven {
            bench.tick();
            assert_eq!((bench.barrier, bench.effects.len()), (Some("MANIFEST"), 0));
        }
        bench
    }

    /// One input, one step, settled.
    pub(crate) fn give(&mut self, input: Input) -> &mut Self {
        let (machine, step) = self.machine.clone().step(self.now, input);
        self.machine = machine;
        self.barrier = step.barrier().map(name);
        let mut written = None;
        self.effects = step
            .settle(|barrier| {
                written = Some(match barrier {
                    Barrier::Prepare { manifest, .. }
                    | Barrier::Stage { manifest, .. }
                    | Barrier::Import { manifest, .. }
                    | Barrier::Manifest(manifest) => manifest,
                });
                Ok::<(), ()>(())
            })
            .expect("the commit succeeds");
        if let Some(manifest) = written {
            self.disk = manifest;
        }
        self
    }

    pub(crate) fn tick(&mut self) -> &mut Self {
        self.give(Input::Tick)
    }

    pub(crate) fn later(&mut self, by: Duration) -> &mut Self {
        self.now = Now { wall: self.now.wall.plus(by), uptime: self.now.uptime.plus(by) };
        self
    }

    /// Ticks until the manifest on the disk says what the machine knows. What is done meanwhile is kept.
    pub(crate) fn saved(&mut self) -> &mut Self {
        let mut effects = std::mem::take(&mut self.effects);
        while self.disk != *self.machine.manifest() {
            self.tick();
            effects.append(&mut self.effects);
        }
        self.effects = effects;
        self
    }

    /// Sleeps for as long as the machine allows, at most `most`.
    pub(crate) fn sleep(&mut self, most: Duration) -> &mut Self {
        let wait = self.machine.wake_in(self.now).min(most);
        self.idle = if wait.is_zero() { self.idle + 1 } else { 0 };
        assert!(self.idle < 20, "spins in {}", self.phase());
        self.later(wait).tick()
    }

    pub(crate) fn phase(&self) -> PhaseName {
        self.machine.phase().name()
    }

    pub(crate) fn dialed(&mut self, n: u64, outcome: DialOutcome) -> &mut Self {
        self.give(Input::Dialed { controller: controller(), generation: number(n), outcome })
    }

    /// A machine that has just entered `phase`; generation 1 is the old one, 2 the live one where two are needed.
    pub(crate) fn in_phase(phase: PhaseName) -> Self {
        let due_s = LIFE_S * 7 / 10;
        let mut bench = Self::new(at(1), found(vec![candidate(1, 0, true)]));
        bench.tick().dialed(1, admitted());
        if phase == PhaseName::Steady {
            return bench;
        }
        if phase == PhaseName::Lapsed {
            bench.give(Input::ChannelClosed { controller: controller() });
            bench.later(Duration::from_secs(LIFE_S.unsigned_abs() + 9)).tick();
            bench.dialed(1, DialOutcome::Refused).tick();
            assert_eq!(bench.phase(), phase);
            return bench;
        }
        bench.now = at(due_s);
        bench.tick();
        if phase == PhaseName::Prepared {
            assert_eq!(bench.phase(), phase);
            return bench;
        }
        bench.tick();
        if phase == PhaseName::Staged {
            bench.give(Input::ChannelClosed { controller: controller() });
        }
        if phase != PhaseName::Requested {
            bench.give(Input::Issued { number: number(2), issued: issued(2, due_s) });
        }
        if phase == PhaseName::Promoted {
            bench.give(Input::VerifyAnswered {
                controller: controller(),
                number: number(2),
                answer: VerifyAnswer::Success,
            });
            bench.give(proved(2, lifecycle::renewal::ProofOutcome::Admitted));
        }
        assert_eq!(bench.phase(), phase);
        bench
    }
}

pub(crate) fn admitted() -> DialOutcome {
    DialOutcome::Admitted { grouped: true, window: None }
}

pub(crate) fn proved(n: u64, outcome: lifecycle::renewal::ProofOutcome) -> Input {
    Input::Proved { controller: controller(), generation: number(n), outcome }
}

fn name(barrier: &Barrier) -> &'static str {
    match barrier {
        Barrier::Prepare { .. } => "PREPARE",
        Barrier::Stage { .. } => "STAGE",
        Barrier::Import { .. } => "IMPORT",
        Barrier::Manifest(_) => "MANIFEST",
    }
}
