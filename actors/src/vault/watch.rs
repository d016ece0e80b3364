//! Watches: every change of one vault, in order, from a revision on, without loss or repeat.
//!
//! A watch has nothing but its position. What lies between that and the vault's published view it takes from the vault's
//! feed, or from the change log where the feed does not reach back so far. It pins its vault; if the vault's actor goes all
//! the same, the watch goes on with the next one, and ends if there is none to be had.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use inferadb_storage::{AccountId, Change, Revision, VaultId};
use tokio::sync::watch;

use super::feed::Pulse;
use super::gate::Place;
use super::read::in_turns;
use super::{Consistency, Vault};
use crate::error::VaultError;
use crate::platform::Platform;

/// The most changes that are read in one go.
const READ_CHANGES: usize = 64;
/// Enough of the log for one go, in bytes: it is made of its records in one piece. One change can be more.
const READ_BYTES: usize = 64 << 10;

/// The changes of one vault, one after another.
pub struct Watch {
    platform: Platform,
    vault: VaultId,
    account: AccountId,
    session: Session,
    position: Revision,
}

/// A watch's place in an active vault.
struct Session {
    vault: Arc<Vault>,
    pulse: watch::Receiver<Pulse>,
    _place: Place,
}

impl Platform {
    /// Watches a vault, on behalf of somebody inside, from the state after `since`, or from its newest state on.
    ///
    /// # Errors
    ///
    /// [`VaultError::RevisionAhead`], [`VaultError::HistoryGone`], [`VaultError::RateLimited`] where the vault has as many
    /// watches as it may; storage's.
    pub async fn watch(&self, vault: Arc<Vault>, since: Option<Revision>) -> Result<Watch, VaultError> {
        let (id, account) = (vault.id, vault.account);
        let session = Session::of(vault)?;
        let position = match since {
            Some(since) => {
                session.vault.view_for(Consistency::AtLeast(since)).await?;
                // Whether the history reaches back so far is to be known before the first change is sent.
                session.vault.log(since, 1).await?;
                since
            }
            None => {
                session
                    .vault
                    .view_for(Consistency::FullyConsistent)
                    .await?
                    .revision
            }
        };
        Ok(Watch {
            platform: self.clone(),
            vault: id,
            account,
            session,
            position,
        })
    }
}

impl Watch {
    /// The state up to which every change has been answered: a later watch can go on from here.
    pub fn position(&self) -> Revision {
        self.position
    }

    /// The vault, as it is active now.
    pub fn vault(&self) -> &Arc<Vault> {
        &self.session.vault
    }

    /// The next changes, at least one, oldest first; waits for them. Reads of this server show what is answered. Nothing
    /// is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// [`VaultError::HistoryGone`] if the changes were trimmed from the log before they were read,
    /// [`VaultError::AccessDenied`] if the vault was deleted or archived, [`VaultError::Stopping`]; storage's.
    pub async fn next(&mut self) -> Result<Vec<Arc<Change>>, VaultError> {
        loop {
            let pulse = *self.session.pulse.borrow_and_update();
            if pulse.revision > self.position {
                let changes = self.session.vault.changes(self.position, pulse.revision).await?;
                if let Some(last) = changes.last() {
                    self.position = last.revision;
                    return Ok(changes);
                }
            }
            let is_gone = pulse.closed || self.session.pulse.changed().await.is_err();
            if is_gone {
                self.session = self.rejoin().await?;
            }
        }
    }

    /// A place in the vault as it is active now. One that has too much to do at the moment is asked again: whoever watches
    /// has been let in. One that may have fewer watches by now ends this one.
    async fn rejoin(&self) -> Result<Session, VaultError> {
        loop {
            let entered = self.platform.enter(self.vault, self.account).await;
            match entered.and_then(|(vault, _pass)| Session::of(vault)) {
                Err(VaultError::RateLimited { limit, retry_after }) if limit != "max_watches" => {
                    tokio::time::sleep(retry_after).await;
                }
                joined => return joined,
            }
        }
    }
}

impl Session {
    /// A session of somebody inside: nobody can evict the vault before the place is taken.
    fn of(vault: Arc<Vault>) -> Result<Self, VaultError> {
        let most = vault.limits.load().max_watches as usize;
        let place = vault
            .gate
            .watch(most)
            .ok_or_else(|| vault.over("max_watches", Duration::from_secs(5)))?;
        let pulse = vault.feed.follow();
        vault.metrics.watches(1);
        Ok(Self {
            vault,
            pulse,
            _place: place,
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.vault.metrics.watches(-1);
        // A vault whose last watch ends was in use until now.
        self.vault
            .pulse
            .last_used
            .store(super::now().0, Ordering::Relaxed);
    }
}

impl Vault {
    /// Ends when the vault's actor is going or gone.
    pub async fn closing(&self) {
        let mut pulse = self.feed.follow();
        // The other end lives as long as the vault does.
        let _ = pulse.wait_for(|pulse| pulse.closed).await;
    }

    /// Some changes after `after`, none after `through`.
    async fn changes(&self, after: Revision, through: Revision) -> Result<Vec<Arc<Change>>, VaultError> {
        if let Some(changes) = self.feed.between(after, through, READ_CHANGES) {
            return Ok(changes);
        }
        let mut turn = self.heavy_turn();
        let changes = in_turns(&mut turn, self.log(after, READ_CHANGES)).await?;
        Ok(changes
            .into_iter()
            .take_while(|change| change.revision <= through)
            .map(Arc::new)
            .collect())
    }

    async fn log(&self, after: Revision, limit: usize) -> Result<Vec<Change>, VaultError> {
        match self
            .store
            .changes_of_size(self.id, after, limit, READ_BYTES)
            .await
            .map_err(VaultError::from_store)
        {
            Err(VaultError::NotFound(_)) => Err(VaultError::AccessDenied),
            read => read,
        }
    }
}
