//! What a vault's actor is told.

use actix::prelude::*;
use inferadb_engine::row::{Row, RowKey};
use inferadb_storage::Revision;
use tokio::sync::OwnedSemaphorePermit;

use super::{Committed, Operation};
use crate::error::VaultError;

/// How far a view must have come.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// To everything committed before the question was asked.
    Head,
    /// To a revision; an error if there is no such revision yet.
    Revision(Revision),
}

/// Brings the view up to date.
#[derive(Message)]
#[rtype(result = "Result<(), VaultError>")]
pub struct CatchUp(pub Until);

/// Offers rows that were read at a revision.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Admit {
    /// What they are of.
    pub revision: Revision,
    /// The rows; `None` for one that is too wide to be held.
    pub rows: Vec<(RowKey, Option<Row>)>,
}

/// Commits a change to the vault; the answer comes after the view shows it.
#[derive(Message)]
#[rtype(result = "Result<Committed, VaultError>")]
pub struct Commit {
    /// The change.
    pub operation: Operation,
    /// Its share of what the vault may have at storage, until it is done, though whoever asked may be gone.
    pub share: OwnedSemaphorePermit,
}

/// Lets go of so many bytes of rows and decisions, the coldest ones: others need the memory more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Slim(pub usize);

/// Something was committed to the vault by another way than its actor, or may have been: nobody knows, and it may yet be.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Doubt;

/// Ends the actor, once nobody is inside; the gate is closed by then.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;
