//! The vault's schema: read, replaced, and tried without being stored.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::SchemaWrite;
use inferadb_actors::auth::Scopes;
use inferadb_engine::schema::{self, Diagnostic};
use serde::Deserialize;
use serde_json::{Value, json};

use super::caller::in_vault;
use super::problem::{Problem, diagnostic};
use super::{App, body, ok};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SchemaBody {
    schema: String,
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
    in_vault(&app, &request, scopes, |visit| async move {
        let Some((text, revision)) = visit.vault.schema().await? else {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "no_schema",
                "the vault has no schema yet",
            ));
        };
        ok(&json!({ "schema": text, "revision": revision.encode(visit.vault.id) }))
    })
    .await
}

/// `PUT /v1/schema`
pub async fn put(
    app: web::Data<App>,
    request: HttpRequest,
    bytes: web::Bytes,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, Scopes::SCHEMA | Scopes::ADMIN, |visit| {
        let (app, request, bytes) = (app.clone(), request.clone(), bytes.clone());
        async move {
            let query: SchemaQuery = body::query(&request)?;
            let text = schema_text(&app, &request, &query, &bytes)?;
            let write = SchemaWrite {
                text,
                force: query.force,
            };
            let (revision, warnings) = visit.vault.put_schema(write).await?;
            ok(&json!({ "revision": revision.encode(visit.vault.id), "warnings": diagnostics(&warnings) }))
        }
    })
    .await
}

/// `POST /v1/schema/validate`
pub async fn validate(
    app: web::Data<App>,
    request: HttpRequest,
    bytes: web::Bytes,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, Scopes::READ | Scopes::SCHEMA, |_| {
        let (app, request, bytes) = (app.clone(), request.clone(), bytes.clone());
        async move {
            let query: SchemaQuery = body::query(&request)?;
            let text = schema_text(&app, &request, &query, &bytes)?;
            ok(&match schema::compile(&text) {
                Ok(compiled) => {
                    json!({ "valid": true, "errors": [], "warnings": diagnostics(&compiled.warnings) })
                }
                Err(errors) => json!({ "valid": false, "errors": diagnostics(&errors), "warnings": [] }),
            })
        }
    })
    .await
}

fn diagnostics(list: &[Diagnostic]) -> Vec<Value> {
    list.iter().map(diagnostic).collect()
}

/// The schema in a body: JSON `{"schema": …}` where the content type or the first character says so, else plain text.
fn schema_text(
    app: &App,
    request: &HttpRequest,
    query: &SchemaQuery,
    bytes: &[u8],
) -> Result<String, Problem> {
    if let Some(format) = query.format.as_deref().filter(|format| *format != "native") {
        let detail = format!(
            "`format` is `native`; this version does not read `{}`",
            format.escape_debug()
        );
        return Err(Problem::invalid("invalid_value", "format", detail));
    }
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    // No schema text starts with a brace.
    let is_json = content_type.contains("json") || bytes.trim_ascii_start().first() == Some(&b'{');
    let text = if is_json {
        body::json::<SchemaBody>(bytes)?.schema
    } else {
        let text = std::str::from_utf8(bytes);
        text.map_err(|_| Problem::invalid("invalid_value", "schema", "the schema is not UTF-8"))?
            .to_owned()
    };
    refuse_long(&text, app.settings.max_schema_bytes)?;
    Ok(text)
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
