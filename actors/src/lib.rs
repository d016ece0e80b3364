//! One supervised actor per active vault, the registry that runs them, and the auth actor.

pub mod auth;
mod decisions;
mod error;
mod limiter;
mod limits;
mod metrics;
mod platform;
mod registry;
mod retention;
mod settings;
mod sweeper;
mod vault;
mod view;

pub use inferadb_storage::{
    AccountId, AccountRecord, Backend, Precondition, RelationshipFilter, Revision, StoreError,
    SubjectRelation, VaultId, VaultRecord,
};

pub use self::error::VaultError;
pub use self::platform::{Page, Platform, Reach, StartError, StatsReport, VaultChange};
pub use self::registry::Reason;
pub use self::settings::{CacheSettings, Limits, Settings};
pub use self::vault::{
    Answer, Batch, CheckRequest, Committed, Consistency, DeleteRequest, Explanation, ListPage, ListRequest,
    Paging, Pass, Permission, Permissions, PermissionsRequest, ReadPage, ResourcesRequest, SchemaWrite,
    SubjectsRequest, Vault, VaultStats, WriteRequest, now,
};
