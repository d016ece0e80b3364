//! Frames: what one check, or one batch, reads. A view, and storage at the very revision of the view.

use std::sync::Arc;

use inferadb_engine::evaluate::EvaluationError;
use inferadb_engine::noun::{ObjectId, ObjectRef, RelationshipKey, SubjectRef};
use inferadb_engine::row::{Entry, Row, RowKey};
use inferadb_storage::{MAX_ROW_BYTES, Revision, RowLimit, Snapshot, StoreError, StoredEntry, SubjectClass};
use tokio::sync::{OnceCell, Semaphore};

use super::{Vault, load};
use crate::error::VaultError;
use crate::view::{VaultSchema, View};

/// What a check reads: a view, and storage at the view's revision for what the view lacks.
pub(super) struct Frame {
    /// The view.
    pub(super) view: Arc<View>,
    storage: OnceCell<Arc<Snapshot>>,
    /// Whether the view is of this frame alone (an empty one over a storage snapshot).
    pub(super) detached: bool,
}

/// Why an evaluation on a frame ended without a verdict.
pub(super) enum Interrupted {
    /// The vault is at this revision by now: what the view lacks can no longer be read at the view's.
    Moved(Revision),
    /// There is an error to answer.
    Failed(VaultError),
}

impl Interrupted {
    /// What it means that `frame` could not be read. Storage keeps a state only so long: what was read of it is no use
    /// any more, but a later one will do.
    pub(super) fn reading(frame: &Frame, error: VaultError) -> Self {
        match error {
            VaultError::Storage(StoreError::SnapshotTooOld) => Self::Moved(frame.view.revision),
            error => Self::Failed(error),
        }
    }
}

impl<E: Into<VaultError>> From<E> for Interrupted {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Frame {
    pub(super) fn of(view: Arc<View>) -> Self {
        Self {
            view,
            storage: OnceCell::new(),
            detached: false,
        }
    }

    /// A frame that reads nothing but one storage snapshot.
    pub(super) async fn detached(vault: &Vault) -> Result<Self, VaultError> {
        let snapshot = vault
            .store
            .snapshot(vault.id)
            .await
            .map_err(VaultError::from_store)?;
        let record = snapshot.schema().await.map_err(VaultError::from_store)?;
        let current = Arc::clone(&vault.view.load().schema);
        let schema = if record.as_ref().map(|record| record.revision) == current.revision {
            current
        } else {
            Arc::new(load::compile_apart(record).await?)
        };
        // The count is only told, never read by an evaluation; that it is not 0 makes every row unknown.
        let view = View::new(snapshot.revision(), schema, u64::MAX);
        Ok(Self {
            view: Arc::new(view),
            storage: OnceCell::new_with(Some(Arc::new(snapshot))),
            detached: true,
        })
    }

    /// The same state under another schema: all rows come from storage.
    pub(super) async fn under(&self, vault: &Vault, schema: Arc<VaultSchema>) -> Result<Self, Interrupted> {
        self.snapshot(vault).await?;
        Ok(Self {
            view: Arc::new(View::new(self.view.revision, schema, u64::MAX)),
            storage: self.storage.clone(),
            detached: true,
        })
    }

    /// Storage at the view's revision.
    pub(super) async fn snapshot(&self, vault: &Vault) -> Result<&Snapshot, Interrupted> {
        let open = || async {
            vault
                .store
                .snapshot(vault.id)
                .await
                .map(Arc::new)
                .map_err(VaultError::from_store)
        };
        let snapshot = self.storage.get_or_try_init(open).await?;
        if snapshot.revision() == self.view.revision {
            Ok(snapshot)
        } else {
            Err(Interrupted::Moved(snapshot.revision()))
        }
    }
}

/// What narrow rows are: many of them are read side by side.
const NARROW: RowLimit = RowLimit {
    entries: 256,
    max_bytes: 64 << 10,
};
/// How many wide rows are read at once for one request.
pub(super) const WIDE_READS: usize = 1;

/// A row for one probe, or `None` where it has more than `most` entries, or they are large.
pub(super) async fn read_narrow(
    snapshot: &Snapshot,
    schema: &VaultSchema,
    key: &RowKey,
    most: usize,
) -> Result<Option<Arc<Row>>, VaultError> {
    let limit = RowLimit {
        entries: most,
        ..NARROW
    };
    let (row, whole) = read_part(snapshot, schema, key, limit).await?;
    Ok(whole.then_some(row))
}

/// A whole row; an error where it has more than `most` entries, or more bytes than one row may. All read side by side for one
/// request share the places for `wide` ones.
pub(super) async fn read_whole(
    snapshot: &Snapshot,
    schema: &VaultSchema,
    key: &RowKey,
    most: u64,
    wide: &Semaphore,
) -> Result<Arc<Row>, VaultError> {
    let limit = RowLimit {
        entries: usize::try_from(most).unwrap_or(usize::MAX),
        max_bytes: MAX_ROW_BYTES,
    };
    let narrow = RowLimit {
        entries: NARROW.entries.min(limit.entries),
        ..NARROW
    };
    let (row, whole) = read_part(snapshot, schema, key, narrow).await?;
    if whole {
        return Ok(row);
    }
    // The semaphore is never closed.
    let _place = wide.acquire().await.map_err(|_| VaultError::ActorFailed)?;
    match read_part(snapshot, schema, key, limit).await? {
        (row, true) => Ok(row),
        (_, false) => Err(EvaluationError::LimitExceeded {
            limit: "max_work",
            value: most,
        }
        .into()),
    }
}

/// The first entries of a row, within the limit, and whether they are all.
pub(super) async fn read_part(
    snapshot: &Snapshot,
    schema: &VaultSchema,
    key: &RowKey,
    limit: RowLimit,
) -> Result<(Arc<Row>, bool), VaultError> {
    let Some(names) = schema.slot_names(key.slot) else {
        return Ok((Arc::default(), true));
    };
    let (resource_type, relation) = (names.resource_type, names.relation);
    let read = snapshot.row_of_size(
        resource_type,
        &key.object,
        relation,
        names.subject_type,
        &names.subject_class,
        limit,
    );
    let read = read.await.map_err(VaultError::from_store)?;
    let entry = |stored: StoredEntry| {
        schema.entry_in(
            key.slot,
            stored.subject,
            stored.caveat.as_ref(),
            stored.expires_at,
        )
    };
    let entries = read.entries.into_iter().filter_map(entry).collect();
    Ok((Arc::new(Row::new(entries)), read.complete))
}

/// One entry of a row.
pub(super) async fn read_entry(
    snapshot: &Snapshot,
    schema: &VaultSchema,
    key: &RowKey,
    subject: &ObjectId,
) -> Result<Option<Entry>, VaultError> {
    let Some(names) = schema.slot_names(key.slot) else {
        return Ok(None);
    };
    let relation = match names.subject_class {
        SubjectClass::Userset(relation) => Some(relation),
        SubjectClass::Object | SubjectClass::Wildcard => None,
    };
    let relationship = RelationshipKey {
        resource: ObjectRef {
            object_type: names.resource_type.clone(),
            id: key.object.clone(),
        },
        relation: names.relation.clone(),
        subject: SubjectRef {
            object_type: names.subject_type.clone(),
            id: subject.clone(),
            relation,
        },
    };
    let stored = snapshot
        .entry(&relationship)
        .await
        .map_err(VaultError::from_store)?;
    Ok(stored.and_then(|stored| {
        schema.entry_in(
            key.slot,
            stored.subject,
            stored.caveat.as_ref(),
            stored.expires_at,
        )
    }))
}
