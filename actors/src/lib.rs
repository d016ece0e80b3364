//! One supervised actor per active vault, the registry that runs them, and the auth actor.

mod apart;
pub mod auth;
mod decisions;
mod error;
mod heavy;
mod ledger;
mod limiter;
mod limits;
mod memory;
mod metrics;
mod overload;
mod platform;
mod registry;
mod retention;
mod rows;
mod schemas;
mod series;
mod settings;
mod sweeper;
mod sweeps;
mod transfer;
mod trial;
mod turn;
mod vault;
mod view;
mod weight;

pub use inferadb_storage::{
    AccountId, AccountRecord, Backend, BadKeyPrefix, Change, ChangeKind, ChangeOp, KeyPrefix, LogSize,
    Precondition, RelationshipFilter, Revision, StoreError, SubjectRelation, VaultId, VaultRecord,
    background, stop_client,
};

pub use self::error::VaultError;
pub use self::heavy::HeavyThreads;
pub use self::overload::LagMeter;
pub use self::platform::{Page, Platform, Reach, StartError, StatsReport, VaultChange};
pub use self::registry::Reason;
pub use self::settings::{CacheSettings, Limits, Settings};
pub use self::transfer::{Export, Import, ImportMode, Imported, MAX_TRANSFER_PAGE, Pace};
pub use self::trial::{Trial, TrialAnswer, TrialMisfit, TrialSchema};
pub use self::turn::Turn;
pub use self::vault::{
    Answer, Batch, BeforeAfter, CheckRequest, Committed, Consistency, DeleteRequest, ExpandRequest, Expanded,
    Explanation, ListPage, ListRequest, MAX_CONTEXTUAL_RELATIONSHIPS, MAX_EXPAND_NODES, Paging, Pass,
    Permission, Permissions, PermissionsRequest, ReadPage, RelationshipStream, ResourcesRequest, SchemaWrite,
    SimulateRequest, Simulation, StoredSchema, SubjectsRequest, Vault, VaultStats, Watch, WriteRequest, now,
};
pub use self::weight::context_bytes;
