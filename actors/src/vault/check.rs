//! Checks: answered from the decision cache, or evaluated on the published view, with what the view lacks read from
//! storage at the view's very revision.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::try_join_all;
use inferadb_engine::context::Context;
use inferadb_engine::evaluate::{
    Check, Decision, Evaluation, EvaluationError, Step, Subject, Trace, Verdict,
};
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef, Timestamp};
use inferadb_engine::row::{Demand, Row, Supply};
use inferadb_engine::schema::{MemberId, Schema, TypeId};
use inferadb_storage::Revision;

use super::frame::{Frame, Interrupted, read_entry, read_row};
use super::messages::Admit;
use super::{Consistency, Until, Vault};
use crate::decisions::Standing;
use crate::error::VaultError;
use crate::view::VaultSchema;

/// How often an evaluation starts again because the vault moved on, before it reads one storage snapshot only.
const VIEW_ATTEMPTS: usize = 3;
/// The most nodes of an explanation.
const MAX_TRACE_NODES: usize = 1_000;
/// A row of more entries is not held for the sake of one probe: the entry is read alone.
const WIDE_ROW: usize = 256;

/// One question.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// Who.
    pub subject: SubjectRef,
    /// On what.
    pub resource: ObjectRef,
    /// The relation or permission asked for.
    pub permission: Name,
    /// Values for caveats.
    pub context: Arc<Context>,
    /// Whether to explain.
    pub trace: bool,
}

/// Its answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// The state it was decided at.
    pub revision: Revision,
    /// Whether it came from the decision cache.
    pub cached: bool,
    /// The explanation, if one was asked for.
    pub trace: Option<Explanation>,
}

/// How a check came to its answer, with the schema that gives its parts their names.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// The tree.
    pub trace: Trace,
    schema: Arc<VaultSchema>,
}

impl Explanation {
    /// The schema that the check was decided under.
    pub fn schema(&self) -> &Schema {
        &self.schema.compiled
    }
}

/// The answers to many questions, all at one revision.
#[derive(Debug)]
pub struct Batch {
    /// In the order of the questions.
    pub results: Vec<Result<Answer, VaultError>>,
    /// The revision.
    pub revision: Revision,
}

impl Vault {
    /// Answers one check.
    pub async fn check(
        &self,
        request: &CheckRequest,
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<Answer, VaultError> {
        self.take_checks(1)?;
        let mut frame = Frame::of(self.view_for(consistency).await?);
        for attempt in 1.. {
            match self.check_in(&frame, request, now).await {
                Ok(answer) => return Ok(answer),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Moved(revision)) => frame = self.next_frame(attempt, revision).await?,
            }
        }
        Err(VaultError::Overloaded("the vault keeps changing"))
    }

    /// Answers many checks, all at one revision.
    pub async fn check_batch(
        &self,
        requests: &[CheckRequest],
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<Batch, VaultError> {
        self.take_checks(requests.len())?;
        let mut frame = Frame::of(self.view_for(consistency).await?);
        for attempt in 1.. {
            match self.batch_in(&frame, requests, now).await {
                Ok(results) => {
                    return Ok(Batch {
                        results,
                        revision: frame.view.revision,
                    });
                }
                Err(revision) => frame = self.next_frame(attempt, revision).await?,
            }
        }
        Err(VaultError::Overloaded("the vault keeps changing"))
    }

    pub(super) fn take_checks(&self, count: usize) -> Result<(), VaultError> {
        self.checks
            .take(self.limits.load().checks_per_second, count)
            .map_err(|retry_after| VaultError::RateLimited {
                limit: "checks_per_second",
                retry_after,
            })
    }

    /// All answers of a batch on one frame, or the revision that the vault moved on to meanwhile.
    async fn batch_in(
        &self,
        frame: &Frame,
        requests: &[CheckRequest],
        now: Timestamp,
    ) -> Result<Vec<Result<Answer, VaultError>>, Revision> {
        let mut results = Vec::with_capacity(requests.len());
        for (at, request) in requests.iter().enumerate() {
            // A batch of cached answers never waits: others of the thread get their turn all the same.
            if at % 64 == 63 {
                tokio::task::yield_now().await;
            }
            results.push(match self.check_in(frame, request, now).await {
                Ok(answer) => Ok(answer),
                Err(Interrupted::Failed(error)) => Err(error),
                Err(Interrupted::Moved(revision)) => return Err(revision),
            });
        }
        Ok(results)
    }

    /// What to try on next, after the vault moved on for the `attempt`th time.
    pub(super) async fn next_frame(&self, attempt: usize, revision: Revision) -> Result<Frame, VaultError> {
        self.metrics.restarted();
        if attempt < VIEW_ATTEMPTS {
            self.catch_up(Until::Revision(revision)).await?;
            return Ok(Frame::of(self.view()));
        }
        Frame::detached(self).await
    }

    pub(super) async fn check_in(
        &self,
        frame: &Frame,
        request: &CheckRequest,
        now: Timestamp,
    ) -> Result<Answer, Interrupted> {
        let view = &frame.view;
        let check = resolve(&view.schema, request)?;
        let standing = Standing {
            revision: view.revision,
            changed_at: view.changed_at(check.member),
            schema: view.schema.generation,
            now,
        };
        let cacheable = !request.trace && !frame.detached && self.decisions.is_enabled();
        if cacheable {
            self.metrics.cache_requests.inc();
            if let Some(allowed) = self.decisions.get(&check, standing) {
                self.metrics.cache_hits.inc();
                self.cache_hits.fetch_add(1, Ordering::Relaxed);
                let decision = if allowed { Decision::Allow } else { Decision::Deny };
                self.count(&decision);
                return Ok(Answer {
                    decision,
                    revision: view.revision,
                    cached: true,
                    trace: None,
                });
            }
            self.metrics.cache_misses.inc();
            self.cache_misses.fetch_add(1, Ordering::Relaxed);
        }
        let (verdict, trace) = self.evaluate(frame, &check, request, now).await?;
        self.count(&verdict.decision);
        if cacheable && !verdict.used_context {
            // A decision that used context holds for that context only.
            self.decisions.put(
                check,
                verdict.decision == Decision::Allow,
                standing,
                verdict.valid_until,
            );
        }
        Ok(Answer {
            decision: verdict.decision,
            revision: view.revision,
            cached: false,
            trace,
        })
    }

    fn count(&self, decision: &Decision) {
        match decision {
            Decision::Allow => self.metrics.allowed.inc(),
            Decision::Deny => self.metrics.denied.inc(),
            Decision::Conditional { .. } => self.metrics.conditional.inc(),
        }
    }

    async fn evaluate(
        &self,
        frame: &Frame,
        check: &Check,
        request: &CheckRequest,
        now: Timestamp,
    ) -> Result<(Verdict, Option<Explanation>), Interrupted> {
        let schema = &frame.view.schema.compiled;
        let limits = self.limits.load().for_engine();
        let mut evaluation = Evaluation::new(schema, check.clone(), &request.context, now, limits);
        loop {
            match evaluation.step(&*frame.view).map_err(VaultError::from)? {
                Step::Done(verdict) => {
                    let trace = match request.trace {
                        true => Some(Explanation {
                            trace: evaluation.explain(&*frame.view, MAX_TRACE_NODES),
                            schema: Arc::clone(&frame.view.schema),
                        }),
                        false => None,
                    };
                    return Ok((verdict, trace));
                }
                Step::Yield => tokio::task::yield_now().await,
                Step::Need(demands) => {
                    for (demand, supply) in self.fetch(frame, demands).await? {
                        evaluation.supply(demand, supply);
                    }
                }
            }
        }
    }

    /// Reads what an evaluation demands, all at once, and offers the rows to the actor.
    async fn fetch(&self, frame: &Frame, demands: Vec<Demand>) -> Result<Vec<(Demand, Supply)>, Interrupted> {
        let snapshot = frame.snapshot(self).await?;
        let schema = &frame.view.schema;
        let most = usize::try_from(self.limits.load().max_work).unwrap_or(usize::MAX);
        let reads = demands.into_iter().map(|demand| async move {
            let supply = match &demand {
                Demand::Scan(key) => match read_row(snapshot, schema, key, most).await? {
                    Some(row) => Supply::Row(row),
                    None => {
                        let value = most as u64;
                        return Err(EvaluationError::LimitExceeded {
                            limit: "max_work",
                            value,
                        }
                        .into());
                    }
                },
                Demand::Probe(key, subject) => {
                    let narrow = match frame.view.is_wide(key) {
                        true => None,
                        false => read_row(snapshot, schema, key, WIDE_ROW).await?,
                    };
                    match narrow {
                        Some(row) => Supply::Row(row),
                        None => Supply::Entry(read_entry(snapshot, schema, key, subject).await?),
                    }
                }
            };
            Ok::<_, VaultError>((demand, supply))
        });
        let supplied = try_join_all(reads).await?;
        if !frame.detached {
            self.offer(frame.view.revision, &supplied);
        }
        Ok(supplied)
    }

    /// Offers rows that were read to the actor. It is no loss where the mailbox is full: they are read again.
    fn offer(&self, revision: Revision, supplied: &[(Demand, Supply)]) {
        let rows = supplied.iter().map(|(demand, supply)| {
            let (Demand::Probe(key, _) | Demand::Scan(key)) = demand;
            match supply {
                Supply::Row(row) => (key.clone(), Some(Row::clone(row))),
                Supply::Entry(_) => (key.clone(), None),
            }
        });
        if let Some(address) = self.address.get() {
            let _ = address.try_send(Admit {
                revision,
                rows: rows.collect(),
            });
        }
    }
}

/// Resolves a question's names against the schema.
fn resolve(schema: &VaultSchema, request: &CheckRequest) -> Result<Check, VaultError> {
    let resource_type = type_named(schema, "resource", &request.resource.object_type)?;
    let member = member_named(schema, "permission", resource_type, &request.permission)?;
    let subject_type = type_named(schema, "subject", &request.subject.object_type)?;
    let relation = match &request.subject.relation {
        Some(name) => Some(member_named(schema, "subject", subject_type, name)?),
        None => None,
    };
    let subject = Subject {
        object_type: subject_type,
        id: request.subject.id.clone(),
        relation,
    };
    Ok(Check {
        member,
        object: request.resource.id.clone(),
        subject,
    })
}

pub(super) fn type_named(schema: &VaultSchema, field: &str, name: &Name) -> Result<TypeId, VaultError> {
    schema.compiled.type_named(name).ok_or_else(|| {
        let message = match schema.revision {
            Some(_) => format!("the schema has no type `{name}`"),
            None => format!("the vault has no schema yet, and so no type `{name}`"),
        };
        VaultError::Invalid {
            code: "unknown_type",
            field: field.into(),
            message,
        }
    })
}

pub(super) fn member_named(
    schema: &VaultSchema,
    field: &str,
    of: TypeId,
    name: &Name,
) -> Result<MemberId, VaultError> {
    schema.compiled.member_named(of, name).ok_or_else(|| {
        let object_type = schema
            .compiled
            .types()
            .get(of.index())
            .map_or("", |of| of.name.as_str());
        let message = format!("the type `{object_type}` has no relation or permission `{name}`");
        VaultError::Invalid {
            code: "unknown_permission",
            field: field.into(),
            message,
        }
    })
}
