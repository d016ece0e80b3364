//! Vaults: made, read, changed, deleted for good.

use inferadb_engine::noun::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::accounts::{MAX_PAGE, creation_page, read_account};
use super::change::{Appended, append};
use super::retry::{Marker, Retry};
use super::{Page, Store, StoreError};
use crate::id::{AccountId, VaultId};
use crate::keys::{self, Keyspace};
use crate::kv::{Isolation, Transaction};

/// A vault's own record.
#[derive(Debug, Clone, PartialEq)]
pub struct VaultRecord {
    /// Its id.
    pub id: VaultId,
    /// The account it belongs to, for ever.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// Whether it is archived.
    pub archived: bool,
    /// When it was archived, as its owner says.
    pub archived_at: Option<Timestamp>,
    /// Its own limits, as the layers above define and check them.
    pub limits: Option<Map<String, Value>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When this record was last changed.
    pub updated_at: Timestamp,
    /// The generation of its relationships that counts.
    pub(super) generation: u32,
    /// Which hold has writers wait for a moment: an import is about to switch over.
    pub(super) hold: Option<Uuid>,
}

/// What to change in a vault's record; `None` leaves as it is, `Some(None)` removes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VaultPatch {
    /// Another name.
    pub name: Option<String>,
    /// Whether it is archived.
    pub archived: Option<bool>,
    /// When it was archived.
    pub archived_at: Option<Option<Timestamp>>,
    /// Its own limits.
    pub limits: Option<Option<Map<String, Value>>>,
}

/// Which vaults a list is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Archived {
    /// Those that are not archived.
    Without,
    /// All.
    With,
    /// The archived ones.
    Only,
}

/// A vault as it is stored. The id is in the key.
#[derive(Debug, Serialize, Deserialize)]
struct StoredVault {
    account: String,
    name: String,
    archived: bool,
    archived_at: Option<i64>,
    limits: Option<Map<String, Value>>,
    created_at: i64,
    updated_at: i64,
    generation: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold: Option<String>,
}

impl VaultRecord {
    pub(super) fn new(id: VaultId, account: AccountId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            account,
            name: name.to_owned(),
            archived: false,
            archived_at: None,
            limits: None,
            created_at: now,
            updated_at: now,
            generation: 0,
            hold: None,
        }
    }

    /// Where the vault's relationships lie.
    pub(super) fn space(&self) -> Keyspace {
        Keyspace {
            vault: self.id,
            generation: self.generation,
        }
    }

    /// Whether the vault was not replaced as a whole, by an import, between this record and another of it.
    pub fn is_of_same_generation(&self, other: &Self) -> bool {
        self.space() == other.space()
    }

    /// Stores the record, with the change that tells of it.
    pub(super) fn put(&self, transaction: &mut dyn Transaction, now: Timestamp) -> Result<(), StoreError> {
        self.put_silently(transaction)?;
        append(transaction, self.id, now, Appended::Settings)
    }

    /// Stores the record, and no change.
    pub(super) fn put_silently(&self, transaction: &mut dyn Transaction) -> Result<(), StoreError> {
        let stored = StoredVault {
            account: self.account.to_string(),
            name: self.name.clone(),
            archived: self.archived,
            archived_at: self.archived_at.map(|at| at.0),
            limits: self.limits.clone(),
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
            generation: self.generation,
            hold: self.hold.map(|hold| hold.to_string()),
        };
        let json = serde_json::to_vec(&stored).map_err(|error| StoreError::TooLarge(error.to_string()))?;
        transaction.set(&keys::vault(self.id), &json);
        transaction.set(
            &keys::vault_by_creation(self.account, self.created_at, self.id),
            &[],
        );
        Ok(())
    }

    fn patch(&mut self, patch: &VaultPatch) {
        if let Some(name) = &patch.name {
            self.name.clone_from(name);
        }
        if let Some(archived) = patch.archived {
            self.archived = archived;
        }
        if let Some(archived_at) = patch.archived_at {
            self.archived_at = archived_at;
        }
        if let Some(limits) = &patch.limits {
            self.limits.clone_from(limits);
        }
    }
}

impl Store {
    /// Makes a vault in `account`.
    ///
    /// # Errors
    ///
    /// [`StoreError::AccountNotFound`].
    pub async fn create_vault(
        &self,
        account: AccountId,
        name: &str,
        now: Timestamp,
    ) -> Result<VaultRecord, StoreError> {
        let record = VaultRecord::new(VaultId::generate(), account, name, now);
        let mut retry = Retry::default();
        loop {
            match self.try_create_vault(&record, now).await {
                Err(error) => retry.pause(error).await?,
                Ok(()) => return Ok(record),
            }
        }
    }

    async fn try_create_vault(&self, record: &VaultRecord, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.engine().begin().await?;
        // Nobody else knows the id: if it is there, an earlier attempt was committed after all.
        if read_vault(&*transaction, record.id, Isolation::Serializable)
            .await?
            .is_some()
        {
            return Ok(());
        }
        if read_account(&*transaction, record.account, Isolation::Serializable)
            .await?
            .is_none()
        {
            return Err(StoreError::AccountNotFound);
        }
        record.put(&mut *transaction, now)?;
        transaction.commit().await?;
        Ok(())
    }

    /// The vault `id`, if it exists.
    pub async fn vault(&self, id: VaultId) -> Result<Option<VaultRecord>, StoreError> {
        let transaction = self.engine().begin().await?;
        read_vault(&*transaction, id, Isolation::Snapshot).await
    }

    /// The vaults of `account` in the order in which they were made, at most `limit` (and 1,000), after an earlier
    /// page's position. A page can be shorter, or empty, although more follows.
    ///
    /// # Errors
    ///
    /// [`StoreError::AccountNotFound`], [`StoreError::BadPosition`].
    pub async fn vaults(
        &self,
        account: AccountId,
        archived: Archived,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<VaultRecord>, StoreError> {
        let transaction = self.engine().begin().await?;
        if read_account(&*transaction, account, Isolation::Snapshot)
            .await?
            .is_none()
        {
            return Err(StoreError::AccountNotFound);
        }
        let index = keys::vaults_by_creation(account);
        let (ids, next) = creation_page(&*transaction, index, after, limit.min(MAX_PAGE)).await?;
        let reads = ids
            .into_iter()
            .map(|id| read_vault(&*transaction, VaultId(id), Isolation::Snapshot));
        let records = futures_util::future::try_join_all(reads)
            .await?
            .into_iter()
            .flatten();
        let wanted = |record: &VaultRecord| match archived {
            Archived::Without => !record.archived,
            Archived::With => true,
            Archived::Only => record.archived,
        };
        Ok(Page {
            items: records.filter(wanted).collect(),
            next,
        })
    }

    /// Changes the vault's record.
    ///
    /// # Errors
    ///
    /// [`StoreError::VaultNotFound`]; [`StoreError::TooLarge`] for limits of more than 90 kB or so.
    pub async fn update_vault(
        &self,
        id: VaultId,
        patch: &VaultPatch,
        now: Timestamp,
    ) -> Result<VaultRecord, StoreError> {
        self.update_vault_with(id, &|_| patch.clone(), now).await
    }

    /// Changes the vault's record by a patch that `plan` makes of what is stored; it may be asked several times.
    ///
    /// # Errors
    ///
    /// As [`Store::update_vault`].
    pub async fn update_vault_with(
        &self,
        id: VaultId,
        plan: &(dyn Fn(&VaultRecord) -> VaultPatch + Send + Sync),
        now: Timestamp,
    ) -> Result<VaultRecord, StoreError> {
        let marker = self.markers().take();
        let mut retry = Retry::default();
        loop {
            match self.try_update_vault(id, plan, now, &marker).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_update_vault(
        &self,
        id: VaultId,
        plan: &(dyn Fn(&VaultRecord) -> VaultPatch + Send + Sync),
        now: Timestamp,
        marker: &Marker<'_>,
    ) -> Result<VaultRecord, StoreError> {
        let mut transaction = self.engine().begin().await?;
        let done = marker.outcome(&*transaction).await?.is_some();
        let mut record = require_vault(&*transaction, id, Isolation::Serializable).await?;
        let before = record.clone();
        record.patch(&plan(&before));
        if !done && record != before {
            record.updated_at = now;
            record.put(&mut *transaction, now)?;
            marker.set(&mut *transaction, &[]);
            transaction.commit().await?;
        }
        Ok(record)
    }

    /// Deletes the vault with everything in it. It is gone at once and for ever; its space is given back in the
    /// background where the engine takes time for that.
    ///
    /// # Errors
    ///
    /// [`StoreError::VaultNotFound`].
    pub async fn delete_vault(&self, id: VaultId, now: Timestamp) -> Result<(), StoreError> {
        self.delete_vault_if(id, &|_| true, now).await.map(|_| ())
    }

    /// Deletes the vault if `wanted` says so of its record as it stands at that moment; answers whether it did.
    ///
    /// # Errors
    ///
    /// [`StoreError::VaultNotFound`].
    pub async fn delete_vault_if(
        &self,
        id: VaultId,
        wanted: &(dyn Fn(&VaultRecord) -> bool + Send + Sync),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.try_delete_vault(id, wanted, now).await {
                Err(StoreError::VaultNotFound) if retry.may_be_done() => break,
                Err(error) => retry.pause(error).await?,
                Ok(true) => break,
                Ok(false) => return Ok(false),
            }
        }
        self.inner.sweeper.wake();
        Ok(true)
    }

    async fn try_delete_vault(
        &self,
        id: VaultId,
        wanted: &(dyn Fn(&VaultRecord) -> bool + Send + Sync),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.engine().begin().await?;
        let record = require_vault(&*transaction, id, Isolation::Serializable).await?;
        if !wanted(&record) {
            return Ok(false);
        }
        transaction.clear(&keys::vault(id));
        transaction.clear(&keys::vault_by_creation(record.account, record.created_at, id));
        transaction.set(&keys::vault_tombstone(id), &now.0.to_be_bytes());
        // An import that is under way finds out by this, and leaves nothing behind.
        transaction.clear_range(keys::stagings_of(id));
        if self.engine().clears_ranges_at_once() {
            transaction.clear_range(keys::vault_data(id));
        } else {
            transaction.set(&keys::vault_clearing(id), &[]);
            // Whoever follows the vault is to notice.
            transaction.clear(&keys::head(id));
        }
        transaction.commit().await?;
        Ok(true)
    }
}

pub(super) async fn read_vault(
    transaction: &dyn Transaction,
    id: VaultId,
    isolation: Isolation,
) -> Result<Option<VaultRecord>, StoreError> {
    let Some(json) = transaction.get(&keys::vault(id), isolation).await? else {
        return Ok(None);
    };
    let stored: StoredVault = serde_json::from_slice(&json).map_err(|_| StoreError::unreadable("vault"))?;
    Ok(Some(VaultRecord {
        id,
        account: stored
            .account
            .parse()
            .map_err(|_| StoreError::unreadable("vault"))?,
        name: stored.name,
        archived: stored.archived,
        archived_at: stored.archived_at.map(Timestamp),
        limits: stored.limits,
        created_at: Timestamp(stored.created_at),
        updated_at: Timestamp(stored.updated_at),
        generation: stored.generation,
        hold: stored
            .hold
            .map(|hold| hold.parse())
            .transpose()
            .map_err(|_| StoreError::unreadable("vault"))?,
    }))
}

pub(super) async fn require_vault(
    transaction: &dyn Transaction,
    id: VaultId,
    isolation: Isolation,
) -> Result<VaultRecord, StoreError> {
    read_vault(transaction, id, isolation)
        .await?
        .ok_or(StoreError::VaultNotFound)
}
