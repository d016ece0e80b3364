//! How much memory the bodies of all requests may take: a server that reads whatever it is sent is one that anybody can fill.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inferadb_actors::VaultError;
use prometheus::{IntCounterVec, IntGauge, Opts, Registry};
use uuid::Uuid;

use super::places::RETRY_AFTER;

/// So much of each body is not counted, in bytes: about as much waits for a connection anyway, and a check is less.
pub const FREE_BYTES: usize = 16 << 10;

/// The bodies that the server holds, whole or in part, beyond the first [`FREE_BYTES`] of each. Clones count together.
#[derive(Debug, Clone)]
pub struct Bodies(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    most_of_account: usize,
    held: Mutex<Held>,
    gauge: IntGauge,
    refused: IntCounterVec,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    /// By the account of the token, if it names one.
    of_accounts: HashMap<Option<Uuid>, usize>,
}

/// What one body takes, given back when it is dropped.
#[derive(Debug)]
pub struct Room {
    bodies: Bodies,
    account: Option<Uuid>,
    bytes: usize,
}

impl Bodies {
    /// None so far, and at most so many bytes in all and of one account's requests; how many there are is a metric.
    pub fn new(registry: &Registry, most: usize, most_of_account: usize) -> Result<Self, prometheus::Error> {
        let gauge = IntGauge::new(
            "inferadb_bodies_bytes",
            "Bytes of request bodies in memory, beyond the first 16 KiB of each.",
        )?;
        let refused = IntCounterVec::new(
            Opts::new(
                "inferadb_bodies_refused_total",
                "Requests whose body there was no room for, by the setting they were over.",
            ),
            &["limit"],
        )?;
        registry.register(Box::new(gauge.clone()))?;
        registry.register(Box::new(refused.clone()))?;
        Ok(Self(Arc::new(Inner {
            most,
            most_of_account,
            held: Mutex::default(),
            gauge,
            refused,
        })))
    }

    /// No room yet, for a body of that account's.
    pub fn room(&self, account: Option<Uuid>) -> Room {
        Room {
            bodies: self.clone(),
            account,
            bytes: 0,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Takes room for `bytes` in all. A body that is alone is always taken, however large one may be.
    ///
    /// # Errors
    ///
    /// [`VaultError::Overloaded`] where all bodies together are too much, [`VaultError::RateLimited`] where the account's are.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), VaultError> {
        let more = bytes.saturating_sub(self.bytes);
        let Inner {
            most,
            most_of_account,
            gauge,
            refused,
            ..
        } = &*self.bodies.0;
        let mut held = self.bodies.held();
        let of_account = held.of_accounts.get(&self.account).copied().unwrap_or(0);
        let is_over = |held: usize, most: usize| held > self.bytes && held.saturating_add(more) > most;
        if is_over(of_account, *most_of_account) {
            refused.with_label_values(&["max_account_bodies_bytes"]).inc();
            return Err(VaultError::RateLimited {
                limit: "max_account_bodies_bytes",
                retry_after: RETRY_AFTER,
            });
        }
        if is_over(held.bytes, *most) {
            refused.with_label_values(&["max_bodies_bytes"]).inc();
            return Err(VaultError::Overloaded(
                "the bodies of the requests under way take all the memory there is for them (`server.max_bodies_bytes`)",
            ));
        }
        held.bytes += more;
        held.of_accounts.insert(self.account, of_account + more);
        gauge.set(i64::try_from(held.bytes).unwrap_or(i64::MAX));
        drop(held);
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut held = self.bodies.held();
        held.bytes = held.bytes.saturating_sub(self.bytes);
        self.bodies
            .0
            .gauge
            .set(i64::try_from(held.bytes).unwrap_or(i64::MAX));
        match held.of_accounts.get_mut(&self.account) {
            Some(bytes) if *bytes > self.bytes => *bytes -= self.bytes,
            _ => drop(held.of_accounts.remove(&self.account)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_account_takes_the_room_of_others_and_one_body_alone_always_fits() {
        let bodies = Bodies::new(&Registry::new(), 1_000, 400).unwrap();
        let account = |number| Some(Uuid::from_u128(number));
        let room = |number, bytes| {
            let mut room = bodies.room(account(number));
            room.grow_to(bytes).map(|()| room)
        };
        let limit = |refused: Result<Room, VaultError>| refused.map(drop).unwrap_err().to_string();
        let mut first = room(1, 300).unwrap();
        assert!(limit(room(1, 101)).contains("max_account_bodies_bytes"));
        first.grow_to(250).unwrap();
        assert_eq!(bodies.held().bytes, 300, "it does not shrink");
        first.grow_to(400).unwrap();
        assert!(limit(room(1, 1)).contains("max_account_bodies_bytes"));
        let _second = room(2, 400).unwrap();
        assert!(limit(room(3, 201)).contains("server.max_bodies_bytes"));
        let mut third = room(3, 200).unwrap();
        assert!(third.grow_to(201).is_err());
        drop(first);
        third.grow_to(5_000).unwrap_err();
        third.grow_to(400).unwrap();
        assert_eq!(bodies.0.gauge.get(), 800);
        drop((third, _second));
        let held = bodies.held();
        assert!(held.bytes == 0 && held.of_accounts.is_empty());
        drop(held);
        let _alone = room(4, 5_000).unwrap();
        assert!(limit(room(5, 1)).contains("server.max_bodies_bytes"));
        assert_eq!(bodies.0.gauge.get(), 5_000);
    }
}
