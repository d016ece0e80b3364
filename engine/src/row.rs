//! Rows: the subjects of one class that stand in one relation to one object. What evaluation reads.

use std::cmp::Ordering;
use std::ops::Bound;
use std::slice;
use std::sync::Arc;

use crate::context::Context;
use crate::noun::{ObjectId, Timestamp};
use crate::schema::{CaveatId, SlotId};
use crate::tree::{self, Placed, Tree};

/// Names one row: the subjects of one [slot](crate::schema::Slot) (a relation and a class of subjects) of one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowKey {
    /// The relation and the class of subjects.
    pub slot: SlotId,
    /// The object's id; its type is the slot's.
    pub object: ObjectId,
}

/// Under what terms a subject stands in a row. Most stand there without any.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Terms {
    /// The caveat and its stored context.
    pub caveat: Option<(CaveatId, Context)>,
    /// The moment from which on the entry no longer counts.
    pub expires_at: Option<Timestamp>,
}

/// One subject in a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The subject's id; its type and relation are the slot's.
    pub subject: ObjectId,
    /// Its terms, if it has any.
    pub terms: Option<Arc<Terms>>,
}

/// A row of more entries is kept in pieces, so that a write to it copies a piece and not all of them.
const WIDE: usize = 64;

/// The entries of one row, sorted by subject id, each id once. A clone shares what is held.
#[derive(Debug, Clone, Default)]
pub struct Row(Body);

/// How the entries are held: most rows have one or a few, and should weigh no more than that.
#[derive(Debug, Clone)]
enum Body {
    One(Entry),
    Few(Arc<[Entry]>),
    Wide(Tree<Entry>),
}

/// Entries of a row, in the order of their subjects' ids.
#[derive(Debug, Clone)]
pub struct Entries<'r>(Walk<'r>);

#[derive(Debug, Clone)]
enum Walk<'r> {
    Slice(slice::Iter<'r, Entry>),
    Tree(tree::Iter<'r, Entry>),
}

impl Row {
    /// A row of `entries`, in any order; of two with one subject the later one counts.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.reverse();
        entries.sort_by(|a, b| a.subject.cmp(&b.subject));
        entries.dedup_by(|later, first| later.subject == first.subject);
        Self::of_sorted(entries)
    }

    fn of_sorted(mut entries: Vec<Entry>) -> Self {
        Self(match entries.len() {
            1 => entries.pop().map_or_else(Body::default, Body::One),
            len if len <= WIDE => Body::Few(entries.into()),
            _ => Body::Wide(Tree::from_sorted(entries)),
        })
    }

    /// The entry of `subject`.
    pub fn find(&self, subject: &ObjectId) -> Option<&Entry> {
        match &self.0 {
            Body::One(entry) => (entry.subject == *subject).then_some(entry),
            Body::Few(entries) => entries.get(place(entries, subject).ok()?),
            Body::Wide(tree) => tree.find(|held| held.cmp(subject)),
        }
    }

    /// All entries in the order of their subjects' ids.
    pub fn entries(&self) -> Entries<'_> {
        Entries(match &self.0 {
            Body::One(entry) => Walk::Slice(slice::from_ref(entry).iter()),
            Body::Few(entries) => Walk::Slice(entries.iter()),
            Body::Wide(tree) => Walk::Tree(tree.iter()),
        })
    }

    /// The entries that lie beyond a start, in their order.
    pub fn entries_from(&self, start: &Bound<ObjectId>) -> Entries<'_> {
        // How a subject compares to the start; never as equal to one that is excluded itself.
        let order = |subject: &ObjectId| match start {
            Bound::Unbounded => Ordering::Greater,
            Bound::Included(first) => subject.cmp(first),
            Bound::Excluded(last) => subject.cmp(last).then(Ordering::Less),
        };
        let of_slice = |entries: &'_ [Entry]| entries.partition_point(|entry| order(&entry.subject).is_lt());
        Entries(match &self.0 {
            Body::One(entry) => {
                let entries = slice::from_ref(entry);
                Walk::Slice(entries.get(of_slice(entries)..).unwrap_or_default().iter())
            }
            Body::Few(entries) => Walk::Slice(entries.get(of_slice(entries)..).unwrap_or_default().iter()),
            Body::Wide(tree) => Walk::Tree(tree.iter_from(order)),
        })
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        match &self.0 {
            Body::One(_) => 1,
            Body::Few(entries) => entries.len(),
            Body::Wide(tree) => tree.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What its own allocations take, in bytes, without those of its entries' ids and terms; the system's rounding left out.
    pub fn allocated_bytes(&self) -> usize {
        /// The two counts before what an `Arc` holds.
        const ARC: usize = 16;
        match &self.0 {
            Body::One(_) => 0,
            Body::Few(entries) => ARC + size_of_val(&**entries),
            Body::Wide(tree) => tree.len() * (size_of::<Entry>() + Tree::<Entry>::OVERHEAD_BYTES),
        }
    }

    /// Adds or replaces an entry; answers the one it replaces.
    pub fn put(&mut self, entry: Entry) -> Option<Entry> {
        match &mut self.0 {
            Body::One(held) if held.subject == entry.subject => Some(std::mem::replace(held, entry)),
            Body::One(held) => {
                let held = held.clone();
                self.0 = Body::Few(match held.subject < entry.subject {
                    true => [held, entry].into(),
                    false => [entry, held].into(),
                });
                None
            }
            Body::Few(entries) => match place(entries, &entry.subject) {
                Ok(at) => {
                    let held = Arc::make_mut(entries).get_mut(at)?;
                    Some(std::mem::replace(held, entry))
                }
                Err(at) => {
                    let (before, after) = entries.split_at_checked(at)?;
                    let one = slice::from_ref(&entry);
                    *self = Self::of_sorted([before, one, after].concat());
                    None
                }
            },
            Body::Wide(tree) => tree.put(entry),
        }
    }

    /// Removes the entry of `subject`; answers it, if there was one.
    pub fn remove(&mut self, subject: &ObjectId) -> Option<Entry> {
        match &mut self.0 {
            Body::One(entry) if entry.subject == *subject => match std::mem::take(&mut self.0) {
                Body::One(entry) => Some(entry),
                Body::Few(_) | Body::Wide(_) => None,
            },
            Body::One(_) => None,
            Body::Few(entries) => {
                let at = place(entries, subject).ok()?;
                let removed = entries.get(at).cloned();
                let (before, rest) = entries.split_at_checked(at)?;
                let after = rest.get(1..).unwrap_or_default();
                *self = Self::of_sorted([before, after].concat());
                removed
            }
            Body::Wide(tree) => {
                let removed = tree.remove(|held| held.cmp(subject));
                // Well below, so that a row at the mark does not change its form with every write.
                if tree.len() <= WIDE / 2 {
                    *self = Self::of_sorted(tree.iter().cloned().collect());
                }
                removed
            }
        }
    }
}

/// Where in sorted entries the one of `subject` is, or would be.
fn place(entries: &[Entry], subject: &ObjectId) -> Result<usize, usize> {
    entries.binary_search_by(|entry| entry.subject.cmp(subject))
}

impl Placed for Entry {
    type Place = ObjectId;

    fn place(&self) -> &ObjectId {
        &self.subject
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Few(Arc::default())
    }
}

/// Equal where their entries are, however they came to be.
impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.entries().eq(other.entries())
    }
}

impl Default for Entries<'_> {
    fn default() -> Self {
        Self(Walk::Slice([].iter()))
    }
}

impl<'r> Iterator for Entries<'r> {
    type Item = &'r Entry;

    fn next(&mut self) -> Option<&'r Entry> {
        match &mut self.0 {
            Walk::Slice(entries) => entries.next(),
            Walk::Tree(entries) => entries.next(),
        }
    }
}

/// What a source of rows knows about one.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// The whole row.
    Row(&'a Row),
    /// That it has no entries.
    Empty,
    /// Nothing: it must be demanded.
    Unknown,
}

/// What a source of rows knows about one entry.
#[derive(Debug, Clone, Copy)]
pub enum FoundEntry<'a> {
    /// The entry.
    Entry(&'a Entry),
    /// That there is none.
    Absent,
    /// Nothing: it must be demanded.
    Unknown,
}

/// A source of rows, all of one revision of one vault.
pub trait Rows {
    /// What is known of the row `key`.
    fn row(&self, key: &RowKey) -> Found<'_>;

    /// What is known of the entry of `subject` in the row `key`. A source that can know it without the row says so here.
    fn entry(&self, key: &RowKey, subject: &ObjectId) -> FoundEntry<'_> {
        match self.row(key) {
            Found::Row(row) => row.find(subject).map_or(FoundEntry::Absent, FoundEntry::Entry),
            Found::Empty => FoundEntry::Absent,
            Found::Unknown => FoundEntry::Unknown,
        }
    }

    /// Whether the entry of `subject` in the row `key` is not stored but counts for the present request alone.
    fn is_contextual(&self, _key: &RowKey, _subject: &ObjectId) -> bool {
        false
    }
}

/// What an evaluation cannot go on without.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Demand {
    /// The entry of one subject in a row that may be wide.
    Probe(RowKey, ObjectId),
    /// All entries of a row.
    Scan(RowKey),
}

/// The answer to a [`Demand`]. A whole row also answers a probe, and every later demand for that row.
#[derive(Debug, Clone)]
pub enum Supply {
    /// The entry asked for, or that there is none. Answers [`Demand::Probe`] only.
    Entry(Option<Entry>),
    /// The whole row. Answers either.
    Row(Arc<Row>),
}

#[cfg(test)]
mod tests;
