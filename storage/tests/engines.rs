//! Runs the conformance suite for every engine, and tries what only durable ones can do.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "test code: a failure is to panic")]

mod conformance;

use std::sync::Arc;

use inferadb_storage::engine::{EmbeddedEngine, MemoryEngine};
use inferadb_storage::kv::{Engine, KvError};
use tempfile::TempDir;

use conformance::Space;

mod memory {
    crate::conformance!(super::memory());
}

mod embedded {
    crate::conformance!(super::embedded());
}

#[cfg(feature = "foundationdb")]
mod foundationdb {
    use std::sync::Arc;
    use std::time::Duration;

    use inferadb_storage::engine::FoundationDbEngine;
    use inferadb_storage::kv::{Engine, Isolation, KvError, RangeOptions};

    async fn open(file: &str, prefix: &[u8]) -> Arc<dyn Engine> {
        Arc::new(FoundationDbEngine::open(file.as_ref(), prefix).await.unwrap())
    }

    /// A snapshot that the cluster keeps no longer is told from a cluster that is away, also where nobody asked before
    /// the transaction had timed out.
    async fn old_snapshots(space: super::Space) {
        for age in [Duration::from_millis(6_500), Duration::from_millis(8_000)] {
            let transaction = space.begin().await;
            let first = transaction.get(&space.key("a"), Isolation::Snapshot).await;
            assert_eq!(first, Ok(None));
            // The cluster's clock cannot be moved.
            tokio::time::sleep(age).await;
            // Another key: the transaction remembers what it has read.
            let second = transaction.get(&space.key("b"), Isolation::Snapshot).await;
            // A cluster with nothing to do may keep what it need not any more, up to the transaction's timeout.
            let kept = age < Duration::from_secs(7) && second == Ok(None);
            assert!(
                kept || second == Err(KvError::TooOld),
                "after {age:?}: {second:?}"
            );
        }
    }

    /// Stores with prefixes of their own share nothing, and neither sees beyond its own.
    async fn prefixes(file: &str) {
        let own = uuid::Uuid::new_v4();
        let (one, two) = (format!("{own}/1"), format!("{own}/2"));
        for prefix in [&one, &two] {
            let engine = open(file, prefix.as_bytes()).await;
            let mut transaction = engine.begin().await.unwrap();
            transaction.set(b"held by", prefix.as_bytes());
            transaction.set(b"\xfe", b"the last");
            transaction.commit().await.unwrap();
        }
        for prefix in [&one, &two] {
            let engine = open(file, prefix.as_bytes()).await;
            let mut transaction = engine.begin().await.unwrap();
            let options = RangeOptions {
                limit: 9,
                reverse: true,
                isolation: Isolation::Serializable,
            };
            let all = b"".as_slice().into()..b"\xff".as_slice().into();
            let found = transaction.range(all, options).await.unwrap();
            let found: Vec<(&[u8], &[u8])> = found.iter().map(|(key, value)| (&**key, &**value)).collect();
            let expected: [(&[u8], &[u8]); 2] = [(b"\xfe", b"the last"), (b"held by", prefix.as_bytes())];
            assert_eq!(found, expected);
            transaction.clear_range(b"".as_slice().into()..b"\xff".as_slice().into());
            transaction.commit().await.unwrap();
        }
    }

    /// Needs a cluster: runs where `INFERADB_TEST_FDB_CLUSTER_FILE` names one.
    #[tokio::test]
    async fn conforms() {
        use super::conformance::{self, Space, history};
        let Ok(file) = std::env::var("INFERADB_TEST_FDB_CLUSTER_FILE") else {
            return;
        };
        let engine = open(&file, b"conformance").await;
        let space = || Space::new(engine.clone());
        conformance::atomicity(space()).await;
        conformance::write_skew(space()).await;
        conformance::phantoms(space()).await;
        conformance::truncated_reads(space()).await;
        conformance::what_does_not_conflict(space()).await;
        conformance::reads_its_own_writes(space()).await;
        conformance::additions(space()).await;
        conformance::concurrent_additions(space()).await;
        conformance::snapshot_stability(space()).await;
        conformance::ranges(space()).await;
        conformance::versionstamps(space()).await;
        conformance::pending_versionstamps_are_unreadable(space()).await;
        conformance::versionstamped_writes_conflict_with_readers_only(space()).await;
        conformance::watches(space()).await;
        conformance::reads_after_writes(space()).await;
        conformance::limits(space()).await;
        history::as_a_map(space()).await;
        history::serial_order(space()).await;
        old_snapshots(space()).await;
        prefixes(&file).await;
        drop(engine);
        inferadb_storage::engine::stop_network();
    }
}

async fn memory() -> (Arc<dyn Engine>, ()) {
    (Arc::new(MemoryEngine::new().unwrap()), ())
}

async fn embedded() -> (Arc<dyn Engine>, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    (
        Arc::new(EmbeddedEngine::open(&directory.path().join("made/on/the/way")).unwrap()),
        directory,
    )
}

#[tokio::test]
async fn the_embedded_store_and_the_order_of_its_commits_survive_reopening() {
    let directory = tempfile::tempdir().unwrap();
    let mut space = Space::new(Arc::new(EmbeddedEngine::open(directory.path()).unwrap()));
    let mut last = space.put(&[("a", "0")]).await;
    for n in 1..4 {
        drop(std::mem::replace(
            &mut space.engine,
            Arc::new(MemoryEngine::new().unwrap()),
        ));
        space.engine = Arc::new(EmbeddedEngine::open(directory.path()).unwrap());
        assert_eq!(space.now("a").await, Some((n - 1).to_string()));
        let stamp = space.put(&[("a", &n.to_string())]).await;
        assert!(stamp > last);
        last = stamp;
    }
}

#[test]
fn a_second_opening_of_an_embedded_store_is_refused_in_clear_words() {
    let directory = tempfile::tempdir().unwrap();
    let _held = EmbeddedEngine::open(directory.path()).unwrap();
    match EmbeddedEngine::open(directory.path()) {
        Err(KvError::Unavailable(reason)) => assert!(reason.contains("already open"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_a_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("inferadb.redb"),
        b"something else entirely".repeat(1_000),
    )
    .unwrap();
    assert!(matches!(
        EmbeddedEngine::open(directory.path()),
        Err(KvError::Damaged(_))
    ));
    let file = directory.path().join("a-file");
    std::fs::write(&file, b"").unwrap();
    assert!(matches!(
        EmbeddedEngine::open(&file),
        Err(KvError::Unavailable(_))
    ));
}

#[tokio::test]
async fn what_waits_is_committed_when_the_engine_is_dropped_and_later_commits_fail() {
    let (engine, _) = memory().await;
    let space = Space::new(engine);
    let mut late = space.begin().await;
    late.set(&space.key("a"), b"1");
    let watch = space.engine.watch(&space.key("a")).await.unwrap();
    drop(space);
    assert!(matches!(late.commit().await, Err(KvError::Unavailable(_))));
    assert!(matches!(watch.await, Err(KvError::Unavailable(_))));
}
