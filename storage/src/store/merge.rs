//! The merge of what was handed in with what a vault holds, at any size, while others write to it.
//!
//! Both are read side by side in the order of their keys, and what comes of them is stored in a generation of its own.
//! Now and then the changes that were made meanwhile are taken over: those to keys that have been passed are made in the new
//! generation too, the others are met as the reading goes on, from a newer snapshot. So what has been passed is always the merge with
//! the vault as it is, and neither memory nor the kept history bounds the time it takes. At the end writers are held off for a
//! moment, so that the last changes can be taken over and the switch made, however busily they write.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::future::try_join_all;
use inferadb_engine::noun::{RelationshipKey, Timestamp};
use uuid::Uuid;

use super::change::{Changed, Record, RecordKind, read_records};
use super::filter::whole;
use super::past::{PASS_BYTES, PASS_RECORDS, decode_key, decode_terms, read_rows, segments};
use super::retry::Retry;
use super::shape::shape_of;
use super::staging::{Staged, Staging};
use super::switch::{Basis, Switch};
use super::vaults::require_vault;
use super::{FitCheck, Snapshot, StoreError, breathe};
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
    /// Judges what is stored by another schema, if there is to be one.
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
    /// relationship. If another schema comes with it, `fit` judges what the vault holds by it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Misfits`] if what the vault holds does not fit the schema; [`StoreError::SchemaMoved`] and
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
        if let Some(fit) = self.fit {
            self.judge_shapes(fit).await?;
        }
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

    /// Refuses early what can be seen to not fit.
    async fn judge_shapes(&self, fit: &FitCheck<'_>) -> Result<(), StoreError> {
        let shapes = self.snapshot.shapes().await?;
        let Err(misfits) = fit.shapes(&shapes) else {
            return Ok(());
        };
        let examples = super::schema::examples(self.snapshot.transaction(), self.base, &misfits).await?;
        Err(StoreError::Misfits {
            shapes: misfits,
            examples,
        })
    }

    /// Merges the next keys.
    async fn copy_page(&mut self) -> Result<(), StoreError> {
        let after = match &self.passed {
            Passed::None => None,
            Passed::To(key) => Some(key.as_slice()),
            Passed::All => return Ok(()),
        };
        let transaction = self.snapshot.transaction();
        let stored = keys::relationships(self.base, Order::Forward);
        let stored = read_rows(transaction, &stored, after).await?;
        let input = keys::input(self.staging.space);
        let input = read_rows(transaction, &input, after).await?;
        // Up to where both are known.
        let end = [stored.end, input.end].into_iter().flatten().min();
        let mut sides: BTreeMap<Vec<u8>, (Option<Bytes>, Option<Bytes>)> = BTreeMap::new();
        let is_known = |key: &Vec<u8>| end.as_ref().is_none_or(|end| key <= end);
        for (key, terms) in stored.rows.into_iter().filter(|(key, _)| is_known(key)) {
            sides.entry(key).or_default().0 = Some(terms);
        }
        for (key, terms) in input.rows.into_iter().filter(|(key, _)| is_known(key)) {
            sides.entry(key).or_default().1 = Some(terms);
        }
        let mut staged = Vec::with_capacity(sides.len());
        for (at, (key, (held, input))) in sides.into_iter().enumerate() {
            breathe(at).await;
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
            self.staging.counts.stored(&key, &terms);
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
            let changes = self.passed_changes(records);
            *followed += changes.len();
            self.take_over(snapshot, changes).await?;
            self.through = last;
        }
        Ok(())
    }

    /// What was changed of what has been passed: the rest is yet to be met.
    fn passed_changes(&self, records: Vec<Record>) -> Vec<(Vec<u8>, Changed)> {
        let changes = records.into_iter().flat_map(|record| match record.kind {
            RecordKind::Relationships(changes) => changes,
            // Another schema is found out about at the switch.
            RecordKind::Schema(_) | RecordKind::Settings => Vec::new(),
        });
        changes
            .map(|changed| (segments(&changed.key), changed))
            .filter(|(key, _)| match &self.passed {
                Passed::None => false,
                Passed::To(last) => key <= last,
                Passed::All => true,
            })
            .collect()
    }

    async fn take_over(
        &mut self,
        snapshot: &Snapshot,
        changes: Vec<(Vec<u8>, Changed)>,
    ) -> Result<(), StoreError> {
        let prefix = keys::input(self.staging.space);
        let read = async |(key, _): &(Vec<u8>, Changed)| {
            let whole = [&prefix, key.as_slice()].concat();
            snapshot.transaction().get(&whole, Isolation::Snapshot).await
        };
        let inputs = try_join_all(changes.iter().map(read)).await?;
        let mut staged = Vec::with_capacity(changes.len());
        // Only what cannot fail any more is counted: a snapshot that has become too old makes this start again.
        for ((_, changed), input) in changes.into_iter().zip(inputs) {
            let Changed {
                key, before, after, ..
            } = changed;
            if let Some(input) = input {
                // What was handed in counts anyway; whether it will have been there is another matter now.
                let terms = decode_terms(&input)?;
                *self.tally.of(before.as_ref(), &terms, self.now) -= 1;
                *self.tally.of(after.as_ref(), &terms, self.now) += 1;
                continue;
            }
            if let Some(before) = &before {
                self.staging.counts.removed(&key, before);
            }
            staged.push(match after {
                None => Staged::Remove(key),
                Some(after) => {
                    self.judge(&key, &after)?;
                    self.staging.counts.stored(&key, &after);
                    Staged::Put(key, after.encode()?.into())
                }
            });
        }
        self.staging.write(staged).await
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
