//! Evaluations: one check, or several with what they have in common said once.

use std::sync::Arc;
use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{Answer, CheckRequest, Consistency, VaultError, now};
use inferadb_engine::evaluate::Decision;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Action, Entity, context_of, missing, require_json};
use crate::http::caller::{Visit, in_vault_heavy};
use crate::http::check::{Asked, WORK_OF_LINE, log};
use crate::http::problem::Problem;
use crate::http::question::DecisionView;
use crate::http::received::{Held, Received};
use crate::http::{App, Json, body};

/// What reading an evaluation of many is worth, beside the work of evaluating it.
const WORK_OF_ITEM: u64 = 16;

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct EvaluationBody<'a> {
    #[serde(borrow)]
    subject: Entity<'a>,
    #[serde(borrow)]
    action: Action<'a>,
    #[serde(borrow)]
    resource: Entity<'a>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct EvaluationsBody<'a> {
    #[serde(borrow, default)]
    subject: Option<Entity<'a>>,
    #[serde(borrow, default)]
    action: Option<Action<'a>>,
    #[serde(borrow, default)]
    resource: Option<Entity<'a>>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    /// What is wrong with one is that one's: each is read by itself.
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    evaluations: Vec<&'a RawValue>,
    #[serde(default, deserialize_with = "body::or_default")]
    options: OptionsBody,
}

/// One of several evaluations: what it lacks is that of the request.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct ItemBody<'a> {
    #[serde(borrow, default)]
    subject: Option<Entity<'a>>,
    #[serde(borrow, default)]
    action: Option<Action<'a>>,
    #[serde(borrow, default)]
    resource: Option<Entity<'a>>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
#[serde(remote = "Self")]
struct OptionsBody {
    #[serde(default, deserialize_with = "body::or_default")]
    evaluations_semantic: Semantic,
}

body::objects!(EvaluationBody<'a>, EvaluationsBody<'a>, ItemBody<'a>, OptionsBody);

/// Where the answer to several evaluations ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Semantic {
    /// With the last.
    #[default]
    ExecuteAll,
    /// With the first that is denied, if one is.
    DenyOnFirstDeny,
    /// With the first that is permitted, if one is.
    PermitOnFirstPermit,
}

/// An evaluation with all that it needs.
#[derive(Clone, Copy)]
struct Question<'b> {
    subject: &'b Entity<'b>,
    action: &'b Action<'b>,
    resource: &'b Entity<'b>,
    context: Option<&'b RawValue>,
}

/// A decision in the words of the standard, which knows two.
#[derive(Serialize)]
struct DecisionBody {
    decision: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Value>,
}

impl DecisionBody {
    fn of(decision: &Decision) -> Self {
        let reason = matches!(decision, Decision::Conditional { .. });
        Self {
            decision: matches!(decision, Decision::Allow),
            context: reason.then(|| json!({ "reason": DecisionView::from(decision) })),
        }
    }

    /// One of several that could not be decided.
    fn failed(problem: &Problem) -> Self {
        let error = json!({
            "status": problem.status.as_u16(),
            "code": problem.code,
            "message": problem.detail,
        });
        Self {
            decision: false,
            context: Some(json!({ "error": error })),
        }
    }
}

impl Semantic {
    /// Whether the answer ends with this decision.
    const fn ends_with(self, decision: bool) -> bool {
        match self {
            Self::ExecuteAll => false,
            Self::DenyOnFirstDeny => !decision,
            Self::PermitOnFirstPermit => decision,
        }
    }
}

impl Question<'_> {
    fn parse(&self, max_context_bytes: usize) -> Result<CheckRequest, Problem> {
        let entities = [
            ("subject", self.subject.properties),
            ("action", self.action.properties),
            ("resource", self.resource.properties),
        ];
        Ok(CheckRequest {
            subject: self.subject.subject()?,
            resource: self.resource.resource()?,
            permission: self.action.permission()?,
            context: context_of(self.context, entities, max_context_bytes)?.into(),
            contextual: Arc::default(),
            trace: false,
        })
    }

    fn log(&self, app: &App, visit: &Visit, started: Instant, answer: &Answer, revision: &str) {
        let asked = Asked {
            subject: &self.subject.text(),
            resource: &self.resource.text(),
            permission: &self.action.name,
            contextual: 0,
            started,
        };
        log(app, visit, &asked, answer, revision);
    }
}

impl<'b> EvaluationsBody<'b> {
    /// The request as a single evaluation.
    fn single(&'b self) -> Result<Question<'b>, Problem> {
        Ok(Question {
            subject: self.subject.as_ref().ok_or_else(|| missing("subject"))?,
            action: self.action.as_ref().ok_or_else(|| missing("action"))?,
            resource: self.resource.as_ref().ok_or_else(|| missing("resource"))?,
            context: self.context,
        })
    }

    /// One of its evaluations. What that has replaces the request's as a whole.
    fn question(&'b self, item: &'b ItemBody<'b>) -> Result<Question<'b>, Problem> {
        let subject = item.subject.as_ref().or(self.subject.as_ref());
        let action = item.action.as_ref().or(self.action.as_ref());
        let resource = item.resource.as_ref().or(self.resource.as_ref());
        Ok(Question {
            subject: subject.ok_or_else(|| missing("subject"))?,
            action: action.ok_or_else(|| missing("action"))?,
            resource: resource.ok_or_else(|| missing("resource"))?,
            context: item.context.or(self.context),
        })
    }
}

/// `POST /access/v1/evaluation`
pub async fn evaluation(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    require_json(&request)?;
    in_vault_heavy(&app, &request, caller, Scopes::CHECK | Scopes::READ, |visit| {
        answer_evaluation(app.clone(), visit, bytes)
    })
    .await
}

/// `POST /access/v1/evaluations`
pub async fn evaluations(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    require_json(&request)?;
    in_vault_heavy(&app, &request, caller, Scopes::CHECK | Scopes::READ, |visit| {
        answer_evaluations(app.clone(), visit, bytes)
    })
    .await
}

async fn answer_evaluation(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let body: EvaluationBody<'_> = body::json_of(&mut visit.vault.turn(), &bytes).await?;
    let question = Question {
        subject: &body.subject,
        action: &body.action,
        resource: &body.resource,
        context: body.context,
    };
    answer_one(&app, &visit, question).await
}

async fn answer_one(app: &App, visit: &Visit, question: Question<'_>) -> Result<Json, Problem> {
    let check = question.parse(app.settings.max_context_bytes)?;
    let answer = visit
        .vault
        .check(&check, Consistency::MinimizeLatency, now())
        .await?;
    let revision = visit.vault.token(answer.revision);
    question.log(app, visit, visit.scope.started(), &answer, &revision);
    Json::of(DecisionBody::of(&answer.decision))
}

async fn answer_evaluations(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let mut turn = visit.vault.turn();
    let body: EvaluationsBody<'_> = body::json_of(&mut turn, &bytes).await?;
    let (count, most) = (body.evaluations.len(), app.settings.max_batch_checks);
    if count == 0 {
        drop(turn);
        return answer_one(&app, &visit, body.single()?).await;
    }
    if count > most {
        let detail = format!("at most {most} evaluations in one request, this one has {count}");
        return Err(Problem::invalid("too_many", "evaluations", detail));
    }
    let mut items = Vec::with_capacity(count);
    for item in &body.evaluations {
        turn.pace(WORK_OF_ITEM + body::work_of(item.get().len())).await;
        items.push(body::json::<ItemBody<'_>>(item.get().as_bytes()));
    }
    let mut sound = Vec::with_capacity(count);
    let mut questions = Vec::with_capacity(count);
    for item in &items {
        turn.pace(WORK_OF_ITEM).await;
        let question = match item {
            Ok(item) => body.question(item),
            Err(problem) => Err(problem.clone()),
        };
        let parsed = question.and_then(|question| {
            let check = question.parse(app.settings.max_context_bytes)?;
            Ok((question, check))
        });
        questions.push(parsed.map(|(question, check)| {
            sound.push(check);
            question
        }));
    }
    let started = Instant::now();
    turn.pause();
    let batch = visit
        .vault
        .check_batch(&sound, Consistency::MinimizeLatency, now())
        .await?;
    let revision = visit.vault.token(batch.revision);
    let mut answers = batch.results.into_iter();
    let mut told = Vec::with_capacity(count);
    for question in questions {
        turn.pace(WORK_OF_LINE).await;
        // There is one answer for each sound question.
        let answered = question.and_then(|question| {
            let answer = answers.next().unwrap_or(Err(VaultError::ActorFailed));
            Ok((question, answer.map_err(Problem::from)?))
        });
        let decision = match answered {
            Ok((question, answer)) => {
                question.log(&app, &visit, started, &answer, &revision);
                DecisionBody::of(&answer.decision)
            }
            Err(problem) => DecisionBody::failed(&problem),
        };
        let is_last = body.options.evaluations_semantic.ends_with(decision.decision);
        told.push(decision);
        if is_last {
            break;
        }
    }
    Json::of(json!({ "evaluations": told }))
}
