//! The resident rows of a view, found by key, each with its weight and the time of its latest use.

use std::sync::atomic::{AtomicU32, Ordering};

use inferadb_engine::noun::ObjectId;
use inferadb_engine::row::{Entry, Row, RowKey};
use inferadb_engine::schema::SlotId;
use inferadb_engine::tree::{Placed, Tree};

use crate::weight;

/// Rows by their keys. A clone shares them all until one of the two is written to, and then all but those near the change.
#[derive(Debug, Clone, Default)]
pub struct RowTable {
    held: Tree<Held>,
    hasher: ahash::RandomState,
    bytes: usize,
}

/// What is held of one row.
#[derive(Debug)]
pub struct Held {
    /// A keyed hash of the row's key, which is all that the order goes by: whoever chooses ids must not choose places. There is no
    /// room for a second row of the same hash.
    hash: u64,
    slot: SlotId,
    object: ObjectId,
    /// The row, or `None` where it is known to be too wide to be held.
    row: Option<Row>,
    /// The tick of its latest use.
    used: AtomicU32,
}

impl RowTable {
    /// What is held of a row.
    pub fn get(&self, key: &RowKey) -> Option<&Held> {
        self.found(self.hasher.hash_one(key), key)
    }

    fn found(&self, hash: u64, key: &RowKey) -> Option<&Held> {
        self.held
            .find(|held| held.cmp(&hash))
            .filter(|held| held.is_of(key))
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
        let hash = self.hasher.hash_one(key);
        match self.found(hash, key).map(Held::row) {
            None => return Err(entry),
            Some(None) => return Ok(()),
            Some(Some(_)) => {}
        }
        let found = self.held.find_mut(|held| held.cmp(&hash));
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
        let hash = self.hasher.hash_one(key);
        let Some(row) = self.found(hash, key).and_then(Held::row) else {
            return;
        };
        if row.find(subject).is_some() {
            let found = self.held.find_mut(|held| held.cmp(&hash));
            if let Some(row) = found.and_then(|held| held.row.as_mut()) {
                let before = weight::of_row_alone(row);
                let removed = row.remove(subject).map_or(0, |entry| weight::entry_bytes(&entry));
                self.bytes = self.bytes + weight::of_row_alone(row) - removed - before;
            }
        }
        let held = self.found(hash, key);
        if drop_empty && held.and_then(Held::row).is_some_and(Row::is_empty) {
            let dropped = self.held.remove(|held| held.cmp(&hash));
            self.bytes -= dropped.map_or(0, |held| held.bytes());
        }
    }

    /// Takes in a whole row, in use at `tick`; `None` marks it as too wide to be held. Says whether it displaced another row,
    /// which then is not held any more: of more rows than any memory holds, about one does.
    pub fn admit(&mut self, key: RowKey, row: Option<Row>, tick: u32) -> bool {
        let held = Held {
            hash: self.hasher.hash_one(&key),
            slot: key.slot,
            object: key.object,
            row,
            used: AtomicU32::new(tick),
        };
        self.bytes += held.bytes();
        let (slot, object) = (held.slot, held.object.clone());
        let Some(replaced) = self.held.put(held) else {
            return false;
        };
        self.bytes -= replaced.bytes();
        (replaced.slot, replaced.object) != (slot, object)
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
}

#[cfg(test)]
impl RowTable {
    /// Moves a held row to where `other` belongs, as if both had one hash, which no test can bring about.
    pub fn collide(&mut self, key: &RowKey, other: &RowKey) {
        let hash = self.hasher.hash_one(key);
        if let Some(mut held) = self.held.remove(|held| held.cmp(&hash)) {
            held.hash = self.hasher.hash_one(other);
            self.held.put(held);
        }
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
        if self.used.load(Ordering::Relaxed) != tick {
            self.used.store(tick, Ordering::Relaxed);
        }
    }

    fn is_of(&self, key: &RowKey) -> bool {
        self.slot == key.slot && self.object == key.object
    }

    fn age(&self, tick: u32) -> u32 {
        tick.wrapping_sub(self.used.load(Ordering::Relaxed))
    }

    fn bytes(&self) -> usize {
        let own = size_of::<Self>() + Tree::<Self>::OVERHEAD_BYTES;
        own + weight::id_bytes(&self.object) + self.row.as_ref().map_or(0, weight::row_bytes)
    }
}

impl Clone for Held {
    fn clone(&self) -> Self {
        Self {
            hash: self.hash,
            slot: self.slot,
            object: self.object.clone(),
            row: self.row.clone(),
            used: AtomicU32::new(self.used.load(Ordering::Relaxed)),
        }
    }
}

impl Placed for Held {
    type Place = u64;

    fn place(&self) -> &u64 {
        &self.hash
    }
}
