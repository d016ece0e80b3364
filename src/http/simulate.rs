//! Simulations: which of some decisions would change if relationships were touched and deleted, or the schema replaced.

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{BeforeAfter, SimulateRequest, VaultError, now};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::schema::Format;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::caller::{Visit, in_vault};
use super::problem::Problem;
use super::question::{DecisionView, QuestionBody, Questions, error_value, of_item};
use super::received::Received;
use super::schema::{format_named, held_text, refuse_long};
use super::wire::{ConsistencyBody, RelationshipBody, parse_keys, parse_relationships};
use super::{App, body, ok};

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
    Received { caller, bytes, .. }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, caller, Scopes::READ, |visit| {
        answer(&app, visit, &bytes)
    })
    .await
}

async fn answer(app: &App, visit: Visit, bytes: &[u8]) -> Result<HttpResponse, Problem> {
    let body: SimulateBody<'_> = body::json(bytes)?;
    let settings = &app.settings;
    let (changes, most) = (body.touch.len() + body.delete.len(), settings.max_write_changes);
    if changes > most {
        let detail = format!("at most {most} changes in one simulation, this one has {changes}");
        return Err(Problem::invalid("too_many", "touch", detail));
    }
    let (schema, schema_format) = schema_of(&body, settings.max_schema_bytes)?;
    let mut turn = visit.vault.turn();
    let mut questions = Questions::parse(settings, &body.checks, body.context, &mut turn).await?;
    drop(turn);
    let request = SimulateRequest {
        touch: parse_relationships("touch", &body.touch, settings.max_stored_context_bytes)?,
        delete: parse_keys("delete", &body.delete)?,
        schema,
        schema_format,
        checks: std::mem::take(&mut questions.sound),
    };
    let consistency = body.consistency.parse(visit.vault.id)?;
    let has_schema = request.schema.is_some();
    let simulation = visit.vault.simulate(request, consistency, now()).await?;
    let outcomes = questions.outcomes(simulation.results).into_iter();
    let results: Vec<Value> = outcomes
        .enumerate()
        .map(|(index, outcome)| match outcome {
            Ok(sides) => result(index, sides),
            // The check makes no sense, whatever is stored.
            Err(problem) => {
                let error = error_value(&problem);
                json!({ "before": error, "after": error, "changed": false })
            }
        })
        .collect();
    let mut answer = json!({
        "results": results,
        "revision": &*visit.vault.token(simulation.revision),
    });
    if let (true, Some(members)) = (has_schema, answer.as_object_mut()) {
        members.insert("ignored".into(), ignored(&simulation.ignored));
    }
    ok(&answer)
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
