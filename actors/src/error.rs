//! Why a vault did not answer. The HTTP status of each is decided in one place of the server.

use std::time::Duration;

use inferadb_engine::evaluate::EvaluationError;
use inferadb_engine::noun::RelationshipKey;
use inferadb_engine::schema::{Diagnostic, Misfit};
use inferadb_storage::{Shape, StoreError, SubjectClass};

/// Why a request to a vault, or to the directory of accounts and vaults, failed. Never a decision.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    /// The vault does not exist, is another account's, or is archived: all three look alike.
    #[error("Vault access denied")]
    AccessDenied,
    /// No such account or vault, or none that the caller may see.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The account still owns vaults.
    #[error("the account still owns vaults; delete them first, or ask for `cascade=true`")]
    AccountNotEmpty,
    /// The request does not make sense to this vault.
    #[error("{message}")]
    Invalid {
        /// A stable word.
        code: &'static str,
        /// The request's member that is at fault.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// A relationship does not fit the schema.
    #[error("{misfit}")]
    Misfit {
        /// Where in the request it stands, such as `touch[3]`.
        at: String,
        /// What does not fit.
        misfit: Misfit,
    },
    /// The schema does not compile.
    #[error("the schema does not compile")]
    Schema(Vec<Diagnostic>),
    /// Stored relationships would no longer fit the new schema.
    #[error("stored relationships would no longer fit the schema")]
    SchemaInUse {
        /// The kinds of relationships that would not fit, in words, with how many are stored.
        kinds: Vec<String>,
        /// Some of them.
        examples: Vec<RelationshipKey>,
    },
    /// A relationship to be created is there already.
    #[error("the relationship `{0}` exists already")]
    AlreadyExists(RelationshipKey),
    /// A precondition does not hold.
    #[error("precondition {0} does not hold")]
    PreconditionFailed(usize),
    /// The state of things is against it.
    #[error("{message}")]
    Conflict {
        /// A stable word.
        code: &'static str,
        /// What is against it.
        message: String,
    },
    /// The revision asked for lies ahead of everything that was ever committed to the vault.
    #[error("the revision is ahead of the vault's latest")]
    RevisionAhead,
    /// The changes asked for are no longer kept.
    #[error(
        "the changes after this revision are no longer kept; read the relationships and watch from their revision on"
    )]
    HistoryGone,
    /// Evaluation passed a limit, or could not decide.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// Over one of the vault's limits, or of its account's.
    #[error("the {} is over its limit `{limit}`", whose(limit))]
    RateLimited {
        /// The limit's name.
        limit: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// Too much is waiting already, here or in the whole server.
    #[error("overloaded: {0}")]
    Overloaded(&'static str),
    /// The vault's actor failed while it worked on the request.
    #[error(
        "the vault's actor failed while it worked on the request; whether a write was applied is not known"
    )]
    ActorFailed,
    /// A write may have been applied, or not.
    #[error("whether the write was applied is not known; read before trying again")]
    OutcomeUnknown,
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// The request's deadline passed.
    #[error("the deadline passed")]
    DeadlinePassed,
    /// Storage cannot be reached or is failing.
    #[error(transparent)]
    Storage(StoreError),
}

/// Whose limit it is.
fn whose(limit: &str) -> &'static str {
    match limit.starts_with("max_account_") {
        true => "account",
        false => "vault",
    }
}

impl VaultError {
    /// What a failure of storage means to the caller.
    pub fn from_store(error: StoreError) -> Self {
        match error {
            StoreError::AccountNotFound => Self::NotFound("account"),
            StoreError::VaultNotFound => Self::NotFound("vault"),
            // Archived after the request was let in: as if it had come later.
            StoreError::VaultArchived => Self::AccessDenied,
            StoreError::AccountOwnsVaults => Self::AccountNotEmpty,
            StoreError::AlreadyExists { key } => Self::AlreadyExists(*key),
            StoreError::Duplicate { key } => Self::Invalid {
                code: "duplicate_relationship",
                field: "touch".into(),
                message: format!("the relationship `{key}` appears more than once in this request"),
            },
            StoreError::PreconditionFailed { index } => Self::PreconditionFailed(index),
            StoreError::Misfits { shapes, examples } => Self::SchemaInUse {
                kinds: shapes.iter().map(describe).collect(),
                examples,
            },
            StoreError::FilterTooBroad { index, .. } => Self::Invalid {
                code: "filter_too_broad",
                field: format!("preconditions[{index}]"),
                message: error.to_string(),
            },
            StoreError::BadPosition => Self::Invalid {
                code: "invalid_cursor",
                field: "cursor".into(),
                message: "the cursor does not belong to this list".into(),
            },
            StoreError::HistoryGone => Self::HistoryGone,
            StoreError::TooManyChanges => {
                Self::Overloaded("more is being written than can be kept apart from an earlier state")
            }
            StoreError::TooManyImports => Self::RateLimited {
                limit: "imports",
                retry_after: Duration::from_secs(30),
            },
            StoreError::ImportGone => Self::Conflict {
                code: "import_abandoned",
                message: error.to_string(),
            },
            StoreError::Replaced => Self::Conflict {
                code: "vault_replaced",
                message: error.to_string(),
            },
            StoreError::OutcomeUnknown => Self::OutcomeUnknown,
            StoreError::Contended => Self::Overloaded("too many conflicting changes at the same time"),
            error => Self::Storage(error),
        }
    }
}

/// A shape in words: ``3 of `document#viewer@group#member with office and expiration` ``.
fn describe(shape: &Shape) -> String {
    format!("{} of `{}`", shape.count, kind_of(shape))
}

/// A shape in words, without its count.
pub(crate) fn kind_of(shape: &Shape) -> String {
    let Shape {
        resource_type,
        relation,
        subject_type,
        subject_class,
        caveat,
        expires,
        count: _,
    } = shape;
    let mut text = format!("{resource_type}#{relation}@{subject_type}");
    match subject_class {
        SubjectClass::Object => {}
        SubjectClass::Wildcard => text.push_str(":*"),
        SubjectClass::Userset(member) => text.push_str(&format!("#{member}")),
    }
    match (caveat, expires) {
        (Some(caveat), true) => text.push_str(&format!(" with {caveat} and expiration")),
        (Some(caveat), false) => text.push_str(&format!(" with {caveat}")),
        (None, true) => text.push_str(" with expiration"),
        (None, false) => {}
    }
    text
}
