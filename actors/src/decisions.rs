//! The decision cache of one vault: verdicts that hold until something they could have read changes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use inferadb_engine::evaluate::Check;
use inferadb_engine::noun::Timestamp;
use inferadb_storage::Revision;
use lru::LruCache;

use crate::ledger::Charge;
use crate::settings::CacheSettings;

/// Locks are held for some tens of nanoseconds; a few shards keep two cores from meeting in one.
const SHARDS: usize = 4;

/// What an entry weighs beside the bytes of ids too long to be stored inline: the key, the entry, the list links
/// and the hash table's slot.
const ENTRY_BYTES: usize = 160;

/// Ids up to this length are stored inline.
const INLINE_ID_BYTES: usize = 23;

/// Decisions of one vault, least recently used first out.
pub struct Decisions {
    shards: [Mutex<Shard>; SHARDS],
    hasher: ahash::RandomState,
    settings: CacheSettings,
    budget_bytes: usize,
    charge: Charge,
    entries: AtomicUsize,
}

type Shard = LruCache<Check, Decided, ahash::RandomState>;

/// A cached verdict and what it holds under.
#[derive(Debug, Clone, Copy)]
struct Decided {
    allowed: bool,
    /// The revision it was decided at.
    revision: Revision,
    /// The compiled schema it was decided under.
    schema: u64,
    /// From this moment on it no longer holds.
    until: Timestamp,
}

/// The state of a vault that a cached verdict must still hold in.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// The revision the answer will name.
    pub revision: Revision,
    /// The latest revision that changed anything the permission can read.
    pub changed_at: Revision,
    /// The compiled schema.
    pub schema: u64,
    /// The time.
    pub now: Timestamp,
}

impl Decisions {
    /// An empty cache, which is to hold `budget_bytes` at most and is charged for what it holds.
    pub fn new(settings: CacheSettings, budget_bytes: usize, charge: Charge) -> Self {
        Self {
            shards: std::array::from_fn(|_| {
                Mutex::new(LruCache::unbounded_with_hasher(ahash::RandomState::new()))
            }),
            hasher: ahash::RandomState::new(),
            settings,
            budget_bytes,
            charge,
            entries: AtomicUsize::new(0),
        }
    }

    /// Whether decisions are cached at all.
    pub fn is_enabled(&self) -> bool {
        self.settings.enabled && self.settings.max_entries > 0
    }

    /// The cached answer to `check`, if it still holds: whether it is allowed.
    pub fn get(&self, check: &Check, standing: Standing) -> Option<bool> {
        if !self.is_enabled() {
            return None;
        }
        let mut shard = self.shard(check);
        let decided = shard.get(check)?;
        // One decided after the view that is being answered from may rest on changes the view does not have.
        let holds = decided.schema == standing.schema
            && decided.revision >= standing.changed_at
            && decided.revision <= standing.revision
            && standing.now < decided.until;
        holds.then_some(decided.allowed)
    }

    /// Keeps a verdict for as long as it holds, `valid_until` and the configured time at most.
    pub fn put(&self, check: Check, allowed: bool, standing: Standing, valid_until: Option<Timestamp>) {
        if !self.is_enabled() {
            return;
        }
        let ttl_micros = i64::try_from(self.settings.ttl.as_micros()).unwrap_or(i64::MAX);
        let mut until = Timestamp(standing.now.0.saturating_add(ttl_micros));
        if let Some(limit) = valid_until {
            until = until.min(limit);
        }
        let decided = Decided {
            allowed,
            revision: standing.revision,
            schema: standing.schema,
            until,
        };
        let weight = weight(&check);
        let capacity = self.settings.max_entries / self.shard_count();
        let mut shard = self.shard(&check);
        if let Some(known) = shard.get_mut(&check) {
            *known = decided;
            return;
        }
        if !self.charge.try_add(weight) {
            // Where all vaults together may hold no more, two older ones go; where that is not enough, it is not kept.
            self.drop_oldest(&mut shard);
            self.drop_oldest(&mut shard);
            if !self.charge.try_add(weight) {
                return;
            }
        }
        shard.put(check, decided);
        self.entries.fetch_add(1, Ordering::Relaxed);
        while (shard.len() > capacity || self.bytes() > self.budget_bytes) && self.drop_oldest(&mut shard) {}
    }

    /// Drops about half of all entries, the least recently used ones.
    pub fn shrink(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            for _ in 0..shard.len().div_ceil(2) {
                self.drop_oldest(&mut shard);
            }
        }
    }

    /// Drops all entries; says whether there were any.
    pub fn clear(&self) -> bool {
        let mut had_any = false;
        for shard in &self.shards {
            let mut shard = lock(shard);
            while self.drop_oldest(&mut shard) {
                had_any = true;
            }
        }
        had_any
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// What they weigh, in bytes.
    pub fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// Drops the least recently used entry, if there is any.
    fn drop_oldest(&self, shard: &mut Shard) -> bool {
        let Some((dropped, _)) = shard.pop_lru() else {
            return false;
        };
        self.charge.give_back(weight(&dropped));
        self.entries.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// As many as there are, but for a cache of so few entries that each shard would round their number up.
    fn shard_count(&self) -> usize {
        SHARDS.min(self.settings.max_entries.max(1))
    }

    fn shard(&self, check: &Check) -> MutexGuard<'_, Shard> {
        let at = (self.hasher.hash_one(&check.object) >> 32) as usize % self.shard_count();
        #[expect(
            clippy::indexing_slicing,
            reason = "the remainder of a division by the length or less"
        )]
        lock(&self.shards[at])
    }
}

/// A panic while the lock was held cannot leave the list half changed in a way that matters: it is only a cache of
/// verdicts that are checked before use.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn weight(check: &Check) -> usize {
    let heap = |id: &str| {
        if id.len() > INLINE_ID_BYTES {
            id.len() + 16
        } else {
            0
        }
    };
    ENTRY_BYTES + heap(check.object.as_str()) + heap(check.subject.id.as_str())
}
