//! Rates: so many a second, with bursts of one full request.

use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// The largest request (a batch of checks, a write) always fits an idle limiter's burst.
const LEAST_BURST: u32 = 1_000;

/// Admits so many units a second. The rate can change between calls.
#[derive(Default)]
pub struct Limiter(Mutex<Option<(u32, DefaultDirectRateLimiter)>>);

impl Limiter {
    /// Takes `units` at a rate of `per_second` (0: no limit), or says how long to wait.
    pub fn take(&self, per_second: u32, units: usize) -> Result<(), Duration> {
        let (Some(rate), Some(units)) = (
            NonZeroU32::new(per_second),
            NonZeroU32::new(units.try_into().unwrap_or(u32::MAX)),
        ) else {
            return Ok(());
        };
        let burst = NonZeroU32::new(per_second.max(LEAST_BURST)).unwrap_or(rate);
        let mut held = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if held.as_ref().is_none_or(|(known, _)| *known != per_second) {
            *held = Some((
                per_second,
                RateLimiter::direct(Quota::per_second(rate).allow_burst(burst)),
            ));
        }
        let Some((_, limiter)) = held.as_ref() else {
            return Ok(());
        };
        match limiter.check_n(units.min(burst)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.wait_time_from(DefaultClock::default().now())),
            // Cannot be: the units were cut to the burst.
            Err(_) => Err(Duration::from_secs(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_burst_one_has_to_wait() {
        let limiter = Limiter::default();
        assert!(limiter.take(0, 1_000_000).is_ok(), "0 is no limit");
        assert!(limiter.take(10, 1_000).is_ok());
        let wait = limiter.take(10, 1_000).unwrap_err();
        assert!(
            wait > Duration::from_secs(90),
            "1,000 units at 10 a second: {wait:?}"
        );
        assert!(limiter.take(2_000, 1_000).is_ok(), "a changed rate starts anew");
    }
}
