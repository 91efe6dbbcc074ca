//! When renewals would be welcome: the campaign in force, what operators asked of single routers, and the spreading after
//! an outage.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle::issuance::{Campaign, IssuedLeaf, Window, WindowFacts, advise};
use lifecycle::{Now, RouterId, Uptime};
use wire::hello::{RenewalAdvice, RenewalWindow};

/// How long this controller was out of reach before it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    /// So long.
    pub lasted: Duration,
    /// When it ended.
    pub ended: Uptime,
}

#[derive(Debug)]
pub(super) struct Advice {
    outage: Option<Outage>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    campaign: Option<Campaign>,
    /// What single routers were asked, until the window is over.
    asked: HashMap<RouterId, Window>,
}

impl Advice {
    pub(super) fn new(campaign: Option<Campaign>, outage: Option<Outage>) -> Self {
        Self { outage, state: Mutex::new(State { campaign, asked: HashMap::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ask(&self, now: Now, router: &RouterId, window: Window) {
        let mut state = self.state();
        state.asked.retain(|_, window| now.wall <= window.to);
        state.asked.insert(router.clone(), window);
    }

    pub(super) fn order(&self, campaign: Option<Campaign>) {
        self.state().campaign = campaign;
    }

    /// What to tell a router that presented this leaf, if anything.
    pub(super) fn for_leaf(&self, now: Now, router: &RouterId, leaf: &IssuedLeaf) -> RenewalAdvice {
        let state = self.state();
        let asked = state.asked.get(router).copied();
        if let Some(window) = asked.filter(|window| now.wall <= window.to && leaf.issued_at < window.from) {
            return RenewalAdvice { window: Some(on_the_wire(window)), renew_now: None };
        }
        let campaign = state.campaign;
        drop(state);
        // A fleet comes back within minutes; a router that reconnects long after was not kept away by us.
        let is_recent = |outage: &Outage| now.uptime.since(outage.ended) <= leaf.client.life() / 10;
        let outage = self.outage.filter(is_recent).map_or(Duration::ZERO, |outage| outage.lasted);
        let facts = WindowFacts { leaf: leaf.client, issued_at: leaf.issued_at, campaign, outage };
        let Some(window) = advise(now, &facts) else { return RenewalAdvice::default() };
        let renew_now =
            campaign.filter(|campaign| leaf.issued_at < campaign.ordered_at).and_then(|order| number(&order));
        RenewalAdvice { window: Some(on_the_wire(window)), renew_now }
    }
}

pub(super) fn of_window(window: Window) -> RenewalAdvice {
    RenewalAdvice { window: Some(on_the_wire(window)), renew_now: None }
}

pub(super) fn of_campaign(campaign: Campaign) -> RenewalAdvice {
    let window = Window { from: campaign.ordered_at, to: campaign.until.max(campaign.ordered_at) };
    RenewalAdvice { window: Some(on_the_wire(window)), renew_now: number(&campaign) }
}

/// A campaign that leaves no time is an order to renew at once, and has a number by which it is obeyed only once.
fn number(campaign: &Campaign) -> Option<u64> {
    (campaign.until <= campaign.ordered_at).then(|| u64::try_from(campaign.ordered_at.as_s()).unwrap_or(0))
}

fn on_the_wire(window: Window) -> RenewalWindow {
    let seconds = |at: lifecycle::UnixTime| u64::try_from(at.as_s()).unwrap_or(0);
    let from_unix_s = seconds(window.from);
    RenewalWindow { from_unix_s, to_unix_s: seconds(window.to).max(from_unix_s) }
}

#[cfg(test)]
mod tests {
    use lifecycle::issuance::{Asked, LeafSeq, LeafStage, NamesDigest};
    use lifecycle::{Fingerprint, KeyId, Leaf, UnixTime};

    use super::*;

    const DAY: i64 = 86_400;

    fn at(s: i64) -> Now {
        Now { wall: UnixTime::from_s(s), uptime: Uptime::from_ms(u64::try_from(s).unwrap() * 1000) }
    }

    fn leaf(issued_s: i64) -> IssuedLeaf {
        let client = Leaf {
            fingerprint: Fingerprint([1; 32]),
            key: KeyId([1; 32]),
            not_before: UnixTime::from_s(issued_s),
            not_after: UnixTime::from_s(issued_s + 90 * DAY),
        };
        let asked = Asked { client_key: client.key, server_key: client.key, names: NamesDigest([2; 32]) };
        let issued_at = UnixTime::from_s(issued_s);
        IssuedLeaf { seq: LeafSeq(1), client, server: client, asked, issued_at, stage: LeafStage::Used }
    }

    #[test]
    fn a_router_is_told_of_an_order_until_it_has_a_newer_leaf_or_the_window_is_over() {
        let (advice, router) = (Advice::new(None, None), RouterId::new("r1"));
        advice.ask(at(100), &router, Window { from: UnixTime::from_s(100), to: UnixTime::from_s(160) });
        let told = |now, issued| advice.for_leaf(at(now), &router, &leaf(issued)).window;
        assert_eq!(told(110, 50), Some(RenewalWindow { from_unix_s: 100, to_unix_s: 160 }));
        assert_eq!(told(110, 105), None);
        assert_eq!(told(161, 50), None);
        assert_eq!(advice.for_leaf(at(110), &RouterId::new("r2"), &leaf(50)).window, None);
    }

    #[test]
    fn a_campaign_without_time_is_an_order_with_a_number() {
        let campaign = |until| Campaign { ordered_at: UnixTime::from_s(1000), until: UnixTime::from_s(until) };
        let advice = Advice::new(Some(campaign(1000)), None);
        assert_eq!(advice.for_leaf(at(2000), &RouterId::new("r1"), &leaf(10)).renew_now, Some(1000));
        assert_eq!(advice.for_leaf(at(2000), &RouterId::new("r1"), &leaf(1500)), RenewalAdvice::default());
        advice.order(Some(campaign(5000)));
        let told = advice.for_leaf(at(2000), &RouterId::new("r1"), &leaf(10));
        assert_eq!((told.window.unwrap().to_unix_s, told.renew_now), (5000, None));
        advice.order(None);
        assert_eq!(advice.for_leaf(at(2000), &RouterId::new("r1"), &leaf(10)), RenewalAdvice::default());
    }

    #[test]
    fn after_an_outage_those_that_fall_due_soon_are_spread_and_only_for_a_while() {
        let due = 60 * DAY;
        let outage = Outage { lasted: Duration::from_secs(10 * 86_400), ended: at(due - 2 * DAY).uptime };
        let advice = Advice::new(None, Some(outage));
        let told = |now| advice.for_leaf(at(now), &RouterId::new("r1"), &leaf(0)).window;
        let window = told(due - DAY).unwrap();
        assert_eq!((window.from_unix_s, window.to_unix_s), ((due - DAY) as u64, due as u64));
        let long_ago = Advice::new(None, Some(Outage { ended: at(due - 20 * DAY).uptime, ..outage }));
        assert_eq!(long_ago.for_leaf(at(due - DAY), &RouterId::new("r1"), &leaf(0)).window, None);
    }
}
