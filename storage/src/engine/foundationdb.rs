//! The FoundationDB engine: a cluster that any number of processes share.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use foundationdb::api::{FdbApiBuilder, NetworkAutoStop};
use foundationdb::options::{DatabaseOption, MutationType, StreamingMode, TransactionOption};
use foundationdb::{Database, FdbError, KeySelector, RangeOption};
use futures_util::future::BoxFuture;

use crate::kv::{
    Engine, Isolation, KvError, MAX_KEY_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, Pair, RangeOptions,
    Transaction, Versionstamp,
};

/// The longest that a transaction may take, in milliseconds. Longer than [`SNAPSHOT_AGE`], so that a cluster that answers
/// is the one to say that a snapshot is too old, and only one that does not answer runs into this.
const TIMEOUT_MILLIS: i32 = 7_000;
/// How old a snapshot can be that FoundationDB still reads.
const SNAPSHOT_AGE: Duration = Duration::from_secs(5);
/// How many watches there may be at a time: one for every active vault. FoundationDB allows 10,000 unless asked.
const MAX_WATCHES: i32 = 1_000_000;
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

/// A store in a FoundationDB cluster, or in the part of one whose keys start with a prefix.
pub struct FoundationDbEngine {
    database: Database,
    prefix: Bytes,
}

impl FoundationDbEngine {
    /// Connects to the cluster that `cluster_file` names, and asks it for a read version. The store has all keys of the
    /// cluster that start with `key_prefix`, and no others: stores whose prefixes are not prefixes of each other do not meet.
    ///
    /// # Errors
    ///
    /// [`KvError::Unavailable`] if the file cannot be read or the cluster does not answer within 7 seconds.
    pub async fn open(cluster_file: &Path, key_prefix: &[u8]) -> Result<Self, KvError> {
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
            DatabaseOption::MaxWatches(MAX_WATCHES),
        ] {
            database.set_option(option).map_err(read_error)?;
        }
        let probe = database.create_trx().map_err(read_error)?;
        probe
            .get_read_version()
            .await
            .map_err(|error| named(&format!("the cluster does not answer: {error}")))?;
        Ok(Self {
            database,
            prefix: Bytes::copy_from_slice(key_prefix),
        })
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
            prefix: self.prefix.clone(),
            answered: OnceLock::new(),
            bytes: 0,
            too_large: None,
        }))
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        let transaction = self.database.create_trx().map_err(read_error)?;
        // Fixes the state that the watch compares with at one no older than this call.
        transaction.get_read_version().await.map_err(read_error)?;
        let changed = transaction.watch(&[&self.prefix, key].concat());
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
    /// What each key starts with in the cluster.
    prefix: Bytes,
    /// When the first read was answered: the snapshot is that old at least.
    answered: OnceLock<Instant>,
    /// The size of the keys and values written so far; 0 means that nothing was.
    bytes: usize,
    too_large: Option<String>,
}

impl FoundationDbTransaction {
    /// The key as the cluster knows it.
    fn placed(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    /// Takes note of a read's outcome. A transaction that ran into its timeout after its snapshot had become too old says
    /// that, even if the cluster would: whoever reads is to take a new snapshot, and finds out whether the cluster answers.
    fn read<T>(&self, outcome: Result<T, FdbError>) -> Result<T, KvError> {
        match outcome {
            Ok(found) => {
                self.answered.get_or_init(Instant::now);
                Ok(found)
            }
            Err(error) if matches!(error.code(), 1025 | 1031) && self.is_old() => Err(KvError::TooOld),
            Err(error) => Err(read_error(error)),
        }
    }

    fn is_old(&self) -> bool {
        self.answered.get().is_some_and(|at| at.elapsed() >= SNAPSHOT_AGE)
    }

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
        let snapshot = isolation == Isolation::Snapshot;
        let value = self.read(self.transaction.get(&self.placed(key), snapshot).await)?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        let (pairs, _) = self.range_of_size(range, options, usize::MAX).await?;
        Ok(pairs)
    }

    async fn range_of_size(
        &self,
        range: Range<Bytes>,
        options: RangeOptions,
        max_bytes: usize,
    ) -> Result<(Vec<Pair>, bool), KvError> {
        // A limit of 0 would mean none to FoundationDB.
        if range.start >= range.end || options.limit == 0 {
            return Ok((Vec::new(), range.start < range.end));
        }
        let mut pairs = Vec::new();
        let mut bytes = 0;
        let mut next = Some(RangeOption {
            begin: KeySelector::first_greater_or_equal(self.placed(&range.start)),
            end: KeySelector::first_greater_or_equal(self.placed(&range.end)),
            limit: Some(options.limit),
            mode: StreamingMode::WantAll,
            reverse: options.reverse,
            ..RangeOption::default()
        });
        let mut iteration = 1;
        while let Some(option) = next {
            let snapshot = options.isolation == Isolation::Snapshot;
            let found = self.read(self.transaction.get_range(&option, iteration, snapshot).await)?;
            pairs.extend(found.iter().filter_map(|pair| {
                // All keys of the range have the prefix.
                let key = pair.key().get(self.prefix.len()..)?;
                Some((Bytes::copy_from_slice(key), Bytes::copy_from_slice(pair.value())))
            }));
            bytes += found
                .iter()
                .map(|pair| pair.key().len() + pair.value().len())
                .sum::<usize>();
            if bytes >= max_bytes {
                return Ok((pairs, true));
            }
            // The client brings some tens of kilobytes at a time.
            next = option.next_range(&found);
            iteration += 1;
        }
        let is_cut = pairs.len() >= options.limit;
        Ok((pairs, is_cut))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        let key = self.placed(key);
        if self.fits(key.len(), value.len()) {
            self.transaction.set(&key, value);
        }
    }

    fn set_unread(&mut self, key: &[u8], value: &[u8]) {
        // It holds for the next write. Should the client refuse it, this conflicts where it need not.
        self.transaction
            .set_option(TransactionOption::NextWriteNoWriteConflictRange)
            .ok();
        self.set(key, value);
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        let prefix = self.placed(prefix);
        if self.fits(prefix.len() + 10 + suffix.len(), value.len()) {
            // The key has room for the stamp, and at its end the place of that room.
            let place = (prefix.len() as u32).to_le_bytes();
            let key = [prefix.as_slice(), &[0; 10], suffix, &place].concat();
            self.transaction
                .atomic_op(&key, value, MutationType::SetVersionstampedKey);
        }
    }

    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]) {
        let key = self.placed(key);
        if self.fits(key.len(), 10 + rest.len()) {
            let value = [&[0; 10], rest, &0_u32.to_le_bytes()].concat();
            self.transaction
                .atomic_op(&key, &value, MutationType::SetVersionstampedValue);
        }
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        let key = self.placed(key);
        if self.fits(key.len(), 8) {
            self.transaction
                .atomic_op(&key, &delta.to_le_bytes(), MutationType::Add);
        }
    }

    fn clear(&mut self, key: &[u8]) {
        let key = self.placed(key);
        if self.fits(key.len(), 0) {
            self.transaction.clear(&key);
        }
    }

    fn clear_range(&mut self, range: Range<Bytes>) {
        let (start, end) = (self.placed(&range.start), self.placed(&range.end));
        if start < end && self.fits(start.len().max(end.len()), 0) {
            self.transaction.clear_range(&start, &end);
        }
    }

    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError> {
        let Self {
            transaction,
            bytes,
            too_large,
            ..
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

/// What an error of a commit means. Nothing was committed only where FoundationDB says so: whatever else goes wrong under
/// way may have come too late.
fn commit_error(error: FdbError) -> KvError {
    let refused = error.code() == 1020 || error.code() >= 2000 || error.is_retryable_not_committed();
    if refused && !error.is_maybe_committed() {
        read_error(error)
    } else {
        KvError::CommitUnknown
    }
}

/// What an error means that is not of a commit.
fn read_error(error: FdbError) -> KvError {
    let described = || format!("{error} ({})", error.code());
    match error.code() {
        1020 => KvError::Conflict,
        1021 | 1022 => KvError::CommitUnknown,
        1007 => KvError::TooOld,
        1036 => KvError::Unreadable,
        2101..=2103 => KvError::TooLarge(error.to_string()),
        // The states of a cluster and of the way to it: timed out, future version, cancelled, behind, locked, throttled,
        // overloaded, in recovery. The last two: a cluster that speaks another protocol, as during an upgrade.
        1000..1300 | 1521 | 2100 | 2125 => KvError::Unavailable(described()),
        _ if error.is_retryable() => KvError::Unavailable(described()),
        _ => KvError::Damaged(described()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: i32) -> FdbError {
        FdbError::from_code(code)
    }

    #[test]
    fn errors_of_reads_are_told_apart() {
        assert_eq!(read_error(error(1007)), KvError::TooOld);
        assert_eq!(read_error(error(1020)), KvError::Conflict);
        for code in [
            1004, 1009, 1025, 1031, 1032, 1037, 1038, 1039, 1051, 1078, 1213, 2125,
        ] {
            assert!(
                matches!(read_error(error(code)), KvError::Unavailable(_)),
                "{code}"
            );
        }
        for code in [2101, 2102, 2103] {
            assert!(matches!(read_error(error(code)), KvError::TooLarge(_)), "{code}");
        }
        for code in [1510, 2000, 2004, 2104, 4100] {
            assert!(matches!(read_error(error(code)), KvError::Damaged(_)), "{code}");
        }
    }

    #[test]
    fn a_commit_came_to_nothing_only_where_that_is_certain() {
        assert_eq!(commit_error(error(1020)), KvError::Conflict);
        assert_eq!(commit_error(error(1007)), KvError::TooOld);
        for code in [1038, 1051, 1213] {
            assert!(
                matches!(commit_error(error(code)), KvError::Unavailable(_)),
                "{code}"
            );
        }
        assert!(matches!(commit_error(error(2101)), KvError::TooLarge(_)));
        for code in [1000, 1004, 1021, 1022, 1025, 1030, 1031, 1039, 1100, 1101, 1510] {
            assert_eq!(commit_error(error(code)), KvError::CommitUnknown, "{code}");
        }
    }
}
