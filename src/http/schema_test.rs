//! Schema tests over HTTP: a test file is run inside the vault's limits, and nothing of it is stored.

use std::cell::Cell;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{Vault, VaultError, now};
use serde::Deserialize;

use super::caller::in_vault;
use super::problem::Problem;
use super::received::Received;
use super::{App, body, ok};
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

/// The checks of one run, charged to the vault when it ends, however it ends.
struct Charge {
    vault: Arc<Vault>,
    checks: Cell<usize>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.vault.end_trial(self.checks.get());
    }
}

/// `POST /v1/schema/test`
pub async fn test(
    app: web::Data<App>,
    request: HttpRequest,
    Received { caller, bytes, .. }: Received,
) -> Result<HttpResponse, Problem> {
    in_vault(&app, &request, caller, Scopes::READ | Scopes::SCHEMA, |visit| {
        let (request, bytes) = (request.clone(), bytes.clone());
        async move {
            let query: TestQuery = body::query(&request)?;
            let format = query.format.as_deref().map(format_of).transpose()?;
            let text = std::str::from_utf8(&bytes).map_err(|_| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "invalid_test_file",
                    "the test file is not UTF-8",
                )
            })?;
            let limits = visit.vault.begin_trial()?;
            let charge = Charge {
                vault: Arc::clone(&visit.vault),
                checks: Cell::new(0),
            };
            let text = text.to_owned();
            // It is read as a whole, and the schema in it compiled.
            let read = visit.vault.apart(move || parse(&text, format, &NoFiles)).await?;
            let suite = read.map_err(problem_of)?;
            let bounds = Bounds {
                limits,
                max_relationships: MAX_RELATIONSHIPS,
                max_checks: MAX_CHECKS,
            };
            let report = run(&suite, &bounds, now(), &charge.checks, false)
                .await
                .map_err(problem_of)?;
            ok(&report.to_value())
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
