//! The registry: finds, starts, drains and respawns vault actors. Each vault has at most one slot, and a slot goes
//! `Absent → Starting → Active → Draining → Absent`.

mod draining;
mod sweep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actix::prelude::*;
use dashmap::mapref::entry::Entry;
use dashmap::{DashMap, DashSet};
use inferadb_storage::{Store, VaultId};
use prometheus::IntCounter;
use tokio::sync::watch;

pub use self::draining::Reason;
use crate::apart;
use crate::error::VaultError;
use crate::ledger::{Charge, Ledger};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::overload::Overload;
use crate::settings::Settings;
use crate::sweeps::Sweeps;
use crate::transfer::Inactive;
use crate::vault::{Admitted, Before, Closed, Opened, Pass, Rates, VAULT_BYTES, Vault, now};

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
    /// What vaults owe of their rates that are not active: their next actors go on from there.
    debts: DashMap<VaultId, Rates, ahash::RandomState>,
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
    inactive: Inactive,
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

impl Registry {
    /// A registry without active vaults, whose actors live on `settings.actor_threads` threads of their own.
    pub fn new(store: Store, settings: Arc<Settings>, metrics: Metrics) -> Self {
        let arbiters = (0..settings.actor_threads.max(1))
            .map(|_| {
                let arbiter = Arbiter::new();
                // Nobody has stopped it yet.
                arbiter.spawn_fn(apart::enter);
                arbiter
            })
            .collect();
        Self(Arc::new(Inner {
            slots: DashMap::default(),
            deaths: DashMap::default(),
            doubts: DashSet::default(),
            debts: DashMap::default(),
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
            inactive: Inactive::default(),
        }))
    }

    /// Comes into a vault for one request, starting its actor if need be. Waits while the vault starts or drains.
    pub async fn enter(&self, id: VaultId) -> Result<(Arc<Vault>, Pass), VaultError> {
        loop {
            let (vault, entered) = self.resolve(id).await?;
            match entered.unwrap_or_else(|| vault.enter(now())) {
                Ok(pass) => return Ok((vault, pass)),
                Err(Closed::Full) => return Err(vault.turn_away("max_concurrent_requests")),
                Err(Closed::Spent) => return Err(vault.turn_away("fair_share")),
                Err(Closed::Gone) => self.discard(&vault),
            }
        }
    }

    /// Has a vault be active; one that is and takes no more requests is.
    pub async fn activate(&self, id: VaultId) -> Result<(), VaultError> {
        loop {
            let (vault, entered) = self.resolve(id).await?;
            match entered.unwrap_or_else(|| vault.enter(now())) {
                Ok(_) | Err(Closed::Full | Closed::Spent) => return Ok(()),
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

    /// What vaults use that are not active.
    pub(crate) fn inactive(&self) -> &Inactive {
        &self.0.inactive
    }

    /// Notes that something may be stored in a vault, or may come to be, of which its actor is not told.
    pub async fn doubt(&self, id: VaultId) {
        self.0.doubts.insert(id);
        // One that starts meanwhile may have begun before.
        if let Some(vault) = self.started(id).await {
            vault.doubt();
        }
    }

    /// Counts turns.
    pub(crate) fn turns(&self) -> &IntCounter {
        &self.0.metrics.turns
    }

    /// How long a vault without requests stays active.
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.0.settings.idle_timeout
    }

    /// How many vaults are active.
    pub fn active_count(&self) -> usize {
        self.0.active.load(Ordering::Relaxed)
    }

    /// How many vaults stopped being active since the start.
    pub fn evictions(&self) -> u64 {
        self.0.evictions.load(Ordering::Relaxed)
    }

    /// The memory that all vaults hold.
    pub fn ledger(&self) -> &Ledger {
        &self.0.memory.ledger
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
        // Not read at all where there is no room for the least of it, which is taken before: others start at the same time.
        let charge = self.ledger().charge();
        if !self.charge_to(&charge, VAULT_BYTES).await {
            return Err(no_memory());
        }
        let (store, settings) = (inner.store.clone(), Arc::clone(&inner.settings));
        let memory = inner.memory.clone();
        let budget = settings.memory_budget_bytes;
        let mut opened = Opened::read(&store, &memory.schemas, id, budget, &charge).await?;
        // What was read is gone by now, and only what it needs is looked for.
        if opened.lacking_bytes > 0 && self.make_room(opened.lacking_bytes).await {
            opened = opened
                .read_again(&store, &memory.schemas, budget, &charge)
                .await?;
        }
        let admitted = self.admit(opened, charge).await?;
        let arbiter = self.arbiter_of(id);
        let vault = Vault::start(
            admitted,
            store,
            memory,
            settings,
            &inner.metrics,
            &arbiter,
            Before {
                is_failure: back_off.is_some() || inner.doubts.contains(&id),
                rates: inner
                    .debts
                    .remove(&id)
                    .map(|(_, rates)| rates)
                    .unwrap_or_default(),
            },
        );
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

    /// Finds room for a vault that was read: at the cost of colder ones, and without its rows if need be.
    async fn admit(&self, mut opened: Opened, charge: Charge) -> Result<Admitted, VaultError> {
        while !self.charge_to(&charge, opened.bytes()).await {
            if !opened.drop_rows() {
                return Err(no_memory());
            }
        }
        Ok(Admitted { opened, charge })
    }

    /// Charges so many bytes in all, at the cost of colder vaults if need be; says whether there was room.
    async fn charge_to(&self, charge: &Charge, bytes: usize) -> bool {
        while !charge.try_set(bytes) {
            if !self.make_room(bytes.saturating_sub(charge.bytes())).await {
                return false;
            }
        }
        true
    }

    /// Forgets what was remembered of a vault that will not be again.
    fn forget(&self, id: VaultId) {
        self.0.doubts.remove(&id);
        self.0.deaths.remove(&id);
        self.0.debts.remove(&id);
    }

    /// How long to wait before a vault whose actor died lately is started again.
    fn back_off(&self, id: VaultId) -> Option<Duration> {
        let deaths = self.0.deaths.get(&id)?;
        let wait = FIRST_BACK_OFF
            .saturating_mul(1 << deaths.count.saturating_sub(1).min(10))
            .min(LONGEST_BACK_OFF);
        (deaths.latest.elapsed() < FORGIVEN_AFTER).then_some(wait)
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

fn no_memory() -> VaultError {
    VaultError::Overloaded("the vaults in use take all memory there is for vaults")
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
