//! Schema tests over HTTP: a test file is run inside the vault's limits, apart from the threads that answer requests, and nothing of
//! it is stored.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{VaultError, now};
use serde::Deserialize;

use super::caller::in_vault_heavy;
use super::problem::Problem;
use super::received::Received;
use super::{App, Json, body};
use crate::schema_test::{Bounds, Flaw, Format, NoFiles, Unfit, parse, run};

/// The most relationships of one run, those of each test counted with the common ones.
const MAX_RELATIONSHIPS: usize = 100_000;
/// The most checks of one run, those that lists are made of counted.
const MAX_CHECKS: usize = 100_000;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TestQuery {
    format: Option<String>,
}

/// `POST /v1/schema/test`
pub async fn test(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let query = body::query(&request);
    in_vault_heavy(&app, &request, caller, Scopes::READ | Scopes::SCHEMA, |visit| {
        async move {
            let query: TestQuery = query?;
            body::turn_for(&mut visit.vault.turn(), &bytes).await;
            let format = query.format.as_deref().map(format_of).transpose()?;
            let text = std::str::from_utf8(&bytes).map_err(|_| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_test_file",
                    "the test file is not UTF-8",
                )
            })?;
            let text = text.to_owned();
            let answer = visit.vault.run_trial(|limits, checks| async move {
                let suite = parse(&text, format, &NoFiles)?;
                let bounds = Bounds {
                    limits,
                    max_relationships: MAX_RELATIONSHIPS,
                    max_checks: MAX_CHECKS,
                };
                let report = run(&suite, &bounds, now(), &checks, false).await?;
                // Strings, numbers and lists of them are always JSON.
                Ok(serde_json::to_vec(&report.to_value()).unwrap_or_default())
            });
            let answer = answer.await?.map_err(problem_of)?;
            Ok(Json(answer))
        }
    })
    .await
}

fn format_of(word: &str) -> Result<Format, Problem> {
    match word {
        "validation" => Ok(Format::Validation),
        "openfga" => Ok(Format::Store),
        other => {
            let detail = format!(
                "`format` is `validation` or `openfga`, and not `{}`",
                other.escape_debug()
            );
            Err(Problem::invalid("invalid_value", "format", detail))
        }
    }
}

fn problem_of(unfit: Unfit) -> Problem {
    match unfit {
        Unfit::Malformed(flaw) => of_flaw(StatusCode::BAD_REQUEST, "invalid_test_file", &flaw),
        Unfit::TooLarge(detail) => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail),
        Unfit::Schema { errors, .. } => VaultError::Schema(errors).into(),
        Unfit::Misfit { flaw, .. } => of_flaw(
            StatusCode::UNPROCESSABLE_ENTITY,
            "relationship_does_not_fit_schema",
            &flaw,
        ),
    }
}

fn of_flaw(status: StatusCode, code: &'static str, flaw: &Flaw) -> Problem {
    Problem {
        position: Some((flaw.place.line, flaw.place.column)),
        ..Problem::new(status, code, flaw.message.clone())
    }
}
