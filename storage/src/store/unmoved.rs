//! For how long something that any server may write has stood unchanged, by the clock of this process alone.
//!
//! The clocks of servers can be any time apart, so none says to another until when something holds. Whoever holds it keeps
//! changing what is stored; whoever waits for its end has seen it unchanged for so long.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// The most things that are kept an eye on. What is beyond them counts as just seen.
const MAX_SEEN: usize = 100_000;

/// What has been seen under each key, and since when.
#[derive(Debug)]
pub(super) struct Unmoved<K, V> {
    seen: HashMap<K, Seen<V>>,
    /// What was not looked at for this long is forgotten.
    kept: Duration,
    tidied: Option<Instant>,
}

#[derive(Debug)]
struct Seen<V> {
    value: V,
    since: Instant,
    looked: Instant,
}

impl<K: Eq + Hash, V: Eq> Unmoved<K, V> {
    pub(super) fn new(kept: Duration) -> Self {
        Self {
            seen: HashMap::new(),
            kept,
            tidied: None,
        }
    }

    /// For how long `key` has had this value, as far as was looked. `now` is to be no earlier than when it was read.
    pub(super) fn age(&mut self, key: K, value: V, now: Instant) -> Duration {
        self.tidy(now);
        let is_full = self.seen.len() >= MAX_SEEN;
        match self.seen.get_mut(&key) {
            Some(seen) if seen.value == value => {
                seen.looked = now;
                return now.saturating_duration_since(seen.since);
            }
            None if is_full => return Duration::ZERO,
            _ => {}
        }
        let seen = Seen {
            value,
            since: now,
            looked: now,
        };
        self.seen.insert(key, seen);
        Duration::ZERO
    }

    fn tidy(&mut self, now: Instant) {
        let tidied = *self.tidied.get_or_insert(now);
        if now.saturating_duration_since(tidied) >= self.kept {
            let kept = self.kept;
            self.seen
                .retain(|_, seen| now.saturating_duration_since(seen.looked) < kept);
            self.tidied = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_changes_is_young_again_and_what_stays_grows_old() {
        let start = Instant::now();
        let mut unmoved = Unmoved::new(60 * SECOND);
        assert_eq!(unmoved.age("a", 1, start), Duration::ZERO);
        assert_eq!(unmoved.age("b", 1, start + SECOND), Duration::ZERO);
        assert_eq!(unmoved.age("a", 1, start + 7 * SECOND), 7 * SECOND);
        assert_eq!(unmoved.age("a", 2, start + 8 * SECOND), Duration::ZERO);
        assert_eq!(unmoved.age("a", 1, start + 9 * SECOND), Duration::ZERO);
        assert_eq!(unmoved.age("b", 1, start + 9 * SECOND), 8 * SECOND);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_and_there_is_a_limit() {
        let start = Instant::now();
        let mut unmoved = Unmoved::new(60 * SECOND);
        for key in 0..MAX_SEEN {
            unmoved.age(key, 1, start);
        }
        assert_eq!(unmoved.age(MAX_SEEN, 1, start), Duration::ZERO);
        assert_eq!(unmoved.age(MAX_SEEN, 1, start + 9 * SECOND), Duration::ZERO);
        assert_eq!(unmoved.age(1, 1, start + 9 * SECOND), 9 * SECOND);
        assert_eq!(unmoved.age(1, 1, start + 61 * SECOND), 61 * SECOND);
        assert_eq!(unmoved.seen.len(), 1);
        assert_eq!(unmoved.age(2, 1, start + 61 * SECOND), Duration::ZERO);
    }
}
