//! The actor of one active vault. It owns what the vault holds in memory, is the only one to change it, and keeps it
//! exact by following the vault's change log; everybody else reads the views it publishes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::prelude::*;
use inferadb_engine::noun::Timestamp;
use inferadb_engine::row::RowKey;
use inferadb_storage::background;
use inferadb_storage::{Change, ChangeKind, ChangeOp, Revision, StoreError, VaultRecord};
use tokio::sync::oneshot;

use super::load::{self, Loaded};
use super::messages::{Admit, CatchUp, Commit, Doubt, Slim, Stop, Until};
use super::{Committed, Operation, Vault};
use crate::error::VaultError;
use crate::ledger::Charge;
use crate::rows;
use crate::settings::Limits;
use crate::view::{Touched, View};

/// How often the change log is looked at for records beyond those to be kept.
const TRIM_INTERVAL: Duration = Duration::from_secs(60);
/// How many change records one pass reads.
const PASS_CHANGES: usize = 512;

/// The actor. Its supervisor is the registry: it sees the actor's end through the vault's gate and starts a new one.
/// (actix's own supervisor keeps nothing after a panic, since the mailbox closes with it.)
pub struct VaultActor {
    vault: Arc<Vault>,
    view: View,
    waiters: Vec<Waiter>,
    passes_started: u64,
    pass_under_way: bool,
    /// Whether another one is to follow it, though nobody waits for it.
    pass_wanted: bool,
    /// A wholly loaded view that has yet to be brought to the published one's revision.
    loaded: Option<(View, Charge)>,
    loading: bool,
    /// Whether loading it wholly is worth another try once there is room.
    load_later: bool,
    /// Whether there were changes since the log was looked at last.
    may_have_grown: bool,
    trimming: bool,
    /// Whether it looks for changes on a timer, though nobody waits for any.
    polls: bool,
    _end: End,
}

/// Marks the vault dead when the actor goes, however it goes.
struct End(Arc<Vault>);

/// Somebody who waits until the view has reached a revision, or the head.
struct Waiter {
    until: Until,
    /// Passes up to this one had started when the waiter came: they may have read the head before that.
    after_pass: u64,
    done: oneshot::Sender<Result<(), VaultError>>,
}

impl VaultActor {
    /// The actor of `vault`, which holds what its published view holds.
    pub fn new(vault: Arc<Vault>) -> Self {
        let view = View::clone(&vault.view());
        let end = End(Arc::clone(&vault));
        Self {
            vault,
            view,
            waiters: Vec::new(),
            passes_started: 0,
            pass_under_way: false,
            pass_wanted: false,
            loaded: None,
            loading: false,
            load_later: false,
            // Before this actor came.
            may_have_grown: true,
            trimming: false,
            polls: false,
            _end: end,
        }
    }

    fn publish(&mut self) {
        self.enforce_budget();
        self.view.advance_tick();
        while !self.vault.publish(&self.view) {
            if !self.give_up_something() {
                self.vault.publish_in_any_case(&self.view);
                break;
            }
        }
    }

    /// Where all vaults together may hold no more than they do, this one grows at the cost of what it holds itself. Says whether there was
    /// anything to give up.
    fn give_up_something(&mut self) -> bool {
        let rows = self.view.bytes();
        if self.vault.feed.clear() {
            return true;
        }
        if rows > 0 {
            self.load_later |= self.view.is_complete();
            self.view.shrink_to(rows - rows.div_ceil(4));
            return true;
        }
        self.vault.decisions.clear()
    }

    fn enforce_budget(&mut self) {
        let budget = self.vault.settings.memory_budget_bytes;
        let decisions = self.vault.decisions.bytes();
        if self.view.bytes() + decisions <= budget {
            return;
        }
        if decisions > budget / 2 {
            self.vault.decisions.shrink();
        }
        let left = budget.saturating_sub(self.vault.decisions.bytes());
        // A quarter is freed at once, so that the next row does not start the same again.
        if self.view.bytes() > left {
            self.view.shrink_to(left - left / 4);
        }
    }

    fn wait(&mut self, until: Until, ctx: &mut Context<Self>) -> oneshot::Receiver<Result<(), VaultError>> {
        let (done, waiting) = oneshot::channel();
        if let Until::Revision(revision) = until
            && self.view.revision >= revision
        {
            // The receiver is in hand: it cannot have gone.
            let _ = done.send(Ok(()));
            return waiting;
        }
        self.waiters.push(Waiter {
            until,
            after_pass: self.passes_started,
            done,
        });
        self.start_pass(ctx);
        waiting
    }

    fn start_pass(&mut self, ctx: &mut Context<Self>) {
        if self.pass_under_way {
            return;
        }
        self.pass_under_way = true;
        self.passes_started += 1;
        let vault = Arc::clone(&self.vault);
        let after = self.view.revision;
        let pass = async move {
            let (head, changes) = vault.store.follow(vault.id, after, PASS_CHANGES).await?;
            Ok((head.revision, changes))
        };
        ctx.spawn(
            pass.into_actor(self)
                .map(|found, actor, ctx| actor.finish_pass(found, ctx)),
        );
    }

    fn finish_pass(&mut self, found: Result<(Revision, Vec<Change>), StoreError>, ctx: &mut Context<Self>) {
        self.pass_under_way = false;
        match found {
            Ok((head, changes)) => {
                match self.apply(&changes) {
                    Applied::NeedsReload => return self.reload(ctx),
                    Applied::NeedsRecord(revision) => return self.read_record(revision, ctx),
                    Applied::Nothing | Applied::Something => {}
                }
                self.settle(head);
                // A page can be cut short before the head.
                self.go_on(self.view.revision < head, ctx);
            }
            Err(StoreError::HistoryGone) => self.reload(ctx),
            Err(StoreError::VaultNotFound) => {
                self.fail_waiters(|| VaultError::AccessDenied);
                self.vault.retire();
            }
            Err(error) => {
                self.fail_waiters(|| VaultError::Storage(error.clone()));
                self.doubt(ctx);
            }
        }
    }

    /// Starts another pass where somebody waits for one, or where there `is_more`.
    fn go_on(&mut self, is_more: bool, ctx: &mut Context<Self>) {
        let wanted = std::mem::take(&mut self.pass_wanted);
        if wanted || is_more || !self.waiters.is_empty() {
            self.start_pass(ctx);
        }
    }

    /// Something may be stored, or may come to be, that nobody will tell of.
    fn doubt(&mut self, ctx: &mut Context<Self>) {
        self.vault.in_doubt.store(true, Ordering::Relaxed);
        self.poll(ctx);
    }

    /// Looks for changes on a timer from now on.
    fn poll(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.polls, true) {
            return;
        }
        ctx.run_interval(self.vault.settings.poll_interval, |actor, ctx| {
            actor.start_pass(ctx)
        });
    }

    /// Applies what is newer than the view. Stops before a change that only reading the vault anew can follow.
    fn apply(&mut self, changes: &[Change]) -> Applied {
        let mut applied = Applied::Nothing;
        for change in changes {
            if change.revision <= self.view.revision {
                continue;
            }
            self.may_have_grown = true;
            match &change.kind {
                ChangeKind::Relationships(relationships) => {
                    apply_relationships(&mut self.view, change.revision, relationships);
                    self.vault.feed.take(change);
                    applied = Applied::Something;
                }
                ChangeKind::Schema | ChangeKind::Settings => {
                    // Whoever waits is answered by the revision of what is published: no less may be.
                    if applied == Applied::Something {
                        self.publish();
                    }
                    return match &change.kind {
                        ChangeKind::Settings => Applied::NeedsRecord(change.revision),
                        _ => Applied::NeedsReload,
                    };
                }
            }
        }
        if applied == Applied::Something {
            self.publish();
        }
        applied
    }

    /// Answers the waiters for whom the view has come far enough, or for whom it never will. The latest pass found the
    /// vault's head at `head`, with the changes up to it.
    fn settle(&mut self, head: Revision) {
        let (view, pass) = (self.view.revision, self.passes_started);
        for mut waiter in std::mem::take(&mut self.waiters) {
            let fresh = pass > waiter.after_pass;
            if fresh && matches!(waiter.until, Until::Head) {
                waiter.until = Until::Revision(head);
            }
            let outcome = match waiter.until {
                Until::Revision(revision) if revision <= view => Some(Ok(())),
                Until::Revision(revision) if fresh && revision > head && view >= head => {
                    Some(Err(VaultError::RevisionAhead))
                }
                _ => None,
            };
            match outcome {
                // A waiter that went away wants no answer.
                Some(outcome) => drop(waiter.done.send(outcome)),
                None => self.waiters.push(waiter),
            }
        }
    }

    fn fail_waiters(&mut self, error: impl Fn() -> VaultError) {
        for waiter in self.waiters.drain(..) {
            let _ = waiter.done.send(Err(error()));
        }
    }

    /// Reads the vault's record, which `revision` changed and nothing else: rows and decisions stay.
    fn read_record(&mut self, revision: Revision, ctx: &mut Context<Self>) {
        self.pass_under_way = true;
        let vault = Arc::clone(&self.vault);
        let reading = async move {
            let record = vault.store.vault(vault.id).await;
            record
                .map_err(VaultError::from_store)?
                .ok_or(VaultError::AccessDenied)
        };
        ctx.spawn(reading.into_actor(self).map(move |record, actor, ctx| {
            actor.pass_under_way = false;
            match record {
                Ok(record) if actor.outlives(&record) => {
                    actor.take_record(record, ctx);
                    actor.view.revision = revision;
                    actor.publish();
                    actor.load_if_it_fits(ctx);
                    // What follows it was not applied yet: who waits for the head is answered after that.
                    actor.go_on(true, ctx);
                }
                Ok(_) => actor.reload(ctx),
                Err(error) => actor.lose_track(&error, ctx),
            }
        }));
    }

    /// Whether what the vault holds can stay where its record becomes this one. What is decided depends on how deep and how far an
    /// evaluation may go.
    fn outlives(&self, record: &VaultRecord) -> bool {
        let bounds = |limits: &Limits| (limits.max_depth, limits.max_work);
        let (before, after) = (self.vault.limits.load(), self.vault.limits_of(record));
        !record.archived
            && record.is_of_same_generation(&self.vault.record.load())
            && bounds(&before) == bounds(&after)
    }

    fn take_record(&self, record: VaultRecord, ctx: &mut Context<Self>) {
        self.vault.set_record(record);
        ctx.set_mailbox_capacity(self.vault.limits.load().mailbox_capacity as usize);
    }

    /// Reads schema and settings anew, after a change of them or where the log no longer reaches back far enough. A schema that is
    /// the same is not compiled again.
    fn reload(&mut self, ctx: &mut Context<Self>) {
        self.pass_under_way = true;
        self.loaded = None;
        let vault = Arc::clone(&self.vault);
        let known = Arc::clone(&self.view.schema);
        let opening = async move {
            let budget = vault.settings.memory_budget_bytes;
            let charge = vault.memory.ledger.charge();
            let (store, schemas) = (&vault.store, &vault.memory.schemas);
            let opened = load::open(store, schemas, vault.id, Some(&known), budget, &charge).await?;
            Ok::<_, VaultError>((opened, charge))
        };
        ctx.spawn(opening.into_actor(self).map(|opened, actor, ctx| {
            actor.pass_under_way = false;
            match opened {
                Ok((opened, _)) if opened.record.archived => {
                    actor.lose_track(&VaultError::AccessDenied, ctx);
                }
                Ok((opened, charge)) => {
                    actor.vault.charge(opened.compile_nanos);
                    actor.take_record(opened.record, ctx);
                    actor.view = opened.view;
                    // From here on the vault's own.
                    drop(charge);
                    actor.publish();
                    actor.load_if_it_fits(ctx);
                    actor.settle(actor.view.revision);
                    actor.go_on(false, ctx);
                }
                Err(error) => actor.lose_track(&error, ctx),
            }
        }));
    }

    /// Ends a vault that is no more; one that could not be read is to be looked at again.
    fn lose_track(&mut self, error: &VaultError, ctx: &mut Context<Self>) {
        if matches!(error, VaultError::AccessDenied | VaultError::NotFound(_)) {
            self.fail_waiters(|| VaultError::AccessDenied);
            self.vault.retire();
            return;
        }
        tracing::warn!(vault = %self.vault.id, %error, "could not read the vault anew");
        self.fail_waiters(|| VaultError::Overloaded("the vault could not be read anew"));
        self.doubt(ctx);
    }

    /// Starts a pass whenever the head may have moved, which others than this actor move too. Watches before it reads, so
    /// that no move falls between.
    fn follow_head(&mut self, ctx: &mut Context<Self>) {
        let vault = Arc::clone(&self.vault);
        let watching = async move { vault.store.watch_head(vault.id).await };
        ctx.spawn(watching.into_actor(self).map(|watching, actor, ctx| {
            let (vault, poll_interval) = (actor.vault.id, actor.vault.settings.poll_interval);
            actor.repeat_pass(ctx);
            let moved = async move {
                let moved = match watching {
                    Ok(moved) => moved.await,
                    Err(error) => Err(error),
                };
                if let Err(error) = moved {
                    // The poll goes on meanwhile.
                    tracing::debug!(vault = %vault, %error, "the vault's head could not be watched");
                    tokio::time::sleep(poll_interval).await;
                }
            };
            ctx.spawn(
                moved
                    .into_actor(actor)
                    .map(|(), actor, ctx| actor.follow_head(ctx)),
            );
        }));
    }

    /// Starts a pass that reads the head after this call: after the one under way, if there is one.
    fn repeat_pass(&mut self, ctx: &mut Context<Self>) {
        self.pass_wanted = self.pass_under_way;
        self.start_pass(ctx);
    }

    /// What is looked after from time to time.
    fn tend(&mut self, ctx: &mut Context<Self>) {
        self.trim(ctx);
        let likely = load::likely_bytes(self.view.relationships);
        let needed = likely.min(self.vault.settings.memory_budget_bytes);
        // Not at the cost of others: it did without.
        if self.load_later && self.vault.memory.ledger.has_room(needed) {
            self.load_if_it_fits(ctx);
        }
    }

    /// Trims the change log once a tenth more than is to be kept has gathered.
    fn trim(&mut self, ctx: &mut Context<Self>) {
        if self.trimming || !std::mem::take(&mut self.may_have_grown) {
            return;
        }
        self.trimming = true;
        let vault = Arc::clone(&self.vault);
        let trimming = async move {
            let keep = vault.settings.log_kept;
            let size = vault.store.log_size(vault.id).await?;
            let is_over = |held: u64, kept: u64| held > kept.saturating_add(kept / 10);
            if is_over(size.records, keep.records) || is_over(size.bytes, keep.bytes) {
                vault.store.trim_changes(vault.id, keep).await?;
            }
            Ok::<_, StoreError>(())
        };
        ctx.spawn(trimming.into_actor(self).map(move |trimmed, actor, _| {
            actor.trimming = false;
            if let Err(error) = trimmed {
                actor.may_have_grown = true;
                tracing::warn!(vault = %actor.vault.id, %error, "could not trim the change log");
            }
        }));
    }

    /// Makes the vault wholly resident if it is likely to fit its budget.
    fn load_if_it_fits(&mut self, ctx: &mut Context<Self>) {
        let budget = self.vault.settings.memory_budget_bytes;
        if self.loading || self.view.is_complete() || !load::is_likely_to_fit(self.view.relationships, budget)
        {
            return;
        }
        (self.loading, self.load_later) = (true, false);
        let (vault, schema) = (Arc::clone(&self.vault), Arc::clone(&self.view.schema));
        let loading = async move {
            let ledger = &vault.memory.ledger;
            load::whole(&vault.store, vault.id, schema, budget, ledger).await
        };
        ctx.spawn(loading.into_actor(self).map(|loaded, actor, ctx| {
            actor.loading = false;
            match loaded {
                Ok(Loaded::Whole {
                    view,
                    through,
                    charge,
                }) if view.schema.generation == actor.view.schema.generation => {
                    actor.loaded = Some((*view, charge));
                    actor.replay(through, ctx);
                }
                Ok(Loaded::Whole { .. }) => actor.load_if_it_fits(ctx),
                Ok(Loaded::TooLarge) => {}
                Ok(Loaded::NoRoom) => actor.load_later = true,
                Err(error) => {
                    actor.load_later = true;
                    tracing::warn!(vault = %actor.vault.id, %error, "could not load the vault into memory")
                }
            }
        }));
    }

    /// Brings the loaded view and the published one to one revision, `through` at least (the loaded rows are of no later
    /// one), then publishes the loaded rows.
    fn replay(&mut self, through: Revision, ctx: &mut Context<Self>) {
        let Some((loaded, _)) = &self.loaded else { return };
        // From the older of the two: neither may skip a change that the other has.
        let (vault, after) = (Arc::clone(&self.vault), loaded.revision.min(self.view.revision));
        let reading = async move { vault.store.changes(vault.id, after, PASS_CHANGES).await };
        ctx.spawn(reading.into_actor(self).map(move |changes, actor, ctx| {
            let changes = match changes {
                Ok(changes) => changes,
                Err(StoreError::HistoryGone) => {
                    // The vault was replaced, or the log trimmed: a pass finds out and reads it anew.
                    (actor.loaded, actor.load_later) = (None, true);
                    actor.start_pass(ctx);
                    return;
                }
                Err(error) => {
                    tracing::warn!(vault = %actor.vault.id, %error, "could not complete the loaded vault");
                    (actor.loaded, actor.load_later) = (None, true);
                    return;
                }
            };
            if matches!(
                actor.apply(&changes),
                Applied::NeedsReload | Applied::NeedsRecord(_)
            ) {
                // A pass reads what changed, and loads the vault again.
                actor.loaded = None;
                actor.start_pass(ctx);
                return;
            }
            let Some((mut loaded, charge)) = actor.loaded.take() else {
                return;
            };
            if loaded.schema.generation != actor.view.schema.generation {
                return actor.load_if_it_fits(ctx);
            }
            let loaded_at = loaded.revision;
            for change in changes.iter().filter(|change| change.revision > loaded_at) {
                match &change.kind {
                    ChangeKind::Relationships(relationships) => {
                        apply_relationships(&mut loaded, change.revision, relationships);
                    }
                    // The published view has read it already.
                    ChangeKind::Schema | ChangeKind::Settings => loaded.revision = change.revision,
                }
            }
            // A pass may have brought the published view further meanwhile.
            if loaded.revision >= through && loaded.revision == actor.view.revision {
                actor.view.complete_with(loaded);
                // From here on the vault's own.
                drop(charge);
                actor.publish();
            } else if charge.try_set(loaded.bytes()) {
                actor.loaded = Some((loaded, charge));
                actor.replay(through, ctx);
            } else {
                actor.load_later = true;
            }
        }));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applied {
    Nothing,
    Something,
    NeedsReload,
    /// Nothing but the vault's record changed at this revision, up to which everything is applied.
    NeedsRecord(Revision),
}

/// Applies one change record's relationships to a view.
fn apply_relationships(
    view: &mut View,
    revision: Revision,
    changes: &[(ChangeOp, inferadb_engine::noun::Relationship)],
) {
    let schema = Arc::clone(&view.schema);
    let mut touched = Touched::default();
    for (op, relationship) in changes {
        background::breathe();
        match op {
            ChangeOp::Created => view.relationships += 1,
            ChangeOp::Deleted => view.relationships = view.relationships.saturating_sub(1),
            ChangeOp::Updated => {}
        }
        // A change of terms can take a relationship out of what fits the schema: its row must not keep the old one.
        let Some(slot) = schema.slot_of(relationship) else {
            continue;
        };
        let key = RowKey {
            slot,
            object: relationship.resource.id.clone(),
        };
        view.touch_relation(slot, revision, &mut touched);
        match (op, schema.row_entry(relationship)) {
            (ChangeOp::Created | ChangeOp::Updated, Some((key, entry))) => view.put(key, entry),
            _ => view.remove(&key, &relationship.subject.id),
        }
    }
    view.revision = revision;
}

impl Actor for VaultActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(self.vault.limits.load().mailbox_capacity as usize);
        self.load_if_it_fits(ctx);
        // At once, and not only on the timer: a vault may never be active for so long.
        self.trim(ctx);
        let idle = self.vault.settings.idle_timeout.unwrap_or(TRIM_INTERVAL);
        ctx.run_interval((idle / 2).min(TRIM_INTERVAL), Self::tend);
        if self.vault.store.is_shared() {
            self.follow_head(ctx);
        }
        // Behind the watch of the head. Also, after a failure, a commit of the actor that died may land after this one
        // has read the vault.
        if self.vault.store.is_shared() || self.vault.follows_failure {
            self.poll(ctx);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.0.gate.mark_dead();
        self.0.feed.close();
    }
}

impl Handler<CatchUp> for VaultActor {
    type Result = ResponseFuture<Result<(), VaultError>>;

    fn handle(&mut self, message: CatchUp, ctx: &mut Self::Context) -> Self::Result {
        let waiting = self.wait(message.0, ctx);
        Box::pin(async move { waiting.await.unwrap_or(Err(VaultError::ActorFailed)) })
    }
}

impl Handler<Admit> for VaultActor {
    type Result = ();

    fn handle(&mut self, message: Admit, _ctx: &mut Self::Context) {
        // Rows of another revision may lack what was changed since: they are only worth reading again.
        if message.revision != self.view.revision || self.view.is_complete() {
            return;
        }
        let offered = message
            .rows
            .iter()
            .map(|(key, row)| rows::weight(key, row.as_ref()));
        if !self.vault.memory.ledger.ask_room(offered.sum()) {
            // They can be read again, and by then there may be room.
            return;
        }
        for (key, row) in message.rows {
            self.view.admit(key, row);
        }
        self.publish();
    }
}

impl Handler<Slim> for VaultActor {
    type Result = ();

    fn handle(&mut self, Slim(bytes): Slim, _ctx: &mut Self::Context) {
        let before = self.vault.bytes();
        let held = |actor: &Self| actor.vault.bytes_with(&actor.view) + actor.vault.decisions.bytes();
        let freed = |actor: &Self| before.saturating_sub(held(actor));
        while freed(self) < bytes && self.give_up_something() {}
        self.publish();
    }
}

impl Handler<Commit> for VaultActor {
    type Result = ResponseActFuture<Self, Result<Committed, VaultError>>;

    fn handle(&mut self, Commit { operation, share }: Commit, _ctx: &mut Self::Context) -> Self::Result {
        let vault = Arc::clone(&self.vault);
        let is_delete = matches!(operation, Operation::Delete(_));
        // The commit is inside until it is done, though whoever asked may be gone: a drain waits for it.
        let pass = vault.gate.stay();
        let committing = async move {
            let started = Instant::now();
            let outcome = operation.run(&vault).await;
            if outcome.is_ok() {
                vault.metrics.commits(started.elapsed());
            }
            outcome
        };
        Box::pin(committing.into_actor(self).then(move |outcome, actor, ctx| {
            let until = match &outcome {
                Ok(committed) => Some(Until::Revision(committed.revision)),
                Err(VaultError::Storage(StoreError::SchemaMoved)) => Some(Until::Head),
                // Earlier ones of its transactions may be stored: what they deleted counts from now on.
                Err(_) if is_delete => Some(Until::Head),
                Err(_) => None,
            };
            let waiting = until.map(|until| actor.wait(until, ctx));
            async move {
                let _inside = (pass, share);
                let caught_up = match waiting {
                    Some(waiting) => waiting.await.unwrap_or(Err(VaultError::ActorFailed)),
                    None => Ok(()),
                };
                match (outcome, caught_up) {
                    (Ok(committed), Ok(())) => Ok(committed),
                    (Ok(_), Err(_)) => Err(VaultError::OutcomeUnknown),
                    (Err(error), _) => Err(error),
                }
            }
            .into_actor(actor)
            .map(|outcome, actor, ctx| {
                if matches!(outcome, Err(VaultError::OutcomeUnknown)) {
                    actor.doubt(ctx);
                    actor.repeat_pass(ctx);
                }
                outcome
            })
        }))
    }
}

impl Handler<Doubt> for VaultActor {
    type Result = ();

    fn handle(&mut self, _message: Doubt, ctx: &mut Self::Context) {
        self.doubt(ctx);
    }
}

impl Handler<Stop> for VaultActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _message: Stop, _ctx: &mut Self::Context) -> Self::Result {
        // A commit that arrived before this message may still be under way.
        let gate = Arc::clone(&self.vault.gate);
        let emptied = async move { gate.emptied().await };
        Box::pin(emptied.into_actor(self).map(|(), _, ctx| ctx.stop()))
    }
}

/// The time of day, for stamping records.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
