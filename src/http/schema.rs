//! The vault's schema: read, replaced, and tried without being stored.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{SchemaWrite, VaultError};
use inferadb_engine::schema::{Diagnostic, Format};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::caller::{Caller, Visit, in_vault, in_vault_heavy};
use super::problem::{Problem, diagnostic};
use super::received::{Held, Received};
use super::{App, Json, body, ok};

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct SchemaBody {
    schema: String,
}

/// A body whose `schema` is the text of an OpenFGA model or, as JSON, the model itself.
#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct ModelBody<'a> {
    #[serde(borrow)]
    schema: &'a RawValue,
}

body::objects!(SchemaBody, ModelBody<'a>);

/// A schema as it was sent.
struct Sent {
    format: Format,
    force: bool,
    says_json: bool,
    bytes: Held,
}

/// Whether a JSON body has a member `schema`.
#[derive(Deserialize)]
struct Wrapped<'a> {
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SchemaQuery {
    format: Option<String>,
    force: bool,
}

/// `GET /v1/schema`
pub async fn get(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let scopes = Scopes::READ | Scopes::SCHEMA | Scopes::CHECK;
    let caller = Caller::of(&app, &request).await?;
    in_vault(&app, &request, caller, scopes, |visit| async move {
        let Some(stored) = visit.vault.schema().await? else {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "no_schema",
                "the vault has no schema yet",
            ));
        };
        ok(&json!({
            "schema": stored.text,
            "format": stored.format.name(),
            "revision": stored.revision.encode(visit.vault.id),
        }))
    })
    .await
}

/// `PUT /v1/schema`
pub async fn put(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let sent = Sent::of(&request, bytes);
    in_vault_heavy(&app, &request, caller, Scopes::SCHEMA | Scopes::ADMIN, |visit| {
        let app = app.clone();
        async move {
            let sent = sent?;
            let write = SchemaWrite {
                text: sent.text(&app, &visit).await?,
                format: sent.format,
                force: sent.force,
            };
            let (revision, warnings) = visit.vault.put_schema(write).await?;
            Json::of(
                json!({ "revision": revision.encode(visit.vault.id), "warnings": diagnostics(&warnings) }),
            )
        }
    })
    .await
}

/// `POST /v1/schema/validate`
pub async fn validate(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let sent = Sent::of(&request, bytes);
    in_vault_heavy(&app, &request, caller, Scopes::READ | Scopes::SCHEMA, |visit| {
        let app = app.clone();
        async move {
            let sent = sent?;
            let text = sent.text(&app, &visit).await?;
            Json::of(match visit.vault.compile(sent.format, text).await {
                Ok(compiled) => {
                    json!({ "valid": true, "errors": [], "warnings": diagnostics(&compiled.warnings) })
                }
                Err(VaultError::Schema(errors)) => {
                    json!({ "valid": false, "errors": diagnostics(&errors), "warnings": [] })
                }
                Err(error) => return Err(error.into()),
            })
        }
    })
    .await
}

fn diagnostics(list: &[Diagnostic]) -> Vec<Value> {
    list.iter().map(diagnostic).collect()
}

/// The language that `name`, the value of the member `field`, names; without one, the native language.
pub fn format_named(name: Option<&str>, field: &str) -> Result<Format, Problem> {
    let Some(name) = name else {
        return Ok(Format::Native);
    };
    Format::named(name).ok_or_else(|| {
        let detail = format!(
            "`{field}` is `native` or `openfga`, this is `{}`",
            name.escape_debug()
        );
        Problem::invalid("invalid_value", field, detail)
    })
}

impl Sent {
    fn of(request: &HttpRequest, bytes: Held) -> Result<Self, Problem> {
        let query: SchemaQuery = body::query(request)?;
        let content_type = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        Ok(Self {
            format: format_named(query.format.as_deref(), "format")?,
            force: query.force,
            says_json: content_type.is_some_and(|media| media.contains("json")),
            bytes,
        })
    }

    /// The schema: of JSON the member `schema`, else all of it. A JSON body of an OpenFGA model can be the model itself.
    async fn text(&self, app: &App, visit: &Visit) -> Result<String, Problem> {
        let mut turn = visit.vault.turn();
        body::turn_for(&mut turn, &self.bytes).await;
        turn.count(body::work_of(self.bytes.len()));
        // No schema text starts with a brace.
        let is_json = self.says_json || self.bytes.trim_ascii_start().first() == Some(&b'{');
        let text = match self.format {
            Format::Native if is_json => body::json::<SchemaBody>(&self.bytes)?.schema,
            Format::OpenFga if is_json && is_wrapped(&self.bytes) => wrapped_model(&self.bytes)?,
            // What is neither a model nor a wrapped one is the compiler's to report, with the place.
            _ => {
                let text = std::str::from_utf8(&self.bytes);
                text.map_err(|_| Problem::invalid("invalid_value", "schema", "the schema is not UTF-8"))?
                    .to_owned()
            }
        };
        refuse_long(&text, app.settings.max_schema_bytes)?;
        Ok(text)
    }
}

/// Refuses a schema of more than `most` bytes.
pub fn refuse_long(text: &str, most: usize) -> Result<(), Problem> {
    if text.len() > most {
        let detail = format!(
            "a schema is at most {most} bytes long, this one has {}",
            text.len()
        );
        return Err(Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "schema_too_large",
            detail,
        ));
    }
    Ok(())
}

fn is_wrapped(bytes: &[u8]) -> bool {
    serde_json::from_slice::<Wrapped<'_>>(bytes).is_ok_and(|body| body.schema.is_some())
}

/// The text in `{"schema": "…"}`, or the JSON in `{"schema": {…}}`.
fn wrapped_model(bytes: &[u8]) -> Result<String, Problem> {
    let held = body::json::<ModelBody<'_>>(bytes)?.schema;
    match held_text(Format::OpenFga, held) {
        Some(text) => Ok(text),
        None => Ok(body::json::<SchemaBody>(bytes)?.schema),
    }
}

/// The text of a schema that is a member of a JSON body: a string or, of an OpenFGA model, the JSON itself.
pub fn held_text(format: Format, held: &RawValue) -> Option<String> {
    match format {
        Format::OpenFga if held.get().starts_with('{') => Some(held.get().to_owned()),
        _ => serde_json::from_str(held.get()).ok(),
    }
}
