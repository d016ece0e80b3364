//! Every key there is, with what its value may be: the one table that checks, messages and documentation follow.

use std::net::IpAddr;

use serde_yaml::Value;
use url::Url;
use uuid::Uuid;

use super::levels::LogLevels;

/// A key and what its value may be.
#[derive(Debug)]
pub(super) struct Key {
    /// Section and name, joined by `.`.
    pub path: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// What a special value means, for messages; empty if there is none.
    pub note: &'static str,
    /// Whether it may be left empty, which is the same as not setting it.
    pub optional: bool,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number of a range, ends included.
    Whole(u64, u64),
    /// A number from 0.0 to 1.0.
    Ratio,
    /// Text that is not empty.
    Text,
    /// A list of texts, none empty, at least one.
    TextList,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An address with one of these schemes.
    Address(&'static [&'static str]),
    /// A UUID with hyphens, not the nil one.
    Id,
    /// An IP address or a host name.
    Host,
    /// A log level, or levels for targets.
    Levels,
}

const fn key(path: &'static str, kind: Kind) -> Key {
    Key {
        path,
        kind,
        note: "",
        optional: false,
    }
}

const fn noted(path: &'static str, kind: Kind, note: &'static str) -> Key {
    Key {
        path,
        kind,
        note,
        optional: false,
    }
}

const fn optional(path: &'static str, kind: Kind) -> Key {
    Key {
        path,
        kind,
        note: "",
        optional: true,
    }
}

/// A day, a month and a year in seconds: the ends of the ranges of durations.
const DAY: u64 = 86_400;
const MONTH: u64 = 30 * DAY;
const YEAR: u64 = 365 * DAY;

/// Every key there is.
pub(super) const KEYS: &[Key] = &[
    key("multi_tenancy.enabled", Kind::Flag),
    optional("multi_tenancy.default_organization", Kind::Id),
    optional("multi_tenancy.default_vault", Kind::Id),
    key("auth.enabled", Kind::Flag),
    optional("auth.jwks_url", Kind::Address(&["https", "http", "file"])),
    optional("auth.issuer", Kind::Text),
    optional("auth.audience", Kind::Text),
    key("auth.allowed_audiences", Kind::TextList),
    noted("auth.jwks_cache_ttl", Kind::Whole(1, MONTH), "seconds"),
    noted("auth.jwks_refresh_interval", Kind::Whole(1, MONTH), "seconds"),
    key("auth.jwks_max_stale_seconds", Kind::Whole(1, MONTH)),
    noted(
        "auth.jwks_min_refetch_seconds",
        Kind::Whole(0, 3600),
        "0: no floor",
    ),
    key("auth.clock_skew_seconds", Kind::Whole(0, 300)),
    noted(
        "auth.token_cache_entries",
        Kind::Whole(0, 10_000_000),
        "0: no cache",
    ),
    key("auth.allow_unauthenticated_network", Kind::Flag),
    key("server.host", Kind::Host),
    noted("server.port", Kind::Whole(0, 65_535), "0: any free port"),
    optional("server.public_url", Kind::Address(&["https", "http"])),
    key("server.worker_threads", Kind::Whole(1, 512)),
    key("server.pin_threads", Kind::Flag),
    key("server.request_timeout_ms", Kind::Whole(1, 3_600_000)),
    key("server.max_request_timeout_ms", Kind::Whole(1, 3_600_000)),
    key("server.max_body_bytes", Kind::Whole(1024, 1 << 30)),
    key("server.max_bodies_bytes", Kind::Whole(65_536, 1 << 40)),
    key("server.max_account_bodies_bytes", Kind::Whole(65_536, 1 << 40)),
    key("server.max_connections", Kind::Whole(1, 1_000_000)),
    key("server.max_transfers", Kind::Whole(1, 10_000)),
    key("server.max_account_transfers", Kind::Whole(1, 10_000)),
    key("server.max_watches", Kind::Whole(1, 1_000_000)),
    key("server.max_account_watches", Kind::Whole(1, 1_000_000)),
    noted(
        "server.keep_alive_seconds",
        Kind::Whole(0, 3600),
        "0: one request a connection",
    ),
    key("server.shutdown_timeout_seconds", Kind::Whole(0, 3600)),
    key(
        "storage.backend",
        Kind::Word(&["embedded", "foundationdb", "memory"]),
    ),
    key("storage.path", Kind::Text),
    key("storage.cluster_file", Kind::Text),
    key("storage.key_prefix", Kind::Text),
    key("cache.enabled", Kind::Flag),
    key("cache.max_entries", Kind::Whole(1, 100_000_000)),
    key("cache.ttl_seconds", Kind::Whole(1, YEAR)),
    noted("vaults.idle_timeout_seconds", Kind::Whole(0, YEAR), "0: never"),
    key("vaults.max_active", Kind::Whole(1, 10_000_000)),
    key("vaults.memory_budget_bytes", Kind::Whole(1 << 20, 1 << 44)),
    key("vaults.total_memory_bytes", Kind::Whole(1 << 20, 1 << 44)),
    key("vaults.mailbox_capacity", Kind::Whole(1, 1_000_000)),
    key("vaults.max_concurrent_requests", Kind::Whole(1, 1_000_000)),
    key("vaults.turn_micros", Kind::Whole(10, 100_000)),
    noted("vaults.overload_lag_ms", Kind::Whole(0, 60_000), "0: never"),
    key("vaults.actor_threads", Kind::Whole(1, 512)),
    key("vaults.poll_interval_ms", Kind::Whole(10, 3_600_000)),
    key("limits.max_depth", Kind::Whole(1, 1000)),
    key("limits.max_work", Kind::Whole(1, 1_000_000_000)),
    key("limits.max_batch_checks", Kind::Whole(1, 10_000)),
    key("limits.max_write_changes", Kind::Whole(1, 1000)),
    key("limits.max_page_size", Kind::Whole(1, 10_000)),
    key("limits.max_schema_bytes", Kind::Whole(1, 1_000_000)),
    key("limits.max_context_bytes", Kind::Whole(1, 1 << 20)),
    key("limits.max_stored_context_bytes", Kind::Whole(1, 65_536)),
    noted(
        "limits.checks_per_second",
        Kind::Whole(0, 10_000_000),
        "0: no limit",
    ),
    noted(
        "limits.writes_per_second",
        Kind::Whole(0, 10_000_000),
        "0: no limit",
    ),
    key("limits.max_watches", Kind::Whole(0, 100_000)),
    key("watch.heartbeat_seconds", Kind::Whole(1, 3600)),
    key("watch.slow_reader_seconds", Kind::Whole(1, 3600)),
    noted(
        "retention.archived_vault_days",
        Kind::Whole(0, 36_500),
        "0: kept for ever",
    ),
    key("retention.changes", Kind::Whole(1, 1_000_000_000)),
    key(
        "retention.change_log_bytes",
        Kind::Whole(16_777_216, 17_592_186_044_416),
    ),
    key("observability.metrics.enabled", Kind::Flag),
    optional("observability.metrics.host", Kind::Host),
    noted(
        "observability.metrics.port",
        Kind::Whole(0, 65_535),
        "0: any free port",
    ),
    key("observability.metrics.per_vault_metrics", Kind::Flag),
    key("observability.tracing.enabled", Kind::Flag),
    key("observability.tracing.endpoint", Kind::Address(&["http"])),
    key("observability.tracing.sample_ratio", Kind::Ratio),
    key("observability.logging.format", Kind::Word(&["json", "text"])),
    key("observability.logging.level", Kind::Levels),
    optional("observability.logging.file", Kind::Text),
    key("observability.logging.permission_checks", Kind::Flag),
];

impl Key {
    /// The key at `path`.
    pub fn find(path: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.path == path)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("INFERADB__{}", self.path.replace('.', "__").to_ascii_uppercase())
    }

    /// What is allowed, to follow the words "must be".
    pub fn allowed(&self) -> String {
        let what = match &self.kind {
            Kind::Flag => "`true` or `false`".to_owned(),
            Kind::Whole(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Ratio => "a number from 0.0 to 1.0".to_owned(),
            Kind::Text => "text that is not empty (a number needs quotes)".to_owned(),
            Kind::TextList => "a list with at least one text, none of them empty".to_owned(),
            Kind::Word(words) => format!("one of {}", quoted(words)),
            Kind::Address(schemes) => {
                format!(
                    "an address that begins with {}, without user name and password",
                    prefixes(schemes)
                )
            }
            Kind::Id => "a UUID such as `018f4e7a-9c3b-7d21-8a54-3f2b1c0d9e8f`, not the nil one".to_owned(),
            Kind::Host => "an IP address or a host name, without a port".to_owned(),
            Kind::Levels => {
                "`off`, `error`, `warn`, `info`, `debug` or `trace`, then perhaps `,target=level`".to_owned()
            }
        };
        if self.note.is_empty() {
            what
        } else {
            format!("{what} ({})", self.note)
        }
    }

    /// Whether `value` is allowed.
    pub fn allows(&self, value: &Value) -> bool {
        match &self.kind {
            Kind::Flag => value.is_bool(),
            Kind::Whole(min, max) => value.as_u64().is_some_and(|n| (*min..=*max).contains(&n)),
            Kind::Ratio => value.as_f64().is_some_and(|n| (0.0..=1.0).contains(&n)),
            Kind::TextList => value.as_sequence().is_some_and(|list| {
                !list.is_empty() && list.iter().all(|item| item.as_str().is_some_and(is_text))
            }),
            _ => value.as_str().is_some_and(|text| self.allows_text(text)),
        }
    }

    fn allows_text(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Word(words) => words.contains(&text),
            Kind::Address(schemes) => is_address(text, schemes),
            Kind::Id => text.len() == 36 && Uuid::try_parse(text).is_ok_and(|id| !id.is_nil()),
            Kind::Host => is_host(text),
            Kind::Levels => LogLevels::parse(text).is_some(),
            _ => is_text(text),
        }
    }

    /// Whether a variable's value is taken as it is, and not read as YAML.
    pub fn is_textual(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Flag | Kind::Whole(..) | Kind::Ratio | Kind::TextList
        )
    }
}

fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && !text.contains(char::is_control)
}

fn is_address(text: &str, schemes: &[&str]) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let whole = match url.scheme() {
        "file" => url.path().len() > 1,
        _ => url.host_str().is_some_and(|host| !host.is_empty()),
    };
    // `Url` adds the slashes of `http:host` by itself and drops tabs: what is fetched should be what was written.
    let literal = text.starts_with(&format!("{}://", url.scheme())) && !text.contains(char::is_whitespace);
    schemes.contains(&url.scheme())
        && whole
        && literal
        && url.username().is_empty()
        && url.password().is_none()
}

fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    // A name made of digits and dots is a mistyped address, not a name.
    let numeric = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse::<IpAddr>().is_ok() || (!numeric && text.len() <= 253 && text.split('.').all(label))
}

fn quoted(words: &[&str]) -> String {
    words
        .iter()
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn prefixes(schemes: &[&str]) -> String {
    let list = schemes
        .iter()
        .map(|scheme| format!("`{scheme}://`"))
        .collect::<Vec<_>>()
        .join(", ");
    if schemes.len() == 1 {
        list
    } else {
        format!("one of {list}")
    }
}

/// `text` in backticks, without control characters, and cut when it is long.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 80;
    let mut shown: String = text.escape_debug().take(MOST).collect();
    if shown.len() < text.len() && text.chars().count() > MOST {
        shown.push('…');
    }
    format!("`{}`", shown.replace("\\'", "'").replace("\\\"", "\""))
}
