//! What changes a vault: relationships written and deleted, the schema replaced.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use inferadb_engine::noun::{Relationship, RelationshipKey};
use inferadb_engine::schema::{Compiled, Diagnostic, Format};
use inferadb_storage::{Precondition, PutSchema, RelationshipFilter, Revision, StoreError, Write};

use super::feed::relationship_bytes;
use super::fit::Fit;
use super::{Consistency, Vault, now};
use crate::error::VaultError;
use crate::turn::Turn;
use crate::view::VaultSchema;

/// The most relationships one write may change.
pub const MAX_CHANGES: usize = 1_000;
/// The most preconditions one write may carry.
pub const MAX_PRECONDITIONS: usize = 1_000;
/// The native schema language, in a stored schema's record.
const NATIVE_FORMAT: u8 = 0;
/// An OpenFGA model, in a stored schema's record.
const OPENFGA_FORMAT: u8 = 1;
/// What one of the steps before a commit takes for a relationship, beside the work of evaluations.
pub(super) const WORK_OF_CHANGE: u64 = 2;
/// So many bytes of a relationship are as much work again as a unit of evaluations.
const BYTES_A_WORK: usize = 64;
/// How often a write is checked anew against a schema that changed meanwhile.
const SCHEMA_ATTEMPTS: usize = 5;

/// Relationships to change in one transaction.
#[derive(Debug, Clone, Default)]
pub struct WriteRequest {
    /// To create or replace.
    pub touch: Vec<Relationship>,
    /// To create; an error where one is there.
    pub create: Vec<Relationship>,
    /// To delete; it is no error where one is not there.
    pub delete: Vec<RelationshipKey>,
    /// What must hold.
    pub preconditions: Vec<Precondition>,
}

/// Relationships to delete by a filter.
#[derive(Debug, Clone)]
pub struct DeleteRequest {
    /// Which.
    pub filter: RelationshipFilter,
    /// The most to delete; `None`: all, in as many transactions as it takes.
    pub limit: Option<usize>,
    /// What must hold before the first is deleted.
    pub preconditions: Vec<Precondition>,
}

/// A schema to replace the vault's.
#[derive(Debug, Clone)]
pub struct SchemaWrite {
    /// Its text.
    pub text: String,
    /// The language of the text.
    pub format: Format,
    /// Whether to store it though stored relationships no longer fit.
    pub force: bool,
}

/// A vault's schema as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSchema {
    /// Its text, as it was given.
    pub text: String,
    /// The language of the text.
    pub format: Format,
    /// The revision it was written at.
    pub revision: Revision,
}

/// A change for the vault's actor to commit.
pub enum Operation {
    /// Change relationships that were found to fit the schema of this revision.
    Write(WriteRequest, Option<Revision>),
    /// Delete relationships by a filter.
    Delete(DeleteRequest),
    /// Replace the schema.
    Schema(SchemaWrite, Arc<VaultSchema>),
}

/// What was committed.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// The state that shows it.
    pub revision: Revision,
    /// How many relationships were deleted.
    pub deleted: usize,
    /// Whether a delete by filter left nothing that matches.
    pub complete: bool,
}

impl Vault {
    /// Writes relationships.
    pub async fn write(&self, request: WriteRequest) -> Result<Revision, VaultError> {
        let changes = request.touch.len() + request.create.len() + request.delete.len();
        if changes > MAX_CHANGES {
            return Err(too_many("touch", "changes", changes, MAX_CHANGES));
        }
        if request.preconditions.len() > MAX_PRECONDITIONS {
            return Err(too_many(
                "preconditions",
                "preconditions",
                request.preconditions.len(),
                MAX_PRECONDITIONS,
            ));
        }
        // What a large write takes before it is committed is done in turns.
        let mut turn = self.turn();
        refuse_duplicates(&request, &mut turn).await?;
        let _held = self.hold_write(bytes_of(&request, &mut turn).await)?;
        self.take_writes(changes)?;
        for _ in 0..SCHEMA_ATTEMPTS {
            let schema = Arc::clone(&self.view.load().schema);
            let misfit = first_misfit(&request, &schema, &mut turn).await;
            turn.pause();
            if let Some(misfit) = misfit {
                // The schema may be older than one that another server stored: look again before refusing.
                self.view_for(Consistency::FullyConsistent).await?;
                if self.view.load().schema.generation == schema.generation {
                    return Err(misfit);
                }
                continue;
            }
            match self
                .commit(Operation::Write(request.clone(), schema.revision))
                .await
            {
                Err(VaultError::Storage(StoreError::SchemaMoved)) => {}
                outcome => return outcome.map(|committed| committed.revision),
            }
        }
        Err(VaultError::Overloaded("the vault's schema keeps changing"))
    }

    /// Deletes relationships by a filter.
    pub async fn delete(&self, request: DeleteRequest) -> Result<Committed, VaultError> {
        if request.preconditions.len() > MAX_PRECONDITIONS {
            return Err(too_many(
                "preconditions",
                "preconditions",
                request.preconditions.len(),
                MAX_PRECONDITIONS,
            ));
        }
        self.take_writes(1)?;
        self.commit(Operation::Delete(request)).await
    }

    /// Replaces the schema; answers the new revision and the compiler's warnings.
    pub async fn put_schema(
        self: &Arc<Self>,
        request: SchemaWrite,
    ) -> Result<(Revision, Vec<Diagnostic>), VaultError> {
        let Compiled { schema, warnings } = self.compile(request.format, request.text.clone()).await?;
        self.take_writes(1)?;
        let compiled = VaultSchema::new(schema, request.text.clone(), None).in_format(request.format);
        let compiled = Arc::new(compiled);
        let committed = self.commit(Operation::Schema(request, compiled)).await?;
        Ok((committed.revision, warnings))
    }
}

impl Operation {
    /// How many relationships it changes, as far as that is known before.
    pub(super) fn changes(&self) -> usize {
        match self {
            Self::Write(request, _) => request.touch.len() + request.create.len() + request.delete.len(),
            // By a filter, as many as there are, in transactions of as many as a large write has; and a schema's shapes are
            // all looked at.
            Self::Delete(_) | Self::Schema(..) => MAX_CHANGES,
        }
    }

    /// Commits it to storage.
    pub(super) async fn run(self, vault: &Vault) -> Result<Committed, VaultError> {
        match self {
            Self::Write(request, schema_revision) => {
                let write = Write {
                    touch: request.touch,
                    create: request.create,
                    delete: request.delete,
                    preconditions: request.preconditions,
                    schema_revision,
                    now: now(),
                };
                let written = vault
                    .store
                    .write(vault.id, &write)
                    .await
                    .map_err(VaultError::from_store)?;
                Ok(Committed {
                    revision: written.revision,
                    deleted: written.deleted,
                    complete: true,
                })
            }
            Self::Delete(request) => {
                // One was taken before. How much it would be was not known: later writes wait for it, though whoever asked may be
                // gone, and though a later transaction may fail.
                let taken = AtomicUsize::new(1);
                let after_each = |removed: usize| -> BoxFuture<'_, ()> {
                    vault.charge_changes(removed);
                    let owed = removed.saturating_sub(taken.swap(0, Ordering::Relaxed));
                    vault.writes.owe(vault.limits.load().writes_per_second, owed);
                    Box::pin(vault.give_way())
                };
                let deleted = vault
                    .store
                    .delete_matching_in_steps(
                        vault.id,
                        &request.filter,
                        request.limit,
                        &request.preconditions,
                        now(),
                        &after_each,
                    )
                    .await
                    .map_err(VaultError::from_store)?;
                Ok(Committed {
                    revision: deleted.revision,
                    deleted: deleted.deleted,
                    complete: deleted.complete,
                })
            }
            Self::Schema(request, compiled) => {
                let fit = Fit {
                    new: compiled,
                    current: Arc::clone(&vault.view.load().schema),
                };
                let schema = PutSchema {
                    text: &request.text,
                    format: format_number(request.format),
                    force: request.force,
                    now: now(),
                };
                let put = vault
                    .store
                    .put_schema(vault.id, &schema, &fit)
                    .await
                    .map_err(VaultError::from_store)?;
                Ok(Committed {
                    revision: put.revision,
                    deleted: 0,
                    complete: true,
                })
            }
        }
    }
}

/// About what a write weighs, in bytes. Preconditions are bounded by the body they came in.
async fn bytes_of(request: &WriteRequest, turn: &mut Turn<'_>) -> usize {
    let mut bytes = request.delete.len() * size_of::<RelationshipKey>();
    for stored in request.touch.iter().chain(&request.create) {
        let weight = relationship_bytes(stored);
        bytes += weight;
        turn.pace((weight / BYTES_A_WORK) as u64).await;
    }
    bytes
}

/// What a step takes that looks at the whole of a relationship.
pub(super) fn work_of(relationship: &Relationship) -> u64 {
    WORK_OF_CHANGE + (relationship_bytes(relationship) / BYTES_A_WORK) as u64
}

/// The number of a language in a stored schema's record.
pub(crate) const fn format_number(format: Format) -> u8 {
    match format {
        Format::Native => NATIVE_FORMAT,
        Format::OpenFga => OPENFGA_FORMAT,
    }
}

/// The language of that number, if there is one.
pub(crate) const fn format_of(number: u8) -> Option<Format> {
    match number {
        NATIVE_FORMAT => Some(Format::Native),
        OPENFGA_FORMAT => Some(Format::OpenFga),
        _ => None,
    }
}

pub(super) fn too_many(field: &str, what: &str, count: usize, most: usize) -> VaultError {
    let message = format!("at most {most} {what} in one request, this one has {count}");
    VaultError::Invalid {
        code: "too_many",
        field: field.into(),
        message,
    }
}

/// One relationship may be named once in a write: which of two would count is nobody's to guess.
pub(super) async fn refuse_duplicates(request: &WriteRequest, turn: &mut Turn<'_>) -> Result<(), VaultError> {
    let mut seen = HashSet::new();
    let touched = request
        .touch
        .iter()
        .map(Relationship::key)
        .enumerate()
        .map(|(at, key)| ("touch", at, key));
    let created = request
        .create
        .iter()
        .map(Relationship::key)
        .enumerate()
        .map(|(at, key)| ("create", at, key));
    let deleted = request
        .delete
        .iter()
        .cloned()
        .enumerate()
        .map(|(at, key)| ("delete", at, key));
    for (list, at, key) in touched.chain(created).chain(deleted) {
        let ids = key.resource.id.as_str().len() + key.subject.id.as_str().len();
        turn.pace(WORK_OF_CHANGE + (ids / BYTES_A_WORK) as u64).await;
        if seen.contains(&key) {
            return Err(VaultError::Invalid {
                code: "duplicate_relationship",
                field: format!("{list}[{at}]"),
                message: format!("the relationship `{key}` appears more than once in this request"),
            });
        }
        seen.insert(key);
    }
    Ok(())
}

async fn first_misfit(
    request: &WriteRequest,
    schema: &VaultSchema,
    turn: &mut Turn<'_>,
) -> Option<VaultError> {
    let touched = request
        .touch
        .iter()
        .enumerate()
        .map(|(at, relationship)| ("touch", at, relationship));
    let created = request
        .create
        .iter()
        .enumerate()
        .map(|(at, relationship)| ("create", at, relationship));
    for (list, at, relationship) in touched.chain(created) {
        turn.pace(work_of(relationship)).await;
        if let Err(misfit) = schema.compiled.fits(relationship) {
            return Some(VaultError::Misfit {
                at: format!("{list}[{at}]"),
                misfit,
            });
        }
    }
    None
}
