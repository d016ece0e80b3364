//! The background chore that gives back the space of deleted vaults, and of what imports leave behind, piece by piece, and
//! forgets old markers.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::lease::{LEASE, Lease, Stage};
use super::unmoved::Unmoved;
use super::{Inner, StoreError};
use crate::id::VaultId;
use crate::keys::{self, Keyspace};
use crate::kv::{Isolation, RangeOptions, Transaction, Versionstamp, key_after, prefix_range};

/// The most keys removed in one transaction.
const CHUNK: usize = 1_000;
/// How many of them are read at a time, since each may be as large as a value can be; and how many bytes are enough for one transaction.
const READ_AT_ONCE: usize = 64;
const CHUNK_BYTES: usize = 4 << 20;
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How often imports that stood still for too long are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a lease that was not looked at is remembered.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Where several processes are at work, markers that were set so many versions ago belong to no running operation: a day, as
/// FoundationDB counts a million versions in a second. That is the one clock which all servers share.
const MARKER_LIFE_VERSIONS: u64 = 24 * 3600 * 1_000_000;
/// The most markers looked at in one start.
const MAX_MARKERS: usize = 10_000;
/// How many of them in one transaction: operations that set one of these meanwhile make it conflict.
const MARKERS_AT_ONCE: usize = 100;
/// How often that may happen in one start.
const MAX_CONFLICTS: usize = 100;

/// For how long the leases that were looked at stayed as they are.
type Leases = Unmoved<Keyspace, Lease>;

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
        let mut leases = Unmoved::new(REMEMBERED);
        forget_old_markers(&store).await;
        loop {
            match sweep_one(&store, &mut leases).await {
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
async fn sweep_one(store: &Weak<Inner>, leases: &mut Leases) -> Result<Option<()>, StoreError> {
    let Some(store) = store.upgrade() else {
        return Ok(None);
    };
    match sweep_vaults(&store).await? {
        Some(()) => Ok(Some(())),
        None => sweep_stagings(&store, leases, Instant::now).await,
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
async fn sweep_stagings(
    store: &Inner,
    leases: &mut Leases,
    clock: impl Fn() -> Instant + Send,
) -> Result<Option<()>, StoreError> {
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
        let now = clock();
        for (key, value) in &pairs {
            let space = keys::decode_staging(key).ok_or_else(|| StoreError::unreadable("staging"))?;
            let lease = Lease::decode(value)?;
            if abandoned.contains(&space) || is_left(store, lease, leases.age(space, lease, now)) {
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
fn is_left(store: &Inner, lease: Lease, age: Duration) -> bool {
    // Where no other process is at work, one that is gone left it behind.
    let is_orphaned = store.engine.is_exclusive() && lease.process != store.markers.process();
    lease.stage != Stage::Building || age >= LEASE || is_orphaned
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

/// Removes those of the first markers of a range that are old: of those of other processes all, where no other is at work. Answers how many these were, and the last of them if there may be more.
async fn forget_some_markers(
    store: &Inner,
    range: Range<Bytes>,
) -> Result<(usize, Option<Bytes>), StoreError> {
    let mut transaction = store.engine.begin().await?;
    // A marker that another server sets anew meanwhile is not to be taken away from under it.
    let options = RangeOptions {
        limit: MARKERS_AT_ONCE,
        reverse: false,
        isolation: Isolation::Serializable,
    };
    let pairs = transaction.range(range, options).await?;
    // A transaction that writes nothing answers the version that it reads.
    let now = store.engine.begin().await?.commit().await?;
    let own = keys::markers_of(store.markers.process());
    let is_old = |key: &Bytes, value: &[u8]| {
        if store.engine.is_exclusive() {
            return !own.contains(key);
        }
        is_marker_old(value, now.version())
    };
    let mut is_empty = true;
    for (key, _) in pairs.iter().filter(|(key, value)| is_old(key, value)) {
        transaction.clear(key);
        is_empty = false;
    }
    if !is_empty {
        transaction.commit().await?;
    }
    let last = (pairs.len() == MARKERS_AT_ONCE).then(|| pairs.last().map(|(key, _)| key.clone()));
    Ok((pairs.len(), last.flatten()))
}

/// Whether a marker was set long before the version `now`.
fn is_marker_old(value: &[u8], now: u64) -> bool {
    let horizon = now.saturating_sub(MARKER_LIFE_VERSIONS);
    Versionstamp::split_from(value).is_none_or(|(set, _)| set.version() < horizon)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef, Timestamp};
    use uuid::Uuid;

    use super::super::retry::Marker;
    use super::super::{Staging, Store};
    use super::*;
    use crate::engine::MemoryEngine;
    use crate::kv::{Engine, KvError};

    /// An engine in memory that several stores share as if each were a process.
    struct Shared(MemoryEngine);

    #[async_trait::async_trait]
    impl Engine for Shared {
        async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
            self.0.begin().await
        }

        async fn watch(
            &self,
            key: &[u8],
        ) -> Result<futures_util::future::BoxFuture<'static, Result<(), KvError>>, KvError> {
            self.0.watch(key).await
        }

        fn is_exclusive(&self) -> bool {
            false
        }

        fn clears_ranges_at_once(&self) -> bool {
            true
        }
    }

    /// A store whose chore is stopped: what it would do is done by the test, at times of the test's.
    async fn idle(engine: Arc<dyn Engine>) -> Store {
        let store = Store::with_engine(engine).await.unwrap();
        store.inner.sweeper.stop().await;
        store
    }

    fn shared() -> Arc<dyn Engine> {
        Arc::new(Shared(MemoryEngine::new().unwrap()))
    }

    async fn staging(store: &Store) -> Staging {
        let account = store.create_account("a", Timestamp(1)).await.unwrap().id;
        let vault = store.create_vault(account, "v", Timestamp(1)).await.unwrap().id;
        store.stage(vault).await.unwrap()
    }

    fn row() -> Relationship {
        Relationship {
            resource: ObjectRef::parse("doc:a").unwrap(),
            relation: Name::parse("viewer").unwrap(),
            subject: SubjectRef::parse("user:u").unwrap(),
            caveat: None,
            expires_at: None,
        }
    }

    async fn count(store: &Store, range: Range<Bytes>) -> usize {
        let transaction = store.engine().begin().await.unwrap();
        let options = RangeOptions {
            limit: 100,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        transaction.range(range, options).await.unwrap().len()
    }

    /// Has `store` look for what imports left behind until it finds nothing to do.
    async fn look(store: &Store, leases: &mut Leases, now: Instant) {
        while sweep_stagings(&store.inner, leases, || now)
            .await
            .unwrap()
            .is_some()
        {}
    }

    #[tokio::test]
    async fn a_lease_is_over_for_who_has_seen_it_unchanged_for_long_enough() {
        let engine = shared();
        let (importer, other) = (idle(engine.clone()).await, idle(engine).await);
        let mut staging = staging(&importer).await;
        let page = [row()];
        let mut leases = Unmoved::new(REMEMBERED);
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        // However late it is for the one who looks: what it has just seen for the first time is not over.
        look(&other, &mut leases, after(100_000)).await;
        look(&other, &mut leases, after(100_000 + 599)).await;
        assert_eq!(count(&other, keys::stagings()).await, 1);
        // What was renewed meanwhile is not over either, through any time.
        for minutes in 1..100 {
            staging.add(&page).await.unwrap();
            look(&other, &mut leases, after(100_000 + minutes * 599)).await;
        }
        assert_eq!(count(&other, keys::stagings()).await, 1);
        look(&other, &mut leases, after(100_000 + 99 * 599 + 600)).await;
        assert_eq!(count(&other, keys::stagings()).await, 0);
        assert_eq!(count(&other, staging.space.range()).await, 0);
        assert_eq!(staging.add(&page).await, Err(StoreError::ImportGone));
        // Which is no reason to try and clear it again.
        look(&other, &mut leases, after(1_000_000)).await;
    }

    #[tokio::test]
    async fn an_import_that_nobody_goes_on_with_makes_room_for_others() {
        let engine = shared();
        let (dead, living) = (idle(engine.clone()).await, idle(engine).await);
        let first = staging(&dead).await;
        let vault = first.vault();
        let mut built = vec![first];
        loop {
            match dead.stage(vault).await {
                Ok(another) => built.push(another),
                Err(error) => break assert_eq!(error, StoreError::TooManyImports),
            }
        }
        let mut leases = Unmoved::new(REMEMBERED);
        let start = Instant::now();
        look(&living, &mut leases, start).await;
        assert_eq!(living.stage(vault).await.unwrap_err(), StoreError::TooManyImports);
        look(&living, &mut leases, start + LEASE).await;
        living.stage(vault).await.unwrap();
    }

    #[tokio::test]
    async fn where_one_process_has_the_store_what_others_left_goes_at_once() {
        let engine: Arc<dyn Engine> = Arc::new(MemoryEngine::new().unwrap());
        let (dead, living) = (idle(engine.clone()).await, idle(engine).await);
        let (left, own) = (staging(&dead).await, staging(&living).await);
        look(&living, &mut Unmoved::new(REMEMBERED), Instant::now()).await;
        assert_eq!(count(&living, keys::stagings_of(left.vault())).await, 0);
        assert_eq!(count(&living, keys::stagings_of(own.vault())).await, 1);
    }

    async fn mark(store: &Store, marker: &Marker<'_>) {
        let mut transaction = store.engine().begin().await.unwrap();
        marker.set(&mut *transaction, b"");
        transaction.commit().await.unwrap();
    }

    #[tokio::test]
    async fn markers_of_others_go_at_once_where_there_are_no_others_and_late_where_there_are() {
        let memory: Arc<dyn Engine> = Arc::new(MemoryEngine::new().unwrap());
        for (engine, left) in [(memory, 1), (shared(), 2)] {
            let (first, second) = (idle(engine.clone()).await, idle(engine).await);
            for store in [&first, &second] {
                mark(store, &store.markers().take()).await;
            }
            forget_old_markers(&Arc::downgrade(&second.inner)).await;
            assert_eq!(count(&second, keys::markers()).await, left);
            assert_eq!(
                count(&second, keys::markers_of(second.markers().process())).await,
                1
            );
        }
    }

    #[test]
    fn a_marker_is_old_a_day_of_versions_after_it_was_set() {
        let now = 2 * MARKER_LIFE_VERSIONS;
        let set =
            |version: u64| [Versionstamp::new(version, 7).0.as_slice(), Uuid::nil().as_bytes()].concat();
        assert!(!is_marker_old(&set(now), now));
        assert!(!is_marker_old(&set(now - MARKER_LIFE_VERSIONS), now));
        assert!(is_marker_old(&set(now - MARKER_LIFE_VERSIONS - 1), now));
        assert!(!is_marker_old(&set(0), MARKER_LIFE_VERSIONS));
        assert!(is_marker_old(b"not one", now));
    }
}
