//! Bounded retries, and markers that make a commit of unknown outcome safe to try again.
//!
//! Every operation that must not happen twice holds a marker: a key of this process that it reads and sets in its
//! transaction. After an unknown outcome the next attempt finds the marker set (it was committed: answer what it
//! says) or not. As each attempt reads and writes the marker, an attempt that commits late makes the other one
//! conflict: at most one can ever be stored. Markers are reused, so there are only as many as ever ran at a time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::StoreError;
use crate::codec::Reader;
use crate::id::Revision;
use crate::keys;
use crate::kv::{Isolation, Transaction, Versionstamp};

/// How often one operation is tried.
const MAX_ATTEMPTS: u32 = 24;
const FIRST_PAUSE_MICROS: u64 = 500;
const LONGEST_PAUSE_MICROS: u64 = 100_000;

/// Counts the attempts of one operation.
#[derive(Debug, Default)]
pub(super) struct Retry {
    attempts: u32,
    unknown: bool,
}

impl Retry {
    /// Whether an earlier attempt may have been committed.
    pub(super) fn may_be_done(&self) -> bool {
        self.unknown
    }

    /// Waits before the next attempt, or answers why there is none.
    pub(super) async fn pause(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.attempts += 1;
        self.unknown |= error == StoreError::OutcomeUnknown;
        let again = matches!(
            error,
            StoreError::Contended | StoreError::SnapshotTooOld | StoreError::OutcomeUnknown
        );
        if again && self.attempts < MAX_ATTEMPTS {
            let longest = (FIRST_PAUSE_MICROS << self.attempts.min(16)).min(LONGEST_PAUSE_MICROS);
            let jitter = Uuid::new_v4().as_u64_pair().1 % longest;
            tokio::time::sleep(Duration::from_micros(longest / 2 + jitter / 2)).await;
            return Ok(());
        }
        Err(match error {
            // Nothing has shown that the attempt of unknown outcome came to nothing.
            StoreError::Unavailable(_) | StoreError::Damaged(_) if self.unknown => StoreError::OutcomeUnknown,
            _ if again && self.unknown => StoreError::OutcomeUnknown,
            StoreError::SnapshotTooOld => StoreError::Contended,
            other => other,
        })
    }
}

/// The markers of this process.
#[derive(Debug)]
pub(super) struct Markers {
    process: Uuid,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    free: Vec<u32>,
    next: u32,
}

/// The marker of one operation; given back when dropped.
#[derive(Debug)]
pub(super) struct Marker<'a> {
    markers: &'a Markers,
    slot: u32,
    key: Vec<u8>,
    operation: Uuid,
}

impl Markers {
    pub(super) fn new() -> Self {
        Self {
            process: Uuid::now_v7(),
            slots: Mutex::default(),
        }
    }

    /// What tells this process from others.
    pub(super) fn process(&self) -> Uuid {
        self.process
    }

    /// A marker for a new operation.
    pub(super) fn take(&self) -> Marker<'_> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.next += 1;
            slots.next
        });
        Marker {
            markers: self,
            slot,
            key: keys::marker(self.process, slot),
            operation: Uuid::new_v4(),
        }
    }
}

impl Marker<'_> {
    /// What an earlier attempt of this operation committed, if one did.
    pub(super) async fn outcome(
        &self,
        transaction: &dyn Transaction,
    ) -> Result<Option<(Revision, Bytes)>, StoreError> {
        let Some(value) = transaction.get(&self.key, Isolation::Serializable).await? else {
            return Ok(None);
        };
        let damaged = || StoreError::unreadable("marker");
        let (stamp, rest) = Versionstamp::split_from(&value).ok_or_else(damaged)?;
        let mut reader = Reader(rest);
        let operation = Uuid::from_bytes(reader.array().ok_or_else(damaged)?);
        Ok((operation == self.operation).then(|| (Revision(stamp), value.slice_ref(reader.0))))
    }

    /// Sets the marker, with what a later attempt is to answer, in the transaction that does the work.
    pub(super) fn set(&self, transaction: &mut dyn Transaction, answer: &[u8]) {
        let rest = [self.operation.as_bytes().as_slice(), answer].concat();
        transaction.set_versionstamped_value(&self.key, &rest);
    }
}

impl Drop for Marker<'_> {
    fn drop(&mut self) {
        self.markers
            .slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .free
            .push(self.slot);
    }
}
