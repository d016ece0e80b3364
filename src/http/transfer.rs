//! How many transfers of whole vaults there may be at once: each holds some memory, and a place that another one waits for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inferadb_actors::{AccountId, Reach, VaultError, VaultId, VaultRecord};
use prometheus::{IntGauge, Registry};
use serde::Deserialize;

use super::App;
use super::caller::Caller;
use super::problem::Problem;
use super::vaults::reachable_vault;
use crate::telemetry::LogScope;

/// When to try again: transfers take their time.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Exports and clones take no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// The transfers under way. Clones count together.
#[derive(Debug, Clone)]
pub struct Transfers {
    most: usize,
    most_of_account: usize,
    of_accounts: Arc<Mutex<HashMap<AccountId, usize>>>,
    gauge: IntGauge,
}

/// The place of a transfer, given back when it is dropped.
#[derive(Debug)]
pub struct Slot {
    transfers: Transfers,
    account: AccountId,
}

impl Transfers {
    /// None so far, and at most so many at once in all and for the vaults of one account; how many there are is a metric.
    pub fn new(registry: &Registry, most: usize, most_of_account: usize) -> Result<Self, prometheus::Error> {
        let gauge = IntGauge::new(
            "inferadb_transfers",
            "Exports, imports and clones of whole vaults that are under way.",
        )?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(Self {
            most,
            most_of_account,
            of_accounts: Arc::default(),
            gauge,
        })
    }

    fn enter(&self, account: AccountId) -> Result<Slot, VaultError> {
        let mut under_way = self.of_accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if under_way.values().sum::<usize>() >= self.most {
            return Err(VaultError::Overloaded(
                "the server is at work on as many exports, imports and clones as it takes (`server.max_transfers`)",
            ));
        }
        let of_account = under_way.entry(account).or_default();
        if *of_account >= self.most_of_account {
            return Err(VaultError::RateLimited {
                limit: "max_account_transfers",
                retry_after: RETRY_AFTER,
            });
        }
        *of_account += 1;
        self.gauge.inc();
        drop(under_way);
        Ok(Slot {
            transfers: self.clone(),
            account,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let transfers = &self.transfers;
        transfers.gauge.dec();
        let mut under_way = transfers
            .of_accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match under_way.get_mut(&self.account) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(under_way.remove(&self.account)),
        }
    }
}

/// The vault of a path for a transfer by a caller who may have it, and a place for the transfer.
pub async fn begin(
    app: &App,
    caller: &Caller,
    path: &str,
) -> Result<(VaultId, Reach, VaultRecord, Slot), Problem> {
    let (id, reach) = reachable_vault(caller, path)?;
    let record = app.platform.vault(id, reach).await?;
    if let Some(scope) = LogScope::current() {
        scope.set_vault(id.0, record.account.0);
    }
    let slot = app.transfers.enter(record.account)?;
    Ok((id, reach, record, slot))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn no_account_takes_the_places_of_others() {
        let transfers = Transfers::new(&Registry::new(), 32, 4).unwrap();
        let account = |number| AccountId(Uuid::from_u128(number));
        let mut slots: Vec<Slot> = Vec::new();
        for number in 0..8 {
            for _ in 0..4 {
                slots.push(transfers.enter(account(number)).unwrap());
            }
            let refused = transfers.enter(account(number));
            let is_of_account = matches!(
                refused,
                Err(VaultError::RateLimited {
                    limit: "max_account_transfers",
                    ..
                })
            );
            assert!(is_of_account || slots.len() == 32, "{refused:?}");
        }
        assert_eq!(slots.len(), 32);
        let refused = transfers.enter(account(8)).unwrap_err();
        assert!(refused.to_string().contains("server.max_transfers"), "{refused}");
        slots.truncate(31);
        assert!(transfers.enter(account(0)).is_err());
        slots.push(transfers.enter(account(8)).unwrap());
        slots.clear();
        assert!(transfers.of_accounts.lock().unwrap().is_empty());
        assert_eq!(transfers.gauge.get(), 0);
    }
}
