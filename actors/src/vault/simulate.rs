//! Simulations: what checks would answer after relationships were touched and deleted, or under another schema. Nothing is
//! stored, cached or counted as a decision.

use std::sync::Arc;

use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Relationship, RelationshipKey, Timestamp};
use inferadb_engine::overlay::{Laid, Overlay};
use inferadb_engine::schema::{Format, Schema};
use inferadb_storage::Revision;

use super::check::{CheckRequest, WORK_OF_ANSWER, resolve};
use super::contextual;
use super::frame::{Frame, Interrupted};
use super::operation::{MAX_CHANGES, WORK_OF_CHANGE, refuse_duplicates, too_many, work_of};
use super::{Consistency, Vault, WriteRequest};
use crate::error::{VaultError, kind_of};
use crate::turn::Turn;
use crate::view::{VaultSchema, View};

/// Changes to try, and the checks to try them with.
#[derive(Debug, Clone, Default)]
pub struct SimulateRequest {
    /// Relationships created or replaced.
    pub touch: Vec<Relationship>,
    /// Relationships deleted; it is no error where one is not stored.
    pub delete: Vec<RelationshipKey>,
    /// The text of the schema to try; `None`: the vault's.
    pub schema: Option<String>,
    /// The language of that schema.
    pub schema_format: Format,
    /// The checks.
    pub checks: Vec<CheckRequest>,
}

/// What each check answers before and after.
#[derive(Debug)]
pub struct Simulation {
    /// In the order of the checks.
    pub results: Vec<BeforeAfter>,
    /// The kinds of stored relationships that the schema to try has no place for, and how many are stored of each; every
    /// answer under it ignores them. Empty without a schema to try.
    pub ignored: Vec<(String, u64)>,
    /// The state that both sides start from.
    pub revision: Revision,
}

/// One check's two answers.
#[derive(Debug)]
pub struct BeforeAfter {
    /// As things are.
    pub before: Result<Decision, VaultError>,
    /// As they would be.
    pub after: Result<Decision, VaultError>,
}

/// What the checks of one side stand on.
struct Side<'s> {
    frame: &'s Frame,
    changes: &'s Overlay,
    /// The changes over the frame's rows: merged once for all checks that bring no relationships of their own.
    laid: Laid<'s, View>,
}

impl Vault {
    /// Answers checks as things are and as they would be after some changes, all at one revision.
    ///
    /// # Errors
    ///
    /// Changes that a write would refuse, a schema that does not compile. What is wrong with one check is that check's.
    pub async fn simulate(
        self: &Arc<Self>,
        request: SimulateRequest,
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<Simulation, VaultError> {
        let SimulateRequest {
            touch,
            delete,
            schema,
            schema_format,
            checks,
        } = request;
        let changes = touch.len() + delete.len();
        if changes > MAX_CHANGES {
            return Err(too_many("touch", "changes", changes, MAX_CHANGES));
        }
        let changes = WriteRequest {
            touch,
            delete,
            ..WriteRequest::default()
        };
        let mut turn = self.turn();
        refuse_duplicates(&changes, &mut turn).await?;
        turn.pause();
        self.take_checks(checks.len().saturating_mul(2))?;
        let schema = match schema {
            Some(text) => {
                let compiled = self.compile(schema_format, text.clone()).await?;
                let schema = VaultSchema::new(compiled.schema, text, None);
                Some(Arc::new(schema.in_format(schema_format)))
            }
            None => None,
        };
        let mut frame = Frame::of(self.view_for(consistency).await?);
        for attempt in 1.. {
            let outcome = self.simulate_in(&frame, schema.as_ref(), &changes, &checks, now, &mut turn);
            match outcome.await {
                Ok(simulation) => return Ok(simulation),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Moved(revision)) => {
                    frame = turn.during(self.next_frame(attempt, revision)).await?;
                }
            }
        }
        Err(VaultError::Overloaded("the vault keeps changing"))
    }

    async fn simulate_in(
        &self,
        frame: &Frame,
        schema: Option<&Arc<VaultSchema>>,
        changes: &WriteRequest,
        checks: &[CheckRequest],
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Simulation, Interrupted> {
        let mut ignored = Vec::new();
        let under_schema = match schema {
            Some(schema) => {
                let snapshot = turn.during(frame.snapshot(self)).await?;
                let shapes = turn
                    .during(snapshot.shapes())
                    .await
                    .map_err(VaultError::from_store);
                let shapes = shapes.map_err(|error| Interrupted::reading(frame, error))?;
                let misfits = shapes.iter().filter(|shape| !schema.fits_shape(shape));
                ignored.extend(misfits.map(|shape| (kind_of(shape), shape.count)));
                Some(frame.under(self, Arc::clone(schema)).await?)
            }
            None => None,
        };
        let after = under_schema.as_ref().unwrap_or(frame);
        let nothing = Overlay::new();
        let changes = changed(&after.view.schema.compiled, changes, turn).await?;
        let before = Side::of(frame, &nothing);
        let after = Side::of(after, &changes);
        let mut results = Vec::with_capacity(checks.len());
        for check in checks {
            turn.pace(2 * WORK_OF_ANSWER).await;
            results.push(BeforeAfter {
                before: self.decide(&before, check, now, turn).await?,
                after: self.decide(&after, check, now, turn).await?,
            });
        }
        Ok(Simulation {
            results,
            ignored,
            revision: frame.view.revision,
        })
    }

    /// One check's decision on one side; the outer error ends the whole simulation on this frame.
    async fn decide(
        &self,
        side: &Side<'_>,
        request: &CheckRequest,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Result<Decision, VaultError>, Interrupted> {
        match self.try_decide(side, request, now, turn).await {
            Ok(decision) => Ok(Ok(decision)),
            Err(Interrupted::Failed(error)) => Ok(Err(error)),
            Err(moved) => Err(moved),
        }
    }

    async fn try_decide(
        &self,
        side: &Side<'_>,
        request: &CheckRequest,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Decision, Interrupted> {
        let schema = &side.frame.view.schema;
        let check = resolve(schema, request)?;
        let own;
        let own_laid;
        let laid = match request.contextual.is_empty() {
            true => &side.laid,
            false => {
                own = contextual::overlay(&schema.compiled, side.changes, &request.contextual)?;
                own_laid = own.over(&*side.frame.view);
                &own_laid
            }
        };
        let evaluated = self
            .evaluate(side.frame, Some(laid), &check, request, now, turn)
            .await?;
        Ok(evaluated.verdict.decision)
    }
}

impl<'s> Side<'s> {
    fn of(frame: &'s Frame, changes: &'s Overlay) -> Self {
        Self {
            frame,
            changes,
            laid: changes.over(&*frame.view),
        }
    }
}

/// The changes as an overlay; what is touched must fit the schema, as in a write.
async fn changed(
    schema: &Schema,
    changes: &WriteRequest,
    turn: &mut Turn<'_>,
) -> Result<Overlay, VaultError> {
    let mut overlay = Overlay::new();
    for (at, relationship) in changes.touch.iter().enumerate() {
        turn.pace(work_of(relationship)).await;
        let added = overlay.add(schema, relationship);
        added.map_err(|misfit| VaultError::Misfit {
            at: format!("touch[{at}]"),
            misfit,
        })?;
    }
    for key in &changes.delete {
        turn.pace(WORK_OF_CHANGE).await;
        overlay.remove(schema, key);
    }
    Ok(overlay)
}
