//! The way of a commit: how much of one vault is under way to storage at once, what it is charged for, and what is heavy and done
//! apart.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use inferadb_engine::schema::{Compiled, Format};
use tokio::sync::OwnedSemaphorePermit;

use super::messages::Commit;
use super::{Committed, Operation, RETRY_AFTER, Vault};
use crate::apart;
use crate::error::VaultError;
use crate::ledger::Charge;
use crate::overload::WINDOW;

/// What committing a changed relationship is taken to cost, in nanoseconds, on whatever thread.
const NANOS_A_CHANGE: u64 = 10_000;
/// How many changes of one vault are at storage at once: the transactions of others do not wait behind many large ones of one
/// vault, and enough small ones still share a group commit.
pub(super) const CHANGES_AT_STORAGE: u32 = 1_000;
/// What the writes of one vault that are under way or wait may weigh together, in kibibytes; a single one may be more.
pub(super) const WRITING_KIB: u32 = 128 << 10;
/// A write of no more is not asked whether there is room for it.
const SMALL_WRITE_BYTES: usize = 64 << 10;

impl Vault {
    /// Commits a change; the answer comes when reads of this server show it.
    pub async fn commit(&self, operation: Operation) -> Result<Committed, VaultError> {
        let changes = u32::try_from(operation.changes()).unwrap_or(u32::MAX);
        let _waiting = Waiting::enter(self)?;
        let most = match operation {
            // They can go on for long: smaller writes need not wait for all of it.
            Operation::Delete(_) | Operation::Schema(..) => CHANGES_AT_STORAGE / 2,
            Operation::Write(..) => CHANGES_AT_STORAGE,
        };
        // The semaphore is never closed.
        let share = Arc::clone(&self.committing)
            .acquire_many_owned(changes.clamp(1, most))
            .await
            .map_err(|_| VaultError::ActorFailed)?;
        // How much a delete by filter changes is charged as it goes.
        if !matches!(operation, Operation::Delete(_)) {
            self.charge_changes(changes as usize);
        }
        self.send(Commit { operation, share }).await
    }

    /// Takes room for a write that weighs `bytes` until it is done: of what one vault's writes may weigh, and, for one that is not small,
    /// of the memory of all vaults.
    pub(super) fn hold_write(&self, bytes: usize) -> Result<HeldWrite, VaultError> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.writing)
            .try_acquire_many_owned(kib.clamp(1, WRITING_KIB))
            .map_err(|_| self.over("mailbox_capacity", RETRY_AFTER))?;
        let charge = self.memory.ledger.charge();
        if bytes > SMALL_WRITE_BYTES && !charge.try_set(bytes) {
            return Err(VaultError::Overloaded(
                "there is no memory for so large a write now",
            ));
        }
        Ok(HeldWrite {
            _room: room,
            _charge: charge,
        })
    }

    /// Charges what it takes to commit so many changed relationships.
    pub(super) fn charge_changes(&self, changes: usize) {
        let changes = u64::try_from(changes).unwrap_or(u64::MAX);
        self.charge(NANOS_A_CHANGE.saturating_mul(changes));
    }

    /// Where the server is overloaded and the vault has used its share, waits for the next window. It is not waited for longer: the vault may
    /// be held until nobody is inside.
    pub(super) async fn give_way(&self) {
        if self.is_spent() {
            tokio::time::sleep(WINDOW).await;
        }
    }

    /// Does work that is heavy and cannot be done in turns, such as compiling a schema, apart from the threads that answer requests. A vault has one such
    /// piece of work done at a time, and is charged for it.
    ///
    /// # Errors
    ///
    /// [`VaultError::ActorFailed`] if the work panics.
    pub async fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, VaultError> {
        // The semaphore is never closed.
        let own = Arc::clone(&self.apart).acquire_owned().await;
        let own = own.map_err(|_| VaultError::ActorFailed)?;
        let vault = Arc::clone(self);
        apart::of_request(own, move |nanos| vault.charge(nanos), work).await
    }

    /// Compiles a schema, apart from the threads that answer requests.
    ///
    /// # Errors
    ///
    /// [`VaultError::Schema`] if it does not compile.
    pub async fn compile(self: &Arc<Self>, format: Format, text: String) -> Result<Compiled, VaultError> {
        let compiled = self.apart(move || format.compile(&text)).await?;
        compiled.map_err(VaultError::Schema)
    }

    /// Charges `changes` to the vault's rate of writes.
    pub(super) fn take_writes(&self, changes: usize) -> Result<(), VaultError> {
        self.writes
            .take(self.limits.load().writes_per_second, changes)
            .map_err(|retry_after| self.over("writes_per_second", retry_after))
    }
}

/// The room of a write that is under way.
pub(super) struct HeldWrite {
    _room: OwnedSemaphorePermit,
    _charge: Charge,
}

/// Counts a request that waits for the actor.
pub(super) struct Waiting<'a>(&'a Vault);

impl<'a> Waiting<'a> {
    pub(super) fn enter(vault: &'a Vault) -> Result<Self, VaultError> {
        let before = vault.pulse.waiting.fetch_add(1, Ordering::Relaxed);
        vault.metrics.entered_mailbox();
        let waiting = Self(vault);
        if before >= vault.limits.load().mailbox_capacity as usize {
            return Err(vault.over("mailbox_capacity", RETRY_AFTER));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.pulse.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.left_mailbox();
    }
}
