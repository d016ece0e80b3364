//! What one sweep leaves for the next to know: whether looking for room is in vain.

use std::time::{Duration, Instant};

/// For how many times as long as it took a sweep in vain is not repeated: so sweeps take a small part of a thread's time, however
/// many ask for room that is not to be had.
const IN_VAIN_FACTOR: u32 = 10;
/// The longest such time: whoever is inside may leave at any moment.
const LONGEST_IN_VAIN: Duration = Duration::from_millis(100);

/// Held by whoever sweeps.
#[derive(Debug, Default)]
pub(crate) struct Sweeps {
    in_vain_until: Option<Instant>,
}

impl Sweeps {
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
    fn a_sweep_in_vain_is_remembered_by_what_it_took() {
        let (mut sweeps, start) = (Sweeps::default(), Instant::now());
        assert!(!sweeps.is_in_vain(start));
        sweeps.was_in_vain(start, start + millis(3));
        assert!(sweeps.is_in_vain(start + millis(32)) && !sweeps.is_in_vain(start + millis(33)));
        sweeps.was_in_vain(start, start + millis(500));
        assert!(sweeps.is_in_vain(start + millis(599)) && !sweeps.is_in_vain(start + millis(600)));
    }
}
