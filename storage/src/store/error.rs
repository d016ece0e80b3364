//! The one error type of the storage layer.

use inferadb_engine::noun::RelationshipKey;

use super::shape::Shape;
use crate::codec::{MAX_CONTEXT_DEPTH, TooDeep};
use crate::id::{AccountId, VaultId};
use crate::kv::KvError;

/// Why the storage layer did not do what was asked. Unless said otherwise nothing was changed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// There is no such account.
    #[error("no such account")]
    AccountNotFound,
    /// There is no such vault, or no longer.
    #[error("no such vault")]
    VaultNotFound,
    /// The account still owns vaults.
    #[error("the account owns vaults")]
    AccountOwnsVaults,
    /// The configured default vault exists already and belongs to another account.
    #[error(
        "the configured default vault `{vault}` belongs to account `{owner}`, not to the default account"
    )]
    DefaultVaultElsewhere {
        /// The configured vault.
        vault: VaultId,
        /// The account it belongs to.
        owner: AccountId,
    },
    /// A relationship that was to be created exists.
    #[error("the relationship `{key}` exists already")]
    AlreadyExists {
        /// Which one.
        key: Box<RelationshipKey>,
    },
    /// A relationship stands twice in one write.
    #[error("the relationship `{key}` appears twice in one write")]
    Duplicate {
        /// Which one.
        key: Box<RelationshipKey>,
    },
    /// A precondition does not hold.
    #[error("precondition {index} does not hold")]
    PreconditionFailed {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// The vault's schema is not the one the write was validated against: validate again.
    #[error("the schema has changed meanwhile")]
    SchemaMoved,
    /// Stored relationships do not fit the new schema.
    #[error("stored relationships do not fit the schema")]
    Misfits {
        /// Their shapes.
        shapes: Vec<Shape>,
        /// Up to five of them.
        examples: Vec<RelationshipKey>,
    },
    /// The changes after the given revision have been trimmed.
    #[error("the history after this revision is gone")]
    HistoryGone,
    /// More was changed meanwhile than a reader of an earlier state can undo in memory.
    #[error("more was written meanwhile than can be undone to read an earlier state")]
    TooManyChanges,
    /// As many imports into the vault are under way, or were broken off lately, as there may be.
    #[error("too many imports into the vault are under way")]
    TooManyImports,
    /// The import stood still for so long that it was given up, and what it had stored is gone.
    #[error("the import stood still for too long and was given up")]
    ImportGone,
    /// The vault is archived, and takes nothing.
    #[error("the vault is archived")]
    VaultArchived,
    /// Another import switched the vault over meanwhile.
    #[error("another import has replaced what the vault holds meanwhile")]
    Replaced,
    /// A list position does not belong to this list.
    #[error("the position does not belong to this list")]
    BadPosition,
    /// A precondition's filter would read too much.
    #[error("the filter of precondition {index} is too broad: it would read more than {limit} relationships")]
    FilterTooBroad {
        /// Its place in the list, from 0.
        index: usize,
        /// The most that is read.
        limit: usize,
    },
    /// Others kept changing what this touches, many times over. Try later.
    #[error("too many conflicting changes at the same time")]
    Contended,
    /// The snapshot is too old to read from. Take a new one.
    #[error("the snapshot is too old")]
    SnapshotTooOld,
    /// Storage failed at the moment of the commit, and it could not be found out whether the change is stored.
    #[error("storage failed during the commit: the change may or may not be stored")]
    OutcomeUnknown,
    /// More than storage can hold in one piece.
    #[error("over a limit of storage: {0}")]
    TooLarge(String),
    /// Storage cannot be reached or is overloaded. Try later.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// The store cannot be used: damaged, of an unknown format, or on a failing disk.
    #[error("storage is damaged or failing: {0}")]
    Damaged(String),
    /// This build does not have the chosen backend.
    #[error("this build has no FoundationDB support: build with `--features foundationdb`")]
    BackendMissing,
}

impl StoreError {
    /// Something stored at the named place cannot be read.
    pub(super) fn unreadable(what: &str) -> Self {
        Self::Damaged(format!("a stored {what} cannot be read"))
    }
}

impl From<KvError> for StoreError {
    fn from(error: KvError) -> Self {
        match error {
            KvError::Conflict => Self::Contended,
            KvError::TooOld => Self::SnapshotTooOld,
            KvError::CommitUnknown => Self::OutcomeUnknown,
            KvError::TooLarge(reason) => Self::TooLarge(reason),
            KvError::Unavailable(reason) => Self::Unavailable(reason),
            KvError::Damaged(reason) => Self::Damaged(reason),
            KvError::Unreadable => Self::Damaged(KvError::Unreadable.to_string()),
        }
    }
}

impl From<TooDeep> for StoreError {
    fn from(TooDeep: TooDeep) -> Self {
        Self::TooLarge(format!(
            "a caveat's context is nested deeper than {MAX_CONTEXT_DEPTH}"
        ))
    }
}
