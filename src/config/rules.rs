//! What must hold between several keys, and what is allowed but worth a warning.

use super::error::ConfigError;
use super::model::{AuthConfig, Backend, Config, is_loopback};
use super::settings::Settings;

/// Checks what no key can be checked for alone.
pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), ConfigError> {
    let refuse = |key: &'static str, message: String| {
        Err(ConfigError::Conflict {
            origin: settings.origin(key),
            key,
            message,
        })
    };
    let auth = &config.auth;
    let server = &config.server;
    if auth.enabled && auth.jwks_url.is_none() {
        return refuse(
            "auth.jwks_url",
            "is not set, but `auth.enabled` is true: must be the address of the provider's key set".into(),
        );
    }
    if !auth.enabled && !auth.allow_unauthenticated_network && !server.is_loopback() {
        return refuse(
            "server.host",
            format!(
                "`{}` can be reached by others while `auth.enabled` is false: must be a loopback address such as \
                 `127.0.0.1`, unless `auth.allow_unauthenticated_network` is true",
                server.host
            ),
        );
    }
    if let Some(url) = &server.public_url
        && server.public_origin().is_none()
    {
        return refuse(
            "server.public_url",
            format!("`{url}` is not allowed: must be no more than scheme, host and port"),
        );
    }
    if let Err(error) = config.storage.key_prefix() {
        let prefix = config.storage.key_prefix.as_deref().unwrap_or_default();
        return refuse(
            "storage.key_prefix",
            format!("`{prefix}` is not allowed: {error}"),
        );
    }
    let vaults = &config.vaults;
    for (key, value, bound, bound_key) in [
        (
            "auth.jwks_refresh_interval",
            auth.jwks_refresh_interval,
            auth.jwks_cache_ttl,
            "auth.jwks_cache_ttl",
        ),
        (
            "server.request_timeout_ms",
            server.request_timeout_ms,
            server.max_request_timeout_ms,
            "server.max_request_timeout_ms",
        ),
        (
            "vaults.memory_budget_bytes",
            vaults.memory_budget_bytes,
            vaults.total_memory_bytes,
            "vaults.total_memory_bytes",
        ),
        (
            "vaults.actor_threads",
            vaults.actor_threads as u64,
            server.worker_threads as u64,
            "server.worker_threads",
        ),
    ] {
        if value > bound {
            return refuse(
                key,
                format!("`{value}` is not allowed: must be at most `{bound_key}`, which is {bound}"),
            );
        }
    }
    if auth.jwks_max_stale_seconds < auth.jwks_cache_ttl {
        return refuse(
            "auth.jwks_max_stale_seconds",
            format!(
                "`{}` is not allowed: must be at least `auth.jwks_cache_ttl`, which is {}",
                auth.jwks_max_stale_seconds, auth.jwks_cache_ttl
            ),
        );
    }
    let metrics = &config.observability.metrics;
    if metrics.enabled && metrics.port != 0 && metrics.port == server.port {
        return refuse(
            "observability.metrics.port",
            format!(
                "`{}` is not allowed: must differ from `server.port`",
                metrics.port
            ),
        );
    }
    Ok(())
}

/// What is allowed but may not be what was meant, one line each.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if !config.auth.enabled {
        warnings.push(format!(
            "auth.enabled: is false: whoever reaches {} can read and change every vault",
            config.server.host
        ));
    }
    if config.auth.enabled && has_open_key_set(&config.auth) {
        warnings.push(
            "auth.jwks_url: plain http to another machine: who can change it on the way can forge tokens"
                .into(),
        );
    }
    if !config.storage.backend.is_built_in() {
        warnings.push(
            "storage.backend: this build has no FoundationDB client and will not start: build it with \
             `--features foundationdb`"
                .into(),
        );
    }
    if config.storage.backend == Backend::Memory {
        warnings.push("storage.backend: `memory` keeps nothing when the server stops".into());
    }
    warnings
}

/// Whether the key set comes unprotected over a network.
fn has_open_key_set(auth: &AuthConfig) -> bool {
    let url = auth
        .jwks_url
        .as_deref()
        .and_then(|text| url::Url::parse(text).ok());
    url.is_some_and(|url| {
        let host = url.host_str().unwrap_or_default();
        url.scheme() == "http" && !is_loopback(host.trim_start_matches('[').trim_end_matches(']'))
    })
}
