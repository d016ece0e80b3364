//! Import: a whole state, page by page, that shows at once when it is finished, or never.

use std::collections::HashMap;
use std::sync::Arc;

use inferadb_engine::noun::{Relationship, RelationshipKey};
use inferadb_engine::schema::{Compiled, Format};
use inferadb_storage::{FitCheck, MAX_SHAPES, Revision, Staging, StoreError, Switch, VaultId, Write};
use serde_json::{Map, Value};

use super::MAX_TRANSFER_PAGE;
use super::pace::Pace;
use crate::error::VaultError;
use crate::limits;
use crate::platform::{Platform, Reach, see_through};
use crate::registry::Reason;
use crate::vault::{Fit, Until, compile_stored, format_number, now, relationship_bytes};
use crate::view::VaultSchema;

/// How much is judged before others of the thread get their turn, in bytes of relationships: some 50 of them.
const AT_ONCE_BYTES: usize = 16 << 10;
/// How many are gathered before.
const GATHERED_AT_ONCE: usize = 100;
/// The most relationships, and about the most bytes, that are merged as one ordinary write: watches are told of each.
const ONE_WRITE: usize = 1_000;
const ONE_WRITE_BYTES: usize = 1 << 20;

/// What becomes of what a vault holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportMode {
    /// It stays; where a relationship is in both, the imported one counts.
    Merge,
    /// It goes.
    Replace,
}

/// An import under way. Dropped before it is finished, or after an error, it leaves the vault as it was.
pub struct Import {
    platform: Platform,
    vault: VaultId,
    pace: Pace,
    mode: ImportMode,
    /// What the relationships must fit: the import's own schema, or the vault's, once it has been read.
    schema: Option<Arc<VaultSchema>>,
    /// Whether the vault is to have that schema.
    brings_schema: bool,
    limits: Option<Option<Map<String, Value>>>,
    /// Whether what does not fit the schema is taken in all the same.
    is_forced: bool,
    misfits: u64,
    /// What may yet become one write.
    pending: HashMap<RelationshipKey, Relationship>,
    pending_bytes: usize,
    staging: Option<Staging>,
    /// Whether a page may be there in part only.
    is_broken: bool,
}

/// An import is done: every read of this server shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Imported {
    /// How many relationships were imported; one that came several times counts once, and the last one that came.
    pub relationships: u64,
    /// How many of them were not there before. With [`ImportMode::Replace`] all.
    pub created: u64,
    /// How many had another caveat or expiry before. With [`ImportMode::Replace`] none.
    pub updated: u64,
    /// How many relationships the vault held before, all of which are gone; only with [`ImportMode::Replace`].
    pub removed: Option<u64>,
    /// How many relationships came that do not fit the schema; none unless the import was forced. They are stored, and every answer
    /// ignores them.
    pub misfits: u64,
    /// Whether the vault has another schema now.
    pub schema_changed: bool,
    /// The state that shows the import.
    pub revision: Revision,
}

impl Platform {
    /// Begins an import into a vault. Nothing shows before it is finished.
    ///
    /// # Errors
    ///
    /// [`VaultError::NotFound`], [`VaultError::Conflict`] for an archived vault; storage's.
    pub async fn import(&self, id: VaultId, reach: Reach, mode: ImportMode) -> Result<Import, VaultError> {
        if self.vault(id, reach).await?.archived {
            return Err(archived());
        }
        Ok(Import {
            platform: self.clone(),
            vault: id,
            pace: Pace::new(self, id),
            mode,
            schema: None,
            brings_schema: false,
            limits: None,
            is_forced: false,
            misfits: 0,
            pending: HashMap::new(),
            pending_bytes: 0,
            staging: None,
            is_broken: false,
        })
    }

    /// Makes every read of this server that starts from now on show a state that the vault was switched to.
    async fn show(&self, id: VaultId, revision: Revision) {
        let Some(vault) = self.registry.started(id).await else {
            return;
        };
        if let Err(error) = vault.catch_up(Until::Revision(revision)).await {
            tracing::warn!(vault = %id, %error, "the vault's actor could not take in what was imported; the next request starts a new one");
            self.registry.evict(id, Reason::Requested).await;
        }
    }

    /// The schema of a vault as it is stored, compiled.
    async fn stored_schema(&self, id: VaultId) -> Result<Arc<VaultSchema>, VaultError> {
        let snapshot = self.store.snapshot(id).await.map_err(VaultError::from_store)?;
        let schema = snapshot.schema().await.map_err(VaultError::from_store)?;
        compile_stored(schema).await.map(Arc::new)
    }
}

impl Import {
    /// The pace that work on what is imported keeps, such as reading it.
    pub fn pace(&self) -> Pace {
        self.pace.clone()
    }

    /// Takes in what does not fit the schema too, and a schema that what the vault holds does not fit: it stays stored, and every
    /// answer ignores it. To be said before the first relationship.
    pub fn force(&mut self) {
        self.is_forced = true;
    }

    /// The schema that the relationships are of: at most once, before the first of them. The vault has it afterwards, if what
    /// else it holds fits it. Without one the relationships are of the vault's schema, which stays.
    ///
    /// # Errors
    ///
    /// [`VaultError::Schema`] if it does not compile, [`VaultError::Invalid`] if it comes twice or too late.
    pub async fn schema(&mut self, format: Format, text: &str) -> Result<(), VaultError> {
        if self.schema.is_some() {
            return Err(VaultError::Invalid {
                code: "schema_out_of_place",
                field: "schema".into(),
                message: "an import has at most one schema, and it stands before the first relationship"
                    .into(),
            });
        }
        if self.mode == ImportMode::Merge {
            let held = self.platform.stored_schema(self.vault).await?;
            if held.revision.is_some() && held.text == text && held.format == format {
                self.schema = Some(held);
                return Ok(());
            }
        }
        let Compiled { schema, .. } = self.pace.compile(format, text.to_owned()).await?;
        let schema = VaultSchema::new(schema, text.to_owned(), None).in_format(format);
        self.schema = Some(Arc::new(schema));
        self.brings_schema = true;
        Ok(())
    }

    /// The vault's own limits, instead of those it has: `None` for none; only with [`ImportMode::Replace`].
    ///
    /// # Errors
    ///
    /// [`VaultError::Invalid`] for a limit that there is not, or a value out of its range.
    pub async fn settings(&mut self, limits: Option<Map<String, Value>>) -> Result<(), VaultError> {
        if self.mode == ImportMode::Merge {
            return Err(VaultError::Invalid {
                code: "settings_not_merged",
                field: "settings".into(),
                message: "an import that merges leaves the vault's settings as they are".into(),
            });
        }
        let mut overrides = Map::new();
        limits::patch(&mut overrides, &limits.unwrap_or_default())?;
        self.limits = Some((!overrides.is_empty()).then_some(overrides));
        Ok(())
    }

    /// Takes in at most 1,000 relationships.
    ///
    /// # Errors
    ///
    /// [`VaultError::Misfit`] for one that does not fit the schema, at `relationships[…]`, its index in the page;
    /// [`VaultError::Conflict`] if nothing came for ten minutes and the import was given up; [`VaultError::RateLimited`]
    /// where too many imports into the vault are under way. After any error it can only be dropped.
    pub async fn add(&mut self, page: Vec<Relationship>) -> Result<(), VaultError> {
        // Until it is done: the future may be dropped half-way.
        self.is_broken = true;
        self.pace.clone().take(self.take(page)).await?;
        self.is_broken = false;
        Ok(())
    }

    async fn take(&mut self, page: Vec<Relationship>) -> Result<(), VaultError> {
        if page.len() > MAX_TRANSFER_PAGE {
            return Err(VaultError::Invalid {
                code: "too_many",
                field: "relationships".into(),
                message: format!(
                    "at most {MAX_TRANSFER_PAGE} relationships at a time, these are {}",
                    page.len()
                ),
            });
        }
        let schema = self.judge().await?;
        let mut judged = 0;
        for (at, relationship) in page.iter().enumerate() {
            judged += relationship_bytes(relationship);
            if judged >= AT_ONCE_BYTES {
                judged = 0;
                tokio::task::yield_now().await;
            }
            if let Err(misfit) = schema.compiled.fits(relationship) {
                if self.is_forced {
                    self.misfits += 1;
                    continue;
                }
                return Err(VaultError::Misfit {
                    at: format!("relationships[{at}]"),
                    misfit,
                });
            }
        }
        if self.mode == ImportMode::Merge && self.staging.is_none() {
            for (at, relationship) in page.into_iter().enumerate() {
                // One that is large is moved as fast as a small one.
                if at % GATHERED_AT_ONCE == GATHERED_AT_ONCE - 1 {
                    tokio::task::yield_now().await;
                }
                let key = relationship.key();
                self.pending_bytes += relationship_bytes(&relationship);
                self.pending.insert(key, relationship);
            }
            if self.pending.len() <= ONE_WRITE && self.pending_bytes <= ONE_WRITE_BYTES {
                return Ok(());
            }
            self.stage_pending().await
        } else {
            self.stage(&page).await
        }
        .map_err(|error| self.told(error))
    }

    /// Makes the vault show what was imported, all at once. Reads of this server that start after the answer show it.
    ///
    /// # Errors
    ///
    /// [`VaultError::SchemaInUse`] if what the vault holds does not fit the schema that is merged in;
    /// [`VaultError::Conflict`] if the vault's schema was replaced while relationships of it were imported, or the vault was replaced by
    /// another import while this one was merged, or was archived; [`VaultError::OutcomeUnknown`].
    pub async fn finish(self) -> Result<Imported, VaultError> {
        if self.is_broken {
            return Err(VaultError::Conflict {
                code: "import_abandoned",
                message: "the import failed before it was finished".into(),
            });
        }
        see_through(async move {
            let (platform, vault) = (self.platform.clone(), self.vault);
            // Not held to its share: writers may be waiting for the switch.
            let switched = self.pace.clone().hurry(self.switch()).await;
            match &switched {
                Ok(imported) => platform.show(vault, imported.revision).await,
                Err(VaultError::OutcomeUnknown) => platform.registry.doubt(vault).await,
                Err(_) => {}
            }
            switched
        })
        .await
    }

    async fn switch(mut self) -> Result<Imported, VaultError> {
        let schema = self.judge().await?;
        let is_small = self.mode == ImportMode::Merge && !self.brings_schema && self.staging.is_none();
        if is_small && !self.may_add_too_many_kinds().await? {
            match self.write(schema.revision).await {
                // The log would keep what these replace, which may be much larger than they are.
                Err(StoreError::TooLarge(_)) => {}
                written => {
                    let imported = written.map_err(|error| self.told(error))?;
                    let misfits = self.misfits;
                    return Ok(Imported { misfits, ..imported });
                }
            }
        }
        let current = match self.mode {
            ImportMode::Merge if self.brings_schema => self.platform.stored_schema(self.vault).await?,
            _ => Arc::clone(&schema),
        };
        if let Err(error) = self.stage_pending().await {
            return Err(self.told(error));
        }
        let Some(staging) = self.staging.take() else {
            return Err(VaultError::ActorFailed);
        };
        let switch = Switch {
            schema: self
                .brings_schema
                .then(|| (schema.text.clone(), format_number(schema.format))),
            validated_against: schema.revision,
            limits: self.limits.take(),
            now: now(),
        };
        let outcome = match self.mode {
            ImportMode::Replace => replace(staging, &switch).await,
            ImportMode::Merge => {
                let fit = Fit { new: schema, current };
                let is_judged = self.brings_schema && !self.is_forced;
                let fit: Option<&FitCheck<'_>> = if is_judged { Some(&fit) } else { None };
                merge(staging, &switch, fit).await
            }
        };
        let imported = outcome.map_err(|error| self.told(error))?;
        let misfits = self.misfits;
        Ok(Imported { misfits, ..imported })
    }

    /// Merges a few relationships in one ordinary write.
    async fn write(&self, schema_revision: Option<Revision>) -> Result<Imported, StoreError> {
        let touch: Vec<Relationship> = self.pending.values().cloned().collect();
        let relationships = touch.len() as u64;
        let write = Write {
            touch,
            create: Vec::new(),
            delete: Vec::new(),
            preconditions: Vec::new(),
            schema_revision,
            now: now(),
        };
        let written = self.platform.store.write(self.vault, &write).await?;
        Ok(Imported {
            relationships,
            created: written.created as u64,
            updated: written.updated as u64,
            removed: None,
            misfits: 0,
            schema_changed: false,
            revision: written.revision,
        })
    }

    /// Whether what does not fit could leave the vault with too many kinds of relationships, as it may be of others with each import: a
    /// merge counts them.
    async fn may_add_too_many_kinds(&self) -> Result<bool, VaultError> {
        if self.misfits == 0 {
            return Ok(false);
        }
        let snapshot = self.platform.store.snapshot(self.vault).await;
        let snapshot = snapshot.map_err(VaultError::from_store)?;
        let shapes = snapshot.shapes().await.map_err(VaultError::from_store)?;
        Ok(shapes.len() + self.pending.len() > MAX_SHAPES)
    }

    /// What relationships must fit.
    async fn judge(&mut self) -> Result<Arc<VaultSchema>, VaultError> {
        if let Some(schema) = &self.schema {
            return Ok(Arc::clone(schema));
        }
        let schema = self.platform.stored_schema(self.vault).await?;
        self.schema = Some(Arc::clone(&schema));
        Ok(schema)
    }

    async fn stage_pending(&mut self) -> Result<(), StoreError> {
        let pending: Vec<Relationship> = self
            .pending
            .drain()
            .map(|(_, relationship)| relationship)
            .collect();
        self.stage(&pending).await
    }

    async fn stage(&mut self, page: &[Relationship]) -> Result<(), StoreError> {
        let staging = match &mut self.staging {
            Some(staging) => staging,
            staging => staging.insert(self.platform.store.stage(self.vault).await?),
        };
        match self.mode {
            ImportMode::Merge => staging.hand_in(page).await,
            ImportMode::Replace => staging.add(page).await,
        }
    }

    /// What a failure of storage means to the import.
    fn told(&self, error: StoreError) -> VaultError {
        match error {
            StoreError::SchemaMoved => VaultError::Conflict {
                code: "schema_changed",
                message: "the vault's schema was changed while relationships of it were imported; import them again".into(),
            },
            StoreError::VaultArchived => archived(),
            error => VaultError::from_store(error),
        }
    }
}

fn archived() -> VaultError {
    VaultError::Conflict {
        code: "vault_archived",
        message: "an archived vault takes no import; unarchive it first".into(),
    }
}

async fn replace(staging: Staging, switch: &Switch) -> Result<Imported, StoreError> {
    let relationships = staging.relationships();
    let switched = staging.replace(switch).await?;
    Ok(Imported {
        relationships,
        created: relationships,
        updated: 0,
        removed: Some(switched.held),
        misfits: 0,
        schema_changed: switched.schema_changed,
        revision: switched.revision,
    })
}

async fn merge(
    staging: Staging,
    switch: &Switch,
    fit: Option<&FitCheck<'_>>,
) -> Result<Imported, StoreError> {
    let merged = staging.merge(switch, fit).await?;
    Ok(Imported {
        relationships: merged.created + merged.updated + merged.unchanged,
        created: merged.created,
        updated: merged.updated,
        removed: None,
        misfits: 0,
        schema_changed: merged.schema_changed,
        revision: merged.revision,
    })
}
