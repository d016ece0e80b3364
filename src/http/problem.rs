//! Errors as RFC 9457 problem details. Which HTTP status an error has is decided here and nowhere else.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder, ResponseError};
use inferadb_actors::auth::AuthError;
use inferadb_actors::{StoreError, VaultError};
use inferadb_engine::evaluate::EvaluationError;
use inferadb_engine::schema::Diagnostic;
use serde::Serialize;
use serde_json::Value;

use super::request::REQUEST_ID;

/// An error as the caller sees it.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// A stable snake_case word.
    pub code: &'static str,
    /// What went wrong, for a person.
    pub detail: String,
    /// The request's member at fault.
    pub field: Option<String>,
    /// Where in a text, from 1.
    pub position: Option<(u32, u32)>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// What a 401 or 403 says in `WWW-Authenticate`.
    pub challenge: Option<&'static str>,
    /// Further members.
    pub extra: Option<(&'static str, Value)>,
    /// The id of the request, once it is known.
    pub request_id: Option<String>,
}

/// The members of an `application/problem+json` body.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
}

impl Problem {
    /// A problem with nothing but its status, code and detail.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            field: None,
            position: None,
            retry_after: None,
            challenge: None,
            extra: None,
            request_id: None,
        }
    }

    /// 400: the request is malformed at `field`.
    pub fn invalid(code: &'static str, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(StatusCode::BAD_REQUEST, code, detail)
        }
    }

    /// 401: no token, or one that is not accepted.
    pub fn unauthorized(code: &'static str, detail: &str, challenge: &'static str) -> Self {
        Self {
            challenge: Some(challenge),
            ..Self::new(StatusCode::UNAUTHORIZED, code, detail)
        }
    }

    /// 403: the token lacks every scope that would allow the call.
    pub fn insufficient_scope(needed: &str) -> Self {
        let detail = format!("the token has none of the scopes that allow this call: {needed}");
        let challenge = Some("Bearer error=\"insufficient_scope\"");
        Self {
            challenge,
            ..Self::new(StatusCode::FORBIDDEN, "insufficient_scope", detail)
        }
    }

    fn retry(status: StatusCode, code: &'static str, detail: impl Into<String>, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..Self::new(status, code, detail)
        }
    }

    /// The same problem of the request known by `id`.
    pub fn of_request(self, id: &str) -> Self {
        Self {
            request_id: Some(id.to_owned()),
            ..self
        }
    }

    /// The problem as a JSON value.
    pub fn to_value(&self) -> Value {
        let mut value = serde_json::to_value(self.body()).unwrap_or_default();
        if let (Some((name, extra)), Value::Object(members)) = (&self.extra, &mut value) {
            members.insert((*name).to_owned(), extra.clone());
        }
        value
    }

    fn body(&self) -> Body<'_> {
        Body {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            request_id: self.request_id.as_deref(),
            field: self.field.as_deref(),
            line: self.position.map(|(line, _)| line),
            column: self.position.map(|(_, column)| column),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.status.as_u16(), self.code, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status);
        if let Some(challenge) = self.challenge {
            response.insert_header((header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge)));
        }
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: 0 would invite an immediate retry.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.insert_header((header::RETRY_AFTER, seconds.max(1).to_string()));
        }
        if let Some(id) = &self.request_id {
            response.insert_header((REQUEST_ID, id.as_str()));
        }
        response.insert_header((header::CONTENT_TYPE, "application/problem+json"));
        response.body(self.to_value().to_string())
    }
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Missing => Self::unauthorized("missing_token", "a bearer token is required", "Bearer"),
            AuthError::KeysUnavailable => Self::retry(
                StatusCode::SERVICE_UNAVAILABLE,
                "keys_unavailable",
                "tokens cannot be verified now: the key set is unavailable",
                Duration::from_secs(5),
            ),
            AuthError::Malformed { .. } | AuthError::Invalid { .. } => Self {
                challenge: Some("Bearer error=\"invalid_token\""),
                ..Self::new(StatusCode::UNAUTHORIZED, "invalid_token", error.to_string())
            },
        }
    }
}

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        let detail = error.to_string();
        match error {
            VaultError::AccessDenied => Self::new(StatusCode::FORBIDDEN, "vault_access_denied", detail),
            VaultError::NotFound(_) => Self::new(StatusCode::NOT_FOUND, "not_found", detail),
            VaultError::AccountNotEmpty => Self::new(StatusCode::CONFLICT, "account_not_empty", detail),
            VaultError::Invalid { code, field, message } => Self::invalid(code, field, message),
            VaultError::Misfit { at, misfit } => Self {
                field: Some(format!("{at}.{}", misfit.field())),
                ..Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "relationship_does_not_fit_schema",
                    detail,
                )
            },
            VaultError::Schema(diagnostics) => schema_problem(&diagnostics),
            VaultError::SchemaInUse { kinds, examples } => {
                let examples: Vec<String> = examples.iter().map(ToString::to_string).collect();
                let detail = format!(
                    "{detail}: {}; for example {}",
                    kinds.join(", "),
                    examples.join(", ")
                );
                let extra = serde_json::json!(examples);
                Self {
                    extra: Some(("examples", extra)),
                    ..Self::new(StatusCode::CONFLICT, "schema_in_use", detail)
                }
            }
            VaultError::AlreadyExists(_) => Self::new(StatusCode::CONFLICT, "already_exists", detail),
            VaultError::PreconditionFailed(at) => Self {
                field: Some(format!("preconditions[{at}]")),
                ..Self::new(StatusCode::CONFLICT, "precondition_failed", detail)
            },
            VaultError::Conflict { code, message } => Self::new(StatusCode::CONFLICT, code, message),
            VaultError::RevisionAhead => {
                Self::invalid("revision_ahead", "consistency.at_least_as_fresh", detail)
            }
            VaultError::HistoryGone => Self::new(StatusCode::GONE, "history_gone", detail),
            VaultError::Evaluation(error) => evaluation_problem(&error),
            VaultError::RateLimited { limit, retry_after } => Self {
                extra: Some(("limit", Value::from(limit))),
                ..Self::retry(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail, retry_after)
            },
            VaultError::Overloaded(_) => Self::retry(
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                detail,
                Duration::from_secs(1),
            ),
            VaultError::OutcomeUnknown => Self::retry(
                StatusCode::SERVICE_UNAVAILABLE,
                "outcome_unknown",
                detail,
                Duration::from_secs(1),
            ),
            VaultError::Stopping => Self::retry(
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                detail,
                Duration::from_secs(1),
            ),
            VaultError::ActorFailed => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail),
            VaultError::DeadlinePassed => Self::new(StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded", detail),
            VaultError::Storage(error) => storage_problem(&error),
        }
    }
}

fn evaluation_problem(error: &EvaluationError) -> Problem {
    let detail = error.to_string();
    match error {
        EvaluationError::LimitExceeded { limit, .. } => {
            let extra = Some(("limit", Value::from(*limit)));
            Problem {
                extra,
                ..Problem::new(StatusCode::BAD_REQUEST, "limit_exceeded", detail)
            }
        }
        EvaluationError::Caveat { .. } => Problem::invalid("caveat_failed", "context", detail),
        EvaluationError::RecursiveExclusion { .. } => {
            Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "recursive_exclusion", detail)
        }
        EvaluationError::UnknownMember(_) => {
            tracing::error!(%error, "an evaluation met a member that its schema does not have");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "the check could not be evaluated",
            )
        }
    }
}

fn storage_problem(error: &StoreError) -> Problem {
    let unavailable = |code| {
        let detail = "storage is not available now; nothing was decided";
        Problem::retry(
            StatusCode::SERVICE_UNAVAILABLE,
            code,
            detail,
            Duration::from_secs(1),
        )
    };
    match error {
        StoreError::TooLarge(_) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error.to_string())
        }
        StoreError::Damaged(_) => {
            // What exactly is damaged is for the operator's log, not for a tenant.
            tracing::error!(%error, "storage is damaged or failing");
            Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "storage_failed",
                "storage failed",
            )
        }
        _ => {
            tracing::warn!(%error, "storage is unavailable");
            unavailable("storage_unavailable")
        }
    }
}

/// 422 with every diagnostic; the first one's position stands at the top as well.
fn schema_problem(diagnostics: &[Diagnostic]) -> Problem {
    let first = diagnostics.first();
    let detail = match first {
        Some(first) if diagnostics.len() == 1 => format!("the schema does not compile: {first}"),
        Some(first) => format!(
            "the schema does not compile: {first} (and {} more)",
            diagnostics.len() - 1
        ),
        None => "the schema does not compile".to_owned(),
    };
    let errors: Vec<Value> = diagnostics.iter().map(diagnostic).collect();
    Problem {
        position: first.map(|first| (first.line, first.column)),
        extra: Some(("errors", Value::from(errors))),
        ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "schema_invalid", detail)
    }
}

/// A compiler's error or warning on the wire.
pub fn diagnostic(diagnostic: &Diagnostic) -> Value {
    let mut value = serde_json::json!({
        "code": diagnostic.code.as_str(),
        "message": diagnostic.message,
        "line": diagnostic.line,
        "column": diagnostic.column,
        "end_line": diagnostic.end_line,
        "end_column": diagnostic.end_column,
    });
    // Only a schema of several files has files.
    if let (Some(file), Some(members)) = (&diagnostic.file, value.as_object_mut()) {
        members.insert("file".to_owned(), Value::from(file.as_str()));
    }
    value
}
