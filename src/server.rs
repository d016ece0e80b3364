//! The server: wires configuration, telemetry, storage, actors and the HTTP surface together, runs them, and stops them
//! in the order that loses nothing.

use std::any::Any;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::KeepAlive;
use actix_web::middleware::{Condition, from_fn};
use actix_web::rt::net::TcpStream;
use actix_web::rt::signal::unix::{Signal, SignalKind, signal};
use actix_web::{HttpServer, web};
use inferadb_actors::auth::{AuthSettings, Authenticator, Principal, Scopes};
use inferadb_actors::{
    AccountId, Backend, CacheSettings, Limits, LogSize, Platform, Settings, VaultId, background,
};
use socket2::SockRef;
use tracing_actix_web::TracingLogger;

use crate::config::{self, Config};
use crate::http::{
    App, Bodies, Documentation, HttpMetrics, HttpSettings, Places, RequestSpan, Stopping, routes, surround,
};
use crate::lag;
use crate::telemetry::{self, Telemetry, spans_are_sent};
use crate::waiting::Waiting;

/// How long after a stream gave up its reader the connection is closed, if it still has not taken anything: that much time it
/// has to read what the system holds for it, and with that the reason.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// This build lacks the storage engine.
    #[error(
        "storage.backend is `foundationdb`, which this build lacks; build with `--features foundationdb`"
    )]
    BackendMissing,
    /// Telemetry did not start.
    #[error(transparent)]
    Telemetry(#[from] telemetry::TelemetryError),
    /// This build cannot show the documentation of the API.
    #[error("the documentation of the API: {0}")]
    Description(#[from] crate::http::DocumentationError),
    /// FoundationDB's cluster file cannot be read: that is no state of the cluster which passes.
    #[error("storage.cluster_file: `{}`: {error}", path.display())]
    ClusterFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// The prefix of keys is none.
    #[error("storage.key_prefix: {0}")]
    KeyPrefix(#[from] inferadb_actors::BadKeyPrefix),
    /// The process was told to stop before it served.
    #[error("told to stop while storage was waited for")]
    StoppedWaiting,
    /// Storage or the actors did not start.
    #[error(transparent)]
    Platform(#[from] inferadb_actors::StartError),
    /// The default account and vault could not be made.
    #[error("the default account and vault: {0}")]
    Defaults(#[source] inferadb_actors::VaultError),
    /// The only vault there is to be was deleted.
    #[error(
        "multi_tenancy.enabled is false or auth.enabled is false, but the default vault was deleted; name another one"
    )]
    NoDefaultVault,
    /// Authentication did not start.
    #[error("auth: {0}")]
    Auth(#[from] inferadb_actors::auth::StartError),
    /// Metrics could not be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// An address could not be bound.
    #[error("{key}: cannot listen on `{host}:{port}`: {error}")]
    Bind {
        /// The setting that named it.
        key: &'static str,
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// Serving failed.
    #[error("the server failed: {0}")]
    Serve(#[source] io::Error),
}

/// A server whose parts are there, and which listens once it is run.
pub struct Prepared {
    config: Config,
    telemetry: Telemetry,
    app: web::Data<App>,
    platform: Platform,
    default_vault: Option<(VaultId, AccountId)>,
    metrics: Option<ServerHandle>,
}

/// A server that listens.
pub struct Listening {
    addresses: Vec<SocketAddr>,
    server: Server,
    metrics: Option<ServerHandle>,
    platform: Platform,
    authenticator: Option<Authenticator>,
    stopping: Stopping,
    drain_timeout: Duration,
    // Last: what stops before still has something to say.
    _telemetry: Telemetry,
}

/// Runs a server until it is told to stop by SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<(), ServerError> {
    match Prepared::new(config).await {
        Ok(prepared) => prepared.listen()?.serve().await,
        Err(ServerError::StoppedWaiting) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Prepared {
    /// Serves metrics, opens storage, makes the defaults, and starts the actors. Waits for a cluster that cannot be reached, and
    /// answers at the server's address meanwhile that it is not ready.
    pub async fn new(config: Config) -> Result<Self, ServerError> {
        if !config.storage.backend.is_built_in() {
            return Err(ServerError::BackendMissing);
        }
        let telemetry = telemetry::init(&config.observability)?;
        // First, for what is watched is the start too, however long storage is waited for.
        let metrics = listen_for_metrics(&config, &telemetry)?;
        let registry = telemetry.metrics.registry();
        let (platform, default_vault) = open(&config, registry).await?;
        let authenticator = match config.auth.enabled {
            true => Some(Authenticator::start(auth_settings(&config), Some(registry))?),
            false => {
                tracing::warn!("authentication is off: every request has every scope in the default vault");
                None
            }
        };
        if default_vault.is_none() && (!config.auth.enabled || !config.multi_tenancy.enabled) {
            return Err(ServerError::NoDefaultVault);
        }
        let everybody = Principal {
            subject: None,
            vault: default_vault.map(|(vault, _)| vault.0),
            account: default_vault.map(|(_, account)| account.0),
            scopes: Scopes::NAMES.into_iter().map(|(scope, _)| scope).collect(),
            expires_at: i64::MAX,
            token_id: None,
        };
        let settings = http_settings(&config);
        let app = App {
            platform: platform.clone(),
            authenticator,
            everybody: Arc::new(everybody),
            single_vault: if config.multi_tenancy.enabled {
                None
            } else {
                default_vault
            },
            multi_tenancy: config.multi_tenancy.enabled,
            documentation: Documentation::new(settings.public_url.as_deref())?,
            settings,
            checks: telemetry.checks.clone(),
            metrics: HttpMetrics::new(registry)?,
            stopping: Stopping::default(),
            transfers: Places::of_transfers(
                registry,
                config.server.max_transfers,
                config.server.max_account_transfers,
            )?,
            watches: Places::of_watches(
                registry,
                config.server.max_watches,
                config.server.max_account_watches,
            )?,
            bodies: Bodies::new(
                registry,
                config.server.max_bodies_bytes,
                config.server.max_account_bodies_bytes,
            )?,
        };
        Ok(Self {
            config,
            telemetry,
            app: web::Data::new(app),
            platform,
            default_vault,
            metrics,
        })
    }

    /// The accounts and vaults.
    pub fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The default vault and its account.
    pub fn default_vault(&self) -> Option<(VaultId, AccountId)> {
        self.default_vault
    }

    /// Binds the server's address.
    pub fn listen(self) -> Result<Listening, ServerError> {
        let Self {
            config,
            telemetry,
            app,
            platform,
            metrics,
            ..
        } = self;
        let authenticator = app.authenticator.clone();
        let stopping = app.stopping.clone();
        let server = &config.server;
        let patience = config.watch.slow_reader() + GIVEN_UP_AFTER;
        lag::watch_heavy_threads(&platform);
        let (started, pin) = (Arc::new(AtomicUsize::new(0)), server.pin_threads);
        let http = HttpServer::new(move || {
            // Once on each thread that answers requests.
            background::answer_requests(started.fetch_add(1, Ordering::Relaxed), pin);
            lag::watch_this_thread(&app.platform);
            actix_web::App::new()
                .app_data(web::Data::new(App::clone(&app)))
                .configure(routes)
                .wrap(Condition::new(
                    spans_are_sent(),
                    TracingLogger::<RequestSpan>::new(),
                ))
                .wrap(from_fn(surround))
        })
        .workers(server.worker_threads)
        .max_connections((server.max_connections / server.worker_threads).max(1))
        .keep_alive(
            server
                .keep_alive()
                .map_or(KeepAlive::Disabled, KeepAlive::Timeout),
        )
        // Whoever closes a connection that an answer is due on has gone: the request is given up, and what it was about to use left to
        // others.
        .h1_allow_half_closed(false)
        .client_request_timeout(Duration::from_secs(10))
        .on_connect(move |connection, _| bound_waiting(connection, patience))
        // What a stream has to tell is not to wait until the reader has acknowledged what was told before.
        .tcp_nodelay(true)
        .disable_signals()
        .shutdown_timeout(server.shutdown_timeout_seconds);
        let bound = http
            .bind((server.host.as_str(), server.port))
            .map_err(|error| ServerError::Bind {
                key: "server.host, server.port",
                host: server.host.clone(),
                port: server.port,
                error,
            })?;
        let addresses = bound.addrs();
        for address in &addresses {
            tracing::info!(%address, "listening");
        }
        let server = bound.run();
        Ok(Listening {
            addresses,
            server,
            metrics,
            platform,
            authenticator,
            stopping,
            _telemetry: telemetry,
            drain_timeout: config.server.shutdown_timeout(),
        })
    }
}

/// Lets the system close a connection whose peer has taken nothing of what it was sent for so long: it stopped reading, or
/// is gone. What answers it cannot do so, since nobody asks it for more.
fn bound_waiting(connection: &dyn Any, patience: Duration) {
    #[cfg(target_os = "linux")]
    if let Some(stream) = connection.downcast_ref::<TcpStream>()
        && let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(patience))
    {
        tracing::debug!(%error, "a connection's timeout could not be set");
    }
}

impl Listening {
    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until told to stop by SIGTERM or SIGINT: then no connection is accepted any more, requests under way are
    /// finished, and every vault is drained. A second signal stops at once.
    pub async fn serve(self) -> Result<(), ServerError> {
        let mut signals = Signals::new().map_err(ServerError::Serve)?;
        let handle = self.server.handle();
        let stopping = self.stopping.clone();
        actix_web::rt::spawn(async move {
            signals.stop().await;
            tracing::info!("told to stop: finishing the requests under way");
            // A stream without an end would keep its connection, and the stop, waiting.
            stopping.begin();
            // Each returns once the server has stopped; the first to do so is enough.
            let graceful = handle.stop(true);
            actix_web::rt::spawn(graceful);
            signals.stop().await;
            tracing::warn!("told to stop again: stopping at once");
            handle.stop(false).await;
        });
        let served = self.server.await.map_err(ServerError::Serve);
        tracing::info!("stopping: draining the vaults");
        self.platform.stop(self.drain_timeout).await;
        if let Some(authenticator) = &self.authenticator {
            authenticator.stop();
        }
        if let Some(metrics) = &self.metrics {
            metrics.stop(false).await;
        }
        tracing::info!("stopped");
        served
    }
}

/// The signals that the process heeds.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Tells of a closed terminal, or of rotated logs: neither is a reason to stop.
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Ends when the process is told to stop.
    pub(crate) async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {}
            }
        }
    }
}

fn listen_for_metrics(config: &Config, telemetry: &Telemetry) -> Result<Option<ServerHandle>, ServerError> {
    let metrics = &config.observability.metrics;
    if !metrics.enabled {
        return Ok(None);
    }
    let host = config.metrics_host();
    let (server, addresses) = telemetry::metrics::serve(Arc::clone(&telemetry.metrics), host, metrics.port)
        .map_err(|error| ServerError::Bind {
        key: "observability.metrics",
        host: host.to_owned(),
        port: metrics.port,
        error,
    })?;
    for address in addresses {
        tracing::info!(%address, "serving metrics");
    }
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Ok(Some(handle))
}

/// Starts the platform and makes the defaults.
async fn open(
    config: &Config,
    registry: &prometheus::Registry,
) -> Result<(Platform, Option<(VaultId, AccountId)>), ServerError> {
    let backend = backend(config)?;
    if let Backend::FoundationDb { cluster_file, .. } = &backend {
        File::open(cluster_file).map_err(|error| ServerError::ClusterFile {
            path: cluster_file.clone(),
            error,
        })?;
    }
    let mut waiting = Waiting::new(config)?;
    let platform = waiting
        .until(async || Ok(Platform::start(backend.clone(), settings(config), registry).await?))
        .await?;
    let defaults = waiting
        .until(async || ensure_defaults(&platform, config).await)
        .await?;
    waiting.end().await;
    Ok((platform, defaults))
}

async fn ensure_defaults(
    platform: &Platform,
    config: &Config,
) -> Result<Option<(VaultId, AccountId)>, ServerError> {
    let account = config.multi_tenancy.default_organization.map(AccountId);
    let vault = config.multi_tenancy.default_vault.map(VaultId);
    let defaults = platform
        .ensure_defaults(account, vault)
        .await
        .map_err(ServerError::Defaults)?;
    if let (Some(account), true) = (&defaults.account, defaults.account_created) {
        tracing::info!(account = %account.id, "Default account created");
    }
    if let (Some(vault), true) = (&defaults.vault, defaults.vault_created) {
        tracing::info!(vault = %vault.id, account = %vault.account, "Default vault created");
    }
    Ok(defaults.vault.map(|vault| (vault.id, vault.account)))
}

fn backend(config: &Config) -> Result<Backend, ServerError> {
    let storage = &config.storage;
    Ok(match storage.backend {
        config::Backend::Embedded => Backend::Embedded {
            path: storage.path.clone(),
        },
        config::Backend::FoundationDb => Backend::FoundationDb {
            cluster_file: storage.cluster_file.clone(),
            key_prefix: storage.key_prefix()?,
        },
        config::Backend::Memory => Backend::Memory,
    })
}

fn settings(config: &Config) -> Settings {
    let (vaults, limits) = (&config.vaults, &config.limits);
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Settings {
        cache: CacheSettings {
            enabled: config.cache.enabled,
            max_entries: config.cache.max_entries,
            ttl: config.cache.ttl(),
        },
        idle_timeout: vaults.idle_timeout(),
        max_active: vaults.max_active,
        memory_budget_bytes: bytes(vaults.memory_budget_bytes),
        total_memory_bytes: bytes(vaults.total_memory_bytes),
        turn: vaults.turn(),
        overload_lag: vaults.overload_lag(),
        request_threads: config.server.worker_threads,
        actor_threads: vaults.actor_threads,
        poll_interval: vaults.poll_interval(),
        limits: Limits {
            max_depth: limits.max_depth,
            max_work: limits.max_work,
            checks_per_second: limits.checks_per_second,
            writes_per_second: limits.writes_per_second,
            max_watches: limits.max_watches,
            max_concurrent_requests: vaults.max_concurrent_requests,
            mailbox_capacity: vaults.mailbox_capacity,
        },
        log_kept: LogSize {
            records: config.retention.changes,
            bytes: config.retention.change_log_bytes,
        },
        archived_vault_retention: config.retention.archived_vaults(),
        per_vault_metrics: config.observability.metrics.per_vault_metrics,
    }
}

fn auth_settings(config: &Config) -> AuthSettings {
    let auth = &config.auth;
    AuthSettings {
        jwks_url: auth.jwks_url.clone(),
        issuer: auth.issuer.clone(),
        audiences: auth.allowed_audiences.clone(),
        cache_ttl: auth.jwks_cache_ttl(),
        refresh_interval: auth.jwks_refresh_interval(),
        max_stale: auth.jwks_max_stale(),
        min_refetch: auth.jwks_min_refetch(),
        clock_skew: auth.clock_skew(),
        token_cache_entries: auth.token_cache_entries,
    }
}

fn http_settings(config: &Config) -> HttpSettings {
    let (server, limits) = (&config.server, &config.limits);
    HttpSettings {
        public_url: server.public_origin(),
        request_timeout: server.request_timeout(),
        max_request_timeout: server.max_request_timeout(),
        max_body_bytes: server.max_body_bytes,
        max_batch_checks: limits.max_batch_checks,
        max_write_changes: limits.max_write_changes,
        max_page_size: limits.max_page_size,
        max_schema_bytes: limits.max_schema_bytes,
        max_context_bytes: limits.max_context_bytes,
        max_stored_context_bytes: limits.max_stored_context_bytes,
        heartbeat: config.watch.heartbeat(),
        slow_reader: config.watch.slow_reader(),
    }
}
