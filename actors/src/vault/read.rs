//! Reading relationships as they are stored, by a filter, in turns.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use inferadb_engine::noun::{Name, ObjectId, Relationship, Timestamp};
use inferadb_storage::token::{Cursor, fingerprint};
use inferadb_storage::{RelationshipFilter, Revision, Snapshot, StoreError, SubjectRelation, VaultRecord};

use super::{Consistency, Until, Vault};
use crate::error::VaultError;
use crate::turn::{PIECE, Turn};

/// How long one state is read from. Storage that keeps it all the while grows with what is written meanwhile, so a reader
/// that takes its time goes on with a later state.
const STATE_HELD: Duration = Duration::from_secs(60);
/// About what is read in one go, in bytes: it is held while a slow reader takes it.
const PIECE_BYTES: usize = 128 << 10;
/// How many relationships are read in one go: about a turn's work.
const PIECE_LENGTH: usize = 250;
/// In how many pieces a page is read: it is shorter than its limit if these were not enough.
const MOST_PIECES: usize = 32;
/// What reading a relationship is worth, beside the work of evaluations.
const WORK_OF_RELATIONSHIP: u64 = 2;
/// How often a state is taken anew for one read before it fails.
const MAX_RENEWALS: usize = 3;

/// One page of relationships.
#[derive(Debug)]
pub struct ReadPage {
    /// The relationships.
    pub relationships: Vec<Relationship>,
    /// Where the next page goes on; `None` at the end.
    pub cursor: Option<String>,
    /// The state they are of.
    pub revision: Revision,
}

/// All relationships that match a filter, piece by piece.
pub struct RelationshipStream {
    vault: Arc<Vault>,
    filter: RelationshipFilter,
    now: Timestamp,
    /// The state that is read from; `None` once it was held for too long.
    snapshot: Option<Snapshot>,
    record: VaultRecord,
    taken: Instant,
    first: Revision,
    latest: Revision,
    /// Where the next piece goes on.
    position: Option<Vec<u8>>,
    ended: bool,
}

impl Vault {
    /// One page of at most `limit` stored relationships that match a filter and have not expired, read in turns. It can be shorter, or
    /// empty, although more follows.
    pub async fn read(
        &self,
        filter: &RelationshipFilter,
        cursor: Option<&str>,
        limit: usize,
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<ReadPage, VaultError> {
        let mut position = self.position_of(filter, cursor)?;
        let mut turn = self.turn();
        let snapshot = turn.during(self.snapshot_for(consistency)).await?;
        let mut relationships = Vec::new();
        for _ in 0..MOST_PIECES {
            let length = (limit - relationships.len()).min(PIECE_LENGTH);
            let reading =
                snapshot.relationships_of_size(filter, position.as_deref(), length, PIECE_BYTES, now);
            let piece = match in_turns(&mut turn, reading).await {
                // What follows can be asked for with the cursor, at a later revision.
                Err(StoreError::SnapshotTooOld) if !relationships.is_empty() => break,
                piece => piece.map_err(VaultError::from_store)?,
            };
            turn.pace(WORK_OF_RELATIONSHIP * piece.items.len() as u64).await;
            position = piece.next;
            // Where so much was looked at in vain, somebody may have to look for long.
            let is_in_vain = piece.items.is_empty();
            relationships.extend(piece.items);
            if position.is_none() || relationships.len() >= limit || is_in_vain {
                break;
            }
        }
        let query = query_of(filter);
        let cursor = position.map(|position| Cursor { position, query }.encode(self.id.0));
        Ok(ReadPage {
            relationships,
            cursor,
            revision: snapshot.revision(),
        })
    }

    /// All stored relationships that match a filter and have not expired, in the order of the pages of [`Vault::read`].
    pub async fn read_all(
        self: &Arc<Self>,
        filter: RelationshipFilter,
        cursor: Option<&str>,
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<RelationshipStream, VaultError> {
        let position = self.position_of(&filter, cursor)?;
        let snapshot = self.snapshot_for(consistency).await?;
        Ok(RelationshipStream {
            vault: Arc::clone(self),
            filter,
            now,
            first: snapshot.revision(),
            latest: snapshot.revision(),
            record: snapshot.vault().clone(),
            snapshot: Some(snapshot),
            taken: Instant::now(),
            position,
            ended: false,
        })
    }

    /// The turns of what is sent for long or comes unasked: even its first piece of work waits for a turn, since there can be
    /// very many of its kind at once.
    pub fn heavy_turn(&self) -> Turn<'_> {
        Turn::of_heavy_work(
            self.id,
            self.settings.turn,
            (&self.pulse.used, &self.pulse.in_turns),
            self.metrics.turns(),
        )
    }

    /// Storage, which shows every commit there is; a token may still be from a future never seen.
    async fn snapshot_for(&self, consistency: Consistency) -> Result<Snapshot, VaultError> {
        if let Consistency::AtLeast(revision) = consistency
            && self.view.load().revision < revision
        {
            self.catch_up(Until::Revision(revision)).await?;
        }
        self.store.snapshot(self.id).await.map_err(VaultError::from_store)
    }

    fn position_of(
        &self,
        filter: &RelationshipFilter,
        cursor: Option<&str>,
    ) -> Result<Option<Vec<u8>>, VaultError> {
        let Some(text) = cursor else { return Ok(None) };
        Cursor::decode(self.id.0, query_of(filter), text)
            .map(Some)
            .map_err(|error| VaultError::Invalid {
                code: "invalid_cursor",
                field: "cursor".into(),
                message: error.to_string(),
            })
    }
}

impl RelationshipStream {
    /// The next relationships, at most `limit` and about a turn's worth; `None` at the end. There can be none though more follow.
    pub async fn next(&mut self, limit: usize) -> Result<Option<Vec<Relationship>>, VaultError> {
        if self.ended {
            return Ok(None);
        }
        let vault = Arc::clone(&self.vault);
        let mut turn = vault.heavy_turn();
        self.rest();
        let mut renewals = 0;
        let page = loop {
            let snapshot = match self.snapshot.take() {
                Some(snapshot) => snapshot,
                None => turn.during(self.renew()).await?,
            };
            let after = self.position.as_deref();
            let limit = limit.min(PIECE_LENGTH);
            let reading = snapshot.relationships_of_size(&self.filter, after, limit, PIECE_BYTES, self.now);
            match in_turns(&mut turn, reading).await {
                Ok(page) => {
                    self.snapshot = Some(snapshot);
                    break page;
                }
                Err(StoreError::SnapshotTooOld) if renewals < MAX_RENEWALS => {
                    renewals += 1;
                }
                Err(error) => return Err(VaultError::from_store(error)),
            }
        };
        self.ended = page.next.is_none();
        self.position = page.next;
        Ok(Some(page.items))
    }

    /// Where another read goes on after what was answered so far; `None` at the end.
    pub fn cursor(&self) -> Option<String> {
        let query = query_of(&self.filter);
        let position = self.position.clone()?;
        Some(Cursor { position, query }.encode(self.vault.id.0))
    }

    /// The state that the latest relationships are of.
    pub fn revision(&self) -> Revision {
        self.latest
    }

    /// Lets go of a state that was held for long: to be called while a reader takes its time.
    pub fn rest(&mut self) {
        if self.taken.elapsed() > STATE_HELD {
            self.snapshot = None;
        }
    }

    /// The state that the first relationships are of. Where it is the latest one too, all are of one state.
    pub fn first_revision(&self) -> Revision {
        self.first
    }

    /// Goes on from the newest state, unless that is another one altogether: an import has replaced what the vault held.
    async fn renew(&mut self) -> Result<Snapshot, VaultError> {
        let store = &self.vault.store;
        let newest = store.snapshot(self.vault.id).await;
        let newest = newest.map_err(VaultError::from_store)?;
        if newest.vault().archived {
            return Err(VaultError::AccessDenied);
        }
        if !newest.vault().is_of_same_generation(&self.record) {
            return Err(VaultError::HistoryGone);
        }
        self.latest = newest.revision();
        self.taken = Instant::now();
        Ok(newest)
    }
}

/// Has work go on in turns that yields wherever it has done some: each time it goes on is a turn, and none is held while it
/// waits.
pub(super) async fn in_turns<T>(turn: &mut Turn<'_>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    turn.begin().await;
    loop {
        if let Poll::Ready(outcome) = poll_fn(|task| Poll::Ready(work.as_mut().poll(task))).await {
            return outcome;
        }
        turn.count(PIECE);
        turn.pause();
        pending_once().await;
        turn.pace(0).await;
    }
}

/// Waits until the task is woken, by whatever it waits for.
async fn pending_once() {
    let mut is_woken = false;
    poll_fn(|_| match std::mem::replace(&mut is_woken, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// Tells a filter from every other one.
fn query_of(filter: &RelationshipFilter) -> u64 {
    let RelationshipFilter {
        resource_type,
        resource_id,
        resource_id_prefix,
        relation,
        ..
    } = filter;
    let RelationshipFilter {
        subject_type,
        subject_id,
        subject_relation,
        ..
    } = filter;
    let parts = [
        resource_type.as_ref().map(Name::as_str),
        resource_id.as_ref().map(ObjectId::as_str),
        resource_id_prefix.as_deref(),
        relation.as_ref().map(Name::as_str),
        subject_type.as_ref().map(Name::as_str),
        subject_id.as_ref().map(ObjectId::as_str),
        match subject_relation {
            None => None,
            Some(SubjectRelation::Plain) => Some("..."),
            Some(SubjectRelation::Userset(name)) => Some(name.as_str()),
        },
    ];
    // What is not asked for is told from what is by a byte that no name and no id holds.
    fingerprint(parts.iter().map(|part| part.map_or(&b"\0"[..], str::as_bytes)))
}
