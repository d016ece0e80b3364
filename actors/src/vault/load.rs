//! Reading a vault from storage into memory: its record, schema and, if it fits, all of its relationships.

use std::sync::Arc;
use std::time::Instant;

use inferadb_engine::schema::{Format, Schema};
use inferadb_storage::background;
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
    /// How long its schema took to compile, in nanoseconds.
    pub compile_nanos: u64,
    /// What the rows weigh that were read and dropped again, as there was no room for them; 0: there was.
    pub lacking_bytes: usize,
}

impl Opened {
    /// Reads a vault that is to be active, and all its rows if they are few, which are charged beside what is.
    pub async fn read(
        store: &Store,
        schemas: &Schemas,
        vault: VaultId,
        budget_bytes: usize,
        charge: &Charge,
    ) -> Result<Self, VaultError> {
        let opened = open(store, schemas, vault, None, budget_bytes, charge).await?;
        match opened.record.archived {
            true => Err(VaultError::AccessDenied),
            false => Ok(opened),
        }
    }

    /// Reads it once more, since there is room now for the rows there was none for.
    pub async fn read_again(
        self,
        store: &Store,
        schemas: &Schemas,
        budget_bytes: usize,
        charge: &Charge,
    ) -> Result<Self, VaultError> {
        let known = Some(&self.view.schema);
        let again = open(store, schemas, self.record.id, known, budget_bytes, charge).await?;
        let compile_nanos = self.compile_nanos + again.compile_nanos;
        match again.record.archived {
            true => Err(VaultError::AccessDenied),
            false => Ok(Self {
                compile_nanos,
                ..again
            }),
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
    /// It does not fit its budget.
    TooLarge,
    /// All vaults together hold too much for it.
    NoRoom,
}

/// Reads a vault's record and schema, and all its rows if they are few and there is room: they are charged beside what is. A schema that is
/// `known` is not compiled again.
pub async fn open(
    store: &Store,
    schemas: &Schemas,
    vault: VaultId,
    known: Option<&Arc<VaultSchema>>,
    budget_bytes: usize,
    charge: &Charge,
) -> Result<Opened, VaultError> {
    let snapshot = store.snapshot(vault).await.map_err(VaultError::from_store)?;
    let record = snapshot.vault().clone();
    let stored = snapshot.schema().await.map_err(VaultError::from_store)?;
    let revision = stored.as_ref().map(|stored| stored.revision);
    let (schema, compile_nanos) = match known.filter(|known| known.revision == revision) {
        Some(known) => (Arc::clone(known), 0),
        None => {
            let (schema, nanos) = compile_timed(stored).await?;
            (Arc::new(schemas.share(schema)), nanos)
        }
    };
    let charged = charge.bytes();
    let mut relationships = 0;
    for shape in snapshot.shapes().await.map_err(VaultError::from_store)? {
        relationships += shape.count;
    }
    let mut view = View::new(snapshot.revision(), schema, relationships);
    let mut lacking_bytes = 0;
    if relationships > 0 && relationships <= LOAD_AT_ONCE && is_likely_to_fit(relationships, budget_bytes) {
        view.assume_complete();
        let mut position = None;
        loop {
            position = read_chunk(&snapshot, position, &mut view)
                .await
                .map_err(VaultError::from_store)?;
            let is_over = position.is_some() && view.bytes() > budget_bytes;
            let has_room = is_over || charge.try_set(charged + view.bytes());
            if is_over || !has_room {
                // It does not fit after all: its rows are read as they are needed.
                lacking_bytes = if has_room { 0 } else { view.bytes() };
                let schema = Arc::clone(&view.schema);
                view = View::new(snapshot.revision(), schema, relationships);
                break;
            }
            if position.is_none() {
                break;
            }
        }
        view.shrink_to(budget_bytes);
        charge.set(charged + view.bytes());
    }
    Ok(Opened {
        record,
        view,
        compile_nanos,
        lacking_bytes,
    })
}

/// Compiles a stored schema, one that may take long apart from the threads of actors and requests.
pub async fn compile_apart(record: Option<SchemaRecord>) -> Result<VaultSchema, VaultError> {
    compile_timed(record).await.map(|(schema, _)| schema)
}

/// As [`compile_apart`], and says how many nanoseconds it took.
pub async fn compile_timed(record: Option<SchemaRecord>) -> Result<(VaultSchema, u64), VaultError> {
    let compile = |record| {
        let started = Instant::now();
        let schema = compile(record);
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        schema.map(|schema| (schema, nanos))
    };
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

/// What a vault of so many relationships most likely weighs at most, in bytes.
pub fn likely_bytes(relationships: u64) -> usize {
    usize::try_from(relationships.saturating_mul(4 * LEAST_BYTES)).unwrap_or(usize::MAX)
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
        if view.bytes() > budget_bytes {
            return Ok(Loaded::TooLarge);
        }
        if !charge.try_set(view.bytes()) {
            return Ok(Loaded::NoRoom);
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
        background::breathe();
        let mut row = vec![first];
        while let Some((_, entry)) = entries.next_if(|(next, _)| *next == key) {
            background::breathe();
            row.push(entry);
        }
        view.put_all(key, row);
    }
    Ok(chunk.next)
}
