//! The metrics of vaults and of the registry. A vault's series are made when it becomes active and go when it goes.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::series::{LATENCY_BUCKETS, Level, Series, VaultSeries};

/// Where vaults' metrics are made.
#[derive(Clone)]
pub struct Metrics {
    series: VaultSeries,
    /// Vaults that are active now.
    pub active_vaults: IntGauge,
    /// Activations since the start.
    pub activations: IntCounter,
    /// How long activations took.
    pub activation_seconds: Histogram,
    /// Evictions by reason.
    pub evictions: IntCounterVec,
    /// How long it took until nobody was inside any more and the actor was gone.
    pub drain_seconds: Histogram,
    /// What all active vaults hold, as of the latest sweep.
    pub held_bytes: IntGauge,
    /// Actors that were started again after a panic.
    pub respawns: IntCounter,
    /// Evaluations that started again because the vault moved on under them.
    pub restarts: IntCounter,
    /// Commits to storage.
    pub commits: IntCounter,
    /// How long commits took.
    pub commit_seconds: Histogram,
    /// How late the threads that answer requests came.
    pub lag_seconds: Histogram,
    overloaded: IntGauge,
    /// Turns that were taken.
    pub turns: IntCounter,
    refused: IntCounterVec,
}

/// The handles of one vault's series, resolved once.
pub struct VaultMetrics {
    series: Arc<Series>,
    relationships: Share,
    cache_memory: Share,
    vault: Box<str>,
    metrics: Metrics,
}

/// A vault's share in a level that it may have to itself or not.
#[derive(Default)]
struct Share(AtomicI64);

impl Metrics {
    /// Makes the metrics and registers them. Without `per_vault` no series has a vault label.
    pub fn new(registry: &Registry, per_vault: bool) -> Result<Self, prometheus::Error> {
        let histogram =
            |name: &str, help: &str| HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
        Ok(Self {
            series: register(registry, VaultSeries::new(per_vault)?)?,
            active_vaults: register(
                registry,
                IntGauge::new("inferadb_active_vaults", "Vaults that are active.")?,
            )?,
            activations: register(
                registry,
                IntCounter::new("inferadb_vault_activations_total", "Vaults activated.")?,
            )?,
            activation_seconds: register(
                registry,
                Histogram::with_opts(histogram(
                    "inferadb_vault_activation_seconds",
                    "Time it took to activate a vault.",
                ))?,
            )?,
            evictions: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "inferadb_vault_evictions_total",
                        "Vaults that stopped being active, by reason.",
                    ),
                    &["reason"],
                )?,
            )?,
            drain_seconds: register(
                registry,
                Histogram::with_opts(histogram(
                    "inferadb_vault_drain_seconds",
                    "Time from the decision to evict a vault until its actor was gone.",
                ))?,
            )?,
            held_bytes: register(
                registry,
                IntGauge::new(
                    "inferadb_vaults_memory_bytes",
                    "Memory held by all active vaults and by those that are being loaded.",
                )?,
            )?,
            respawns: register(
                registry,
                IntCounter::new(
                    "inferadb_vault_respawns_total",
                    "Vault actors found dead after a failure and started again.",
                )?,
            )?,
            restarts: register(
                registry,
                IntCounter::new(
                    "inferadb_evaluation_restarts_total",
                    "Evaluations started again because the vault moved on.",
                )?,
            )?,
            commits: register(
                registry,
                IntCounter::new(
                    "inferadb_storage_commits_total",
                    "Transactions committed for vaults.",
                )?,
            )?,
            commit_seconds: register(
                registry,
                Histogram::with_opts(histogram(
                    "inferadb_storage_commit_seconds",
                    "Time it took to commit a transaction for a vault.",
                ))?,
            )?,
            lag_seconds: register(
                registry,
                Histogram::with_opts(histogram(
                    "inferadb_worker_lag_seconds",
                    "How much later than it was due a thread that answers requests came to a task.",
                ))?,
            )?,
            overloaded: register(
                registry,
                IntGauge::new(
                    "inferadb_overloaded",
                    "1 while the busiest vaults are held to less than they ask for, since the server is overloaded.",
                )?,
            )?,
            turns: register(
                registry,
                IntCounter::new(
                    "inferadb_turns_total",
                    "Turns taken by requests that need more than a small piece of work.",
                )?,
            )?,
            refused: register(
                registry,
                IntCounterVec::new(
                    Opts::new(
                        "inferadb_requests_refused_total",
                        "Requests refused because their vault was over a limit, by limit.",
                    ),
                    &["limit"],
                )?,
            )?,
        })
    }

    /// Tells whether vaults are held to less than they ask for.
    pub fn set_overloaded(&self, is_overloaded: bool) {
        self.overloaded.set(is_overloaded.into());
    }

    /// The handles of a vault that becomes active.
    pub fn vault(&self, vault: &str) -> VaultMetrics {
        VaultMetrics {
            series: self.series.enter(vault),
            relationships: Share::default(),
            cache_memory: Share::default(),
            vault: vault.into(),
            metrics: self.clone(),
        }
    }
}

impl VaultMetrics {
    /// Tells how many relationships the vault has.
    pub fn set_relationships(&self, relationships: u64) {
        let value = i64::try_from(relationships).unwrap_or(i64::MAX);
        self.relationships.set(&self.series.relationships, value);
    }

    /// Tells how much memory the vault takes.
    pub fn set_cache_memory(&self, bytes: usize) {
        let value = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.cache_memory.set(&self.series.cache_memory, value);
    }

    /// Notes a transaction that was committed for the vault.
    pub fn commits(&self, took: Duration) {
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(took.as_secs_f64());
    }

    /// Turns that requests took.
    pub const fn turns(&self) -> &IntCounter {
        &self.metrics.turns
    }

    /// Notes a request that was refused because its vault is over `limit`.
    pub fn refused(&self, limit: &str) {
        self.metrics.refused.with_label_values(&[limit]).inc();
    }

    /// Notes an evaluation that starts again.
    pub fn restarted(&self) {
        self.metrics.restarts.inc();
    }

    /// Notes a request that waits for the actor; pair with [`VaultMetrics::left_mailbox`].
    pub fn entered_mailbox(&self) {
        self.series.mailbox_depth.add(1);
    }

    /// Notes that so many watches were opened; fewer than none: ended.
    pub fn watches(&self, opened: i64) {
        self.series.watches.add(opened);
    }

    /// Notes that a request no longer waits for the actor.
    pub fn left_mailbox(&self) {
        self.series.mailbox_depth.add(-1);
    }
}

impl Drop for VaultMetrics {
    fn drop(&mut self) {
        self.set_relationships(0);
        self.set_cache_memory(0);
        self.metrics.series.leave(&self.vault);
    }
}

impl Deref for VaultMetrics {
    type Target = Series;

    fn deref(&self) -> &Series {
        &self.series
    }
}

impl Share {
    fn set(&self, level: &Level, value: i64) {
        level.add(value - self.0.swap(value, Ordering::Relaxed));
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
