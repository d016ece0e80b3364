//! Checks: answered from the decision cache, or evaluated on the published view, with what the view lacks read from
//! storage at the view's very revision.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::stream::{self, StreamExt};
use inferadb_engine::context::Context;
use inferadb_engine::evaluate::{Check, Decision, Evaluation, Step, Subject, Trace, Verdict};
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef, Timestamp};
use inferadb_engine::overlay::{Laid, Overlay};
use inferadb_engine::row::{Demand, Row, RowKey, Rows, Supply};
use inferadb_engine::schema::{MemberId, Schema, TypeId};
use inferadb_storage::Revision;

use super::contextual;
use super::frame::{Frame, Interrupted, read_entry, read_narrow, read_whole};
use super::list_read::{ENOUGH_BYTES, ENOUGH_ENTRIES};
use super::messages::Admit;
use super::{Consistency, Until, Vault};
use crate::decisions::Standing;
use crate::error::VaultError;
use crate::turn::{PIECE, Turn};
use crate::view::{VaultSchema, View};
use crate::weight;

/// How often an evaluation starts again because the vault moved on, before it reads one storage snapshot only.
const VIEW_ATTEMPTS: usize = 3;
/// How often an evaluation is begun at all: not even a snapshot of its own may last as long as it takes.
const MOST_ATTEMPTS: usize = 6;
/// The most nodes of an explanation.
const MAX_TRACE_NODES: usize = 1_000;
/// The most reads of one check that are under way at once.
const MAX_READS: usize = 1_024;
/// What answering a check of many is worth, besides its evaluation.
pub(super) const WORK_OF_ANSWER: u64 = 8;
/// What a read of storage is worth, besides the entries that it finds.
pub(super) const WORK_OF_READ: u64 = 16;
/// What the caveats and contexts may weigh that one check reads from storage, in bytes: a hundred thousand small ones. It is more where
/// a vault may hold more in memory: what can be resident can be read.
const MAX_TERMS_BYTES: usize = 128 << 20;
/// A check that holds more of them, in bytes, is one of a few of its vault that may.
pub(super) const MANY_TERMS_BYTES: usize = 1 << 20;
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
    /// Relationships that count for this check alone. What is decided with them is neither taken from the decision cache nor
    /// put into it.
    pub contextual: Arc<[Relationship]>,
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
    /// How many rows and entries were read to decide.
    pub work: u64,
    /// How many of the rows and entries were not in memory.
    pub storage_reads: usize,
    /// Whether the decision cache holds this decision, so that the same check without an explanation would not have been
    /// evaluated; `None` where the cache may not be asked.
    pub cached: Option<bool>,
    schema: Arc<VaultSchema>,
}

/// What an evaluation found.
pub(super) struct Evaluated {
    /// The decision and what it rests on.
    pub(super) verdict: Verdict,
    trace: Option<Trace>,
    storage_reads: usize,
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
        let mut turn = self.turn();
        let mut frame = Frame::of(self.view_for(consistency).await?);
        for attempt in 1.. {
            match self.check_alone(&frame, request, now, &mut turn).await {
                Ok(answer) => return Ok(answer),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Moved(revision)) => {
                    frame = turn.during(Box::pin(self.next_frame(attempt, revision))).await?;
                }
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
        self.check_batch_with(requests, &[], consistency, now).await
    }

    /// Answers many checks, all at one revision, with relationships that count for each of them. Where a check brings one of its own
    /// with the same key, that counts.
    ///
    /// # Errors
    ///
    /// What is wrong with the relationships that all have in common is an error of the whole.
    pub async fn check_batch_with(
        &self,
        requests: &[CheckRequest],
        contextual: &[Relationship],
        consistency: Consistency,
        now: Timestamp,
    ) -> Result<Batch, VaultError> {
        self.take_checks(requests.len())?;
        let mut turn = self.turn();
        let mut frame = Frame::of(self.view_for(consistency).await?);
        for attempt in 1.. {
            match self.batch_in(&frame, requests, contextual, now, &mut turn).await {
                Ok(results) => {
                    return Ok(Batch {
                        results,
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

    /// Charges checks to the vault's rate.
    pub(super) fn take_checks(&self, count: usize) -> Result<(), VaultError> {
        self.checks
            .take(self.limits.load().checks_per_second, count)
            .map_err(|retry_after| self.over("checks_per_second", retry_after))
    }

    /// All answers of a batch on one frame, or the revision that the vault moved on to meanwhile.
    async fn batch_in(
        &self,
        frame: &Frame,
        requests: &[CheckRequest],
        contextual: &[Relationship],
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Vec<Result<Answer, VaultError>>, Interrupted> {
        let shared = contextual::overlay(&frame.view.schema.compiled, &Overlay::new(), contextual)?;
        // What the checks have in common is merged once for all of them.
        let laid = (!shared.is_empty()).then(|| shared.over(&*frame.view));
        let mut results = Vec::with_capacity(requests.len());
        for request in requests {
            // A batch of cached answers never waits: others get their turn all the same.
            turn.pace(WORK_OF_ANSWER).await;
            let outcome = match request.contextual.is_empty() {
                true => self.check_in(frame, laid.as_ref(), request, now, turn).await,
                false => self.check_with(frame, &shared, request, now, turn).await,
            };
            results.push(match outcome {
                Ok(answer) => Ok(answer),
                Err(Interrupted::Failed(error)) => Err(error),
                Err(moved) => return Err(moved),
            });
        }
        Ok(results)
    }

    async fn check_alone(
        &self,
        frame: &Frame,
        request: &CheckRequest,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Answer, Interrupted> {
        match request.contextual.is_empty() {
            true => self.check_in(frame, None, request, now, turn).await,
            false => Box::pin(self.check_with(frame, &Overlay::new(), request, now, turn)).await,
        }
    }

    /// A check with relationships of its own, over those that it has in common with others.
    async fn check_with(
        &self,
        frame: &Frame,
        shared: &Overlay,
        request: &CheckRequest,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Answer, Interrupted> {
        let schema = &frame.view.schema.compiled;
        let overlay = contextual::overlay(schema, shared, &request.contextual)?;
        let laid = overlay.over(&*frame.view);
        self.check_in(frame, Some(&laid), request, now, turn).await
    }

    /// What to try on next, after the vault moved on for the `attempt`th time.
    pub(super) async fn next_frame(&self, attempt: usize, revision: Revision) -> Result<Frame, VaultError> {
        self.metrics.restarted();
        if attempt >= MOST_ATTEMPTS {
            return Err(VaultError::Overloaded(
                "storage does not keep a state for as long as the evaluation takes",
            ));
        }
        if attempt < VIEW_ATTEMPTS {
            self.catch_up(Until::Revision(revision)).await?;
            return Ok(Frame::of(self.view()));
        }
        Frame::detached(self).await
    }

    pub(super) async fn check_in(
        &self,
        frame: &Frame,
        laid: Option<&Laid<'_, View>>,
        request: &CheckRequest,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Answer, Interrupted> {
        let view = &frame.view;
        let check = resolve(&view.schema, request)?;
        let standing = Standing {
            revision: view.revision,
            changed_at: view.changed_at(check.member),
            schema: view.schema.generation,
            now,
        };
        // What most checks do not come to is boxed on this way: their future is moved around, and stays small.
        // A decision with relationships of this request's own says nothing of any other request.
        let rememberable = laid.is_none() && !frame.detached && self.decisions.is_enabled();
        let cacheable = rememberable && !request.trace;
        if cacheable {
            self.metrics.cache_requests.inc();
            if let Some(allowed) = self.decisions.get(&check, standing) {
                self.metrics.cache_hits.inc();
                self.pulse.cache_hits.fetch_add(1, Ordering::Relaxed);
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
            self.pulse.cache_misses.fetch_add(1, Ordering::Relaxed);
        }
        let cached = (rememberable && request.trace).then(|| self.decisions.get(&check, standing).is_some());
        let Evaluated {
            verdict,
            trace,
            storage_reads,
        } = Box::pin(self.evaluate(frame, laid, &check, request, now, turn)).await?;
        self.count(&verdict.decision);
        let trace = trace.map(|trace| Explanation {
            trace,
            work: verdict.work,
            storage_reads,
            cached,
            schema: Arc::clone(&view.schema),
        });
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

    /// Evaluates a check on a frame's rows, or on what lies over them.
    pub(super) async fn evaluate(
        &self,
        frame: &Frame,
        laid: Option<&Laid<'_, View>>,
        check: &Check,
        request: &CheckRequest,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<Evaluated, Interrupted> {
        turn.begin().await;
        let schema = &frame.view.schema.compiled;
        let limits = self.limits.load().for_engine(PIECE);
        let evaluation = Evaluation::new(schema, check.clone(), &request.context, now, limits);
        let trace = request.trace;
        match laid {
            None => {
                let as_stored = |_: &Demand, supply| supply;
                self.run(frame, &*frame.view, as_stored, evaluation, trace, turn)
                    .await
            }
            Some(laid) => {
                let under = |demand: &Demand, supply| laid.lay(demand, supply);
                self.run(frame, laid, under, evaluation, trace, turn).await
            }
        }
    }

    /// Steps an evaluation to its end; `lay` turns what storage supplied into what counts.
    async fn run(
        &self,
        frame: &Frame,
        rows: &impl Rows,
        lay: impl Fn(&Demand, Supply) -> Supply,
        mut evaluation: Evaluation<'_>,
        trace: bool,
        turn: &mut Turn<'_>,
    ) -> Result<Evaluated, Interrupted> {
        let mut storage_reads = 0;
        let mut bytes = 0;
        let mut paced = 0;
        let most = MAX_TERMS_BYTES.max(self.settings.memory_budget_bytes.saturating_mul(2));
        let mut too_wide = HashSet::new();
        loop {
            match evaluation.step(rows).map_err(VaultError::from)? {
                Step::Done(verdict) => {
                    turn.count(verdict.work.saturating_sub(paced));
                    let trace = trace.then(|| evaluation.explain(rows, MAX_TRACE_NODES));
                    return Ok(Evaluated {
                        verdict,
                        trace,
                        storage_reads,
                    });
                }
                Step::Yield => {
                    paced += PIECE;
                    turn.pace(PIECE).await;
                }
                Step::Need(demands) => {
                    for (demand, supply) in self.fetch(frame, demands, &mut too_wide, turn).await? {
                        storage_reads += 1;
                        bytes += weight::supplied_terms_bytes(&supply);
                        if bytes > most {
                            return Err(self.too_much_to_read().into());
                        }
                        let supply = lay(&demand, supply);
                        evaluation.supply(demand, supply);
                    }
                    if bytes > MANY_TERMS_BYTES {
                        turn.during(frame.hold_wide(self)).await?;
                    }
                }
            }
        }
    }

    /// Reads what an evaluation demands, side by side, until it is all or enough, and offers the rows to the actor. Rows that are found
    /// `too_wide` are left out from then on: as with rows in memory, others may decide.
    ///
    /// # Errors
    ///
    /// `limit_exceeded` where nothing is left but those.
    async fn fetch(
        &self,
        frame: &Frame,
        demands: Vec<Demand>,
        too_wide: &mut HashSet<RowKey>,
        turn: &mut Turn<'_>,
    ) -> Result<Vec<(Demand, Supply)>, Interrupted> {
        let snapshot = turn.during(frame.snapshot(self)).await?;
        let schema = &frame.view.schema;
        let wide = &frame.wide_reads(self);
        let (mut found, mut bytes) = (0_usize, 0_usize);
        let mut supplied = Vec::with_capacity(demands.len());
        let can_be_read = |demand: &Demand| !matches!(demand, Demand::Scan(key) if too_wide.contains(key));
        let demands: Vec<Demand> = demands.into_iter().filter(can_be_read).collect();
        let reads = demands.into_iter().map(|demand| async move {
            let supply = match &demand {
                Demand::Scan(key) => read_whole(snapshot, schema, key, wide).await?.map(Supply::Row),
                Demand::Probe(key, subject) => {
                    let narrow = match frame.view.is_wide(key) {
                        true => None,
                        false => read_narrow(snapshot, schema, key, WIDE_ROW).await?,
                    };
                    Some(match narrow {
                        Some(row) => Supply::Row(row),
                        None => Supply::Entry(read_entry(snapshot, schema, key, subject).await?),
                    })
                }
            };
            Ok::<_, VaultError>((demand, supply))
        });
        let mut reads = pin!(stream::iter(reads).buffer_unordered(MAX_READS));
        while let Some(read) = turn.during(reads.next()).await {
            let (demand, supply) = read.map_err(|error| Interrupted::reading(frame, error))?;
            let Some(supply) = supply else {
                let (Demand::Probe(key, _) | Demand::Scan(key)) = demand;
                too_wide.insert(key);
                continue;
            };
            let entries = match &supply {
                Supply::Row(row) => row.len(),
                Supply::Entry(_) => 1,
            };
            found += entries;
            bytes += weight::supplied_terms_bytes(&supply);
            supplied.push((demand, supply));
            // The evaluation goes on with what there is, and demands the rest again if it still needs it: so what is held beyond what
            // it was charged for is bounded.
            if found > ENOUGH_ENTRIES || bytes > ENOUGH_BYTES {
                break;
            }
            // Storage may answer at once: others get their turn all the same.
            turn.pace(WORK_OF_READ + entries as u64).await;
        }
        if supplied.is_empty() {
            return Err(self.too_much_to_read().into());
        }
        if !frame.detached {
            self.offer(&frame.view, &supplied);
        }
        Ok(supplied)
    }

    /// Offers rows that were read at a view's revision to the actor. It is no loss where the mailbox is full: they are read again.
    pub(super) fn offer(&self, view: &View, supplied: &[(Demand, Supply)]) {
        let rows = supplied.iter().filter_map(|(demand, supply)| {
            let (Demand::Probe(key, _) | Demand::Scan(key)) = demand;
            match supply {
                Supply::Row(row) => Some((key.clone(), Some(Row::clone(row)))),
                // What the view says already is no news, and each is another view to publish.
                Supply::Entry(_) => (!view.is_wide(key)).then(|| (key.clone(), None)),
            }
        });
        let rows: Vec<_> = rows.collect();
        if let Some(address) = self.address.get().filter(|_| !rows.is_empty()) {
            let revision = view.revision;
            let _ = address.try_send(Admit { revision, rows });
        }
    }
}

/// Resolves a question's names against the schema.
pub(crate) fn resolve(schema: &VaultSchema, request: &CheckRequest) -> Result<Check, VaultError> {
    let member = resolve_member(schema, &request.resource, &request.permission)?;
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

/// The relation or permission that a question is about.
pub(super) fn resolve_member(
    schema: &VaultSchema,
    resource: &ObjectRef,
    permission: &Name,
) -> Result<MemberId, VaultError> {
    let resource_type = type_named(schema, "resource", &resource.object_type)?;
    member_named(schema, "permission", resource_type, permission)
}

pub(super) fn type_named(schema: &VaultSchema, field: &str, name: &Name) -> Result<TypeId, VaultError> {
    schema.compiled.type_named(name).ok_or_else(|| {
        // A schema that is only tried, or simulated, has no revision either, but it has types.
        let message = match schema.revision.is_none() && schema.compiled.types().is_empty() {
            false => format!("the schema has no type `{name}`"),
            true => format!("there is no schema yet, and so no type `{name}`"),
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
