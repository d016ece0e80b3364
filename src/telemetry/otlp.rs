//! Spans sent to a collector: OTLP over gRPC, on threads of their own, never in a request's way.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry::global;
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, SpanData, SpanExporter,
};
use prometheus::IntCounter;
use tokio::sync::oneshot;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::TelemetryError;
use crate::config::TracingConfig;

/// Spans that wait to be sent; more are dropped, which costs a trace and nothing else.
const QUEUE_SPANS: usize = 4096;
/// How long a collector may take for one batch.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end of the process waits for the last spans.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);
/// A collector that does not answer is complained about this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Whether spans are recorded at all: [`set_parent`] does nothing otherwise.
static ACTIVE: AtomicBool = AtomicBool::new(false);

/// Keeps the threads that send spans; dropping it sends what is left, waiting a few seconds at most.
#[derive(Debug)]
pub(super) struct OtlpGuard {
    provider: SdkTracerProvider,
    runtime: Option<oneshot::Sender<()>>,
}

/// Starts sending spans; `failures` counts the batches that did not arrive.
///
/// The collector need not be there: it is connected to when there is something to send, and again after each failure.
pub(super) fn start(
    config: &TracingConfig,
    failures: IntCounter,
) -> Result<(SdkTracer, OtlpGuard), TelemetryError> {
    let failed = |error: &dyn std::fmt::Display| TelemetryError::Tracing(error.to_string());
    // The gRPC client is driven by the runtime it is made in. This one is its alone: a collector that hangs
    // holds up nobody.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(&e))?;
    let exporter = {
        let _entered = runtime.enter();
        OtlpExporter::builder()
            .with_tonic()
            .with_endpoint(&config.endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|e| failed(&e))?
    };
    let (stop, stopped) = oneshot::channel();
    thread::Builder::new()
        .name("otlp".to_owned())
        // Ends when told to, or when the guard is gone: both are the end of the wait.
        .spawn(move || drop(runtime.block_on(stopped)))
        .map_err(|e| failed(&e))?;
    let batch = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE_SPANS)
        .build();
    let exporter = Reporting {
        inner: exporter,
        endpoint: config.endpoint.clone(),
        failures,
        complained: Mutex::default(),
    };
    let provider = SdkTracerProvider::builder()
        .with_span_processor(
            BatchSpanProcessor::builder(exporter)
                .with_batch_config(batch)
                .build(),
        )
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(
            config.sample_ratio,
        ))))
        .with_resource(
            Resource::builder()
                .with_service_name("inferadb")
                .with_attribute(opentelemetry::KeyValue::new(
                    "service.version",
                    env!("CARGO_PKG_VERSION"),
                ))
                .build(),
        )
        .build();
    global::set_text_map_propagator(TraceContextPropagator::new());
    ACTIVE.store(true, Ordering::Relaxed);
    let tracer = provider.tracer("inferadb");
    Ok((
        tracer,
        OtlpGuard {
            provider,
            runtime: Some(stop),
        },
    ))
}

/// Whether spans are sent anywhere: otherwise there is no use in opening one.
pub fn spans_are_sent() -> bool {
    ACTIVE.load(Ordering::Relaxed)
}

/// Makes `span` a child of the caller's, as the W3C headers `traceparent` and `tracestate` name it.
///
/// Without tracing, or without a valid `traceparent`, nothing happens. Call it before the span is entered for the
/// first time.
pub fn set_parent(span: &Span, traceparent: Option<&str>, tracestate: Option<&str>) {
    if traceparent.is_none() || !spans_are_sent() {
        return;
    }
    let headers = Headers {
        traceparent,
        tracestate,
    };
    let parent = global::get_text_map_propagator(|propagator| propagator.extract(&headers));
    // It fails where the span is disabled or has begun: then it is no part of a trace that could be continued.
    let _ = span.set_parent(parent);
}

struct Headers<'a> {
    traceparent: Option<&'a str>,
    tracestate: Option<&'a str>,
}

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent,
            "tracestate" => self.tracestate,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Drop for OtlpGuard {
    fn drop(&mut self) {
        ACTIVE.store(false, Ordering::Relaxed);
        if let Err(error) = self.provider.shutdown_with_timeout(CLOSE_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
        if let Some(runtime) = self.runtime.take() {
            // The thread may be gone already, which is what is asked for.
            let _ = runtime.send(());
        }
    }
}

/// Counts and reports failures, now and then: the exporter itself is silent.
#[derive(Debug)]
struct Reporting {
    inner: OtlpExporter,
    endpoint: String,
    failures: IntCounter,
    complained: Mutex<Option<Instant>>,
}

impl Reporting {
    fn report(&self, error: &dyn std::fmt::Display, spans: usize) {
        self.failures.inc();
        let mut complained = self
            .complained
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
            *complained = Some(Instant::now());
            tracing::warn!(endpoint = %self.endpoint, %error, spans, "spans cannot be sent");
        }
    }
}

impl SpanExporter for Reporting {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.inner.export(batch).await;
        if let Err(error) = &result {
            self.report(error, spans);
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
