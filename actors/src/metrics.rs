//! The metrics of vaults and of the registry. A vault's series are made when it becomes active and go when it goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

/// Seconds; a resident check takes microseconds, a cold one on a cluster milliseconds.
const LATENCY_BUCKETS: [f64; 14] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// Where vaults' metrics are made.
#[derive(Clone)]
pub struct Metrics {
    per_vault: bool,
    /// How many instances of each vault have their handles now. While a vault is respawned there can be two: the
    /// series must not go with the first of them.
    instances: Arc<Mutex<HashMap<String, usize>>>,
    requests: IntCounterVec,
    errors: IntCounterVec,
    cache_hits: IntCounterVec,
    cache_misses: IntCounterVec,
    cache_requests: IntCounterVec,
    decisions: IntCounterVec,
    relationships: IntGaugeVec,
    latency: HistogramVec,
    cache_memory: GaugeVec,
    mailbox_depth: IntGaugeVec,
    watches: IntGaugeVec,
    watch_events: IntCounterVec,
    /// Vaults that are active now.
    pub active_vaults: IntGauge,
    /// Activations since the start.
    pub activations: IntCounter,
    /// How long activations took.
    pub activation_seconds: Histogram,
    /// Evictions by reason.
    pub evictions: IntCounterVec,
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
    turns: IntCounter,
    refused: IntCounterVec,
}

/// The handles of one vault's series, resolved once.
pub struct VaultMetrics {
    /// Requests.
    pub requests: IntCounter,
    /// Requests that ended in an error.
    pub errors: IntCounter,
    /// Checks answered from the decision cache.
    pub cache_hits: IntCounter,
    /// Checks that had to be evaluated.
    pub cache_misses: IntCounter,
    /// Both.
    pub cache_requests: IntCounter,
    /// Decisions: allow.
    pub allowed: IntCounter,
    /// Decisions: deny.
    pub denied: IntCounter,
    /// Decisions: conditional.
    pub conditional: IntCounter,
    /// Seconds from a request's arrival to its answer.
    pub latency: Histogram,
    relationships: Share<IntGauge>,
    cache_memory: Share<Gauge>,
    mailbox_depth: IntGauge,
    watches: IntGauge,
    /// Changes sent to watches.
    pub watch_events: IntCounter,
    vault: Option<String>,
    metrics: Metrics,
}

/// A vault's share in a gauge that it may have to itself or not.
struct Share<G> {
    gauge: G,
    held: std::sync::atomic::AtomicI64,
}

impl Metrics {
    /// Makes the metrics and registers them. Without `per_vault` no series has a vault label.
    pub fn new(registry: &Registry, per_vault: bool) -> Result<Self, prometheus::Error> {
        let vault: &[&str] = if per_vault { &["vault"] } else { &[] };
        let with = |label| -> Vec<&str> { vault.iter().copied().chain([label]).collect() };
        let opts = Opts::new;
        let histogram =
            |name: &str, help: &str| HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
        Ok(Self {
            per_vault,
            instances: Arc::default(),
            requests: register(
                registry,
                IntCounterVec::new(
                    opts("inferadb_vault_requests_total", "Requests to the vault."),
                    vault,
                )?,
            )?,
            errors: register(
                registry,
                IntCounterVec::new(
                    opts(
                        "inferadb_vault_errors_total",
                        "Requests to the vault that ended in an error.",
                    ),
                    vault,
                )?,
            )?,
            cache_hits: register(
                registry,
                IntCounterVec::new(
                    opts(
                        "inferadb_vault_cache_hits",
                        "Checks answered from the decision cache.",
                    ),
                    vault,
                )?,
            )?,
            cache_misses: register(
                registry,
                IntCounterVec::new(
                    opts(
                        "inferadb_vault_cache_misses",
                        "Checks that the decision cache could not answer.",
                    ),
                    vault,
                )?,
            )?,
            cache_requests: register(
                registry,
                IntCounterVec::new(
                    opts(
                        "inferadb_vault_cache_requests",
                        "Checks that asked the decision cache.",
                    ),
                    vault,
                )?,
            )?,
            decisions: register(
                registry,
                IntCounterVec::new(
                    opts("inferadb_vault_decisions_total", "Decisions of checks."),
                    &with("decision"),
                )?,
            )?,
            relationships: register(
                registry,
                IntGaugeVec::new(
                    opts(
                        "inferadb_vault_relationships_total",
                        "Relationships stored in the vault.",
                    ),
                    vault,
                )?,
            )?,
            latency: register(
                registry,
                HistogramVec::new(
                    histogram(
                        "inferadb_vault_latency_seconds",
                        "Time from a request's arrival to its answer.",
                    ),
                    vault,
                )?,
            )?,
            cache_memory: register(
                registry,
                GaugeVec::new(
                    opts(
                        "inferadb_cache_memory_bytes",
                        "Memory held by resident rows and cached decisions.",
                    ),
                    vault,
                )?,
            )?,
            mailbox_depth: register(
                registry,
                IntGaugeVec::new(
                    opts(
                        "inferadb_vault_mailbox_depth",
                        "Requests waiting for the vault's actor.",
                    ),
                    vault,
                )?,
            )?,
            watches: register(
                registry,
                IntGaugeVec::new(
                    opts("inferadb_vault_watches", "Open watches of the vault."),
                    vault,
                )?,
            )?,
            watch_events: register(
                registry,
                IntCounterVec::new(
                    opts(
                        "inferadb_vault_watch_events_total",
                        "Changes sent to watches of the vault.",
                    ),
                    vault,
                )?,
            )?,
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
                    opts(
                        "inferadb_vault_evictions_total",
                        "Vaults that stopped being active, by reason.",
                    ),
                    &["reason"],
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
                    opts(
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
        let label: &[&str] = if self.per_vault { &[vault] } else { &[] };
        let mut instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner);
        if self.per_vault {
            *instances.entry(vault.to_owned()).or_default() += 1;
        }
        let decision = |decision| -> IntCounter {
            let labels: Vec<&str> = label.iter().copied().chain([decision]).collect();
            self.decisions.with_label_values(&labels)
        };
        VaultMetrics {
            requests: self.requests.with_label_values(label),
            errors: self.errors.with_label_values(label),
            cache_hits: self.cache_hits.with_label_values(label),
            cache_misses: self.cache_misses.with_label_values(label),
            cache_requests: self.cache_requests.with_label_values(label),
            allowed: decision("allow"),
            denied: decision("deny"),
            conditional: decision("conditional"),
            latency: self.latency.with_label_values(label),
            relationships: Share::new(self.relationships.with_label_values(label)),
            cache_memory: Share::new(self.cache_memory.with_label_values(label)),
            mailbox_depth: self.mailbox_depth.with_label_values(label),
            watches: self.watches.with_label_values(label),
            watch_events: self.watch_events.with_label_values(label),
            vault: self.per_vault.then(|| vault.to_owned()),
            metrics: self.clone(),
        }
    }
}

impl VaultMetrics {
    /// Tells how many relationships the vault has.
    pub fn set_relationships(&self, relationships: u64) {
        let value = i64::try_from(relationships).unwrap_or(i64::MAX);
        self.relationships
            .gauge
            .add(value - self.relationships.swap(value));
    }

    /// Tells how much memory the vault's rows and decisions take.
    pub fn set_cache_memory(&self, bytes: usize) {
        let value = i64::try_from(bytes).unwrap_or(i64::MAX);
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory stay far below 2^53")]
        self.cache_memory
            .gauge
            .add((value - self.cache_memory.swap(value)) as f64);
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
        self.mailbox_depth.inc();
    }

    /// Notes that so many watches were opened; fewer than none: ended.
    pub fn watches(&self, opened: i64) {
        self.watches.add(opened);
    }

    /// Notes that a request no longer waits for the actor.
    pub fn left_mailbox(&self) {
        self.mailbox_depth.dec();
    }
}

impl Drop for VaultMetrics {
    fn drop(&mut self) {
        self.set_relationships(0);
        self.set_cache_memory(0);
        let Some(vault) = &self.vault else { return };
        let mut instances = self
            .metrics
            .instances
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match instances.get_mut(vault) {
            Some(count) if *count > 1 => {
                *count -= 1;
                return;
            }
            _ => instances.remove(vault),
        };
        let label = [vault.as_str()];
        // Each answers an error only where the series is gone already, which is what is wanted.
        let metrics = &self.metrics;
        for counters in [
            &metrics.requests,
            &metrics.errors,
            &metrics.cache_hits,
            &metrics.cache_misses,
            &metrics.cache_requests,
            &metrics.watch_events,
        ] {
            let _ = counters.remove_label_values(&label);
        }
        for decision in ["allow", "deny", "conditional"] {
            let _ = metrics.decisions.remove_label_values(&[vault.as_str(), decision]);
        }
        let _ = metrics.relationships.remove_label_values(&label);
        let _ = metrics.latency.remove_label_values(&label);
        let _ = metrics.cache_memory.remove_label_values(&label);
        let _ = metrics.mailbox_depth.remove_label_values(&label);
        let _ = metrics.watches.remove_label_values(&label);
    }
}

impl<G> Share<G> {
    fn new(gauge: G) -> Self {
        Self {
            gauge,
            held: std::sync::atomic::AtomicI64::new(0),
        }
    }

    fn swap(&self, value: i64) -> i64 {
        self.held.swap(value, std::sync::atomic::Ordering::Relaxed)
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}
