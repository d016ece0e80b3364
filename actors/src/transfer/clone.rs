//! Clone: a new vault with another's state.

use std::time::Instant;

use inferadb_storage::{AccountId, Revision, StoreError, VaultId, VaultRecord};

use crate::error::VaultError;
use crate::platform::{Platform, Reach};
use crate::vault::now;

use super::pace::Pace;

impl Platform {
    /// Makes a vault named `name` with the schema, relationships and limits of `source`, in the source's account unless
    /// `account` says another; as they are, or with schema and relationships as they were at an earlier revision. The new
    /// vault does not exist before it is whole; if this fails or is dropped, it never does.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`] for a source or an account that is not there or not within `reach`,
    /// [`VaultError::HistoryGone`] if `at` is older than the kept history, or more was changed since than can be undone in memory;
    /// [`VaultError::RevisionAhead`], [`VaultError::Overloaded`] if too much is written meanwhile.
    pub async fn clone_vault(
        &self,
        source: VaultId,
        reach: Reach,
        name: &str,
        account: Option<AccountId>,
        at: Option<Revision>,
    ) -> Result<VaultRecord, VaultError> {
        let record = self.vault(source, reach).await?;
        let account = account.unwrap_or(record.account);
        if matches!(reach, Reach::Account(own) if own != account) {
            return Err(VaultError::NotFound("account"));
        }
        // Found out at the end in any case: better before the work than after it.
        self.account(account).await?;
        // Charged to the vault that is cloned: its owner asked for it.
        Pace::new(self, source)
            .take(self.copy_state(source, name, account, at))
            .await
            .map_err(|error| match error {
                CloneError::RevisionAhead => VaultError::RevisionAhead,
                CloneError::Store(error) => VaultError::from_store(error),
            })
    }

    async fn copy_state(
        &self,
        source: VaultId,
        name: &str,
        account: AccountId,
        at: Option<Revision>,
    ) -> Result<VaultRecord, CloneError> {
        if let Some(at) = at {
            let head = self.store.head(source).await?.ok_or(StoreError::VaultNotFound)?;
            if head.revision < at {
                return Err(CloneError::RevisionAhead);
            }
        }
        let state = self.store.state(source, at).await;
        let mut state = state.map_err(|error| match error {
            // It only becomes more: trying again would not help.
            StoreError::TooManyChanges if at.is_some() => StoreError::HistoryGone,
            error => error,
        })?;
        let mut staging = self.store.stage_new().await?;
        while let Some(page) = state.next(Instant::now()).await? {
            staging.add(&page).await?;
            tokio::task::yield_now().await;
        }
        let limits = state.vault().limits.clone();
        Ok(staging
            .create(account, name, state.schema(), limits, now())
            .await?)
    }
}

enum CloneError {
    RevisionAhead,
    Store(StoreError),
}

impl From<StoreError> for CloneError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
