//! Reads of one vault at one revision.

use bytes::Bytes;
use futures_util::future::{BoxFuture, try_join};
use inferadb_engine::noun::{CaveatRef, Name, ObjectId, Relationship, RelationshipKey, Timestamp};

use super::filter::{SCAN_BYTES, Scan, stored_bytes, whole};
use super::retry::Retry;
use super::schema::read_schema;
use super::shape::stored_shapes;
use super::vaults::require_vault;
use super::{Page, RelationshipFilter, Shape, Store, StoreError, SubjectClass, VaultRecord};
use crate::codec::StoredTerms;
use crate::id::{Revision, VaultId};
use crate::keys::{self, Order};
use crate::kv::{Isolation, KvError, RangeOptions, Transaction, Versionstamp, key_after, prefix_range};

/// What the caveats of one row may come to in bytes where they are stored: in memory it is several times as much.
pub const MAX_ROW_BYTES: usize = 16 << 20;
/// About the most bytes that are read in one go.
const CHUNK_BYTES: usize = 1 << 20;

/// The newest state of a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its revision.
    pub revision: Revision,
    /// When the commit that led to it was asked for, by the clock of the server that did it.
    pub changed_at: Timestamp,
}

/// A vault's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaRecord {
    /// Its text, as it was given.
    pub text: String,
    /// The revision at which it was stored.
    pub revision: Revision,
    /// Which language it is in; the layers above give the number its meaning.
    pub format: u8,
}

/// One subject in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEntry {
    /// The subject's id.
    pub subject: ObjectId,
    /// The caveat it stands under.
    pub caveat: Option<CaveatRef>,
    /// The moment from which on it no longer counts. It may have passed.
    pub expires_at: Option<Timestamp>,
}

/// How much of a row is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowLimit {
    /// The most entries.
    pub entries: usize,
    /// No more are read once what they stand under (caveats with their contexts) comes to so many bytes where it is stored.
    pub max_bytes: usize,
}

/// The subjects of one class that stand in one relation to one object.
#[derive(Debug, Clone, PartialEq)]
pub struct RowRead {
    /// Sorted by subject id; expired ones too.
    pub entries: Vec<StoredEntry>,
    /// Whether these are all.
    pub complete: bool,
}

/// One state of one vault. On FoundationDB it can be read for five seconds, then [`StoreError::SnapshotTooOld`].
pub struct Snapshot {
    transaction: Box<dyn Transaction>,
    vault: VaultRecord,
    head: Head,
}

impl Store {
    /// The newest state of `vault`, if it exists.
    pub async fn head(&self, vault: VaultId) -> Result<Option<Head>, StoreError> {
        let transaction = self.engine().begin().await?;
        match transaction.get(&keys::head(vault), Isolation::Snapshot).await? {
            Some(value) => decode_head(&value).map(Some),
            None => Ok(None),
        }
    }

    /// A future that ends once the head of `vault` may have moved after this call: watch, then read the head, then wait.
    pub async fn watch_head(
        &self,
        vault: VaultId,
    ) -> Result<BoxFuture<'static, Result<(), StoreError>>, StoreError> {
        let watch = self.engine().watch(&keys::head(vault)).await?;
        Ok(Box::pin(async move { watch.await.map_err(KvError::into) }))
    }

    /// The newest state of `vault`, to read from.
    ///
    /// # Errors
    ///
    /// [`StoreError::VaultNotFound`].
    pub async fn snapshot(&self, vault: VaultId) -> Result<Snapshot, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.try_snapshot(vault).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_snapshot(&self, vault: VaultId) -> Result<Snapshot, StoreError> {
        let transaction = self.engine().begin().await?;
        let record = require_vault(&*transaction, vault, Isolation::Snapshot);
        let (record, head) = try_join(record, require_head(&*transaction, vault)).await?;
        Ok(Snapshot {
            transaction,
            vault: record,
            head,
        })
    }
}

impl Snapshot {
    /// The state's revision.
    pub fn revision(&self) -> Revision {
        self.head.revision
    }

    /// The vault's record.
    pub fn vault(&self) -> &VaultRecord {
        &self.vault
    }

    pub(super) fn transaction(&self) -> &dyn Transaction {
        &*self.transaction
    }

    /// The vault's schema, if it has one.
    pub async fn schema(&self) -> Result<Option<SchemaRecord>, StoreError> {
        read_schema(&*self.transaction, self.vault.id, Isolation::Snapshot).await
    }

    /// The subjects of one class that stand in `relation` to one object, at most `limit`.
    pub async fn row(
        &self,
        resource_type: &Name,
        resource_id: &ObjectId,
        relation: &Name,
        subject_type: &Name,
        subject_class: &SubjectClass,
        limit: usize,
    ) -> Result<RowRead, StoreError> {
        let max_bytes = MAX_ROW_BYTES;
        self.row_of_size(
            resource_type,
            resource_id,
            relation,
            subject_type,
            subject_class,
            RowLimit {
                entries: limit,
                max_bytes,
            },
        )
        .await
    }

    /// As [`Snapshot::row`], of at most so many entries and bytes.
    pub async fn row_of_size(
        &self,
        resource_type: &Name,
        resource_id: &ObjectId,
        relation: &Name,
        subject_type: &Name,
        subject_class: &SubjectClass,
        limit: RowLimit,
    ) -> Result<RowRead, StoreError> {
        let subject_relation = match subject_class {
            SubjectClass::Userset(relation) => relation.as_str(),
            SubjectClass::Object | SubjectClass::Wildcard => "",
        };
        let segments = [
            resource_type.as_str(),
            resource_id.as_str(),
            relation.as_str(),
            subject_type.as_str(),
            subject_relation,
        ];
        let row = keys::with_segments(keys::relationships(self.vault.space(), Order::Forward), &segments);
        if *subject_class == SubjectClass::Wildcard {
            let key = keys::with_segments(row, &[ObjectId::wildcard().as_str()]);
            let value = self.transaction.get(&key, Isolation::Snapshot).await?;
            let entries = value.map(|value| entry(&key, &value)).transpose()?;
            return Ok(RowRead {
                entries: entries.into_iter().collect(),
                complete: true,
            });
        }
        // The wildcard lies among the plain objects and is not one of them: room for it and for one too many.
        let mut left = limit.entries.saturating_add(2);
        let mut range = prefix_range(&row);
        let (mut entries, mut bytes) = (Vec::new(), 0_usize);
        let mut may_follow = true;
        while may_follow && left > 0 && bytes <= limit.max_bytes {
            let options = RangeOptions {
                limit: left,
                reverse: false,
                isolation: Isolation::Snapshot,
            };
            let at_once = CHUNK_BYTES.min(limit.max_bytes);
            let read = self.transaction.range_of_size(range.clone(), options, at_once);
            let (pairs, more) = read.await?;
            may_follow = more;
            left -= pairs.len().min(left);
            if let Some((last, _)) = pairs.last() {
                range.start = key_after(last);
            }
            for (key, value) in &pairs {
                bytes = bytes.saturating_add(value.len());
                let entry = entry(key, value)?;
                if !entry.subject.is_wildcard() {
                    entries.push(entry);
                }
            }
            if may_follow {
                // Where storage answers at once nothing else lets others have their turn.
                tokio::task::yield_now().await;
            }
        }
        let is_cut = may_follow && bytes > limit.max_bytes;
        let complete = !is_cut && entries.len() <= limit.entries;
        entries.truncate(limit.entries);
        Ok(RowRead { entries, complete })
    }

    /// The terms of one relationship, if it is stored.
    pub async fn entry(&self, key: &RelationshipKey) -> Result<Option<StoredEntry>, StoreError> {
        let key = keys::relationship(self.vault.space(), Order::Forward, key);
        let value = self.transaction.get(&key, Isolation::Snapshot).await?;
        value.map(|value| entry(&key, &value)).transpose()
    }

    /// The relationships that match `filter` and have not expired at `now`, at most `limit` (at least one), after an earlier page's
    /// position. A page can be shorter, or empty, although more follows: one call reads a bounded number.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadPosition`] for a position of another filter.
    pub async fn relationships(
        &self,
        filter: &RelationshipFilter,
        after: Option<&[u8]>,
        limit: usize,
        now: Timestamp,
    ) -> Result<Page<Relationship>, StoreError> {
        self.relationships_of_size(filter, after, limit, SCAN_BYTES, now)
            .await
    }

    /// As [`Snapshot::relationships`], but no more once they come to `max_bytes` where they are stored, unless it is one.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::relationships`].
    pub async fn relationships_of_size(
        &self,
        filter: &RelationshipFilter,
        after: Option<&[u8]>,
        limit: usize,
        max_bytes: usize,
        now: Timestamp,
    ) -> Result<Page<Relationship>, StoreError> {
        self.scan(filter, after, (limit, max_bytes), Some(now)).await
    }

    /// All relationships, expired ones too, in the order of their resources; for loading a whole vault.
    pub async fn scan_all(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<Relationship>, StoreError> {
        self.scan(&RelationshipFilter::default(), after, (limit, SCAN_BYTES), None)
            .await
    }

    /// Which kinds of relationships are stored, and how many of each.
    pub async fn shapes(&self) -> Result<Vec<Shape>, StoreError> {
        stored_shapes(&*self.transaction, self.vault.space()).await
    }

    async fn scan(
        &self,
        filter: &RelationshipFilter,
        after: Option<&[u8]>,
        (limit, max_bytes): (usize, usize),
        live_at: Option<Timestamp>,
    ) -> Result<Page<Relationship>, StoreError> {
        let isolation = Isolation::Snapshot;
        let scan = Scan {
            space: self.vault.space(),
            filter,
            after,
            limit,
            max_bytes,
            weigh: stored_bytes,
            isolation,
            live_at,
        };
        let scanned = scan.run(&*self.transaction).await?;
        Ok(Page {
            items: scanned.found.into_iter().map(whole).collect(),
            next: scanned.next,
        })
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("vault", &self.vault.id)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// The head of a vault that exists.
pub(super) async fn require_head(transaction: &dyn Transaction, vault: VaultId) -> Result<Head, StoreError> {
    match transaction.get(&keys::head(vault), Isolation::Snapshot).await? {
        Some(value) => decode_head(&value),
        None => Err(StoreError::VaultNotFound),
    }
}

fn decode_head(value: &Bytes) -> Result<Head, StoreError> {
    let damaged = || StoreError::unreadable("head");
    let (stamp, at) = Versionstamp::split_from(value).ok_or_else(damaged)?;
    let at = i64::from_be_bytes(at.try_into().map_err(|_| damaged())?);
    Ok(Head {
        revision: Revision(stamp),
        changed_at: Timestamp(at),
    })
}

fn entry(key: &[u8], value: &[u8]) -> Result<StoredEntry, StoreError> {
    let subject = keys::decode_last_id(key).ok_or_else(|| StoreError::unreadable("relationship's key"))?;
    let terms = StoredTerms::decode(value).ok_or_else(|| StoreError::unreadable("relationship's terms"))?;
    Ok(StoredEntry {
        subject,
        caveat: terms.caveat,
        expires_at: terms.expires_at,
    })
}
