//! What the server can be told: plain typed structs, one for each section of the configuration file.
//!
//! A value read through [`Config::load`](super::Config::load) lies within the range that `docs/configuration.md` gives.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use inferadb_actors::{BadKeyPrefix, KeyPrefix};
use serde::Deserialize;
use uuid::Uuid;

use crate::origin::origin_of;

/// The whole configuration. `Config::default()` holds the documented defaults.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The account and vault that exist from the first start on.
    pub multi_tenancy: MultiTenancyConfig,
    /// Tokens and where their keys come from.
    pub auth: AuthConfig,
    /// The HTTP listener.
    pub server: ServerConfig,
    /// Where data is kept.
    pub storage: StorageConfig,
    /// Each vault's decision cache.
    pub cache: CacheConfig,
    /// The actors' tuning.
    pub vaults: VaultsConfig,
    /// What one vault may ask for, unless its own limits say otherwise.
    pub limits: LimitsConfig,
    /// Streamed answers, watches above all.
    pub watch: WatchConfig,
    /// How long what is no longer needed is kept.
    pub retention: RetentionConfig,
    /// Metrics, tracing and logs.
    pub observability: ObservabilityConfig,
}

/// `multi_tenancy`: the account and vault that exist from the first start on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MultiTenancyConfig {
    /// Whether accounts and vaults can be made through the API. Otherwise only the default vault exists.
    pub enabled: bool,
    /// The default account's id; a new one is made up if it is not given.
    pub default_organization: Option<Uuid>,
    /// The default vault's id; a new one is made up if it is not given.
    pub default_vault: Option<Uuid>,
}

/// `auth`: tokens and where their keys come from.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Whether requests need a token.
    pub enabled: bool,
    /// The key set's address: `http`, `https` or `file`. Present when `enabled`.
    pub jwks_url: Option<String>,
    /// What a token's `iss` must be, if it matters.
    pub issuer: Option<String>,
    /// One accepted audience. Already part of `allowed_audiences` after loading.
    pub audience: Option<String>,
    /// Every audience of which a token must name one. Never empty after loading.
    pub allowed_audiences: Vec<String>,
    /// Seconds for which a fetched key set is fresh.
    pub jwks_cache_ttl: u64,
    /// Seconds between two fetches of the key set on the timer.
    pub jwks_refresh_interval: u64,
    /// Seconds since the last successful fetch for which the keys are used at all, while the provider is away.
    pub jwks_max_stale_seconds: u64,
    /// The least number of seconds between two fetches that an unknown `kid` causes.
    pub jwks_min_refetch_seconds: u64,
    /// Seconds by which this clock and the provider's may differ.
    pub clock_skew_seconds: u64,
    /// How many verified tokens are remembered; 0 remembers none.
    pub token_cache_entries: usize,
    /// Lets a server without authentication listen on an address that others can reach.
    pub allow_unauthenticated_network: bool,
}

/// `server`: the HTTP listener.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The address or host name to listen on.
    pub host: String,
    /// The port to listen on; 0 takes any free one.
    pub port: u16,
    /// The address by which clients know the server, where that is not the one that they ask it by.
    pub public_url: Option<String>,
    /// Threads that serve requests.
    pub worker_threads: usize,
    /// Whether each of them is bound to a core of its own.
    pub pin_threads: bool,
    /// Milliseconds until a request without `X-Request-Timeout-Ms` is given up.
    pub request_timeout_ms: u64,
    /// The most milliseconds that `X-Request-Timeout-Ms` can ask for.
    pub max_request_timeout_ms: u64,
    /// The largest request body in bytes, except for imports.
    pub max_body_bytes: usize,
    /// The most bytes of request bodies in memory at a time.
    pub max_bodies_bytes: usize,
    /// Of these, of the requests of one account.
    pub max_account_bodies_bytes: usize,
    /// The most connections open at a time, over all worker threads.
    pub max_connections: usize,
    /// Seconds for which an idle connection is kept open; 0 closes it after each answer.
    pub keep_alive_seconds: u64,
    /// Exports, imports and clones under way at a time.
    pub max_transfers: usize,
    /// Of these, for the vaults of one account.
    pub max_account_transfers: usize,
    /// Watches open at a time.
    pub max_watches: usize,
    /// Of these, of the vaults of one account.
    pub max_account_watches: usize,
    /// Seconds that a stop waits for requests that are under way.
    pub shutdown_timeout_seconds: u64,
}

/// `storage`: where data is kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// The storage engine.
    pub backend: Backend,
    /// The embedded engine's directory.
    pub path: PathBuf,
    /// FoundationDB's cluster file.
    pub cluster_file: PathBuf,
    /// What every key in the FoundationDB cluster starts with; `None` if the cluster is this deployment's alone.
    pub key_prefix: Option<String>,
}

/// A storage engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A file of this server's own.
    Embedded,
    /// A FoundationDB cluster that several servers share.
    FoundationDb,
    /// Nothing survives the process.
    Memory,
}

/// `cache`: each vault's decision cache.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CacheConfig {
    /// Whether decisions are remembered.
    pub enabled: bool,
    /// The most decisions remembered for one vault.
    pub max_entries: usize,
    /// Seconds after which a decision is computed anew even if nothing changed.
    pub ttl_seconds: u64,
}

/// `vaults`: the actors' tuning.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultsConfig {
    /// Seconds without a request after which a vault is evicted; 0 is never.
    pub idle_timeout_seconds: u64,
    /// The most vaults active at a time.
    pub max_active: usize,
    /// Bytes of memory for one vault's rows and decisions.
    pub memory_budget_bytes: u64,
    /// Bytes of memory for all vaults' rows and decisions together.
    pub total_memory_bytes: u64,
    /// Requests that wait for one vault's actor before it answers 429, unless its own limits say otherwise.
    pub mailbox_capacity: u32,
    /// Requests that one vault works on at a time before it answers 429, unless its own limits say otherwise.
    pub max_concurrent_requests: u32,
    /// Microseconds of one turn of a vault, where its requests need more than a small piece of work.
    pub turn_micros: u64,
    /// Milliseconds that the threads which answer requests may come late on average; then the busiest vaults are held to less. 0 is
    /// however late.
    pub overload_lag_ms: u64,
    /// Threads that run actors: at most `server.worker_threads`, and as many unless set.
    pub actor_threads: usize,
    /// Milliseconds between two looks at the change log where several servers share the storage.
    pub poll_interval_ms: u64,
}

/// `limits`: what one vault may ask for, unless its own limits say otherwise.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// How deep one evaluation may go.
    pub max_depth: u32,
    /// How many steps one evaluation may take.
    pub max_work: u64,
    /// Checks in one batch.
    pub max_batch_checks: usize,
    /// Relationships changed by one write.
    pub max_write_changes: usize,
    /// Entries on one page of a list.
    pub max_page_size: usize,
    /// Bytes of schema text.
    pub max_schema_bytes: usize,
    /// Bytes of a request's caveat context, as JSON.
    pub max_context_bytes: usize,
    /// Bytes of the caveat context stored with one relationship, as JSON.
    pub max_stored_context_bytes: usize,
    /// Checks in one second; 0 is without limit.
    pub checks_per_second: u32,
    /// Writes in one second; 0 is without limit.
    pub writes_per_second: u32,
    /// Watches open at a time.
    pub max_watches: u32,
}

/// `watch`: streamed answers, watches above all.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchConfig {
    /// Seconds between two heartbeats of a watch.
    pub heartbeat_seconds: u64,
    /// Seconds for which a reader of a stream may take nothing while data waits for it.
    pub slow_reader_seconds: u64,
}

/// `retention`: how long what is no longer needed is kept.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Days after which an archived vault is deleted; 0 is never.
    pub archived_vault_days: u32,
    /// Change records kept for each vault.
    pub changes: u64,
    /// How much of them is kept for each vault, in bytes.
    pub change_log_bytes: u64,
}

/// `observability`: metrics, tracing and logs.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObservabilityConfig {
    /// The metrics listener.
    pub metrics: MetricsConfig,
    /// Spans sent to a collector.
    pub tracing: TracingConfig,
    /// Log lines.
    pub logging: LoggingConfig,
}

/// `observability.metrics`: the metrics listener.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Whether `GET /metrics` is served.
    pub enabled: bool,
    /// The address to listen on; that of the server if it is not given.
    pub host: Option<String>,
    /// The port to listen on; 0 takes any free one.
    pub port: u16,
    /// Whether series carry a `vault` label.
    pub per_vault_metrics: bool,
}

/// `observability.tracing`: spans sent to a collector.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingConfig {
    /// Whether spans are recorded and sent.
    pub enabled: bool,
    /// The collector's OTLP address over gRPC.
    pub endpoint: String,
    /// The share of traces that are kept when the caller has not decided: 0.0 to 1.0.
    pub sample_ratio: f64,
}

/// `observability.logging`: log lines.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingConfig {
    /// How a line is written.
    pub format: LogFormat,
    /// A level, or levels for targets: `info,inferadb::http=debug`.
    pub level: String,
    /// The file that lines are appended to; standard output if it is not given.
    pub file: Option<PathBuf>,
    /// Whether each check leaves a line.
    pub permission_checks: bool,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One flat JSON object a line.
    Json,
    /// One readable line.
    Text,
}

impl Config {
    /// The address that the metrics listener binds.
    pub fn metrics_host(&self) -> &str {
        self.observability
            .metrics
            .host
            .as_deref()
            .unwrap_or(&self.server.host)
    }
}

impl AuthConfig {
    /// How long a fetched key set is fresh.
    pub fn jwks_cache_ttl(&self) -> Duration {
        Duration::from_secs(self.jwks_cache_ttl)
    }

    /// The time between two fetches of the key set on the timer.
    pub fn jwks_refresh_interval(&self) -> Duration {
        Duration::from_secs(self.jwks_refresh_interval)
    }

    /// How long after the last successful fetch the keys are used at all, while the provider is away.
    pub fn jwks_max_stale(&self) -> Duration {
        Duration::from_secs(self.jwks_max_stale_seconds)
    }

    /// The least time between two fetches that an unknown `kid` causes.
    pub fn jwks_min_refetch(&self) -> Duration {
        Duration::from_secs(self.jwks_min_refetch_seconds)
    }

    /// By how much this clock and the provider's may differ.
    pub fn clock_skew(&self) -> Duration {
        Duration::from_secs(self.clock_skew_seconds)
    }
}

impl ServerConfig {
    /// Whether only this machine can reach the listener.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// The address by which clients know the server, if one is set and it is no more than that.
    pub fn public_origin(&self) -> Option<String> {
        self.public_url.as_deref().and_then(origin_of)
    }

    /// The deadline of a request that asks for none.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    /// The longest deadline that a request can ask for.
    pub fn max_request_timeout(&self) -> Duration {
        Duration::from_millis(self.max_request_timeout_ms)
    }

    /// How long an idle connection is kept open; `None` closes it after each answer.
    pub fn keep_alive(&self) -> Option<Duration> {
        nonzero_seconds(self.keep_alive_seconds)
    }

    /// How long a stop waits for requests that are under way.
    pub fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout_seconds)
    }
}

impl StorageConfig {
    /// What every key in the FoundationDB cluster starts with.
    ///
    /// # Errors
    ///
    /// That the text is no such prefix; a configuration that was loaded has a good one.
    pub fn key_prefix(&self) -> Result<KeyPrefix, BadKeyPrefix> {
        self.key_prefix.as_deref().unwrap_or_default().parse()
    }
}

impl Backend {
    /// Whether this build can use the engine.
    pub const fn is_built_in(self) -> bool {
        match self {
            Self::Embedded | Self::Memory => true,
            Self::FoundationDb => cfg!(feature = "foundationdb"),
        }
    }
}

impl CacheConfig {
    /// How long a decision is remembered.
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_seconds)
    }
}

impl VaultsConfig {
    /// How long a vault may go without a request; `None` is for ever.
    pub fn idle_timeout(&self) -> Option<Duration> {
        nonzero_seconds(self.idle_timeout_seconds)
    }

    /// The time between two looks at the change log.
    pub fn poll_interval(&self) -> Duration {
        Duration::from_millis(self.poll_interval_ms)
    }

    /// How long a turn lasts.
    pub fn turn(&self) -> Duration {
        Duration::from_micros(self.turn_micros)
    }

    /// How late threads may come, if that bounds anything.
    pub fn overload_lag(&self) -> Option<Duration> {
        (self.overload_lag_ms > 0).then(|| Duration::from_millis(self.overload_lag_ms))
    }
}

impl WatchConfig {
    /// The time between two heartbeats.
    pub fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds)
    }

    /// How long a reader may take nothing while data waits for it.
    pub fn slow_reader(&self) -> Duration {
        Duration::from_secs(self.slow_reader_seconds)
    }
}

impl RetentionConfig {
    /// How long an archived vault is kept; `None` is for ever.
    pub fn archived_vaults(&self) -> Option<Duration> {
        nonzero_seconds(u64::from(self.archived_vault_days) * 86_400)
    }
}

/// Whether only this machine can reach `host`. A name other than `localhost` counts as reachable by others.
pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn nonzero_seconds(seconds: u64) -> Option<Duration> {
    (seconds != 0).then(|| Duration::from_secs(seconds))
}
