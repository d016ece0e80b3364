//! An engine that counts what is asked of the one beneath it, and how many times one has to wait for it in turn.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use inferadb_storage::kv::{Engine, Isolation, KvError, Pair, RangeOptions, Transaction, Versionstamp};

/// What was asked of an engine so far. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Counts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reads: AtomicU64,
    commits: AtomicU64,
    round_trips: AtomicU64,
    in_flight: AtomicU64,
}

/// What was asked between two moments, divided by the operations.
#[derive(Debug, Clone, Copy)]
pub struct PerOperation {
    /// Keys and ranges read.
    pub reads: f64,
    /// Transactions with writes that were committed.
    pub commits: f64,
    /// How many times the operation had to wait for storage: what is asked at the same time is waited for once. A
    /// transaction's first read counts two, as a cluster is asked for the version to read at before.
    pub round_trips: f64,
}

impl Counts {
    /// What `operations` cost that were done one after another between `before` and now.
    pub fn since(&self, before: [u64; 3], operations: u32) -> PerOperation {
        let now = self.now();
        let [reads, commits, round_trips] =
            [0, 1, 2].map(|at| (now[at] - before[at]) as f64 / f64::from(operations));
        PerOperation {
            reads,
            commits,
            round_trips,
        }
    }

    /// The counts as they stand.
    pub fn now(&self) -> [u64; 3] {
        [&self.0.reads, &self.0.commits, &self.0.round_trips].map(|count| count.load(Ordering::SeqCst))
    }

    async fn wait<T>(&self, trips: u64, asked: impl Future<Output = T>) -> T {
        if self.0.in_flight.fetch_add(1, Ordering::SeqCst) == 0 {
            self.0.round_trips.fetch_add(trips, Ordering::SeqCst);
        }
        let answer = asked.await;
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        answer
    }
}

/// The engine that counts.
pub struct Counting {
    /// The one beneath.
    pub inner: Arc<dyn Engine>,
    /// Where it counts.
    pub counts: Counts,
}

struct CountingTransaction {
    inner: Box<dyn Transaction>,
    counts: Counts,
    has_version: AtomicBool,
    writes: bool,
}

impl CountingTransaction {
    fn trips(&self) -> u64 {
        self.counts.0.reads.fetch_add(1, Ordering::SeqCst);
        if self.has_version.swap(true, Ordering::SeqCst) {
            1
        } else {
            2
        }
    }
}

#[async_trait]
impl Engine for Counting {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        Ok(Box::new(CountingTransaction {
            inner: self.inner.begin().await?,
            counts: self.counts.clone(),
            has_version: AtomicBool::new(false),
            writes: false,
        }))
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        self.inner.watch(key).await
    }

    fn is_exclusive(&self) -> bool {
        self.inner.is_exclusive()
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }
}

#[async_trait]
impl Transaction for CountingTransaction {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError> {
        self.counts
            .wait(self.trips(), self.inner.get(key, isolation))
            .await
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        self.counts
            .wait(self.trips(), self.inner.range(range, options))
            .await
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.writes = true;
        self.inner.set(key, value);
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.writes = true;
        self.inner.set_versionstamped_key(prefix, suffix, value);
    }

    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]) {
        self.writes = true;
        self.inner.set_versionstamped_value(key, rest);
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.writes = true;
        self.inner.add(key, delta);
    }

    fn clear(&mut self, key: &[u8]) {
        self.writes = true;
        self.inner.clear(key);
    }

    fn clear_range(&mut self, range: Range<Bytes>) {
        self.writes = true;
        self.inner.clear_range(range);
    }

    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError> {
        let Self {
            inner,
            counts,
            writes,
            ..
        } = *self;
        if !writes {
            return inner.commit().await;
        }
        counts.0.commits.fetch_add(1, Ordering::SeqCst);
        counts.wait(1, inner.commit()).await
    }
}
