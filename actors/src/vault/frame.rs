//! Frames: what one check, or one batch, reads. A view, and storage at the very revision of the view.

use std::sync::Arc;

use inferadb_engine::noun::{ObjectId, ObjectRef, RelationshipKey, SubjectRef};
use inferadb_engine::row::{Entry, Row, RowKey};
use inferadb_storage::{Revision, Snapshot, StoreError, StoredEntry, SubjectClass};
use tokio::sync::{Mutex, OnceCell};

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

/// With so many entries an evaluation or search has enough for a step: it goes on with them, and demands what is left again. So what it
/// holds beyond what it was charged for is bounded.
pub(super) const ENOUGH_ENTRIES: usize = 100_000;
/// Rows of more entries are read one at a time, so that what many reads side by side hold stays small.
const NARROW_ROW: usize = 256;

/// Reads whole rows side by side, but no two wide ones.
#[derive(Debug, Default)]
pub(super) struct WholeRows {
    wide: Mutex<()>,
}

impl WholeRows {
    /// A row, or `None` where it has more than `most` entries.
    pub(super) async fn read(
        &self,
        snapshot: &Snapshot,
        schema: &VaultSchema,
        key: &RowKey,
        most: usize,
    ) -> Result<Option<Arc<Row>>, VaultError> {
        let (row, is_whole) = read_part(snapshot, schema, key, most.min(NARROW_ROW)).await?;
        if is_whole || most <= NARROW_ROW {
            return Ok(is_whole.then_some(row));
        }
        drop(row);
        let _alone = self.wide.lock().await;
        read_row(snapshot, schema, key, most).await
    }
}

/// A row, or `None` where it has more than `most` entries.
pub(super) async fn read_row(
    snapshot: &Snapshot,
    schema: &VaultSchema,
    key: &RowKey,
    most: usize,
) -> Result<Option<Arc<Row>>, VaultError> {
    let (row, whole) = read_part(snapshot, schema, key, most).await?;
    Ok(whole.then_some(row))
}

/// The first entries of a row, at most `most`, and whether they are all.
pub(super) async fn read_part(
    snapshot: &Snapshot,
    schema: &VaultSchema,
    key: &RowKey,
    most: usize,
) -> Result<(Arc<Row>, bool), VaultError> {
    let Some(names) = schema.slot_names(key.slot) else {
        return Ok((Arc::default(), true));
    };
    let (resource_type, relation) = (names.resource_type, names.relation);
    let read = snapshot.row(
        resource_type,
        &key.object,
        relation,
        names.subject_type,
        &names.subject_class,
        most,
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
