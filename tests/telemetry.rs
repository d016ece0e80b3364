//! Telemetry as a whole, in a process of its own: one log, panics in it, and a collector that takes spans or is away.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use inferadb::config::{LogFormat, LoggingConfig, ObservabilityConfig, TracingConfig};
use inferadb::telemetry::{self, CheckLine};
use serde_json::Value;

#[test]
fn one_log_for_events_checks_and_panics_with_a_collector_that_never_answers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs/server.log");
    // It takes connections, for the backlog does, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = ObservabilityConfig {
        logging: LoggingConfig {
            format: LogFormat::Json,
            level: "info,quiet=off".into(),
            file: Some(path.clone()),
            permission_checks: true,
        },
        tracing: TracingConfig {
            enabled: true,
            endpoint: format!("http://{}", silent.local_addr().unwrap()),
            sample_ratio: 1.0,
        },
        ..ObservabilityConfig::default()
    };
    let started = telemetry::init(&config).unwrap();
    assert!(telemetry::init(&config).is_err(), "there is one log in a process");

    let begin = Instant::now();
    for number in 0..10_000 {
        let span = tracing::info_span!(target: "inferadb::test", "request", request_id = "r-1", number);
        telemetry::set_parent(
            &span,
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            None,
        );
        let _entered = span.entered();
        if number == 7 {
            tracing::info!(vault = "v-1", "in a request");
        }
    }
    assert!(
        begin.elapsed() < Duration::from_secs(5),
        "a silent collector holds requests up: {:?}",
        begin.elapsed()
    );
    tracing::debug!("too fine");
    tracing_log::log::warn!(target: "a_library", "by the old facade");
    tracing::error!(target: "quiet", "switched off");
    assert!(started.checks.is_enabled());
    started.checks.write(&CheckLine {
        vault: "v-1",
        account: "a-1",
        subject: "user:alice",
        resource: "document:readme",
        permission: "view",
        decision: "deny",
        latency_ms: 0.25,
        request_id: "r-2",
        revision: None,
        cached: false,
        contextual: 0,
    });
    let panicked = std::thread::Builder::new()
        .name("worker".into())
        .spawn(|| panic!("it broke"))
        .unwrap()
        .join();
    assert!(panicked.is_err());

    // The panic was written before it went on: so was what came before it.
    let lines: Vec<Value> = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<_> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    assert_eq!(
        messages,
        [
            "in a request",
            "by the old facade",
            "Permission check",
            "panic: it broke"
        ]
    );
    assert_eq!(
        (&lines[0]["number"], &lines[0]["vault_id"]),
        (&7.into(), &"v-1".into())
    );
    assert_eq!(
        (&lines[1]["target"], &lines[1]["level"]),
        (&"a_library".into(), &"WARN".into())
    );
    assert_eq!(
        (&lines[2]["decision"], &lines[2]["latency_ms"]),
        (&"deny".into(), &0.25.into())
    );
    assert_eq!(
        (&lines[3]["level"], &lines[3]["thread"]),
        (&"ERROR".into(), &"worker".into())
    );
    assert!(lines[3]["location"].as_str().unwrap().contains("telemetry.rs:"));

    let text = started.metrics.encode().unwrap();
    for name in [
        "inferadb_log_lines_dropped_total 0",
        "inferadb_span_export_failures_total",
        "inferadb_build_info{",
    ] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
    let end = Instant::now();
    drop(started);
    assert!(
        end.elapsed() < Duration::from_secs(12),
        "a silent collector holds the end up: {:?}",
        end.elapsed()
    );
    let text = std::fs::read_to_string(&path).unwrap();
    let complaint = text.lines().find(|line| line.contains("spans")).unwrap();
    assert!(complaint.contains("\"level\":\"WARN\""), "{complaint}");
}
