//! The span that each request's log lines and traces belong to.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use tracing::Span;
use tracing_actix_web::RootSpanBuilder;

use super::request::RequestContext;

/// Opens a request's span with its id; vault and account follow once the token is read.
pub struct RequestSpan;

impl RootSpanBuilder for RequestSpan {
    fn on_request_start(request: &ServiceRequest) -> Span {
        let context = RequestContext::of(request.request());
        let span = tracing::info_span!(
            "request",
            request_id = %context.id,
            method = %request.method(),
            path = %request.path(),
            status = tracing::field::Empty,
            vault = tracing::field::Empty,
            account = tracing::field::Empty,
        );
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        crate::telemetry::set_parent(&span, header("traceparent"), header("tracestate"));
        span
    }

    fn on_request_end<B: MessageBody>(span: Span, outcome: &Result<ServiceResponse<B>, Error>) {
        let status = match outcome {
            Ok(response) => response.status().as_u16(),
            Err(error) => error.as_response_error().status_code().as_u16(),
        };
        span.record("status", status);
    }
}
