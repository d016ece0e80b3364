//! Events as log lines: flat, with the fields of the spans and the request they happened in.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::line::{Line, MAX_LINE_BYTES};
use super::redact::{REDACTED, is_secret_name, scrub};
use super::scope::LogScope;
use super::sink::LogSink;
use crate::config::LogFormat;

/// Writes every event it is given to a sink. What is given is for the filter before it.
#[derive(Debug)]
pub struct LogLayer {
    sink: LogSink,
    format: LogFormat,
}

impl LogLayer {
    /// Writes to `sink` in `format`.
    pub const fn new(sink: LogSink, format: LogFormat) -> Self {
        Self { sink, format }
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = SpanFields::default();
        attributes.record(&mut fields);
        span.extensions_mut().replace(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(fields) = extensions.get_mut::<SpanFields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        thread_local! {
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        // The buffer is taken while it is used: formatting a field runs foreign code, which may log too.
        let mut out = SCRATCH.take();
        self.format(event, &context, &mut out);
        self.sink.push(&out, *event.metadata().level() == Level::ERROR);
        SCRATCH.set(out);
    }
}

impl LogLayer {
    fn format<S>(&self, event: &Event<'_>, context: &Context<'_, S>, out: &mut Vec<u8>)
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        // Events of the `log` facade carry their target in fields.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        let mut message = Message::default();
        event.record(&mut message);
        let line = Line::begin(
            out,
            self.format,
            SystemTime::now(),
            *metadata.level(),
            metadata.target(),
            &scrub(&message.0),
        );
        let mut fields = Fields {
            line,
            format: self.format,
            seen: Vec::new(),
        };
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(own) = span.extensions().get::<SpanFields>() {
                for (name, value) in &own.0 {
                    fields.add(name, value.by_ref());
                }
            }
        }
        LogScope::each_field(|name, value| fields.add(name, ValueRef::Text(value)));
        fields.line.end();
    }
}

/// The fields of one span, kept until it ends.
#[derive(Debug, Default)]
struct SpanFields(Vec<(&'static str, Value)>);

#[derive(Debug)]
enum Value {
    Text(Box<str>),
    Number(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
}

#[derive(Clone, Copy)]
enum ValueRef<'a> {
    Text(&'a str),
    Number(u64),
    Signed(i64),
    Float(f64),
    Flag(bool),
}

impl Value {
    fn by_ref(&self) -> ValueRef<'_> {
        match self {
            Self::Text(text) => ValueRef::Text(text),
            Self::Number(number) => ValueRef::Number(*number),
            Self::Signed(number) => ValueRef::Signed(*number),
            Self::Float(number) => ValueRef::Float(*number),
            Self::Flag(flag) => ValueRef::Flag(*flag),
        }
    }
}

/// A line and the names it has: the event's own win over its spans', the inner span's over the outer's.
struct Fields<'a> {
    line: Line<'a>,
    format: LogFormat,
    seen: Vec<&'static str>,
}

impl Fields<'_> {
    fn add(&mut self, name: &'static str, value: ValueRef<'_>) {
        // These names are the line's own, and the `log` facade's are in its target.
        if matches!(name, "message" | "timestamp" | "level" | "target" | "truncated")
            || name.starts_with("log.")
        {
            return;
        }
        if self.seen.contains(&name) {
            return;
        }
        self.seen.push(name);
        match value {
            ValueRef::Text(_) if is_secret_name(name) => self.line.text(name, REDACTED),
            ValueRef::Text(text) => {
                self.line.text(name, &scrub(text));
                if name == "vault" && self.format == LogFormat::Json && !self.seen.contains(&"vault_id") {
                    self.seen.push("vault_id");
                    self.line.text("vault_id", &scrub(text));
                }
            }
            ValueRef::Number(number) => self.line.number(name, number),
            ValueRef::Signed(number) => self.line.signed(name, number),
            ValueRef::Float(number) => self.line.float(name, number),
            ValueRef::Flag(flag) => self.line.flag(name, flag),
        }
    }
}

impl SpanFields {
    fn set(&mut self, name: &'static str, value: Value) {
        // A credential is not even kept.
        let value = match value {
            Value::Text(_) if is_secret_name(name) => Value::Text(REDACTED.into()),
            value => value,
        };
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

/// Text that stops growing at the length of a line: a huge `Debug` must not become a huge string first.
#[derive(Default)]
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() > MAX_LINE_BYTES {
            return Err(fmt::Error);
        }
        let room = (2 * MAX_LINE_BYTES).min(text.len());
        let end = (0..=room)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or(0);
        self.0.push_str(text.get(..end).unwrap_or_default());
        Ok(())
    }
}

fn bounded(arguments: fmt::Arguments<'_>) -> String {
    let mut text = Bounded::default();
    // An error is the end of the room, or of a value that cannot be shown: what is there is what there is.
    let _ = text.write_fmt(arguments);
    text.0
}

fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut text = bounded(format_args!("{error}"));
    let mut next = error.source();
    for _ in 0..8 {
        let Some(source) = next else { break };
        let source_text = bounded(format_args!("{source}"));
        if !text.ends_with(&source_text) {
            text.push_str(": ");
            text.push_str(&source_text);
        }
        next = source.source();
    }
    text
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            self.add(field.name(), ValueRef::Text(&bounded(format_args!("{value:?}"))));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), ValueRef::Text(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), ValueRef::Number(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), ValueRef::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), ValueRef::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), ValueRef::Flag(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.add(field.name(), ValueRef::Text(&with_sources(value)));
    }
}

impl Visit for SpanFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(
            field.name(),
            Value::Text(bounded(format_args!("{value:?}")).into()),
        );
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), Value::Text(bounded(format_args!("{value}")).into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Value::Number(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::Flag(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(field.name(), Value::Text(with_sources(value).into()));
    }
}

/// An event's message.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = bounded(format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value as Json, json};
    use tracing::{error, info, info_span, warn};
    use tracing_subscriber::layer::SubscriberExt;

    use super::super::sink::Destination;
    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes, line by line.
    fn lines(format: LogFormat, log: impl FnOnce()) -> Vec<String> {
        let written = Written::default();
        let (sink, guard) = LogSink::start(Destination::Writer(Box::new(written.clone())), format).unwrap();
        let subscriber = tracing_subscriber::registry().with(LogLayer::new(sink, format));
        tracing::subscriber::with_default(subscriber, log);
        drop(guard);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn json_lines(log: impl FnOnce()) -> Vec<Json> {
        lines(LogFormat::Json, log)
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn events_are_flat_with_the_fields_of_their_spans() {
        let lines = json_lines(|| {
            let request = info_span!(
                "request",
                request_id = "r-1",
                vault = tracing::field::Empty,
                depth = 1
            );
            request.record("vault", "v-9");
            let _request = request.entered();
            let _inner = info_span!("inner", depth = 2, account = %"a-7").entered();
            warn!(target: "inferadb::test", count = 3u64, below = -4, share = 0.5, done = true, what = ?Some("x"), "it {}", "happened");
        });
        assert_eq!(lines.len(), 1);
        let mut line = lines[0].clone();
        let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert_eq!(
            timestamp.as_str().unwrap().len(),
            "2026-11-23T10:00:00.000Z".len()
        );
        assert_eq!(
            line,
            json!({
                "level": "WARN", "message": "it happened", "target": "inferadb::test",
                "count": 3, "below": -4, "share": 0.5, "done": true, "what": "Some(\"x\")",
                "depth": 2, "account": "a-7", "request_id": "r-1", "vault": "v-9", "vault_id": "v-9",
            })
        );
    }

    #[test]
    fn an_inner_name_hides_an_outer_one_and_none_is_written_twice() {
        let raw = lines(LogFormat::Json, || {
            let _span = info_span!("span", vault = "outer", vault_id = "outer").entered();
            info!(vault = "own", level = "fake", timestamp = 7, "x");
        });
        for name in ["vault", "vault_id", "level", "timestamp"] {
            assert_eq!(raw[0].matches(&format!("\"{name}\":")).count(), 1, "{}", raw[0]);
        }
        assert!(
            raw[0].contains("\"vault\":\"own\",\"vault_id\":\"own\""),
            "{}",
            raw[0]
        );
    }

    #[test]
    fn credentials_are_not_written() {
        let token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";
        let raw = lines(LogFormat::Json, || {
            let _span =
                info_span!("request", authorization = "Basic hunter2", header = %format!("Bearer {token}"))
                    .entered();
            error!(access_token = "hunter2", tokens = 3, password = ?"hunter2", "refused {token}");
        });
        assert!(
            !raw[0].contains("hunter2") && !raw[0].contains("eyJ"),
            "{}",
            raw[0]
        );
        assert!(
            raw[0].contains("\"tokens\":3") && raw[0].contains("refused [redacted]"),
            "{}",
            raw[0]
        );
    }

    #[test]
    fn a_line_is_bounded_and_says_what_it_lacks() {
        let long = "ä\"\n".repeat(20_000);
        for format in [LogFormat::Json, LogFormat::Text] {
            let raw = lines(format, || {
                info!(a = long, b = ?long, c = %long, d = long, e = long, f = long, last = 1, "{long}");
                info!(next = true, "next");
            });
            assert_eq!(raw.len(), 2);
            assert!(raw[0].len() < MAX_LINE_BYTES, "{}", raw[0].len());
            assert!(
                raw[0].contains("…[cut]") && raw[0].contains("truncated"),
                "{}",
                raw[0]
            );
            if format == LogFormat::Json {
                let line: Json = serde_json::from_str(&raw[0]).unwrap();
                assert_eq!(line["truncated"], json!(true));
            }
        }
    }

    #[test]
    fn text_lines_read_well_and_cannot_be_forged() {
        let raw = lines(LogFormat::Text, || {
            info!(target: "inferadb::test", vault = "v", note = "two words", "one\nERROR two\u{1b}[31m");
        });
        assert_eq!(raw.len(), 1);
        assert_eq!(
            raw[0].split_once(' ').unwrap().1,
            "INFO  inferadb::test: one\\nERROR two\\u{1b}[31m vault=v note=\"two words\""
        );
    }

    #[test]
    fn an_error_is_written_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot start")]
        struct Outer(#[source] io::Error);
        let lines = json_lines(|| {
            let failure = Outer(io::Error::other("no disk"));
            error!(error = &failure as &(dyn Error + 'static), "stopped");
        });
        assert_eq!(lines[0]["error"], json!("cannot start: no disk"));
    }

    #[test]
    fn a_field_that_logs_while_it_is_formatted_does_no_harm() {
        struct Chatty;
        impl fmt::Display for Chatty {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                info!(inner = true, "inner");
                f.write_str("chatty")
            }
        }
        let lines = json_lines(|| info!(who = %Chatty, "outer"));
        // `tracing` itself mutes events within events on one thread, or lets them through: the outer one is whole.
        assert_eq!(lines.last().unwrap()["who"], json!("chatty"));
    }
}
