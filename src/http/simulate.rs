//! Simulations: which of some decisions would change if relationships were touched and deleted, or the schema replaced.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{BeforeAfter, SimulateRequest, Turn, VaultError, now};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::Format;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::caller::{Visit, in_vault_heavy};
use super::contexts::Contexts;
use super::problem::Problem;
use super::question::{DecisionView, QuestionBody, Questions, error_value, of_item, work_of_contexts};
use super::received::{Held, Received};
use super::relationships::{WORK_OF_CHANGE, WORK_OF_LINE};
use super::schema::{format_named, held_text, refuse_long};
use super::wire::{ConsistencyBody, RelationshipBody, parse_keys};
use super::{App, Json, body};

/// How many kinds of ignored relationships are named.
const MAX_KINDS: usize = 100;

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct SimulateBody<'a> {
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    touch: Vec<RelationshipBody<'a>>,
    #[serde(borrow, default, deserialize_with = "body::or_default")]
    delete: Vec<RelationshipBody<'a>>,
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    schema_format: Option<Cow<'a, str>>,
    #[serde(borrow)]
    checks: Vec<QuestionBody<'a>>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "body::or_default")]
    consistency: ConsistencyBody,
}

body::objects!(SimulateBody<'a>);

/// `POST /v1/simulate`
pub async fn simulate(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault_heavy(&app, &request, caller, Scopes::READ, |visit| {
        answer(app.clone(), visit, bytes)
    })
    .await
}

async fn answer(app: web::Data<App>, visit: Visit, bytes: Held) -> Result<Json, Problem> {
    let mut turn = visit.vault.turn();
    let body: SimulateBody<'_> = body::json_of(&mut turn, &bytes).await?;
    let settings = &app.settings;
    let (changes, most) = (body.touch.len() + body.delete.len(), settings.max_write_changes);
    if changes > most {
        let detail = format!("at most {most} changes in one simulation, this one has {changes}");
        return Err(Problem::invalid("too_many", "touch", detail));
    }
    let (schema, schema_format) = schema_of(&body, settings.max_schema_bytes)?;
    let mut contexts = Contexts::new(settings);
    let most = settings.max_batch_checks;
    let mut questions = Questions::parse(most, &body.checks, body.context, &mut contexts, &mut turn).await?;
    let touch = touched(&body.touch, &mut contexts, &mut turn).await?;
    turn.pace(WORK_OF_CHANGE * body.delete.len() as u64).await;
    let delete = parse_keys("delete", &body.delete)?;
    turn.pause();
    let request = SimulateRequest {
        touch,
        delete,
        schema,
        schema_format,
        checks: std::mem::take(&mut questions.sound),
    };
    let consistency = body.consistency.parse(visit.vault.id)?;
    let has_schema = request.schema.is_some();
    let simulation = visit.vault.simulate(request, consistency, now()).await?;
    let mut answer = b"{".to_vec();
    if has_schema {
        answer.extend(format!("\"ignored\":{},", ignored(&simulation.ignored)).into_bytes());
    }
    answer.extend_from_slice(b"\"results\":[");
    for (index, outcome) in questions.outcomes(simulation.results).into_iter().enumerate() {
        let result = match outcome {
            Ok(sides) => result(index, sides),
            // The check makes no sense, whatever is stored.
            Err(problem) => {
                let error = error_value(&problem);
                json!({ "before": error, "after": error, "changed": false })
            }
        };
        if index > 0 {
            answer.push(b',');
        }
        let text = result.to_string();
        answer.extend_from_slice(text.as_bytes());
        turn.pace(2 * WORK_OF_LINE + body::work_of(text.len())).await;
    }
    let revision = json!(&*visit.vault.token(simulation.revision));
    answer.extend(format!("],\"revision\":{revision}}}").into_bytes());
    Ok(Json(answer))
}

/// The relationships to touch, parsed in turns.
async fn touched(
    bodies: &[RelationshipBody<'_>],
    contexts: &mut Contexts,
    turn: &mut Turn<'_>,
) -> Result<Vec<Relationship>, Problem> {
    let mut touched = Vec::with_capacity(bodies.len());
    for (index, body) in bodies.iter().enumerate() {
        turn.pace(WORK_OF_CHANGE).await;
        let one = body.parse(format_args!("touch[{index}]"), contexts)?;
        turn.count(work_of_contexts(std::slice::from_ref(&one)));
        touched.push(one);
    }
    Ok(touched)
}

/// The schema to try, and its language.
fn schema_of(body: &SimulateBody<'_>, most: usize) -> Result<(Option<String>, Format), Problem> {
    let format = format_named(body.schema_format.as_deref(), "schema_format")?;
    let Some(held) = body.schema else {
        return match body.schema_format {
            None => Ok((None, format)),
            Some(_) => {
                let detail = "`schema_format` is the format of `schema`, which is not there";
                Err(Problem::invalid("invalid_value", "schema_format", detail))
            }
        };
    };
    let text = held_text(format, held).ok_or_else(|| {
        let detail = match format {
            Format::Native => "a schema in the native language is a string",
            Format::OpenFga => "an OpenFGA model is a string or an object",
        };
        Problem::invalid("invalid_value", "schema", detail)
    })?;
    refuse_long(&text, most)?;
    Ok((Some(text), format))
}

fn result(index: usize, sides: BeforeAfter) -> Value {
    let side = |outcome: Result<Decision, VaultError>| match outcome {
        Ok(decision) => json!(DecisionView::from(&decision)),
        Err(error) => error_value(&of_item(error.into(), index)),
    };
    let (before, after) = (side(sides.before), side(sides.after));
    let changed = before != after;
    json!({ "before": before, "after": after, "changed": changed })
}

/// The stored relationships that the schema to try has no place for.
fn ignored(kinds: &[(String, u64)]) -> Value {
    let count = kinds.iter().map(|(_, count)| count).sum::<u64>();
    let named = kinds.iter().take(MAX_KINDS);
    let named: Vec<Value> = named
        .map(|(kind, count)| json!({ "kind": kind, "relationships": count }))
        .collect();
    json!({ "relationships": count, "kinds": named, "truncated": kinds.len() > MAX_KINDS })
}
