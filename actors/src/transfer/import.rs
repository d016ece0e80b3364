//! Import: a whole state, page by page, that shows at once when it is finished, or never.

use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::Format;
use inferadb_storage::{Revision, VaultId};
use serde_json::{Map, Value};

use crate::error::VaultError;
use crate::platform::{Platform, Reach};

/// What becomes of what a vault holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// It stays; where a relationship is in both, the imported one counts.
    Merge,
    /// It goes.
    Replace,
}

/// An import under way. Dropped before it is finished it leaves the vault as it was.
#[derive(Debug)]
pub struct Import {
    _vault: VaultId,
}

/// An import is done: every read of this server shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// How many relationships were imported; one that came several times counts once.
    pub relationships: u64,
    /// How many of them were not there before. With [`ImportMode::Replace`] all.
    pub created: u64,
    /// How many had another caveat or expiry before. With [`ImportMode::Replace`] none.
    pub updated: u64,
    /// How many relationships the vault held before, all of which are gone; only with [`ImportMode::Replace`].
    pub removed: Option<u64>,
    /// Whether the vault has another schema now.
    pub schema_changed: bool,
    /// The state that shows the import.
    pub revision: Revision,
}

impl Platform {
    /// Begins an import into a vault.
    pub async fn import(&self, id: VaultId, reach: Reach, mode: ImportMode) -> Result<Import, VaultError> {
        let _ = mode;
        self.vault(id, reach).await?;
        Err(VaultError::Overloaded("imports are being built"))
    }
}

impl Import {
    /// The schema that the relationships are of: at most once, before the first of them. Without one they are those of
    /// the vault's own schema, which stays.
    ///
    /// # Errors
    ///
    /// [`VaultError::Schema`] if it does not compile.
    pub async fn schema(&mut self, format: Format, text: &str) -> Result<(), VaultError> {
        let _ = (format, text);
        Ok(())
    }

    /// The vault's own limits, instead of those it has; only with [`ImportMode::Replace`].
    ///
    /// # Errors
    ///
    /// [`VaultError::Invalid`] for a limit that there is not, or a value out of its range.
    pub async fn settings(&mut self, limits: Option<Map<String, Value>>) -> Result<(), VaultError> {
        let _ = limits;
        Ok(())
    }

    /// Takes in at most 1,000 relationships.
    ///
    /// # Errors
    ///
    /// [`VaultError::Misfit`] for one that does not fit the schema, at `relationships[index in the page]`: then the import can only be
    /// dropped, as after any other error.
    pub async fn add(&mut self, page: Vec<Relationship>) -> Result<(), VaultError> {
        let _ = page;
        Ok(())
    }

    /// Makes the vault show what was imported, all at once.
    pub async fn finish(self) -> Result<Imported, VaultError> {
        Err(VaultError::Overloaded("imports are being built"))
    }
}
