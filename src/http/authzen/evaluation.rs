//! Evaluations: one check, or several with what they have in common said once.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{Answer, CheckRequest, Consistency, Turn, VaultError, now};
use inferadb_engine::context::Context;
use inferadb_engine::evaluate::Decision;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Action, Entity, Parts, Shared, in_its_words, require_json};
use crate::http::caller::{Visit, in_vault_heavy};
use crate::http::check::{Asked, WORK_OF_LINE, log};
use crate::http::contexts::Contexts;
use crate::http::problem::Problem;
use crate::http::question::DecisionView;
use crate::http::received::{Held, Received};
use crate::http::{App, Json, body};

/// What reading an evaluation of many is worth, beside its bytes and the work of evaluating it.
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
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    options: OptionsBody<'a>,
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
struct OptionsBody<'a> {
    #[serde(borrow, default)]
    evaluations_semantic: Option<Cow<'a, str>>,
}

body::objects!(
    EvaluationBody<'a>,
    EvaluationsBody<'a>,
    ItemBody<'a>,
    OptionsBody<'a>
);

/// Where the answer to several evaluations ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Semantic {
    /// With the last.
    ExecuteAll,
    /// With the first that is denied, if one is.
    DenyOnFirstDeny,
    /// With the first that is permitted, if one is.
    PermitOnFirstPermit,
}

/// An evaluation with all that it needs.
#[derive(Clone, Copy)]
struct Evaluation<'b> {
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
        let is_conditional = matches!(decision, Decision::Conditional { .. });
        Self {
            decision: matches!(decision, Decision::Allow),
            context: is_conditional.then(|| json!({ "reason": DecisionView::from(decision) })),
        }
    }

    /// One of several that cannot be decided. Where that is the server's fault, or is over before long, none of them is answered.
    fn failed(problem: Problem) -> Result<Self, Problem> {
        if problem.status.is_server_error() || problem.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(problem);
        }
        let mut error = json!({
            "status": problem.status.as_u16(),
            "code": problem.code,
            "message": problem.detail,
        });
        if let (Some(field), Some(members)) = (problem.field, error.as_object_mut()) {
            members.insert("field".into(), field.into());
        }
        Ok(Self {
            decision: false,
            context: Some(json!({ "error": error })),
        })
    }
}

impl Semantic {
    fn parse(word: Option<&str>) -> Result<Self, Problem> {
        match word {
            None | Some("execute_all") => Ok(Self::ExecuteAll),
            Some("deny_on_first_deny") => Ok(Self::DenyOnFirstDeny),
            Some("permit_on_first_permit") => Ok(Self::PermitOnFirstPermit),
            Some(_) => Err(Problem::invalid(
                "invalid_value",
                "options.evaluations_semantic",
                "`options.evaluations_semantic` is `execute_all`, `deny_on_first_deny` or `permit_on_first_permit`",
            )),
        }
    }

    /// Whether the answer ends with this decision.
    const fn ends_with(self, decision: bool) -> bool {
        match self {
            Self::ExecuteAll => false,
            Self::DenyOnFirstDeny => !decision,
            Self::PermitOnFirstPermit => decision,
        }
    }
}

impl<'b> Evaluation<'b> {
    const fn parts(&self) -> Parts<'b> {
        let properties = [
            self.subject.properties,
            self.action.properties,
            self.resource.properties,
        ];
        Parts::new(self.context, properties)
    }

    fn check(&self, context: Arc<Context>) -> Result<CheckRequest, Problem> {
        Ok(CheckRequest {
            subject: self.subject.subject()?,
            resource: self.resource.resource()?,
            permission: self.action.permission()?,
            context,
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
    /// What the evaluations have in common, as far as caveats are concerned.
    fn parts(&self) -> Parts<'b> {
        let of = |entity: &Option<Entity<'b>>| entity.as_ref().and_then(|entity| entity.properties);
        let action = self.action.as_ref().and_then(|action| action.properties);
        Parts::new(self.context, [of(&self.subject), action, of(&self.resource)])
    }

    /// The request as a single evaluation.
    fn single(&'b self) -> Result<Evaluation<'b>, Problem> {
        self.with([None, None], None, None)
    }

    /// One of its evaluations. What that has replaces the request's as a whole.
    fn one(&'b self, item: &'b ItemBody<'b>) -> Result<Evaluation<'b>, Problem> {
        let entities = [item.subject.as_ref(), item.resource.as_ref()];
        self.with(entities, item.action.as_ref(), item.context)
    }

    fn with(
        &'b self,
        [subject, resource]: [Option<&'b Entity<'b>>; 2],
        action: Option<&'b Action<'b>>,
        context: Option<&'b RawValue>,
    ) -> Result<Evaluation<'b>, Problem> {
        let missing = |member: &str| {
            let detail = format!("there is no `{member}`");
            Problem::invalid("missing_field", member, detail)
        };
        let subject = subject.or(self.subject.as_ref());
        let action = action.or(self.action.as_ref());
        let resource = resource.or(self.resource.as_ref());
        Ok(Evaluation {
            subject: subject.ok_or_else(|| missing("subject"))?,
            action: action.ok_or_else(|| missing("action"))?,
            resource: resource.ok_or_else(|| missing("resource"))?,
            context: context.or(self.context),
        })
    }
}

/// `POST /access/v1/evaluation`
pub async fn evaluation(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let sound = require_json(&request);
    in_vault_heavy(&app, &request, caller, Scopes::CHECK | Scopes::READ, |visit| {
        let app = app.clone();
        async move {
            sound?;
            answer_evaluation(&app, &visit, &bytes)
                .await
                .map_err(in_its_words)
        }
    })
    .await
}

/// `POST /access/v1/evaluations`
pub async fn evaluations(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let sound = require_json(&request);
    in_vault_heavy(&app, &request, caller, Scopes::CHECK | Scopes::READ, |visit| {
        let app = app.clone();
        async move {
            sound?;
            answer_evaluations(&app, &visit, &bytes)
                .await
                .map_err(in_its_words)
        }
    })
    .await
}

async fn answer_evaluation(app: &App, visit: &Visit, bytes: &Held) -> Result<Json, Problem> {
    let body: EvaluationBody<'_> = body::json_of(&mut visit.vault.turn(), bytes).await?;
    let one = Evaluation {
        subject: &body.subject,
        action: &body.action,
        resource: &body.resource,
        context: body.context,
    };
    answer_one(app, visit, one).await
}

async fn answer_one(app: &App, visit: &Visit, one: Evaluation<'_>) -> Result<Json, Problem> {
    let context = one.parts().read(&mut Contexts::new(&app.settings))?;
    let check = one.check(context.into())?;
    let answer = visit
        .vault
        .check(&check, Consistency::MinimizeLatency, now())
        .await?;
    let revision = visit.vault.token(answer.revision);
    one.log(app, visit, visit.scope.started(), &answer, &revision);
    Json::of(DecisionBody::of(&answer.decision))
}

async fn answer_evaluations(app: &App, visit: &Visit, bytes: &Held) -> Result<Json, Problem> {
    let mut turn = visit.vault.turn();
    let body: EvaluationsBody<'_> = body::json_of(&mut turn, bytes).await?;
    let (count, most) = (body.evaluations.len(), app.settings.max_batch_checks);
    let semantic = Semantic::parse(body.options.evaluations_semantic.as_deref())?;
    if count == 0 {
        drop(turn);
        return answer_one(app, visit, body.single()?).await;
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
    let (asked, checks) = read(app, &body, &items, &mut turn).await?;
    let started = Instant::now();
    turn.pause();
    let batch = visit
        .vault
        .check_batch(&checks, Consistency::MinimizeLatency, now())
        .await?;
    let revision = visit.vault.token(batch.revision);
    let mut answers = batch.results.into_iter();
    let mut told = Vec::with_capacity(count);
    for one in asked {
        turn.pace(WORK_OF_LINE).await;
        let answered = one.and_then(|one| {
            // There is one answer for each sound evaluation.
            let answer = answers.next().unwrap_or(Err(VaultError::ActorFailed));
            Ok((one, answer.map_err(Problem::from)?))
        });
        let decision = match answered {
            Ok((one, answer)) => {
                one.log(app, visit, started, &answer, &revision);
                DecisionBody::of(&answer.decision)
            }
            Err(problem) => DecisionBody::failed(in_its_words(problem))?,
        };
        let is_last = semantic.ends_with(decision.decision);
        told.push(decision);
        if is_last {
            break;
        }
    }
    Json::of(json!({ "evaluations": told }))
}

/// The evaluations, each sound or with what is wrong with it, and the checks that the sound ones are, in order.
async fn read<'b>(
    app: &App,
    body: &'b EvaluationsBody<'b>,
    items: &'b [Result<ItemBody<'b>, Problem>],
    turn: &mut Turn<'_>,
) -> Result<(Vec<Result<Evaluation<'b>, Problem>>, Vec<CheckRequest>), Problem> {
    let mut shared = Shared::new(Contexts::new(&app.settings));
    // What is wrong with that is the request's.
    shared.read(body.parts())?;
    turn.pace(body::work_of(body.parts().bytes())).await;
    let mut asked = Vec::with_capacity(items.len());
    let mut checks = Vec::with_capacity(items.len());
    for item in items {
        turn.pace(WORK_OF_ITEM).await;
        let one = match item {
            Ok(item) => body.one(item),
            Err(problem) => Err(problem.clone()),
        };
        let read = one.and_then(|one| {
            let (context, bytes) = shared.read(one.parts())?;
            turn.count(body::work_of(bytes));
            checks.push(one.check(context)?);
            Ok(one)
        });
        asked.push(read);
    }
    Ok((asked, checks))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_what_is_an_evaluations_own_fault_is_answered_in_its_place() {
        let limit = VaultError::RateLimited {
            limit: "checks_per_second",
            retry_after: Duration::from_secs(1),
        };
        for error in [
            VaultError::ActorFailed,
            VaultError::DeadlinePassed,
            VaultError::Overloaded("test"),
            limit,
        ] {
            let problem = Problem::from(error);
            let status = problem.status;
            let failed = DecisionBody::failed(problem).map(|told| told.decision);
            assert_eq!(failed.map_err(|problem| problem.status), Err(status));
        }
        let own = Problem::invalid("unknown_type", "resource.type", "there is no such type");
        let told = DecisionBody::failed(own).unwrap();
        let error = told.context.unwrap()["error"].clone();
        assert!(!told.decision);
        assert_eq!(
            (&error["status"], &error["field"]),
            (&json!(400), &json!("resource.type"))
        );
    }
}
