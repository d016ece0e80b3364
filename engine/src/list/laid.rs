//! Lists over an overlay: what was read of a stretch, with the relationships that count for one request alone.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::{ListDemand, ListSupply, Opposite, Part, Stretch};
use crate::noun::{ObjectId, Timestamp};
use crate::overlay::{Laid, Patch};
use crate::row::{Entry, FoundEntry, RowKey, Rows, Terms};

impl<R: Rows> Laid<'_, R> {
    /// Turns what storage supplied for the demand of a search into what holds under the overlay, as [`Laid::lay`] does for
    /// that of a check.
    pub fn lay_listed(&self, demand: &ListDemand, supply: ListSupply) -> ListSupply {
        let (patch, stretch) = match demand {
            ListDemand::Check(check) => {
                return match supply {
                    ListSupply::Check(supply) => ListSupply::Check(self.lay(check, supply)),
                    part @ ListSupply::Part(_) => part,
                };
            }
            ListDemand::Resources(stretch) => (self.overlay().reverse(stretch.slot, &stretch.of), stretch),
            ListDemand::Subjects(stretch) => {
                let key = RowKey {
                    slot: stretch.slot,
                    object: stretch.of.clone(),
                };
                (self.overlay().row(&key), stretch)
            }
        };
        match (patch, supply) {
            (Some(patch), ListSupply::Part(part)) => ListSupply::Part(merge(patch, stretch, part)),
            (_, supply) => supply,
        }
    }
}

/// The part of a stretch that storage has, with a patch over it.
fn merge(patch: &Patch, stretch: &Stretch, stored: Part) -> Part {
    // What was read reaches to its last entry, unless nothing follows: of what was added only that much belongs here.
    let end = match stored.entries.last() {
        Some(last) if !stored.is_last => Bound::Included(last.id.clone()),
        _ => Bound::Unbounded,
    };
    let added = within(patch.added(), &stretch.start, &end).iter().map(opposite);
    let untouched = |held: &Opposite| matches!(patch.entry(&held.id), FoundEntry::Unknown);
    let mut entries: Vec<Opposite> = stored.entries.into_iter().filter(untouched).collect();
    entries.extend(added);
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    let mut is_last = stored.is_last;
    if entries.len() > stretch.limit {
        entries.truncate(stretch.limit);
        is_last = false;
    }
    if let (true, Bound::Included(id)) = (entries.is_empty(), end) {
        // All that was read was removed: something must say where to read on, and counts for nothing.
        entries.push(Opposite {
            id,
            terms: Some(Arc::new(Terms {
                caveat: None,
                expires_at: Some(Timestamp(i64::MIN)),
            })),
        });
    }
    Part { entries, is_last }
}

/// Those of sorted entries that lie between two bounds.
fn within<'e>(entries: &'e [Entry], start: &Bound<ObjectId>, end: &Bound<ObjectId>) -> &'e [Entry] {
    let range = (start.as_ref(), end.as_ref());
    let from_start = (start.as_ref(), Bound::Unbounded);
    let first = entries.partition_point(|entry| !from_start.contains(&entry.subject));
    let rest = entries.get(first..).unwrap_or_default();
    let count = rest.partition_point(|entry| range.contains(&entry.subject));
    rest.get(..count).unwrap_or_default()
}

fn opposite(entry: &Entry) -> Opposite {
    Opposite {
        id: entry.subject.clone(),
        terms: entry.terms.clone(),
    }
}
