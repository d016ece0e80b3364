//! An engine whose transactions become too old after so many reads of ranges, as FoundationDB's do after five seconds.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use inferadb_storage::kv::{Engine, Isolation, KvError, Pair, RangeOptions, Transaction, Versionstamp};

/// The engine.
pub struct ShortLived {
    inner: Arc<dyn Engine>,
    reads: usize,
    ended: Arc<AtomicUsize>,
}

struct ShortLivedTransaction {
    inner: Box<dyn Transaction>,
    left: AtomicUsize,
    ended: Arc<AtomicUsize>,
}

impl ShortLived {
    /// Over `inner`, with so many reads of ranges a transaction.
    pub fn new(inner: Arc<dyn Engine>, reads: usize) -> Self {
        Self {
            inner,
            reads,
            ended: Arc::default(),
        }
    }

    /// How many reads found their transaction too old.
    pub fn renewals(&self) -> usize {
        self.ended.load(Ordering::SeqCst)
    }
}

impl ShortLivedTransaction {
    fn read(&self) -> Result<(), KvError> {
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            self.ended.fetch_add(1, Ordering::SeqCst);
            return Err(KvError::TooOld);
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for ShortLived {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        Ok(Box::new(ShortLivedTransaction {
            inner: self.inner.begin().await?,
            left: AtomicUsize::new(self.reads),
            ended: Arc::clone(&self.ended),
        }))
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        self.inner.watch(key).await
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn clears_ranges_at_once(&self) -> bool {
        true
    }
}

#[async_trait]
impl Transaction for ShortLivedTransaction {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError> {
        self.inner.get(key, isolation).await
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        self.read()?;
        self.inner.range(range, options).await
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.inner.set(key, value);
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.inner.set_versionstamped_key(prefix, suffix, value);
    }

    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]) {
        self.inner.set_versionstamped_value(key, rest);
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.inner.add(key, delta);
    }

    fn clear(&mut self, key: &[u8]) {
        self.inner.clear(key);
    }

    fn clear_range(&mut self, range: Range<Bytes>) {
        self.inner.clear_range(range);
    }

    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError> {
        self.inner.commit().await
    }
}
