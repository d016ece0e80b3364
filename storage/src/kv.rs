//! The ordered transactional key-value trait that every storage engine implements, shaped so that FoundationDB fits it exactly.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// The longest key, in bytes. FoundationDB's limit, kept by every engine.
pub const MAX_KEY_BYTES: usize = 10_000;
/// The longest value, in bytes. FoundationDB's limit, kept by every engine.
pub const MAX_VALUE_BYTES: usize = 100_000;
/// The most that one transaction may write, in bytes of keys and values (a cleared range counts its two ends).
/// FoundationDB's limit of 10 MB less room for the conflict ranges; kept by every engine.
pub const MAX_TRANSACTION_BYTES: usize = 9_000_000;

/// The place of a commit in the order of all commits of one store: 8 bytes of version, 2 bytes of order within it, big-endian.
/// The layout is that of a FoundationDB versionstamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Versionstamp(pub [u8; 10]);

impl Versionstamp {
    /// The stamp of `order` within `version`.
    pub fn new(version: u64, order: u16) -> Self {
        let mut bytes = [0; 10];
        for (to, from) in bytes
            .iter_mut()
            .zip(version.to_be_bytes().into_iter().chain(order.to_be_bytes()))
        {
            *to = from;
        }
        Self(bytes)
    }

    /// The version, without the order within it.
    pub fn version(self) -> u64 {
        let mut bytes = [0; 8];
        for (to, from) in bytes.iter_mut().zip(self.0) {
            *to = from;
        }
        u64::from_be_bytes(bytes)
    }

    /// The stamp in the first 10 bytes of `bytes`, and what follows it; `None` if there are fewer.
    pub fn split_from(bytes: &[u8]) -> Option<(Self, &[u8])> {
        bytes
            .split_first_chunk::<10>()
            .map(|(stamp, rest)| (Self(*stamp), rest))
    }
}

/// Whether a read joins the transaction's conflict ranges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// A later commit to what was read makes this transaction's commit fail with [`KvError::Conflict`].
    Serializable,
    /// It does not.
    Snapshot,
}

/// How a range is read.
#[derive(Debug, Clone, Copy)]
pub struct RangeOptions {
    /// The most pairs to return.
    pub limit: usize,
    /// From the end towards the start.
    pub reverse: bool,
    /// Whether the read can conflict. A truncated read conflicts only on what it covered.
    pub isolation: Isolation,
}

/// A key with its value.
pub type Pair = (Bytes, Bytes);

/// How many pairs are read in one go where nothing is known of their size, and the engine cannot stop by it.
pub const UNMEASURED_PAIRS: usize = 16;

/// What a pair comes to, in bytes.
pub fn pair_bytes((key, value): &Pair) -> usize {
    key.len() + value.len()
}

/// A failure of the key-value engine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Somebody else committed to what this transaction read. Try the whole transaction again.
    #[error("the transaction conflicts with another")]
    Conflict,
    /// The snapshot is too old to read or commit. Try the whole transaction again.
    #[error("the transaction is too old")]
    TooOld,
    /// The commit may or may not have happened, and may yet happen.
    #[error("the outcome of the commit is unknown")]
    CommitUnknown,
    /// The transaction read what it has itself set by a versionstamp, which is known only after the commit.
    #[error("a transaction cannot read what it sets by versionstamp")]
    Unreadable,
    /// The engine cannot be reached or is overloaded; nothing was committed.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// A key, value or transaction is larger than the engine allows; nothing was committed.
    #[error("over a limit of storage: {0}")]
    TooLarge(String),
    /// What is stored does not make sense, or the disk failed; nothing was committed.
    #[error("storage is damaged or failing: {0}")]
    Damaged(String),
}

/// A key-value engine. Keys are ordered bytewise.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Begins a transaction. All its reads see one state, which holds every commit acknowledged before this call, and
    /// the transaction's own writes over it.
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError>;

    /// A future that ends once the value of `key` may have changed after this call returned. It may end early, so the
    /// caller watches first, then reads, then waits. Dropping it ends the watch.
    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError>;

    /// Whether this process is the only one that can commit (an embedded store).
    fn is_exclusive(&self) -> bool;

    /// Whether [`Transaction::clear_range`] costs the same however much lies in the range. Where it does not, large
    /// ranges are to be cleared in pieces.
    fn clears_ranges_at_once(&self) -> bool;
}

/// One transaction: reads at its snapshot, buffers writes, commits them all or none. Dropping it forgets its writes.
///
/// Writes that break a size limit are reported by [`Transaction::commit`]. Snapshot reads see the transaction's own
/// writes too. A key set by versionstamp must not be read before the commit: that is [`KvError::Unreadable`].
#[async_trait]
pub trait Transaction: Send + Sync {
    /// The value of `key`.
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError>;

    /// The pairs whose keys lie in `range`, in order (from its end if `reverse`); none where the range is empty or
    /// turned around.
    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError>;

    /// As [`Transaction::range`], but no more once keys and values come to `max_bytes`: the last pair may go beyond it, and one
    /// is read in any case. Also says whether more may follow, which fewer pairs than the limit do not deny here.
    ///
    /// Unless the engine does better it reads [`UNMEASURED_PAIRS`] at a time, by which it may go beyond.
    async fn range_of_size(
        &self,
        range: Range<Bytes>,
        options: RangeOptions,
        max_bytes: usize,
    ) -> Result<(Vec<Pair>, bool), KvError> {
        let mut left = range;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < options.limit {
            let limit = (options.limit - found.len()).min(UNMEASURED_PAIRS);
            let pairs = self
                .range(left.clone(), RangeOptions { limit, ..options })
                .await?;
            let is_last = pairs.len() < limit;
            match pairs.last() {
                Some((key, _)) if options.reverse => left.end = key.clone(),
                Some((key, _)) => left.start = key_after(key),
                None => {}
            }
            bytes += pairs.iter().map(pair_bytes).sum::<usize>();
            found.extend(pairs);
            if is_last {
                return Ok((found, false));
            }
            if bytes >= max_bytes {
                break;
            }
        }
        Ok((found, true))
    }

    /// Sets a key.
    fn set(&mut self, key: &[u8], value: &[u8]);

    /// Sets a key that no transaction reads serializably at the time: so none conflicts with this, watches do not end by it, and the
    /// engine need not remember it. Where an engine makes no difference it is a [`Transaction::set`].
    fn set_unread(&mut self, key: &[u8], value: &[u8]) {
        self.set(key, value);
    }

    /// Sets the key `prefix ++ versionstamp of this commit ++ suffix`.
    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]);

    /// Sets `key` to the versionstamp of this commit followed by `rest`.
    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]);

    /// Adds to the little-endian 64-bit integer at `key`, wrapping (missing counts as 0, other lengths are cut or
    /// filled with zeros), without a conflict with other additions.
    fn add(&mut self, key: &[u8], delta: i64);

    /// Removes a key.
    fn clear(&mut self, key: &[u8]);

    /// Removes every key in `range`.
    fn clear_range(&mut self, range: Range<Bytes>);

    /// Commits; the answer is the commit's place in the order of all. Returns only once the writes are durable.
    /// A transaction without writes commits without effect and answers a stamp no older than any commit it saw.
    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError>;
}

/// The range of all keys that start with `prefix`, which must not consist of bytes `0xff` only.
pub fn prefix_range(prefix: &[u8]) -> Range<Bytes> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    Bytes::copy_from_slice(prefix)..Bytes::from(end)
}

/// The first key after `key`.
pub fn key_after(key: &[u8]) -> Bytes {
    let mut after = Vec::with_capacity(key.len() + 1);
    after.extend_from_slice(key);
    after.push(0);
    Bytes::from(after)
}
