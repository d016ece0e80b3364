//! Reading a vault from storage into memory: its record, schema and, if it fits, all of its relationships.

use std::sync::Arc;

use inferadb_engine::schema::{Format, Schema};
use inferadb_storage::{Revision, SchemaRecord, Snapshot, Store, StoreError, VaultId, VaultRecord};

use super::VAULT_BYTES;
use super::operation::format_of;
use crate::apart;
use crate::error::VaultError;
use crate::ledger::{Charge, Ledger};
use crate::schemas::Schemas;
use crate::view::{VaultSchema, View};

/// A vault of up to so many relationships is loaded before its first answer: that takes about as long as one read.
const LOAD_AT_ONCE: u64 = 500;
/// How many relationships are read before others of the thread get their turn.
const CHUNK: usize = 1000;
/// A schema of so many bytes compiles in less time than it takes to have another thread do it, or little more.
const SMALL_SCHEMA_BYTES: usize = 512;
/// What a relationship weighs in memory at the least, for guessing whether a vault can fit.
const LEAST_BYTES: u64 = 48;

/// A vault as it stands in storage.
pub struct Opened {
    /// Its record.
    pub record: VaultRecord,
    /// Its schema and, if there are few, all of its rows.
    pub view: View,
}

impl Opened {
    /// Reads a vault that is to be active, and all its rows if they are few.
    pub async fn read(
        store: &Store,
        schemas: &Schemas,
        vault: VaultId,
        budget_bytes: usize,
    ) -> Result<Self, VaultError> {
        let opened = open(store, schemas, vault, budget_bytes).await?;
        match opened.record.archived {
            true => Err(VaultError::AccessDenied),
            false => Ok(opened),
        }
    }

    /// What an active vault holds of this, in bytes.
    pub fn bytes(&self) -> usize {
        bytes_with(&self.view)
    }

    /// Lets go of the rows, if there are any; says whether there were. They are read as they are needed.
    pub fn drop_rows(&mut self) -> bool {
        let had_any = self.view.bytes() > 0;
        self.view.shrink_to(0);
        had_any
    }
}

/// What a vault with this view holds, in bytes, beside decisions and what watches may want.
pub fn bytes_with(view: &View) -> usize {
    VAULT_BYTES + view.bytes() + view.schema.shared_bytes()
}

/// A vault that was read, and has room in memory.
pub struct Admitted {
    /// What was read.
    pub opened: Opened,
    /// What it is charged to.
    pub charge: Charge,
}

/// The outcome of loading a vault wholly.
pub enum Loaded {
    /// Everything, of the revision the view says or, in part, of later ones up to `through`: the changes since the
    /// view's are to be replayed up to there at least.
    Whole {
        /// The rows.
        view: Box<View>,
        /// The latest revision that any of them can be of.
        through: Revision,
        /// What they are charged to until they are the vault's.
        charge: Charge,
    },
    /// It does not fit its budget, or all vaults together hold too much for it.
    TooLarge,
}

/// Reads a vault's record and schema, and all its rows if they are few.
pub async fn open(
    store: &Store,
    schemas: &Schemas,
    vault: VaultId,
    budget_bytes: usize,
) -> Result<Opened, VaultError> {
    let snapshot = store.snapshot(vault).await.map_err(VaultError::from_store)?;
    let record = snapshot.vault().clone();
    let schema = compile_apart(snapshot.schema().await.map_err(VaultError::from_store)?).await?;
    let schema = Arc::new(schemas.share(schema));
    let mut relationships = 0;
    for shape in snapshot.shapes().await.map_err(VaultError::from_store)? {
        relationships += shape.count;
    }
    let mut view = View::new(snapshot.revision(), schema, relationships);
    if relationships > 0 && relationships <= LOAD_AT_ONCE && is_likely_to_fit(relationships, budget_bytes) {
        view.assume_complete();
        let mut position = None;
        loop {
            position = read_chunk(&snapshot, position, &mut view)
                .await
                .map_err(VaultError::from_store)?;
            if position.is_none() {
                break;
            }
            if view.bytes() > budget_bytes {
                // It does not fit after all: its rows are read as they are needed.
                let schema = Arc::clone(&view.schema);
                view = View::new(snapshot.revision(), schema, relationships);
                break;
            }
        }
        view.shrink_to(budget_bytes);
    }
    Ok(Opened { record, view })
}

/// Compiles a stored schema, one that may take long apart from the threads of actors and requests.
pub async fn compile_apart(record: Option<SchemaRecord>) -> Result<VaultSchema, VaultError> {
    match record {
        Some(record) if record.text.len() > SMALL_SCHEMA_BYTES => {
            apart::of_activation(move || compile(Some(record))).await?
        }
        record => compile(record),
    }
}

/// Compiles a stored schema; none at all is the empty schema.
pub fn compile(record: Option<SchemaRecord>) -> Result<VaultSchema, VaultError> {
    let Some(record) = record else {
        return Ok(VaultSchema::new(Schema::default(), String::new(), None));
    };
    let damaged = |what: &str| VaultError::Storage(StoreError::Damaged(what.into()));
    let format: Format = format_of(record.format)
        .ok_or_else(|| damaged("the stored schema is in a language that this version does not know"))?;
    // It compiled when it was stored; that it no longer does means damage, or a store written by a later version.
    let compiled = format
        .compile(&record.text)
        .map_err(|_| damaged("the stored schema does not compile with this version"))?;
    Ok(VaultSchema::new(compiled.schema, record.text, Some(record.revision)).in_format(format))
}

/// Whether a vault of so many relationships can fit its budget at all.
pub fn is_likely_to_fit(relationships: u64, budget_bytes: usize) -> bool {
    relationships.saturating_mul(LEAST_BYTES) <= budget_bytes as u64
}

/// Reads all rows of a vault, in chunks. Where one snapshot lives too short for all of it, the next chunk is read from
/// a later one: replaying the changes since the first makes the whole exact.
pub async fn whole(
    store: &Store,
    vault: VaultId,
    schema: Arc<VaultSchema>,
    budget_bytes: usize,
    ledger: &Ledger,
) -> Result<Loaded, StoreError> {
    let charge = ledger.charge();
    let mut snapshot = store.snapshot(vault).await?;
    let mut view = View::new(snapshot.revision(), schema, 0);
    view.assume_complete();
    let mut position = None;
    loop {
        match read_chunk(&snapshot, position.clone(), &mut view).await {
            Ok(None) => {
                return Ok(Loaded::Whole {
                    view: Box::new(view),
                    through: snapshot.revision(),
                    charge,
                });
            }
            Ok(next) => position = next,
            Err(StoreError::SnapshotTooOld) => snapshot = store.snapshot(vault).await?,
            Err(error) => return Err(error),
        }
        if view.bytes() > budget_bytes || !charge.try_set(view.bytes()) {
            return Ok(Loaded::TooLarge);
        }
        tokio::task::yield_now().await;
    }
}

async fn read_chunk(
    snapshot: &Snapshot,
    after: Option<Vec<u8>>,
    view: &mut View,
) -> Result<Option<Vec<u8>>, StoreError> {
    let schema = Arc::clone(&view.schema);
    let chunk = snapshot.scan_all(after.as_deref(), CHUNK).await?;
    let mut entries = chunk
        .items
        .iter()
        .filter_map(|relationship| schema.row_entry(relationship))
        .peekable();
    // Those of one row come one after another: the row is made at once.
    while let Some((key, first)) = entries.next() {
        let mut row = vec![first];
        while let Some((_, entry)) = entries.next_if(|(next, _)| *next == key) {
            row.push(entry);
        }
        view.put_all(key, row);
    }
    Ok(chunk.next)
}
