//! The line that each permission check leaves: written past `tracing`, because it is as hot as the check itself.

use std::cell::RefCell;
use std::time::SystemTime;

use tracing::Level;
use tracing::level_filters::LevelFilter;

use super::line::Line;
use super::sink::LogSink;
use crate::config::{LogFormat, LogLevels, LoggingConfig};

/// The target that check lines carry, and that `observability.logging.level` can name.
pub const CHECK_TARGET: &str = "inferadb::check";

/// What is logged of one permission check.
#[derive(Debug, Clone, Copy)]
pub struct CheckLine<'a> {
    /// The vault's id; `vault_id` repeats it.
    pub vault: &'a str,
    /// The id of the vault's account.
    pub account: &'a str,
    /// The subject as the request wrote it.
    pub subject: &'a str,
    /// The resource as the request wrote it.
    pub resource: &'a str,
    /// The permission's name.
    pub permission: &'a str,
    /// `allow`, `deny` or `conditional`.
    pub decision: &'a str,
    /// Milliseconds from the request's arrival, or the check's begin, to its decision.
    pub latency_ms: f64,
    /// The request's id.
    pub request_id: &'a str,
    /// The revision at which the decision holds.
    pub revision: Option<&'a str>,
    /// Whether the decision was remembered.
    pub cached: bool,
    /// How many relationships of the request's own it rests on, perhaps; none are not mentioned.
    pub contextual: usize,
}

/// Where check lines go. Clones share their destination.
#[derive(Debug, Clone)]
pub struct CheckLog {
    sink: Option<LogSink>,
    format: LogFormat,
}

impl CheckLog {
    /// Writes to `sink`, if `config` wants check lines and its levels let them through.
    pub fn new(sink: LogSink, config: &LoggingConfig, levels: &LogLevels) -> Self {
        let wanted = config.permission_checks && level_of(levels, CHECK_TARGET) >= LevelFilter::INFO;
        Self {
            sink: wanted.then_some(sink),
            format: config.format,
        }
    }

    /// Writes nothing.
    pub const fn disabled() -> Self {
        Self {
            sink: None,
            format: LogFormat::Json,
        }
    }

    /// Whether a line would be written: what is only needed for it need not be computed otherwise.
    pub const fn is_enabled(&self) -> bool {
        self.sink.is_some()
    }

    /// Writes `check` with the present time. Does not wait: a line that finds no room is dropped and counted.
    pub fn write(&self, check: &CheckLine<'_>) {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let Some(sink) = &self.sink else { return };
        SCRATCH.with_borrow_mut(|out| {
            check.format(out, self.format, SystemTime::now());
            sink.push(out, false);
        });
    }
}

impl CheckLine<'_> {
    /// Replaces the content of `out` with the line, newline included.
    pub(super) fn format(&self, out: &mut Vec<u8>, format: LogFormat, time: SystemTime) {
        let mut line = Line::begin(out, format, time, Level::INFO, CHECK_TARGET, "Permission check");
        line.text("vault", self.vault);
        if format == LogFormat::Json {
            line.text("vault_id", self.vault);
        }
        line.text("account", self.account);
        line.text("subject", self.subject);
        line.text("resource", self.resource);
        line.text("permission", self.permission);
        line.text("decision", self.decision);
        line.milliseconds("latency_ms", self.latency_ms);
        line.text("request_id", self.request_id);
        if let Some(revision) = self.revision {
            line.text("revision", revision);
        }
        line.flag("cached", self.cached);
        if self.contextual > 0 {
            line.number("contextual", self.contextual as u64);
        }
        line.end();
    }
}

/// The level in force for `target`: that of the longest named target it begins with.
fn level_of(levels: &LogLevels, target: &str) -> LevelFilter {
    levels
        .targets
        .iter()
        .filter(|(prefix, _)| target.starts_with(prefix.as_str()))
        .max_by_key(|(prefix, _)| prefix.len())
        .map_or(levels.default, |(_, level)| *level)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::line::{MAX_LINE_BYTES, push_escaped};
    use super::*;

    const CHECK: CheckLine<'static> = CheckLine {
        vault: "a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d",
        account: "1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d",
        subject: "user:alice",
        resource: "document:readme",
        permission: "view",
        decision: "allow",
        latency_ms: 12.0426,
        request_id: "r-1",
        revision: Some("abc"),
        cached: true,
        contextual: 0,
    };

    fn line(check: &CheckLine<'_>, format: LogFormat) -> String {
        let mut out = b"what was there before".to_vec();
        check.format(&mut out, format, SystemTime::UNIX_EPOCH);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_the_published_fields_in_a_fixed_order() {
        assert_eq!(
            line(&CHECK, LogFormat::Json),
            "{\"timestamp\":\"1970-01-01T00:00:00.000Z\",\"level\":\"INFO\",\"message\":\"Permission check\",\
             \"target\":\"inferadb::check\",\"vault\":\"a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d\",\
             \"vault_id\":\"a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d\",\"account\":\"1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d\",\
             \"subject\":\"user:alice\",\"resource\":\"document:readme\",\"permission\":\"view\",\"decision\":\"allow\",\
             \"latency_ms\":12.043,\"request_id\":\"r-1\",\"revision\":\"abc\",\"cached\":true}\n"
        );
    }

    #[test]
    fn text_is_one_readable_line() {
        let check = CheckLine {
            subject: "user:a\nb c",
            revision: None,
            ..CHECK
        };
        assert_eq!(
            line(&check, LogFormat::Text),
            "1970-01-01T00:00:00.000Z INFO  inferadb::check: Permission check vault=a1b2c3d4-e5f6-4a7b-8c9d-0e1f2a3b4c5d \
             account=1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d subject=\"user:a\\nb c\" resource=document:readme permission=view \
             decision=allow latency_ms=12.043 request_id=r-1 cached=true\n"
        );
    }

    #[test]
    fn odd_latencies_are_numbers_still() {
        for (latency, expected) in [
            (0.0, 0.0),
            (-1.0, 0.0),
            (f64::NAN, 0.0),
            (0.0004, 0.0),
            (0.0006, 0.001),
            (1234.5, 1234.5),
        ] {
            let parsed: Value = serde_json::from_str(&line(
                &CheckLine {
                    latency_ms: latency,
                    ..CHECK
                },
                LogFormat::Json,
            ))
            .unwrap();
            assert_eq!(parsed["latency_ms"], json!(expected), "{latency}");
        }
        let huge = line(
            &CheckLine {
                latency_ms: f64::INFINITY,
                ..CHECK
            },
            LogFormat::Json,
        );
        assert!(serde_json::from_str::<Value>(&huge).is_ok(), "{huge}");
    }

    #[test]
    fn levels_switch_check_lines_off() {
        for (levels, expected) in [
            ("info", LevelFilter::INFO),
            ("warn", LevelFilter::WARN),
            ("warn,inferadb::check=info", LevelFilter::INFO),
            ("info,inferadb=debug,inferadb::check=off", LevelFilter::OFF),
            ("debug,h2=off", LevelFilter::DEBUG),
        ] {
            assert_eq!(
                level_of(&LogLevels::parse(levels).unwrap(), CHECK_TARGET),
                expected,
                "{levels}"
            );
        }
    }

    #[test]
    fn a_cut_value_keeps_its_characters_whole_and_says_so() {
        for text in [
            "ä".repeat(100),
            "\u{1}".repeat(100),
            format!("{}\\", "x".repeat(200)),
            "🦀".repeat(64),
        ] {
            for room in 20..150 {
                let mut out = b"\"".to_vec();
                push_escaped(&mut out, &text, room);
                assert!(out.len() - 1 <= room, "{} bytes in {room}", out.len() - 1);
                out.push(b'"');
                let read: String = serde_json::from_slice(&out).unwrap();
                assert!(text.starts_with(read.strip_suffix("…[cut]").unwrap()), "{read}");
            }
        }
    }

    proptest! {
        #[test]
        fn escaping_is_that_of_serde_json(text in any::<String>()) {
            let mut out = b"\"".to_vec();
            push_escaped(&mut out, &text, usize::MAX);
            out.push(b'"');
            prop_assert_eq!(String::from_utf8(out).unwrap(), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn escaping_in_just_enough_room_cuts_nothing(text in "[a\"\\\\\u{0}-\u{20}äö🦀]{0,40}") {
            let expected = serde_json::to_string(&text).unwrap();
            let mut out = Vec::new();
            push_escaped(&mut out, &text, expected.len() - 2);
            prop_assert_eq!(format!("\"{}\"", String::from_utf8(out).unwrap()), expected);
        }

        #[test]
        fn any_check_is_one_flat_bounded_json_line(
            subject in any::<String>(), resource in "\\PC{0,9000}", permission in any::<String>(), request_id in "[\u{0}-\u{7f}]{0,5000}",
        ) {
            let check = CheckLine {
                subject: &subject, resource: &resource, permission: &permission, request_id: &request_id, ..CHECK
            };
            for format in [LogFormat::Json, LogFormat::Text] {
                let written = line(&check, format);
                prop_assert!(written.len() <= MAX_LINE_BYTES);
                prop_assert_eq!(written.matches('\n').count(), 1);
            }
            let parsed: Value = serde_json::from_str(&line(&check, LogFormat::Json)).unwrap();
            prop_assert_eq!(&parsed["subject"], &json!(subject));
            prop_assert_eq!(&parsed["vault_id"], &json!(CHECK.vault));
            // As it is written: what is escaped takes more room than it has bytes.
            if serde_json::to_string(&resource).unwrap().len() < 4000 {
                prop_assert_eq!(&parsed["resource"], &json!(resource));
            }
        }
    }
}
