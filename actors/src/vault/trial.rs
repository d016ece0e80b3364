//! Trials inside a vault's requests: what is tried is asked apart from the threads that answer requests, one trial of a vault at a
//! time and in slices, between which whatever else is wanted apart is done.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use inferadb_engine::evaluate::Limits;
use inferadb_storage::background;
use tokio::sync::OwnedSemaphorePermit;

use super::Vault;
use crate::error::VaultError;
use crate::turn::PIECE;

/// After so long a trial lets others have the place that it is run in: schemas are compiled there, too.
const SLICE: Duration = Duration::from_millis(10);

/// A trial between two of its slices. Wherever it ends, what it has asked is owed before the vault's next trial begins.
struct Running<T> {
    work: Pin<Box<dyn Future<Output = T> + Send>>,
    vault: Arc<Vault>,
    /// The checks that were made.
    checks: Arc<AtomicUsize>,
    /// Those of them that are charged to the vault's rate.
    charged: usize,
    /// Let go of after all else: then the vault's next trial may begin.
    _own: OwnedSemaphorePermit,
}

impl Vault {
    /// Runs the trial that `begin` makes of the limits of each check and of where to count the checks that are made. Nothing in it waits:
    /// where it yields, its slice may end.
    ///
    /// One check is charged to the vault's rate before. How many it would be was not known: those beyond are owed as they are made,
    /// and later checks wait for them. The CPU is charged by the clock. A trial whose request is given up ends with its slice.
    ///
    /// # Errors
    ///
    /// [`VaultError::RateLimited`]; [`VaultError::ActorFailed`] if the trial panics.
    pub async fn run_trial<F>(
        self: &Arc<Self>,
        begin: impl FnOnce(Limits, Arc<AtomicUsize>) -> F,
    ) -> Result<F::Output, VaultError>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        // The semaphore is never closed.
        let own = Arc::clone(&self.trials).acquire_owned().await;
        let own = own.map_err(|_| VaultError::ActorFailed)?;
        // Not before: what the trial before this one owes is known now.
        self.take_checks(1)?;
        let checks = Arc::new(AtomicUsize::new(0));
        let limits = self.limits.load().for_engine(4 * PIECE);
        let mut running = Running {
            work: Box::pin(begin(limits, Arc::clone(&checks))),
            vault: Arc::clone(self),
            checks,
            charged: 1,
            _own: own,
        };
        loop {
            match self.apart(move || running.slice()).await? {
                Ok(outcome) => return Ok(outcome),
                Err(goes_on) => running = *goes_on,
            }
            self.give_way().await;
        }
    }
}

impl<T> Running<T> {
    /// Goes on for a while: the outcome, or what is left to do.
    fn slice(mut self) -> Result<T, Box<Self>> {
        let begun = Instant::now();
        // Nothing wakes it: it is looked at again because it only yields.
        let mut nobody = Context::from_waker(Waker::noop());
        loop {
            background::breathe();
            if let Poll::Ready(outcome) = self.work.as_mut().poll(&mut nobody) {
                return Ok(outcome);
            }
            if begun.elapsed() >= SLICE {
                self.settle();
                return Err(Box::new(self));
            }
        }
    }

    /// Charges the checks that were made since the last time.
    fn settle(&mut self) {
        let made = self.checks.load(Ordering::Relaxed).max(self.charged);
        let rate = self.vault.limits.load().checks_per_second;
        self.vault.checks.owe(rate, made - self.charged);
        self.charged = made;
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.settle();
    }
}
