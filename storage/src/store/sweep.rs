//! The background chore that gives back the space of deleted vaults, piece by piece, and forgets old markers.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use inferadb_engine::noun::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::retry::marked_at;
use super::{Inner, StoreError, machine_time};
use crate::id::VaultId;
use crate::keys;
use crate::kv::{Isolation, RangeOptions, key_after};

/// The most keys removed in one transaction.
const CHUNK: usize = 1_000;
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Markers older than this, in microseconds, belong to no running operation.
const MARKER_LIFE_MICROS: i64 = 24 * 3600 * 1_000_000;
/// The most markers looked at in one start.
const MAX_MARKERS: usize = 10_000;

/// Wakes the chore.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    wake: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sweeper {
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Ends the chore; the next open goes on with it.
    pub(super) async fn stop(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // It was cancelled or had ended: either is what is wanted.
            task.await.ok();
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // The task finds the store gone and ends.
        self.wake.notify_one();
    }
}

/// Starts the chore on the current runtime. It ends with the store.
pub(super) fn start(inner: &Arc<Inner>) {
    let (store, wake) = (Arc::downgrade(inner), Arc::clone(&inner.sweeper.wake));
    let task = tokio::spawn(async move {
        let mut pause = Duration::from_secs(1);
        forget_old_markers(&store).await;
        loop {
            match sweep_one(&store).await {
                Ok(Some(())) => pause = Duration::from_secs(1),
                Ok(None) => wake.notified().await,
                Err(error) => {
                    tracing::warn!(%error, "clearing deleted vaults failed; trying again later");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            if store.strong_count() == 0 {
                break;
            }
        }
    });
    *inner.sweeper.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
}

/// Removes one chunk of one deleted vault; `None` if there is nothing to do.
async fn sweep_one(store: &Weak<Inner>) -> Result<Option<()>, StoreError> {
    let Some(store) = store.upgrade() else {
        return Ok(None);
    };
    let mut transaction = store.engine.begin().await?;
    let first = RangeOptions {
        limit: 1,
        reverse: false,
        isolation: Isolation::Snapshot,
    };
    let pending = transaction.range(keys::vaults_clearing(), first).await?;
    let Some(vault) = pending
        .first()
        .and_then(|(key, _)| keys::trailing_id(key))
        .map(VaultId)
    else {
        return Ok(None);
    };
    let data = keys::vault_data(vault);
    let chunk = RangeOptions {
        limit: CHUNK,
        ..first
    };
    let pairs = transaction.range(data.clone(), chunk).await?;
    match pairs.last() {
        Some((last, _)) => transaction.clear_range(data.start..key_after(last)),
        None => transaction.clear(&keys::vault_clearing(vault)),
    }
    transaction.commit().await?;
    Ok(Some(()))
}

/// Removes the markers that earlier processes left behind.
async fn forget_old_markers(store: &Weak<Inner>) {
    let Some(store) = store.upgrade() else { return };
    let forget = async {
        let mut transaction = store.engine.begin().await?;
        let options = RangeOptions {
            limit: MAX_MARKERS,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        let horizon = Timestamp(machine_time().0 - MARKER_LIFE_MICROS);
        for (key, value) in transaction.range(keys::markers(), options).await? {
            if marked_at(&value).is_none_or(|at| at < horizon) {
                transaction.clear(&key);
            }
        }
        transaction.commit().await?;
        Ok::<_, StoreError>(())
    };
    if let Err(error) = forget.await {
        tracing::warn!(%error, "old markers could not be removed; the next start tries again");
    }
}
