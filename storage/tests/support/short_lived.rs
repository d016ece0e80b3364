//! An engine whose transactions become too old after so many reads of ranges, as FoundationDB's do after five seconds.
#![allow(dead_code, reason = "each test file uses some of it")]
#![expect(clippy::unwrap_used, reason = "test code: a failure is to panic")]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use inferadb_storage::kv::{
    Engine, Isolation, KvError, Pair, RangeOptions, Transaction, Versionstamp, pair_bytes,
};

/// The engine.
pub struct ShortLived {
    inner: Arc<dyn Engine>,
    reads: usize,
    is_exclusive: bool,
    seen: Arc<Seen>,
}

/// What has been seen of transactions.
#[derive(Default)]
struct Seen {
    begun: AtomicUsize,
    gone: AtomicUsize,
    ended: AtomicUsize,
    read_bytes: AtomicUsize,
    looking_up: AtomicUsize,
    most_looked_up: AtomicUsize,
}

struct ShortLivedTransaction {
    inner: Option<Box<dyn Transaction>>,
    left: AtomicUsize,
    seen: Arc<Seen>,
}

impl ShortLived {
    /// Over `inner`, with so many reads of ranges a transaction.
    pub fn new(inner: Arc<dyn Engine>, reads: usize) -> Self {
        Self {
            inner,
            reads,
            is_exclusive: false,
            seen: Arc::default(),
        }
    }

    /// The same, of a store that no other process can change.
    pub fn exclusive(inner: Arc<dyn Engine>, reads: usize) -> Self {
        Self {
            is_exclusive: true,
            ..Self::new(inner, reads)
        }
    }

    /// How many reads found their transaction too old.
    pub fn renewals(&self) -> usize {
        self.seen.ended.load(Ordering::SeqCst)
    }

    /// How many transactions were begun, and how many of them are not over.
    pub fn transactions(&self) -> (usize, usize) {
        let begun = self.seen.begun.load(Ordering::SeqCst);
        (begun, begun - self.seen.gone.load(Ordering::SeqCst))
    }

    /// The most values that were looked up at a time.
    pub fn most_looked_up(&self) -> usize {
        self.seen.most_looked_up.load(Ordering::SeqCst)
    }

    /// How much reads of ranges brought, in bytes of keys and values.
    pub fn read_bytes(&self) -> usize {
        self.seen.read_bytes.load(Ordering::SeqCst)
    }
}

impl ShortLivedTransaction {
    fn read(&self) -> Result<(), KvError> {
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            self.seen.ended.fetch_add(1, Ordering::SeqCst);
            return Err(KvError::TooOld);
        }
        Ok(())
    }

    fn inner(&self) -> &dyn Transaction {
        self.inner.as_deref().unwrap()
    }

    fn inner_mut(&mut self) -> &mut Box<dyn Transaction> {
        self.inner.as_mut().unwrap()
    }

    fn seen(&self, pairs: &[Pair]) {
        let bytes = pairs.iter().map(pair_bytes).sum();
        self.seen.read_bytes.fetch_add(bytes, Ordering::SeqCst);
    }
}

#[async_trait]
impl Engine for ShortLived {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        let inner = Some(self.inner.begin().await?);
        self.seen.begun.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(ShortLivedTransaction {
            inner,
            left: AtomicUsize::new(self.reads),
            seen: Arc::clone(&self.seen),
        }))
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        self.inner.watch(key).await
    }

    fn is_exclusive(&self) -> bool {
        self.is_exclusive
    }

    fn clears_ranges_at_once(&self) -> bool {
        true
    }
}

#[async_trait]
impl Transaction for ShortLivedTransaction {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError> {
        let at_once = self.seen.looking_up.fetch_add(1, Ordering::SeqCst) + 1;
        self.seen.most_looked_up.fetch_max(at_once, Ordering::SeqCst);
        // So that what is asked for together is under way together.
        tokio::task::yield_now().await;
        let value = self.inner().get(key, isolation).await;
        self.seen.looking_up.fetch_sub(1, Ordering::SeqCst);
        value
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        self.read()?;
        let pairs = self.inner().range(range, options).await?;
        self.seen(&pairs);
        Ok(pairs)
    }

    async fn range_of_size(
        &self,
        range: Range<Bytes>,
        options: RangeOptions,
        max_bytes: usize,
    ) -> Result<(Vec<Pair>, bool), KvError> {
        self.read()?;
        let (pairs, is_cut) = self.inner().range_of_size(range, options, max_bytes).await?;
        self.seen(&pairs);
        Ok((pairs, is_cut))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.inner_mut().set(key, value);
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.inner_mut().set_versionstamped_key(prefix, suffix, value);
    }

    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]) {
        self.inner_mut().set_versionstamped_value(key, rest);
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.inner_mut().add(key, delta);
    }

    fn clear(&mut self, key: &[u8]) {
        self.inner_mut().clear(key);
    }

    fn clear_range(&mut self, range: Range<Bytes>) {
        self.inner_mut().clear_range(range);
    }

    async fn commit(mut self: Box<Self>) -> Result<Versionstamp, KvError> {
        self.inner.take().unwrap().commit().await
    }
}

impl Drop for ShortLivedTransaction {
    fn drop(&mut self) {
        self.seen.gone.fetch_add(1, Ordering::SeqCst);
    }
}
