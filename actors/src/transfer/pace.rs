//! Pace: the work of a transfer goes in turns as every vault's heavy work does, and is charged to its vault.
//!
//! A transfer goes past the vault's actor, and its vault need not be active: what it uses is then counted here.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;
use inferadb_engine::schema::{Compiled, Format};
use inferadb_storage::VaultId;
use tokio::sync::Semaphore;

use crate::apart;
use crate::error::VaultError;
use crate::overload::WINDOW;
use crate::platform::Platform;
use crate::registry::Registry;
use crate::turn::Turn;

/// What vaults use of the CPU for transfers while they are not active.
#[derive(Debug, Default)]
pub(crate) struct Inactive {
    vaults: Mutex<HashMap<VaultId, Use>>,
}

#[derive(Debug, Default)]
struct Use {
    /// Transfers under way.
    transfers: usize,
    /// Nanoseconds in this window.
    used: u64,
    /// What they may come to in this window; `None`: any number.
    most: Option<u64>,
}

impl Inactive {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<VaultId, Use>> {
        self.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, vault: VaultId) {
        self.lock().entry(vault).or_default().transfers += 1;
    }

    fn end(&self, vault: VaultId) {
        let mut vaults = self.lock();
        let is_last = vaults.get_mut(&vault).is_none_or(|held| {
            held.transfers -= 1;
            held.transfers == 0
        });
        if is_last {
            vaults.remove(&vault);
        }
    }

    fn charge(&self, vault: VaultId, nanos: u64) {
        if let Some(held) = self.lock().get_mut(&vault) {
            held.used = held.used.saturating_add(nanos);
        }
    }

    fn is_spent(&self, vault: VaultId) -> bool {
        self.lock()
            .get(&vault)
            .is_some_and(|held| held.most.is_some_and(|most| held.used >= most))
    }

    /// Ends a window: how many nanoseconds each used that used any.
    pub(crate) fn end_window(&self) -> Vec<u64> {
        let mut vaults = self.lock();
        let used = vaults.values_mut().map(|held| std::mem::take(&mut held.used));
        used.filter(|used| *used > 0).collect()
    }

    /// Lets each use so many nanoseconds in the window that begins.
    pub(crate) fn hold_to(&self, nanos: Option<u64>) {
        for held in self.lock().values_mut() {
            held.most = nanos;
        }
    }
}

/// The pace of one transfer of a vault. Clones are of the same transfer.
#[derive(Clone)]
pub struct Pace(Arc<Inner>);

struct Inner {
    vault: VaultId,
    platform: Platform,
    /// Nanoseconds that have yet to be charged.
    used: AtomicU64,
    in_turns: AtomicUsize,
    compiling: Arc<Semaphore>,
}

/// Says that the work is worth another look.
struct Notice {
    is_due: AtomicBool,
    task: AtomicWaker,
}

impl Pace {
    /// Of a transfer of `vault` that begins now.
    pub(super) fn new(platform: &Platform, vault: VaultId) -> Self {
        platform.registry.inactive().begin(vault);
        Self(Arc::new(Inner {
            vault,
            platform: platform.clone(),
            used: AtomicU64::new(0),
            in_turns: AtomicUsize::new(0),
            compiling: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Does work in turns: each time it has something to do is one of the vault's turns on the thread, and no turn is held while it waits. Where the
    /// server is overloaded and the vault has used its share, it waits for the next window.
    ///
    /// How long a turn is, is up to the work: it must yield.
    pub async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        self.go(work, true).await
    }

    /// As [`Pace::take`], but without waiting for a share: others wait for what is done.
    pub(super) async fn hurry<T>(&self, work: impl Future<Output = T>) -> T {
        self.go(work, false).await
    }

    async fn go<T>(&self, work: impl Future<Output = T>, may_wait: bool) -> T {
        let mut work = pin!(work);
        let notice = Arc::new(Notice {
            is_due: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        let waker = Waker::from(Arc::clone(&notice));
        let mut turn = self.turn();
        loop {
            while may_wait && self.is_spent() {
                tokio::time::sleep(WINDOW).await;
            }
            turn.begin().await;
            notice.is_due.store(false, Ordering::Release);
            let step = step(work.as_mut(), &waker);
            turn.pause();
            self.settle();
            match step {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => notice.due().await,
            }
        }
    }

    /// Compiles a schema, apart from the threads that answer requests.
    pub(super) async fn compile(&self, format: Format, text: String) -> Result<Compiled, VaultError> {
        // The semaphore is never closed.
        let own = Arc::clone(&self.0.compiling).acquire_owned().await;
        let own = own.map_err(|_| VaultError::ActorFailed)?;
        let pace = self.clone();
        let charge = move |nanos| {
            pace.0.used.fetch_add(nanos, Ordering::Relaxed);
            pace.settle();
        };
        let compiled = apart::of_request(own, charge, move || format.compile(&text)).await?;
        compiled.map_err(VaultError::Schema)
    }

    /// Turns, of which even the first is waited for: a transfer is no light request.
    fn turn(&self) -> Turn<'_> {
        let Inner {
            vault,
            platform,
            used,
            in_turns,
            ..
        } = &*self.0;
        let turns = platform.registry.turns();
        Turn::of_heavy_work(*vault, platform.settings.turn, (used, in_turns), turns)
    }

    fn registry(&self) -> &Registry {
        &self.0.platform.registry
    }

    /// Charges what was used to the vault.
    fn settle(&self) {
        let used = self.0.used.swap(0, Ordering::Relaxed);
        match self.registry().active(self.0.vault) {
            Some(vault) => vault.charge(used),
            None => self.registry().inactive().charge(self.0.vault, used),
        }
    }

    fn is_spent(&self) -> bool {
        match self.registry().active(self.0.vault) {
            Some(vault) => vault.is_spent(),
            None => self.registry().inactive().is_spent(self.0.vault),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.platform.registry.inactive().end(self.vault);
    }
}

impl Notice {
    async fn due(&self) {
        std::future::poll_fn(|task| {
            self.task.register(task.waker());
            match self.is_due.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }
}

impl Wake for Notice {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_due.store(true, Ordering::Release);
        self.task.wake();
    }
}

fn step<F: Future>(work: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    work.poll(&mut Context::from_waker(waker))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_not_active_is_counted_while_it_is_transferred() {
        let (inactive, vault) = (Inactive::default(), VaultId(Uuid::from_u128(1)));
        inactive.charge(vault, 5);
        assert!(inactive.end_window().is_empty(), "nothing is under way");
        inactive.begin(vault);
        inactive.begin(vault);
        inactive.charge(vault, 5);
        assert!(!inactive.is_spent(vault));
        assert_eq!(inactive.end_window(), [5]);
        inactive.hold_to(Some(3));
        assert!(!inactive.is_spent(vault), "a new window has begun");
        inactive.charge(vault, 3);
        assert!(inactive.is_spent(vault));
        assert_eq!(inactive.end_window(), [3]);
        assert!(!inactive.is_spent(vault));
        inactive.end(vault);
        inactive.charge(vault, 3);
        assert!(inactive.is_spent(vault), "one is still under way");
        inactive.end(vault);
        assert!(inactive.lock().is_empty());
    }
}
