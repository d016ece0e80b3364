//! What the search for a list demands, read from storage at the frame's revision.

use std::ops::Bound;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use inferadb_engine::list::{ListDemand, ListSupply, Opposite, Part, Stretch};
use inferadb_engine::row::{Demand, Supply};
use inferadb_storage::{OppositeRead, Snapshot, StretchOf, StretchRead};

use super::Vault;
use super::check::WORK_OF_READ;
use super::frame::{Frame, Interrupted, WideReads, read_entry, read_whole};
use crate::error::VaultError;
use crate::turn::Turn;
use crate::view::VaultSchema;
use crate::weight;

/// The most reads of one list that are under way at once.
const MAX_READS: usize = 64;
/// With so many entries a step has enough: the search goes on with them, and demands what is left again. So what it holds beyond what it
/// was charged for is bounded.
pub(super) const ENOUGH_ENTRIES: usize = 100_000;
/// The same of the caveats and contexts that they stand under, in bytes.
pub(super) const ENOUGH_BYTES: usize = 16 << 20;

impl Vault {
    /// Reads what a search demands, side by side, until it is all or enough.
    pub(super) async fn fetch_for_list(
        &self,
        frame: &Frame,
        demands: Vec<ListDemand>,
        turn: &mut Turn<'_>,
    ) -> Result<Vec<(ListDemand, ListSupply)>, Interrupted> {
        let snapshot = turn.during(frame.snapshot(self)).await?;
        let schema = &frame.view.schema;
        let wide = &frame.wide_reads(self);
        let reads = demands.into_iter().map(|demand| async move {
            let supply = read(snapshot, schema, &demand, wide).await?;
            let supply = supply.ok_or_else(|| self.too_much_to_read())?;
            Ok::<_, VaultError>((demand, supply))
        });
        let mut reads = std::pin::pin!(stream::iter(reads).buffer_unordered(MAX_READS));
        let (mut supplied, mut entries, mut bytes) = (Vec::new(), 0_usize, 0_usize);
        loop {
            let read = turn.during(reads.try_next()).await;
            let Some((demand, supply)) = read.map_err(|error| Interrupted::reading(frame, error))? else {
                return Ok(supplied);
            };
            let found = count(&supply);
            bytes += terms(&supply);
            supplied.push((demand, supply));
            entries += found;
            if entries > ENOUGH_ENTRIES || bytes > ENOUGH_BYTES {
                return Ok(supplied);
            }
            // Where storage answers at once nothing else lets others, and the deadline, have their turn.
            turn.pace(WORK_OF_READ + found as u64).await;
        }
    }
}

/// How many entries were read.
fn count(supply: &ListSupply) -> usize {
    match supply {
        ListSupply::Check(Supply::Row(row)) => row.len(),
        ListSupply::Check(Supply::Entry(_)) => 1,
        ListSupply::Part(part) => part.entries.len(),
    }
}

/// What the caveats weigh that what was read stands under, in bytes.
pub(super) fn terms(supply: &ListSupply) -> usize {
    match supply {
        ListSupply::Check(supply) => weight::supplied_terms_bytes(supply),
        ListSupply::Part(part) => {
            let terms = part.entries.iter().filter_map(|entry| entry.terms.as_deref());
            terms.map(weight::terms_bytes).sum()
        }
    }
}

/// What a demand asks for; `None` where it is a row that is too wide to be read.
async fn read(
    snapshot: &Snapshot,
    schema: &Arc<VaultSchema>,
    demand: &ListDemand,
    wide: &WideReads<'_>,
) -> Result<Option<ListSupply>, VaultError> {
    match demand {
        ListDemand::Check(Demand::Scan(key)) => {
            let row = read_whole(snapshot, schema, key, wide).await?;
            Ok(row.map(|row| ListSupply::Check(Supply::Row(row))))
        }
        ListDemand::Check(Demand::Probe(key, subject)) => {
            let entry = read_entry(snapshot, schema, key, subject).await?;
            Ok(Some(ListSupply::Check(Supply::Entry(entry))))
        }
        ListDemand::Resources(stretch) => read_stretch(snapshot, schema, stretch, true).await.map(Some),
        ListDemand::Subjects(stretch) => read_stretch(snapshot, schema, stretch, false).await.map(Some),
    }
}

async fn read_stretch(
    snapshot: &Snapshot,
    schema: &VaultSchema,
    stretch: &Stretch,
    is_reverse: bool,
) -> Result<ListSupply, VaultError> {
    let Some(names) = schema.slot_names(stretch.slot) else {
        return Ok(ListSupply::Part(Part {
            is_last: true,
            ..Part::default()
        }));
    };
    let of = StretchOf {
        resource_type: names.resource_type,
        relation: names.relation,
        subject_type: names.subject_type,
        subject_class: &names.subject_class,
    };
    let limit = stretch.limit;
    let mut start = stretch.start.clone();
    let mut entries = Vec::new();
    loop {
        let read = match is_reverse {
            true => {
                snapshot
                    .resources_of(of, &stretch.of, start.as_ref(), limit)
                    .await
            }
            false => snapshot.subjects_of(of, &stretch.of, start.as_ref(), limit).await,
        };
        let StretchRead {
            entries: found,
            is_last,
        } = read.map_err(VaultError::from_store)?;
        if let Some(last) = found.last() {
            start = Bound::Excluded(last.id.clone());
        }
        let fits = |entry: OppositeRead| {
            let (caveat, expires_at) = (entry.caveat.as_ref(), entry.expires_at);
            // What the schema does not allow (any more) is ignored by every answer.
            let held = schema.entry_in(stretch.slot, entry.id, caveat, expires_at)?;
            Some(Opposite {
                id: held.subject,
                terms: held.terms,
            })
        };
        entries.extend(found.into_iter().filter_map(fits));
        if is_last || !entries.is_empty() {
            return Ok(ListSupply::Part(Part { entries, is_last }));
        }
        // There can be very many that are ignored.
        tokio::task::yield_now().await;
    }
}
