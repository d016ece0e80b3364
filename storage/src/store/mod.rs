//! The layer that keeps accounts, vaults, schemas, relationships and changes, written once over any engine.

mod accounts;
mod change;
mod defaults;
mod delete;
mod error;
mod filter;
mod hold;
mod lease;
mod merge;
mod past;
mod prefix;
mod retry;
mod schema;
mod shape;
mod snapshot;
mod staging;
mod stretch;
mod sweep;
mod switch;
mod unmoved;
mod vaults;
mod write;

use std::path::PathBuf;
use std::sync::Arc;

pub use accounts::AccountRecord;
pub use change::{Change, ChangeKind, ChangeOp, LogSize, Trimmed};
pub use defaults::Defaults;
pub use delete::Deleted;
pub use error::StoreError;
pub use filter::{RelationshipFilter, SubjectRelation};
pub use merge::Merged;
pub use past::PastState;
pub use prefix::{BadKeyPrefix, KeyPrefix};
pub use schema::{FitCheck, MAX_SCHEMA_BYTES, PutSchema, SchemaFit, SchemaPut};
pub use shape::{MAX_SHAPES, Shape, SubjectClass};
pub use snapshot::{Head, MAX_ROW_BYTES, RowLimit, RowRead, SchemaRecord, Snapshot, StoredEntry};
pub use staging::Staging;
pub use stretch::{OppositeRead, StretchOf, StretchRead};
pub use switch::{Switch, Switched};
pub use vaults::{Archived, VaultPatch, VaultRecord};
pub use write::{Precondition, Write, Written};

use crate::background;
use crate::engine::{EmbeddedEngine, MemoryEngine};
use crate::keys;
use crate::kv::{Engine, Isolation};
use hold::Holds;
use retry::{Markers, Retry};
use sweep::Sweeper;

/// How many relationships are taken apart or put together before others of the thread get their turn.
const PIECE: usize = 50;
/// A large one counts as several: as one more for each so many bytes.
const ORDINARY_BYTES: usize = 256;
/// How many pairs are read in one go where storage answers at once: nothing else lets others of the thread have their turn.
const PAIRS_AT_ONCE: usize = 250;
/// How many values are read at a time where they are looked up one by one, since each may be as large as a value can be.
const VALUES_AT_ONCE: usize = 50;

/// Lets others of the thread have their turn, now and then.
#[derive(Debug, Default)]
struct Breath {
    done: usize,
}

impl Breath {
    /// To be called after each relationship that was worked on, with about what it comes to where it is stored, in bytes.
    async fn after(&mut self, bytes: usize) {
        background::breathe();
        self.done += 1 + bytes / ORDINARY_BYTES;
        if self.done >= PIECE {
            self.done = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Where data is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// In memory: gone with the process.
    Memory,
    /// In a directory of the local disk, for one process.
    Embedded {
        /// The directory; it is made if it is missing.
        path: PathBuf,
    },
    /// In a FoundationDB cluster, for any number of processes. Only in builds with the feature `foundationdb`.
    FoundationDb {
        /// The cluster file.
        cluster_file: PathBuf,
        /// What every key of this store starts with: several stores can share a cluster. Empty for one that has it alone.
        key_prefix: KeyPrefix,
    },
}

/// Ends what the engines keep for the whole process: FoundationDB's client, in builds that have it. To be called once, at
/// the end of the process, when no store is in use any more; afterwards no FoundationDB store can be opened.
pub fn stop_client() {
    #[cfg(feature = "foundationdb")]
    crate::engine::stop_network();
}

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageConfig {
    /// Where data is kept.
    pub backend: Backend,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// What the page holds, in the list's order. It can be empty although more follows.
    pub items: Vec<T>,
    /// The position to go on from; `None` at the end.
    pub next: Option<Vec<u8>>,
}

/// The store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<dyn Engine>,
    markers: Markers,
    sweeper: Sweeper,
    holds: Holds,
}

impl Store {
    /// Opens the store, on a tokio runtime, which goes on with deletions that were interrupted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if it is in use or out of reach, [`StoreError::Damaged`] if it is of a format that
    /// this version does not know, [`StoreError::BackendMissing`].
    pub async fn open(config: StorageConfig) -> Result<Self, StoreError> {
        let engine: Arc<dyn Engine> = match config.backend {
            Backend::Memory => Arc::new(MemoryEngine::new()?),
            Backend::Embedded { path } => {
                // Checking a large file after a crash takes a while.
                let opened = tokio::task::spawn_blocking(move || EmbeddedEngine::open(&path)).await;
                Arc::new(opened.map_err(|error| StoreError::Damaged(error.to_string()))??)
            }
            #[cfg(feature = "foundationdb")]
            Backend::FoundationDb {
                cluster_file,
                key_prefix,
            } => Arc::new(crate::engine::FoundationDbEngine::open(&cluster_file, &key_prefix.bytes()).await?),
            #[cfg(not(feature = "foundationdb"))]
            Backend::FoundationDb { .. } => return Err(StoreError::BackendMissing),
        };
        Self::with_engine(engine).await
    }

    /// A store over `engine`. Needs a tokio runtime, as [`Store::open`] does.
    ///
    /// # Errors
    ///
    /// As [`Store::open`].
    pub async fn with_engine(engine: Arc<dyn Engine>) -> Result<Self, StoreError> {
        let store = Self {
            inner: Arc::new(Inner {
                engine,
                markers: Markers::new(),
                sweeper: Sweeper::default(),
                holds: Holds::default(),
            }),
        };
        let mut retry = Retry::default();
        while let Err(error) = store.check_layout().await {
            retry.pause(error).await?;
        }
        sweep::start(&store.inner);
        Ok(store)
    }

    /// Ends the background chore and, if this is the last clone, closes the store: then the directory of an embedded
    /// store can be opened again. Dropping the store closes it too, but perhaps a moment later.
    pub async fn close(self) {
        self.inner.sweeper.stop().await;
    }

    /// Whether storage answers: reads one key. For health checks.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.engine()
            .begin()
            .await?
            .get(&keys::layout(), Isolation::Snapshot)
            .await?;
        Ok(())
    }

    /// Whether other processes can change what is stored. If not, nothing changes but by this store.
    pub fn is_shared(&self) -> bool {
        !self.engine().is_exclusive()
    }

    async fn check_layout(&self) -> Result<(), StoreError> {
        let mut transaction = self.engine().begin().await?;
        match transaction.get(&keys::layout(), Isolation::Serializable).await? {
            None => {
                transaction.set(&keys::layout(), &keys::LAYOUT_VERSION.to_be_bytes());
                transaction.commit().await?;
                Ok(())
            }
            Some(held) if *held == keys::LAYOUT_VERSION.to_be_bytes() => Ok(()),
            Some(held) => Err(StoreError::Damaged(format!(
                "key layout {held:x?} is not known to this version, which reads {}",
                keys::LAYOUT_VERSION
            ))),
        }
    }

    fn engine(&self) -> &dyn Engine {
        &*self.inner.engine
    }

    fn markers(&self) -> &Markers {
        &self.inner.markers
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}
