//! How many of something that lasts there may be at once, in all and for the vaults of one account: transfers and watches, each of which
//! holds a connection and some memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use inferadb_actors::{AccountId, VaultError};
use prometheus::{IntGauge, Registry};

/// When to try again: what takes a place lasts.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The places of one kind. Clones count together.
#[derive(Debug, Clone)]
pub struct Places {
    most: usize,
    most_of_account: usize,
    /// What is told whoever finds none left in all.
    full: &'static str,
    /// The limit that an account is over.
    limit: &'static str,
    of_accounts: Arc<Mutex<HashMap<AccountId, usize>>>,
    gauge: IntGauge,
}

/// A place that is taken, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    account: AccountId,
}

impl Places {
    /// Those of exports, imports and clones of whole vaults.
    pub fn of_transfers(
        registry: &Registry,
        most: usize,
        most_of_account: usize,
    ) -> Result<Self, prometheus::Error> {
        let help = "Exports, imports and clones of whole vaults that are under way.";
        let full = "the server is at work on as many exports, imports and clones as it takes (`server.max_transfers`)";
        let gauge = register(registry, "inferadb_transfers", help)?;
        Ok(Self::new(
            gauge,
            [most, most_of_account],
            full,
            "max_account_transfers",
        ))
    }

    /// Those of watches.
    pub fn of_watches(
        registry: &Registry,
        most: usize,
        most_of_account: usize,
    ) -> Result<Self, prometheus::Error> {
        let gauge = register(registry, "inferadb_watches", "Watches that are open.")?;
        let full = "the server has as many watches open as it may (`server.max_watches`)";
        Ok(Self::new(
            gauge,
            [most, most_of_account],
            full,
            "max_account_watches",
        ))
    }

    fn new(gauge: IntGauge, most: [usize; 2], full: &'static str, limit: &'static str) -> Self {
        let [most, most_of_account] = most;
        Self {
            most,
            most_of_account,
            full,
            limit,
            of_accounts: Arc::default(),
            gauge,
        }
    }

    /// Takes a place for one of the account's vaults.
    ///
    /// # Errors
    /// [`VaultError::Overloaded`] where all are taken, [`VaultError::RateLimited`] where the account has as many as it may.
    pub fn enter(&self, account: AccountId) -> Result<Place, VaultError> {
        let mut taken = self.taken();
        if taken.values().sum::<usize>() >= self.most {
            return Err(VaultError::Overloaded(self.full));
        }
        let before = taken.get(&account).copied().unwrap_or_default();
        if before >= self.most_of_account {
            return Err(VaultError::RateLimited {
                limit: self.limit,
                retry_after: RETRY_AFTER,
            });
        }
        taken.insert(account, before + 1);
        self.gauge.inc();
        drop(taken);
        Ok(Place {
            places: self.clone(),
            account,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<AccountId, usize>> {
        self.of_accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.gauge.dec();
        let mut taken = self.places.taken();
        match taken.get_mut(&self.account) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.account)),
        }
    }
}

fn register(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let gauge = IntGauge::new(name, help)?;
    registry.register(Box::new(gauge.clone()))?;
    Ok(gauge)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn no_account_takes_the_places_of_others() {
        for (make, limit, setting) in [
            (
                Places::of_transfers as fn(&Registry, usize, usize) -> _,
                "max_account_transfers",
                "server.max_transfers",
            ),
            (Places::of_watches, "max_account_watches", "server.max_watches"),
        ] {
            let places: Places = make(&Registry::new(), 32, 4).unwrap();
            let account = |number| AccountId(Uuid::from_u128(number));
            let mut taken: Vec<Place> = Vec::new();
            for number in 0..8 {
                for _ in 0..4 {
                    taken.push(places.enter(account(number)).unwrap());
                }
                let refused = places.enter(account(number)).unwrap_err();
                let is_of_account =
                    matches!(refused, VaultError::RateLimited { limit: of, .. } if of == limit);
                assert!(is_of_account || taken.len() == 32, "{refused:?}");
            }
            assert_eq!((taken.len(), places.gauge.get()), (32, 32));
            let refused = places.enter(account(8)).unwrap_err();
            assert!(refused.to_string().contains(setting), "{refused}");
            taken.truncate(31);
            assert!(places.enter(account(0)).is_err());
            taken.push(places.enter(account(8)).unwrap());
            taken.clear();
            assert!(places.taken().is_empty());
            assert_eq!(places.gauge.get(), 0);
        }
    }
}
