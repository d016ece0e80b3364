//! The HTTP surface's own metrics.

use std::time::Duration;

use actix_web::http::StatusCode;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Counts and times requests by route. The labels are routes, not paths: their number does not grow with what callers ask.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    streams_ended: IntCounterVec,
}

impl HttpMetrics {
    /// Makes and registers them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("inferadb_http_requests_total", "HTTP requests answered."),
            &["method", "route", "status"],
        )?;
        let buckets = vec![
            0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0,
        ];
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "inferadb_http_request_seconds",
                "Time from a request's arrival to its answer.",
            )
            .buckets(buckets),
            &["route"],
        )?;
        let streams_ended = IntCounterVec::new(
            Opts::new(
                "inferadb_stream_ends_total",
                "Streamed answers that ended, by what was streamed and why.",
            ),
            &["stream", "reason"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(streams_ended.clone()))?;
        Ok(Self {
            requests,
            seconds,
            streams_ended,
        })
    }

    /// Notes that a streamed answer ended.
    pub fn stream_ended(&self, stream: &str, reason: &str) {
        self.streams_ended.with_label_values(&[stream, reason]).inc();
    }

    /// Notes an answered request.
    pub fn observe(&self, method: &str, route: &str, status: StatusCode, took: Duration) {
        // A method is whatever the caller writes; the standard ones are few.
        let method = match method {
            "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS" => method,
            _ => "other",
        };
        self.requests
            .with_label_values(&[method, route, status.as_str()])
            .inc();
        self.seconds
            .with_label_values(&[route])
            .observe(took.as_secs_f64());
    }
}
