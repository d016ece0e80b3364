//! The transaction of the memory and embedded engines: reads of a snapshot, with its own writes over them.

use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::committer::ReadRange;
use super::overlay::{Overlay, Seen, sum};
use super::queue::CommitQueue;
use crate::background;
use crate::kv::{Isolation, KvError, Pair, RangeOptions, Transaction, Versionstamp, key_after, pair_bytes};

/// Is shown pairs one after another, until it has seen enough.
pub(super) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// One committed state of the store, which does not change while it is held.
pub(super) trait Snapshot: Send + Sync + 'static {
    /// The last version in it.
    fn version(&self) -> u64;

    /// The value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError>;

    /// Hands the pairs of `range` to `visit` in order, until there are no more or it breaks off.
    /// The range is neither empty nor turned around.
    fn scan(&self, range: &Range<Bytes>, reverse: bool, visit: &mut Visit<'_>) -> Result<(), KvError>;
}

/// A transaction over a snapshot.
pub(super) struct OptimisticTransaction {
    base: Arc<dyn Snapshot>,
    queue: Arc<CommitQueue>,
    overlay: Overlay,
    /// What was read from the snapshot and must not have changed at the commit.
    reads: Mutex<Vec<ReadRange>>,
}

impl OptimisticTransaction {
    pub(super) fn new(base: Arc<dyn Snapshot>, queue: Arc<CommitQueue>) -> Self {
        Self {
            base,
            queue,
            overlay: Overlay::default(),
            reads: Mutex::default(),
        }
    }

    fn note(&self, isolation: Isolation, read: impl FnOnce() -> ReadRange) {
        if isolation == Isolation::Serializable {
            self.reads
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(read());
        }
    }
}

#[async_trait]
impl Transaction for OptimisticTransaction {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError> {
        background::breathe();
        let seen = self.overlay.get(key)?;
        if let Seen::Own(value) = seen {
            return Ok(value);
        }
        let base = self.base.get(key)?;
        self.note(isolation, || ReadRange::Key(Bytes::copy_from_slice(key)));
        Ok(match seen {
            Seen::Add(delta) => Some(sum(base.as_deref(), delta)),
            _ => base,
        })
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        let (found, _) = self.range_of_size(range, options, usize::MAX).await?;
        Ok(found)
    }

    async fn range_of_size(
        &self,
        range: Range<Bytes>,
        options: RangeOptions,
        max_bytes: usize,
    ) -> Result<(Vec<Pair>, bool), KvError> {
        let max_bytes = max_bytes.max(1);
        let found = self
            .overlay
            .range(&*self.base, &range, [options.limit, max_bytes], options.reverse)?;
        if options.limit == 0 || range.start >= range.end {
            return Ok((found, options.limit == 0));
        }
        let is_cut = found.len() >= options.limit
            || max_bytes < usize::MAX && found.iter().map(pair_bytes).sum::<usize>() >= max_bytes;
        let covered = match found.last() {
            Some((last, _)) if is_cut && options.reverse => last.clone()..range.end,
            Some((last, _)) if is_cut => range.start..key_after(last),
            _ => range,
        };
        self.note(options.isolation, || ReadRange::Range(covered));
        Ok((found, is_cut))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.overlay
            .set(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }

    fn set_unread(&mut self, key: &[u8], value: &[u8]) {
        self.overlay
            .set_unread(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.overlay.set_versionstamped_key(
            Bytes::copy_from_slice(prefix),
            Bytes::copy_from_slice(suffix),
            Bytes::copy_from_slice(value),
            self.base.version(),
        );
    }

    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]) {
        self.overlay
            .set_versionstamped_value(Bytes::copy_from_slice(key), Bytes::copy_from_slice(rest));
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.overlay.add(Bytes::copy_from_slice(key), delta);
    }

    fn clear(&mut self, key: &[u8]) {
        self.overlay.clear(Bytes::copy_from_slice(key));
    }

    fn clear_range(&mut self, range: Range<Bytes>) {
        self.overlay.clear_range(range);
    }

    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError> {
        let Self {
            base,
            queue,
            overlay,
            reads,
        } = *self;
        let version = base.version();
        // The snapshot pins old pages of the embedded store: it is let go before the wait.
        drop(base);
        if overlay.is_empty() {
            return overlay.into_ops().map(|_| Versionstamp::new(version, u16::MAX));
        }
        let reads = reads.into_inner().unwrap_or_else(PoisonError::into_inner);
        queue.commit(version, reads, overlay.into_ops()?).await
    }
}
