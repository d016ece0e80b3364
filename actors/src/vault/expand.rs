//! Expansions: the tree of who has a permission, driven over the published view, with what it lacks read from storage.

use std::sync::Arc;

use futures_util::future::try_join_all;
use inferadb_engine::expand::{ExpandLimits, ExpandStep, ExpandTree, Expansion};
use inferadb_engine::noun::{Name, ObjectRef, Relationship, Timestamp};
use inferadb_engine::overlay::Overlay;
use inferadb_engine::row::{Demand, Row, RowKey, Rows, Supply};
use inferadb_engine::schema::Schema;
use inferadb_storage::{Revision, RowLimit};

use super::check::{WORK_OF_READ, resolve_member};
use super::contextual;
use super::frame::{Frame, Interrupted, read_part};
use super::{Consistency, Vault};
use crate::error::VaultError;
use crate::turn::{PIECE, Turn};
use crate::view::VaultSchema;

/// The most nodes of a tree.
pub const MAX_EXPAND_NODES: usize = 10_000;
/// Rows of more entries or bytes are read one at a time, so that what is read at once stays small.
const NARROW: RowLimit = RowLimit {
    entries: 256,
    max_bytes: 64 << 10,
};

/// One question.
#[derive(Debug, Clone)]
pub struct ExpandRequest {
    /// On what.
    pub resource: ObjectRef,
    /// The relation or permission asked for.
    pub permission: Name,
    /// How many steps from object to object the tree may take.
    pub max_depth: u32,
    /// Relationships that count for this question alone.
    pub contextual: Arc<[Relationship]>,
}

/// Its answer, with the schema that gives its parts their names.
#[derive(Debug)]
pub struct Expanded {
    /// The tree.
    pub tree: ExpandTree,
    /// The state it is of.
    pub revision: Revision,
    schema: Arc<VaultSchema>,
}

impl Expanded {
    /// The schema that the tree was made under.
    pub fn schema(&self) -> &Schema {
        &self.schema.compiled
    }
}

impl Vault {
    /// Shows who has a permission, and how they got there.
    pub async fn expand(
        &self,
        request: &ExpandRequest,
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<Expanded, VaultError> {
        self.take_checks(1)?;
        let mut turn = self.turn();
        let mut frame = Frame::of(self.view_for(consistency).await?);
        for attempt in 1.. {
            match self.expand_in(&frame, request, now, &mut turn).await {
                Ok(tree) => {
                    return Ok(Expanded {
                        tree,
                        revision: frame.view.revision,
                        schema: Arc::clone(&frame.view.schema),
                    });
                }
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Moved(revision)) => {
                    frame = turn.during(self.next_frame(attempt, revision)).await?;
                }
            }
        }
        Err(VaultError::Overloaded("the vault keeps changing"))
    }

    async fn expand_in(
        &self,
        frame: &Frame,
        request: &ExpandRequest,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<ExpandTree, Interrupted> {
        turn.begin().await;
        let schema = &frame.view.schema;
        let member = resolve_member(schema, &request.resource, &request.permission)?;
        let limits = self.limits.load().for_engine(PIECE);
        let limits = ExpandLimits {
            max_depth: request.max_depth,
            max_nodes: MAX_EXPAND_NODES,
            max_work: limits.max_work,
            quantum: limits.quantum,
        };
        let object = request.resource.id.clone();
        let expansion = Expansion::new(&schema.compiled, member, object, now, limits);
        let overlay = contextual::overlay(&schema.compiled, &Overlay::new(), &request.contextual)?;
        match overlay.is_empty() {
            true => self.drive(frame, &*frame.view, &overlay, expansion, turn).await,
            false => {
                let laid = overlay.over(&*frame.view);
                self.drive(frame, &laid, &overlay, expansion, turn).await
            }
        }
    }

    async fn drive(
        &self,
        frame: &Frame,
        rows: &impl Rows,
        overlay: &Overlay,
        mut expansion: Expansion<'_>,
        turn: &mut Turn<'_>,
    ) -> Result<ExpandTree, Interrupted> {
        loop {
            match expansion.step(rows) {
                ExpandStep::Done(tree) => return Ok(tree),
                ExpandStep::Yield => turn.pace(PIECE).await,
                ExpandStep::Need(keys) => {
                    let room = expansion.room();
                    let mut work = 0;
                    let rows = turn.during(self.read_rows(frame, overlay, keys, room)).await?;
                    for (key, row, whole) in rows {
                        work += WORK_OF_READ + row.len() as u64;
                        expansion.supply(key, row, whole);
                    }
                    // One read can follow from the other for very long.
                    turn.pace(work).await;
                }
            }
        }
    }

    /// Reads the rows that are demanded, under the overlay: all narrow ones at once, and the first wide one as far as there is
    /// room for it in the tree. The other wide ones are demanded again.
    async fn read_rows(
        &self,
        frame: &Frame,
        overlay: &Overlay,
        keys: Vec<RowKey>,
        room: usize,
    ) -> Result<Vec<(RowKey, Arc<Row>, bool)>, Interrupted> {
        let snapshot = frame.snapshot(self).await?;
        let schema = &frame.view.schema;
        let reads = keys.into_iter().map(|key| async move {
            let (row, whole) = read_part(snapshot, schema, &key, NARROW).await?;
            Ok::<_, VaultError>((key, row, whole))
        });
        let (mut rows, wide): (Vec<_>, Vec<_>) = try_join_all(reads)
            .await
            .map_err(|error| Interrupted::reading(frame, error))?
            .into_iter()
            .partition(|(_, _, whole)| *whole);
        if !frame.detached {
            // What is offered is what is stored: without the overlay.
            let supply = |(key, row, _): &(RowKey, Arc<Row>, bool)| {
                (Demand::Scan(key.clone()), Supply::Row(Arc::clone(row)))
            };
            self.offer(&frame.view, &rows.iter().map(supply).collect::<Vec<_>>());
        }
        if let Some((key, ..)) = wide.into_iter().next() {
            let removed = overlay.row(&key).map_or(0, |patch| patch.removed().len());
            let most = room.saturating_add(removed).saturating_add(1);
            let limit = RowLimit {
                entries: most,
                max_bytes: self.max_row_bytes(),
            };
            frame.hold_wide(self).await?;
            let read = read_part(snapshot, schema, &key, limit).await;
            let (row, whole) = read.map_err(|error| Interrupted::reading(frame, error))?;
            rows.push((key, row, whole));
        }
        for (key, row, _) in &mut rows {
            if let Some(patch) = overlay.row(key) {
                *row = Arc::new(patch.apply(row));
            }
        }
        Ok(rows)
    }
}
