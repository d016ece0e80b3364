//! An active vault: the handle that requests go through, its actor behind it.

mod actor;
mod check;
mod commit;
mod contextual;
mod expand;
mod feed;
mod fit;
mod frame;
mod gate;
mod list;
mod list_read;
mod load;
mod messages;
mod operation;
mod permissions;
mod read;
mod simulate;
mod trial;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use actix::prelude::*;
use arc_swap::ArcSwap;
use inferadb_engine::noun::Timestamp;
use inferadb_storage::{AccountId, MAX_ROW_BYTES, Revision, Store, VaultId, VaultRecord};
use tokio::sync::Semaphore;

pub use self::actor::now;
pub(crate) use self::check::resolve;
pub use self::check::{Answer, Batch, CheckRequest, Explanation};
pub use self::contextual::MAX_CONTEXTUAL_RELATIONSHIPS;
pub use self::expand::{ExpandRequest, Expanded, MAX_EXPAND_NODES};
pub(crate) use self::feed::relationship_bytes;
pub(crate) use self::fit::Fit;
pub use self::gate::{Closed, Pass};
pub use self::list::{ListPage, ListRequest, Paging, ResourcesRequest, SubjectsRequest};
pub(crate) use self::load::compile_apart as compile_stored;
pub(crate) use self::load::{Admitted, Opened};
pub use self::messages::Until;
pub use self::operation::{Committed, DeleteRequest, Operation, SchemaWrite, StoredSchema, WriteRequest};
pub(crate) use self::operation::{format_number, format_of};
pub use self::permissions::{Permission, Permissions, PermissionsRequest};
pub use self::read::{ReadPage, RelationshipStream};
pub use self::simulate::{BeforeAfter, SimulateRequest, Simulation};
pub use self::watch::Watch;

use self::actor::VaultActor;
use self::commit::{CHANGES_AT_STORAGE, WRITING_KIB, Waiting};
use self::feed::Feed;
use self::frame::HOLD_WIDE;
use self::gate::Gate;
use self::messages::{CatchUp, Doubt, Slim, Stop};
use crate::decisions::Decisions;
use crate::error::VaultError;
use crate::ledger::Charge;
use crate::limiter::Limiter;
use crate::memory::Memory;
use crate::metrics::{Metrics, VaultMetrics};
use crate::settings::{Limits, Settings};
use crate::turn::Turn;
use crate::view::View;

/// What a vault weighs that holds nothing: itself, its actor with its mailbox and timers, its series, its place in the registry.
/// Measured with ten thousand of them (`docs/performance.md`).
pub(crate) const VAULT_BYTES: usize = 6_400;
/// What a request is taken to cost beside its evaluation, in nanoseconds: reading it, looking at its token, answering it.
const NANOS_A_REQUEST: u64 = 30_000;
/// How long a sweep waits for an actor that is to let go of something.
const SLIM_PATIENCE: Duration = Duration::from_millis(100);
/// When to try again where only others can tell.
pub(crate) const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How fresh an answer must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Whatever can be answered at once; on one server that includes every write that was answered before.
    #[default]
    MinimizeLatency,
    /// Everything committed before the request, on any server.
    FullyConsistent,
    /// At least what this revision shows.
    AtLeast(Revision),
}

/// An active vault. Requests hold it through a [`Pass`] of its gate.
pub struct Vault {
    /// Its id.
    pub id: VaultId,
    /// The account that owns it, for ever.
    pub account: AccountId,
    /// Its metrics.
    pub metrics: VaultMetrics,
    record: ArcSwap<VaultRecord>,
    limits: ArcSwap<Limits>,
    view: ArcSwap<View>,
    decisions: Decisions,
    gate: Arc<Gate>,
    feed: Feed,
    store: Store,
    memory: Memory,
    /// For all it holds but decisions, which are charged by themselves.
    charge: Charge,
    /// Held while that changes with what is published.
    sizing: Mutex<()>,
    settings: Arc<Settings>,
    address: OnceLock<Addr<VaultActor>>,
    pulse: Pulse,
    activated_at: Timestamp,
    activation: OnceLock<Duration>,
    /// Whether an actor of this vault died shortly before, or it is in doubt what is stored.
    follows_failure: bool,
    /// Whether something was committed to it, or should have been, that its actor did not come to know of.
    in_doubt: AtomicBool,
    id_text: String,
    account_text: String,
    latest_token: ArcSwap<(Revision, Arc<str>)>,
    checks: Arc<Limiter>,
    writes: Arc<Limiter>,
    committing: Arc<Semaphore>,
    /// In kibibytes: what the writes that are under way or wait may weigh.
    writing: Arc<Semaphore>,
    /// One piece of work apart at a time.
    apart: Arc<Semaphore>,
    /// One trial at a time, which is many such pieces.
    trials: Arc<Semaphore>,
    /// A few evaluations at a time that hold wide rows, or heavy ones.
    wide: Arc<Semaphore>,
}

/// What came before an actor of a vault.
pub(crate) struct Before {
    /// Whether an actor of the vault died shortly before, or it is in doubt what is stored.
    pub(crate) is_failure: bool,
    /// What the vault owes of its rates.
    pub(crate) rates: Rates,
}

/// What a vault has used of its rates. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rates {
    checks: Arc<Limiter>,
    writes: Arc<Limiter>,
}

impl Rates {
    /// Whether nothing is owed any more: then they are as good as new ones.
    pub(crate) fn are_spent_out(&self, now: Instant) -> bool {
        self.checks.is_spent_out(now) && self.writes.is_spent_out(now)
    }
}

/// What each request writes, on cache lines of its own: a core that reads the rest of the vault does not fetch it anew
/// after every request of another.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Pulse {
    waiting: AtomicUsize,
    last_used: AtomicI64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
    /// Nanoseconds of CPU, as far as they are known: turns by the clock, all else by what it usually takes.
    used: AtomicU64,
    /// How many of its requests take turns, or wait for one.
    in_turns: AtomicUsize,
    /// What `used` was when the latest window began.
    used_before: AtomicU64,
    /// What `used` may come to in this window.
    ceiling: Ceiling,
}

/// A bound that usually is none.
#[derive(Debug)]
struct Ceiling(AtomicU64);

impl Default for Ceiling {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

/// What `/stats` shows of an active vault.
#[derive(Debug, Clone)]
pub struct VaultStats {
    /// When it was activated.
    pub activated_at: Timestamp,
    /// When it was last used.
    pub last_used_at: Timestamp,
    /// The revision its reads are answered at.
    pub revision: Revision,
    /// Stored relationships.
    pub relationships: u64,
    /// Whether all of them are in memory.
    pub resident: bool,
    /// Rows in memory.
    pub rows: usize,
    /// What they weigh.
    pub row_bytes: usize,
    /// Cached decisions.
    pub decisions: usize,
    /// What they weigh.
    pub decision_bytes: usize,
    /// What its schema weighs, whoever shares it.
    pub schema_bytes: usize,
    /// All of these, and what any vault weighs beside them.
    pub memory_bytes: usize,
    /// What rows and decisions may weigh.
    pub memory_budget_bytes: usize,
    /// How long its activation took; zero until it is done.
    pub activation: Duration,
    /// How long it stays active without requests; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// Checks answered from the decision cache since activation.
    pub cache_hits: u64,
    /// Checks that had to be evaluated.
    pub cache_misses: u64,
    /// Requests waiting for the actor.
    pub mailbox_depth: usize,
    /// Requests under way, this one included where it is one of the vault's.
    pub in_flight: usize,
    /// Open watches.
    pub watches: usize,
    /// The limits in force.
    pub limits: Limits,
}

impl Vault {
    /// Starts the actor of a vault that was read from storage on `arbiter`.
    pub(crate) fn start(
        Admitted { opened, charge }: Admitted,
        store: Store,
        memory: Memory,
        settings: Arc<Settings>,
        metrics: &Metrics,
        arbiter: &ArbiterHandle,
        before: Before,
    ) -> Arc<Self> {
        let id = opened.record.id;
        let limits = effective_limits(&settings, &opened.record);
        let account = opened.record.account;
        let revision = opened.view.revision;
        let latest_token = (revision, Arc::from(revision.encode(id)));
        let compile_nanos = opened.compile_nanos;
        let vault = Arc::new(Self {
            id,
            account,
            metrics: metrics.vault(&id.to_string()),
            record: ArcSwap::from_pointee(opened.record),
            limits: ArcSwap::from_pointee(limits),
            view: ArcSwap::from_pointee(opened.view),
            decisions: Decisions::new(
                settings.cache,
                settings.memory_budget_bytes / 2,
                memory.ledger.charge(),
            ),
            gate: Arc::default(),
            feed: Feed::new(revision),
            store,
            charge,
            sizing: Mutex::default(),
            memory,
            settings,
            address: OnceLock::new(),
            pulse: Pulse {
                last_used: AtomicI64::new(now().0),
                ..Pulse::default()
            },
            activated_at: now(),
            activation: OnceLock::new(),
            follows_failure: before.is_failure,
            in_doubt: AtomicBool::new(false),
            id_text: id.to_string(),
            account_text: account.to_string(),
            latest_token: ArcSwap::from_pointee(latest_token),
            checks: before.rates.checks,
            writes: before.rates.writes,
            committing: Arc::new(Semaphore::new(CHANGES_AT_STORAGE as usize)),
            writing: Arc::new(Semaphore::new(WRITING_KIB as usize)),
            apart: Arc::new(Semaphore::new(1)),
            trials: Arc::new(Semaphore::new(1)),
            wide: Arc::new(Semaphore::new(HOLD_WIDE)),
        });
        vault.charge(compile_nanos);
        vault.report_size();
        let actor_of = Arc::clone(&vault);
        let address = VaultActor::start_in_arbiter(arbiter, move |_| VaultActor::new(actor_of));
        // Set once, here, before anybody else has the vault.
        let _ = vault.address.set(address);
        vault
    }

    /// Comes in for one request.
    pub fn enter(&self, now: Timestamp) -> Result<Pass, Closed> {
        let pass = self
            .gate
            .enter(self.limits.load().max_concurrent_requests as usize)?;
        self.pulse.last_used.store(now.0, Ordering::Relaxed);
        if self.is_spent() {
            return Err(Closed::Spent);
        }
        self.charge(NANOS_A_REQUEST);
        Ok(pass)
    }

    /// Whether the server is overloaded and the vault has used its share.
    pub(crate) fn is_spent(&self) -> bool {
        self.pulse.used.load(Ordering::Relaxed) >= self.pulse.ceiling.0.load(Ordering::Relaxed)
    }

    /// Ends a window in which what the vault uses of the CPU is counted: how many nanoseconds it was.
    pub fn end_window(&self) -> u64 {
        let used = self.pulse.used.load(Ordering::Relaxed);
        let before = self.pulse.used_before.swap(used, Ordering::Relaxed);
        used.saturating_sub(before)
    }

    /// Lets the vault use so many nanoseconds of the CPU in the window that begins; `None`: any number.
    pub fn hold_to(&self, nanos: Option<u64>) {
        let before = self.pulse.used_before.load(Ordering::Relaxed);
        let ceiling = nanos.map_or(u64::MAX, |nanos| before.saturating_add(nanos));
        self.pulse.ceiling.0.store(ceiling, Ordering::Relaxed);
    }

    /// The turns of one request that is inside.
    pub fn turn(&self) -> Turn<'_> {
        Turn::new(
            self.id,
            self.settings.turn,
            (&self.pulse.used, &self.pulse.in_turns),
            self.metrics.turns(),
        )
    }

    /// An error for a request that is over one of the vault's limits.
    pub(crate) fn over(&self, limit: &'static str, retry_after: Duration) -> VaultError {
        self.metrics.refused(limit);
        VaultError::RateLimited { limit, retry_after }
    }

    /// As [`Vault::over`], for a request that is not let in: nobody else counts it.
    pub(crate) fn turn_away(&self, limit: &'static str) -> VaultError {
        self.metrics.requests.inc();
        self.metrics.errors.inc();
        self.over(limit, RETRY_AFTER)
    }

    /// Charges so many nanoseconds of CPU to the vault.
    pub(crate) fn charge(&self, nanos: u64) {
        self.pulse.used.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The schema as it is stored, if there is one.
    pub async fn schema(&self) -> Result<Option<StoredSchema>, VaultError> {
        let view = self.view_for(Consistency::FullyConsistent).await?;
        Ok(view.schema.revision.map(|revision| StoredSchema {
            text: view.schema.text.clone(),
            format: view.schema.format,
            revision,
        }))
    }

    /// The id as text.
    pub fn id_text(&self) -> &str {
        &self.id_text
    }

    /// The account's id as text.
    pub fn account_text(&self) -> &str {
        &self.account_text
    }

    /// A revision of this vault as a token. The latest one asked for is kept: nearly all answers name the same.
    pub fn token(&self, revision: Revision) -> Arc<str> {
        let latest = self.latest_token.load();
        if latest.0 == revision {
            return Arc::clone(&latest.1);
        }
        let token: Arc<str> = revision.encode(self.id).into();
        self.latest_token.store(Arc::new((revision, Arc::clone(&token))));
        token
    }

    /// The vault's record.
    pub fn record(&self) -> Arc<VaultRecord> {
        self.record.load_full()
    }

    /// The view that reads are answered from now.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The state that reads are answered from now.
    pub fn view_revision(&self) -> Revision {
        self.view.load().revision
    }

    /// When it was last used.
    pub fn last_used(&self) -> Timestamp {
        Timestamp(self.pulse.last_used.load(Ordering::Relaxed))
    }

    /// What it holds in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes_beside_decisions() + self.decisions.bytes()
    }

    fn bytes_beside_decisions(&self) -> usize {
        self.bytes_with(&self.view.load())
    }

    /// What it holds, or would with this view, beside decisions.
    fn bytes_with(&self, view: &View) -> usize {
        load::bytes_with(view) + self.feed.bytes()
    }

    /// Requests under way.
    pub fn in_flight(&self) -> usize {
        self.gate.inside()
    }

    /// Whether a watch pins it.
    pub fn is_watched(&self) -> bool {
        self.gate.watching() > 0
    }

    /// Stays inside on behalf of a request whose answer is sent after its handler is done.
    pub fn stay(&self) -> Pass {
        self.gate.stay()
    }

    /// Whether it takes requests.
    pub fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Whether its actor died.
    pub fn is_dead(&self) -> bool {
        self.gate.is_dead()
    }

    /// Notes how long the activation took, once.
    pub fn activated_in(&self, took: Duration) {
        // A second time would be a mistake of no consequence.
        let _ = self.activation.set(took);
    }

    /// Lets no request in any more, if none is inside and nobody watches; says whether it did.
    pub fn close_if_idle(&self) -> bool {
        self.gate.close_if_empty()
    }

    /// Lets no request in any more, waits for those inside, and stops the actor. Those inside one whose actor died are not waited for:
    /// what they read stays as it is.
    pub async fn drain(&self) {
        self.gate.close();
        self.feed.close();
        if self.is_dead() {
            return;
        }
        self.gate.emptied().await;
        if let Some(address) = self.address.get() {
            // An error says that the actor is gone already.
            let _ = address.send(Stop).await;
        }
    }

    /// Whether it holds anything that it could do without.
    pub fn can_slim(&self) -> bool {
        self.view.load().bytes() + self.decisions.bytes() + self.feed.bytes() > 0
    }

    /// Has the actor let go of so many bytes, the coldest ones; waits a moment for it.
    pub async fn slim(&self, bytes: usize) {
        if let Some(address) = self.address.get() {
            // One that is gone holds nothing, and one that is late is asked again at the next sweep.
            let _ = tokio::time::timeout(SLIM_PATIENCE, address.send(Slim(bytes))).await;
        }
    }

    /// Has the actor look for changes on a timer: what was committed by another way than it has an unknown outcome.
    pub(crate) fn doubt(&self) {
        if let Some(address) = self.address.get() {
            // In any case: it is past what a full mailbox is to hold back. A dead actor's successor looks anyway.
            address.do_send(Doubt);
        }
    }

    /// What it has used of its rates.
    pub(crate) fn rates(&self) -> Rates {
        Rates {
            checks: Arc::clone(&self.checks),
            writes: Arc::clone(&self.writes),
        }
    }

    /// Whether its next actor, too, has to look for what is stored.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Relaxed)
    }

    /// What `/stats` shows.
    pub fn stats(&self) -> VaultStats {
        let view = self.view.load();
        let schema_bytes = view.schema.bytes();
        VaultStats {
            activated_at: self.activated_at,
            last_used_at: self.last_used(),
            revision: view.revision,
            relationships: view.relationships,
            resident: view.is_complete(),
            rows: view.row_count(),
            row_bytes: view.bytes(),
            decisions: self.decisions.len(),
            decision_bytes: self.decisions.bytes(),
            schema_bytes,
            memory_bytes: VAULT_BYTES + view.bytes() + self.decisions.bytes() + schema_bytes,
            memory_budget_bytes: self.settings.memory_budget_bytes,
            activation: self.activation.get().copied().unwrap_or_default(),
            idle_timeout: self.settings.idle_timeout,
            cache_hits: self.pulse.cache_hits.load(Ordering::Relaxed),
            cache_misses: self.pulse.cache_misses.load(Ordering::Relaxed),
            mailbox_depth: self.pulse.waiting.load(Ordering::Relaxed),
            in_flight: self.in_flight(),
            watches: self.gate.watching(),
            limits: **self.limits.load(),
        }
    }

    /// Tells the ledger and the metrics what the vault holds. It can have grown unseen by the plans of lists, which it gives up where there is
    /// no room for them, and by its part of a schema that others share no longer: that is counted as soon as there is room. Decisions
    /// that were added since its rows were last held to its budget go where both are more than that.
    pub fn report_size(&self) {
        let rows = self.view.load().bytes();
        while rows + self.decisions.bytes() > self.settings.memory_budget_bytes && self.decisions.len() > 0 {
            self.decisions.shrink();
        }
        let _sizing = self.sizing();
        if !self.charge.try_set(self.bytes_beside_decisions()) {
            self.view.load().schema.forget_plans();
            self.charge.try_set(self.bytes_beside_decisions());
        }
        self.show_size();
    }

    fn show_size(&self) {
        self.metrics.set_relationships(self.view.load().relationships);
        self.metrics.set_cache_memory(self.bytes());
    }

    fn sizing(&self) -> MutexGuard<'_, ()> {
        self.sizing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the view as far as `until` says.
    pub async fn catch_up(&self, until: Until) -> Result<(), VaultError> {
        self.ask(CatchUp(until)).await
    }

    async fn ask<M, T>(&self, message: M) -> Result<T, VaultError>
    where
        M: Message<Result = Result<T, VaultError>> + Send + 'static,
        T: Send + 'static,
        VaultActor: Handler<M>,
    {
        let _waiting = Waiting::enter(self)?;
        self.send(message).await
    }

    async fn send<M, T>(&self, message: M) -> Result<T, VaultError>
    where
        M: Message<Result = Result<T, VaultError>> + Send + 'static,
        T: Send + 'static,
        VaultActor: Handler<M>,
    {
        let address = self.address.get().ok_or(VaultError::ActorFailed)?;
        match address.send(message).await {
            Ok(answer) => answer,
            // The message was lost with its actor. Whether a commit had happened is not known here.
            Err(MailboxError::Closed | MailboxError::Timeout) => Err(VaultError::ActorFailed),
        }
    }

    /// The most bytes of terms that one row is read with, where it is stored: a row that can be resident can be read.
    fn max_row_bytes(&self) -> usize {
        MAX_ROW_BYTES.max(self.settings.memory_budget_bytes.saturating_mul(2))
    }

    /// Publishes a view if there is room for what it holds more than the one before.
    fn publish(&self, view: &View) -> bool {
        let _sizing = self.sizing();
        let has_room = self.charge.try_set(self.bytes_with(view));
        if has_room {
            self.show(view);
        }
        has_room
    }

    /// Publishes a view of a vault that has nothing left to give up: its schema has to be held.
    fn publish_in_any_case(&self, view: &View) {
        let _sizing = self.sizing();
        self.charge.set(self.bytes_with(view));
        self.show(view);
    }

    fn show(&self, view: &View) {
        self.view.store(Arc::new(view.clone()));
        self.feed.moved(view.revision);
        self.show_size();
    }

    fn set_record(&self, record: VaultRecord) {
        self.limits.store(Arc::new(self.limits_of(&record)));
        self.record.store(Arc::new(record));
    }

    /// The limits that a record of it says.
    fn limits_of(&self, record: &VaultRecord) -> Limits {
        effective_limits(&self.settings, record)
    }

    /// Closes the vault from within: it was deleted or archived elsewhere.
    fn retire(&self) {
        self.gate.close();
        self.feed.close();
    }

    /// The view for a request of the given consistency.
    async fn view_for(&self, consistency: Consistency) -> Result<Arc<View>, VaultError> {
        match consistency {
            Consistency::MinimizeLatency => {}
            Consistency::FullyConsistent => Box::pin(self.catch_up(Until::Head)).await?,
            Consistency::AtLeast(revision) => {
                if self.view.load().revision < revision {
                    Box::pin(self.catch_up(Until::Revision(revision))).await?;
                }
            }
        }
        Ok(self.view())
    }
}

fn effective_limits(settings: &Settings, record: &VaultRecord) -> Limits {
    crate::limits::overridden(settings.limits, record.limits.as_ref())
}
