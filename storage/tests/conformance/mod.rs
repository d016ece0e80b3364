//! What every key-value engine must do: one suite, run for each of them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a failure is to panic"
)]

pub mod history;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use inferadb_storage::kv::{
    Engine, Isolation, KvError, MAX_KEY_BYTES, MAX_VALUE_BYTES, RangeOptions, Transaction, Versionstamp,
    prefix_range,
};

pub use Isolation::{Serializable, Snapshot};

/// A part of a store that nobody else touches.
#[derive(Clone)]
pub struct Space {
    pub engine: Arc<dyn Engine>,
    prefix: Vec<u8>,
}

impl Space {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            prefix: [b"test/", uuid::Uuid::new_v4().as_bytes().as_slice()].concat(),
        }
    }

    pub async fn begin(&self) -> Box<dyn Transaction> {
        self.engine.begin().await.unwrap()
    }

    pub fn key(&self, name: &str) -> Vec<u8> {
        [self.prefix.as_slice(), name.as_bytes()].concat()
    }

    pub fn range(&self, start: &str, end: &str) -> Range<Bytes> {
        self.key(start).into()..self.key(end).into()
    }

    pub fn all(&self) -> Range<Bytes> {
        prefix_range(&self.prefix)
    }

    pub fn bytes(&self, key: &[u8]) -> Vec<u8> {
        key[self.prefix.len()..].to_vec()
    }

    pub fn name(&self, key: &[u8]) -> String {
        String::from_utf8_lossy(&key[self.prefix.len()..]).into_owned()
    }

    pub async fn read(
        &self,
        transaction: &dyn Transaction,
        name: &str,
        isolation: Isolation,
    ) -> Option<String> {
        let value = transaction.get(&self.key(name), isolation).await.unwrap()?;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    pub async fn scan(
        &self,
        transaction: &dyn Transaction,
        range: Range<Bytes>,
        limit: usize,
        reverse: bool,
    ) -> Vec<(String, String)> {
        let options = RangeOptions {
            limit,
            reverse,
            isolation: Serializable,
        };
        let pairs = transaction.range(range, options).await.unwrap();
        pairs
            .iter()
            .map(|(key, value)| (self.name(key), String::from_utf8_lossy(value).into_owned()))
            .collect()
    }

    /// Sets keys to values in one transaction.
    pub async fn put(&self, pairs: &[(&str, &str)]) -> Versionstamp {
        let mut transaction = self.begin().await;
        for (name, value) in pairs {
            transaction.set(&self.key(name), value.as_bytes());
        }
        transaction.commit().await.unwrap()
    }

    /// What a new transaction reads.
    pub async fn now(&self, name: &str) -> Option<String> {
        self.read(&*self.begin().await, name, Snapshot).await
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

/// All writes of a transaction appear at once, and none if it is dropped or conflicts.
pub async fn atomicity(space: Space) {
    let mut dropped = space.begin().await;
    dropped.set(&space.key("a"), b"1");
    drop(dropped);
    assert_eq!(space.now("a").await, None);

    let mut transaction = space.begin().await;
    assert_eq!(space.read(&*transaction, "a", Serializable).await, None);
    transaction.set(&space.key("b"), b"1");
    transaction.clear_range(space.range("x", "z"));
    transaction.add(&space.key("n"), 1);
    space.put(&[("a", "2"), ("y", "1")]).await;
    assert_eq!(transaction.commit().await, Err(KvError::Conflict));
    let after = space.begin().await;
    assert_eq!(
        space.scan(&*after, space.all(), 10, false).await,
        pairs(&[("a", "2"), ("y", "1")])
    );
}

/// Two transactions that each read what the other writes cannot both commit.
pub async fn write_skew(space: Space) {
    space.put(&[("a", "on"), ("b", "on")]).await;
    let (mut one, mut two) = (space.begin().await, space.begin().await);
    for transaction in [&one, &two] {
        assert_eq!(space.scan(&**transaction, space.all(), 10, false).await.len(), 2);
    }
    one.set(&space.key("a"), b"off");
    two.set(&space.key("b"), b"off");
    one.commit().await.unwrap();
    assert_eq!(two.commit().await, Err(KvError::Conflict));
}

/// A key that comes up in, or goes from, a range that was read conflicts; so does a clearing of it.
pub async fn phantoms(space: Space) {
    for change in 0..3 {
        space.put(&[("m", "1")]).await;
        let mut reader = space.begin().await;
        space.scan(&*reader, space.range("k", "p"), 10, change == 1).await;
        reader.set(&space.key("z"), b"1");
        let mut writer = space.begin().await;
        match change {
            0 => writer.set(&space.key("n"), b"1"),
            1 => writer.clear(&space.key("m")),
            _ => writer.clear_range(space.range("a", "l")),
        }
        writer.commit().await.unwrap();
        assert_eq!(reader.commit().await, Err(KvError::Conflict), "change {change}");
    }
    let mut reader = space.begin().await;
    assert_eq!(space.read(&*reader, "empty", Serializable).await, None);
    reader.set(&space.key("z"), b"1");
    let mut writer = space.begin().await;
    writer.clear_range(space.range("e", "f"));
    writer.commit().await.unwrap();
    assert_eq!(reader.commit().await, Err(KvError::Conflict));
}

/// A read that stopped at its limit conflicts only on what it covered.
pub async fn truncated_reads(space: Space) {
    for (reverse, touched, conflicts) in [
        (false, "b", true),
        (false, "bb", false),
        (false, "c", false),
        (true, "c", true),
        (true, "d", true),
        (true, "b", false),
    ] {
        space.put(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
        let mut reader = space.begin().await;
        assert_eq!(
            space
                .scan(&*reader, space.range("a", "e"), 2, reverse)
                .await
                .len(),
            2
        );
        reader.set(&space.key("z"), b"1");
        space.put(&[(touched, "2")]).await;
        assert_eq!(
            reader.commit().await.is_err(),
            conflicts,
            "reverse {reverse}, touched {touched}"
        );
    }
}

/// Snapshot reads, blind writes and reads of one's own writes do not conflict.
pub async fn what_does_not_conflict(space: Space) {
    space.put(&[("a", "1")]).await;
    let mut transaction = space.begin().await;
    space.read(&*transaction, "a", Snapshot).await;
    transaction.set(&space.key("b"), b"own");
    assert_eq!(
        space.read(&*transaction, "b", Serializable).await.as_deref(),
        Some("own")
    );
    space.put(&[("a", "2"), ("b", "2")]).await;
    transaction.commit().await.unwrap();
    assert_eq!(space.now("b").await.as_deref(), Some("own"));
    let read_only = space.begin().await;
    space.read(&*read_only, "a", Serializable).await;
    space.put(&[("a", "3")]).await;
    read_only.commit().await.unwrap();
}

/// A transaction reads what it wrote, in ranges of both directions too.
pub async fn reads_its_own_writes(space: Space) {
    space.put(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).await;
    let mut t = space.begin().await;
    t.set(&space.key("b"), b"2");
    t.clear(&space.key("c"));
    t.set(&space.key("cc"), b"2");
    t.set(&space.key("e"), b"2");
    let expected = pairs(&[("a", "1"), ("b", "2"), ("cc", "2"), ("d", "1"), ("e", "2")]);
    assert_eq!(space.scan(&*t, space.all(), 10, false).await, expected);
    let reversed: Vec<_> = expected.iter().rev().cloned().collect();
    assert_eq!(space.scan(&*t, space.all(), 10, true).await, reversed);
    assert_eq!(space.scan(&*t, space.all(), 3, false).await, expected[..3]);
    assert_eq!(space.scan(&*t, space.all(), 3, true).await, reversed[..3]);
    assert_eq!(space.read(&*t, "c", Snapshot).await, None);
    t.clear_range(space.range("b", "d"));
    t.set(&space.key("bb"), b"3");
    let expected = pairs(&[("a", "1"), ("bb", "3"), ("d", "1"), ("e", "2")]);
    assert_eq!(space.scan(&*t, space.all(), 10, false).await, expected);
    t.clear_range(space.range("a", "c"));
    t.clear_range(space.range("c", "dd"));
    assert_eq!(
        space.scan(&*t, space.all(), 10, false).await,
        pairs(&[("e", "2")])
    );
    t.commit().await.unwrap();
    let after = space.begin().await;
    assert_eq!(
        space.scan(&*after, space.all(), 10, false).await,
        pairs(&[("e", "2")])
    );
}

/// Additions sum up over the snapshot, over own writes, and after clearing.
pub async fn additions(space: Space) {
    let number = |value: Option<Bytes>| value.map(|value| i64::from_le_bytes((*value).try_into().unwrap()));
    let key = space.key("n");
    let mut t = space.begin().await;
    t.add(&key, 5);
    t.add(&key, -7);
    assert_eq!(number(t.get(&key, Serializable).await.unwrap()), Some(-2));
    t.commit().await.unwrap();
    let mut t = space.begin().await;
    t.add(&key, 10);
    assert_eq!(number(t.get(&key, Snapshot).await.unwrap()), Some(8));
    let options = RangeOptions {
        limit: 5,
        reverse: false,
        isolation: Snapshot,
    };
    assert_eq!(
        number(Some(t.range(space.all(), options).await.unwrap()[0].1.clone())),
        Some(8)
    );
    t.clear_range(space.all());
    t.add(&key, 1);
    assert_eq!(number(t.get(&key, Snapshot).await.unwrap()), Some(1));
    t.set(&key, &41_i64.to_le_bytes());
    t.add(&key, 1);
    t.commit().await.unwrap();
    assert_eq!(
        number(space.begin().await.get(&key, Snapshot).await.unwrap()),
        Some(42)
    );
}

/// Additions from many tasks all count, and none conflicts.
pub async fn concurrent_additions(space: Space) {
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let space = space.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    let mut t = space.begin().await;
                    t.add(&space.key("n"), 1);
                    t.commit().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let value = space
        .begin()
        .await
        .get(&space.key("n"), Snapshot)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*value, 320_i64.to_le_bytes());
}

/// A transaction keeps seeing the state it began with.
pub async fn snapshot_stability(space: Space) {
    space.put(&[("a", "1"), ("b", "1")]).await;
    let t = space.begin().await;
    assert_eq!(space.read(&*t, "a", Snapshot).await.as_deref(), Some("1"));
    space.put(&[("a", "2"), ("c", "2")]).await;
    let mut clear = space.begin().await;
    clear.clear(&space.key("b"));
    clear.commit().await.unwrap();
    assert_eq!(
        space.scan(&*t, space.all(), 10, false).await,
        pairs(&[("a", "1"), ("b", "1")])
    );
    assert_eq!(space.read(&*t, "c", Snapshot).await, None);
}

/// Limits, directions, and ranges that are empty or turned around.
pub async fn ranges(space: Space) {
    let names: Vec<String> = (0..500).map(|n| format!("k{n:03}")).collect();
    let rows: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
    space.put(&rows).await;
    let t = space.begin().await;
    for (start, end, limit, reverse, first, count) in [
        ("k000", "k500", 1_000, false, Some("k000"), 500),
        ("k000", "k500", 7, false, Some("k000"), 7),
        ("k000", "k500", 7, true, Some("k499"), 7),
        ("k100", "k200", 1_000, true, Some("k199"), 100),
        ("k100", "k100", 10, false, None, 0),
        ("k200", "k100", 10, true, None, 0),
        ("k000", "k500", 0, false, None, 0),
        ("l", "m", 10, false, None, 0),
    ] {
        let found = space.scan(&*t, space.range(start, end), limit, reverse).await;
        assert_eq!(found.first().map(|(key, _)| key.as_str()), first);
        assert_eq!(found.len(), count);
        assert!(found.is_sorted_by(|a, b| (a < b) != reverse));
    }
}

/// Stamps are those of the commit, in keys and in values, and grow from commit to commit.
pub async fn versionstamps(space: Space) {
    let mut last = Versionstamp::default();
    for n in 0..20_u8 {
        let mut t = space.begin().await;
        t.set_versionstamped_key(&space.key("log/"), &[n], b"entry");
        t.set_versionstamped_value(&space.key("head"), b"rest");
        let stamp = t.commit().await.unwrap();
        assert!(stamp > last);
        last = stamp;
        let t = space.begin().await;
        let head = t.get(&space.key("head"), Snapshot).await.unwrap().unwrap();
        assert_eq!(Versionstamp::split_from(&head), Some((stamp, b"rest".as_slice())));
        let key = [space.key("log/").as_slice(), &stamp.0, &[n]].concat();
        assert_eq!(
            t.get(&key, Snapshot).await.unwrap().as_deref(),
            Some(b"entry".as_slice())
        );
    }
    let t = space.begin().await;
    let options = RangeOptions {
        limit: 100,
        reverse: false,
        isolation: Snapshot,
    };
    let log = t.range(prefix_range(&space.key("log/")), options).await.unwrap();
    assert!(log.iter().map(|(key, _)| key[key.len() - 1]).eq(0..20));
}

/// What is set by versionstamp cannot be read before the commit.
pub async fn pending_versionstamps_are_unreadable(space: Space) {
    space.put(&[("head", "old"), ("other", "1")]).await;
    let mut t = space.begin().await;
    space.read(&*t, "other", Snapshot).await;
    t.set_versionstamped_value(&space.key("head"), b"");
    t.set_versionstamped_key(&space.key("log/"), b"", b"");
    assert_eq!(
        t.get(&space.key("head"), Snapshot).await,
        Err(KvError::Unreadable)
    );
    let options = RangeOptions {
        limit: 100,
        reverse: false,
        isolation: Snapshot,
    };
    assert_eq!(
        t.range(prefix_range(&space.key("log/")), options).await,
        Err(KvError::Unreadable)
    );
    assert_eq!(space.read(&*t, "other", Snapshot).await.as_deref(), Some("1"));
}

/// Two blind writes by versionstamp to one key do not conflict; a reader of it does.
pub async fn versionstamped_writes_conflict_with_readers_only(space: Space) {
    let (mut one, mut two, mut reader) = (space.begin().await, space.begin().await, space.begin().await);
    reader.get(&space.key("head"), Serializable).await.unwrap();
    reader.set(&space.key("seen"), b"");
    let options = RangeOptions {
        limit: 100,
        reverse: false,
        isolation: Serializable,
    };
    let mut log_reader = space.begin().await;
    log_reader
        .range(prefix_range(&space.key("log/")), options)
        .await
        .unwrap();
    log_reader.set(&space.key("seen"), b"");
    for transaction in [&mut one, &mut two] {
        transaction.set_versionstamped_value(&space.key("head"), b"");
        transaction.set_versionstamped_key(&space.key("log/"), b"", b"");
    }
    let first = one.commit().await.unwrap();
    assert!(two.commit().await.unwrap() > first);
    assert_eq!(reader.commit().await, Err(KvError::Conflict));
    assert_eq!(log_reader.commit().await, Err(KvError::Conflict));
}

/// A watch ends after the key is written, and not without reason.
pub async fn watches(space: Space) {
    let set = space.engine.watch(&space.key("a")).await.unwrap();
    let cleared = space.engine.watch(&space.key("b")).await.unwrap();
    let stamped = space.engine.watch(&space.key("head")).await.unwrap();
    let dropped = space.engine.watch(&space.key("a")).await.unwrap();
    let mut untouched = space.engine.watch(&space.key("c")).await.unwrap();
    drop(dropped);
    space.put(&[("a", "1"), ("b", "1")]).await;
    set.await.unwrap();
    cleared.await.unwrap();
    let cleared = space.engine.watch(&space.key("b")).await.unwrap();
    let mut t = space.begin().await;
    t.clear_range(space.range("b", "c"));
    t.set_versionstamped_value(&space.key("head"), b"");
    t.commit().await.unwrap();
    cleared.await.unwrap();
    stamped.await.unwrap();
    assert!(futures_util::FutureExt::now_or_never(&mut untouched).is_none());
}

/// A transaction that begins after a commit was answered sees it.
pub async fn reads_after_writes(space: Space) {
    for n in 0..50 {
        let value = n.to_string();
        space.put(&[("a", &value)]).await;
        assert_eq!(space.now("a").await, Some(value));
    }
}

/// What is over a limit is refused at the commit, and nothing of it is stored.
pub async fn limits(space: Space) {
    type Break = fn(&Space, &mut dyn Transaction);
    let breaks: [Break; 3] = [
        |space, t| t.set(&space.key(&"k".repeat(MAX_KEY_BYTES)), b"v"),
        |space, t| t.set(&space.key("b"), &vec![0; MAX_VALUE_BYTES + 1]),
        |space, t| {
            for n in 0..100 {
                t.set(&space.key(&n.to_string()), &vec![0; MAX_VALUE_BYTES]);
            }
        },
    ];
    for break_limit in breaks {
        let mut t = space.begin().await;
        t.set(&space.key("a"), b"1");
        break_limit(&space, &mut *t);
        assert!(matches!(t.commit().await, Err(KvError::TooLarge(_))));
    }
    assert_eq!(
        space.scan(&*space.begin().await, space.all(), 10, false).await,
        []
    );
    let mut t = space.begin().await;
    t.set(&space.key("largest"), &vec![0; MAX_VALUE_BYTES]);
    t.commit().await.unwrap();
}

/// Makes one test of each case for the engine that `$engine` opens.
#[macro_export]
macro_rules! conformance {
    ($engine:expr) => {
        $crate::conformance!($engine;
            atomicity write_skew phantoms truncated_reads what_does_not_conflict reads_its_own_writes additions
            concurrent_additions snapshot_stability ranges versionstamps pending_versionstamps_are_unreadable
            versionstamped_writes_conflict_with_readers_only watches reads_after_writes limits
        );
        #[tokio::test]
        async fn one_transaction_at_a_time_does_as_a_map() {
            let (engine, _kept) = $engine.await;
            $crate::conformance::history::as_a_map($crate::conformance::Space::new(engine)).await;
        }
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn concurrent_transactions_have_a_serial_order() {
            let (engine, _kept) = $engine.await;
            $crate::conformance::history::serial_order($crate::conformance::Space::new(engine)).await;
        }
    };
    ($engine:expr; $($case:ident)*) => {$(
        #[tokio::test]
        async fn $case() {
            let (engine, _kept) = $engine.await;
            $crate::conformance::$case($crate::conformance::Space::new(engine)).await;
        }
    )*};
}
