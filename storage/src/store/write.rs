//! Writes: relationships created, touched and deleted in one atomic, serialisable transaction.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::future::{try_join_all, try_join3};
use inferadb_engine::noun::{Relationship, RelationshipKey, Timestamp};

use super::change::{Appended, ChangeOp, Changed, LoggedChanges, append};
use super::filter::{MAX_SCANNED, SCAN_BYTES, Scan, stored_bytes};
use super::retry::{Marker, Retry};
use super::schema::read_schema_header;
use super::shape::ShapeDeltas;
use super::snapshot::require_head;
use super::vaults::require_vault;
use super::{Breath, RelationshipFilter, Store, StoreError, VALUES_AT_ONCE};
use crate::background;
use crate::codec::StoredTerms;
use crate::id::{Revision, VaultId};
use crate::keys::{self, Keyspace, Order};
use crate::kv::{Isolation, Transaction};

/// What must hold for a write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// Whether a relationship that matches must exist, or must not. Expired ones do not exist.
    pub must_exist: bool,
    /// Which.
    pub filter: RelationshipFilter,
}

/// A write, validated against the vault's schema.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Stored, whether they exist or not.
    pub touch: Vec<Relationship>,
    /// Stored; they must not exist. An expired one does not.
    pub create: Vec<Relationship>,
    /// Removed, if they exist.
    pub delete: Vec<RelationshipKey>,
    /// What must hold before.
    pub preconditions: Vec<Precondition>,
    /// The revision of the schema that the write was validated against; `None` if the vault had none. It is not looked
    /// at if the write only deletes.
    pub schema_revision: Option<Revision>,
    /// The time.
    pub now: Timestamp,
}

/// A write has been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The state with the write in it. If nothing changed, the state it was found to change nothing in.
    pub revision: Revision,
    /// How many relationships were not there before.
    pub created: usize,
    /// How many had another caveat or expiry before.
    pub updated: usize,
    /// How many are no longer there.
    pub deleted: usize,
}

/// What one change of a write comes to.
struct Planned {
    key: RelationshipKey,
    /// `None` deletes.
    terms: Option<StoredTerms>,
    create: bool,
}

impl Store {
    /// Does a write.
    ///
    /// # Errors
    ///
    /// [`StoreError::AlreadyExists`], [`StoreError::PreconditionFailed`], [`StoreError::SchemaMoved`] (validate again),
    /// [`StoreError::VaultNotFound`], [`StoreError::Duplicate`], [`StoreError::TooLarge`] for more than 9 MB of keys and
    /// values in all, [`StoreError::FilterTooBroad`].
    pub async fn write(&self, vault: VaultId, write: &Write) -> Result<Written, StoreError> {
        let planned = plan(write)?;
        let marker = self.markers().take();
        let mut retry = Retry::default();
        loop {
            match self.try_write(vault, write, &planned, &marker).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_write(
        &self,
        vault: VaultId,
        write: &Write,
        planned: &[Planned],
        marker: &Marker<'_>,
    ) -> Result<Written, StoreError> {
        let mut transaction = self.engine().begin().await?;
        let (done, record, schema) = try_join3(
            marker.outcome(&*transaction),
            require_vault(&*transaction, vault, Isolation::Serializable),
            read_schema_header(&*transaction, vault, Isolation::Serializable),
        )
        .await?;
        if let Some((revision, answer)) = done {
            return decode_answer(revision, &answer);
        }
        self.admit_writer(&mut *transaction, &record)?;
        let space = record.space();
        let stores = planned.iter().any(|change| change.terms.is_some());
        if stores && schema.map(|(revision, ..)| revision) != write.schema_revision {
            return Err(StoreError::SchemaMoved);
        }
        check_preconditions(&*transaction, space, &write.preconditions, write.now).await?;
        let (mut effect, mut breath) = (Effect::default(), Breath::default());
        for some in planned.chunks(VALUES_AT_ONCE) {
            let reads = some
                .iter()
                .map(|change| read_terms(&*transaction, space, &change.key));
            let held = try_join_all(reads).await?;
            for (change, held) in some.iter().zip(held) {
                let logged = effect.changes.bytes();
                effect.apply(&mut *transaction, space, change, held, write.now)?;
                breath.after(effect.changes.bytes() - logged).await;
            }
        }
        if effect.changes.is_empty() {
            let revision = require_head(&*transaction, vault).await?.revision;
            return Ok(Written {
                revision,
                created: 0,
                updated: 0,
                deleted: 0,
            });
        }
        effect.shapes.apply(&mut *transaction, space).await?;
        append(
            &mut *transaction,
            vault,
            write.now,
            Appended::Relationships(&effect.changes),
        )?;
        let counts = [effect.created, effect.updated, effect.deleted];
        marker.set(&mut *transaction, &encode_answer(counts));
        let revision = Revision(transaction.commit().await?);
        let [created, updated, deleted] = counts;
        Ok(Written {
            revision,
            created,
            updated,
            deleted,
        })
    }
}

/// What a write does to what is stored.
#[derive(Default)]
struct Effect {
    changes: LoggedChanges,
    shapes: ShapeDeltas,
    created: usize,
    updated: usize,
    deleted: usize,
}

impl Effect {
    fn apply(
        &mut self,
        transaction: &mut dyn Transaction,
        space: Keyspace,
        change: &Planned,
        held: Option<StoredTerms>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let lives = held.as_ref().is_some_and(|held| !held.is_expired(now));
        match (&change.terms, &held) {
            (Some(_), Some(_)) if change.create && lives => {
                return Err(StoreError::AlreadyExists {
                    key: Box::new(change.key.clone()),
                });
            }
            (Some(terms), Some(held)) if terms == held => return Ok(()),
            (None, None) => return Ok(()),
            _ => {}
        }
        if let Some(held) = &held {
            self.shapes.removed(&change.key, held);
        }
        // To the log, as to the counters, what has expired is still stored.
        let op = match (&change.terms, &held) {
            (Some(_), None) => ChangeOp::Created,
            (Some(_), Some(_)) => ChangeOp::Updated,
            (None, _) => ChangeOp::Deleted,
        };
        match &change.terms {
            Some(terms) => {
                put(transaction, space, &change.key, &terms.encode()?);
                self.shapes.stored(&change.key, terms);
            }
            None => remove(transaction, space, &change.key),
        }
        // To the caller, what has expired had not been there.
        match (op, lives) {
            (ChangeOp::Created, _) | (ChangeOp::Updated, false) => self.created += 1,
            (ChangeOp::Updated, true) => self.updated += 1,
            (ChangeOp::Deleted, lives) => self.deleted += usize::from(lives),
        }
        self.changes.push(&Changed {
            op,
            key: change.key.clone(),
            before: held,
            after: change.terms.clone(),
        })
    }
}

/// Removes a relationship from both orders.
pub(super) fn remove(transaction: &mut dyn Transaction, space: Keyspace, key: &RelationshipKey) {
    transaction.clear(&keys::relationship(space, Order::Forward, key));
    transaction.clear(&keys::relationship(space, Order::Reverse, key));
}

/// Checks `preconditions`, such that the commit conflicts if they no longer hold.
pub(super) async fn check_preconditions(
    transaction: &dyn Transaction,
    space: Keyspace,
    preconditions: &[Precondition],
    now: Timestamp,
) -> Result<(), StoreError> {
    for (index, precondition) in preconditions.iter().enumerate() {
        let filter = &precondition.filter;
        let isolation = Isolation::Serializable;
        let scan = Scan {
            space,
            filter,
            after: None,
            limit: 1,
            max_bytes: SCAN_BYTES,
            weigh: stored_bytes,
            isolation,
            live_at: Some(now),
        };
        let scanned = scan.run(transaction).await?;
        if scanned.found.is_empty() && scanned.next.is_some() {
            return Err(StoreError::FilterTooBroad {
                index,
                limit: MAX_SCANNED,
            });
        }
        if scanned.found.is_empty() == precondition.must_exist {
            return Err(StoreError::PreconditionFailed { index });
        }
    }
    Ok(())
}

fn plan(write: &Write) -> Result<Vec<Planned>, StoreError> {
    let stored = |relationship: &Relationship, create| {
        background::breathe();
        let terms = Some(StoredTerms::from(relationship));
        Planned {
            key: relationship.key(),
            terms,
            create,
        }
    };
    let removed = |key: &RelationshipKey| {
        background::breathe();
        Planned {
            key: key.clone(),
            terms: None,
            create: false,
        }
    };
    let touch = write.touch.iter().map(|relationship| stored(relationship, false));
    let create = write.create.iter().map(|relationship| stored(relationship, true));
    let planned: Vec<_> = touch
        .chain(create)
        .chain(write.delete.iter().map(removed))
        .collect();
    let mut seen = HashSet::with_capacity(planned.len());
    let twice = planned.iter().find(|change| {
        background::breathe();
        !seen.insert(&change.key)
    });
    match twice {
        Some(twice) => Err(StoreError::Duplicate {
            key: Box::new(twice.key.clone()),
        }),
        None => Ok(planned),
    }
}

pub(super) async fn read_terms(
    transaction: &dyn Transaction,
    space: Keyspace,
    key: &RelationshipKey,
) -> Result<Option<StoredTerms>, StoreError> {
    let key = keys::relationship(space, Order::Forward, key);
    match transaction.get(&key, Isolation::Serializable).await? {
        Some(value) => StoredTerms::decode(&value)
            .map(Some)
            .ok_or_else(|| StoreError::unreadable("relationship's terms")),
        None => Ok(None),
    }
}

fn put(transaction: &mut dyn Transaction, space: Keyspace, key: &RelationshipKey, terms: &[u8]) {
    transaction.set(&keys::relationship(space, Order::Forward, key), terms);
    transaction.set(&keys::relationship(space, Order::Reverse, key), terms);
}

/// What a marker says of a write: three counts of 4 bytes.
pub(super) fn encode_answer(counts: [usize; 3]) -> Vec<u8> {
    counts
        .iter()
        .flat_map(|count| (*count as u32).to_be_bytes())
        .collect()
}

pub(super) fn decode_answer(revision: Revision, answer: &Bytes) -> Result<Written, StoreError> {
    let mut counts = answer
        .chunks_exact(4)
        .filter_map(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)));
    match (counts.next(), counts.next(), counts.next()) {
        (Some(created), Some(updated), Some(deleted)) => Ok(Written {
            revision,
            created: created as usize,
            updated: updated as usize,
            deleted: deleted as usize,
        }),
        _ => Err(StoreError::unreadable("marker")),
    }
}
