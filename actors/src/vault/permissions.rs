//! What one subject may do with one resource: every permission of its type with its decision.

use std::sync::Arc;

use inferadb_engine::context::Context;
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef, Timestamp};
use inferadb_engine::overlay::Overlay;
use inferadb_engine::schema::{Format, MemberKind};
use inferadb_storage::Revision;

use super::check::{CheckRequest, WORK_OF_ANSWER, type_named};
use super::contextual;
use super::frame::{Frame, Interrupted};
use super::list::resolve_subject;
use super::{Consistency, Vault};
use crate::error::VaultError;
use crate::turn::Turn;

/// What may a subject do with a resource?
#[derive(Debug, Clone)]
pub struct PermissionsRequest {
    /// Who.
    pub subject: SubjectRef,
    /// On what.
    pub resource: ObjectRef,
    /// Values for caveats.
    pub context: Arc<Context>,
    /// Relationships that count for this question alone.
    pub contextual: Arc<[Relationship]>,
    /// Whether relations are asked about as well. In an OpenFGA model, which has no permissions, they always are.
    pub relations: bool,
}

/// One relation or permission.
#[derive(Debug, Clone)]
pub struct Permission {
    /// Its name.
    pub name: Name,
    /// Which of the two it is.
    pub kind: MemberKind,
    /// Its decision, or why there is none.
    pub outcome: Result<Decision, VaultError>,
}

/// All of them, in the order of the schema.
#[derive(Debug, Clone)]
pub struct Permissions {
    /// Those of the resource's type.
    pub permissions: Vec<Permission>,
    /// The state they are of.
    pub revision: Revision,
}

impl Vault {
    /// Every permission of a resource's type with its decision, all at one revision. Each counts as a check.
    pub async fn permissions(
        &self,
        request: &PermissionsRequest,
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<Permissions, VaultError> {
        let mut frame = Frame::of(self.view_for(consistency).await?);
        let mut is_charged = false;
        let mut turn = self.turn();
        for attempt in 1.. {
            let checks = checks_of(&frame, request)?;
            if !std::mem::replace(&mut is_charged, true) {
                self.take_checks(checks.len().max(1))?;
            }
            match self
                .permissions_in(&frame, checks, &request.contextual, now, &mut turn)
                .await
            {
                Ok(permissions) => {
                    return Ok(Permissions {
                        permissions,
                        revision: frame.view.revision,
                    });
                }
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Moved(revision)) => {
                    frame = turn.during(self.next_frame(attempt, revision)).await?;
                }
            }
        }
        Err(VaultError::Overloaded("the vault keeps changing"))
    }

    /// All decisions on one frame. Only what is wrong with the contextual relationships is an error of the whole.
    async fn permissions_in(
        &self,
        frame: &Frame,
        checks: Vec<(MemberKind, CheckRequest)>,
        contextual: &[Relationship],
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Vec<Permission>, Interrupted> {
        let overlay = contextual::overlay(&frame.view.schema.compiled, &Overlay::new(), contextual)?;
        let laid = (!overlay.is_empty()).then(|| overlay.over(&*frame.view));
        let mut permissions = Vec::with_capacity(checks.len());
        for (kind, check) in checks {
            turn.pace(WORK_OF_ANSWER).await;
            let outcome = match self.check_in(frame, laid.as_ref(), &check, now, turn).await {
                Ok(answer) => Ok(answer.decision),
                Err(Interrupted::Failed(error)) => Err(error),
                Err(moved) => return Err(moved),
            };
            permissions.push(Permission {
                name: check.permission,
                kind,
                outcome,
            });
        }
        Ok(permissions)
    }
}

fn checks_of(
    frame: &Frame,
    request: &PermissionsRequest,
) -> Result<Vec<(MemberKind, CheckRequest)>, VaultError> {
    let schema = &frame.view.schema;
    let resource_type = type_named(schema, "resource", &request.resource.object_type)?;
    resolve_subject(schema, &request.subject)?;
    let with_relations = request.relations || schema.format == Format::OpenFga;
    let held = schema.compiled.types().get(resource_type.index());
    let members = held.map_or(&[][..], |held| held.members.as_slice()).iter();
    let checks = members.filter_map(|member| {
        let member = schema.compiled.members().get(member.index())?;
        if member.kind == MemberKind::Relation && !with_relations {
            return None;
        }
        let check = CheckRequest {
            subject: request.subject.clone(),
            resource: request.resource.clone(),
            permission: member.name.clone(),
            context: Arc::clone(&request.context),
            // They are laid over the rows once for all.
            contextual: Arc::default(),
            trace: false,
        };
        Some((member.kind, check))
    });
    Ok(checks.collect())
}
