//! The resident rows of a view, found by key, each with its weight and the time of its latest use.

use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicU32};

use inferadb_engine::noun::ObjectId;
use inferadb_engine::row::{Entry, Row, RowKey};
use inferadb_engine::tree::{Placed, Tree};

use crate::weight;

/// Rows by their keys. A clone shares them all until one of the two is written to, and then all but those near the change.
#[derive(Debug, Clone, Default)]
pub struct RowTable {
    /// In the order of a keyed hash: whoever chooses ids must not choose places.
    held: Tree<Held>,
    hasher: ahash::RandomState,
    bytes: usize,
}

/// What is held of one row.
#[derive(Debug)]
pub struct Held {
    place: Place,
    /// The row, or `None` where it is known to be too wide to be held.
    row: Option<Row>,
    /// The tick of its latest use.
    used: AtomicU32,
}

/// Where a row is in the order: its key, and before it the key's hash, which nearly always decides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    hash: u32,
    slot: u32,
    object: ObjectId,
}

impl RowTable {
    /// What is held of a row.
    pub fn get(&self, key: &RowKey) -> Option<&Held> {
        let hash = self.hash(key);
        self.held.find(|place| place.compare(hash, key))
    }

    /// How many rows are held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// What they weigh, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds an entry to its row, or replaces it there; gives it back where the row is not held. To one that is too wide to be
    /// held nothing is done.
    pub fn put(&mut self, key: &RowKey, entry: Entry) -> Result<(), Entry> {
        let hash = self.hash(key);
        match self.held.find(|place| place.compare(hash, key)).map(Held::row) {
            None => return Err(entry),
            Some(None) => return Ok(()),
            Some(Some(_)) => {}
        }
        let found = self.held.find_mut(|place| place.compare(hash, key));
        if let Some(row) = found.and_then(|held| held.row.as_mut()) {
            let added = weight::entry_bytes(&entry);
            let before = weight::of_row_alone(row);
            let replaced = row.put(entry).map_or(0, |entry| weight::entry_bytes(&entry));
            self.bytes = self.bytes + added + weight::of_row_alone(row) - replaced - before;
        }
        Ok(())
    }

    /// Takes an entry out of its row, and the row away where `drop_empty` and that was its last.
    pub fn remove(&mut self, key: &RowKey, subject: &ObjectId, drop_empty: bool) {
        let hash = self.hash(key);
        let held = self.held.find(|place| place.compare(hash, key));
        let Some(row) = held.and_then(Held::row) else {
            return;
        };
        if row.find(subject).is_some() {
            let found = self.held.find_mut(|place| place.compare(hash, key));
            if let Some(row) = found.and_then(|held| held.row.as_mut()) {
                let before = weight::of_row_alone(row);
                let removed = row.remove(subject).map_or(0, |entry| weight::entry_bytes(&entry));
                self.bytes = self.bytes + weight::of_row_alone(row) - removed - before;
            }
        }
        let held = self.held.find(|place| place.compare(hash, key));
        if drop_empty && held.and_then(Held::row).is_some_and(Row::is_empty) {
            self.forget(hash, key);
        }
    }

    /// Takes in a whole row, in use at `tick`; `None` marks it as too wide to be held.
    pub fn admit(&mut self, key: RowKey, row: Option<Row>, tick: u32) {
        let hash = self.hash(&key);
        let held = Held {
            place: Place {
                hash,
                slot: key.slot.0,
                object: key.object,
            },
            row,
            used: AtomicU32::new(tick),
        };
        self.bytes += held.bytes();
        let replaced = self.held.put(held);
        self.bytes -= replaced.map_or(0, |held| held.bytes());
    }

    /// Drops the least recently used rows until at most `budget_bytes` are held; the latest tick is `tick`.
    pub fn shrink_to(&mut self, budget_bytes: usize, tick: u32) {
        let rows = self.held.iter().enumerate();
        let mut by_age: Vec<(u32, usize, usize)> = rows
            .map(|(at, held)| (held.age(tick), at, held.bytes()))
            .collect();
        by_age.sort_unstable();
        let mut stays = vec![false; by_age.len()];
        let mut bytes = 0;
        for (_, at, weight) in by_age {
            // One that is too heavy is passed over: the lighter ones behind it may yet find room.
            if bytes + weight <= budget_bytes
                && let Some(stays) = stays.get_mut(at)
            {
                *stays = true;
                bytes += weight;
            }
        }
        let kept = self.held.iter().zip(stays).filter(|(_, stays)| *stays);
        self.held = Tree::from_sorted(kept.map(|(held, _)| held.clone()));
        self.bytes = bytes;
    }

    fn forget(&mut self, hash: u32, key: &RowKey) {
        if let Some(held) = self.held.remove(|place| place.compare(hash, key)) {
            self.bytes -= held.bytes();
        }
    }

    fn hash(&self, key: &RowKey) -> u32 {
        // The upper half: any part of the hash is as good.
        (self.hasher.hash_one(key) >> 32) as u32
    }
}

/// What a row weighs in a table, in bytes; `None` is one too wide to be held.
pub fn weight(key: &RowKey, row: Option<&Row>) -> usize {
    let own = size_of::<Held>() + Tree::<Held>::OVERHEAD_BYTES;
    own + weight::id_bytes(&key.object) + row.map_or(0, weight::row_bytes)
}

impl Held {
    /// The row, or `None` where it is known to be too wide to be held.
    pub fn row(&self) -> Option<&Row> {
        self.row.as_ref()
    }

    /// Notes that the row was used at `tick`. Stored only when it differs, so that hot rows do not bounce between cores.
    pub fn touch(&self, tick: u32) {
        if self.used.load(atomic::Ordering::Relaxed) != tick {
            self.used.store(tick, atomic::Ordering::Relaxed);
        }
    }

    fn age(&self, tick: u32) -> u32 {
        tick.wrapping_sub(self.used.load(atomic::Ordering::Relaxed))
    }

    fn bytes(&self) -> usize {
        let own = size_of::<Self>() + Tree::<Self>::OVERHEAD_BYTES;
        own + weight::id_bytes(&self.place.object) + self.row.as_ref().map_or(0, weight::row_bytes)
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self {
            place: self.place.clone(),
            row: self.row.clone(),
            used: AtomicU32::new(self.used.load(atomic::Ordering::Relaxed)),
        }
    }
}

impl Place {
    fn compare(&self, hash: u32, key: &RowKey) -> Ordering {
        let by_key = || (self.slot, &self.object).cmp(&(key.slot.0, &key.object));
        self.hash.cmp(&hash).then_with(by_key)
    }
}

impl Placed for Held {
    type Place = Place;

    fn place(&self) -> &Place {
        &self.place
    }
}
