//! The background chore that gives back the space of deleted vaults, and of what imports leave behind, piece by piece, and
//! forgets old markers.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use inferadb_engine::noun::Timestamp;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::retry::marked_at;
use super::staging::{Lease, Stage};
use super::{Inner, StoreError, machine_time};
use crate::id::VaultId;
use crate::keys::{self, Keyspace};
use crate::kv::{Isolation, RangeOptions, Transaction, key_after, prefix_range};

/// The most keys removed in one transaction.
const CHUNK: usize = 1_000;
/// How many of them are read at a time, since each may be as large as a value can be; and how many bytes are enough for one transaction.
const READ_AT_ONCE: usize = 64;
const CHUNK_BYTES: usize = 4 << 20;
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often imports that stood still for too long are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// Markers older than this, in microseconds, belong to no running operation.
const MARKER_LIFE_MICROS: i64 = 24 * 3600 * 1_000_000;
/// The most markers looked at in one start.
const MAX_MARKERS: usize = 10_000;
/// How many of them in one transaction: operations that set one of these meanwhile make it conflict.
const MARKERS_AT_ONCE: usize = 100;
/// How often that may happen in one start.
const MAX_CONFLICTS: usize = 100;

/// Wakes the chore.
#[derive(Debug, Default)]
pub(super) struct Sweeper {
    wake: Arc<Notify>,
    /// What this process began to build and will not finish.
    abandoned: Mutex<Vec<Keyspace>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Sweeper {
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Has what is being built there cleared.
    pub(super) fn abandon(&self, space: Keyspace) {
        self.abandoned().push(space);
        self.wake();
    }

    fn abandoned(&self) -> MutexGuard<'_, Vec<Keyspace>> {
        self.abandoned.lock().unwrap_or_else(PoisonError::into_inner)
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
                Ok(None) => {
                    // Whether it was woken or the time is over, it looks again.
                    tokio::time::timeout(LOOK_INTERVAL, wake.notified()).await.ok();
                }
                Err(error) => {
                    tracing::warn!(%error, "clearing what deleted vaults and imports left behind failed; trying again later");
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

/// Removes one chunk of something; `None` if there is nothing to do.
async fn sweep_one(store: &Weak<Inner>) -> Result<Option<()>, StoreError> {
    let Some(store) = store.upgrade() else {
        return Ok(None);
    };
    match sweep_vaults(&store).await? {
        Some(()) => Ok(Some(())),
        None => sweep_stagings(&store).await,
    }
}

/// Removes one chunk of one deleted vault.
async fn sweep_vaults(store: &Inner) -> Result<Option<()>, StoreError> {
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
    if clear_some(&mut *transaction, keys::vault_data(vault)).await? {
        transaction.clear(&keys::vault_clearing(vault));
    }
    transaction.commit().await?;
    Ok(Some(()))
}

/// Removes one chunk of what one import left behind, or finds that it did.
async fn sweep_stagings(store: &Inner) -> Result<Option<()>, StoreError> {
    let mut range = keys::stagings();
    let abandoned = store.sweeper.abandoned().clone();
    loop {
        let mut transaction = store.engine.begin().await?;
        let options = RangeOptions {
            limit: CHUNK,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        let pairs = transaction.range(range.clone(), options).await?;
        for (key, value) in &pairs {
            let space = keys::decode_staging(key).ok_or_else(|| StoreError::unreadable("staging"))?;
            let lease = Lease::decode(value)?;
            if is_left(store, space, lease, &abandoned) {
                sweep_staging(store, &mut *transaction, space).await?;
                transaction.commit().await?;
                return Ok(Some(()));
            }
        }
        match pairs.last() {
            Some((last, _)) if pairs.len() == CHUNK => range.start = key_after(last),
            _ => break,
        }
    }
    // None of them is there any more.
    store
        .sweeper
        .abandoned()
        .retain(|space| !abandoned.contains(space));
    Ok(None)
}

/// Whether there is something to do about a generation.
fn is_left(store: &Inner, space: Keyspace, lease: Lease, abandoned: &[Keyspace]) -> bool {
    if lease.stage != Stage::Building || abandoned.contains(&space) || lease.until <= machine_time() {
        return true;
    }
    // Where no other process is at work, one that is gone left it behind.
    store.engine.is_exclusive() && lease.process != store.markers.process()
}

/// Does the next thing about a generation. Reads what is to be done anew, such that the commit conflicts with a switch.
async fn sweep_staging(
    store: &Inner,
    transaction: &mut dyn Transaction,
    space: Keyspace,
) -> Result<(), StoreError> {
    let key = keys::staging(space);
    let Some(value) = transaction.get(&key, Isolation::Serializable).await? else {
        return Ok(());
    };
    let doomed = match Lease::decode(&value)?.stage {
        Stage::Building => {
            // From the commit on nothing is added to it.
            transaction.set(&key, &Lease::to_be(Stage::Doomed));
            return Ok(());
        }
        Stage::Doomed => space.range(),
        Stage::Merged => prefix_range(&keys::input(space)),
    };
    let is_cleared = if store.engine.clears_ranges_at_once() {
        transaction.clear_range(doomed);
        true
    } else {
        clear_some(transaction, doomed).await?
    };
    if is_cleared {
        transaction.clear(&key);
    }
    Ok(())
}

/// Clears the first pairs of a range; says whether there were none.
async fn clear_some(transaction: &mut dyn Transaction, range: Range<Bytes>) -> Result<bool, StoreError> {
    let mut next = range.clone();
    let (mut read, mut bytes) = (0, 0);
    while read < CHUNK && bytes < CHUNK_BYTES {
        let chunk = RangeOptions {
            limit: READ_AT_ONCE,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        let pairs = transaction.range(next.clone(), chunk).await?;
        let Some((last, _)) = pairs.last() else { break };
        next.start = key_after(last);
        read += pairs.len();
        bytes += pairs
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum::<usize>();
        if pairs.len() < READ_AT_ONCE {
            break;
        }
    }
    if read > 0 {
        transaction.clear_range(range.start..next.start);
    }
    Ok(read == 0)
}

/// Removes the markers that earlier processes left behind.
async fn forget_old_markers(store: &Weak<Inner>) {
    let mut range = keys::markers();
    let mut looked_at = 0;
    let mut conflicts = 0;
    while looked_at < MAX_MARKERS {
        let Some(store) = store.upgrade() else { return };
        match forget_some_markers(&store, range.clone()).await {
            Ok((some, last)) => {
                looked_at += some;
                match last {
                    Some(last) => range.start = key_after(&last),
                    None => return,
                }
            }
            // An operation has set one of them meanwhile: they are looked at again.
            Err(StoreError::Contended) if conflicts < MAX_CONFLICTS => conflicts += 1,
            Err(error) => {
                tracing::warn!(%error, "old markers could not be removed; the next start tries again");
                return;
            }
        }
    }
}

/// Removes those of the first markers of a range that are old. Answers how many these were, and the last of them if there may be more.
async fn forget_some_markers(
    store: &Inner,
    range: Range<Bytes>,
) -> Result<(usize, Option<Bytes>), StoreError> {
    let mut transaction = store.engine.begin().await?;
    // A marker that another server has just set anew, whatever the clocks say, is not to be taken away from under it.
    let options = RangeOptions {
        limit: MARKERS_AT_ONCE,
        reverse: false,
        isolation: Isolation::Serializable,
    };
    let horizon = Timestamp(machine_time().0 - MARKER_LIFE_MICROS);
    let pairs = transaction.range(range, options).await?;
    let is_old = |value: &[u8]| marked_at(value).is_none_or(|at| at < horizon);
    let mut is_empty = true;
    for (key, _) in pairs.iter().filter(|(_, value)| is_old(value)) {
        transaction.clear(key);
        is_empty = false;
    }
    if !is_empty {
        transaction.commit().await?;
    }
    let last = (pairs.len() == MARKERS_AT_ONCE).then(|| pairs.last().map(|(key, _)| key.clone()));
    Ok((pairs.len(), last.flatten()))
}
