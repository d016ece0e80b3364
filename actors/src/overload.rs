//! Overload: when the threads that answer requests, or do what is heavy, come too late, the vaults that use most of the CPU are held to less, the
//! heaviest first, until they come in time again.
//!
//! Each of these threads tells how late it was ([`LagMeter::observe`]). Once in a window the mean of the latest thread is looked
//! at, since a connection stays on its thread. While it is above the limit, a level sinks; a vault that has used more CPU in a window than the level is refused for the rest of it. The level
//! never sinks below an equal share, of the threads' time and of what is used: a vault that uses no more than that is never refused,
//! nor is one that nobody else is there to share with.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix::prelude::*;
use prometheus::Histogram;

use crate::registry::Registry;

/// How often the load is looked at, and the time for which a vault's use is counted.
pub(crate) const WINDOW: Duration = Duration::from_millis(250);
/// Windows in a row with late threads, or with too much in memory, before anybody is refused: a single one may be the machine's,
/// or room may be being made.
const LATE_WINDOWS: u32 = 2;
/// Windows in a row with threads in time before nobody is held any more, if nobody comes near the level.
const CALM_WINDOWS: u32 = 4;

/// How late the threads are, and what is done about it.
#[derive(Debug, Default)]
pub(crate) struct Overload {
    /// Those that measure; one that is dropped measures no more.
    meters: Mutex<Vec<Weak<Lateness>>>,
    brake: Mutex<Brake>,
}

/// How late one thread came to what was due, in the window under way.
#[derive(Debug, Default)]
struct Lateness {
    late_micros: AtomicU64,
    looks: AtomicU64,
    /// Whether it ever looked.
    began: AtomicBool,
}

/// Measures how late one thread that answers requests comes to what is due there.
#[derive(Debug)]
pub struct LagMeter {
    lateness: Arc<Lateness>,
    seconds: Histogram,
}

impl LagMeter {
    /// Notes how much later than it was due the thread came to a task. It is to do so several times in each quarter of a second: if it
    /// does not do so at all, it is taken to be late.
    pub fn observe(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.lateness.late_micros.fetch_add(micros, Ordering::Relaxed);
        self.lateness.looks.fetch_add(1, Ordering::Relaxed);
        self.lateness.began.store(true, Ordering::Relaxed);
        self.seconds.observe(late.as_secs_f64());
    }
}

impl Lateness {
    /// Ends a window: how late the thread was on average.
    fn end_window(&self) -> Duration {
        let late = self.late_micros.swap(0, Ordering::Relaxed);
        match self.looks.swap(0, Ordering::Relaxed) {
            0 if self.began.load(Ordering::Relaxed) => WINDOW,
            looks => Duration::from_micros(late / looks.max(1)),
        }
    }
}

/// What vaults are held to, from one window to the next.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    late: u32,
    calm: u32,
    level: Option<u64>,
    /// Windows in a row in which the vaults held more memory than they may all the time.
    over: u32,
    /// Whether a vault is held because memory is short.
    holds_memory: bool,
    /// When the window under way began.
    began: Option<Instant>,
}

impl Overload {
    /// A meter for one thread, which tells `seconds` what it measures.
    pub(crate) fn meter(&self, seconds: Histogram) -> LagMeter {
        let lateness = Arc::default();
        self.meters().push(Arc::downgrade(&lateness));
        LagMeter { lateness, seconds }
    }

    /// Ends a window: how late the latest thread was on average.
    pub(crate) fn end_window(&self) -> Duration {
        let mut latest = Duration::ZERO;
        self.meters().retain(|meter| {
            let lateness = meter.upgrade();
            latest = latest.max(lateness.as_deref().map_or(Duration::ZERO, Lateness::end_window));
            lateness.is_some()
        });
        latest
    }

    fn meters(&self) -> MutexGuard<'_, Vec<Weak<Lateness>>> {
        self.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn brake(&self) -> MutexGuard<'_, Brake> {
        self.brake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Brake {
    /// Whether nobody is held and no window was late: then what the vaults use need not be known.
    pub(crate) const fn is_released(&self) -> bool {
        self.level.is_none() && self.late == 0 && self.over == 0 && !self.holds_memory
    }

    /// Whether any vault may be held to less than it asks for.
    pub(crate) const fn holds(&self) -> bool {
        self.level.is_some() || self.holds_memory
    }

    /// Ends a window, and begins the next; says how long it was. Threads that are late look late, but the next window may be as long
    /// as any: it is no shorter than one should be.
    pub(crate) fn end_window(&mut self, now: Instant) -> Duration {
        let began = self.began.replace(now);
        let lasted = began.map_or(WINDOW, |began| now.saturating_duration_since(began));
        lasted.max(WINDOW)
    }

    /// Ends a window in which the vaults held more memory than they may all the time, or did not; says whether memory is short. It is not
    /// as long as evictions, and vaults that give up their rows, are at it.
    pub(crate) const fn is_memory_short(&mut self, is_over: bool) -> bool {
        self.over = if is_over { self.over.saturating_add(1) } else { 0 };
        self.over >= LATE_WINDOWS
    }

    /// Notes whether a vault is held in the window that begins because memory is short.
    pub(crate) const fn hold_memory(&mut self, holds: bool) {
        self.holds_memory = holds;
    }

    /// Ends a window in which the vaults used so much each of what all threads had; answers how much each may use in the next,
    /// `None` for any.
    pub(crate) fn next(
        &mut self,
        is_late: bool,
        had: u64,
        used: impl Iterator<Item = u64> + Clone,
    ) -> Option<u64> {
        if is_late {
            self.late += 1;
            self.calm = 0;
        } else {
            self.late = 0;
            self.calm += 1;
        }
        let users = used.clone().filter(|used| *used > 0).count() as u64;
        let equal = used.clone().sum::<u64>().max(had) / users.max(1);
        let most = used.max().unwrap_or(0);
        let sunk = |level: u64| (level - level / 4).max(equal);
        self.level = match self.level {
            // Nobody gains from what a lone one is refused.
            _ if users <= 1 => None,
            None if self.late >= LATE_WINDOWS => Some(sunk(most)),
            None => None,
            Some(level) if is_late => Some(sunk(level.min(most.max(equal)))),
            Some(level) if self.calm >= CALM_WINDOWS && most < level / 2 => None,
            Some(level) => Some(level.saturating_add(level / 4).max(1)),
        };
        self.level
    }
}

/// Looks at the load on a timer.
pub(crate) struct Balancer {
    registry: Registry,
    latest: Option<Instant>,
}

impl Balancer {
    /// One that balances the load of `registry`.
    pub(crate) const fn new(registry: Registry) -> Self {
        Self {
            registry,
            latest: None,
        }
    }
}

impl Actor for Balancer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(WINDOW, |balancer, _| {
            let now = Instant::now();
            // A timer that was held up makes up for it at once: no thread is late because it told nothing in no time.
            let is_window = balancer.latest.is_none_or(|latest| now - latest >= WINDOW / 2);
            if is_window {
                balancer.latest = Some(now);
                balancer.registry.balance();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_late_window_is_no_overload() {
        let mut brake = Brake::default();
        for late in [true, false, true, false] {
            assert_eq!(brake.next(late, 0, [900, 10].into_iter()), None);
        }
        assert!(brake.is_released());
    }

    #[test]
    fn the_heaviest_is_held_first_and_nobody_below_an_equal_share() {
        let mut brake = Brake::default();
        let mut demand = vec![10_000_u64];
        demand.extend([100; 50]);
        demand.push(2_000);
        let mut level: Option<u64> = None;
        let mut levels = Vec::new();
        for _ in 0..60 {
            let used: Vec<u64> = demand
                .iter()
                .map(|wanted| level.map_or(*wanted, |level| level.min(*wanted)))
                .collect();
            level = brake.next(true, 0, used.iter().copied());
            levels.extend(level);
            // Nobody below an equal share of what is used is held.
            let equal = used.iter().sum::<u64>() / used.len() as u64;
            assert!(level.is_none_or(|level| level >= equal), "{levels:?}");
        }
        assert!(levels.is_sorted_by(|before, after| before >= after), "{levels:?}");
        assert!(
            levels.iter().any(|level| (2_000..10_000).contains(level)),
            "the heaviest alone is held first: {levels:?}"
        );
        assert!(levels.iter().all(|level| *level >= 100), "{levels:?}");
    }

    #[test]
    fn equals_are_not_held_to_less_than_they_use() {
        let mut brake = Brake::default();
        for _ in 0..10 {
            let level = brake.next(true, 0, [500; 8].into_iter());
            assert!(level.is_none_or(|level| level >= 500), "{level:?}");
        }
    }

    #[test]
    fn an_equal_share_of_the_threads_is_everybodys() {
        let mut brake = Brake::default();
        for _ in 0..40 {
            // Late for other reasons than these.
            let level = brake.next(true, 10_000, [900, 100, 0, 0].into_iter());
            assert!(level.is_none_or(|level| level >= 5_000), "{level:?}");
        }
    }

    #[test]
    fn nobody_is_held_who_is_alone() {
        let mut brake = Brake::default();
        // What is used is an estimate, and can be more than there was.
        for used in [9_900, 10_000, 10_000, 10_400, 12_000] {
            assert_eq!(brake.next(true, 10_000, [0, used, 0].into_iter()), None);
        }
        let held = brake.next(true, 10_000, [0, 10_000, 10].into_iter());
        assert!(held.is_some_and(|level| level < 10_000), "{held:?}");
        assert_eq!(brake.next(true, 10_000, [0, 7_500, 0].into_iter()), None);
    }

    #[test]
    fn a_window_is_as_long_as_it_was() {
        let (mut brake, start) = (Brake::default(), Instant::now());
        let ends = [0, 250, 650, 700].map(|at| brake.end_window(start + Duration::from_millis(at)));
        assert_eq!(ends.map(|window| window.as_millis()), [250, 250, 400, 250]);
    }

    #[test]
    fn who_was_held_is_let_go_when_it_is_calm() {
        let mut brake = Brake::default();
        for _ in 0..6 {
            brake.next(true, 0, [9_000, 10].into_iter());
        }
        let held = brake.level;
        assert!(held.is_some_and(|level| level < 9_000));
        let mut windows = 0;
        while let Some(level) = brake.next(
            false,
            0,
            [9_000.min(brake.level.unwrap_or(9_000)), 10].into_iter(),
        ) {
            windows += 1;
            assert!(windows < 60, "{level}");
        }
        assert!(windows >= 3);
        assert!(brake.is_released());
    }

    #[test]
    fn memory_is_short_only_if_it_stays_so() {
        let mut brake = Brake::default();
        let short = [true, false, true, true, true, false].map(|is_over| brake.is_memory_short(is_over));
        assert_eq!(short, [false, false, false, true, true, false]);
        assert!(brake.is_released());
    }

    fn meter(overload: &Overload) -> LagMeter {
        let options = prometheus::HistogramOpts::new("lag", "of a test");
        overload.meter(Histogram::with_opts(options).unwrap())
    }

    #[test]
    fn the_mean_of_a_window_is_forgotten_with_it() {
        let overload = Overload::default();
        assert_eq!(overload.end_window(), Duration::ZERO);
        let thread = meter(&overload);
        assert_eq!(overload.end_window(), Duration::ZERO, "it has yet to begin");
        for millis in [10, 20, 30] {
            thread.observe(Duration::from_millis(millis));
        }
        assert_eq!(overload.end_window(), Duration::from_millis(20));
        thread.observe(Duration::ZERO);
        assert_eq!(overload.end_window(), Duration::ZERO);
        drop(thread);
        assert_eq!(overload.end_window(), Duration::ZERO);
    }

    #[test]
    fn one_late_thread_is_late_however_many_are_not() {
        let overload = Overload::default();
        let threads: Vec<_> = (0..8).map(|_| meter(&overload)).collect();
        for thread in &threads {
            for _ in 0..5 {
                thread.observe(Duration::ZERO);
            }
        }
        threads[3].observe(Duration::from_millis(240));
        assert_eq!(overload.end_window(), Duration::from_millis(40));
        // One that does not even come to look.
        for thread in threads.iter().skip(1) {
            thread.observe(Duration::ZERO);
        }
        assert_eq!(overload.end_window(), WINDOW);
    }
}
