//! Clone: a new vault with another's state.

use inferadb_storage::{AccountId, Revision, VaultId, VaultRecord};

use crate::error::VaultError;
use crate::platform::{Platform, Reach};

impl Platform {
    /// Makes a vault named `name` with the schema, relationships and limits of `source`, in the source's account unless `account` says
    /// another; as they are, or as they were at an earlier revision. The new vault does not exist before it is whole.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`] for a source or an account that is not there or not within `reach`,
    /// [`VaultError::HistoryGone`] if `at` is older than the kept history, [`VaultError::RevisionAhead`].
    pub async fn clone_vault(
        &self,
        source: VaultId,
        reach: Reach,
        name: &str,
        account: Option<AccountId>,
        at: Option<Revision>,
    ) -> Result<VaultRecord, VaultError> {
        let _ = (name, account, at);
        self.vault(source, reach).await?;
        Err(VaultError::Overloaded("clones are being built"))
    }
}
