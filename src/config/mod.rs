//! Configuration: a YAML file, over it the environment, and one clear line for whatever is wrong with them.

mod default;
mod error;
mod file;
mod keys;
mod levels;
mod model;
mod nearest;
mod rules;
mod settings;

use std::path::Path;

pub use self::error::{ConfigError, Origin};
pub use self::levels::LogLevels;
pub use self::model::{
    AuthConfig, Backend, CacheConfig, Config, LimitsConfig, LogFormat, LoggingConfig, MetricsConfig,
    MultiTenancyConfig, ObservabilityConfig, RetentionConfig, ServerConfig, StorageConfig, TracingConfig,
    VaultsConfig, WatchConfig,
};

use self::settings::Settings;

/// A configuration that may be used, and what is worth saying about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed but may not be what was meant, one line each.
    pub warnings: Vec<String>,
}

impl Config {
    /// Reads the file at `path`, or `/etc/inferadb/config.yaml` if it is there, and over it the variables of
    /// `environment` that begin with `INFERADB__`.
    ///
    /// Keys that neither sets have their defaults. The first thing that is wrong ends it.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, ConfigError> {
        let mut settings = Settings::default();
        if let Some(path) = settings::file_to_read(path) {
            settings.read_file(file::File::read(path)?)?;
        }
        resolve(settings, environment)
    }
}

/// The variables of this process that begin with `INFERADB_`: what [`Config::load`] wants as its environment.
///
/// A value that is not UTF-8 is an error, not a guess.
pub fn process_environment() -> Result<Vec<(String, String)>, ConfigError> {
    let mut variables = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("INFERADB_")) else {
            continue;
        };
        match value.into_string() {
            Ok(value) => variables.push((name.to_owned(), value)),
            Err(_) => {
                return Err(ConfigError::NotUnicode {
                    name: name.to_owned(),
                });
            }
        }
    }
    variables.sort(); // the same mistake is reported first each time
    Ok(variables)
}

/// Lays the environment over `settings`, fills in what follows from other keys, and checks the whole.
fn resolve(
    mut settings: Settings,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let mut warnings = Vec::new();
    for (name, value) in environment {
        if name.starts_with("INFERADB__") {
            settings.read_variable(&name, &value)?;
        } else {
            warnings.extend(settings::overlooked_variable(&name));
        }
    }
    let mut config: Config = settings.to_typed()?;
    follow(&mut config, &settings);
    rules::check(&config, &settings)?;
    warnings.extend(rules::warnings(&config));
    Ok(Loaded { config, warnings })
}

/// Lets what is not set follow from what is: a default never stands in the way of a value that someone chose.
fn follow(config: &mut Config, settings: &Settings) {
    let Config {
        auth, server, vaults, ..
    } = config;
    if !settings.is_set("auth.allowed_audiences") {
        let audience = auth
            .audience
            .clone()
            .unwrap_or_else(|| default::DEFAULT_AUDIENCE.to_owned());
        auth.allowed_audiences = vec![audience];
    } else if let Some(audience) = &auth.audience
        && !auth.allowed_audiences.contains(audience)
    {
        auth.allowed_audiences.push(audience.clone());
    }
    if !settings.is_set("auth.jwks_refresh_interval") {
        auth.jwks_refresh_interval = auth.jwks_refresh_interval.min(auth.jwks_cache_ttl);
    }
    if !settings.is_set("auth.jwks_max_stale_seconds") {
        auth.jwks_max_stale_seconds = auth.jwks_max_stale_seconds.max(auth.jwks_cache_ttl);
    }
    if !settings.is_set("server.request_timeout_ms") {
        server.request_timeout_ms = server.request_timeout_ms.min(server.max_request_timeout_ms);
    }
    if !settings.is_set("vaults.memory_budget_bytes") {
        vaults.memory_budget_bytes = vaults.memory_budget_bytes.min(vaults.total_memory_bytes);
    }
    if !settings.is_set("vaults.actor_threads") {
        vaults.actor_threads = vaults.actor_threads.min(server.worker_threads);
    }
}

#[cfg(test)]
mod tests;
