//! Export: one state of a vault, page by page, whatever is written meanwhile.

use inferadb_engine::noun::Relationship;
use inferadb_storage::{Revision, VaultId, VaultRecord};

use crate::error::VaultError;
use crate::platform::{Platform, Reach};
use crate::vault::StoredSchema;

/// One state of a vault that is read from its first relationship to its last. Its pages are all of the revision it names.
#[derive(Debug)]
pub struct Export {
    record: VaultRecord,
    schema: Option<StoredSchema>,
    revision: Revision,
}

impl Platform {
    /// Begins the export of a vault's newest state.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`]; storage's.
    pub async fn export(&self, id: VaultId, reach: Reach) -> Result<Export, VaultError> {
        self.vault(id, reach).await?;
        Err(VaultError::Overloaded("exports are being built"))
    }
}

impl Export {
    /// The vault's record, as it is when the export begins.
    pub fn vault(&self) -> &VaultRecord {
        &self.record
    }

    /// The schema of the state, if the vault had one.
    pub fn schema(&self) -> Option<&StoredSchema> {
        self.schema.as_ref()
    }

    /// The state's revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many relationships the state holds, where that is known without reading them.
    pub fn relationships(&self) -> Option<u64> {
        None
    }

    /// The next relationships in the order of their keys, at most 1,000 and never none; `None` at the end. Those that have expired but are
    /// still stored are among them.
    pub async fn next(&mut self) -> Result<Option<Vec<Relationship>>, VaultError> {
        Ok(None)
    }
}
