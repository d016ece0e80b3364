//! The hold: for the moment in which a merge takes over the last changes and switches, those who write to the vault wait.
//!
//! It is a random number in the vault's record. Each server that meets it lets writers pass [`HOLD`] later by its own clock, so that one whose
//! importer has died ends too; the first to pass takes it away.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::unmoved::Unmoved;
use super::vaults::VaultRecord;
use super::{Store, StoreError};
use crate::id::VaultId;
use crate::kv::Transaction;

/// For how long writers wait for one hold. They try again for longer than that.
const HOLD: Duration = Duration::from_secs(1);
/// How long one that nobody meets any more is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The holds that this process has met.
#[derive(Debug)]
pub(super) struct Holds(Mutex<Unmoved<VaultId, Uuid>>);

impl Default for Holds {
    fn default() -> Self {
        Self(Mutex::new(Unmoved::new(REMEMBERED)))
    }
}

impl Holds {
    fn is_over(&self, vault: VaultId, hold: Uuid, now: Instant) -> bool {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        met.age(vault, hold, now) >= HOLD
    }
}

impl Store {
    /// Refuses writers of an archived vault, which may have been archived after they were let in; and others, who try again,
    /// while an import switches over. The record is to be of this transaction.
    pub(super) fn admit_writer(
        &self,
        transaction: &mut dyn Transaction,
        record: &VaultRecord,
    ) -> Result<(), StoreError> {
        if record.archived {
            return Err(StoreError::VaultArchived);
        }
        let Some(hold) = record.hold else {
            return Ok(());
        };
        if !self.inner.holds.is_over(record.id, hold, Instant::now()) {
            return Err(StoreError::Contended);
        }
        let free = VaultRecord {
            hold: None,
            ..record.clone()
        };
        free.put_silently(transaction)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef, Timestamp};

    use super::super::Write;
    use super::*;
    use crate::engine::MemoryEngine;

    #[tokio::test]
    async fn the_hold_of_a_merge_that_died_ends_for_writers_and_they_take_it_away() {
        let store = Store::with_engine(Arc::new(MemoryEngine::new().unwrap()))
            .await
            .unwrap();
        let account = store.create_account("a", Timestamp(1)).await.unwrap().id;
        let vault = store.create_vault(account, "v", Timestamp(1)).await.unwrap();
        let held = VaultRecord {
            hold: Some(Uuid::new_v4()),
            ..vault.clone()
        };
        let mut transaction = store.engine().begin().await.unwrap();
        held.put_silently(&mut *transaction).unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(store.vault(vault.id).await.unwrap().as_ref(), Some(&held));
        let begun = Instant::now();
        let write = Write {
            touch: vec![Relationship {
                resource: ObjectRef::parse("doc:a").unwrap(),
                relation: Name::parse("viewer").unwrap(),
                subject: SubjectRef::parse("user:u").unwrap(),
                caveat: None,
                expires_at: None,
            }],
            create: Vec::new(),
            delete: Vec::new(),
            preconditions: Vec::new(),
            schema_revision: None,
            // Whatever time it is for the one who writes.
            now: Timestamp(i64::MIN),
        };
        store.write(vault.id, &write).await.unwrap();
        assert!(begun.elapsed() >= HOLD);
        assert_eq!(store.vault(vault.id).await.unwrap().unwrap().hold, None);
    }

    #[test]
    fn a_hold_is_over_a_second_after_it_was_met_and_another_one_is_another() {
        let start = Instant::now();
        let holds = Holds::default();
        let (vault, other) = (VaultId::generate(), VaultId::generate());
        let [first, second] = [Uuid::new_v4(), Uuid::new_v4()];
        let is_over = |vault, hold, millis| holds.is_over(vault, hold, start + Duration::from_millis(millis));
        assert!(!is_over(vault, first, 0));
        assert!(!is_over(vault, first, 999));
        assert!(!is_over(other, first, 999));
        assert!(is_over(vault, first, 1_000));
        assert!(!is_over(vault, second, 1_500));
        assert!(!is_over(vault, second, 2_499));
        assert!(is_over(vault, second, 2_500));
        assert!(is_over(other, first, 2_500));
    }
}
