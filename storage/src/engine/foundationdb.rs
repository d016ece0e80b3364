//! The FoundationDB engine: a cluster that any number of processes share.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use foundationdb::api::{FdbApiBuilder, NetworkAutoStop};
use foundationdb::options::{DatabaseOption, MutationType, StreamingMode};
use foundationdb::{Database, FdbError, KeySelector, RangeOption};
use futures_util::future::BoxFuture;

use crate::kv::{
    Engine, Isolation, KvError, MAX_KEY_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, Pair, RangeOptions,
    Transaction, Versionstamp,
};

/// The longest that a transaction may take, in milliseconds. FoundationDB reads no snapshot older than 5 s.
const TIMEOUT_MILLIS: i32 = 5_000;
/// How often the client itself tries again. The layer above does that, as it knows what is safe to repeat.
const RETRY_LIMIT: i32 = 0;
/// FoundationDB's limit on one transaction with its conflict ranges, in bytes.
const SIZE_LIMIT: i32 = 10_000_000;

/// The client's network, which can be started once in a process.
static NETWORK: Mutex<Network> = Mutex::new(Network::NotStarted);

enum Network {
    NotStarted,
    Running(NetworkAutoStop),
    Stopped,
}

/// A store in a FoundationDB cluster.
pub struct FoundationDbEngine {
    database: Database,
}

impl FoundationDbEngine {
    /// Connects to the cluster that `cluster_file` names, and asks it for a read version.
    ///
    /// # Errors
    ///
    /// [`KvError::Unavailable`] if the file cannot be read or the cluster does not answer within 5 seconds.
    pub async fn open(cluster_file: &Path) -> Result<Self, KvError> {
        let named = |reason: &dyn fmt::Display| {
            KvError::Unavailable(format!("cluster file `{}`: {reason}", cluster_file.display()))
        };
        // The client waits for ever for a file that is not there.
        std::fs::read(cluster_file).map_err(|error| named(&error))?;
        let path = cluster_file.to_str().filter(|path| !path.contains('\0'));
        let path = path.ok_or_else(|| named(&"its path is not text"))?;
        start_network()?;
        let database = Database::from_path(path).map_err(|error| named(&error))?;
        for option in [
            DatabaseOption::TransactionTimeout(TIMEOUT_MILLIS),
            DatabaseOption::TransactionRetryLimit(RETRY_LIMIT),
            DatabaseOption::TransactionSizeLimit(SIZE_LIMIT),
        ] {
            database.set_option(option).map_err(read_error)?;
        }
        let probe = database.create_trx().map_err(read_error)?;
        probe
            .get_read_version()
            .await
            .map_err(|error| named(&format!("the cluster does not answer: {error}")))?;
        Ok(Self { database })
    }
}

/// Stops the client's network, if it runs. To be called once, at the end of the process, when no engine is left;
/// afterwards none can be opened any more.
pub fn stop_network() {
    let mut network = NETWORK.lock().unwrap_or_else(PoisonError::into_inner);
    if let Network::Running(guard) = std::mem::replace(&mut *network, Network::Stopped) {
        drop(guard);
    }
}

fn start_network() -> Result<(), KvError> {
    let mut network = NETWORK.lock().unwrap_or_else(PoisonError::into_inner);
    match *network {
        Network::Running(_) => Ok(()),
        Network::Stopped => Err(KvError::Unavailable(
            "the FoundationDB client has been stopped".into(),
        )),
        Network::NotStarted => {
            // Whatever goes wrong, the client allows no second try.
            *network = Network::Stopped;
            let builder = FdbApiBuilder::default().build().map_err(read_error)?;
            #[expect(
                unsafe_code,
                reason = "the guard must be dropped before the process ends: `stop_network` does"
            )]
            let guard = unsafe { builder.boot() }.map_err(read_error)?;
            *network = Network::Running(guard);
            Ok(())
        }
    }
}

#[async_trait]
impl Engine for FoundationDbEngine {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        let transaction = self.database.create_trx().map_err(read_error)?;
        Ok(Box::new(FoundationDbTransaction {
            transaction,
            bytes: 0,
            too_large: None,
        }))
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        let transaction = self.database.create_trx().map_err(read_error)?;
        // Fixes the state that the watch compares with at one no older than this call.
        transaction.get_read_version().await.map_err(read_error)?;
        let changed = transaction.watch(key);
        transaction.commit().await.map_err(|error| read_error(*error))?;
        Ok(Box::pin(async move { changed.await.map_err(read_error) }))
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn clears_ranges_at_once(&self) -> bool {
        true
    }
}

impl fmt::Debug for FoundationDbEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FoundationDbEngine")
    }
}

struct FoundationDbTransaction {
    transaction: foundationdb::Transaction,
    /// The size of the keys and values written so far; 0 means that nothing was.
    bytes: usize,
    too_large: Option<String>,
}

impl FoundationDbTransaction {
    /// Whether a write keeps the limits. The client library is not given one that does not.
    fn fits(&mut self, key_bytes: usize, value_bytes: usize) -> bool {
        self.bytes += (key_bytes + value_bytes).max(1);
        if key_bytes > MAX_KEY_BYTES {
            self.too_large = Some(format!(
                "a key is at most {MAX_KEY_BYTES} bytes long, this one has {key_bytes}"
            ));
        } else if value_bytes > MAX_VALUE_BYTES {
            self.too_large = Some(format!(
                "a value is at most {MAX_VALUE_BYTES} bytes long, this one has {value_bytes}"
            ));
        } else if self.bytes > MAX_TRANSACTION_BYTES {
            self.too_large = Some(format!(
                "a transaction writes at most {MAX_TRANSACTION_BYTES} bytes"
            ));
        } else {
            return true;
        }
        false
    }
}

#[async_trait]
impl Transaction for FoundationDbTransaction {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError> {
        let value = self
            .transaction
            .get(key, isolation == Isolation::Snapshot)
            .await
            .map_err(read_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        // A limit of 0 would mean none to FoundationDB.
        if range.start >= range.end || options.limit == 0 {
            return Ok(Vec::new());
        }
        let mut pairs = Vec::new();
        let mut next = Some(RangeOption {
            begin: KeySelector::first_greater_or_equal(range.start.to_vec()),
            end: KeySelector::first_greater_or_equal(range.end.to_vec()),
            limit: Some(options.limit),
            mode: StreamingMode::WantAll,
            reverse: options.reverse,
            ..RangeOption::default()
        });
        let mut iteration = 1;
        while let Some(option) = next {
            let snapshot = options.isolation == Isolation::Snapshot;
            let found = self
                .transaction
                .get_range(&option, iteration, snapshot)
                .await
                .map_err(read_error)?;
            pairs.extend(found.iter().map(|pair| {
                (
                    Bytes::copy_from_slice(pair.key()),
                    Bytes::copy_from_slice(pair.value()),
                )
            }));
            next = option.next_range(&found);
            iteration += 1;
        }
        Ok(pairs)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        if self.fits(key.len(), value.len()) {
            self.transaction.set(key, value);
        }
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        if self.fits(prefix.len() + 10 + suffix.len(), value.len()) {
            // The key has room for the stamp, and at its end the place of that room.
            let place = (prefix.len() as u32).to_le_bytes();
            let key = [prefix, &[0; 10], suffix, &place].concat();
            self.transaction
                .atomic_op(&key, value, MutationType::SetVersionstampedKey);
        }
    }

    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]) {
        if self.fits(key.len(), 10 + rest.len()) {
            let value = [&[0; 10], rest, &0_u32.to_le_bytes()].concat();
            self.transaction
                .atomic_op(key, &value, MutationType::SetVersionstampedValue);
        }
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        if self.fits(key.len(), 8) {
            self.transaction
                .atomic_op(key, &delta.to_le_bytes(), MutationType::Add);
        }
    }

    fn clear(&mut self, key: &[u8]) {
        if self.fits(key.len(), 0) {
            self.transaction.clear(key);
        }
    }

    fn clear_range(&mut self, range: Range<Bytes>) {
        if range.start < range.end && self.fits(range.start.len().max(range.end.len()), 0) {
            self.transaction.clear_range(&range.start, &range.end);
        }
    }

    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError> {
        let Self {
            transaction,
            bytes,
            too_large,
        } = *self;
        if let Some(reason) = too_large {
            return Err(KvError::TooLarge(reason));
        }
        if bytes == 0 {
            let version = transaction.get_read_version().await.map_err(read_error)?;
            return Ok(Versionstamp::new(version.unsigned_abs(), u16::MAX));
        }
        let stamp = transaction.get_versionstamp();
        transaction.commit().await.map_err(|error| commit_error(*error))?;
        // It is committed; if only its stamp is missing, whoever asked can find out that it is.
        let stamp = stamp.await.map_err(|_| KvError::CommitUnknown)?;
        match Versionstamp::split_from(&stamp) {
            Some((stamp, [])) => Ok(stamp),
            _ => Err(KvError::CommitUnknown),
        }
    }
}

/// What an error of a commit means.
fn commit_error(error: FdbError) -> KvError {
    match error.code() {
        // commit_unknown_result, and the two that may strike while the commit is under way: timed out,
        // cluster_version_changed; transaction_cancelled is how a timeout may show itself.
        1021 | 1025 | 1031 | 1039 => KvError::CommitUnknown,
        _ if error.is_maybe_committed() => KvError::CommitUnknown,
        _ => read_error(error),
    }
}

/// What an error means that is not of a commit.
fn read_error(error: FdbError) -> KvError {
    match error.code() {
        1020 => KvError::Conflict,
        1021 => KvError::CommitUnknown,
        1007 => KvError::TooOld,
        1036 => KvError::Unreadable,
        2101..=2103 => KvError::TooLarge(error.to_string()),
        // future_version, timed_out, cancelled, process_behind, database_locked, cluster_version_changed,
        // proxy_memory_limit_exceeded, batch_transaction_throttled, tag_throttled, hot shard, range locked.
        1009 | 1004 | 1025 | 1031 | 1037 | 1038 | 1039 | 1042 | 1051 | 1213 | 1235 | 1242 => {
            KvError::Unavailable(error.to_string())
        }
        _ if error.is_retryable() => KvError::Unavailable(error.to_string()),
        _ => KvError::Damaged(format!("{error} ({})", error.code())),
    }
}
