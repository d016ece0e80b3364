//! The defaults: what holds for every key that neither the file nor the environment sets.

use std::path::PathBuf;

use super::model::{
    AuthConfig, Backend, CacheConfig, LimitsConfig, LogFormat, LoggingConfig, MetricsConfig,
    MultiTenancyConfig, RetentionConfig, ServerConfig, StorageConfig, TracingConfig, VaultsConfig,
    WatchConfig,
};

/// The audience that is accepted when none is configured.
pub(super) const DEFAULT_AUDIENCE: &str = "inferadb";

impl Default for MultiTenancyConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            default_organization: None,
            default_vault: None,
        }
    }
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            jwks_url: None,
            issuer: None,
            audience: None,
            allowed_audiences: vec![DEFAULT_AUDIENCE.to_owned()],
            jwks_cache_ttl: 3600,
            jwks_refresh_interval: 300,
            jwks_max_stale_seconds: 86_400,
            jwks_min_refetch_seconds: 30,
            clock_skew_seconds: 60,
            token_cache_entries: 10_000,
            allow_unauthenticated_network: false,
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            public_url: None,
            worker_threads: cores(),
            pin_threads: false,
            request_timeout_ms: 10_000,
            max_request_timeout_ms: 60_000,
            max_body_bytes: 4 << 20,
            max_bodies_bytes: 256 << 20,
            max_account_bodies_bytes: 64 << 20,
            max_connections: 25_000,
            max_transfers: 32,
            max_account_transfers: 4,
            max_watches: 5_000,
            max_account_watches: 1_000,
            keep_alive_seconds: 75,
            shutdown_timeout_seconds: 30,
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            backend: Backend::Embedded,
            path: PathBuf::from("/var/lib/inferadb"),
            cluster_file: PathBuf::from("/etc/foundationdb/fdb.cluster"),
            key_prefix: None,
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            max_entries: 10_000,
            ttl_seconds: 300,
        }
    }
}

impl Default for VaultsConfig {
    fn default() -> Self {
        Self {
            idle_timeout_seconds: 900,
            max_active: 10_000,
            memory_budget_bytes: 64 << 20,
            total_memory_bytes: 2 << 30,
            mailbox_capacity: 1024,
            max_concurrent_requests: 256,
            turn_micros: 50,
            overload_lag_ms: 25,
            actor_threads: cores(),
            poll_interval_ms: 1000,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_depth: 100,
            max_work: 1_000_000,
            max_batch_checks: 1000,
            max_write_changes: 1000,
            max_page_size: 1000,
            max_schema_bytes: 1_000_000,
            max_context_bytes: 4096,
            max_stored_context_bytes: 25_000,
            checks_per_second: 0,
            writes_per_second: 0,
            max_watches: 100,
        }
    }
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            heartbeat_seconds: 15,
            slow_reader_seconds: 30,
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            archived_vault_days: 0,
            changes: 100_000,
            change_log_bytes: 1 << 30,
        }
    }
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            host: None,
            port: 9090,
            per_vault_metrics: true,
        }
    }
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            endpoint: "http://localhost:4317".to_owned(),
            sample_ratio: 1.0,
        }
    }
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            level: "info".to_owned(),
            file: None,
            permission_checks: true,
        }
    }
}

/// The machine's cores that this process may use, within the range of `server.worker_threads`.
fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(512)
}
