//! The HTTP surface's own metrics.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::{Method, StatusCode};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry};

/// Counts and times requests by route. The labels are routes, not paths: their number does not grow with what callers ask.
pub struct HttpMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    streams_ended: IntCounterVec,
    imports_ended: IntCounterVec,
    transferred: IntCounterVec,
    /// The series that were met: found here without a look at their labels' hashes, and by no other worker.
    met: Mutex<Vec<Series>>,
}

/// The series of one route, method and status.
struct Series {
    method: &'static str,
    route: String,
    status: StatusCode,
    requests: IntCounter,
    seconds: Histogram,
}

impl Clone for HttpMetrics {
    /// The same metrics, with nothing met yet.
    fn clone(&self) -> Self {
        Self {
            requests: self.requests.clone(),
            seconds: self.seconds.clone(),
            streams_ended: self.streams_ended.clone(),
            imports_ended: self.imports_ended.clone(),
            transferred: self.transferred.clone(),
            met: Mutex::default(),
        }
    }
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
        let imports_ended = IntCounterVec::new(
            Opts::new(
                "inferadb_imports_total",
                "Imports that ended, by their mode and by what became of them.",
            ),
            &["mode", "outcome"],
        )?;
        let transferred = IntCounterVec::new(
            Opts::new(
                "inferadb_transferred_relationships_total",
                "Relationships exported, also by what was broken off, and imported.",
            ),
            &["direction"],
        )?;
        registry.register(Box::new(imports_ended.clone()))?;
        registry.register(Box::new(transferred.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(streams_ended.clone()))?;
        Ok(Self {
            requests,
            seconds,
            streams_ended,
            imports_ended,
            transferred,
            met: Mutex::default(),
        })
    }

    /// Notes that a streamed answer ended.
    pub fn stream_ended(&self, stream: &str, reason: &str) {
        self.streams_ended.with_label_values(&[stream, reason]).inc();
    }

    /// Notes that an import ended.
    pub fn import_ended(&self, mode: &str, outcome: &str) {
        self.imports_ended.with_label_values(&[mode, outcome]).inc();
    }

    /// Notes relationships that were exported.
    pub fn exported(&self, relationships: u64) {
        self.transferred
            .with_label_values(&["export"])
            .inc_by(relationships);
    }

    /// Notes relationships that were imported.
    pub fn imported(&self, relationships: u64) {
        self.transferred
            .with_label_values(&["import"])
            .inc_by(relationships);
    }

    /// Notes an answered request.
    pub fn observe(&self, method: &Method, route: &str, status: StatusCode, took: Duration) {
        let method = word(method);
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let known = met
            .iter()
            .position(|series| series.status == status && series.method == method && series.route == route);
        let at = known.unwrap_or_else(|| {
            met.push(Series {
                method,
                route: route.to_owned(),
                status,
                requests: self.requests.with_label_values(&[method, route, status.as_str()]),
                seconds: self.seconds.with_label_values(&[route]),
            });
            met.len() - 1
        });
        if let Some(series) = met.get(at) {
            series.requests.inc();
            series.seconds.observe(took.as_secs_f64());
        }
    }
}

/// A method is whatever the caller writes; the standard ones are few.
fn word(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}
