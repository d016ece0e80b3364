//! Accounts: the tenants that own vaults.

use inferadb_engine::noun::Timestamp;
use serde::{Deserialize, Serialize};

use super::retry::Retry;
use super::{Page, Store, StoreError};
use crate::id::AccountId;
use crate::keys;
use crate::kv::{Isolation, RangeOptions, Transaction, key_after};

/// The most entries of one page.
pub(super) const MAX_PAGE: usize = 1_000;

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRecord {
    /// Its id.
    pub id: AccountId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// An account as it is stored. The id is in the key.
#[derive(Debug, Serialize, Deserialize)]
struct StoredAccount {
    name: String,
    created_at: i64,
    updated_at: i64,
}

impl AccountRecord {
    pub(super) fn put(&self, transaction: &mut dyn Transaction) -> Result<(), StoreError> {
        let stored = StoredAccount {
            name: self.name.clone(),
            created_at: self.created_at.0,
            updated_at: self.updated_at.0,
        };
        let json = serde_json::to_vec(&stored).map_err(|error| StoreError::TooLarge(error.to_string()))?;
        transaction.set(&keys::account(self.id), &json);
        transaction.set(&keys::account_by_creation(self.created_at, self.id), &[]);
        Ok(())
    }
}

impl Store {
    /// Makes an account.
    pub async fn create_account(&self, name: &str, now: Timestamp) -> Result<AccountRecord, StoreError> {
        let record = AccountRecord {
            id: AccountId::generate(),
            name: name.to_owned(),
            created_at: now,
            updated_at: now,
        };
        let mut retry = Retry::default();
        loop {
            match self.try_create_account(&record).await {
                Err(error) => retry.pause(error).await?,
                Ok(()) => return Ok(record),
            }
        }
    }

    async fn try_create_account(&self, record: &AccountRecord) -> Result<(), StoreError> {
        let mut transaction = self.engine().begin().await?;
        // Nobody else knows the id: if it is there, an earlier attempt was committed after all.
        if read_account(&*transaction, record.id, Isolation::Serializable)
            .await?
            .is_none()
        {
            record.put(&mut *transaction)?;
            transaction.commit().await?;
        }
        Ok(())
    }

    /// The account `id`, if it exists.
    pub async fn account(&self, id: AccountId) -> Result<Option<AccountRecord>, StoreError> {
        let transaction = self.engine().begin().await?;
        read_account(&*transaction, id, Isolation::Snapshot).await
    }

    /// The accounts in the order in which they were made, at most `limit` (and 1,000), after an earlier page's position.
    ///
    /// # Errors
    ///
    /// [`StoreError::BadPosition`].
    pub async fn accounts(
        &self,
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Page<AccountRecord>, StoreError> {
        let transaction = self.engine().begin().await?;
        let (ids, next) = creation_page(
            &*transaction,
            keys::accounts_by_creation(),
            after,
            limit.min(MAX_PAGE),
        )
        .await?;
        let reads = ids
            .into_iter()
            .map(|id| read_account(&*transaction, AccountId(id), Isolation::Snapshot));
        let items = futures_util::future::try_join_all(reads)
            .await?
            .into_iter()
            .flatten()
            .collect();
        Ok(Page { items, next })
    }

    /// Gives the account another name.
    ///
    /// # Errors
    ///
    /// [`StoreError::AccountNotFound`].
    pub async fn rename_account(
        &self,
        id: AccountId,
        name: &str,
        now: Timestamp,
    ) -> Result<AccountRecord, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.try_rename_account(id, name, now).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_rename_account(
        &self,
        id: AccountId,
        name: &str,
        now: Timestamp,
    ) -> Result<AccountRecord, StoreError> {
        let mut transaction = self.engine().begin().await?;
        let mut record = read_account(&*transaction, id, Isolation::Serializable)
            .await?
            .ok_or(StoreError::AccountNotFound)?;
        record.name = name.to_owned();
        record.updated_at = now;
        record.put(&mut *transaction)?;
        transaction.commit().await?;
        Ok(record)
    }

    /// Removes the account, which must own no vaults: who deletes them has to see what becomes of each.
    ///
    /// # Errors
    ///
    /// [`StoreError::AccountNotFound`], [`StoreError::AccountOwnsVaults`].
    pub async fn delete_account(&self, id: AccountId, now: Timestamp) -> Result<(), StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.try_delete_account(id, now).await {
                Err(StoreError::AccountNotFound) if retry.may_be_done() => return Ok(()),
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_delete_account(&self, id: AccountId, now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.engine().begin().await?;
        let record = read_account(&*transaction, id, Isolation::Serializable)
            .await?
            .ok_or(StoreError::AccountNotFound)?;
        let first = RangeOptions {
            limit: 1,
            reverse: false,
            isolation: Isolation::Serializable,
        };
        if !transaction
            .range(keys::vaults_by_creation(id), first)
            .await?
            .is_empty()
        {
            return Err(StoreError::AccountOwnsVaults);
        }
        transaction.clear(&keys::account(id));
        transaction.clear(&keys::account_by_creation(record.created_at, id));
        transaction.set(&keys::account_tombstone(id), &now.0.to_be_bytes());
        transaction.commit().await?;
        Ok(())
    }
}

pub(super) async fn read_account(
    transaction: &dyn Transaction,
    id: AccountId,
    isolation: Isolation,
) -> Result<Option<AccountRecord>, StoreError> {
    let Some(json) = transaction.get(&keys::account(id), isolation).await? else {
        return Ok(None);
    };
    let stored: StoredAccount =
        serde_json::from_slice(&json).map_err(|_| StoreError::unreadable("account"))?;
    Ok(Some(AccountRecord {
        id,
        name: stored.name,
        created_at: Timestamp(stored.created_at),
        updated_at: Timestamp(stored.updated_at),
    }))
}

/// The ids of one page of an index by creation, and the position after it, which is the last key without the index's
/// own prefix.
pub(super) async fn creation_page(
    transaction: &dyn Transaction,
    index: std::ops::Range<bytes::Bytes>,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<(Vec<uuid::Uuid>, Option<Vec<u8>>), StoreError> {
    const POSITION_BYTES: usize = 24;
    let mut range = index;
    if let Some(after) = after {
        if after.len() != POSITION_BYTES {
            return Err(StoreError::BadPosition);
        }
        range.start = key_after(&[&*range.start, after].concat());
    }
    let options = RangeOptions {
        limit: limit + 1,
        reverse: false,
        isolation: Isolation::Snapshot,
    };
    let mut pairs = transaction.range(range, options).await?;
    let more = pairs.len() > limit;
    pairs.truncate(limit);
    let ids = pairs
        .iter()
        .filter_map(|(key, _)| keys::trailing_id(key))
        .collect();
    let last = pairs.last().filter(|_| more);
    Ok((
        ids,
        last.and_then(|(key, _)| key.last_chunk::<POSITION_BYTES>())
            .map(|position| position.to_vec()),
    ))
}
