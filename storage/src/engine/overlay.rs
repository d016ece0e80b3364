//! The writes of one uncommitted transaction, and how they change what its reads see.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow, Range};

use bytes::Bytes;

use super::optimistic::Snapshot;
use crate::background;
use crate::kv::{
    KvError, MAX_KEY_BYTES, MAX_TRANSACTION_BYTES, MAX_VALUE_BYTES, Pair, Versionstamp, key_after, pair_bytes,
};

/// One write, as it is handed to the committer.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Set(Bytes, Bytes),
    /// Of a key that nobody reads serializably.
    SetUnread(Bytes, Bytes),
    SetVersionstampedKey {
        prefix: Bytes,
        suffix: Bytes,
        value: Bytes,
    },
    SetVersionstampedValue {
        key: Bytes,
        rest: Bytes,
    },
    Add(Bytes, i64),
    Clear(Bytes),
    ClearRange(Range<Bytes>),
}

impl Op {
    /// What it comes to, in bytes of keys and values.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set(key, value) | Self::SetUnread(key, value) => key.len() + value.len(),
            Self::SetVersionstampedKey {
                prefix,
                suffix,
                value,
            } => prefix.len() + suffix.len() + value.len(),
            Self::SetVersionstampedValue { key, rest } => key.len() + rest.len(),
            Self::Add(key, _) => key.len() + size_of::<i64>(),
            Self::Clear(key) => key.len(),
            Self::ClearRange(range) => range.start.len() + range.end.len(),
        }
    }
}

/// What the transaction has done to one key.
#[derive(Debug, Clone)]
enum Pending {
    Set(Bytes),
    Cleared,
    /// Adds to whatever the snapshot holds.
    Add(i64),
    /// Holds a versionstamp, which nobody knows yet.
    Unreadable,
}

/// What a read of one key finds in the overlay.
pub(super) enum Seen {
    /// The transaction wrote it: the value, or its absence.
    Own(Option<Bytes>),
    /// The snapshot's value plus a number.
    Add(i64),
    /// The snapshot's value.
    Untouched,
}

/// The writes of one transaction in order, with an index over them for its own reads.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    ops: Vec<Op>,
    keys: BTreeMap<Bytes, Pending>,
    /// Disjoint cleared ranges, start to end. Keys written after the clearing stand in `keys`.
    cleared: BTreeMap<Bytes, Bytes>,
    /// Ranges in which keys set by versionstamp will lie.
    unreadable: Vec<Range<Bytes>>,
    bytes: usize,
    too_large: Option<String>,
}

impl Overlay {
    pub(super) fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The writes, or why they are more than the limits allow.
    pub(super) fn into_ops(self) -> Result<Vec<Op>, KvError> {
        if let Some(reason) = self.too_large {
            return Err(KvError::TooLarge(reason));
        }
        if self.bytes > MAX_TRANSACTION_BYTES {
            return Err(KvError::TooLarge(format!(
                "a transaction writes at most {MAX_TRANSACTION_BYTES} bytes, this one {}",
                self.bytes
            )));
        }
        Ok(self.ops)
    }

    pub(super) fn set(&mut self, key: Bytes, value: Bytes) {
        if self.fits(key.len(), value.len()) {
            self.note_set(&key, &value);
            self.ops.push(Op::Set(key, value));
        }
    }

    pub(super) fn set_unread(&mut self, key: Bytes, value: Bytes) {
        if self.fits(key.len(), value.len()) {
            self.note_set(&key, &value);
            self.ops.push(Op::SetUnread(key, value));
        }
    }

    fn note_set(&mut self, key: &Bytes, value: &Bytes) {
        let pending = match self.keys.get(key) {
            Some(Pending::Unreadable) => Pending::Unreadable,
            _ => Pending::Set(value.clone()),
        };
        self.keys.insert(key.clone(), pending);
    }

    pub(super) fn set_versionstamped_key(
        &mut self,
        prefix: Bytes,
        suffix: Bytes,
        value: Bytes,
        version: u64,
    ) {
        if self.fits(prefix.len() + 10 + suffix.len(), value.len()) {
            let first = stamped_key(&prefix, Versionstamp::new(version, 0), &suffix);
            let last = stamped_key(&prefix, Versionstamp([u8::MAX; 10]), &suffix);
            self.unreadable.push(first..key_after(&last));
            self.ops.push(Op::SetVersionstampedKey {
                prefix,
                suffix,
                value,
            });
        }
    }

    pub(super) fn set_versionstamped_value(&mut self, key: Bytes, rest: Bytes) {
        if self.fits(key.len(), 10 + rest.len()) {
            self.keys.insert(key.clone(), Pending::Unreadable);
            self.ops.push(Op::SetVersionstampedValue { key, rest });
        }
    }

    pub(super) fn add(&mut self, key: Bytes, delta: i64) {
        if self.fits(key.len(), 8) {
            let pending = match self.keys.get(&key) {
                Some(Pending::Unreadable) => Pending::Unreadable,
                Some(Pending::Set(value)) => Pending::Set(sum(Some(value), delta)),
                Some(Pending::Cleared) => Pending::Set(sum(None, delta)),
                Some(Pending::Add(before)) => Pending::Add(before.wrapping_add(delta)),
                None if self.is_cleared(&key) => Pending::Set(sum(None, delta)),
                None => Pending::Add(delta),
            };
            self.keys.insert(key.clone(), pending);
            self.ops.push(Op::Add(key, delta));
        }
    }

    pub(super) fn clear(&mut self, key: Bytes) {
        if self.fits(key.len(), 0) {
            self.keys.insert(key.clone(), Pending::Cleared);
            self.ops.push(Op::Clear(key));
        }
    }

    pub(super) fn clear_range(&mut self, range: Range<Bytes>) {
        if range.start >= range.end || !self.fits(range.start.len().max(range.end.len()), 0) {
            return;
        }
        let inside: Vec<Bytes> = self
            .keys
            .range(range.clone())
            .map(|(key, _)| key.clone())
            .collect();
        for key in inside {
            self.keys.remove(&key);
        }
        self.unreadable
            .retain(|held| !(range.start <= held.start && held.end <= range.end));
        let (mut start, mut end) = (range.start.clone(), range.end.clone());
        let touching: Vec<(Bytes, Bytes)> = self
            .cleared
            .range::<Bytes, _>((Bound::Unbounded, Bound::Included(&end)))
            .rev()
            .take_while(|(_, held_end)| **held_end >= start)
            .map(|(held_start, held_end)| (held_start.clone(), held_end.clone()))
            .collect();
        for (held_start, held_end) in touching {
            self.cleared.remove(&held_start);
            start = start.min(held_start);
            end = end.max(held_end);
        }
        self.cleared.insert(start, end);
        self.ops.push(Op::ClearRange(range));
    }

    /// What this transaction has done to `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Seen, KvError> {
        if self
            .unreadable
            .iter()
            .any(|range| &*range.start <= key && key < &*range.end)
        {
            return Err(KvError::Unreadable);
        }
        Ok(match self.keys.get(key) {
            Some(Pending::Set(value)) => Seen::Own(Some(value.clone())),
            Some(Pending::Cleared) => Seen::Own(None),
            Some(Pending::Add(delta)) => Seen::Add(*delta),
            Some(Pending::Unreadable) => return Err(KvError::Unreadable),
            None if self.is_cleared(key) => Seen::Own(None),
            None => Seen::Untouched,
        })
    }

    /// Reads `range` of the snapshot with this transaction's writes over it, until it has so many pairs, or bytes.
    pub(super) fn range(
        &self,
        base: &dyn Snapshot,
        range: &Range<Bytes>,
        [limit, max_bytes]: [usize; 2],
        reverse: bool,
    ) -> Result<Vec<Pair>, KvError> {
        let mut merge = Merge {
            overlay: self,
            found: Vec::new(),
            limit,
            bytes_left: max_bytes,
            failed: None,
        };
        if range.start >= range.end || limit == 0 {
            return Ok(merge.found);
        }
        if self
            .unreadable
            .iter()
            .any(|held| held.start < range.end && range.start < held.end)
        {
            return Err(KvError::Unreadable);
        }
        let mut own: Box<dyn Iterator<Item = (&Bytes, &Pending)>> = if reverse {
            Box::new(self.keys.range(range.clone()).rev())
        } else {
            Box::new(self.keys.range(range.clone()))
        };
        let mut next = own.next();
        base.scan(range, reverse, &mut |key, value| {
            background::breathe();
            while let Some((own_key, pending)) = next {
                let ahead = if reverse {
                    &**own_key > key
                } else {
                    &**own_key < key
                };
                if !ahead {
                    break;
                }
                merge.own(own_key, pending, None);
                next = own.next();
                if merge.is_full() {
                    return ControlFlow::Break(());
                }
            }
            match next {
                Some((own_key, pending)) if &**own_key == key => {
                    merge.own(own_key, pending, Some(value));
                    next = own.next();
                }
                _ => merge.base(key, value),
            }
            if merge.is_full() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        while let Some((own_key, pending)) = next {
            if merge.is_full() {
                break;
            }
            merge.own(own_key, pending, None);
            next = own.next();
        }
        match merge.failed {
            Some(error) => Err(error),
            None => Ok(merge.found),
        }
    }

    fn is_cleared(&self, key: &[u8]) -> bool {
        self.cleared
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back()
            .is_some_and(|(_, end)| key < &**end)
    }

    fn fits(&mut self, key_bytes: usize, value_bytes: usize) -> bool {
        self.bytes += key_bytes + value_bytes;
        if key_bytes > MAX_KEY_BYTES {
            self.too_large = Some(format!(
                "a key is at most {MAX_KEY_BYTES} bytes long, this one has {key_bytes}"
            ));
        } else if value_bytes > MAX_VALUE_BYTES {
            self.too_large = Some(format!(
                "a value is at most {MAX_VALUE_BYTES} bytes long, this one has {value_bytes}"
            ));
        } else if self.bytes <= MAX_TRANSACTION_BYTES {
            return true;
        }
        false
    }
}

/// The pairs of a range read as they are found.
struct Merge<'a> {
    overlay: &'a Overlay,
    found: Vec<Pair>,
    limit: usize,
    bytes_left: usize,
    failed: Option<KvError>,
}

impl Merge<'_> {
    fn is_full(&self) -> bool {
        self.failed.is_some() || self.found.len() >= self.limit || self.bytes_left == 0
    }

    fn push(&mut self, pair: Pair) {
        self.bytes_left = self.bytes_left.saturating_sub(pair_bytes(&pair));
        self.found.push(pair);
    }

    fn own(&mut self, key: &Bytes, pending: &Pending, base: Option<&[u8]>) {
        match pending {
            Pending::Set(value) => self.push((key.clone(), value.clone())),
            Pending::Cleared => {}
            Pending::Add(delta) => self.push((key.clone(), sum(base, *delta))),
            Pending::Unreadable => self.failed = Some(KvError::Unreadable),
        }
    }

    fn base(&mut self, key: &[u8], value: &[u8]) {
        if !self.overlay.is_cleared(key) {
            self.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        }
    }
}

/// The key `prefix ++ stamp ++ suffix`.
pub(super) fn stamped_key(prefix: &[u8], stamp: Versionstamp, suffix: &[u8]) -> Bytes {
    Bytes::from([prefix, &stamp.0, suffix].concat())
}

/// The little-endian number in `value` plus `delta`.
pub(super) fn sum(value: Option<&[u8]>, delta: i64) -> Bytes {
    let mut held = [0; 8];
    if let Some(value) = value {
        for (to, from) in held.iter_mut().zip(value) {
            *to = *from;
        }
    }
    Bytes::copy_from_slice(&i64::from_le_bytes(held).wrapping_add(delta).to_le_bytes())
}
