//! The merge of what was handed in with what a vault holds, at any size, while others write to it.
//!
//! Both are read side by side in the order of their keys, and what comes of them is stored in a generation of its own.
//! Now and then the changes that were made meanwhile are taken over: those to keys that have been passed are made in the new
//! generation too, the others are met as the reading goes on, from a newer snapshot. So what has been passed is always the merge with
//! the vault as it is, and neither memory nor the kept history bounds the time it takes. At the end writers are held off for a
//! moment, so that the last changes can be taken over and the switch made, however busily they write.

use std::iter::Peekable;

use bytes::Bytes;
use inferadb_engine::noun::{RelationshipKey, Timestamp};
use uuid::Uuid;

use super::change::{Changed, Record, RecordKind, read_records};
use super::filter::whole;
use super::past::{
    PASS_BYTES, PASS_RECORDS, Row, decode_key, decode_terms, read_rows, rows_at_once, segments,
};
use super::retry::Retry;
use super::shape::shape_of;
use super::staging::{Staged, Staging};
use super::switch::{Basis, Switch};
use super::vaults::require_vault;
use super::{Breath, FitCheck, Snapshot, StoreError, VALUES_AT_ONCE};
use crate::codec::StoredTerms;
use crate::id::Revision;
use crate::keys::{self, Keyspace, Order};
use crate::kv::Isolation;

/// How many pages are read before the changes made meanwhile are taken over.
const PAGES_BETWEEN: usize = 32;
/// How often the latest changes are taken over before writers are held off, while they are more than [`FEW_CHANGES`] and
/// become fewer.
const MAX_APPROACHES: usize = 10;
const FEW_CHANGES: usize = 500;
/// How often they are held off before it is given up.
const MAX_HOLDS: usize = 5;

/// What was handed in has been merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// The new state.
    pub revision: Revision,
    /// How many relationships were handed in that were not there before. Expired ones were not there.
    pub created: u64,
    /// How many had another caveat or expiry before.
    pub updated: u64,
    /// How many were there already, just so.
    pub unchanged: u64,
    /// Whether the vault has another schema now.
    pub schema_changed: bool,
}

/// A merge under way.
struct Merge<'a> {
    staging: &'a mut Staging,
    /// What is merged with.
    base: Keyspace,
    /// Judges what stays of what is stored by another schema, if there is to be one.
    fit: Option<&'a FitCheck<'a>>,
    snapshot: Snapshot,
    /// Up to here all changes have been taken over.
    through: Revision,
    passed: Passed,
    tally: Tally,
    now: Timestamp,
}

/// Which keys have been merged.
enum Passed {
    None,
    /// Those up to this one.
    To(Vec<u8>),
    All,
}

/// What came of the relationships that were handed in and have been passed.
#[derive(Debug, Default)]
struct Tally {
    created: i64,
    updated: i64,
    unchanged: i64,
}

impl Staging {
    /// Merges what was handed in with what the vault holds, and switches over: what was handed in counts where both have a
    /// relationship. If another schema comes with it, `fit` judges what stays of what the vault holds by it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Misfits`] if what stays does not fit the schema; [`StoreError::TooLarge`] if both together have more than
    /// [`MAX_SHAPES`](super::MAX_SHAPES) kinds of relationships; [`StoreError::SchemaMoved`] and
    /// [`StoreError::Replaced`] if schema or state were replaced meanwhile; [`StoreError::HistoryGone`] if fewer changes are kept than are made in the
    /// time that some pages take; [`StoreError::ImportGone`], [`StoreError::VaultNotFound`], [`StoreError::VaultArchived`].
    pub async fn merge(mut self, switch: &Switch, fit: Option<&FitCheck<'_>>) -> Result<Merged, StoreError> {
        let snapshot = self.store.snapshot(self.space.vault).await?;
        let merge = Merge {
            base: snapshot.vault().space(),
            through: snapshot.revision(),
            snapshot,
            staging: &mut self,
            fit,
            passed: Passed::None,
            tally: Tally::default(),
            now: switch.now,
        };
        merge.run(switch).await
    }
}

impl Merge<'_> {
    async fn run(mut self, switch: &Switch) -> Result<Merged, StoreError> {
        let mut pages = 0;
        let mut retry = Retry::default();
        while !matches!(self.passed, Passed::All) {
            match self.copy_page().await {
                Ok(()) => {
                    pages += 1;
                    retry = Retry::default();
                }
                Err(error @ StoreError::SnapshotTooOld) => {
                    retry.pause(error).await?;
                    pages = PAGES_BETWEEN;
                }
                Err(error) => return Err(error),
            }
            if pages >= PAGES_BETWEEN {
                self.follow().await?;
                pages = 0;
            }
            tokio::task::yield_now().await;
        }
        for _ in 0..MAX_HOLDS {
            let mut left = usize::MAX;
            for _ in 0..MAX_APPROACHES {
                let followed = self.follow().await?;
                // Where others write as fast as this follows, it comes no nearer.
                if followed <= FEW_CHANGES || followed > left / 2 {
                    break;
                }
                left = followed;
            }
            self.hold_writers().await?;
            self.follow().await?;
            self.staging.write_counts().await?;
            let basis = Basis::State(self.base, self.through);
            if let Some(switched) = self.staging.switch_over(switch, basis).await? {
                let count = |count| u64::try_from(count).unwrap_or_default();
                return Ok(Merged {
                    revision: switched.revision,
                    created: count(self.tally.created),
                    updated: count(self.tally.updated),
                    unchanged: count(self.tally.unchanged),
                    schema_changed: switched.schema_changed,
                });
            }
        }
        Err(StoreError::Contended)
    }

    /// Merges the next keys.
    async fn copy_page(&mut self) -> Result<(), StoreError> {
        let after = match &self.passed {
            Passed::None => None,
            Passed::To(key) => Some(key.as_slice()),
            Passed::All => return Ok(()),
        };
        let at_once = rows_at_once(&self.staging.store);
        let transaction = self.snapshot.transaction();
        let stored = keys::relationships(self.base, Order::Forward);
        let stored = read_rows(transaction, &stored, after, at_once).await?;
        let input = keys::input(self.staging.space);
        let input = read_rows(transaction, &input, after, at_once).await?;
        // Up to where both are known.
        let end = [stored.end, input.end].into_iter().flatten().min();
        let is_known = |(key, _): &Row| end.as_ref().is_none_or(|end| key <= end);
        let mut stored = stored.rows.into_iter().take_while(is_known).peekable();
        let mut input = input.rows.into_iter().take_while(is_known).peekable();
        let mut staged = Vec::new();
        let mut breath = Breath::default();
        while let Some(Sides { key, held, input }) = next_of(&mut stored, &mut input) {
            let bytes = |terms: &Option<Bytes>| terms.as_ref().map_or(0, Bytes::len);
            breath.after(bytes(&held) + bytes(&input)).await;
            let key = decode_key(&key)?;
            let held = held.map(|terms| decode_terms(&terms)).transpose()?;
            let terms = match (input, held) {
                (Some(input), held) => {
                    let terms = decode_terms(&input)?;
                    *self.tally.of(held.as_ref(), &terms, self.now) += 1;
                    terms
                }
                (None, Some(held)) => {
                    self.judge(&key, &held)?;
                    held
                }
                (None, None) => continue,
            };
            self.staging.counts.stored(&key, &terms)?;
            staged.push(Staged::Put(key, terms.encode()?.into()));
        }
        self.staging.write(staged).await?;
        self.passed = end.map_or(Passed::All, Passed::To);
        Ok(())
    }

    /// Takes over what has been changed up to now, and goes on from a snapshot of now. Answers how many relationships were
    /// changed.
    async fn follow(&mut self) -> Result<usize, StoreError> {
        let store = self.staging.store.clone();
        let mut followed = 0;
        let mut retry = Retry::default();
        loop {
            let snapshot = store.snapshot(self.staging.space.vault).await?;
            if snapshot.vault().space() != self.base {
                return Err(StoreError::Replaced);
            }
            let before = self.through;
            match self.follow_in(&snapshot, &mut followed).await {
                // What was taken over stays so: the rest is less.
                Err(StoreError::SnapshotTooOld) if self.through > before => retry = Retry::default(),
                Err(error @ StoreError::SnapshotTooOld) => retry.pause(error).await?,
                Err(error) => return Err(error),
                Ok(()) => {
                    self.snapshot = snapshot;
                    return Ok(followed);
                }
            }
        }
    }

    async fn follow_in(&mut self, snapshot: &Snapshot, followed: &mut usize) -> Result<(), StoreError> {
        let vault = self.staging.space.vault;
        while self.through < snapshot.revision() {
            let transaction = snapshot.transaction();
            let records = read_records(transaction, vault, self.through, PASS_RECORDS, PASS_BYTES).await?;
            let Some(last) = records.last().map(|record| record.revision) else {
                self.through = snapshot.revision();
                break;
            };
            let changes = self.passed_changes(records).await;
            *followed += changes.len();
            self.take_over(changes).await?;
            self.through = last;
        }
        Ok(())
    }

    /// What was changed of what has been passed: the rest is yet to be met.
    async fn passed_changes(&self, records: Vec<Record>) -> Vec<(Vec<u8>, Changed)> {
        let changes = records.into_iter().flat_map(|record| match record.kind {
            RecordKind::Relationships(changes) => changes,
            // Another schema is found out about at the switch.
            RecordKind::Schema(_) | RecordKind::Settings => Vec::new(),
        });
        let (mut passed, mut breath) = (Vec::new(), Breath::default());
        for changed in changes {
            breath.after(0).await;
            let key = segments(&changed.key);
            let is_passed = match &self.passed {
                Passed::None => false,
                Passed::To(last) => key <= *last,
                Passed::All => true,
            };
            if is_passed {
                passed.push((key, changed));
            }
        }
        passed
    }

    /// Makes changes in the new generation too. What was handed in for them does not change and is read from no snapshot that could
    /// become too old: so nothing is counted twice.
    async fn take_over(&mut self, changes: Vec<(Vec<u8>, Changed)>) -> Result<(), StoreError> {
        let prefix = keys::input(self.staging.space);
        let mut staged = Vec::with_capacity(changes.len());
        let mut breath = Breath::default();
        let mut changes = changes.into_iter();
        loop {
            let some: Vec<(Vec<u8>, Changed)> = changes.by_ref().take(VALUES_AT_ONCE).collect();
            if some.is_empty() {
                break;
            }
            let keys: Vec<&Vec<u8>> = some.iter().map(|(key, _)| key).collect();
            let inputs = self.staging.values(&prefix, &keys).await?;
            for ((_, changed), input) in some.into_iter().zip(inputs) {
                breath.after(input.as_ref().map_or(0, Bytes::len)).await;
                staged.extend(self.overtake(changed, input)?);
            }
        }
        self.staging.write(staged).await
    }

    /// What a change comes to in the new generation, where `input` was handed in for its key.
    fn overtake(&mut self, changed: Changed, input: Option<Bytes>) -> Result<Option<Staged>, StoreError> {
        let Changed {
            key, before, after, ..
        } = changed;
        if let Some(input) = input {
            // What was handed in counts anyway; whether it will have been there is another matter now.
            let terms = decode_terms(&input)?;
            *self.tally.of(before.as_ref(), &terms, self.now) -= 1;
            *self.tally.of(after.as_ref(), &terms, self.now) += 1;
            return Ok(None);
        }
        if let Some(before) = &before {
            self.staging.counts.removed(&key, before);
        }
        let Some(after) = after else {
            return Ok(Some(Staged::Remove(key)));
        };
        self.judge(&key, &after)?;
        self.staging.counts.stored(&key, &after)?;
        Ok(Some(Staged::Put(key, after.encode()?.into())))
    }

    fn judge(&self, key: &RelationshipKey, terms: &StoredTerms) -> Result<(), StoreError> {
        match self.fit {
            Some(fit) if !fit.relationship(&whole((key.clone(), terms.clone()))) => {
                Err(StoreError::Misfits {
                    shapes: vec![shape_of(key, terms)],
                    examples: vec![key.clone()],
                })
            }
            _ => Ok(()),
        }
    }

    /// Has writers wait for a moment. Whoever is about to commit conflicts with this, tries again, and finds out.
    async fn hold_writers(&self) -> Result<(), StoreError> {
        // Each is another one: those who wait see that it is not the one that they wait for.
        let hold = Uuid::new_v4();
        let mut retry = Retry::default();
        while let Err(error) = self.try_hold_writers(hold).await {
            retry.pause(error).await?;
        }
        Ok(())
    }

    async fn try_hold_writers(&self, hold: Uuid) -> Result<(), StoreError> {
        let mut transaction = self.staging.store.engine().begin().await?;
        let vault = self.staging.space.vault;
        let mut record = require_vault(&*transaction, vault, Isolation::Serializable).await?;
        if record.space() != self.base {
            return Err(StoreError::Replaced);
        }
        record.hold = Some(hold);
        record.put_silently(&mut *transaction)?;
        transaction.commit().await?;
        Ok(())
    }
}

/// What is there of one key: what the vault holds, and what was handed in.
struct Sides {
    key: Vec<u8>,
    held: Option<Bytes>,
    input: Option<Bytes>,
}

/// The next key of two sides that are in the order of keys.
fn next_of(
    stored: &mut Peekable<impl Iterator<Item = Row>>,
    input: &mut Peekable<impl Iterator<Item = Row>>,
) -> Option<Sides> {
    let key = match (stored.peek(), input.peek()) {
        (Some((held, _)), Some((handed_in, _))) => held.min(handed_in),
        (Some((key, _)), None) | (None, Some((key, _))) => key,
        (None, None) => return None,
    };
    let key = key.clone();
    let held = stored.next_if(|(held, _)| *held == key);
    let input = input.next_if(|(handed_in, _)| *handed_in == key);
    Some(Sides {
        held: held.map(|(_, terms)| terms),
        input: input.map(|(_, terms)| terms),
        key,
    })
}

impl Tally {
    /// Where a relationship counts that was handed in with these terms, and was held with those.
    fn of(&mut self, held: Option<&StoredTerms>, terms: &StoredTerms, now: Timestamp) -> &mut i64 {
        match held {
            Some(held) if held == terms => &mut self.unchanged,
            Some(held) if !held.is_expired(now) => &mut self.updated,
            _ => &mut self.created,
        }
    }
}
