//! Export: one state of a vault, page by page, whatever is written meanwhile.

use std::time::Instant;

use inferadb_engine::noun::Relationship;
use inferadb_storage::{PastState, Revision, StoreError, VaultId, VaultRecord};

use crate::error::VaultError;
use crate::platform::{Platform, Reach};
use crate::vault::{StoredSchema, format_of};

use super::pace::Pace;

/// One state of a vault that is read from its first relationship to its last. Its pages are all of the revision it names.
pub struct Export {
    state: PastState,
    schema: Option<StoredSchema>,
    pace: Pace,
}

impl Platform {
    /// Begins the export of a vault's newest state. An archived vault can be exported too.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`]; storage's.
    pub async fn export(&self, id: VaultId, reach: Reach) -> Result<Export, VaultError> {
        self.vault(id, reach).await?;
        let pace = Pace::new(self, id);
        let state = pace.take(self.store.state(id, None)).await;
        let state = state.map_err(VaultError::from_store)?;
        let schema = state.schema().map(|held| match format_of(held.format) {
            Some(format) => Ok(StoredSchema {
                text: held.text.clone(),
                format,
                revision: held.revision,
            }),
            None => Err(VaultError::Storage(StoreError::Damaged(
                "the stored schema is in a language that this version does not know".into(),
            ))),
        });
        Ok(Export {
            schema: schema.transpose()?,
            state,
            pace,
        })
    }
}

impl Export {
    /// The vault's record, as it was when the export began.
    pub fn vault(&self) -> &VaultRecord {
        self.state.vault()
    }

    /// The schema of the state, if the vault had one.
    pub fn schema(&self) -> Option<&StoredSchema> {
        self.schema.as_ref()
    }

    /// The state's revision.
    pub fn revision(&self) -> Revision {
        self.state.revision()
    }

    /// How many relationships the state holds, where that is known without reading them.
    pub fn relationships(&self) -> Option<u64> {
        Some(self.state.relationships())
    }

    /// The pace that work on what is exported keeps, such as writing it out.
    pub fn pace(&self) -> Pace {
        self.pace.clone()
    }

    /// Has storage keep no old state for longer than needs be: to be called often while what was answered is put to use, however
    /// slowly that goes, within the [pace](Export::pace) of the export.
    ///
    /// # Errors
    ///
    /// As [`Export::next`].
    pub async fn refresh(&mut self, now: Instant) -> Result<(), VaultError> {
        self.state.refresh(now).await.map_err(VaultError::from_store)
    }

    /// The next relationships in the order of their resources, at most 1,000 and never none; `None` at the end. Those that
    /// have expired but are still stored are among them.
    ///
    /// # Errors
    ///
    /// Where storage keeps no state for long (FoundationDB), [`VaultError::HistoryGone`] if the changes since the state
    /// were trimmed before they were looked at, or the vault was replaced by an import; [`VaultError::Overloaded`] if
    /// they are too many. What was answered before is right, but not all.
    pub async fn next(&mut self) -> Result<Option<Vec<Relationship>>, VaultError> {
        let page = self.pace.take(self.state.next(Instant::now())).await;
        page.map_err(VaultError::from_store)
    }
}
