//! What people do: take an identity away, give one, vouch for one.

use lifecycle::issuance::{EnrollmentKind, Input, Standing, Token, TokenId};

use super::{Body, Event, World};
use crate::paper;
use crate::plan::Make;
use crate::register::Matter;
use crate::stock::{CertFile, Change};

/// How long a person waits before trying again what failed.
const AGAIN_MS: u64 = 600_000;

/// What a person has promised to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Errand {
    /// Have the router enrolled anew, from a new token to a new identity.
    EnrollAnew,
    /// Use the token that there is.
    UseToken,
    /// Switch the router on again.
    SwitchOn,
}

impl World {
    /// The operator takes a router's identity away.
    pub fn revoke(&mut self, router: usize) {
        self.set_exempt(router, true);
        self.submit(0, router, Matter::Operator, Input::Revoke);
    }

    /// The operator has a router enrolled anew. Its channels close; [`World::enroll_again`] is the other half.
    pub fn re_enroll(&mut self, router: usize) {
        self.set_exempt(router, true);
        let n = self.fresh(router);
        let token = self.new_token(n);
        self.submit(0, router, Matter::Operator, Input::ReEnroll { token });
    }

    /// The operator vouches for the leaf that a router serves, as far as it was ever admitted.
    pub fn readmit(&mut self, router: usize) {
        let proven = |world: &Self| {
            let manifest = world.manifest(router)?;
            let known = manifest.candidate(world.live(router)?)?;
            known.first_admitted.map(|_| known.client)
        };
        let leaf = match self.routers.get(router).map(|host| &host.body) {
            Some(Body::Stock(body)) => body.process.as_ref().map(|process| process.leaf),
            Some(Body::Exuvia(_)) => proven(self),
            None => None,
        };
        // A person vouches for what stands on the screen: nobody's leaf comes back who was revoked.
        if let (Some(leaf), false) = (leaf, self.is_exempt(router)) {
            self.submit(0, router, Matter::Operator, Input::Readmit { leaf });
        }
    }

    pub(crate) fn revoke_for(&mut self, router: usize, ms: u64) {
        if !self.is_exempt(router) {
            self.revoke(router);
            self.at(ms, Event::Operator { router, errand: Errand::EnrollAnew });
        }
    }

    pub(crate) fn enroll_anew_after(&mut self, router: usize, ms: u64) {
        if !self.is_exempt(router) {
            self.re_enroll(router);
            self.at(ms, Event::Operator { router, errand: Errand::UseToken });
        }
    }

    pub(crate) fn disable_for(&mut self, router: usize, ms: u64) {
        if self.is_exempt(router) {
            return;
        }
        if let Some(host) = self.routers.get_mut(router) {
            host.is_disabled = true;
        }
        self.submit(0, router, Matter::Operator, Input::SetDisabled(true));
        self.at(ms, Event::Operator { router, errand: Errand::SwitchOn });
    }

    /// Somebody notices that a router needs a person.
    pub(crate) fn rescue_if_lost(&mut self, router: usize) {
        if !self.is_exempt(router) && self.is_beyond_help(router) {
            self.note(|| format!("router {router} needs a person"));
            self.counts.rescues += 1;
            self.set_exempt(router, true);
            self.at(1, Event::Operator { router, errand: Errand::EnrollAnew });
        }
    }

    /// After a restored register: whoever it calls revoked or switched off gets a person too.
    pub(crate) fn mind_the_restored(&mut self, router: usize) {
        let errand = match self.register.record(router).map(|record| record.standing) {
            Some(Standing::Disabled) => Errand::SwitchOn,
            Some(Standing::Revoked) => Errand::EnrollAnew,
            Some(Standing::Active) | None => return,
        };
        if let Some(host) = self.routers.get_mut(router) {
            host.is_disabled |= errand == Errand::SwitchOn;
            host.is_exempt |= errand == Errand::EnrollAnew;
        }
        self.at(AGAIN_MS, Event::Operator { router, errand });
    }

    /// After everything is healed: nobody stays without an identity.
    pub(crate) fn finish_errands(&mut self) {
        for router in 0..self.routers.len() {
            if self.routers.get(router).is_some_and(|host| host.is_exempt) {
                self.run_errand(router, Errand::EnrollAnew);
            } else {
                self.rescue_if_lost(router);
            }
            self.run_errand(router, Errand::SwitchOn);
        }
    }

    pub(crate) fn run_errand(&mut self, router: usize, errand: Errand) {
        let Some(host) = self.routers.get(router) else { return };
        let (is_exempt, is_disabled) = (host.is_exempt, host.is_disabled);
        match errand {
            Errand::SwitchOn if is_disabled => {
                self.submit(0, router, Matter::Operator, Input::SetDisabled(false));
                self.commit_register();
                let standing = self.register.record(router).map(|record| record.standing);
                if standing == Some(Standing::Disabled) {
                    return self.at(AGAIN_MS, Event::Operator { router, errand });
                }
                if let Some(host) = self.routers.get_mut(router) {
                    host.is_disabled = false;
                }
                self.check_identity(router);
            }
            Errand::EnrollAnew if is_exempt && self.plan.controller_make == Make::Exuvia => {
                self.re_enroll(router);
                self.commit_register();
                self.run_errand(router, Errand::UseToken);
            }
            Errand::EnrollAnew | Errand::UseToken if is_exempt => {
                self.kill_router(router);
                self.enroll_again(router);
                if self.routers.get(router).is_some_and(|host| host.is_exempt) {
                    self.at(AGAIN_MS, Event::Operator { router, errand: Errand::EnrollAnew });
                }
                self.at(1_000, Event::StartRouter { router });
            }
            Errand::SwitchOn | Errand::EnrollAnew | Errand::UseToken => {}
        }
    }

    fn set_exempt(&mut self, router: usize, is_exempt: bool) {
        if let Some(host) = self.routers.get_mut(router) {
            host.is_exempt = is_exempt;
        }
    }

    fn new_token(&self, n: u64) -> Token {
        Token {
            id: TokenId(paper::key(n).0),
            kind: EnrollmentKind::Edge,
            expires: self.true_now(0).plus(self.issuance.token_life),
            enrolled: None,
        }
    }

    /// Another tool enrolls the router anew and keeps what it gets for itself: the files, or nothing when the register did not take it.
    pub(crate) fn enrolled_by_another(&mut self, router: usize) -> Option<store::generation::GenerationFiles> {
        let key = paper::key(self.fresh(router));
        let (client, server) = self.sign(0, router, key);
        if self.plan.controller_make == Make::Exuvia {
            self.re_enroll(router);
            self.commit_register();
        } else {
            self.set_exempt(router, true);
        }
        if !self.hand_out(router, key, client, server) {
            // A person sees to it later.
            self.at(AGAIN_MS, Event::Operator { router, errand: Errand::EnrollAnew });
            return None;
        }
        Some(paper::files(paper::keys(key), &client, &server))
    }

    /// The controllers' part of an enrollment. A token that is over does nothing.
    fn hand_out(
        &mut self,
        router: usize,
        key: lifecycle::KeyId,
        client: lifecycle::Leaf,
        server: lifecycle::Leaf,
    ) -> bool {
        match self.plan.controller_make {
            Make::Exuvia => {
                let Some(token) = self.register.record(router).and_then(|record| record.token) else { return false };
                let asked = paper::asked(key);
                let input = Input::StoreEnrolled { token: token.id, asked, client, server };
                self.submit(0, router, Matter::Operator, input);
                self.commit_register();
                // A token that is over, or a commit that failed.
                self.register.record(router).is_some_and(|record| record.leaf(client.fingerprint).is_some())
            }
            Make::Stock => {
                let until = self.cluster.append(Change::Promote { router, leaf: client });
                for node in 0..self.controllers.len() {
                    self.apply_log(node, until);
                }
                true
            }
        }
    }

    /// A person uses the newest token on the router's machine, whose process is down. A token that is over does nothing.
    pub fn enroll_again(&mut self, router: usize) {
        let key = paper::key(self.fresh(router));
        let (client, server) = self.sign(0, router, key);
        if !self.hand_out(router, key, client, server) {
            return;
        }
        let now = self.router_now(router);
        let is_stored = match self.routers.get_mut(router).map(|host| &mut host.body) {
            Some(Body::Exuvia(body)) => body.enroll(now, key, client, server),
            Some(Body::Stock(body)) => {
                body.file = CertFile { cached: Some(client), durable: Some(client), written_back_ms: 0 };
                true
            }
            None => false,
        };
        if self.with_disk(router, |disk| disk.is_down()) == Some(true) {
            return self.cut_power(router);
        }
        if !is_stored {
            return;
        }
        self.set_exempt(router, false);
        self.survey(router);
        self.check_identity(router);
    }
}
