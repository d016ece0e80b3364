//! Permission checks, one or many, each with its line in the log.

use std::borrow::Cow;
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{Answer, CheckRequest, now};
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::caller::{Visit, in_vault_heavy};
use super::contexts::Contexts;
use super::problem::Problem;
use super::question::{DecisionView, QuestionBody, Questions, error_value, missing, of_item, word};
use super::received::{Held, Received};
use super::trace;
use super::wire::{ConsistencyBody, RelationshipBody, at, parse_contextual};
use super::{App, Json, body};
use crate::telemetry::CheckLine;

/// The member that holds relationships which count for the request alone.
const CONTEXTUAL: &str = "contextual_relationships";

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct CheckBody<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    permission: Cow<'a, str>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    contextual_relationships: Vec<RelationshipBody<'a>>,
    #[serde(default, deserialize_with = "body::or_default")]
    consistency: ConsistencyBody,
    #[serde(default, deserialize_with = "body::or_default")]
    trace: bool,
}

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct BatchBody<'a> {
    #[serde(borrow)]
    checks: Vec<QuestionBody<'a>>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    contextual_relationships: Vec<RelationshipBody<'a>>,
    #[serde(default, deserialize_with = "body::or_default")]
    consistency: ConsistencyBody,
}

body::objects!(CheckBody<'a>, BatchBody<'a>);

#[derive(Serialize)]
struct CheckView<'a> {
    decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing_context: Option<&'a [String]>,
    revision: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<Box<RawValue>>,
}

/// `POST /v1/check`
pub async fn check(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault_heavy(&app, &request, caller, Scopes::CHECK | Scopes::READ, |visit| {
        answer_check(app.clone(), visit, bytes)
    })
    .await
}

async fn answer_check(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let body: CheckBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes).await?;
    let mut contexts = Contexts::new(&app.settings);
    let question = CheckRequest {
        subject: at("subject", SubjectRef::parse(&body.subject))?,
        resource: at("resource", ObjectRef::parse(&body.resource))?,
        permission: at("permission", Name::parse(&body.permission))?,
        context: contexts.read("context", body.context)?.into(),
        contextual: parse_contextual(CONTEXTUAL, &body.contextual_relationships, &mut contexts)?,
        trace: body.trace,
    };
    let consistency = body.consistency.parse(visit.vault.id)?;
    let mut answer = visit.vault.check(&question, consistency, now()).await?;
    let revision = visit.vault.token(answer.revision);
    log(
        &app,
        &visit,
        &Asked {
            subject: &body.subject,
            resource: &body.resource,
            permission: &body.permission,
            contextual: body.contextual_relationships.len(),
            started: visit.scope.started(),
        },
        &answer,
        &revision,
    );
    let trace = match answer.trace.take() {
        Some(explanation) => Some(trace::written(&visit.vault, explanation).await?),
        None => None,
    };
    let view = CheckView {
        decision: word(&answer.decision),
        missing_context: missing(&answer.decision),
        revision: &revision,
        trace,
    };
    Json::of(view)
}

/// What a line of the log and a piece of the answer are worth, beside the work of evaluations.
pub const WORK_OF_LINE: u64 = 8;

/// What reading a check of a batch from JSON is worth.
const WORK_OF_BODY: u64 = 4;
/// The length of an allowed check in the answer of a batch.
const BYTES_OF_ALLOW: usize = r#"{"decision":"allow"},"#.len();

/// `POST /v1/check/batch`
pub async fn batch(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault_heavy(&app, &request, caller, Scopes::CHECK | Scopes::READ, |visit| {
        answer_batch(app.clone(), visit, bytes)
    })
    .await
}

async fn answer_batch(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let mut turn = visit.vault.turn();
    let body: BatchBody<'_> = body::json_of(&mut turn, &bytes).await?;
    turn.pace(WORK_OF_BODY * body.checks.len() as u64).await;
    let mut contexts = Contexts::new(&app.settings);
    let shared = &body.contextual_relationships;
    let contextual = parse_contextual(CONTEXTUAL, shared, &mut contexts)?;
    let most = app.settings.max_batch_checks;
    let questions = Questions::parse(most, &body.checks, body.context, &mut contexts, &mut turn).await?;
    let consistency = body.consistency.parse(visit.vault.id)?;
    let started = Instant::now();
    turn.pause();
    let batch = visit
        .vault
        .check_batch_with(&questions.sound, &contextual, consistency, now())
        .await?;
    let revision = visit.vault.token(batch.revision);
    let outcomes = questions.outcomes(batch.results).into_iter().zip(&body.checks);
    let mut answer = Vec::with_capacity(body.checks.len() * BYTES_OF_ALLOW);
    answer.extend_from_slice(b"{\"results\":[");
    for (index, (outcome, item)) in outcomes.enumerate() {
        // A thousand lines of the log are no small piece of work either.
        turn.pace(WORK_OF_LINE).await;
        let outcome = outcome.and_then(|answer| answer.map_err(|error| of_item(error.into(), index)));
        if index > 0 {
            answer.push(b',');
        }
        match outcome {
            Ok(checked) => {
                log(
                    &app,
                    &visit,
                    &Asked {
                        subject: &item.subject,
                        resource: &item.resource,
                        permission: &item.permission,
                        contextual: contextual.len() + item.contextual_relationships.len(),
                        started,
                    },
                    &checked,
                    &revision,
                );
                write(&mut answer, &DecisionView::from(&checked.decision));
            }
            Err(problem) => write(&mut answer, &error_value(&problem)),
        }
    }
    answer.extend_from_slice(b"],\"revision\":");
    write(&mut answer, &*revision);
    answer.push(b'}');
    Ok(Json(answer))
}

fn write(answer: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // It has no keys that JSON cannot have, and memory does not fail.
    let _ = serde_json::to_writer(answer, value);
}

/// A check as it was asked.
pub struct Asked<'a> {
    /// Who.
    pub subject: &'a str,
    /// On what.
    pub resource: &'a str,
    /// The relation or permission.
    pub permission: &'a str,
    /// How many relationships it brought with it.
    pub contextual: usize,
    /// When it was asked.
    pub started: Instant,
}

/// Writes an answered check to the log.
pub fn log(app: &App, visit: &Visit, asked: &Asked<'_>, answer: &Answer, revision: &str) {
    if !app.checks.is_enabled() {
        return;
    }
    app.checks.write(&CheckLine {
        vault: visit.vault.id_text(),
        account: visit.vault.account_text(),
        subject: asked.subject,
        resource: asked.resource,
        permission: asked.permission,
        decision: word(&answer.decision),
        latency_ms: asked.started.elapsed().as_secs_f64() * 1_000.0,
        request_id: visit.scope.request_id(),
        revision: Some(revision),
        cached: answer.cached,
        contextual: asked.contextual,
    });
}
