//! The default account and vault, made at the first start.

use inferadb_engine::noun::Timestamp;
use uuid::Uuid;

use super::accounts::{AccountRecord, read_account};
use super::retry::Retry;
use super::vaults::{VaultRecord, read_vault};
use super::{Store, StoreError};
use crate::id::{AccountId, VaultId};
use crate::keys;
use crate::kv::{Isolation, Transaction};

const ACCOUNT_NAME: &str = "Default Account";
const VAULT_NAME: &str = "Default Vault";

/// The default account and vault. One that was deleted is not made again, and is `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The account.
    pub account: Option<AccountRecord>,
    /// The vault.
    pub vault: Option<VaultRecord>,
    /// Whether this call made the account.
    pub account_created: bool,
    /// Whether this call made the vault.
    pub vault_created: bool,
}

impl Store {
    /// Finds the default account and vault, or makes what is missing: under the ids given, or else under new ids,
    /// which are remembered. Several servers may do this at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::DefaultVaultElsewhere`] if the given vault belongs to another account.
    pub async fn ensure_defaults(
        &self,
        account: Option<AccountId>,
        vault: Option<VaultId>,
        now: Timestamp,
    ) -> Result<Defaults, StoreError> {
        // New ids are chosen once, so that an attempt of unknown outcome is recognised by them.
        let fresh = (AccountId::generate(), VaultId::generate());
        let mut retry = Retry::default();
        loop {
            match self.try_ensure_defaults(account, vault, fresh, now).await {
                Err(error) => retry.pause(error).await?,
                done => return done,
            }
        }
    }

    async fn try_ensure_defaults(
        &self,
        account: Option<AccountId>,
        vault: Option<VaultId>,
        fresh: (AccountId, VaultId),
        now: Timestamp,
    ) -> Result<Defaults, StoreError> {
        let mut transaction = self.engine().begin().await?;
        let transaction_mut = &mut *transaction;
        let account_id = match account {
            Some(id) => id,
            None => AccountId(remembered(transaction_mut, &keys::default_account(), fresh.0.0).await?),
        };
        let mut account = read_account(transaction_mut, account_id, Isolation::Serializable).await?;
        let mut account_created = account_id == fresh.0 && account.is_some();
        if account.is_none() && !exists(transaction_mut, &keys::account_tombstone(account_id)).await? {
            let name = ACCOUNT_NAME.to_owned();
            let record = AccountRecord {
                id: account_id,
                name,
                created_at: now,
                updated_at: now,
            };
            record.put(transaction_mut)?;
            account_created = true;
            account = Some(record);
        }
        let vault_id = match vault {
            Some(id) => id,
            None => VaultId(remembered(transaction_mut, &keys::default_vault(), fresh.1.0).await?),
        };
        let mut vault = read_vault(transaction_mut, vault_id, Isolation::Serializable).await?;
        let mut vault_created = vault_id == fresh.1 && vault.is_some();
        if let Some(held) = &vault
            && held.account != account_id
        {
            return Err(StoreError::DefaultVaultElsewhere {
                vault: vault_id,
                owner: held.account,
            });
        }
        if vault.is_none()
            && account.is_some()
            && !exists(transaction_mut, &keys::vault_tombstone(vault_id)).await?
        {
            let record = VaultRecord::new(vault_id, account_id, VAULT_NAME, now);
            record.put(transaction_mut, now)?;
            vault_created = true;
            vault = Some(record);
        }
        transaction.commit().await?;
        Ok(Defaults {
            account,
            vault,
            account_created,
            vault_created,
        })
    }
}

/// The id that is remembered under `key`; if there is none, `fresh` from now on.
async fn remembered(transaction: &mut dyn Transaction, key: &[u8], fresh: Uuid) -> Result<Uuid, StoreError> {
    match transaction.get(key, Isolation::Serializable).await? {
        Some(held) => Uuid::from_slice(&held).map_err(|_| StoreError::unreadable("default id")),
        None => {
            transaction.set(key, fresh.as_bytes());
            Ok(fresh)
        }
    }
}

async fn exists(transaction: &dyn Transaction, key: &[u8]) -> Result<bool, StoreError> {
    Ok(transaction.get(key, Isolation::Serializable).await?.is_some())
}
