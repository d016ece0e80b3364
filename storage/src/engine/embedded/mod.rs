//! The embedded engine: one redb file, which one process owns. Acknowledged means synced to disk.

mod file;

use std::fmt;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use redb::{
    Builder, CommitError, Database, DatabaseError, Durability, ReadOnlyTable, ReadableDatabase,
    ReadableTable, StorageError, Table, TableDefinition, TableError, TransactionError,
};

use self::file::PacedFile;
use crate::background;
use crate::engine::committer::{Accepted, Base, Failure, Optimistic};
use crate::engine::optimistic::{Snapshot, Visit};
use crate::engine::overlay::{Op, stamped_key, sum};
use crate::kv::{Engine, KvError, Transaction};

/// The file within the store's directory.
const FILE_NAME: &str = "inferadb.redb";
/// The version of how this file uses redb. What the keys mean has a version of its own.
const FILE_FORMAT: u64 = 1;
/// The memory for cached pages, in bytes. What vaults hold in memory does not come from here, and the system caches the file
/// too: so this is for the upper pages, and for what one batch of commits changes. The pages that one thread read and another
/// one's evicted may stay with the allocator for a while, so a scan of all there is can take twice as much.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

const PAIRS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("pairs");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const META_FORMAT: &str = "format";
const META_VERSION: &str = "version";

/// A durable store in one directory of the local disk.
pub struct EmbeddedEngine {
    optimistic: Optimistic,
}

impl EmbeddedEngine {
    /// Opens the store in `directory`, making both if they are missing. After a crash this checks the file first.
    ///
    /// # Errors
    ///
    /// [`KvError::Unavailable`] if another process has it open or the directory cannot be used,
    /// [`KvError::Damaged`] if the file is not such a store, or of a format this version does not know.
    pub fn open(directory: &Path) -> Result<Self, KvError> {
        let path = directory.join(FILE_NAME);
        prepare_directory(directory)?;
        let opener_path = path.clone();
        Self::with_opener(
            path,
            Box::new(move || {
                let file = PacedFile::open(&opener_path)?;
                Builder::new()
                    .set_cache_size(CACHE_BYTES)
                    .create_with_backend(file)
            }),
        )
    }

    fn with_opener(path: PathBuf, opener: Opener) -> Result<Self, KvError> {
        let mut base = Embedded {
            database: None,
            opener,
            path,
            beyond_recovery: None,
        };
        let snapshot = base.open()?;
        let optimistic = Optimistic::start("inferadb-commit", base, snapshot)
            .map_err(|error| KvError::Unavailable(format!("cannot start a thread: {error}")))?;
        Ok(Self { optimistic })
    }
}

#[async_trait]
impl Engine for EmbeddedEngine {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        Ok(self.optimistic.begin())
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        self.optimistic.watches.watch(key)
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn clears_ranges_at_once(&self) -> bool {
        false
    }
}

impl fmt::Debug for EmbeddedEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmbeddedEngine")
    }
}

type Opener = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

/// The open file, owned by the committer's thread.
struct Embedded {
    database: Option<Database>,
    opener: Opener,
    path: PathBuf,
    /// Set once a failure leaves it open what the disk really holds: only a restart may look again.
    beyond_recovery: Option<KvError>,
}

impl Embedded {
    fn open(&mut self) -> Result<Arc<dyn Snapshot>, KvError> {
        let database = (self.opener)().map_err(|error| open_error(&self.path, error))?;
        let snapshot = self.prepare(&database).map_err(|error| self.named(error))?;
        // The file's name in its directory must be as durable as what is in the file.
        sync_directory(self.path.parent())?;
        self.database = Some(database);
        Ok(snapshot)
    }

    fn prepare(&self, database: &Database) -> Result<Arc<dyn Snapshot>, Broken> {
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            transaction.open_table(PAIRS)?;
            let format = meta.get(META_FORMAT)?.map(|held| held.value());
            match format {
                None => {
                    meta.insert(META_FORMAT, FILE_FORMAT)?;
                    meta.insert(META_VERSION, 0)?;
                }
                Some(FILE_FORMAT) => {}
                Some(other) => {
                    return Err(Broken(KvError::Damaged(format!(
                        "file format {other} is not known to this version, which reads {FILE_FORMAT}"
                    ))));
                }
            }
        }
        transaction.commit()?;
        DiskSnapshot::take(database)
    }

    fn write(&mut self, version: u64, batch: &[Accepted]) -> Result<redb::WriteTransaction, Broken> {
        let Some(database) = &self.database else {
            return Err(Broken(KvError::Unavailable("the store is not open".into())));
        };
        let mut transaction = database.begin_write()?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(|error| Broken(KvError::Damaged(error.to_string())))?;
        {
            let mut pairs = transaction.open_table(PAIRS)?;
            for accepted in batch {
                for op in &accepted.ops {
                    background::breathe();
                    write_op(&mut pairs, accepted, op)?;
                }
            }
            transaction.open_table(META)?.insert(META_VERSION, version)?;
        }
        Ok(transaction)
    }

    fn named(&self, Broken(error): Broken) -> KvError {
        match error {
            KvError::Damaged(reason) => KvError::Damaged(format!("{}: {reason}", self.path.display())),
            other => other,
        }
    }
}

impl Base for Embedded {
    fn apply(&mut self, version: u64, batch: &[Accepted]) -> Result<Arc<dyn Snapshot>, Failure> {
        let transaction = self.write(version, batch).map_err(|error| {
            let error = self.named(error);
            Failure {
                error,
                maybe_stored: false,
            }
        })?;
        if let Err(error) = transaction.commit() {
            if !is_disk_full(&error) {
                // After a failed sync the system may show pages that never reached the disk, so looking again in
                // this process proves nothing.
                self.beyond_recovery = Some(KvError::Damaged(format!("a commit failed: {error}")));
            }
            return Err(Failure {
                error: self.named(error.into()),
                maybe_stored: true,
            });
        }
        let Some(database) = &self.database else {
            let error = KvError::Unavailable("the store is not open".into());
            return Err(Failure {
                error,
                maybe_stored: true,
            });
        };
        DiskSnapshot::take(database).map_err(|error| Failure {
            error: self.named(error),
            maybe_stored: true,
        })
    }

    fn recover(&mut self) -> Result<Arc<dyn Snapshot>, KvError> {
        if let Some(error) = &self.beyond_recovery {
            return Err(error.clone());
        }
        // Closing and opening again is how redb repairs what a failed write left behind.
        self.database = None;
        self.open()
    }
}

/// A read transaction of redb, shared by all who begin before the next commit.
struct DiskSnapshot {
    version: u64,
    pairs: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

impl DiskSnapshot {
    fn take(database: &Database) -> Result<Arc<dyn Snapshot>, Broken> {
        let transaction = database.begin_read()?;
        let version = transaction
            .open_table(META)?
            .get(META_VERSION)?
            .map(|held| held.value());
        let version =
            version.ok_or_else(|| Broken(KvError::Damaged("its last version is missing".into())))?;
        let pairs = transaction.open_table(PAIRS)?;
        Ok(Arc::new(Self { version, pairs }))
    }
}

impl Snapshot for DiskSnapshot {
    fn version(&self) -> u64 {
        self.version
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        let held = self.pairs.get(key).map_err(Broken::from)?;
        Ok(held.map(|value| Bytes::copy_from_slice(value.value())))
    }

    fn scan(&self, range: &Range<Bytes>, reverse: bool, visit: &mut Visit<'_>) -> Result<(), KvError> {
        let mut pairs = self
            .pairs
            .range(&*range.start..&*range.end)
            .map_err(Broken::from)?;
        while let Some(pair) = if reverse { pairs.next_back() } else { pairs.next() } {
            let (key, value) = pair.map_err(Broken::from)?;
            if visit(key.value(), value.value()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

fn write_op(
    pairs: &mut Table<'_, &'static [u8], &'static [u8]>,
    accepted: &Accepted,
    op: &Op,
) -> Result<(), StorageError> {
    match op {
        Op::Set(key, value) | Op::SetUnread(key, value) => pairs.insert(&**key, &**value).map(drop),
        Op::SetVersionstampedKey {
            prefix,
            suffix,
            value,
        } => {
            let key = stamped_key(prefix, accepted.stamp, suffix);
            pairs.insert(&*key, &**value).map(drop)
        }
        Op::SetVersionstampedValue { key, rest } => {
            let value = stamped_key(&[], accepted.stamp, rest);
            pairs.insert(&**key, &*value).map(drop)
        }
        Op::Add(key, delta) => {
            let value = sum(pairs.get(&**key)?.as_ref().map(|held| held.value()), *delta);
            pairs.insert(&**key, &*value).map(drop)
        }
        Op::Clear(key) => pairs.remove(&**key).map(drop),
        Op::ClearRange(range) => pairs.retain_in(&*range.start..&*range.end, |_, _| {
            background::breathe();
            false
        }),
    }
}

fn prepare_directory(directory: &Path) -> Result<(), KvError> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory).map_err(|error| {
        KvError::Unavailable(format!(
            "cannot make the directory `{}`: {error}",
            directory.display()
        ))
    })?;
    sync_directory(directory.parent())
}

fn sync_directory(directory: Option<&Path>) -> Result<(), KvError> {
    let Some(directory) = directory.filter(|path| path.is_dir()) else {
        return Ok(());
    };
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| {
            KvError::Unavailable(format!(
                "cannot sync the directory `{}`: {error}",
                directory.display()
            ))
        })
}

fn open_error(path: &Path, error: DatabaseError) -> KvError {
    let path = path.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen => KvError::Unavailable(format!(
            "`{path}` is already open: one process at a time can use an embedded store"
        )),
        DatabaseError::UpgradeRequired(version) => KvError::Damaged(format!(
            "`{path}` has redb's file format {version}, which this version cannot read"
        )),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
            KvError::Damaged(format!("`{path}` is not a store: {error}"))
        }
        DatabaseError::Storage(StorageError::Io(error)) => {
            KvError::Unavailable(format!("cannot open `{path}`: {error}"))
        }
        other => KvError::Damaged(format!("cannot open `{path}`: {other}")),
    }
}

fn is_disk_full(error: &CommitError) -> bool {
    match error {
        CommitError::Storage(StorageError::Io(error)) => is_full(error.kind()),
        _ => false,
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge
    )
}

/// Gathers redb's many error types into ours.
struct Broken(KvError);

impl From<Broken> for KvError {
    fn from(Broken(error): Broken) -> Self {
        error
    }
}

impl From<StorageError> for Broken {
    fn from(error: StorageError) -> Self {
        Self(match error {
            // The snapshot belongs to a file that was closed to recover from a failure.
            StorageError::DatabaseClosed => KvError::TooOld,
            StorageError::PreviousIo => KvError::Unavailable("the disk failed a moment ago".into()),
            StorageError::ValueTooLarge(bytes) => KvError::TooLarge(format!("{bytes} bytes in one value")),
            StorageError::Io(error) if is_full(error.kind()) => {
                KvError::Unavailable(format!("the disk is full: {error}"))
            }
            other => KvError::Damaged(other.to_string()),
        })
    }
}

impl From<TableError> for Broken {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Storage(error) => error.into(),
            other => Self(KvError::Damaged(other.to_string())),
        }
    }
}

impl From<TransactionError> for Broken {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Storage(error) => error.into(),
            other => Self(KvError::Damaged(other.to_string())),
        }
    }
}

impl From<CommitError> for Broken {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Storage(error) => error.into(),
            other => Self(KvError::Damaged(other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests;
