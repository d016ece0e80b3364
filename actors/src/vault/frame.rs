//! Frames: what one check, or one batch, reads. A view, and storage at the very revision of the view.

use std::sync::Arc;

use inferadb_engine::evaluate::EvaluationError;
use inferadb_engine::noun::{ObjectId, ObjectRef, RelationshipKey, SubjectRef};
use inferadb_engine::row::{Entry, Row, RowKey};
use inferadb_storage::{Revision, RowLimit, Snapshot, StoreError, StoredEntry, SubjectClass};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

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
    /// The place among those of its vault that may hold wide rows, once it needs one.
    wide: Arc<OnceCell<OwnedSemaphorePermit>>,
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
            wide: Arc::default(),
        }
    }

    /// The same state for another evaluation, which holds nothing of what this one does.
    pub(super) fn anew(&self) -> Self {
        Self {
            view: Arc::clone(&self.view),
            storage: self.storage.clone(),
            detached: self.detached,
            wide: Arc::default(),
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
            let (schema, nanos) = load::compile_timed(record).await?;
            vault.charge(nanos);
            Arc::new(schema)
        };
        // The count is only told, never read by an evaluation; that it is not 0 makes every row unknown.
        let view = View::new(snapshot.revision(), schema, u64::MAX);
        Ok(Self {
            view: Arc::new(view),
            storage: OnceCell::new_with(Some(Arc::new(snapshot))),
            detached: true,
            wide: Arc::default(),
        })
    }

    /// The same state under another schema: all rows come from storage.
    pub(super) async fn under(&self, vault: &Vault, schema: Arc<VaultSchema>) -> Result<Self, Interrupted> {
        self.snapshot(vault).await?;
        Ok(Self {
            view: Arc::new(View::new(self.view.revision, schema, u64::MAX)),
            storage: self.storage.clone(),
            detached: true,
            // One request: it would wait for itself.
            wide: Arc::clone(&self.wide),
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

    /// Waits for a place among those of the vault that hold wide rows, unless it has one. It is kept as long as the frame is.
    pub(super) async fn hold_wide(&self, vault: &Vault) -> Result<(), VaultError> {
        let acquire = || async {
            let place = Arc::clone(&vault.wide).acquire_owned().await;
            // The semaphore is never closed.
            place.map_err(|_| VaultError::ActorFailed)
        };
        self.wide.get_or_try_init(acquire).await.map(drop)
    }

    /// How whole rows are read side by side for one request.
    pub(super) fn wide_reads<'f>(&'f self, vault: &'f Vault) -> WideReads<'f> {
        let max_work = vault.limits.load().max_work;
        WideReads {
            frame: self,
            vault,
            limit: RowLimit {
                entries: usize::try_from(max_work).unwrap_or(usize::MAX),
                max_bytes: vault.max_row_bytes(),
            },
            one_by_one: Semaphore::new(WIDE_READS),
        }
    }
}

/// The reads of whole rows for one request.
pub(super) struct WideReads<'f> {
    frame: &'f Frame,
    vault: &'f Vault,
    limit: RowLimit,
    one_by_one: Semaphore,
}

/// How many evaluations of one vault may hold wide rows at once: what each holds is bounded.
pub(super) const HOLD_WIDE: usize = 2;

/// What narrow rows are: many of them are read side by side.
const NARROW: RowLimit = RowLimit {
    entries: 256,
    max_bytes: 64 << 10,
};
/// How many wide rows are read at once for one request.
const WIDE_READS: usize = 1;

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

impl Vault {
    /// The error of an evaluation that would have to read more than one may.
    pub(super) fn too_much_to_read(&self) -> VaultError {
        VaultError::from(EvaluationError::LimitExceeded {
            limit: "max_work",
            value: self.limits.load().max_work,
        })
    }
}

/// A whole row; `None` where it has more entries than an evaluation may visit, or more bytes than one row may.
pub(super) async fn read_whole(
    snapshot: &Snapshot,
    schema: &VaultSchema,
    key: &RowKey,
    wide: &WideReads<'_>,
) -> Result<Option<Arc<Row>>, VaultError> {
    let narrow = RowLimit {
        entries: NARROW.entries.min(wide.limit.entries),
        ..NARROW
    };
    let (row, whole) = read_part(snapshot, schema, key, narrow).await?;
    if whole {
        return Ok(Some(row));
    }
    // The semaphore is never closed.
    let _place = wide
        .one_by_one
        .acquire()
        .await
        .map_err(|_| VaultError::ActorFailed)?;
    wide.frame.hold_wide(wide.vault).await?;
    let (row, whole) = read_part(snapshot, schema, key, wide.limit).await?;
    Ok(whole.then_some(row))
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

#[cfg(test)]
mod tests {
    use inferadb_storage::Backend;

    use super::*;
    use crate::platform::Platform;
    use crate::settings::Settings;

    #[actix::test]
    async fn as_many_requests_of_a_vault_hold_wide_rows_as_may() {
        let metrics = prometheus::Registry::new();
        let platform = Platform::start(Backend::Memory, Settings::default(), &metrics).await;
        let platform = platform.unwrap();
        let account = platform.create_account("wide").await.unwrap().id;
        let id = platform.create_vault(account, "wide").await.unwrap().id;
        let (vault, _pass) = platform.enter(id, account).await.unwrap();
        let mut holding: Vec<Frame> = (0..HOLD_WIDE).map(|_| Frame::of(vault.view())).collect();
        for frame in &holding {
            frame.hold_wide(&vault).await.unwrap();
            frame.hold_wide(&vault).await.unwrap();
        }
        let schema = Arc::clone(&vault.view().schema);
        let Ok(of_the_same) = holding[0].under(&vault, schema).await else {
            panic!("the vault moved on");
        };
        of_the_same.hold_wide(&vault).await.unwrap();
        let another = holding[1].anew();
        let mut waiting = std::pin::pin!(another.hold_wide(&vault));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(holding.pop());
        waiting.await.unwrap();
    }
}
