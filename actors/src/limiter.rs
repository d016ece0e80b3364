//! Rates: so many units a second, with bursts of one second's worth.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A bucket that leaks so many units a second and holds one second's worth. The rate can change between calls: what is
/// in the bucket then stays as many seconds' worth if the rate falls, so that nobody is locked out by what was within
/// the rate when it was taken.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<Bucket>);

#[derive(Debug, Default)]
struct Bucket {
    units: f64,
    /// The rate that they were taken at, and when they last leaked.
    leaked: Option<(u32, Instant)>,
}

impl Limiter {
    /// Takes `units` at a rate of `per_second` (0: no limit), or says how long to wait. A request larger than the bucket
    /// is admitted when the bucket is empty, and later ones wait until it has leaked.
    pub fn take(&self, per_second: u32, units: usize) -> Result<(), Duration> {
        self.take_at(per_second, units, Instant::now())
    }

    /// Adds units that were spent already, whatever the bucket holds.
    pub fn owe(&self, per_second: u32, units: usize) {
        if per_second > 0 {
            self.bucket(per_second, Instant::now()).units += count(units);
        }
    }

    fn take_at(&self, per_second: u32, units: usize, now: Instant) -> Result<(), Duration> {
        if per_second == 0 || units == 0 {
            return Ok(());
        }
        let rate = f64::from(per_second);
        let units = count(units);
        let mut bucket = self.bucket(per_second, now);
        let over = bucket.units + units.min(rate) - rate;
        // Less than a thousandth of a unit is the arithmetic's, not the caller's.
        if over > 0.001 {
            return Err(Duration::from_secs_f64(over / rate));
        }
        bucket.units += units;
        Ok(())
    }

    /// Whether all that was taken has leaked by `now`: then the limiter is as good as a new one.
    pub(crate) fn is_spent_out(&self, now: Instant) -> bool {
        let bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.leaked.is_none_or(|(rate, before)| {
            let elapsed = now.saturating_duration_since(before);
            bucket.units <= elapsed.as_secs_f64() * f64::from(rate)
        })
    }

    /// The bucket, leaked up to `now`.
    fn bucket(&self, per_second: u32, now: Instant) -> MutexGuard<'_, Bucket> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = now;
        if let Some((rate, before)) = bucket.leaked {
            // Others may have had the lock in between: time does not go back.
            at = now.max(before);
            let elapsed = at.saturating_duration_since(before).as_secs_f64();
            bucket.units = (bucket.units - elapsed * f64::from(rate)).max(0.0);
            if per_second < rate {
                bucket.units *= f64::from(per_second) / f64::from(rate);
            }
        }
        bucket.leaked = Some((per_second, at));
        bucket
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "units of one request stay far below 2^53"
)]
fn count(units: usize) -> f64 {
    units as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holds_its_rate_and_no_more() {
        let limiter = Limiter::default();
        let start = Instant::now();
        assert!(limiter.take_at(0, 1_000_000, start).is_ok(), "0 is no limit");
        for _ in 0..5 {
            assert!(limiter.take_at(5, 1, start).is_ok());
        }
        let wait = limiter.take_at(5, 1, start).unwrap_err();
        assert!(wait <= Duration::from_millis(201), "{wait:?}");
        assert!(limiter.take_at(5, 1, start + wait).is_ok());
        assert!(limiter.take_at(5, 1, start + wait).is_err());
    }

    #[test]
    fn a_large_request_is_paid_for_by_later_ones() {
        let limiter = Limiter::default();
        let start = Instant::now();
        assert!(
            limiter.take_at(10, 1_000, start).is_ok(),
            "an empty bucket takes a large request"
        );
        let wait = limiter.take_at(10, 1, start).unwrap_err();
        assert!(
            wait > Duration::from_secs(99),
            "1,000 units at 10 a second: {wait:?}"
        );
        assert!(limiter.take_at(10, 1, start + Duration::from_secs(100)).is_ok());
    }

    #[test]
    fn what_was_spent_is_owed() {
        let limiter = Limiter::default();
        limiter.owe(10, 500);
        assert!(limiter.take(10, 1).is_err());
        limiter.owe(0, 500);
    }

    #[test]
    fn a_rate_that_falls_locks_nobody_out_for_what_was_within_it() {
        let limiter = Limiter::default();
        let start = Instant::now();
        assert!(limiter.take_at(20_000, 20_000, start).is_ok());
        let wait = limiter.take_at(10, 1, start).unwrap_err();
        assert!(wait <= Duration::from_millis(101), "{wait:?}");
        // Debts stay as long as they were.
        limiter
            .take_at(10, 1_000, start + Duration::from_secs(2))
            .unwrap();
        let wait = limiter.take_at(5, 1, start + Duration::from_secs(2)).unwrap_err();
        assert!(wait > Duration::from_secs(99), "{wait:?}");
        // One that rises lets them leak the sooner.
        let wait = limiter
            .take_at(100, 1, start + Duration::from_secs(2))
            .unwrap_err();
        assert!(wait < Duration::from_secs(6), "{wait:?}");
    }

    #[test]
    fn who_looked_at_the_clock_earlier_gives_no_time_twice() {
        let limiter = Limiter::default();
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        limiter.take_at(10, 10, start).unwrap();
        limiter.take_at(10, 10, later).unwrap();
        assert!(limiter.take_at(10, 1, start).is_err());
        assert!(
            limiter.take_at(10, 1, later).is_err(),
            "the second has leaked already"
        );
    }

    #[test]
    fn all_of_it_leaks_in_time() {
        let limiter = Limiter::default();
        let start = Instant::now();
        assert!(limiter.is_spent_out(start));
        limiter.take_at(10, 20, start).unwrap();
        assert!(!limiter.is_spent_out(start + Duration::from_millis(1_999)));
        assert!(limiter.is_spent_out(start + Duration::from_secs(2)));
    }
}
