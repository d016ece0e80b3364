//! The registry: finds, starts, drains and respawns vault actors. Each vault has at most one slot, and a slot goes
//! `Absent → Starting → Active → Draining → Absent`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use dashmap::mapref::entry::Entry;
use dashmap::{DashMap, DashSet};
use futures_util::future::join_all;
use inferadb_engine::noun::Timestamp;
use inferadb_storage::{Store, VaultId};
use tokio::sync::watch;

use crate::error::VaultError;
use crate::ledger::Ledger;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::overload::Overload;
use crate::settings::Settings;
use crate::sweeps::Sweeps;
use crate::vault::{Closed, Pass, RETRY_AFTER, VAULT_BYTES, Vault, now};

/// The first wait before an actor that died is started again; it doubles with each further death.
const FIRST_BACK_OFF: Duration = Duration::from_millis(10);
/// The longest such wait.
const LONGEST_BACK_OFF: Duration = Duration::from_millis(640);
/// An actor that has lived so long is not held responsible for earlier deaths.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// Finds the actor of a vault, starting it where it has none.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    slots: DashMap<VaultId, Slot, ahash::RandomState>,
    deaths: DashMap<VaultId, Deaths, ahash::RandomState>,
    /// Vaults of which it is not known whether a commit is stored, or yet will be: whatever reads them keeps looking. Storage that
    /// failed says no more of when that ends, so it does not.
    doubts: DashSet<VaultId, ahash::RandomState>,
    active: AtomicUsize,
    evictions: AtomicU64,
    stopping: AtomicBool,
    sweeps: tokio::sync::Mutex<Sweeps>,
    store: Store,
    memory: Memory,
    settings: Arc<Settings>,
    metrics: Metrics,
    arbiters: Vec<Arbiter>,
    overload: Overload,
}

enum Slot {
    /// Being started; whoever waits looks again when this changes.
    Starting(watch::Receiver<Failure>),
    Active(Arc<Vault>),
    /// Being drained; whoever waits looks again when this changes.
    Draining(watch::Receiver<Failure>),
}

/// Why a start failed, for all who waited for it.
type Failure = Option<VaultError>;

/// A vault, and, for whoever started it, the way into it.
type Resolved = (Arc<Vault>, Option<Result<Pass, Closed>>);

struct Deaths {
    count: u32,
    latest: Instant,
}

/// Why a vault stopped being active; the `reason` label of the evictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nobody used it for the configured time.
    Idle,
    /// Others were used more recently, and there are too many.
    MaxActive,
    /// Others were used more recently, and memory is short.
    Memory,
    /// An administrator asked for it.
    Requested,
    /// It was archived.
    Archived,
    /// It was deleted.
    Deleted,
    /// Its actor died, or found the vault gone.
    Failed,
    /// The server stops.
    Shutdown,
}

impl Reason {
    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::MaxActive => "max_active",
            Self::Memory => "memory",
            Self::Requested => "requested",
            Self::Archived => "archived",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
            Self::Shutdown => "shutdown",
        }
    }
}

impl Registry {
    /// A registry without active vaults, whose actors live on `settings.actor_threads` threads of their own.
    pub fn new(store: Store, settings: Arc<Settings>, metrics: Metrics) -> Self {
        let arbiters = (0..settings.actor_threads.max(1))
            .map(|_| Arbiter::new())
            .collect();
        Self(Arc::new(Inner {
            slots: DashMap::default(),
            deaths: DashMap::default(),
            doubts: DashSet::default(),
            active: AtomicUsize::new(0),
            evictions: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            sweeps: tokio::sync::Mutex::default(),
            store,
            memory: Memory::new(settings.total_memory_bytes),
            settings,
            metrics,
            arbiters,
            overload: Overload::default(),
        }))
    }

    /// Comes into a vault for one request, starting its actor if need be. Waits while the vault starts or drains.
    pub async fn enter(&self, id: VaultId) -> Result<(Arc<Vault>, Pass), VaultError> {
        loop {
            let (vault, entered) = self.resolve(id).await?;
            match entered.unwrap_or_else(|| vault.enter(now())) {
                Ok(pass) => return Ok((vault, pass)),
                Err(Closed::Full) => return Err(vault.over("max_concurrent_requests", RETRY_AFTER)),
                Err(Closed::Spent) => return Err(vault.over("fair_share", RETRY_AFTER)),
                Err(Closed::Gone) => self.discard(&vault),
            }
        }
    }

    /// The vault, if it is active now.
    pub fn active(&self, id: VaultId) -> Option<Arc<Vault>> {
        match self.0.slots.get(&id).as_deref() {
            Some(Slot::Active(vault)) => Some(Arc::clone(vault)),
            _ => None,
        }
    }

    /// The vault, if it is active now or once it has started.
    pub async fn started(&self, id: VaultId) -> Option<Arc<Vault>> {
        loop {
            let mut waiting = match self.0.slots.get(&id).as_deref() {
                Some(Slot::Active(vault)) => return Some(Arc::clone(vault)),
                Some(Slot::Starting(waiting)) => waiting.clone(),
                Some(Slot::Draining(_)) | None => return None,
            };
            // An error says that the other side is done.
            let _ = waiting.changed().await;
        }
    }

    /// Notes that something may be stored in a vault, or may come to be, of which its actor is not told.
    pub async fn doubt(&self, id: VaultId) {
        self.0.doubts.insert(id);
        // One that starts meanwhile may have begun before.
        if let Some(vault) = self.started(id).await {
            vault.doubt();
        }
    }

    /// Notes how much later than it was due a thread that answers requests came to a task.
    pub fn observe_lag(&self, late: Duration) {
        self.0.metrics.lag_seconds.observe(late.as_secs_f64());
        self.0.overload.observe(late);
    }

    /// Ends a window: where the threads were late or memory is short, holds the vaults that use most to less.
    pub fn balance(&self) {
        let Inner {
            overload, settings, ..
        } = &*self.0;
        let late = overload.end_window();
        let is_late = settings.overload_lag.is_some_and(|most| late >= most);
        // What evictions brought down meanwhile only comes and goes.
        let is_over = self.ledger().stayed_over();
        let mut brake = overload.brake();
        let window = brake.end_window(Instant::now());
        if brake.is_released() && !is_late && !is_over {
            return;
        }
        let memory_is_short = brake.is_memory_short(is_over);
        let vaults = self.actives();
        let used: Vec<u64> = vaults.iter().map(|vault| vault.end_window()).collect();
        let was_held = brake.holds();
        let had = window.as_nanos() * settings.request_threads as u128;
        let had = u64::try_from(had).unwrap_or(u64::MAX);
        let level = brake.next(is_late, had, used.iter().copied());
        for vault in &vaults {
            vault.hold_to(level);
        }
        // One that is watched would not go though nobody were inside.
        let largest = vaults.iter().filter(|vault| !vault.is_watched());
        let largest = largest.max_by_key(|vault| vault.bytes());
        let largest = largest.filter(|_| memory_is_short);
        brake.hold_memory(largest.is_some());
        if let Some(largest) = largest {
            // As soon as nobody is inside it can be evicted.
            largest.hold_to(Some(0));
            tracing::warn!(vault = %largest.id, bytes = largest.bytes(), "memory is short: the largest vault takes no requests for now");
        }
        self.0.metrics.set_overloaded(brake.holds());
        if level.is_some() && !was_held {
            let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(late_ms, "overloaded: the busiest vaults are held to less");
        }
    }

    /// How long a vault without requests stays active.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.0.settings.idle_timeout
    }

    /// How many vaults are active.
    pub fn active_count(&self) -> usize {
        self.0.active.load(Ordering::Relaxed)
    }

    /// Drains a vault: lets those inside finish, then stops its actor. Ends when it is gone; the draining itself goes on
    /// though whoever asked goes away.
    pub async fn evict(&self, id: VaultId, reason: Reason) {
        loop {
            let (vault, done, mut waiting) = {
                let Some(mut slot) = self.0.slots.get_mut(&id) else {
                    return;
                };
                match &*slot {
                    Slot::Active(vault) => {
                        let vault = Arc::clone(vault);
                        let (done, waiting) = watch::channel(None);
                        *slot = Slot::Draining(waiting.clone());
                        (vault, done, waiting)
                    }
                    Slot::Starting(waiting) => {
                        let mut waiting = waiting.clone();
                        drop(slot);
                        // An error says that the other side is done. What it started may have been read before the
                        // change that is the reason of this eviction: look again.
                        let _ = waiting.changed().await;
                        continue;
                    }
                    Slot::Draining(waiting) => {
                        let mut waiting = waiting.clone();
                        drop(slot);
                        let _ = waiting.changed().await;
                        return;
                    }
                }
            };
            self.start_draining(vault, reason, done);
            let _ = waiting.changed().await;
            return;
        }
    }

    /// Drains a vault whose slot says so. It goes on though whoever asked goes away: the slot does not stay as it is.
    fn start_draining(&self, vault: Arc<Vault>, reason: Reason, done: watch::Sender<Failure>) {
        let (registry, id) = (self.clone(), vault.id);
        let draining = async move {
            registry.finish_draining(&vault, reason).await;
            drop(done);
        };
        if !self.arbiter_of(id).spawn(draining) {
            // The server has stopped, and all actors with it.
            self.0.slots.remove(&id);
        }
    }

    /// How many vaults stopped being active since the start.
    pub fn evictions(&self) -> u64 {
        self.0.evictions.load(Ordering::Relaxed)
    }

    /// The memory that all vaults hold.
    pub fn ledger(&self) -> &Ledger {
        &self.0.memory.ledger
    }

    /// Takes away what should not be active: idle vaults, the coldest ones beyond the caps or where there was no room for
    /// rows, and dead ones; answers how many it evicted. Does nothing while another sweep is under way.
    pub async fn sweep(&self, now: Timestamp) -> usize {
        let Ok(mut sweeps) = self.0.sweeps.try_lock() else {
            return 0;
        };
        let wanted = self.ledger().take_wanted();
        self.sweep_alone(now, wanted, &mut sweeps).await
    }

    /// Finds room for so many bytes more, at the cost of the coldest vaults; says whether there is.
    async fn make_room(&self, bytes: usize) -> bool {
        if self.ledger().has_room(bytes) {
            return true;
        }
        let mut sweeps = self.0.sweeps.lock().await;
        // Whoever swept before may have found enough for many.
        let began = Instant::now();
        if !self.ledger().has_room(bytes) && !sweeps.is_in_vain(began) {
            self.sweep_alone(now(), bytes, &mut sweeps).await;
            if !self.ledger().has_room(bytes) {
                sweeps.was_in_vain(began, Instant::now());
            }
        }
        self.ledger().has_room(bytes)
    }

    async fn sweep_alone(&self, now: Timestamp, wanted: usize, sweeps: &mut Sweeps) -> usize {
        let mut vaults: Vec<Arc<Vault>> = self.actives();
        for vault in &vaults {
            if !vault.is_open() {
                self.discard(vault);
            } else {
                vault.report_size();
            }
        }
        vaults.retain(|vault| vault.is_open());
        // Taken once: they are used while they are sorted.
        vaults.sort_by_cached_key(|vault| vault.last_used());
        let (settings, ledger) = (&self.0.settings, self.ledger());
        let is_short = !ledger.has_room(wanted);
        let wanted = wanted + ledger.margin();
        let mut count = vaults.len();
        // Some more than are too many, so that the next activation does not start the same again.
        let most = match count > settings.max_active {
            true => settings.max_active - settings.max_active / 64,
            false => settings.max_active,
        };
        for vault in &vaults {
            let idle_micros = now.0.saturating_sub(vault.last_used().0);
            let is_idle = settings
                .idle_timeout
                .is_some_and(|limit| u128::try_from(idle_micros).unwrap_or(0) >= limit.as_micros());
            let reason = if is_idle {
                Reason::Idle
            } else if count > most {
                Reason::MaxActive
            } else if is_short && !ledger.has_room(wanted) {
                Reason::Memory
            } else {
                break;
            };
            if self.evict_if_idle(vault, reason).await {
                count -= 1;
            }
        }
        if is_short && ledger.is_over() {
            self.slim(&vaults);
        }
        let evicted = vaults.len() - count;
        drop(vaults);
        let held = i64::try_from(ledger.held()).unwrap_or(i64::MAX);
        self.0.metrics.held_bytes.set(held);
        if sweeps.evicted(evicted, Instant::now()) {
            self.release_memory();
        }
        self.0
            .deaths
            .retain(|_, deaths| deaths.latest.elapsed() < FORGIVEN_AFTER);
        evicted
    }

    /// Has every thread that vaults lived on give back what they held: an allocator keeps it for the thread that allocated it.
    fn release_memory(&self) {
        let Some(release) = self.0.settings.release_memory else {
            return;
        };
        for arbiter in &self.0.arbiters {
            // One that has stopped has given back all it had.
            arbiter.spawn_fn(release);
        }
        release();
    }

    /// Takes the rows and decisions of vaults that cannot be evicted, since somebody is inside or watches: the coldest first, and
    /// not of more vaults than it takes.
    fn slim(&self, coldest_first: &[Arc<Vault>]) {
        let excess = self
            .ledger()
            .held()
            .saturating_sub(self.0.settings.total_memory_bytes);
        let mut freed = 0;
        for vault in coldest_first.iter().filter(|vault| vault.is_open()) {
            if freed >= excess {
                return;
            }
            let stats = vault.stats();
            freed += stats.row_bytes + stats.decision_bytes;
            vault.slim();
        }
    }

    /// Lets nobody in any more, and drains every vault; those that somebody is still inside after `within` are cut off.
    pub async fn stop(&self, within: Duration) {
        self.0.stopping.store(true, Ordering::SeqCst);
        let ids: Vec<VaultId> = self.0.slots.iter().map(|slot| *slot.key()).collect();
        let drains = ids.into_iter().map(|id| self.evict(id, Reason::Shutdown));
        if tokio::time::timeout(within, join_all(drains)).await.is_err() {
            tracing::warn!("stopped before every vault was drained");
        }
        for arbiter in &self.0.arbiters {
            arbiter.stop();
        }
    }

    async fn resolve(&self, id: VaultId) -> Result<Resolved, VaultError> {
        loop {
            if let Some(slot) = self.0.slots.get(&id) {
                let mut waiting = match &*slot {
                    Slot::Active(vault) => return Ok((Arc::clone(vault), None)),
                    Slot::Starting(waiting) | Slot::Draining(waiting) => waiting.clone(),
                };
                drop(slot);
                // An error says that the other side is done without a failure: look again.
                let _ = waiting.changed().await;
                let failure = waiting.borrow().clone();
                if let Some(failure) = failure {
                    return Err(failure);
                }
                if let Some(vault) = self.active(id) {
                    return Ok((vault, None));
                }
                if self.0.stopping.load(Ordering::SeqCst) {
                    return Err(VaultError::Stopping);
                }
                continue;
            }
            if self.0.stopping.load(Ordering::SeqCst) {
                return Err(VaultError::Stopping);
            }
            return self.start(id).await;
        }
    }

    /// Starts a vault's actor unless somebody else does. The start goes on though the request that asked goes away.
    async fn start(&self, id: VaultId) -> Result<Resolved, VaultError> {
        let done = match self.0.slots.entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => {
                let (done, waiting) = watch::channel(None);
                vacant.insert(Slot::Starting(waiting));
                Some(done)
            }
        };
        let Some(done) = done else {
            return Box::pin(self.resolve(id)).await;
        };
        let (answer, answered) = tokio::sync::oneshot::channel();
        let registry = self.clone();
        let arbiter = self.arbiter_of(id);
        let starting = async move {
            let guard = StartingSlot {
                registry: registry.clone(),
                id,
                started: false,
            };
            let outcome = registry.start_on(id, guard).await;
            if let Err(error) = &outcome {
                done.send_replace(Some(error.clone()));
            }
            drop(done);
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        };
        if !arbiter.spawn(starting) {
            self.0.slots.remove(&id);
            return Err(VaultError::Stopping);
        }
        answered.await.unwrap_or(Err(VaultError::ActorFailed))
    }

    async fn start_on(&self, id: VaultId, mut slot: StartingSlot) -> Result<Resolved, VaultError> {
        let started = Instant::now();
        let back_off = self.back_off(id);
        if let Some(wait) = back_off {
            tokio::time::sleep(wait).await;
        }
        let inner = &self.0;
        if !self.make_room(VAULT_BYTES).await {
            return Err(VaultError::Overloaded(
                "the vaults in use take all memory there is for vaults",
            ));
        }
        let arbiter = self.arbiter_of(id);
        let (store, settings) = (inner.store.clone(), Arc::clone(&inner.settings));
        let memory = inner.memory.clone();
        let vault = Vault::activate(
            id,
            store,
            memory,
            settings,
            &inner.metrics,
            &arbiter,
            back_off.is_some() || inner.doubts.contains(&id),
        )
        .await?;
        inner.metrics.activations.inc();
        let took = started.elapsed();
        vault.activated_in(took);
        inner.metrics.activation_seconds.observe(took.as_secs_f64());
        inner.metrics.active_vaults.inc();
        let active = inner.active.fetch_add(1, Ordering::Relaxed) + 1;
        // Whoever asked is inside before anybody can evict it again: otherwise, where every other vault is in use, a
        // sweep for room would take the newcomer, and the request would never get in.
        let entered = vault.enter(now());
        inner.slots.insert(id, Slot::Active(Arc::clone(&vault)));
        slot.started = true;
        tracing::debug!(vault = %id, "vault activated");
        if active > inner.settings.max_active {
            let registry = self.clone();
            arbiter.spawn(async move {
                registry.sweep(now()).await;
            });
        }
        Ok((vault, Some(entered)))
    }

    /// How long to wait before a vault whose actor died lately is started again.
    fn back_off(&self, id: VaultId) -> Option<Duration> {
        let deaths = self.0.deaths.get(&id)?;
        let wait = FIRST_BACK_OFF
            .saturating_mul(1 << deaths.count.saturating_sub(1).min(10))
            .min(LONGEST_BACK_OFF);
        (deaths.latest.elapsed() < FORGIVEN_AFTER).then_some(wait)
    }

    /// Forgets a vault that closed by itself or whose actor died, so that the next request starts it anew.
    fn discard(&self, vault: &Arc<Vault>) {
        let removed = self.0.slots.remove_if(
            &vault.id,
            // A sweep that found somebody inside may have opened it again.
            |_, slot| matches!(slot, Slot::Active(held) if Arc::ptr_eq(held, vault) && !held.is_open()),
        );
        if removed.is_none() {
            return;
        }
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.evictions.fetch_add(1, Ordering::Relaxed);
        self.0.metrics.active_vaults.dec();
        self.0
            .metrics
            .evictions
            .with_label_values(&[Reason::Failed.as_str()])
            .inc();
        if vault.is_dead() {
            self.0.metrics.respawns.inc();
            tracing::error!(vault = %vault.id, "the vault's actor died; the next request starts a new one");
            self.note_death(vault.id);
            if vault.is_in_doubt() {
                self.0.doubts.insert(vault.id);
            }
        } else {
            let vault = Arc::clone(vault);
            self.arbiter_of(vault.id)
                .spawn(async move { vault.drain().await });
        }
    }

    /// Counts against a vault that its actor died, or did not even start.
    fn note_death(&self, id: VaultId) {
        let mut deaths = self.0.deaths.entry(id).or_insert_with(|| Deaths {
            count: 0,
            latest: Instant::now(),
        });
        if deaths.latest.elapsed() >= FORGIVEN_AFTER {
            deaths.count = 0;
        }
        deaths.count += 1;
        deaths.latest = Instant::now();
    }

    async fn evict_if_idle(&self, vault: &Arc<Vault>, reason: Reason) -> bool {
        let (done, mut waiting) = {
            let Some(mut slot) = self.0.slots.get_mut(&vault.id) else {
                return false;
            };
            let is_held = matches!(&*slot, Slot::Active(held) if Arc::ptr_eq(held, vault));
            if !is_held || !vault.close_if_idle() {
                return false;
            }
            let (done, waiting) = watch::channel(None);
            *slot = Slot::Draining(waiting.clone());
            (done, waiting)
        };
        self.start_draining(Arc::clone(vault), reason, done);
        // An error says that the other side is done.
        let _ = waiting.changed().await;
        true
    }

    async fn finish_draining(&self, vault: &Arc<Vault>, reason: Reason) {
        let started = Instant::now();
        vault.drain().await;
        if reason == Reason::Deleted {
            self.0.doubts.remove(&vault.id);
        } else if vault.is_in_doubt() {
            self.0.doubts.insert(vault.id);
        }
        let took = started.elapsed().as_secs_f64();
        self.0.metrics.drain_seconds.observe(took);
        self.0.slots.remove(&vault.id);
        self.0.active.fetch_sub(1, Ordering::Relaxed);
        self.0.evictions.fetch_add(1, Ordering::Relaxed);
        self.0.metrics.active_vaults.dec();
        self.0
            .metrics
            .evictions
            .with_label_values(&[reason.as_str()])
            .inc();
        tracing::debug!(vault = %vault.id, reason = reason.as_str(), "vault evicted");
    }

    fn actives(&self) -> Vec<Arc<Vault>> {
        let active = |slot: &Slot| match slot {
            Slot::Active(vault) => Some(Arc::clone(vault)),
            _ => None,
        };
        self.0
            .slots
            .iter()
            .filter_map(|slot| active(slot.value()))
            .collect()
    }

    fn arbiter_of(&self, id: VaultId) -> ArbiterHandle {
        let count = self.0.arbiters.len();
        let at = (id.0.as_u128() % count.max(1) as u128) as usize;
        #[expect(
            clippy::indexing_slicing,
            reason = "the remainder of a division by the length, of which there is one at least"
        )]
        self.0.arbiters[at].handle()
    }
}

/// Empties a slot whose start did not succeed, even where it ended in a panic.
struct StartingSlot {
    registry: Registry,
    id: VaultId,
    started: bool,
}

impl Drop for StartingSlot {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.registry.note_death(self.id);
        }
        if !self.started {
            self.registry
                .0
                .slots
                .remove_if(&self.id, |_, slot| matches!(slot, Slot::Starting(_)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;
    use inferadb_storage::Backend;

    #[actix::test]
    async fn a_sweep_that_is_given_up_leaves_no_vault_half_drained() {
        let metrics = prometheus::Registry::new();
        let platform = Platform::start(Backend::Memory, Settings::default(), &metrics)
            .await
            .unwrap();
        let account = platform.create_account("sweeps").await.unwrap().id;
        let id = platform.create_vault(account, "swept").await.unwrap().id;
        drop(platform.enter(id, account).await.unwrap());
        // The vault's thread is kept busy meanwhile, so that it cannot be drained at once.
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let arbiter = platform.registry.arbiter_of(id);
        arbiter.spawn_fn(move || {
            let _ = busy.recv();
        });
        let mut sweep = Box::pin(platform.registry.sweep(Timestamp(i64::MAX)));
        assert!(futures_util::poll!(sweep.as_mut()).is_pending());
        assert_eq!(platform.registry.active(id).map(|vault| vault.id), None);
        drop(sweep);
        drop(free);
        let again = tokio::time::timeout(Duration::from_secs(20), platform.enter(id, account));
        again.await.unwrap().unwrap();
        assert_eq!((platform.active_count(), platform.evictions()), (1, 1));
    }
}
