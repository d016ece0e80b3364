//! Rows: the subjects of one class that stand in one relation to one object. What evaluation reads.

use std::sync::Arc;

use crate::context::Context;
use crate::noun::{ObjectId, Timestamp};
use crate::schema::{CaveatId, SlotId};

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

/// The entries of one row, sorted by subject id, each id once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    entries: Vec<Entry>,
}

impl Row {
    /// A row of `entries`, in any order; of two with one subject the later one counts.
    pub fn new(mut entries: Vec<Entry>) -> Self {
        entries.reverse();
        entries.sort_by(|a, b| a.subject.cmp(&b.subject));
        entries.dedup_by(|later, first| later.subject == first.subject);
        Self { entries }
    }

    /// The entry of `subject`.
    pub fn find(&self, subject: &ObjectId) -> Option<&Entry> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.subject.cmp(subject))
            .ok()?;
        self.entries.get(at)
    }

    /// All entries in the order of their subjects' ids.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds or replaces an entry.
    pub fn put(&mut self, entry: Entry) {
        match self
            .entries
            .binary_search_by(|held| held.subject.cmp(&entry.subject))
        {
            Ok(at) => {
                if let Some(held) = self.entries.get_mut(at) {
                    *held = entry;
                }
            }
            Err(at) => self.entries.insert(at, entry),
        }
    }

    /// Removes the entry of `subject`; says whether there was one.
    pub fn remove(&mut self, subject: &ObjectId) -> bool {
        match self.entries.binary_search_by(|held| held.subject.cmp(subject)) {
            Ok(at) => {
                self.entries.remove(at);
                true
            }
            Err(_) => false,
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
