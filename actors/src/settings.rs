//! How vault actors are tuned: what the configuration says, as the actors need it.

use std::time::Duration;

use inferadb_engine::evaluate;
use inferadb_storage::LogSize;

/// Everything that tunes the vault actors and the registry that runs them.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The decision cache of each vault.
    pub cache: CacheSettings,
    /// How long a vault without requests stays active; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// The most vaults that are active at once.
    pub max_active: usize,
    /// The most bytes one vault may hold in memory.
    pub memory_budget_bytes: usize,
    /// The most bytes all vaults together may hold in memory.
    pub total_memory_bytes: usize,
    /// How long a vault's turn lasts, where requests need more than a small piece of work.
    pub turn: Duration,
    /// How late the threads that answer requests may come, on average, before vaults above their share are refused; `None`: however late.
    pub overload_lag: Option<Duration>,
    /// The threads that answer requests: what an equal share of the CPU is a share of. There are as many for heavy work.
    pub request_threads: usize,
    /// The threads that vault actors live on.
    pub actor_threads: usize,
    /// How often a vault looks for commits of other servers, where there can be any.
    pub poll_interval: Duration,
    /// What a vault without limits of its own is held to.
    pub limits: Limits,
    /// How many change records each vault keeps, and how many bytes of them.
    pub log_kept: LogSize,
    /// How long an archived vault is kept before it is deleted; `None`: for ever.
    pub archived_vault_retention: Option<Duration>,
    /// Whether metrics carry a `vault` label.
    pub per_vault_metrics: bool,
}

/// The decision cache.
#[derive(Debug, Clone, Copy)]
pub struct CacheSettings {
    /// Whether decisions are cached at all.
    pub enabled: bool,
    /// The most decisions a vault keeps.
    pub max_entries: usize,
    /// How long a decision is kept, however well it still holds.
    pub ttl: Duration,
}

/// What one vault's requests are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The deepest nesting of sub-checks in one check.
    pub max_depth: u32,
    /// The most rows and entries one check may visit.
    pub max_work: u64,
    /// The most checks a second; 0: no limit.
    pub checks_per_second: u32,
    /// The most changed relationships a second; 0: no limit.
    pub writes_per_second: u32,
    /// The most watches that are open at once.
    pub max_watches: u32,
    /// The most requests that are under way at once.
    pub max_concurrent_requests: u32,
    /// The most requests that wait for the vault's actor.
    pub mailbox_capacity: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_depth: 100,
            max_work: 1_000_000,
            checks_per_second: 0,
            writes_per_second: 0,
            max_watches: 100,
            max_concurrent_requests: 256,
            mailbox_capacity: 1024,
        }
    }
}

impl Limits {
    /// These limits for the engine, with steps of so much work.
    pub fn for_engine(&self, quantum: u64) -> evaluate::Limits {
        evaluate::Limits {
            max_depth: self.max_depth,
            max_work: self.max_work,
            quantum,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cache: CacheSettings {
                enabled: true,
                max_entries: 10_000,
                ttl: Duration::from_secs(300),
            },
            idle_timeout: Some(Duration::from_secs(900)),
            max_active: 10_000,
            memory_budget_bytes: 64 << 20,
            total_memory_bytes: 2 << 30,
            turn: Duration::from_micros(150),
            overload_lag: Some(Duration::from_millis(25)),
            request_threads: 1,
            actor_threads: 2,
            poll_interval: Duration::from_secs(1),
            limits: Limits::default(),
            log_kept: LogSize {
                records: 100_000,
                bytes: 1 << 30,
            },
            archived_vault_retention: None,
            per_vault_metrics: true,
        }
    }
}
