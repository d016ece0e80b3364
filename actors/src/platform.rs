//! The platform: accounts, vaults and their lifecycle, over one store and one registry. What the server's surface talks to.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use inferadb_engine::noun::Timestamp;
use inferadb_storage::token::{Cursor, fingerprint};
use inferadb_storage::{
    AccountId, AccountRecord, Archived, Backend, Defaults, StorageConfig, Store, StoreError, VaultId,
    VaultPatch, VaultRecord,
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::error::VaultError;
use crate::heavy::HeavyThreads;
use crate::limits;
use crate::metrics::Metrics;
use crate::overload::{Balancer, LagMeter};
use crate::registry::{Reason, Registry};
use crate::retention::Retention;
use crate::settings::Settings;
use crate::sweeper::Sweeper;
use crate::vault::{Pass, Until, Vault, VaultStats, now};

/// How often the deletion of an account starts over because vaults were added meanwhile.
const MAX_CASCADES: usize = 16;

/// Accounts and vaults, and the way into them.
#[derive(Clone)]
pub struct Platform {
    pub(crate) store: Store,
    pub(crate) registry: Registry,
    pub(crate) settings: Arc<Settings>,
    heavy: HeavyThreads,
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page goes on; `None` at the end.
    pub cursor: Option<String>,
}

/// Which vaults an administrator may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All.
    Everything,
    /// Those of one account.
    Account(AccountId),
}

/// What to change about a vault.
#[derive(Debug, Clone, Default)]
pub struct VaultChange {
    /// A new name.
    pub name: Option<String>,
    /// Whether it is archived.
    pub archived: Option<bool>,
    /// Since when.
    pub archived_at: Option<Timestamp>,
    /// Limits to override, or `null`s to take overrides back.
    pub limits: Option<Map<String, Value>>,
}

/// What is known of a vault beside its record.
#[derive(Debug, Clone)]
pub struct StatsReport {
    /// Its record.
    pub record: VaultRecord,
    /// What its actor holds, while it is active.
    pub active: Option<VaultStats>,
    /// Stored relationships.
    pub relationships: u64,
    /// Its latest revision.
    pub revision: inferadb_storage::Revision,
    /// The limits it is held to.
    pub limits: crate::settings::Limits,
}

impl Platform {
    /// Opens the store and starts the registry. Must be called where an actix system runs.
    pub async fn start(
        backend: Backend,
        settings: Settings,
        metrics: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        let store = Store::open(StorageConfig { backend }).await?;
        Self::over(store, settings, metrics)
    }

    /// Starts the registry over a store that is open already.
    pub fn over(
        store: Store,
        settings: Settings,
        metrics: &prometheus::Registry,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::new(metrics, settings.per_vault_metrics)?;
        let settings = Arc::new(settings);
        let heavy = HeavyThreads::start(settings.request_threads)?;
        let registry = Registry::new(store.clone(), Arc::clone(&settings), metrics);
        Sweeper::new(registry.clone()).start();
        // Also where the threads may be however late: memory can be short.
        Balancer::new(registry.clone()).start();
        let platform = Self {
            store,
            registry,
            settings,
            heavy,
        };
        if platform.settings.archived_vault_retention.is_some() {
            Retention::new(platform.clone()).start();
        }
        Ok(platform)
    }

    /// Makes the default account and vault where they are missing.
    pub async fn ensure_defaults(
        &self,
        account: Option<AccountId>,
        vault: Option<VaultId>,
    ) -> Result<Defaults, VaultError> {
        self.store
            .ensure_defaults(account, vault, now())
            .await
            .map_err(VaultError::from_store)
    }

    /// Whether storage answers.
    pub async fn is_ready(&self) -> Result<(), VaultError> {
        self.store.ping().await.map_err(VaultError::from_store)
    }

    /// Drains every vault, for so long at most, and lets no request in any more.
    pub async fn stop(&self, within: Duration) {
        let began = Instant::now();
        self.registry.stop(within).await;
        // Storage is closed by whoever lets go of it last: that is to be nobody there.
        self.heavy.stop(within.saturating_sub(began.elapsed())).await;
    }

    /// Measures how late one more thread that answers requests comes to what is due. Where that is much for a while, the vaults that
    /// use most of the CPU are held to less.
    pub fn lag_meter(&self) -> LagMeter {
        self.registry.lag_meter()
    }

    /// The threads for what requests ask for that takes longer than a moment.
    pub fn heavy(&self) -> &HeavyThreads {
        &self.heavy
    }

    /// Ends a window of observed lags; a timer does so as well.
    pub fn balance(&self) {
        self.registry.balance();
    }

    /// How many vaults are active.
    pub fn active_count(&self) -> usize {
        self.registry.active_count()
    }

    /// What all active vaults hold in memory, in bytes, by their weights.
    pub fn held_bytes(&self) -> usize {
        self.registry.ledger().held()
    }

    /// How many vaults were evicted since the start.
    pub fn evictions(&self) -> u64 {
        self.registry.evictions()
    }

    /// Comes into a vault for one request of `account`. That there is no such vault, that it is another account's, and
    /// that it is archived all look alike.
    pub async fn enter(&self, id: VaultId, account: AccountId) -> Result<(Arc<Vault>, Pass), VaultError> {
        // The account is compared before the vault is entered: nobody can activate another account's vault, take
        // one of its places, or learn from the answer that it is there. What an active vault does not need is boxed: it
        // would make every request's future larger.
        let active = self.registry.active(id);
        let owner = match &active {
            Some(vault) => Some(vault.account),
            None => {
                let record = Box::pin(self.store.vault(id)).await;
                let record = record.map_err(VaultError::from_store)?;
                record
                    .filter(|record| !record.archived)
                    .map(|record| record.account)
            }
        };
        if owner != Some(account) {
            return Err(VaultError::AccessDenied);
        }
        if let Some(vault) = active
            && let Ok(pass) = vault.enter(now())
        {
            return Ok((vault, pass));
        }
        match Box::pin(self.registry.enter(id)).await {
            Err(VaultError::NotFound(_)) => Err(VaultError::AccessDenied),
            entered => entered,
        }
    }

    /// Creates an account.
    pub async fn create_account(&self, name: &str) -> Result<AccountRecord, VaultError> {
        self.store
            .create_account(name, now())
            .await
            .map_err(VaultError::from_store)
    }

    /// An account.
    pub async fn account(&self, id: AccountId) -> Result<AccountRecord, VaultError> {
        let account = self.store.account(id).await.map_err(VaultError::from_store)?;
        account.ok_or(VaultError::NotFound("account"))
    }

    /// Accounts in the order of their creation.
    pub async fn accounts(
        &self,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<AccountRecord>, VaultError> {
        let query = fingerprint([&b"accounts"[..]]);
        let after = decode_cursor(Uuid::nil(), query, cursor)?;
        let page = self
            .store
            .accounts(after.as_deref(), limit)
            .await
            .map_err(VaultError::from_store)?;
        Ok(Page {
            items: page.items,
            cursor: page
                .next
                .map(|position| Cursor { position, query }.encode(Uuid::nil())),
        })
    }

    /// Renames an account.
    pub async fn rename_account(&self, id: AccountId, name: &str) -> Result<AccountRecord, VaultError> {
        self.store
            .rename_account(id, name, now())
            .await
            .map_err(VaultError::from_store)
    }

    /// Deletes an account; with `cascade` its vaults go first.
    pub async fn delete_account(&self, id: AccountId, cascade: bool) -> Result<(), VaultError> {
        let platform = self.clone();
        see_through(async move {
            for _ in 0..MAX_CASCADES {
                match platform.store.delete_account(id, now()).await {
                    Err(StoreError::AccountOwnsVaults) if cascade => platform.delete_vaults_of(id).await?,
                    done => return done.map_err(VaultError::from_store),
                }
            }
            Err(VaultError::from_store(StoreError::Contended))
        })
        .await
    }

    /// Creates a vault.
    pub async fn create_vault(&self, account: AccountId, name: &str) -> Result<VaultRecord, VaultError> {
        self.store
            .create_vault(account, name, now())
            .await
            .map_err(VaultError::from_store)
    }

    /// A vault, if it is within `reach`.
    pub async fn vault(&self, id: VaultId, reach: Reach) -> Result<VaultRecord, VaultError> {
        let record = self.store.vault(id).await.map_err(VaultError::from_store)?;
        match (record, reach) {
            (Some(record), Reach::Everything) => Ok(record),
            (Some(record), Reach::Account(account)) if account == record.account => Ok(record),
            _ => Err(VaultError::NotFound("vault")),
        }
    }

    /// Vaults of an account in the order of their creation.
    pub async fn vaults(
        &self,
        account: AccountId,
        with_archived: bool,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<VaultRecord>, VaultError> {
        let archived = if with_archived {
            Archived::With
        } else {
            Archived::Without
        };
        let query = fingerprint([&b"vaults"[..], &[u8::from(with_archived)]]);
        let after = decode_cursor(account.0, query, cursor)?;
        let page = self
            .store
            .vaults(account, archived, after.as_deref(), limit)
            .await
            .map_err(VaultError::from_store)?;
        Ok(Page {
            items: page.items,
            cursor: page
                .next
                .map(|position| Cursor { position, query }.encode(account.0)),
        })
    }

    /// Changes a vault.
    pub async fn update_vault(
        &self,
        id: VaultId,
        reach: Reach,
        change: VaultChange,
    ) -> Result<VaultRecord, VaultError> {
        let record = self.vault(id, reach).await?;
        if let Some(patch) = &change.limits {
            limits::patch(&mut Map::new(), patch)?;
        }
        if change.archived_at.is_some() && !change.archived.unwrap_or(record.archived) {
            return Err(VaultError::Invalid {
                code: "invalid_value",
                field: "archived_at".into(),
                message: "only an archived vault has an `archived_at`".into(),
            });
        }
        let platform = self.clone();
        see_through(async move {
            let now = now();
            let store = &platform.store;
            let record = store.update_vault_with(id, &|record| patch_of(record, &change, now), now).await;
            let record = match record.map_err(VaultError::from_store) {
                Err(error) => {
                    // The error may be about a change that happened, or yet will.
                    if matches!(error, VaultError::OutcomeUnknown) {
                        platform.registry.doubt(id).await;
                    }
                    return Err(error);
                }
                Ok(record) => record,
            };
            if record.archived {
                platform.registry.evict(id, Reason::Archived).await;
            } else if let Some(vault) = platform.registry.started(id).await {
                // Best done now; an actor that cannot take the change in at once does so with its next commit.
                if let Err(error) = vault.catch_up(Until::Head).await {
                    tracing::warn!(vault = %id, %error, "the vault's actor has yet to take in its changed settings");
                }
            }
            Ok(record)
        })
        .await
    }

    /// Deletes a vault with everything in it, for ever.
    pub async fn delete_vault(&self, id: VaultId, reach: Reach) -> Result<(), VaultError> {
        self.vault(id, reach).await?;
        let platform = self.clone();
        see_through(async move { platform.delete_record(id, |_| true).await.map(|_| ()) }).await
    }

    /// What is known of a vault.
    pub async fn stats(&self, id: VaultId, reach: Reach) -> Result<StatsReport, VaultError> {
        let record = self.vault(id, reach).await?;
        let active = self
            .registry
            .active(id)
            .filter(|vault| vault.is_open())
            .map(|vault| vault.stats());
        let (relationships, revision) = match &active {
            Some(stats) => (stats.relationships, stats.revision),
            None => {
                let snapshot = self.store.snapshot(id).await.map_err(VaultError::from_store)?;
                let shapes = snapshot.shapes().await.map_err(VaultError::from_store)?;
                (shapes.iter().map(|shape| shape.count).sum(), snapshot.revision())
            }
        };
        // An active vault may have yet to take in what is stored.
        let stored = || limits::overridden(self.settings.limits, record.limits.as_ref());
        let limits = active.as_ref().map_or_else(stored, |active| active.limits);
        Ok(StatsReport {
            record,
            active,
            relationships,
            revision,
            limits,
        })
    }

    /// Activates a vault now.
    pub async fn activate(&self, id: VaultId, reach: Reach) -> Result<(), VaultError> {
        let record = self.vault(id, reach).await?;
        if record.archived {
            let message = "an archived vault cannot be activated; unarchive it first".into();
            return Err(VaultError::Conflict {
                code: "vault_archived",
                message,
            });
        }
        self.registry.activate(id).await
    }

    /// Evicts a vault's actor now.
    pub async fn deactivate(&self, id: VaultId, reach: Reach) -> Result<(), VaultError> {
        self.vault(id, reach).await?;
        self.registry.evict(id, Reason::Requested).await;
        Ok(())
    }

    /// Deletes and evicts every vault of an account, one after another.
    async fn delete_vaults_of(&self, account: AccountId) -> Result<(), VaultError> {
        loop {
            let page = self.store.vaults(account, Archived::With, None, 100).await;
            let page = page.map_err(VaultError::from_store)?;
            if page.items.is_empty() && page.next.is_none() {
                return Ok(());
            }
            for vault in page.items {
                match self.delete_record(vault.id, |_| true).await {
                    // Somebody else deleted it first.
                    Ok(_) | Err(VaultError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Deletes a vault if it is `wanted` as it stands, and evicts it; says whether it did.
    pub(crate) async fn delete_record(
        &self,
        id: VaultId,
        wanted: impl Fn(&VaultRecord) -> bool + Send + Sync,
    ) -> Result<bool, VaultError> {
        let deleted = self.store.delete_vault_if(id, &wanted, now()).await;
        match &deleted {
            Ok(false) => {}
            Ok(true) | Err(StoreError::VaultNotFound) => self.registry.evict(id, Reason::Deleted).await,
            // It may have happened, or may yet: whoever reads the vault from now on finds out.
            Err(error) => {
                if *error == StoreError::OutcomeUnknown {
                    self.registry.doubt(id).await;
                }
                self.registry.evict(id, Reason::Requested).await;
            }
        }
        deleted.map_err(VaultError::from_store)
    }
}

/// Runs work to its end, though whoever waits for it goes away: what is stored and what is in memory must not part.
pub(crate) async fn see_through<T: Send + 'static>(
    work: impl Future<Output = Result<T, VaultError>> + Send + 'static,
) -> Result<T, VaultError> {
    tokio::spawn(work).await.unwrap_or(Err(VaultError::ActorFailed))
}

/// What a change comes to for a vault as it is stored.
fn patch_of(record: &VaultRecord, change: &VaultChange, now: Timestamp) -> VaultPatch {
    let will_be_archived = change.archived.unwrap_or(record.archived);
    let archived_at = match (will_be_archived, change.archived_at) {
        (true, Some(at)) => Some(Some(at)),
        (true, None) => (!record.archived).then_some(Some(now)),
        (false, _) => Some(None),
    };
    let limits = change.limits.as_ref().map(|patch| {
        let mut overrides = record.limits.clone().unwrap_or_default();
        // It was found sound before.
        let _ = limits::patch(&mut overrides, patch);
        (!overrides.is_empty()).then_some(overrides)
    });
    VaultPatch {
        name: change.name.clone(),
        archived: change.archived,
        archived_at,
        limits,
    }
}

/// Why the platform did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// The metrics could not be registered.
    #[error("metrics could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The threads for heavy work could not be started.
    #[error("the threads for heavy work could not be started: {0}")]
    Threads(#[from] io::Error),
}

fn decode_cursor(scope: Uuid, query: u64, cursor: Option<&str>) -> Result<Option<Vec<u8>>, VaultError> {
    let Some(text) = cursor else { return Ok(None) };
    Cursor::decode(scope, query, text)
        .map(Some)
        .map_err(|error| VaultError::Invalid {
            code: "invalid_cursor",
            field: "cursor".into(),
            message: error.to_string(),
        })
}
