//! What the server tells of itself: log lines, metrics, and spans for a collector.

mod check;
mod clock;
mod layer;
mod line;
mod log_file;
pub mod metrics;
mod otlp;
mod process;
mod redact;
mod scope;
mod sink;

use std::io;
use std::panic::{self, PanicHookInfo};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::IntCounter;
use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

pub use self::check::{CHECK_TARGET, CheckLine, CheckLog};
pub use self::layer::LogLayer;
pub use self::metrics::Metrics;
pub use self::otlp::{set_parent, spans_are_sent};
pub use self::scope::LogScope;
pub use self::sink::{Destination, LogGuard, LogSink};

use self::line::Line;
use crate::config::{LogFormat, LogLevels, LoggingConfig, ObservabilityConfig};

/// How long a panic waits for its line to be written.
const PANIC_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Everything that runs for the server's telemetry. Dropping it writes the last lines and sends the last spans.
#[derive(Debug)]
pub struct Telemetry {
    /// The registry of every series.
    pub metrics: Arc<Metrics>,
    /// Where permission checks are logged.
    pub checks: CheckLog,
    // Dropped in this order: the last spans may have something to say to the log.
    _otlp: Option<otlp::OtlpGuard>,
    _log: LogGuard,
}

/// Why telemetry could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log's destination cannot be opened.
    #[error("observability.logging.file: {0}")]
    Log(#[source] io::Error),
    /// The levels are none. Does not happen to a configuration that was loaded.
    #[error("observability.logging.level: `{0}` is not a list of levels")]
    Levels(String),
    /// Spans cannot be sent.
    #[error("observability.tracing: {0}")]
    Tracing(String),
    /// A series is registered twice.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The process logs already: it has one log, started once.
    #[error("telemetry was started already: {0}")]
    Started(String),
}

/// Starts the process's log, its metrics registry and, if wanted, its spans. Once in a process.
///
/// From here on `tracing` events, those of the `log` facade and panics go to the log. [`metrics::serve`] is up to the caller.
pub fn init(config: &ObservabilityConfig) -> Result<Telemetry, TelemetryError> {
    let LoggingConfig {
        format, level, file, ..
    } = &config.logging;
    let levels = LogLevels::parse(level).ok_or_else(|| TelemetryError::Levels(level.clone()))?;
    let destination = file.clone().map_or(Destination::Stdout, Destination::File);
    let (sink, log_guard) = LogSink::start(destination, *format).map_err(TelemetryError::Log)?;
    let metrics = Metrics::new()?;
    metrics.registry().register(Box::new(sink.dropped()))?;
    let layer = LogLayer::new(sink.clone(), *format);
    let targets = Targets::new()
        .with_default(levels.default)
        .with_targets(levels.targets.clone());
    let started = |error: &dyn std::fmt::Display| TelemetryError::Started(error.to_string());
    let otlp_guard = if config.tracing.enabled {
        let failures = IntCounter::new(
            "inferadb_span_export_failures_total",
            "Batches of spans that could not be sent",
        )?;
        metrics.registry().register(Box::new(failures.clone()))?;
        let (tracer, guard) = otlp::start(&config.tracing, failures)?;
        let spans = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_filter(own_spans());
        registry()
            .with(layer.with_filter(targets))
            .with(spans)
            .try_init()
            .map_err(|e| started(&e))?;
        Some(guard)
    } else {
        // As a layer before the other the filter is asked once for each place in the code, not for each event.
        registry()
            .with(targets)
            .with(layer)
            .try_init()
            .map_err(|e| started(&e))?;
        None
    };
    log_panics(sink.clone(), *format);
    Ok(Telemetry {
        metrics: Arc::new(metrics),
        checks: CheckLog::new(sink, &config.logging, &levels),
        _otlp: otlp_guard,
        _log: log_guard,
    })
}

/// Spans and events that are traced: the server's own, down to `INFO`; what its libraries do is not part of a trace.
fn own_spans() -> Targets {
    Targets::new()
        .with_default(LevelFilter::OFF)
        .with_target("inferadb", LevelFilter::INFO)
}

/// Makes every panic an error line that is on its way before the panic goes on. Once the log has ended, panics are
/// printed as before.
fn log_panics(sink: LogSink, format: LogFormat) {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if sink.is_closed() {
            previous(info);
            return;
        }
        let mut line = Vec::new();
        panic_line(&mut line, format, info);
        sink.push(&line, true);
        // If it cannot be written in time the panic goes on without it: the sink counts what it loses.
        sink.flush(PANIC_FLUSH_TIMEOUT);
    }));
}

/// The line of a panic. It goes past `tracing`, which may be what panicked.
fn panic_line(out: &mut Vec<u8>, format: LogFormat, info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let literal = payload.downcast_ref::<&'static str>().copied();
    let payload = literal
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    let message = redact::scrub(payload);
    let mut line = Line::begin(
        out,
        format,
        SystemTime::now(),
        Level::ERROR,
        "inferadb::panic",
        &format!("panic: {message}"),
    );
    if let Some(location) = info.location() {
        line.text("location", &location.to_string());
    }
    line.text("thread", std::thread::current().name().unwrap_or("unnamed"));
    let backtrace = std::backtrace::Backtrace::capture();
    if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
        line.text("backtrace", &backtrace.to_string());
    }
    line.end();
}
