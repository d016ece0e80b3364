//! What surrounds every request: its id, its deadline, and that a failure of whatever kind becomes a problem answer.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError, web};
use futures_util::FutureExt;
use uuid::Uuid;

use super::problem::Problem;
use super::{App, deadline};
use crate::telemetry::LogScope;

/// The header that carries a request's id, both ways.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header that carries a request's deadline, in milliseconds from its arrival.
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout-ms");
/// The pattern of the paths of imports.
pub const IMPORT: &str = "/v1/vaults/{vault}/import";
/// The pattern of the paths of exports.
const EXPORT: &str = "/v1/vaults/{vault}/export";
/// The pattern of the paths of clones.
pub const CLONE: &str = "/v1/vaults/{vault}/clone";
/// A longer id is not echoed: it would be in every log line of the request.
const MAX_ID_BYTES: usize = 128;

/// Gives a request its id and deadline, and turns every failure into a problem answer that names the id.
pub async fn surround(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let method = request.method().clone();
    let new_scope = |id: &str| Arc::new(LogScope::new(id, method.clone(), request.path()));
    let scope = with_id(request.headers(), new_scope);
    let id = scope.request_id();
    let app = request.app_data::<web::Data<App>>().cloned();
    let Some(app) = app else {
        return Err(internal_error().of_request(id).into());
    };
    if let Err(problem) = plain(&request) {
        return Err(problem.of_request(id).into());
    }
    let timeout = match is_transfer(&request) {
        // It takes as long as there is to transfer, unless its sender says how long that may be.
        true => asked_of(request.headers()),
        false => timeout_of(request.headers(), &app).map(Some),
    };
    let deadline = match timeout {
        Ok(timeout) => timeout.and_then(|timeout| scope.started().checked_add(timeout)),
        Err(problem) => return Err(problem.of_request(id).into()),
    };
    let work = Arc::clone(&scope).around(scope.during(|| next.call(request)));
    let handled = AssertUnwindSafe(deadline::within(deadline, work))
        .catch_unwind()
        .await;
    let answer = match handled {
        Ok(Ok(Ok(response))) => Ok(complete(response, id)),
        Ok(Ok(Err(error))) => Err(problem_of(&error)),
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::GATEWAY_TIMEOUT,
            "deadline_exceeded",
            "the deadline passed before there was an answer; whether a write was applied is not known",
        )),
        // What panicked is in the log already, through the panic hook.
        Err(_) => Err(internal_error()),
    };
    let (route, status) = match &answer {
        Ok(response) => (response.request().match_pattern(), response.status()),
        Err(problem) => (None, problem.status),
    };
    app.metrics.observe(
        &method,
        route.as_deref().unwrap_or("none"),
        status,
        scope.started().elapsed(),
    );
    answer.map_err(|problem| problem.of_request(id).into())
}

/// Gives the request's id, its own or a new one, to `then`.
pub fn with_id<T>(headers: &HeaderMap, then: impl FnOnce(&str) -> T) -> T {
    match headers.get(REQUEST_ID).map(HeaderValue::to_str) {
        Some(Ok(id)) if is_sound(id) => then(id),
        _ => then(made_up_id().hyphenated().encode_lower(&mut Uuid::encode_buffer())),
    }
}

/// Adds the id to a response; one that stands for an error becomes a problem answer.
fn complete(response: ServiceResponse<impl MessageBody + 'static>, id: &str) -> ServiceResponse<BoxBody> {
    let problem = match response.response().error() {
        Some(error) => Some(problem_of(error)),
        // The framework's own answers have no body; ours say themselves what is wrong.
        None if response.status().is_client_error() || response.status().is_server_error() => {
            let is_bare = !response.headers().contains_key("content-type");
            is_bare.then(|| problem_of_status(response.status()))
        }
        None => None,
    };
    let mut response = match problem {
        Some(problem) => {
            let (request, plain) = response.into_parts();
            let allow = plain.headers().get("allow").cloned();
            let mut answer = problem.of_request(id).error_response();
            if let Some(allow) = allow {
                answer
                    .headers_mut()
                    .insert(HeaderName::from_static("allow"), allow);
            }
            ServiceResponse::new(request, answer)
        }
        None => response.map_into_boxed_body(),
    };
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// What the caller is told of an error.
pub fn problem_of(error: &Error) -> Problem {
    match error.as_error::<Problem>() {
        Some(problem) => problem.clone(),
        None => {
            let response = error.as_response_error();
            let status = response.status_code();
            if status == StatusCode::BAD_REQUEST {
                return Problem::new(status, "bad_request", response.to_string());
            }
            problem_of_status(status)
        }
    }
}

/// What the caller is told where there is but a status.
pub fn problem_of_status(status: StatusCode) -> Problem {
    match status {
        StatusCode::NOT_FOUND => Problem::new(status, "not_found", "there is nothing at this path"),
        StatusCode::METHOD_NOT_ALLOWED => Problem::new(
            status,
            "method_not_allowed",
            "this path does not answer to this method",
        ),
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            status,
            "body_too_large",
            "the request's body is larger than the server takes",
        ),
        status if status.is_client_error() => Problem::new(
            status,
            "bad_request",
            status.canonical_reason().unwrap_or("the request is malformed"),
        ),
        _ => internal_error(),
    }
}

/// A failure of the server itself.
pub fn internal_error() -> Problem {
    let detail = "the server failed; the request's id leads to its log lines";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail)
}

/// Refuses a compressed body: it would be read as what it is not.
fn plain(request: &ServiceRequest) -> Result<(), Problem> {
    match request.headers().get(CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let detail = "a request's body must not be compressed";
            Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_encoding",
                detail,
            ))
        }
        _ => Ok(()),
    }
}

/// Whether a request moves a whole vault.
fn is_transfer(request: &ServiceRequest) -> bool {
    let is_one = |pattern: &str| {
        let ends = pattern.rsplit_once('/').map_or(pattern, |(_, last)| last);
        request
            .path()
            .rsplit_once('/')
            .is_some_and(|(_, last)| last == ends)
    };
    is_one(EXPORT) || is_one(IMPORT) || is_one(CLONE)
}

/// How long a request with these headers may take.
pub fn timeout_of(headers: &HeaderMap, app: &App) -> Result<Duration, Problem> {
    let asked = asked_of(headers)?;
    Ok(asked.map_or(app.settings.request_timeout, |asked| {
        asked.min(app.settings.max_request_timeout)
    }))
}

/// How long a request with these headers says that it may take.
fn asked_of(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else {
        return Ok(None);
    };
    let asked = value
        .to_str()
        .ok()
        .and_then(|text| text.parse::<u64>().ok())
        .filter(|asked| *asked > 0);
    match asked {
        Some(asked) => Ok(Some(Duration::from_millis(asked))),
        None => {
            let detail = "`X-Request-Timeout-Ms` must be a whole number of milliseconds, 1 at least";
            Err(Problem::invalid("invalid_value", "X-Request-Timeout-Ms", detail))
        }
    }
}

fn is_sound(id: &str) -> bool {
    !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// An id for a request that came without one. It need only differ from all others: a keyed hash of a count does, and
/// is spared the system call that a random one needs.
fn made_up_id() -> Uuid {
    thread_local! {
        static KEYS: [RandomState; 2] = [RandomState::new(), RandomState::new()];
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get().wrapping_add(1);
    COUNT.set(count);
    let [high, low] = KEYS.with(|keys| keys.each_ref().map(|key| key.hash_one(count)));
    uuid::Builder::from_random_bytes(Uuid::from_u64_pair(high, low).into_bytes()).into_uuid()
}
