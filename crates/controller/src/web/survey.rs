//! One look over the whole fleet, shared by everybody who asks within a moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use api::ApiError;
use api::native::{PipelineEntry, Progress};
use lifecycle::issuance::Campaign;
use lifecycle::{Now, Uptime};
use store::register::{PAGE_MAX, RouterQuery, RouterSort, RouterView};
use tokio::sync::Mutex;

use super::Web;
use super::reply::of_register;
use super::view;

/// Entries kept, the most pressing ones.
pub(super) const ENTRIES_MAX: usize = 500;
/// A survey is good for this long, and for ten times as long as it took.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Survey {
    pub(super) at: Now,
    pub(super) counts: BTreeMap<Progress, u64>,
    /// Routers that have an identity, by how long they stay admissible.
    pub(super) entries: Vec<PipelineEntry>,
    pub(super) campaign: Option<Campaign>,
    /// Routers whose leaf in use was issued before the campaign.
    pub(super) outstanding: u64,
    /// Routers of which an older leaf came back, and no operator has decided yet.
    pub(super) forked: u64,
}

#[derive(Default)]
pub(super) struct Surveyor(Mutex<Option<(Uptime, Arc<Survey>)>>);

impl Surveyor {
    /// A survey that is no older than a moment. Those who ask while one is made wait for it.
    pub(super) async fn look(&self, web: &Web) -> Result<Arc<Survey>, ApiError> {
        let mut last = self.0.lock().await;
        let begun = web.clock.now();
        if let Some((until, survey)) = last.as_ref()
            && begun.uptime < *until
        {
            return Ok(Arc::clone(survey));
        }
        let survey = Arc::new(survey(web, begun).await?);
        let ended = web.clock.now().uptime;
        let took = ended.since(begun.uptime);
        *last = Some((ended.plus(FRESH.max(took * 10)), Arc::clone(&survey)));
        Ok(survey)
    }

    /// Forgets the last survey, because something was ordered that changes it.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

async fn survey(web: &Web, now: Now) -> Result<Survey, ApiError> {
    let campaign = web.register.meta().await.map_err(of_register)?.campaign;
    let mut survey =
        Survey { at: now, counts: BTreeMap::new(), entries: Vec::new(), campaign, outstanding: 0, forked: 0 };
    let mut read = 0;
    loop {
        let query = RouterQuery { sort: RouterSort::Id, offset: read, ..RouterQuery::default() };
        let listed = web.register.routers(query).await.map_err(of_register)?;
        let rows = listed.routers.len();
        read += rows as u64;
        for row in &listed.routers {
            survey.add(web, row);
        }
        if rows < PAGE_MAX as usize {
            break;
        }
        survey.keep_the_most_pressing();
    }
    survey.keep_the_most_pressing();
    Ok(survey)
}

impl Survey {
    fn add(&mut self, web: &Web, row: &RouterView) {
        let policy = web.enroller.signer().policy();
        let record = &row.record;
        let progress = view::progress(row, self.at, &policy);
        *self.counts.entry(progress).or_default() += 1;
        self.forked += u64::from(record.fork.is_some());
        if matches!(progress, Progress::AwaitingEnrollment | Progress::Disabled | Progress::Revoked) {
            return;
        }
        let current = record.last_used.and_then(|last| record.leaf_at(last.seq)).or(record.leaves.first());
        if let (Some(campaign), Some(leaf)) = (self.campaign, current)
            && leaf.issued_at < campaign.ordered_at
        {
            self.outstanding += 1;
        }
        self.entries.push(PipelineEntry {
            id: row.router.id.to_string(),
            name: row.router.name.clone(),
            progress,
            lockout_s: view::lockout_s(record, self.at, &policy),
            renew_due_unix_s: current.map(|leaf| view::due(&row.router, leaf).as_s()),
            client_not_after_unix_s: current.map(|leaf| leaf.client.not_after.as_s()),
            is_connected: web.fleet.connected(&row.router.id).is_some(),
        });
    }

    fn keep_the_most_pressing(&mut self) {
        self.entries.sort_by(|left, right| {
            (left.lockout_s, left.renew_due_unix_s, &left.id).cmp(&(right.lockout_s, right.renew_due_unix_s, &right.id))
        });
        self.entries.truncate(ENTRIES_MAX);
    }
}
