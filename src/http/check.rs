//! Permission checks, one or many, each with its line in the log.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{Answer, CheckRequest, now};
use inferadb_engine::context::Context;
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::caller::{Visit, in_vault};
use super::problem::Problem;
use super::trace::TraceView;
use super::wire::{ConsistencyBody, at, parse_context};
use super::{App, body};
use crate::telemetry::CheckLine;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    permission: Cow<'a, str>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(default)]
    consistency: ConsistencyBody,
    #[serde(default)]
    trace: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody<'a> {
    #[serde(borrow)]
    checks: Vec<BatchItem<'a>>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(default)]
    consistency: ConsistencyBody,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchItem<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    permission: Cow<'a, str>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct CheckView<'a> {
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_context: Option<&'a [String]>,
    revision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<TraceView>,
}

/// `POST /v1/check`
pub async fn check(
    app: web::Data<App>,
    request: HttpRequest,
    bytes: web::Bytes,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, Scopes::CHECK | Scopes::READ, |visit| {
        answer_check(&app, visit, &bytes)
    })
    .await
}

async fn answer_check(app: &App, visit: Visit, bytes: &[u8]) -> Result<HttpResponse, Problem> {
    let body: CheckBody<'_> = body::json(bytes)?;
    let question = CheckRequest {
        subject: at("subject", SubjectRef::parse(&body.subject))?,
        resource: at("resource", ObjectRef::parse(&body.resource))?,
        permission: at("permission", Name::parse(&body.permission))?,
        context: parse_context("context", body.context, app.settings.max_context_bytes)?.into(),
        trace: body.trace,
    };
    let consistency = body.consistency.parse(visit.vault.id)?;
    let answer = visit.vault.check(&question, consistency, now()).await?;
    let revision = visit.vault.token(answer.revision);
    log(
        app,
        &visit,
        &body.subject,
        &body.resource,
        &body.permission,
        &answer,
        &revision,
        visit.context.started,
    );
    let view = CheckView {
        decision: word(&answer.decision),
        missing_context: missing(&answer.decision),
        revision: &revision,
        trace: answer.trace.as_ref().map(TraceView::from),
    };
    Ok(HttpResponse::Ok().json(view))
}

/// `POST /v1/check/batch`
pub async fn batch(
    app: web::Data<App>,
    request: HttpRequest,
    bytes: web::Bytes,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, Scopes::CHECK | Scopes::READ, |visit| {
        answer_batch(&app, visit, &bytes)
    })
    .await
}

async fn answer_batch(app: &App, visit: Visit, bytes: &[u8]) -> Result<HttpResponse, Problem> {
    let body: BatchBody<'_> = body::json(bytes)?;
    let most = app.settings.max_batch_checks;
    if body.checks.len() > most {
        let detail = format!(
            "at most {most} checks in one batch, this one has {}",
            body.checks.len()
        );
        return Err(Problem::invalid("too_many", "checks", detail));
    }
    let max_context_bytes = app.settings.max_context_bytes;
    let shared = Arc::new(parse_context("context", body.context, max_context_bytes)?);
    let parse = |index: usize, item: &BatchItem<'_>| {
        let field = |member: &str| format!("checks[{index}].{member}");
        let context = match item.context {
            None => Arc::clone(&shared),
            Some(_) => {
                // An item's own values win over the batch's.
                let mut context = Context::clone(&shared);
                context.extend(parse_context(&field("context"), item.context, max_context_bytes)?);
                Arc::new(context)
            }
        };
        Ok(CheckRequest {
            subject: at(&field("subject"), SubjectRef::parse(&item.subject))?,
            resource: at(&field("resource"), ObjectRef::parse(&item.resource))?,
            permission: at(&field("permission"), Name::parse(&item.permission))?,
            context,
            trace: false,
        })
    };
    let mut sound = Vec::with_capacity(body.checks.len());
    let mut problems: Vec<Option<Problem>> = Vec::with_capacity(body.checks.len());
    for (index, item) in body.checks.iter().enumerate() {
        match parse(index, item) {
            Ok(question) => {
                sound.push(question);
                problems.push(None);
            }
            Err(problem) => problems.push(Some(problem)),
        }
    }
    let consistency = body.consistency.parse(visit.vault.id)?;
    let started = Instant::now();
    let batch = visit.vault.check_batch(&sound, consistency, now()).await?;
    let revision = visit.vault.token(batch.revision);
    let mut answers = batch.results.into_iter();
    let mut results = Vec::with_capacity(problems.len());
    for (index, (problem, item)) in problems.into_iter().zip(&body.checks).enumerate() {
        let outcome = match problem {
            Some(problem) => Err(problem),
            // There is one answer for each sound question.
            None => match answers.next() {
                Some(answer) => answer.map_err(|error| of_item(error.into(), index)),
                None => break,
            },
        };
        results.push(match outcome {
            Ok(answer) => {
                log(
                    app,
                    &visit,
                    &item.subject,
                    &item.resource,
                    &item.permission,
                    &answer,
                    &revision,
                    started,
                );
                item_view(&answer)
            }
            Err(problem) => json!({ "error": problem.to_value() }),
        });
    }
    Ok(HttpResponse::Ok().json(json!({ "results": results, "revision": &*revision })))
}

/// A problem of one check, with the member at fault named as it stands in the batch.
fn of_item(problem: Problem, index: usize) -> Problem {
    Problem {
        field: problem.field.map(|field| format!("checks[{index}].{field}")),
        ..problem
    }
}

fn item_view(answer: &Answer) -> Value {
    match &answer.decision {
        Decision::Conditional { missing } => json!({ "decision": "conditional", "missing_context": missing }),
        decision => json!({ "decision": word(decision) }),
    }
}

pub(super) const fn word(decision: &Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
        Decision::Conditional { .. } => "conditional",
    }
}

pub(super) fn missing(decision: &Decision) -> Option<&[String]> {
    match decision {
        Decision::Conditional { missing } => Some(missing),
        Decision::Allow | Decision::Deny => None,
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the line's members, which have no other home together"
)]
fn log(
    app: &App,
    visit: &Visit,
    subject: &str,
    resource: &str,
    permission: &str,
    answer: &Answer,
    revision: &str,
    started: Instant,
) {
    if !app.checks.is_enabled() {
        return;
    }
    app.checks.write(&CheckLine {
        vault: visit.vault.id_text(),
        account: visit.vault.account_text(),
        subject,
        resource,
        permission,
        decision: word(&answer.decision),
        latency_ms: started.elapsed().as_secs_f64() * 1_000.0,
        request_id: visit.context.id(),
        revision: Some(revision),
        cached: answer.cached,
    });
}
