//! Retention: archived vaults are deleted once their time is over.

use std::time::Duration;

use actix::prelude::*;
use inferadb_engine::noun::Timestamp;
use inferadb_storage::{AccountId, Archived, VaultRecord};

use crate::error::VaultError;
use crate::platform::Platform;
use crate::vault::now;

/// How often archived vaults whose time is over are looked for.
const RETENTION_INTERVAL: Duration = Duration::from_secs(3600);

/// Deletes archived vaults whose retention is over, at the start and on a timer.
pub struct Retention {
    platform: Platform,
    under_way: bool,
}

impl Retention {
    /// Retention over all accounts.
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            under_way: false,
        }
    }

    fn run(&mut self, ctx: &mut Context<Self>) {
        let platform = self.platform.clone();
        let Some(kept) = platform.settings.archived_vault_retention else {
            return;
        };
        if std::mem::replace(&mut self.under_way, true) {
            return;
        }
        let work = async move {
            if let Err(error) = platform.delete_expired_archives(kept).await {
                tracing::warn!(%error, "could not delete archived vaults whose retention is over");
            }
        };
        ctx.spawn(
            work.into_actor(self)
                .map(|(), retention, _| retention.under_way = false),
        );
    }
}

impl Actor for Retention {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.run(ctx);
        ctx.run_interval(RETENTION_INTERVAL, Self::run);
    }
}

impl Platform {
    async fn delete_expired_archives(&self, kept: Duration) -> Result<(), VaultError> {
        let kept_micros = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
        let oldest = now().0.saturating_sub(kept_micros);
        let mut accounts_after: Option<Vec<u8>> = None;
        loop {
            let accounts = self
                .store
                .accounts(accounts_after.as_deref(), 100)
                .await
                .map_err(VaultError::from_store)?;
            for account in accounts.items {
                match self.delete_archives_before(account.id, Timestamp(oldest)).await {
                    // The account went meanwhile.
                    Ok(()) | Err(VaultError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            accounts_after = accounts.next;
            if accounts_after.is_none() {
                return Ok(());
            }
        }
    }

    async fn delete_archives_before(&self, account: AccountId, oldest: Timestamp) -> Result<(), VaultError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self
                .store
                .vaults(account, Archived::Only, after.as_deref(), 100)
                .await;
            let page = page.map_err(VaultError::from_store)?;
            for vault in page.items {
                let is_over = move |record: &VaultRecord| {
                    record.archived && record.archived_at.is_some_and(|at| at <= oldest)
                };
                if !is_over(&vault) {
                    continue;
                }
                match self.delete_record(vault.id, is_over).await {
                    Ok(true) => {
                        tracing::info!(vault = %vault.id, account = %account, "archived vault deleted: its retention is over");
                    }
                    // Unarchived or deleted meanwhile.
                    Ok(false) | Err(VaultError::NotFound(_)) => {}
                    Err(error) => {
                        tracing::warn!(vault = %vault.id, account = %account, %error, "could not delete an archived vault");
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}
