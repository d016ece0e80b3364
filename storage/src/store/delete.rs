//! Deletion by filter, in transactions of bounded size.

use futures_util::future::{BoxFuture, ready, try_join_all};
use inferadb_engine::noun::Timestamp;

use super::change::{Appended, ChangeOp, Changed, LoggedChanges, append};
use super::filter::{Scan, removal_bytes};
use super::retry::{Marker, Retry};
use super::shape::ShapeDeltas;
use super::snapshot::require_head;
use super::vaults::require_vault;
use super::write::{check_preconditions, decode_answer, encode_answer, read_terms, remove};
use super::{Precondition, RelationshipFilter, Store, StoreError, VALUES_AT_ONCE};
use crate::background;
use crate::id::{Revision, VaultId};
use crate::keys::Keyspace;
use crate::kv::Isolation;

/// The most relationships deleted in one transaction.
const CHUNK: usize = 1_000;
/// About the most bytes that they add to it.
const CHUNK_BYTES: usize = 1 << 20;

/// What a deletion did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many relationships that had not expired are gone.
    pub deleted: usize,
    /// Whether all that matched is gone.
    pub complete: bool,
    /// The state after it.
    pub revision: Revision,
}

/// What one transaction of a deletion did.
struct Chunk {
    /// How many are gone, and how many of them had not expired.
    removed: usize,
    live: usize,
    revision: Revision,
    next: Option<Vec<u8>>,
}

impl Store {
    /// Deletes what matches `filter`, at most `limit` relationships (at least one). Up to 1,000, of about 1 MB, go in one atomic transaction; more
    /// take several, of which the preconditions guard the first.
    ///
    /// # Errors
    ///
    /// [`StoreError::PreconditionFailed`], [`StoreError::VaultNotFound`], [`StoreError::FilterTooBroad`];
    /// [`StoreError::Replaced`] if an import replaced the vault between two of the transactions. If it fails
    /// after the first transaction, some are gone already; another call goes on.
    pub async fn delete_matching(
        &self,
        vault: VaultId,
        filter: &RelationshipFilter,
        limit: Option<usize>,
        preconditions: &[Precondition],
        now: Timestamp,
    ) -> Result<Deleted, StoreError> {
        let at_once = |_| -> BoxFuture<'_, ()> { Box::pin(ready(())) };
        self.delete_matching_in_steps(vault, filter, limit, preconditions, now, &at_once)
            .await
    }

    /// As [`Store::delete_matching`], with a pause after each transaction: `pause` is told how many relationships it deleted, and what it answers is waited for
    /// before the next.
    ///
    /// # Errors
    ///
    /// As [`Store::delete_matching`].
    pub async fn delete_matching_in_steps<'p>(
        &self,
        vault: VaultId,
        filter: &RelationshipFilter,
        limit: Option<usize>,
        preconditions: &[Precondition],
        now: Timestamp,
        pause: &(dyn Fn(usize) -> BoxFuture<'p, ()> + Send + Sync),
    ) -> Result<Deleted, StoreError> {
        let mut left = limit.unwrap_or(usize::MAX).max(1);
        let mut deleted = 0;
        let mut position: Option<Vec<u8>> = None;
        let mut preconditions = preconditions;
        let mut begun = None;
        let mut seen = None;
        loop {
            let marker = self.markers().take();
            let mut retry = Retry::default();
            let chunk = loop {
                let after = position.as_deref();
                match self
                    .try_delete(
                        vault,
                        filter,
                        after,
                        left.min(CHUNK),
                        preconditions,
                        now,
                        &marker,
                        (begun, &mut seen),
                    )
                    .await
                {
                    Err(error) => retry.pause(error).await?,
                    Ok(chunk) => break chunk,
                }
            };
            begun = seen;
            deleted += chunk.live;
            left -= chunk.removed.min(left);
            preconditions = &[];
            let paused = pause(chunk.removed);
            if chunk.next.is_none() || left == 0 {
                return Ok(Deleted {
                    deleted,
                    complete: chunk.next.is_none(),
                    revision: chunk.revision,
                });
            }
            position = chunk.next;
            paused.await;
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one attempt of one call, which has these"
    )]
    async fn try_delete(
        &self,
        vault: VaultId,
        filter: &RelationshipFilter,
        after: Option<&[u8]>,
        limit: usize,
        preconditions: &[Precondition],
        now: Timestamp,
        marker: &Marker<'_>,
        (begun, seen): (Option<Keyspace>, &mut Option<Keyspace>),
    ) -> Result<Chunk, StoreError> {
        let mut transaction = self.engine().begin().await?;
        if let Some((revision, answer)) = marker.outcome(&*transaction).await? {
            let counts = decode_answer(revision, &answer)?;
            // Where it stopped is not kept: the next transaction looks from the same place on and finds what is left.
            let next = if counts.created == 0 {
                None
            } else {
                after.map(<[u8]>::to_vec).or(Some(Vec::new()))
            };
            return Ok(Chunk {
                removed: counts.updated,
                live: counts.deleted,
                revision,
                next,
            });
        }
        let record = require_vault(&*transaction, vault, Isolation::Serializable).await?;
        self.admit_writer(&mut *transaction, &record)?;
        let space = record.space();
        // What an import has put in the place of all that was there is not what was to go.
        if begun.is_some_and(|begun| begun != space) {
            return Err(StoreError::Replaced);
        }
        *seen = Some(space);
        check_preconditions(&*transaction, space, preconditions, now).await?;
        let after = after.filter(|after| !after.is_empty());
        // What comes up meanwhile may be taken as written after this; what is found is read again below, so that only
        // a change to it conflicts.
        let isolation = Isolation::Snapshot;
        let scan = Scan {
            space,
            filter,
            after,
            limit,
            max_bytes: CHUNK_BYTES,
            weigh: removal_bytes,
            isolation,
            live_at: None,
        };
        let scanned = scan.run(&*transaction).await?;
        if scanned.found.is_empty() {
            let revision = require_head(&*transaction, vault).await?.revision;
            return Ok(Chunk {
                removed: 0,
                live: 0,
                revision,
                next: scanned.next,
            });
        }
        for some in scanned.found.chunks(VALUES_AT_ONCE) {
            let reads = some.iter().map(|(key, _)| read_terms(&*transaction, space, key));
            try_join_all(reads).await?;
        }
        let removed = scanned.found.len();
        let live = scanned
            .found
            .iter()
            .filter(|(_, terms)| !terms.is_expired(now))
            .count();
        let mut shapes = ShapeDeltas::default();
        let mut changes = LoggedChanges::default();
        for (key, terms) in scanned.found {
            background::breathe();
            remove(&mut *transaction, space, &key);
            shapes.removed(&key, &terms);
            changes.push(&Changed {
                op: ChangeOp::Deleted,
                key,
                before: Some(terms),
                after: None,
            })?;
        }
        shapes.apply(&mut *transaction, space).await?;
        append(&mut *transaction, vault, now, Appended::Relationships(&changes))?;
        let more = usize::from(scanned.next.is_some());
        marker.set(&mut *transaction, &encode_answer([more, removed, live]));
        let revision = Revision(transaction.commit().await?);
        Ok(Chunk {
            removed,
            live,
            revision,
            next: scanned.next,
        })
    }
}
