//! One state of a vault for as long as it takes to read all of it, or one that has passed.
//!
//! A snapshot is read as long as the engine keeps it, and never for long: then a newer one is taken, and what the change log says
//! has happened since the state is undone for the keys that have yet to be read: each change carries what it replaced.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use inferadb_engine::noun::{Relationship, RelationshipKey};

use super::change::{Changed, RecordKind, read_records};
use super::filter::whole;
use super::retry::Retry;
use super::{Breath, PAIRS_AT_ONCE, SchemaRecord, Snapshot, Store, StoreError, VaultRecord};
use crate::codec::StoredTerms;
use crate::id::{Revision, VaultId};
use crate::keys::{self, Order};
use crate::kv::{Isolation, Pair, RangeOptions, Transaction, key_after, pair_bytes, prefix_range};

/// The most relationships of one page.
const MAX_PAGE: usize = 1_000;
/// About as much is one page, in bytes of keys and values.
const PAGE_BYTES: usize = 1 << 20;
/// About as much is read in one go.
const READ_BYTES: usize = 256 << 10;
/// The most that is kept for undoing, in bytes.
const MAX_UNDO_BYTES: usize = 32 << 20;
/// What an entry weighs beside its bytes.
const ENTRY_BYTES: usize = 96;
/// How many records of the log are read in one go, and about how many bytes.
pub(super) const PASS_RECORDS: usize = 64;
pub(super) const PASS_BYTES: usize = 2 << 20;

/// A stored relationship: the segments of its forward key, and its terms.
pub(super) type Row = (Vec<u8>, Bytes);

/// A page of what stands in the order of keys.
#[derive(Default)]
pub(super) struct RowsRead {
    pub(super) rows: Vec<Row>,
    /// The last of their keys, if more may follow it.
    pub(super) end: Option<Vec<u8>>,
    /// What they come to.
    pub(super) bytes: usize,
}

/// One state of one vault, read from its first relationship to its last.
pub struct PastState {
    store: Store,
    vault: VaultRecord,
    schema: Option<SchemaRecord>,
    relationships: u64,
    revision: Revision,
    /// What is read from; `None` once all of it has been read.
    snapshot: Option<Snapshot>,
    undo: Undo,
    /// What was read and has yet to be handed over.
    rows: VecDeque<Row>,
    /// The last key that was read.
    position: Option<Vec<u8>>,
    /// What was read from the snapshot, in bytes.
    taken: usize,
    /// When the snapshot was taken, by the caller's clock; `None` until it is known.
    since: Option<Instant>,
}

/// What comes of the next key that was read, or was changed since the wanted state.
enum Step {
    /// The wanted state has it.
    Row(Row),
    /// The wanted state does not have it.
    Nothing,
    /// There is none.
    End,
}

/// What has to be undone to get from the state that is read to the one that is wanted.
struct Undo {
    /// All changes after the wanted state up to this one have been taken in.
    through: Revision,
    /// What stood under a key in the wanted state.
    before: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    /// How many more relationships there are now.
    grown: i64,
    /// The schema of the wanted state, if it has been replaced since.
    schema: Option<Option<SchemaRecord>>,
}

/// How much is read from one snapshot of a shared store, in bytes: FoundationDB's client keeps all that a transaction has read.
const SNAPSHOT_BYTES: usize = 16 << 20;
/// For how long one snapshot is read. As long as it is, an embedded store cannot use the room again that it has.
const SNAPSHOT_LIFE: Duration = Duration::from_secs(30);

impl Store {
    /// The state of `vault` at the revision `at`, or its newest, to be read as a whole.
    ///
    /// # Errors
    ///
    /// [`StoreError::HistoryGone`] if the changes since `at` are not all kept, [`StoreError::TooManyChanges`] if they are
    /// more than 32 MiB or so, [`StoreError::VaultNotFound`].
    pub async fn state(&self, vault: VaultId, at: Option<Revision>) -> Result<PastState, StoreError> {
        let snapshot = self.snapshot(vault).await?;
        let revision = at.unwrap_or_else(|| snapshot.revision());
        if revision > snapshot.revision() {
            return Err(StoreError::HistoryGone);
        }
        let mut state = PastState {
            store: self.clone(),
            vault: snapshot.vault().clone(),
            schema: None,
            relationships: 0,
            revision,
            snapshot: Some(snapshot),
            undo: Undo {
                through: revision,
                before: BTreeMap::new(),
                bytes: 0,
                grown: 0,
                schema: None,
            },
            rows: VecDeque::new(),
            position: None,
            taken: 0,
            since: None,
        };
        let mut retry = Retry::default();
        loop {
            let before = state.undo.through;
            match state.open().await {
                Ok(()) => return Ok(state),
                // Some of it is done: the rest is less.
                Err(StoreError::SnapshotTooOld) if state.undo.through > before => retry = Retry::default(),
                Err(error) => retry.pause(error).await?,
            }
            state.snapshot = Some(self.snapshot(vault).await?);
        }
    }
}

impl PastState {
    /// The vault's record as it was when this began.
    pub fn vault(&self) -> &VaultRecord {
        &self.vault
    }

    /// The state's schema, if it had one.
    pub fn schema(&self) -> Option<&SchemaRecord> {
        self.schema.as_ref()
    }

    /// The state's revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many relationships the state holds.
    pub fn relationships(&self) -> u64 {
        self.relationships
    }

    /// The next relationships in the order of their resources, at most 1,000 and about a mebibyte, never none; `None` at the end.
    /// Expired ones that are still stored are among them. `now` is as in [`PastState::refresh`].
    ///
    /// # Errors
    ///
    /// As [`PastState::refresh`]. Never another state than the one named.
    pub async fn next(&mut self, now: Instant) -> Result<Option<Vec<Relationship>>, StoreError> {
        loop {
            let page = self.page().await?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
            if self.snapshot.is_none() {
                return Ok(None);
            }
            self.refresh(now).await?;
            let RowsRead { rows, end, bytes } = self.read().await?;
            self.taken += bytes;
            self.rows = rows.into();
            if end.is_none() {
                self.snapshot = None;
            }
            self.position = end;
        }
    }

    /// Takes a newer snapshot about every half minute, by what `now` says: to be called often enough while what was answered is put to
    /// use, however slowly that goes. Storage keeps a state for as long as a snapshot of it is held.
    ///
    /// # Errors
    ///
    /// Where snapshots do not live long: [`StoreError::HistoryGone`] if changes were trimmed before they were undone, or the
    /// vault was replaced by an import; [`StoreError::TooManyChanges`].
    pub async fn refresh(&mut self, now: Instant) -> Result<(), StoreError> {
        let since = *self.since.get_or_insert(now);
        let is_old = now.saturating_duration_since(since) >= SNAPSHOT_LIFE;
        let is_full = self.taken >= SNAPSHOT_BYTES && self.store.is_shared();
        if self.snapshot.is_none() || !(is_old || is_full) {
            return Ok(());
        }
        match self.renew().await {
            // An embedded store keeps the snapshot: better that its file grows than that the state is lost.
            Err(StoreError::HistoryGone | StoreError::TooManyChanges) if !self.store.is_shared() => {}
            renewed => renewed?,
        }
        self.since = Some(now);
        Ok(())
    }

    /// A page of what has been read; none of it at its end.
    async fn page(&mut self) -> Result<Vec<Relationship>, StoreError> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        let mut breath = Breath::default();
        while page.len() < MAX_PAGE && bytes < PAGE_BYTES {
            let stored = match self.step() {
                Step::End => break,
                Step::Nothing => 0,
                Step::Row((key, terms)) => {
                    page.push(relationship(&key, &terms)?);
                    key.len() + terms.len()
                }
            };
            bytes += stored;
            breath.after(stored).await;
        }
        Ok(page)
    }

    /// Passes the next key of what has been read.
    fn step(&mut self) -> Step {
        // Beyond what has been read there may be others before those that were changed.
        let is_read = |key: &Vec<u8>| match &self.snapshot {
            Some(_) => self.position.as_ref().is_some_and(|end| key <= end),
            None => true,
        };
        let changed = self.undo.before.first_key_value().map(|(key, _)| key);
        let changed = changed.filter(|key| is_read(key));
        match (self.rows.front(), changed) {
            (Some((key, _)), Some(changed)) if key == changed => {
                self.rows.pop_front();
                self.undo.step()
            }
            (Some((key, _)), Some(changed)) if changed < key => self.undo.step(),
            (None, Some(_)) => self.undo.step(),
            _ => self.rows.pop_front().map_or(Step::End, Step::Row),
        }
    }

    /// Finds out all that is told before the first relationship.
    async fn open(&mut self) -> Result<(), StoreError> {
        self.undo_changes().await?;
        let Some(snapshot) = &self.snapshot else {
            return Ok(());
        };
        self.schema = match &self.undo.schema {
            Some(schema) => schema.clone(),
            None => snapshot.schema().await?,
        };
        let shapes = snapshot.shapes().await?;
        let stored = shapes
            .iter()
            .fold(0_u64, |sum, shape| sum.saturating_add(shape.count));
        self.relationships = stored.saturating_add_signed(-self.undo.grown);
        Ok(())
    }

    async fn read(&mut self) -> Result<RowsRead, StoreError> {
        let mut retry = Retry::default();
        let prefix = keys::relationships(self.vault.space(), Order::Forward);
        while let Some(snapshot) = &self.snapshot {
            let (transaction, after) = (snapshot.transaction(), self.position.as_deref());
            match read_rows(transaction, &prefix, after, rows_at_once(&self.store)).await {
                Err(error @ StoreError::SnapshotTooOld) => retry.pause(error).await?,
                read => return read,
            }
            self.renew().await?;
        }
        Ok(RowsRead::default())
    }

    /// Goes on with a newer snapshot. If this fails it goes on with the one it has: what has been taken in to be undone holds
    /// for that too.
    async fn renew(&mut self) -> Result<(), StoreError> {
        let newer = self.store.snapshot(self.vault.id).await?;
        let held = self.snapshot.replace(newer);
        let renewed = self.catch_up().await;
        match renewed {
            Ok(()) => self.taken = 0,
            Err(_) => self.snapshot = held,
        }
        renewed
    }

    /// Takes in all changes up to the snapshot, or up to yet newer ones where it becomes too old meanwhile.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut retry = Retry::default();
        loop {
            let before = self.undo.through;
            match self.undo_changes().await {
                // Some of it is done: the rest is less.
                Err(StoreError::SnapshotTooOld) if self.undo.through > before => retry = Retry::default(),
                Err(error @ StoreError::SnapshotTooOld) => retry.pause(error).await?,
                done => return done,
            }
            self.snapshot = Some(self.store.snapshot(self.vault.id).await?);
        }
    }

    /// Takes in all changes up to the snapshot. What it got done stays so, though it fails.
    async fn undo_changes(&mut self) -> Result<(), StoreError> {
        let Some(snapshot) = &self.snapshot else {
            return Ok(());
        };
        let (transaction, vault) = (snapshot.transaction(), self.vault.id);
        if snapshot.vault().space() != self.vault.space() {
            return Err(StoreError::HistoryGone);
        }
        let mut breath = Breath::default();
        while self.undo.through < snapshot.revision() {
            let through = self.undo.through;
            let records = read_records(transaction, vault, through, PASS_RECORDS, PASS_BYTES).await?;
            if records.is_empty() {
                self.undo.through = snapshot.revision();
            }
            for record in records {
                match record.kind {
                    RecordKind::Relationships(changes) => {
                        for changed in changes {
                            let kept = self.undo.take(&changed, self.position.as_deref())?;
                            breath.after(kept).await;
                        }
                    }
                    RecordKind::Schema(before) => {
                        self.undo.schema.get_or_insert(before);
                    }
                    RecordKind::Settings => {}
                }
                self.undo.through = record.revision;
            }
        }
        Ok(())
    }
}

impl Undo {
    /// Takes a change in, if it is of a key that has yet to be read; answers what is kept of it, in bytes.
    fn take(&mut self, changed: &Changed, position: Option<&[u8]>) -> Result<usize, StoreError> {
        self.grown += i64::from(changed.after.is_some()) - i64::from(changed.before.is_some());
        let key = segments(&changed.key);
        if position.is_some_and(|position| *key <= *position) || self.before.contains_key(&key) {
            return Ok(0);
        }
        let before = match &changed.before {
            Some(terms) => Some(terms.encode()?),
            None => None,
        };
        let weight = weight(&key, before.as_ref());
        self.bytes += weight;
        if self.bytes > MAX_UNDO_BYTES {
            return Err(StoreError::TooManyChanges);
        }
        self.before.insert(key, before);
        Ok(weight)
    }

    /// Undoes the change to the first key.
    fn step(&mut self) -> Step {
        let Some((key, before)) = self.before.pop_first() else {
            return Step::End;
        };
        self.bytes -= weight(&key, before.as_ref());
        match before {
            Some(terms) => Step::Row((key, terms.into())),
            None => Step::Nothing,
        }
    }
}

/// How many pairs are read in one go: from another process as many as make a page, since each read is waited for.
pub(super) fn rows_at_once(store: &Store) -> usize {
    if store.is_shared() {
        MAX_PAGE
    } else {
        PAIRS_AT_ONCE
    }
}

/// What stands after `prefix` in the order of keys, after an earlier key: at most 1,000 pairs, and about a mebibyte; in one go
/// `at_once` pairs.
pub(super) async fn read_rows(
    transaction: &dyn Transaction,
    prefix: &[u8],
    after: Option<&[u8]>,
    at_once: usize,
) -> Result<RowsRead, StoreError> {
    let mut range = prefix_range(prefix);
    if let Some(after) = after {
        range.start = key_after(&[prefix, after].concat());
    }
    let mut read = RowsRead::default();
    loop {
        let options = RangeOptions {
            limit: at_once.min(MAX_PAGE - read.rows.len()),
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        let some = transaction.range_of_size(range.clone(), options, READ_BYTES);
        let (pairs, may_follow) = some.await?;
        if let Some((last, _)) = pairs.last() {
            range.start = key_after(last);
        }
        read.bytes += pairs.iter().map(pair_bytes).sum::<usize>();
        let row = |(key, value): Pair| (key.get(prefix.len()..).unwrap_or_default().to_vec(), value);
        read.rows.extend(pairs.into_iter().map(row));
        if !may_follow {
            return Ok(read);
        }
        if read.rows.len() >= MAX_PAGE || read.bytes >= PAGE_BYTES {
            read.end = read.rows.last().map(|(key, _)| key.clone());
            return Ok(read);
        }
        // Where storage answers at once nothing else lets others have their turn.
        tokio::task::yield_now().await;
    }
}

/// What tells a relationship from others in the order of keys.
pub(super) fn segments(key: &RelationshipKey) -> Vec<u8> {
    keys::with_segments(
        Vec::with_capacity(96),
        &keys::relationship_segments(Order::Forward, key),
    )
}

/// A relationship as it is stored.
pub(super) fn relationship(key: &[u8], terms: &[u8]) -> Result<Relationship, StoreError> {
    Ok(whole((decode_key(key)?, decode_terms(terms)?)))
}

pub(super) fn decode_key(key: &[u8]) -> Result<RelationshipKey, StoreError> {
    keys::decode_segments(Order::Forward, key).ok_or_else(|| StoreError::unreadable("relationship's key"))
}

pub(super) fn decode_terms(terms: &[u8]) -> Result<StoredTerms, StoreError> {
    StoredTerms::decode(terms).ok_or_else(|| StoreError::unreadable("relationship's terms"))
}

fn weight(key: &[u8], before: Option<&Vec<u8>>) -> usize {
    ENTRY_BYTES + key.len() + before.map_or(0, Vec::len)
}

impl std::fmt::Debug for PastState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PastState")
            .field("vault", &self.vault.id)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
