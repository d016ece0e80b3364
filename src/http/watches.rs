//! How many watches there may be at once: each holds a connection, and some memory while its reader is behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inferadb_actors::{AccountId, VaultError};
use prometheus::{IntGauge, Registry};

/// When to try again: watches last.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The watches that are open. Clones count together.
#[derive(Debug, Clone)]
pub struct Watches {
    most: usize,
    most_of_account: usize,
    of_accounts: Arc<Mutex<HashMap<AccountId, usize>>>,
    gauge: IntGauge,
}

/// The place of a watch, given back when it is dropped.
#[derive(Debug)]
pub struct WatchPlace {
    watches: Watches,
    account: AccountId,
}

impl Watches {
    /// None so far, and at most so many at once in all and of the vaults of one account; how many there are is a metric.
    pub fn new(registry: &Registry, most: usize, most_of_account: usize) -> Result<Self, prometheus::Error> {
        let gauge = IntGauge::new("inferadb_watches", "Watches that are open.")?;
        registry.register(Box::new(gauge.clone()))?;
        Ok(Self {
            most,
            most_of_account,
            of_accounts: Arc::default(),
            gauge,
        })
    }

    /// Takes a place for a watch of one of the account's vaults.
    ///
    /// # Errors
    /// [`VaultError::Overloaded`] where the server has as many as it may, [`VaultError::RateLimited`] where the account has.
    pub fn enter(&self, account: AccountId) -> Result<WatchPlace, VaultError> {
        let mut open = self.of_accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<usize>() >= self.most {
            return Err(VaultError::Overloaded(
                "the server has as many watches open as it may (`server.max_watches`)",
            ));
        }
        let of_account = open.entry(account).or_default();
        if *of_account >= self.most_of_account {
            return Err(VaultError::RateLimited {
                limit: "max_account_watches",
                retry_after: RETRY_AFTER,
            });
        }
        *of_account += 1;
        self.gauge.inc();
        drop(open);
        Ok(WatchPlace {
            watches: self.clone(),
            account,
        })
    }
}

impl Drop for WatchPlace {
    fn drop(&mut self) {
        let watches = &self.watches;
        watches.gauge.dec();
        let mut open = watches.of_accounts.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.account) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.account)),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn watches_are_bounded_for_an_account_and_for_the_server() {
        let watches = Watches::new(&Registry::new(), 5, 3).unwrap();
        let account = |number| AccountId(Uuid::from_u128(number));
        let mut places: Vec<_> = (0..3).map(|_| watches.enter(account(1)).unwrap()).collect();
        let refused = watches.enter(account(1)).unwrap_err();
        assert!(
            matches!(
                refused,
                VaultError::RateLimited {
                    limit: "max_account_watches",
                    ..
                }
            ),
            "{refused:?}"
        );
        places.extend((0..2).map(|_| watches.enter(account(2)).unwrap()));
        let refused = watches.enter(account(2)).unwrap_err();
        assert!(refused.to_string().contains("server.max_watches"), "{refused}");
        assert_eq!(watches.gauge.get(), 5);
        drop(places.remove(0));
        places.push(watches.enter(account(1)).unwrap());
        places.clear();
        assert!(watches.of_accounts.lock().unwrap().is_empty());
        assert_eq!(watches.gauge.get(), 0);
    }
}
