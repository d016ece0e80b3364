//! What a log line costs the thread that logs it.
#![allow(missing_docs)]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start has nothing to say"
)]

use std::hint::black_box;
use std::io;

use criterion::{Criterion, criterion_group, criterion_main};
use inferadb::config::{LogFormat, LogLevels, LoggingConfig};
use inferadb::telemetry::{CheckLine, CheckLog, Destination, LogLayer, LogSink};
use tracing_subscriber::layer::SubscriberExt;

const CHECK: CheckLine<'static> = CheckLine {
    vault: "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d",
    account: "1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d",
    subject: "user:alice@example.com",
    resource: "document:reports/2026/quarterly",
    permission: "view",
    decision: "allow",
    latency_ms: 0.042,
    request_id: "0192f0c1-7a55-7c3e-9b1d-5f0c8a2e4d10",
    revision: Some("00000000001K6A9V"),
    cached: true,
    contextual: 0,
};

fn lines(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("log");
    for format in [LogFormat::Json, LogFormat::Text] {
        let (sink, _guard) = LogSink::start(Destination::Writer(Box::new(io::sink())), format).unwrap();
        let config = LoggingConfig {
            format,
            ..LoggingConfig::default()
        };
        let checks = CheckLog::new(sink.clone(), &config, &LogLevels::parse("info").unwrap());
        group.bench_function(format!("check line, {format:?}"), |bencher| {
            bencher.iter(|| checks.write(black_box(&CHECK)));
        });
        let subscriber = tracing_subscriber::registry().with(LogLayer::new(sink, format));
        tracing::subscriber::with_default(subscriber, || {
            let _request =
                tracing::info_span!("request", request_id = CHECK.request_id, vault = CHECK.vault).entered();
            group.bench_function(format!("event in a span, {format:?}"), |bencher| {
                bencher.iter(|| {
                    tracing::info!(
                        subject = black_box(CHECK.subject),
                        depth = 3,
                        "something happened"
                    )
                });
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lines);
criterion_main!(benches);
