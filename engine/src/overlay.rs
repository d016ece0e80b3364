//! Relationships added and removed for one request alone, laid over rows that are stored.
//!
//! An evaluation over a [`Laid`] source answers exactly as one over a store with these changes applied. Rows that the overlay does
//! not touch pass through as they are; one that it touches is merged at most once, and only if the whole of it is
//! read: the entry of one subject needs no merging.

use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

use crate::noun::{ObjectId, Relationship, RelationshipKey};
use crate::row::{Demand, Entry, Found, FoundEntry, Row, RowKey, Rows, Supply, Terms};
use crate::schema::{Misfit, Schema, SlotId, SlotSubject};

/// What a request adds to and removes from the stored relationships, resolved against one schema.
#[derive(Debug, Clone, Default)]
pub struct Overlay {
    rows: FxHashMap<RowKey, Patch>,
    /// The same, by slot and subject: for questions that start at the subject.
    reverse: FxHashMap<(SlotId, ObjectId), Patch>,
    added: usize,
}

/// What an overlay changes in one row: entries put in (or in the place of the stored ones) and subjects taken out.
///
/// In a patch of [`Overlay::reverse`] the `subject` of an entry is the id of the *resource*.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Patch {
    added: Vec<Entry>,
    removed: Vec<ObjectId>,
}

/// Rows under an overlay. One for each request and revision: it remembers the rows it merged.
#[derive(Debug)]
pub struct Laid<'o, R> {
    base: &'o R,
    overlay: &'o Overlay,
    merged: FxHashMap<&'o RowKey, OnceLock<Arc<Row>>>,
}

impl Overlay {
    /// An overlay that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a relationship. It takes the place of a stored one with the same key, and of one added or removed here before.
    ///
    /// # Errors
    ///
    /// Why the relationship does not fit the schema; the overlay is as it was.
    pub fn add(&mut self, schema: &Schema, relationship: &Relationship) -> Result<(), Misfit> {
        let slot = schema.fits(relationship)?;
        let caveat = match &relationship.caveat {
            Some(caveat) => {
                let id = schema.caveat_named(&caveat.name);
                let id = id.ok_or_else(|| Misfit::UnknownCaveat(caveat.name.clone()))?;
                Some((id, caveat.context.clone()))
            }
            None => None,
        };
        let expires_at = relationship.expires_at;
        let has_terms = caveat.is_some() || expires_at.is_some();
        let terms = has_terms.then(|| Arc::new(Terms { caveat, expires_at }));
        let (resource, subject) = (&relationship.resource.id, &relationship.subject.id);
        let entry = |subject: &ObjectId| Entry {
            subject: subject.clone(),
            terms: terms.clone(),
        };
        let key = RowKey {
            slot,
            object: resource.clone(),
        };
        let replaced = self.rows.entry(key).or_default().put(entry(subject));
        let reverse = self.reverse.entry((slot, subject.clone())).or_default();
        reverse.put(entry(resource));
        self.added += usize::from(!replaced);
        Ok(())
    }

    /// Removes a relationship, whether it is stored, was added here before, or is not there at all. One that the schema has no
    /// place for is in no row to begin with.
    pub fn remove(&mut self, schema: &Schema, key: &RelationshipKey) {
        let Some(slot) = slot_of(schema, key) else { return };
        let (resource, subject) = (&key.resource.id, &key.subject.id);
        let row = RowKey {
            slot,
            object: resource.clone(),
        };
        let taken_back = self.rows.entry(row).or_default().take(subject);
        let reverse = self.reverse.entry((slot, subject.clone())).or_default();
        reverse.take(resource);
        self.added -= usize::from(taken_back);
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many relationships it adds.
    pub const fn added(&self) -> usize {
        self.added
    }

    /// What it changes in the row `key`.
    pub fn row(&self, key: &RowKey) -> Option<&Patch> {
        self.rows.get(key)
    }

    /// What it changes in the reverse row of `subject` in `slot`: the resources that `subject` stands in that relation to.
    /// The subject of each added entry is the id of a resource.
    pub fn reverse(&self, slot: SlotId, subject: &ObjectId) -> Option<&Patch> {
        self.reverse.get(&(slot, subject.clone()))
    }

    /// The slots and subjects whose reverse rows it changes, in no order.
    pub fn reversed(&self) -> impl Iterator<Item = (SlotId, &ObjectId)> {
        self.reverse.keys().map(|(slot, subject)| (*slot, subject))
    }

    /// Lays it over rows.
    pub fn over<'o, R: Rows>(&'o self, base: &'o R) -> Laid<'o, R> {
        Laid {
            base,
            overlay: self,
            merged: self.rows.keys().map(|key| (key, OnceLock::new())).collect(),
        }
    }
}

impl Patch {
    /// The entries put in, sorted by subject.
    pub fn added(&self) -> &[Entry] {
        &self.added
    }

    /// The subjects taken out, sorted; none of them is among those put in.
    pub fn removed(&self) -> &[ObjectId] {
        &self.removed
    }

    /// What it says of the entry of `subject`; [`FoundEntry::Unknown`] where it leaves what is stored.
    pub fn entry(&self, subject: &ObjectId) -> FoundEntry<'_> {
        if let Ok(at) = self.place(subject) {
            return self.added.get(at).map_or(FoundEntry::Unknown, FoundEntry::Entry);
        }
        match self.removed.binary_search(subject) {
            Ok(_) => FoundEntry::Absent,
            Err(_) => FoundEntry::Unknown,
        }
    }

    /// The row `stored` with the changes applied.
    pub fn apply(&self, stored: &Row) -> Row {
        let mut entries = Vec::with_capacity(stored.len() + self.added.len());
        let untouched = |entry: &&Entry| matches!(self.entry(&entry.subject), FoundEntry::Unknown);
        entries.extend(stored.entries().filter(untouched).cloned());
        entries.extend_from_slice(&self.added);
        Row::new(entries)
    }

    fn place(&self, subject: &ObjectId) -> Result<usize, usize> {
        self.added.binary_search_by(|entry| entry.subject.cmp(subject))
    }

    /// Puts an entry in; says whether one of the same subject was put in before.
    fn put(&mut self, entry: Entry) -> bool {
        if let Ok(at) = self.removed.binary_search(&entry.subject) {
            self.removed.remove(at);
        }
        match self.place(&entry.subject) {
            Ok(at) => {
                if let Some(held) = self.added.get_mut(at) {
                    *held = entry;
                }
                true
            }
            Err(at) => {
                self.added.insert(at, entry);
                false
            }
        }
    }

    /// Takes a subject out; says whether it was put in before.
    fn take(&mut self, subject: &ObjectId) -> bool {
        let put_in = self.place(subject);
        if let Ok(at) = put_in {
            self.added.remove(at);
        }
        if let Err(at) = self.removed.binary_search(subject) {
            self.removed.insert(at, subject.clone());
        }
        put_in.is_ok()
    }
}

impl<R: Rows> Laid<'_, R> {
    /// The overlay that lies over the rows.
    pub fn overlay(&self) -> &Overlay {
        self.overlay
    }

    /// Turns what storage supplied for a demand into what holds under the overlay.
    pub fn lay(&self, demand: &Demand, supply: Supply) -> Supply {
        let (Demand::Probe(key, _) | Demand::Scan(key)) = demand;
        let Some((patch, merged)) = self.touched(key) else {
            return supply;
        };
        match (supply, demand) {
            (Supply::Row(row), _) => {
                Supply::Row(Arc::clone(merged.get_or_init(|| Arc::new(patch.apply(&row)))))
            }
            (Supply::Entry(entry), Demand::Probe(_, subject)) => Supply::Entry(match patch.entry(subject) {
                FoundEntry::Entry(added) => Some(added.clone()),
                FoundEntry::Absent => None,
                FoundEntry::Unknown => entry,
            }),
            // An entry does not answer a scan: whoever demanded it demands it again.
            (supply @ Supply::Entry(_), Demand::Scan(_)) => supply,
        }
    }

    fn touched(&self, key: &RowKey) -> Option<(&Patch, &OnceLock<Arc<Row>>)> {
        Some((self.overlay.rows.get(key)?, self.merged.get(key)?))
    }
}

impl<R: Rows> Rows for Laid<'_, R> {
    fn row(&self, key: &RowKey) -> Found<'_> {
        let Some((patch, merged)) = self.touched(key) else {
            return self.base.row(key);
        };
        let row = match merged.get() {
            Some(row) => row,
            None => {
                let merge = |stored: &Row| Arc::new(patch.apply(stored));
                match self.base.row(key) {
                    Found::Row(row) => merged.get_or_init(|| merge(row)),
                    Found::Empty => merged.get_or_init(|| merge(&Row::default())),
                    Found::Unknown => return Found::Unknown,
                }
            }
        };
        match row.is_empty() {
            true => Found::Empty,
            false => Found::Row(row),
        }
    }

    fn entry(&self, key: &RowKey, subject: &ObjectId) -> FoundEntry<'_> {
        let Some((patch, merged)) = self.touched(key) else {
            return self.base.entry(key, subject);
        };
        match patch.entry(subject) {
            FoundEntry::Unknown => match merged.get() {
                Some(row) => row.find(subject).map_or(FoundEntry::Absent, FoundEntry::Entry),
                None => self.base.entry(key, subject),
            },
            said => said,
        }
    }

    fn is_contextual(&self, key: &RowKey, subject: &ObjectId) -> bool {
        let patch = self.overlay.rows.get(key);
        patch.is_some_and(|patch| patch.place(subject).is_ok()) || self.base.is_contextual(key, subject)
    }
}

/// The slot that a relationship of this key belongs into by its names alone.
fn slot_of(schema: &Schema, key: &RelationshipKey) -> Option<SlotId> {
    let resource_type = schema.type_named(&key.resource.object_type)?;
    let relation = schema.member_named(resource_type, &key.relation)?;
    let subject_type = schema.type_named(&key.subject.object_type)?;
    let subject = match &key.subject.relation {
        Some(name) => SlotSubject::Userset(schema.member_named(subject_type, name)?),
        None if key.subject.id.is_wildcard() => SlotSubject::Wildcard,
        None => SlotSubject::Object,
    };
    schema.slot_for(relation, subject_type, subject)
}

#[cfg(test)]
mod tests;
