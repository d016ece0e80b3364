//! How vaults stop being active: those inside finish, then the actor goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use inferadb_storage::VaultId;
use tokio::sync::watch;

use super::{Failure, Registry, Slot};
use crate::vault::Vault;

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
    /// Drains a vault: lets those inside finish, then stops its actor. Ends when it is gone; the draining itself goes on
    /// though whoever asked goes away. Of one that was deleted nothing is remembered, whether it was active or not.
    pub async fn evict(&self, id: VaultId, reason: Reason) {
        self.drain(id, reason).await;
        if reason == Reason::Deleted {
            self.forget(id);
        }
    }

    async fn drain(&self, id: VaultId, reason: Reason) {
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

    pub(super) async fn evict_if_idle(&self, vault: &Arc<Vault>, reason: Reason) -> bool {
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

    /// Drains a vault that closed by itself or whose actor died, so that the next request starts it anew.
    pub(super) fn discard(&self, vault: &Arc<Vault>) {
        let done = {
            let Some(mut slot) = self.0.slots.get_mut(&vault.id) else {
                return;
            };
            // A sweep that found somebody inside may have opened it again.
            if !matches!(&*slot, Slot::Active(held) if Arc::ptr_eq(held, vault) && !held.is_open()) {
                return;
            }
            let (done, waiting) = watch::channel(None);
            *slot = Slot::Draining(waiting);
            done
        };
        self.start_draining(Arc::clone(vault), Reason::Failed, done);
    }

    /// Drains a vault whose slot says so. It goes on though whoever asked goes away: the slot does not stay as it is.
    fn start_draining(&self, vault: Arc<Vault>, reason: Reason, done: watch::Sender<Failure>) {
        let (registry, id) = (self.clone(), vault.id);
        let draining = async move {
            registry.finish_draining(&vault, reason).await;
            // What it held is given back before anybody looks for the room.
            drop(vault);
            drop(done);
        };
        if !self.arbiter_of(id).spawn(draining) {
            // The server has stopped, and all actors with it.
            self.0.slots.remove(&id);
        }
    }

    async fn finish_draining(&self, vault: &Arc<Vault>, reason: Reason) {
        let started = Instant::now();
        // Whoever found it: after a normal end it counts as dead as well.
        if vault.is_dead() {
            self.0.metrics.respawns.inc();
            tracing::error!(vault = %vault.id, "the vault's actor died; the next request starts a new one");
            self.note_death(vault.id);
        }
        vault.drain().await;
        if vault.is_in_doubt() {
            self.0.doubts.insert(vault.id);
        }
        // An evicted vault owes what one that stayed would owe.
        let rates = vault.rates();
        if !rates.are_spent_out(Instant::now()) {
            self.0.debts.insert(vault.id, rates);
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
}

#[cfg(test)]
mod tests {
    use crate::platform::{Platform, Reach};
    use crate::settings::Settings;
    use inferadb_storage::Backend;

    #[actix::test]
    async fn nothing_is_remembered_of_a_vault_that_was_deleted() {
        let metrics = prometheus::Registry::new();
        let platform = Platform::start(Backend::Memory, Settings::default(), &metrics).await;
        let platform = platform.unwrap();
        let account = platform.create_account("gone").await.unwrap().id;
        for is_active in [true, false] {
            let id = platform.create_vault(account, "gone").await.unwrap().id;
            if is_active {
                platform.activate(id, Reach::Everything).await.unwrap();
            }
            platform.registry.doubt(id).await;
            platform.registry.note_death(id);
            platform.delete_vault(id, Reach::Everything).await.unwrap();
        }
        let inner = &platform.registry.0;
        assert!(inner.doubts.is_empty() && inner.deaths.is_empty() && inner.debts.is_empty());
    }
}
