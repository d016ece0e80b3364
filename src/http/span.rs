//! The span of each request, while spans are sent to a collector. Log lines do not need it: they have their fields from the
//! request's scope, which costs a fraction of a span.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use inferadb_actors::{AccountId, VaultId};
use tracing::Span;
use tracing_actix_web::RootSpanBuilder;

use crate::telemetry::{LogScope, set_parent, spans_are_sent};

/// Opens a request's span with its id, below the caller's own; vault, account and status follow.
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let scope = LogScope::current();
        let span = tracing::info_span!(
            "request",
            request_id = scope.as_ref().map(|scope| scope.request_id()),
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

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let status = match outcome {
            Ok(response) => response.status(),
            Err(error) => error.as_response_error().status_code(),
        };
        span.record("status", status.as_u16());
    }
}

/// Adds the vault to the present request's span.
pub fn record_vault(vault: VaultId, account: AccountId) {
    if spans_are_sent() {
        let span = Span::current();
        span.record("vault", tracing::field::display(vault));
        span.record("account", tracing::field::display(account));
    }
}
