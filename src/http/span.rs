//! The span of each request, while spans are sent to a collector.

use actix_web::dev::ServiceRequest;
use actix_web::http::StatusCode;
use inferadb_actors::{AccountId, VaultId};
use tracing::Span;

use crate::telemetry::{set_parent, spans_are_sent};

/// Opens a request's span with its id, below the caller's own; vault, account and status follow. While spans are not
/// sent it is none, which costs nothing: log lines have their fields from the request's scope.
pub fn open(request: &ServiceRequest, id: &str) -> Span {
    if !spans_are_sent() {
        return Span::none();
    }
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        method = %request.method(),
        path = %request.path(),
        status = tracing::field::Empty,
        vault = tracing::field::Empty,
        account = tracing::field::Empty,
    );
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    set_parent(&span, header("traceparent"), header("tracestate"));
    span
}

/// Adds the vault to the present request's span.
pub fn record_vault(vault: VaultId, account: AccountId) {
    if spans_are_sent() {
        let span = Span::current();
        span.record("vault", tracing::field::display(vault));
        span.record("account", tracing::field::display(account));
    }
}

/// Adds the outcome.
pub fn record_status(span: &Span, status: StatusCode) {
    span.record("status", status.as_u16());
}
