//! The ordered transactional key-value trait that every storage engine implements, shaped so that FoundationDB fits it exactly.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;

/// The place of a commit in the order of all commits of one store: 8 bytes of version, 2 bytes of order within it, big-endian.
/// The layout is that of a FoundationDB versionstamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Versionstamp(pub [u8; 10]);

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

/// A failure of the key-value engine.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KvError {
    /// Somebody else committed to what this transaction read. Try the whole transaction again.
    #[error("the transaction conflicts with another")]
    Conflict,
    /// The snapshot is too old to read from. Try the whole transaction again.
    #[error("the transaction is too old")]
    TooOld,
    /// The commit may or may not have happened.
    #[error("the outcome of the commit is unknown")]
    CommitUnknown,
    /// The engine cannot be reached or is overloaded; nothing was committed.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// A key, value or transaction is larger than the engine allows.
    #[error("over a limit of storage: {0}")]
    TooLarge(String),
    /// What is stored does not make sense, or the disk failed.
    #[error("storage is damaged or failing: {0}")]
    Damaged(String),
}

/// A key-value engine.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// Begins a transaction, whose reads all see the state of the latest commit before this call, and its own writes.
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError>;

    /// A future that ends once the value of `key` may have changed after this call returned.
    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError>;

    /// Whether this process is the only one that can commit (an embedded store).
    fn is_exclusive(&self) -> bool;
}

/// One transaction: reads at its snapshot, buffers writes, commits them all or none.
#[async_trait]
pub trait Transaction: Send + Sync {
    /// The value of `key`.
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError>;

    /// The pairs whose keys lie in `range`, in order.
    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError>;

    /// Sets a key.
    fn set(&mut self, key: &[u8], value: &[u8]);

    /// Sets the key `prefix ++ versionstamp of this commit ++ suffix`.
    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]);

    /// Sets `key` to the versionstamp of this commit followed by `rest`.
    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]);

    /// Adds to the little-endian 64-bit integer at `key` (missing counts as 0), without a conflict with other additions.
    fn add(&mut self, key: &[u8], delta: i64);

    /// Removes a key.
    fn clear(&mut self, key: &[u8]);

    /// Removes every key in `range`.
    fn clear_range(&mut self, range: Range<Bytes>);

    /// Commits; the answer is the commit's place in the order of all. Returns only once the writes are durable.
    /// A transaction without writes commits without effect and answers the snapshot's own stamp.
    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError>;
}
