//! The series of single vaults: plain numbers, which take the shapes of the exposition only while somebody collects them.
//! Ten thousand vaults with series of the metrics library's own kind would hold more memory than their relationships.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto;

/// Seconds; a resident check takes microseconds, a cold one on a cluster milliseconds.
pub const LATENCY_BUCKETS: [f64; 14] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

/// How many durations fell into each of [`LATENCY_BUCKETS`].
#[derive(Debug, Default)]
pub struct Durations {
    /// The last one is for what is longer than all bounds.
    buckets: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    nanos: AtomicU64,
}

/// The series of one vault; of all vaults, where none has any of its own.
#[derive(Debug, Default)]
pub struct Series {
    /// Requests.
    pub requests: Count,
    /// Requests that ended in an error.
    pub errors: Count,
    /// Checks answered from the decision cache.
    pub cache_hits: Count,
    /// Checks that had to be evaluated.
    pub cache_misses: Count,
    /// Both.
    pub cache_requests: Count,
    /// Decisions: allow.
    pub allowed: Count,
    /// Decisions: deny.
    pub denied: Count,
    /// Decisions: conditional.
    pub conditional: Count,
    /// Seconds from a request's arrival to its answer.
    pub latency: Durations,
    /// Changes sent to watches.
    pub watch_events: Count,
    /// Relationships stored.
    pub relationships: Level,
    /// Bytes held in memory.
    pub cache_memory: Level,
    /// Requests that wait for the actor.
    pub mailbox_depth: Level,
    /// Open watches.
    pub watches: Level,
}

/// All vaults' series, as a collector of the metrics library.
#[derive(Clone)]
pub struct VaultSeries {
    vaults: Arc<Mutex<HashMap<Box<str>, Held>>>,
    /// Of all vaults together, where none has series of its own.
    together: Option<Arc<Series>>,
    families: Arc<[Family]>,
}

/// A vault's series, and how many instances of it have them now. While a vault is respawned there can be two: the series must
/// not go with the first of them.
struct Held {
    series: Arc<Series>,
    instances: usize,
}

struct Family {
    desc: Desc,
    kind: proto::MetricType,
    /// One of no name if there is no further label.
    values: Vec<Value>,
}

/// A further label's value, and what has it.
type Value = (&'static str, fn(&Series) -> proto::Metric);

impl Count {
    /// One more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more.
    pub fn inc_by(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn metric(&self) -> proto::Metric {
        let mut counter = proto::Counter::default();
        #[expect(clippy::cast_precision_loss, reason = "the exposition's numbers are floats")]
        counter.set_value(self.get() as f64);
        let mut metric = proto::Metric::default();
        metric.set_counter(counter);
        metric
    }
}

impl Level {
    /// So much more, or less.
    pub fn add(&self, more: i64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn metric(&self) -> proto::Metric {
        let mut gauge = proto::Gauge::default();
        #[expect(clippy::cast_precision_loss, reason = "the exposition's numbers are floats")]
        gauge.set_value(self.0.load(Ordering::Relaxed) as f64);
        proto::Metric::from_gauge(gauge)
    }
}

impl Durations {
    /// Notes a duration, in seconds.
    pub fn observe(&self, seconds: f64) {
        let at = LATENCY_BUCKETS.partition_point(|bound| *bound < seconds);
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        // Saturates: what is negative or no number counts as nothing.
        self.nanos.fetch_add((seconds * 1e9) as u64, Ordering::Relaxed);
    }

    fn metric(&self) -> proto::Metric {
        let mut total = 0;
        let mut cumulative = self.buckets.iter().map(|bucket| {
            total += bucket.load(Ordering::Relaxed);
            total
        });
        let bound = |(bound, count)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(count);
            bucket
        };
        let buckets = LATENCY_BUCKETS
            .into_iter()
            .zip(cumulative.by_ref())
            .map(bound)
            .collect();
        let count = cumulative.last().unwrap_or_default();
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        #[expect(clippy::cast_precision_loss, reason = "the exposition's numbers are floats")]
        histogram.set_sample_sum(self.nanos.load(Ordering::Relaxed) as f64 / 1e9);
        let mut metric = proto::Metric::default();
        metric.set_histogram(histogram);
        metric
    }
}

impl VaultSeries {
    /// No series yet; later ones have a `vault` label if `per_vault`.
    pub fn new(per_vault: bool) -> Result<Self, prometheus::Error> {
        Ok(Self {
            vaults: Arc::default(),
            together: (!per_vault).then(Arc::default),
            families: families(per_vault)?.into(),
        })
    }

    /// The series of an instance of a vault; to be given back with [`VaultSeries::leave`].
    pub fn enter(&self, vault: &str) -> Arc<Series> {
        if let Some(together) = &self.together {
            return Arc::clone(together);
        }
        let mut vaults = self.vaults();
        let held = vaults.entry(vault.into()).or_insert_with(|| Held {
            series: Arc::default(),
            instances: 0,
        });
        held.instances += 1;
        Arc::clone(&held.series)
    }

    /// Ends the series of a vault with its last instance.
    pub fn leave(&self, vault: &str) {
        let mut vaults = self.vaults();
        if let Some(held) = vaults.get_mut(vault) {
            held.instances -= 1;
            if held.instances == 0 {
                vaults.remove(vault);
                // After many have gone, what the rest needs is little.
                if vaults.len() < vaults.capacity() / 8 {
                    vaults.shrink_to_fit();
                }
            }
        }
    }

    fn vaults(&self) -> MutexGuard<'_, HashMap<Box<str>, Held>> {
        self.vaults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for VaultSeries {
    fn desc(&self) -> Vec<&Desc> {
        self.families.iter().map(|family| &family.desc).collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        // The lock is held for as long as it takes to copy the handles: activations must not wait for a scrape.
        let vaults: Vec<(Option<Box<str>>, Arc<Series>)> = match &self.together {
            Some(together) => vec![(None, Arc::clone(together))],
            None => {
                let vaults = self.vaults();
                let held = vaults.iter();
                held.map(|(vault, held)| (Some(vault.clone()), Arc::clone(&held.series)))
                    .collect()
            }
        };
        if vaults.is_empty() {
            return Vec::new();
        }
        self.families
            .iter()
            .map(|family| family.collect(&vaults))
            .collect()
    }
}

impl Family {
    fn collect(&self, vaults: &[(Option<Box<str>>, Arc<Series>)]) -> proto::MetricFamily {
        let mut metrics = Vec::with_capacity(vaults.len() * self.values.len());
        for (vault, series) in vaults {
            for (value, metric) in &self.values {
                let mut labels = Vec::with_capacity(2);
                if !value.is_empty() {
                    labels.push(label("decision", value));
                }
                if let Some(vault) = vault {
                    labels.push(label("vault", vault));
                }
                let mut metric = metric(series);
                metric.set_label(labels);
                metrics.push(metric);
            }
        }
        let mut family = proto::MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(self.kind);
        family.set_metric(metrics);
        family
    }
}

fn label(name: &str, value: &str) -> proto::LabelPair {
    let mut label = proto::LabelPair::default();
    label.set_name(name.to_owned());
    label.set_value(value.to_owned());
    label
}

fn families(per_vault: bool) -> Result<Vec<Family>, prometheus::Error> {
    use proto::MetricType::{COUNTER, GAUGE, HISTOGRAM};
    let family = |name: &str, help: &str, kind, values: &[Value]| {
        let mut labels: Vec<String> = per_vault.then(|| "vault".to_owned()).into_iter().collect();
        if values.len() > 1 {
            labels.push("decision".to_owned());
        }
        Ok(Family {
            desc: Desc::new(name.to_owned(), help.to_owned(), labels, HashMap::new())?,
            kind,
            values: values.to_vec(),
        })
    };
    [
        family(
            "inferadb_vault_requests_total",
            "Requests to the vault.",
            COUNTER,
            &[("", |of| of.requests.metric())],
        ),
        family(
            "inferadb_vault_errors_total",
            "Requests to the vault that ended in an error.",
            COUNTER,
            &[("", |of| of.errors.metric())],
        ),
        family(
            "inferadb_vault_cache_hits",
            "Checks answered from the decision cache.",
            COUNTER,
            &[("", |of| of.cache_hits.metric())],
        ),
        family(
            "inferadb_vault_cache_misses",
            "Checks that the decision cache could not answer.",
            COUNTER,
            &[("", |of| of.cache_misses.metric())],
        ),
        family(
            "inferadb_vault_cache_requests",
            "Checks that asked the decision cache.",
            COUNTER,
            &[("", |of| of.cache_requests.metric())],
        ),
        family(
            "inferadb_vault_decisions_total",
            "Decisions of checks.",
            COUNTER,
            &[
                ("allow", |of| of.allowed.metric()),
                ("deny", |of| of.denied.metric()),
                ("conditional", |of| of.conditional.metric()),
            ],
        ),
        family(
            "inferadb_vault_relationships_total",
            "Relationships stored in the vault.",
            GAUGE,
            &[("", |of| of.relationships.metric())],
        ),
        family(
            "inferadb_vault_latency_seconds",
            "Time from a request's arrival to its answer.",
            HISTOGRAM,
            &[("", |of| of.latency.metric())],
        ),
        family(
            "inferadb_cache_memory_bytes",
            "Memory held by the vault while it is active: rows, decisions, its share of its schema, its actor.",
            GAUGE,
            &[("", |of| of.cache_memory.metric())],
        ),
        family(
            "inferadb_vault_mailbox_depth",
            "Requests waiting for the vault's actor.",
            GAUGE,
            &[("", |of| of.mailbox_depth.metric())],
        ),
        family(
            "inferadb_vault_watches",
            "Open watches of the vault.",
            GAUGE,
            &[("", |of| of.watches.metric())],
        ),
        family(
            "inferadb_vault_watch_events_total",
            "Changes sent to watches of the vault.",
            COUNTER,
            &[("", |of| of.watch_events.metric())],
        ),
    ]
    .into_iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, Registry, TextEncoder};

    use super::*;

    fn text(registry: &Registry) -> String {
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn series_are_there_while_an_instance_has_them() {
        let registry = Registry::new();
        let all = VaultSeries::new(true).unwrap();
        registry.register(Box::new(all.clone())).unwrap();
        assert_eq!(text(&registry), "");
        let (first, second) = (all.enter("a"), all.enter("a"));
        first.denied.inc();
        second.denied.inc_by(2);
        second.relationships.add(-4);
        for seconds in [0.00005, 0.0003, 7.0] {
            first.latency.observe(seconds);
        }
        all.leave("a");
        let shown = text(&registry);
        for line in [
            "# TYPE inferadb_vault_decisions_total counter",
            r#"inferadb_vault_decisions_total{decision="deny",vault="a"} 3"#,
            r#"inferadb_vault_decisions_total{decision="conditional",vault="a"} 0"#,
            r#"inferadb_vault_relationships_total{vault="a"} -4"#,
            "# TYPE inferadb_vault_latency_seconds histogram",
            r#"inferadb_vault_latency_seconds_bucket{vault="a",le="0.00005"} 1"#,
            r#"inferadb_vault_latency_seconds_bucket{vault="a",le="0.00025"} 1"#,
            r#"inferadb_vault_latency_seconds_bucket{vault="a",le="5"} 2"#,
            r#"inferadb_vault_latency_seconds_bucket{vault="a",le="+Inf"} 3"#,
            r#"inferadb_vault_latency_seconds_sum{vault="a"} 7.00035"#,
            r#"inferadb_vault_latency_seconds_count{vault="a"} 3"#,
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
        }
        all.leave("a");
        assert_eq!(text(&registry), "");
    }

    #[test]
    fn together_they_have_no_vault_label_and_stay() {
        let registry = Registry::new();
        let all = VaultSeries::new(false).unwrap();
        registry.register(Box::new(all.clone())).unwrap();
        all.enter("a").requests.inc();
        all.enter("b").requests.inc();
        all.leave("a");
        let shown = text(&registry);
        assert!(shown.contains("\ninferadb_vault_requests_total 2\n"), "{shown}");
        assert!(!shown.contains("vault="), "{shown}");
    }
}
