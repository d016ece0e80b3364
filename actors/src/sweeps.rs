//! What one sweep leaves for the next to know: when memory was given back to the system, and whether looking for room is in vain.

use std::time::{Duration, Instant};

/// How often memory is given back to the system at most: every thread of actors is busy with it for a while.
const RELEASE_EVERY: Duration = Duration::from_secs(1);
/// For how many times as long as it took a sweep in vain is not repeated: so sweeps take a small part of a thread's time, however
/// many ask for room that is not to be had.
const IN_VAIN_FACTOR: u32 = 10;
/// The longest such time: whoever is inside may leave at any moment.
const LONGEST_IN_VAIN: Duration = Duration::from_millis(100);

/// Held by whoever sweeps.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    released: Option<Instant>,
    /// Whether vaults were evicted since.
    is_release_due: bool,
    in_vain_until: Option<Instant>,
}

impl Sweeps {
    /// Notes how many vaults a sweep evicted; says whether to give memory back now.
    pub(crate) fn evicted(&mut self, count: usize, now: Instant) -> bool {
        self.is_release_due |= count > 0;
        let is_early = self
            .released
            .is_some_and(|released| now.saturating_duration_since(released) < RELEASE_EVERY);
        if !self.is_release_due || is_early {
            return false;
        }
        self.is_release_due = false;
        self.released = Some(now);
        true
    }

    /// Notes that a sweep which began then found too little room.
    pub(crate) fn was_in_vain(&mut self, began: Instant, now: Instant) {
        let took = now.saturating_duration_since(began);
        self.in_vain_until = Some(now + took.saturating_mul(IN_VAIN_FACTOR).min(LONGEST_IN_VAIN));
    }

    /// Whether another sweep for room would most likely be in vain.
    pub(crate) fn is_in_vain(&self, now: Instant) -> bool {
        self.in_vain_until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn memory_is_given_back_once_a_second_and_never_forgotten() {
        let (mut sweeps, start) = (Sweeps::default(), Instant::now());
        let sweeps_of = [
            (0, 0),
            (10, 1),
            (20, 1),
            (900, 0),
            (1_020, 0),
            (1_030, 0),
            (5_000, 3),
        ];
        let released = sweeps_of.map(|(at, evicted)| sweeps.evicted(evicted, start + millis(at)));
        assert_eq!(released, [false, true, false, false, true, false, true]);
    }

    #[test]
    fn a_sweep_in_vain_is_remembered_by_what_it_took() {
        let (mut sweeps, start) = (Sweeps::default(), Instant::now());
        assert!(!sweeps.is_in_vain(start));
        sweeps.was_in_vain(start, start + millis(3));
        assert!(sweeps.is_in_vain(start + millis(32)) && !sweeps.is_in_vain(start + millis(33)));
        sweeps.was_in_vain(start, start + millis(500));
        assert!(sweeps.is_in_vain(start + millis(599)) && !sweeps.is_in_vain(start + millis(600)));
    }
}
