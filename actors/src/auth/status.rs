//! What authentication counts, and what readiness and the metrics page are told about it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntCounter, IntCounterVec, Opts, Registry};

use super::error::{AuthError, Refusal};
use super::shared::Shared;
use super::source::FetchError;

/// How authentication fares, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether tokens can be verified: a key set was loaded, and the hard cap has not passed.
    pub ready: bool,
    /// How many usable keys the last good key set has; 0 if there never was one.
    pub keys: usize,
    /// How long ago the last successful fetch began.
    pub age: Option<Duration>,
    /// Whether that is longer than a key set's time to live: the provider is away and its old keys are served.
    pub stale: bool,
    /// Why the last fetch failed; `None` after one that did not.
    pub last_error: Option<String>,
    /// Tokens whose signature was verified and whose claims passed.
    pub tokens_verified: u64,
    /// Tokens answered from the cache.
    pub tokens_cached: u64,
    /// Tokens that met no usable key set.
    pub tokens_unavailable: u64,
    /// Tokens refused, by the word of the rule that they broke; rules that none broke are left out.
    pub tokens_refused: Vec<(&'static str, u64)>,
    /// Fetches of the key set that brought one.
    pub fetches: u64,
    /// Fetches of the key set that did not.
    pub fetch_failures: u64,
}

impl Status {
    pub(super) fn of(shared: &Shared) -> Self {
        let published = shared.last_published();
        let age = published.as_ref().map(|published| published.fetched_at.elapsed());
        let counters = &shared.counters;
        Self {
            ready: age.is_some_and(|age| age < shared.settings.max_stale),
            keys: published.as_ref().map_or(0, |published| published.keys.len()),
            age,
            stale: age.is_some_and(|age| age >= shared.settings.cache_ttl),
            last_error: shared.last_error(),
            tokens_verified: counters.verified.get(),
            tokens_cached: counters.cached.get(),
            tokens_unavailable: counters.unavailable.get(),
            tokens_refused: counters
                .refused
                .iter()
                .map(|(refusal, counter)| (refusal.word(), counter.get()))
                .filter(|(_, count)| *count > 0)
                .collect(),
            fetches: counters.fetched.get(),
            fetch_failures: counters
                .fetch_failed
                .iter()
                .map(|(_, counter)| counter.get())
                .sum(),
        }
    }
}

/// The counters, each resolved once: counting is one addition.
pub(super) struct Counters {
    pub(super) cached: IntCounter,
    pub(super) verified: IntCounter,
    unavailable: IntCounter,
    refused: Vec<(Refusal, IntCounter)>,
    fetched: IntCounter,
    fetch_failed: Vec<(&'static str, IntCounter)>,
    tokens: IntCounterVec,
    fetches: IntCounterVec,
}

impl Counters {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str| IntCounterVec::new(Opts::new(name, help), &["result"]);
        let tokens = counters(
            "inferadb_auth_tokens_total",
            "Bearer tokens, by what became of them.",
        )?;
        let fetches = counters(
            "inferadb_jwks_fetches_total",
            "Fetches of the key set, by outcome.",
        )?;
        let refused = Refusal::ALL
            .iter()
            .map(|refusal| (*refusal, tokens.with_label_values(&[refusal.word()])));
        let failed = FetchError::WORDS
            .into_iter()
            .map(|word| (word, fetches.with_label_values(&[word])));
        Ok(Self {
            cached: tokens.with_label_values(&["cached"]),
            verified: tokens.with_label_values(&["verified"]),
            unavailable: tokens.with_label_values(&[AuthError::KeysUnavailable.word()]),
            refused: refused.collect(),
            fetched: fetches.with_label_values(&["ok"]),
            fetch_failed: failed.collect(),
            tokens,
            fetches,
        })
    }

    pub(super) fn count_refused(&self, error: AuthError) {
        match error.reason() {
            None => self.unavailable.inc(),
            Some(reason) => {
                let counter = self.refused.iter().find(|(refusal, _)| *refusal == reason);
                counter.iter().for_each(|(_, counter)| counter.inc());
            }
        }
    }

    pub(super) fn count_fetch(&self, outcome: Result<(), &FetchError>) {
        match outcome {
            Ok(()) => self.fetched.inc(),
            Err(error) => {
                let counter = self.fetch_failed.iter().find(|(word, _)| *word == error.word());
                counter.iter().for_each(|(_, counter)| counter.inc());
            }
        }
    }
}

/// Registers the counters and the two gauges of the key set.
pub(super) fn register(shared: &Arc<Shared>, registry: &Registry) -> Result<(), prometheus::Error> {
    registry.register(Box::new(shared.counters.tokens.clone()))?;
    registry.register(Box::new(shared.counters.fetches.clone()))?;
    registry.register(Box::new(KeySetGauges::new(shared)?))
}

/// How many keys there are and how old they are, worked out when somebody asks: an age kept by a timer would be wrong
/// exactly when the timer has died.
struct KeySetGauges {
    shared: Weak<Shared>,
    keys: Gauge,
    age: Gauge,
}

impl KeySetGauges {
    fn new(shared: &Arc<Shared>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            shared: Arc::downgrade(shared),
            keys: Gauge::new("inferadb_jwks_keys", "Usable keys in the key set.")?,
            age: Gauge::new(
                "inferadb_jwks_age_seconds",
                "Seconds since the key set was last fetched with success.",
            )?,
        })
    }
}

impl Collector for KeySetGauges {
    fn desc(&self) -> Vec<&Desc> {
        [self.keys.desc(), self.age.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let published = self.shared.upgrade().and_then(|shared| shared.last_published());
        self.keys.set(
            published
                .as_ref()
                .map_or(0.0, |published| published.keys.len() as f64),
        );
        let mut families = self.keys.collect();
        // No age is no series, rather than one that looks fresh.
        if let Some(published) = published {
            self.age.set(published.fetched_at.elapsed().as_secs_f64());
            families.extend(self.age.collect());
        }
        families
    }
}
