//! What the operator decides about tokens and keys, with the defaults that hold when nothing is said.

use std::time::Duration;

use super::error::StartError;

/// How tokens are judged and how the key set is kept. [`AuthSettings::default`] names no provider and no audience:
/// those two have to be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// Where the key set is: an `http:`, `https:` or `file:` URL, or the bare path of a file.
    pub jwks_url: Option<String>,
    /// The only `iss` that is accepted, compared byte for byte. `None` accepts any issuer whose key is in the set.
    pub issuer: Option<String>,
    /// A token is for us when its `aud` names one of these, compared byte for byte.
    pub audiences: Vec<String>,
    /// How long a fetched key set counts as fresh; also the longest time a key can outlive its removal while the
    /// provider answers.
    pub cache_ttl: Duration,
    /// How often the key set is fetched again while all is well.
    pub refresh_interval: Duration,
    /// The hard cap: with no successful fetch for this long the set is closed and every token is refused with
    /// [`AuthError::KeysUnavailable`](super::AuthError::KeysUnavailable).
    pub max_stale: Duration,
    /// The shortest time between two fetches that unknown keys caused. A `refresh_interval` below it lowers it.
    pub min_refetch: Duration,
    /// How far the provider's clock may differ from ours. Whole seconds count.
    pub clock_skew: Duration,
    /// How many verified tokens are remembered; 0 remembers none.
    pub token_cache_entries: usize,
}

impl AuthSettings {
    /// The interval that is truly kept: a set is never left to grow older than its time to live on purpose.
    pub(super) fn effective_refresh(&self) -> Duration {
        self.refresh_interval.min(self.cache_ttl)
    }

    /// The floor between fetches for unknown keys; an operator who refreshes more often has lowered it too.
    pub(super) fn effective_floor(&self) -> Duration {
        self.min_refetch.min(self.effective_refresh())
    }

    pub(super) fn clock_skew_seconds(&self) -> i64 {
        i64::try_from(self.clock_skew.as_secs()).unwrap_or(i64::MAX)
    }

    /// Refuses settings under which no token could ever be accepted or a timer would never rest.
    pub(super) fn verify(&self) -> Result<(), StartError> {
        if self.audiences.iter().all(String::is_empty) {
            return Err(StartError::NoAudience);
        }
        let durations = [
            ("refresh interval", self.refresh_interval),
            ("cache time to live", self.cache_ttl),
            ("hard cap on stale keys", self.max_stale),
        ];
        match durations.into_iter().find(|(_, duration)| duration.is_zero()) {
            Some((name, _)) => Err(StartError::ZeroDuration(name)),
            None => Ok(()),
        }
    }
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            jwks_url: None,
            issuer: None,
            audiences: Vec::new(),
            cache_ttl: Duration::from_secs(3_600),
            refresh_interval: Duration::from_secs(300),
            max_stale: Duration::from_secs(86_400),
            min_refetch: Duration::from_secs(30),
            clock_skew: Duration::from_secs(60),
            token_cache_entries: 10_000,
        }
    }
}
