//! Decides and writes; the same for both backends.
//!
//! One engine belongs to one writer. A backend runs operations one after the other through [`Engine::run`], commits, and only
//! then releases the answers that [`Ran::held`] held back.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use std::convert::Infallible;

use lifecycle::issuance::{
    Answer, Audit, Campaign, Commit, Input, IssuancePolicy, LeafSeq, Outcome, Record, Standing, Voucher,
};
use lifecycle::{Durable, Held, RouterId, UnixTime, Uptime};
use serde_json::{Value, json};

use super::entry::{
    Admin, Answered, Attachment, By, Chains, FirstIdentity, NewRouter, Patched, Router, RouterPatch, RouterView, Seen,
    Submission,
};
use super::error::RegisterError;
use super::query::AuditEntry;
use super::rows::{Reads, Result, Rows, audit_words, damaged, meta_key};

/// A refusal repeated within this time counts up one audit entry.
pub(super) const REFUSAL_WINDOW: Duration = Duration::from_secs(60);
/// Most refusals watched at once.
const REFUSALS_MAX: usize = 4096;
/// [`Seen::at`] alone is worth a write after this time.
const SEEN_STALE: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Engine<R> {
    pub(super) rows: R,
    refusals: Refusals,
    /// Routers that the open transaction changed.
    touched: HashSet<RouterId>,
    /// Did the open transaction write?
    wrote: bool,
    /// Did the running operation write?
    op_wrote: bool,
    /// Does the running operation's answer tell of something that is not yet durable?
    op_depends: bool,
    pub(super) steps: u64,
    pub(super) written_steps: u64,
}

/// What became of one operation inside the transaction.
#[derive(Debug)]
pub(super) struct Ran<T> {
    pub(super) result: Result<T>,
    /// The answer must wait for the commit.
    pub(super) held: bool,
    /// It failed after it wrote: the transaction is in doubt and must be undone.
    pub(super) spoiled: bool,
}

/// What a step says: at once where it changes nothing, otherwise held until its commit is durable.
#[derive(Debug)]
enum Said {
    Free(Answer),
    Held(Held<Answer>),
}

impl Said {
    /// What an outcome wants committed, and what it says then.
    fn of(outcome: Outcome) -> (Option<Commit>, Self) {
        if outcome.barrier().is_none() {
            let Ok(answer) = outcome.settle(|_| Ok::<(), Infallible>(()));
            return (None, Self::Free(answer));
        }
        let (commit, held) = outcome.split();
        (commit, Self::Held(held))
    }

    fn release(self, proof: Durable) -> Answer {
        match self {
            Self::Free(answer) => answer,
            Self::Held(held) => held.release(proof),
        }
    }
}

/// An [`Answered`] whose transaction is still open.
#[derive(Debug)]
pub(super) struct Undelivered {
    said: Said,
    record: Arc<Record>,
    chains: Option<(LeafSeq, Chains)>,
    changed: bool,
}

impl Undelivered {
    pub(super) fn deliver(self, proof: Durable) -> Answered {
        let answer = self.said.release(proof);
        let sent = |(seq, _): &(LeafSeq, Chains)| answer == Answer::Send(*seq);
        let chains = self.chains.filter(sent).map(|(_, chains)| chains);
        Answered { answer, record: self.record, chains, changed: self.changed }
    }
}

/// A [`Patched`] whose transaction is still open.
#[derive(Debug)]
pub(super) struct UndeliveredPatch {
    said: Said,
    view: RouterView,
}

impl UndeliveredPatch {
    pub(super) fn deliver(self, proof: Durable) -> Patched {
        Patched { view: self.view, answer: self.said.release(proof) }
    }
}

impl<R: Rows> Engine<R> {
    pub(super) fn new(rows: R) -> Self {
        Self {
            rows,
            refusals: Refusals::default(),
            touched: HashSet::new(),
            wrote: false,
            op_wrote: false,
            op_depends: false,
            steps: 0,
            written_steps: 0,
        }
    }

    /// Runs one operation in the transaction.
    pub(super) fn run<T>(&mut self, op: impl FnOnce(&mut Self) -> Result<T>) -> Ran<T> {
        self.op_wrote = false;
        self.op_depends = false;
        let result = op(self);
        Ran { held: self.op_wrote || self.op_depends, spoiled: self.op_wrote && result.is_err(), result }
    }

    /// Is there anything to commit?
    pub(super) fn wrote(&self) -> bool {
        self.wrote
    }

    /// Writes what rides along with the next commit: counts of repeated refusals.
    pub(super) fn before_commit(&mut self) -> Result<()> {
        self.refusals.flush(&mut self.rows)
    }

    /// The transaction is over.
    pub(super) fn settled(&mut self, committed: bool) {
        self.touched.clear();
        self.wrote = false;
        if !committed {
            // Positions of entries that were undone must not be counted up.
            self.refusals = Refusals::default();
        }
    }

    /// Called before the first write of every operation, after everything that may refuse it.
    fn writing(&mut self) -> Result<()> {
        self.rows.begin()?;
        self.op_wrote = true;
        self.wrote = true;
        Ok(())
    }

    /// For operations that read more than one router's record.
    fn reading(&mut self) -> Result<()> {
        self.op_depends |= self.wrote;
        self.rows.begin()
    }

    fn audit(&mut self, router: Option<RouterId>, event: &str, detail: Value, by: &By) -> Result<u64> {
        let at = by.now.wall;
        let (event, actor) = (event.to_owned(), by.actor.clone().into_owned());
        self.rows.append_audit(AuditEntry { seq: 0, router, at, last_at: at, count: 1, actor, event, detail })
    }

    pub(super) fn submit(&mut self, submission: Submission) -> Result<Undelivered> {
        self.steps += 1;
        let Submission { router, policy, input, by, attachment } = submission;
        self.op_depends |= self.touched.contains(&router);
        let before = self.rows.cached_record(&router)?.ok_or_else(|| RegisterError::UnknownRouter(router.clone()))?;
        let adopts = matches!(input, Input::Use { .. } | Input::Readmit { .. } | Input::Claim { .. });
        let (commit, said) = Said::of(before.step(by.now, &policy, input));
        let Some(Commit { record, audit }) = commit else {
            let chains = self.held_chains(&router, &said)?;
            return Ok(Undelivered { said, record: before, chains, changed: false });
        };
        let Some(after) = record else {
            self.note_refusal(&router, audit, &by)?;
            return Ok(Undelivered { said, record: before, chains: None, changed: false });
        };
        let (chains, token) = match attachment {
            Attachment::Chains(chains) => (Some(chains), None),
            Attachment::Token(token) => (None, Some(token)),
            Attachment::Nothing => (None, None),
        };
        let added = after.leaves.last().map(|leaf| leaf.seq).filter(|seq| *seq > before.last_seq);
        if added.is_some() && chains.is_none() && !adopts {
            return Err(RegisterError::Incomplete { router, missing: "chains" });
        }
        let new_token = after.token.is_some_and(|token| before.token.is_none_or(|held| held.id != token.id));
        if new_token && token.is_none() {
            return Err(RegisterError::Incomplete { router, missing: "token text" });
        }
        let after = Arc::new(after);
        self.writing()?;
        self.written_steps += 1;
        self.rows.put_record(Some(&before), Arc::clone(&after), token.as_ref().filter(|_| new_token))?;
        let chains = added.zip(chains);
        if let Some((seq, chains)) = &chains {
            self.rows.put_chains(&router, *seq, chains)?;
        }
        let (event, detail) = audit_words(&audit);
        self.audit(Some(router.clone()), event, detail, &by)?;
        self.touched.insert(router);
        Ok(Undelivered { said, record: after, chains, changed: true })
    }

    /// The chains that an answer which needs no commit sends.
    fn held_chains(&mut self, router: &RouterId, said: &Said) -> Result<Option<(LeafSeq, Chains)>> {
        let Said::Free(Answer::Send(seq)) = said else { return Ok(None) };
        self.rows.begin()?;
        let held = self.rows.reads().chains(router, *seq)?;
        let chains = held.ok_or_else(|| damaged(router, "the chains of a leaf are missing"))?;
        Ok(Some((*seq, chains)))
    }

    fn note_refusal(&mut self, router: &RouterId, audit: Audit, by: &By) -> Result<()> {
        let key = (router.clone(), audit);
        if self.refusals.repeat(&key, by) {
            return Ok(());
        }
        self.writing()?;
        self.refusals.make_room(&mut self.rows, &key)?;
        let (event, detail) = audit_words(&audit);
        let seq = self.audit(Some(router.clone()), event, detail, by)?;
        self.refusals.watch(key, seq, by);
        // The same again, in this transaction, counts up an entry that is not yet durable.
        self.touched.insert(router.clone());
        Ok(())
    }

    pub(super) fn create_router(&mut self, new: NewRouter, by: &By) -> Result<RouterView> {
        self.reading()?;
        let NewRouter { id, name, first, settings } = new;
        let (kind, mut record, token_text) = match first {
            FirstIdentity::Enrolled { token, text } => (token.kind, Record::new(id.clone(), token), Some(text)),
            FirstIdentity::VouchedFor { kind, leaf } => {
                (kind, Record::without_token(id.clone(), leaf.map(|sha1| Voucher(sha1.0))), None)
            }
        };
        if self.rows.reads().router(&id)?.is_some() {
            return Err(RegisterError::IdTaken(id));
        }
        if self.rows.reads().name_holder(&name)?.is_some() {
            return Err(RegisterError::NameTaken(name));
        }
        let mut router = Router {
            id: id.clone(),
            name: String::new(),
            kind,
            role_attributes: Vec::new(),
            is_tunneler_enabled: false,
            cost: 0,
            no_traversal: false,
            app_data: serde_json::Map::new(),
            tags: serde_json::Map::new(),
            extra: serde_json::Map::new(),
            created_at: by.now.wall,
            updated_at: by.now.wall,
            seen: None,
        };
        settings.apply(&mut router);
        router.name = name;
        if settings.disabled == Some(true) {
            record.standing = Standing::Disabled;
        }
        self.writing()?;
        self.rows.insert_router(&router)?;
        self.rows.put_record(None, Arc::new(record.clone()), token_text.as_ref())?;
        self.audit(Some(id.clone()), "created", json!({ "name": router.name }), by)?;
        self.touched.insert(id);
        Ok(RouterView { router, record, token: token_text })
    }

    pub(super) fn patch_router(&mut self, id: &RouterId, patch: &RouterPatch, by: &By) -> Result<UndeliveredPatch> {
        self.reading()?;
        let Some(mut view) = self.rows.reads().view(id)? else {
            return Err(RegisterError::UnknownRouter(id.clone()));
        };
        let mut router = view.router.clone();
        patch.apply(&mut router);
        if router.name != view.router.name
            && let Some(holder) = self.rows.reads().name_holder(&router.name)?
            && holder != *id
        {
            return Err(RegisterError::NameTaken(router.name));
        }
        // Switching on and off depends on no policy.
        let policy = IssuancePolicy::for_leaf_life(Duration::ZERO);
        let outcome = patch.disabled.map(|off| Said::of(view.record.step(by.now, &policy, Input::SetDisabled(off))));
        let (commit, said) = outcome.unwrap_or((None, Said::Free(Answer::Done)));
        let changed = router != view.router;
        if !changed && commit.is_none() {
            return Ok(UndeliveredPatch { said, view });
        }
        self.writing()?;
        self.touched.insert(id.clone());
        if changed {
            router.updated_at = by.now.wall;
            self.rows.update_router(&router)?;
            let detail = json!({ "fields": changed_fields(&view.router, &router) });
            self.audit(Some(id.clone()), "changed", detail, by)?;
            view.router = router;
        }
        if let Some(Commit { record, audit }) = commit {
            if let Some(record) = record {
                self.rows.put_record(Some(&view.record), Arc::new(record.clone()), None)?;
                view.record = record;
            }
            let (event, detail) = audit_words(&audit);
            self.audit(Some(id.clone()), event, detail, by)?;
        }
        Ok(UndeliveredPatch { said, view })
    }

    pub(super) fn delete_router(&mut self, id: &RouterId, by: &By) -> Result<RouterView> {
        self.reading()?;
        let Some(view) = self.rows.reads().view(id)? else {
            return Err(RegisterError::UnknownRouter(id.clone()));
        };
        self.writing()?;
        self.touched.insert(id.clone());
        self.rows.delete_router(id)?;
        self.audit(Some(id.clone()), "deleted", json!({ "name": view.router.name }), by)?;
        Ok(view)
    }

    pub(super) fn note_hello(&mut self, id: &RouterId, seen: &Seen) -> Result<()> {
        self.reading()?;
        let Some(router) = self.rows.reads().router(id)? else {
            return Err(RegisterError::UnknownRouter(id.clone()));
        };
        let same = router.seen.is_some_and(|held| {
            let young = seen.at.since(held.at) < SEEN_STALE;
            young && Seen { at: seen.at, ..held } == *seen
        });
        if same {
            return Ok(());
        }
        self.writing()?;
        self.touched.insert(id.clone());
        self.rows.set_seen(id, seen)
    }

    pub(super) fn put_admin(&mut self, admin: &Admin, by: &By) -> Result<()> {
        self.reading()?;
        self.writing()?;
        self.rows.put_admin(admin)?;
        self.audit(None, "admin-set", json!({ "name": admin.name }), by)?;
        Ok(())
    }

    pub(super) fn delete_admin(&mut self, name: &str, by: &By) -> Result<()> {
        self.reading()?;
        if self.rows.reads().admin(name)?.is_none() {
            return Err(RegisterError::UnknownAdmin(name.to_owned()));
        }
        self.writing()?;
        self.rows.delete_admin(name)?;
        self.audit(None, "admin-deleted", json!({ "name": name }), by)?;
        Ok(())
    }

    pub(super) fn set_campaign(&mut self, campaign: Option<Campaign>, by: &By) -> Result<()> {
        self.reading()?;
        if self.rows.reads().meta()?.campaign == campaign {
            return Ok(());
        }
        self.writing()?;
        let text = |at: UnixTime| at.as_ms().to_string();
        self.rows.put_meta(meta_key::CAMPAIGN_ORDERED_AT, campaign.map(|campaign| text(campaign.ordered_at)))?;
        self.rows.put_meta(meta_key::CAMPAIGN_UNTIL, campaign.map(|campaign| text(campaign.until)))?;
        let (event, detail) = match campaign {
            Some(campaign) => (
                "campaign-ordered",
                json!({ "orderedAtMs": campaign.ordered_at.as_ms(), "untilMs": campaign.until.as_ms() }),
            ),
            None => ("campaign-ended", json!({})),
        };
        self.audit(None, event, detail, by)?;
        Ok(())
    }

    pub(super) fn heartbeat(&mut self, at: UnixTime) -> Result<Option<UnixTime>> {
        self.reading()?;
        let before = self.rows.reads().meta()?.last_seen_at;
        self.writing()?;
        self.rows.put_meta(meta_key::LAST_SEEN_AT, Some(at.as_ms().to_string()))?;
        Ok(before)
    }
}

/// Names of what a patch changed, as the API spells them. Values stay out of the audit trail: they may be private.
fn changed_fields(before: &Router, after: &Router) -> Vec<&'static str> {
    [
        ("name", before.name != after.name),
        ("roleAttributes", before.role_attributes != after.role_attributes),
        ("isTunnelerEnabled", before.is_tunneler_enabled != after.is_tunneler_enabled),
        ("cost", before.cost != after.cost),
        ("noTraversal", before.no_traversal != after.no_traversal),
        ("appData", before.app_data != after.app_data),
        ("tags", before.tags != after.tags),
        ("extra", before.extra != after.extra),
    ]
    .into_iter()
    .filter_map(|(name, changed)| changed.then_some(name))
    .collect()
}

/// Refusals of the last minute, so that a peer that keeps knocking costs one row a minute and no commit of its own.
#[derive(Debug, Default)]
struct Refusals {
    watched: HashMap<(RouterId, Audit), Repeated>,
    unwritten: HashSet<(RouterId, Audit)>,
}

#[derive(Clone, Copy, Debug)]
struct Repeated {
    seq: u64,
    since: Uptime,
    count: u64,
    last_at: UnixTime,
}

impl Refusals {
    fn repeat(&mut self, key: &(RouterId, Audit), by: &By) -> bool {
        let Some(repeated) = self.watched.get_mut(key) else { return false };
        if by.now.uptime.since(repeated.since) >= REFUSAL_WINDOW {
            return false;
        }
        repeated.count += 1;
        repeated.last_at = repeated.last_at.max(by.now.wall);
        self.unwritten.insert(key.clone());
        true
    }

    fn watch(&mut self, key: (RouterId, Audit), seq: u64, by: &By) {
        self.watched.insert(key, Repeated { seq, since: by.now.uptime, count: 1, last_at: by.now.wall });
    }

    /// Before `key` is watched anew: its old count is written, and at the cap all are.
    fn make_room<R: Rows>(&mut self, rows: &mut R, key: &(RouterId, Audit)) -> Result<()> {
        if self.unwritten.contains(key) || self.watched.len() >= REFUSALS_MAX {
            self.flush(rows)?;
        }
        if self.watched.len() >= REFUSALS_MAX {
            self.watched.clear();
        }
        Ok(())
    }

    fn flush<R: Rows>(&mut self, rows: &mut R) -> Result<()> {
        for key in self.unwritten.drain() {
            if let Some(repeated) = self.watched.get(&key) {
                rows.count_audit(repeated.seq, repeated.count, repeated.last_at)?;
            }
        }
        Ok(())
    }
}
