//! The change log: every commit in a vault moves its head and appends one record.

use bytes::Bytes;
use futures_util::future::try_join;
use inferadb_engine::noun::{
    Name, ObjectId, ObjectRef, Relationship, RelationshipKey, SubjectRef, Timestamp,
};

use super::filter::whole;
use super::retry::Retry;
use super::snapshot::{Head, require_head};
use super::vaults::require_vault;
use super::{Breath, SchemaRecord, Store, StoreError};
use crate::codec::{Reader, StoredTerms, put_text};
use crate::id::{Revision, VaultId};
use crate::keys;
use crate::kv::{Isolation, MAX_TRANSACTION_BYTES, RangeOptions, Transaction, Versionstamp, key_after};

/// The size of one stored piece of a record or of a schema, in bytes; below what one value can hold.
pub(super) const PIECE_BYTES: usize = 90_000;
/// The most pairs that are read in one go.
const CHUNK: usize = 500;
/// About how many bytes one transaction removes.
const TRIM_BYTES: usize = 1 << 20;
/// The fewest pairs that are worth a read, where records may be large.
const MIN_CHUNK: usize = 16;
/// Enough for one answer, in bytes of records.
const MAX_ANSWER_BYTES: usize = 8_000_000;
const FORMAT: u8 = 2;
const HEADER_BYTES: usize = 12;
const RELATIONSHIPS: u8 = 0;
const SCHEMA: u8 = 1;
const SETTINGS: u8 = 2;

/// What happened to a relationship.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeOp {
    /// It was not there before.
    Created,
    /// Its caveat or expiry changed.
    Updated,
    /// It is no longer there. Such a change names the relationship without its caveat and expiry.
    Deleted,
}

/// What a commit changed.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// Relationships, in the order of the write.
    Relationships(Vec<(ChangeOp, Relationship)>),
    /// The schema.
    Schema,
    /// The vault's own record: name, archival, limits. Also its creation.
    Settings,
}

/// One commit in a vault.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The state it led to.
    pub revision: Revision,
    /// When it was asked for, by the clock of the server that did it.
    pub at: Timestamp,
    /// What it changed.
    pub kind: ChangeKind,
}

/// What happened to one relationship, whole: so it can be undone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Changed {
    pub(super) op: ChangeOp,
    pub(super) key: RelationshipKey,
    /// What was stored; `None` where nothing was.
    pub(super) before: Option<StoredTerms>,
    /// What is stored; `None` where nothing is.
    pub(super) after: Option<StoredTerms>,
}

/// Changes of one commit, in their order, as the log keeps them: what they replace may be large, and is not kept otherwise.
#[derive(Debug, Default)]
pub(super) struct LoggedChanges(Vec<u8>);

/// What a commit appends to the log.
pub(super) enum Appended<'a> {
    Relationships(&'a LoggedChanges),
    /// The schema is another one; it was this.
    Schema(Option<&'a SchemaRecord>),
    Settings,
}

/// A record of the log as it is stored: what changed, and what was there before.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) revision: Revision,
    at: Timestamp,
    pub(super) kind: RecordKind,
}

#[derive(Debug)]
pub(super) enum RecordKind {
    Relationships(Vec<Changed>),
    /// The schema that was replaced.
    Schema(Option<SchemaRecord>),
    Settings,
}

/// How much of a log there is, or is to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSize {
    /// Its records.
    pub records: u64,
    /// What they come to, in bytes.
    pub bytes: u64,
}

/// What a trimming did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// How many changes were removed.
    pub removed: usize,
}

impl Store {
    /// The changes of `vault` after `after`, oldest first, at most `limit`; fewer where they are large. None at all
    /// means that there are none yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::HistoryGone`] if some of them have been trimmed, [`StoreError::VaultNotFound`].
    pub async fn changes(
        &self,
        vault: VaultId,
        after: Revision,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError> {
        self.changes_of_size(vault, after, limit, MAX_ANSWER_BYTES).await
    }

    /// As [`Store::changes`], but no more once they come to `max_bytes`. The last that is read may go beyond: by what one
    /// read of 16 stored values can hold, or by one record that is larger still.
    ///
    /// # Errors
    ///
    /// As [`Store::changes`].
    pub async fn changes_of_size(
        &self,
        vault: VaultId,
        after: Revision,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.try_changes(vault, after, limit, max_bytes).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_changes(
        &self,
        vault: VaultId,
        after: Revision,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let transaction = self.engine().begin().await?;
        require_vault(&*transaction, vault, Isolation::Snapshot).await?;
        let records = read_records(&*transaction, vault, after, limit, max_bytes).await?;
        Ok(records.into_iter().map(Change::from).collect())
    }

    /// The newest state of `vault` with the changes after `after` that led to it, oldest first, at most `limit`: all of one state, for
    /// which storage is waited for once where it answers many questions at a time.
    ///
    /// # Errors
    ///
    /// As [`Store::changes`].
    pub async fn follow(
        &self,
        vault: VaultId,
        after: Revision,
        limit: usize,
    ) -> Result<(Head, Vec<Change>), StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.try_follow(vault, after, limit).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_follow(
        &self,
        vault: VaultId,
        after: Revision,
        limit: usize,
    ) -> Result<(Head, Vec<Change>), StoreError> {
        let transaction = self.engine().begin().await?;
        let records = read_records(&*transaction, vault, after, limit, MAX_ANSWER_BYTES);
        let (head, records) = try_join(require_head(&*transaction, vault), records).await?;
        Ok((head, records.into_iter().map(Change::from).collect()))
    }

    /// How much of `vault`'s log is kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::VaultNotFound`].
    pub async fn log_size(&self, vault: VaultId) -> Result<LogSize, StoreError> {
        let mut retry = Retry::default();
        loop {
            let size = async {
                let transaction = self.engine().begin().await?;
                require_vault(&*transaction, vault, Isolation::Snapshot).await?;
                read_log_size(&*transaction, vault).await
            };
            match size.await {
                Err(error) => retry.pause(error).await?,
                size => return size,
            }
        }
    }

    /// Removes the oldest changes of `vault` until no more are left than are to be kept, in several transactions, none of which reads
    /// what is kept. From the first of them on a reader that needs what is removed gets [`StoreError::HistoryGone`].
    ///
    /// # Errors
    ///
    /// [`StoreError::VaultNotFound`].
    pub async fn trim_changes(&self, vault: VaultId, keep: LogSize) -> Result<Trimmed, StoreError> {
        let mut removed = 0;
        let mut retry = Retry::default();
        loop {
            match self.trim_some(vault, keep).await {
                Ok(Some(some)) => {
                    removed += some;
                    retry = Retry::default();
                }
                Ok(None) => return Ok(Trimmed { removed }),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// Removes some of the oldest changes; how many, or `None` if there was nothing to remove.
    async fn trim_some(&self, vault: VaultId, keep: LogSize) -> Result<Option<usize>, StoreError> {
        let damaged = || StoreError::unreadable("change");
        let mut transaction = self.engine().begin().await?;
        require_vault(&*transaction, vault, Isolation::Serializable).await?;
        let size = read_log_size(&*transaction, vault).await?;
        let horizon_key = keys::horizon(vault);
        let held = transaction.get(&horizon_key, Isolation::Serializable).await?;
        let horizon = held.as_deref().and_then(Versionstamp::split_from);
        let mut horizon = horizon.map(|(stamp, _)| stamp);
        let range = keys::changes(vault, None);
        let is_over = |records, bytes| {
            size.records.saturating_sub(records) > keep.records
                || size.bytes.saturating_sub(bytes) > keep.bytes
        };
        let mut options = RangeOptions {
            limit: 1,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        if !is_over(0, 0) {
            // Then only what an import has left behind goes, if it has.
            let first = transaction.range(range.clone(), options).await?;
            let first = first.first().and_then(|(key, _)| keys::decode_change(vault, key));
            let first = first.map(|(stamp, _)| stamp);
            if first.is_none() || first > horizon {
                return Ok(None);
            }
        }
        options.limit = CHUNK;
        let (pairs, _) = transaction
            .range_of_size(range.clone(), options, TRIM_BYTES)
            .await?;
        let (mut records, mut bytes) = (0_u64, 0_u64);
        let mut last = None;
        for (key, value) in &pairs {
            let (stamp, piece) = keys::decode_change(vault, key).ok_or_else(damaged)?;
            // A record goes with its first piece, and the others follow it, here or in the next transaction.
            let is_gone = horizon.is_some_and(|horizon| stamp <= horizon);
            if !is_gone && !is_over(records, bytes) {
                break;
            }
            horizon = horizon.max(Some(stamp));
            records += u64::from(piece == 0);
            bytes += value.len() as u64;
            last = Some(key);
        }
        let (Some(last), Some(horizon)) = (last, horizon) else {
            return Ok(None);
        };
        // Set in any case: an attempt of unknown outcome that is committed late conflicts with the one in its stead, so that nothing
        // is taken from the counters twice.
        transaction.set(&horizon_key, &horizon.0);
        transaction.clear_range(range.start..key_after(last));
        for (key, removed) in keys::log_size(vault).iter().zip([records, bytes]) {
            // Stores that are older than the counters have counted no more than what came since.
            transaction.add(key, -i64::try_from(removed).unwrap_or(i64::MAX));
        }
        transaction.commit().await?;
        Ok(Some(usize::try_from(records).unwrap_or(usize::MAX)))
    }
}

impl LoggedChanges {
    /// # Errors
    ///
    /// [`StoreError::TooLarge`] once they are more than one transaction takes.
    pub(super) fn push(&mut self, changed: &Changed) -> Result<(), StoreError> {
        put_changed(&mut self.0, changed)?;
        if self.0.len() > MAX_TRANSACTION_BYTES {
            return Err(StoreError::TooLarge(format!(
                "what one commit stores and replaces comes to {MAX_TRANSACTION_BYTES} bytes at most"
            )));
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What they come to, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// How much of a log there is.
async fn read_log_size(transaction: &dyn Transaction, vault: VaultId) -> Result<LogSize, StoreError> {
    let [records, bytes] = keys::log_size(vault);
    let (records, bytes) = try_join(
        transaction.get(&records, Isolation::Snapshot),
        transaction.get(&bytes, Isolation::Snapshot),
    )
    .await?;
    let count = |value: Option<Bytes>| match value {
        None => Ok(0),
        Some(value) => {
            let bytes = value.as_ref().try_into();
            let count = i64::from_le_bytes(bytes.map_err(|_| StoreError::unreadable("counter"))?);
            Ok::<_, StoreError>(u64::try_from(count).unwrap_or(0))
        }
    };
    Ok(LogSize {
        records: count(records)?,
        bytes: count(bytes)?,
    })
}

/// Some records of `vault` after `after`, oldest first; none at all means that there are none.
pub(super) async fn read_records(
    transaction: &dyn Transaction,
    vault: VaultId,
    after: Revision,
    limit: usize,
    max_bytes: usize,
) -> Result<Vec<Record>, StoreError> {
    let damaged = || StoreError::unreadable("change");
    let horizon_key = keys::horizon(vault);
    let mut horizon = Some(transaction.get(&horizon_key, Isolation::Snapshot));
    let mut range = keys::changes(vault, Some(after.0));
    let mut records = Vec::new();
    let mut bytes = 0;
    let mut record: Option<(Versionstamp, Vec<u8>)> = None;
    let mut breath = Breath::default();
    while records.len() < limit && (bytes < max_bytes || records.is_empty()) {
        // No piece is larger than one value can be: a chunk of so many is not much more than may be read.
        let most = (max_bytes.saturating_sub(bytes) / PIECE_BYTES).clamp(MIN_CHUNK, CHUNK);
        let chunk = (limit - records.len()).clamp(1, most);
        let options = RangeOptions {
            limit: chunk,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        let read = transaction.range(range.clone(), options);
        let pairs = match horizon.take() {
            None => read.await?,
            // Asked for together with the first changes, which count only if none before them are gone.
            Some(horizon) => {
                let (horizon, pairs) = try_join(horizon, read).await?;
                if horizon.is_some_and(|horizon| after.0.0.as_slice() < &*horizon) {
                    return Err(StoreError::HistoryGone);
                }
                pairs
            }
        };
        let is_last = pairs.len() < chunk;
        for (key, value) in pairs {
            let (stamp, piece) = keys::decode_change(vault, &key).ok_or_else(damaged)?;
            range.start = key_after(&key);
            bytes += value.len();
            if piece == 0 {
                record = Some((stamp, Vec::new()));
            }
            let Some((_, held)) = record.as_mut().filter(|(begun, _)| *begun == stamp) else {
                return Err(damaged());
            };
            held.extend_from_slice(&value);
            if piece + 1 == pieces(held).ok_or_else(damaged)? {
                let decoded = decode(stamp, held, &mut breath).await;
                records.push(decoded.ok_or_else(damaged)?);
                record = None;
            }
        }
        if is_last {
            break;
        }
    }
    Ok(records)
}

/// Moves the vault's head and its horizon: what was before is no longer told as changes.
pub(super) fn start_history_anew(transaction: &mut dyn Transaction, vault: VaultId, at: Timestamp) {
    transaction.set_versionstamped_value(&keys::horizon(vault), &[]);
    transaction.set_versionstamped_value(&keys::head(vault), &at.0.to_be_bytes());
}

/// Moves the vault's head and appends a record to its log.
pub(super) fn append(
    transaction: &mut dyn Transaction,
    vault: VaultId,
    at: Timestamp,
    appended: Appended<'_>,
) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    let tag = match appended {
        Appended::Relationships(changes) => {
            bytes.extend_from_slice(&changes.0);
            RELATIONSHIPS
        }
        Appended::Schema(before) => {
            if let Some(before) = before {
                bytes.extend_from_slice(&before.revision.0.0);
                bytes.push(before.format);
                bytes.extend_from_slice(before.text.as_bytes());
            }
            SCHEMA
        }
        Appended::Settings => SETTINGS,
    };
    let too_many = || StoreError::TooLarge("a change record of more than 65,535 pieces".into());
    let pieces = u16::try_from((HEADER_BYTES + bytes.len()).div_ceil(PIECE_BYTES)).map_err(|_| too_many())?;
    let mut record = vec![FORMAT, tag];
    record.extend_from_slice(&at.0.to_be_bytes());
    record.extend_from_slice(&pieces.to_be_bytes());
    record.extend_from_slice(&bytes);
    for (key, added) in keys::log_size(vault).iter().zip([1, record.len()]) {
        transaction.add(key, i64::try_from(added).unwrap_or(i64::MAX));
    }
    let prefix = keys::change_prefix(vault);
    for (piece, bytes) in (0_u16..).zip(record.chunks(PIECE_BYTES)) {
        transaction.set_versionstamped_key(&prefix, &piece.to_be_bytes(), bytes);
    }
    transaction.set_versionstamped_value(&keys::head(vault), &at.0.to_be_bytes());
    Ok(())
}

/// Puts a change as the log keeps it.
fn put_changed(bytes: &mut Vec<u8>, changed: &Changed) -> Result<(), StoreError> {
    bytes.push(match changed.op {
        ChangeOp::Created => 1,
        ChangeOp::Updated => 2,
        ChangeOp::Deleted => 3,
    });
    let RelationshipKey {
        resource,
        relation,
        subject,
    } = &changed.key;
    put_text(bytes, resource.object_type.as_str());
    put_text(bytes, resource.id.as_str());
    put_text(bytes, relation.as_str());
    put_text(bytes, subject.object_type.as_str());
    put_text(bytes, subject.relation.as_ref().map_or("", Name::as_str));
    put_text(bytes, subject.id.as_str());
    for terms in [&changed.before, &changed.after] {
        let terms = match terms {
            Some(terms) => terms.encode()?,
            None => Vec::new(),
        };
        bytes.extend_from_slice(&(terms.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&terms);
    }
    Ok(())
}

/// How many pieces the record that starts with `bytes` has.
fn pieces(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(10..HEADER_BYTES)?.try_into().ok()?))
}

async fn decode(stamp: Versionstamp, bytes: &[u8], breath: &mut Breath) -> Option<Record> {
    let mut reader = Reader(bytes);
    let [format, tag] = reader.array()?;
    let at = Timestamp(i64::from_be_bytes(reader.array()?));
    let _pieces: [u8; 2] = reader.array()?;
    let kind = match (format, tag) {
        (FORMAT, RELATIONSHIPS) => {
            let mut changes = Vec::new();
            while !reader.is_empty() {
                let left = reader.0.len();
                changes.push(take_changed(&mut reader)?);
                breath.after(left - reader.0.len()).await;
            }
            RecordKind::Relationships(changes)
        }
        (FORMAT, SCHEMA) if reader.is_empty() => RecordKind::Schema(None),
        (FORMAT, SCHEMA) => RecordKind::Schema(Some(SchemaRecord {
            revision: Revision(Versionstamp(reader.array()?)),
            format: reader.array::<1>()?[0],
            text: String::from_utf8(reader.0.to_vec()).ok()?,
        })),
        (FORMAT, SETTINGS) => RecordKind::Settings,
        _ => return None,
    };
    Some(Record {
        revision: Revision(stamp),
        at,
        kind,
    })
}

fn take_changed(reader: &mut Reader<'_>) -> Option<Changed> {
    let op = match reader.array()? {
        [1] => ChangeOp::Created,
        [2] => ChangeOp::Updated,
        [3] => ChangeOp::Deleted,
        _ => return None,
    };
    let resource = ObjectRef {
        object_type: Name::parse(reader.text()?).ok()?,
        id: ObjectId::parse(reader.text()?).ok()?,
    };
    let relation = Name::parse(reader.text()?).ok()?;
    let object_type = Name::parse(reader.text()?).ok()?;
    let userset = match reader.text()? {
        "" => None,
        name => Some(Name::parse(name).ok()?),
    };
    let id = match reader.text()? {
        "*" => ObjectId::wildcard(),
        id => ObjectId::parse(id).ok()?,
    };
    let subject = SubjectRef {
        object_type,
        id,
        relation: userset,
    };
    let key = RelationshipKey {
        resource,
        relation,
        subject,
    };
    Some(Changed {
        op,
        key,
        before: take_terms(reader)?,
        after: take_terms(reader)?,
    })
}

/// Terms, or nothing; `None` if they cannot be read.
fn take_terms(reader: &mut Reader<'_>) -> Option<Option<StoredTerms>> {
    match reader.bytes()? {
        [] => Some(None),
        bytes => StoredTerms::decode(bytes).map(Some),
    }
}

impl From<Record> for Change {
    fn from(record: Record) -> Self {
        let kind = match record.kind {
            RecordKind::Relationships(changes) => {
                let told = |changed: Changed| {
                    let terms = changed.after.unwrap_or_default();
                    (changed.op, whole((changed.key, terms)))
                };
                ChangeKind::Relationships(changes.into_iter().map(told).collect())
            }
            RecordKind::Schema(_) => ChangeKind::Schema,
            RecordKind::Settings => ChangeKind::Settings,
        };
        Self {
            revision: record.revision,
            at: record.at,
            kind,
        }
    }
}
