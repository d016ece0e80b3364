//! Turns: how the vaults share a thread.
//!
//! A request does a small piece of work at once: a typical check is done within it. What needs more goes on in turns, most of it on the
//! threads for heavy work ([`crate::heavy`]). Vaults take them one after the other, however many requests each has, and between two
//! turns the thread looks for what has arrived: so a light check waits for one short turn at most, not for all the heavy requests
//! of a neighbour.

mod lanes;
mod moving;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use inferadb_storage::VaultId;
use inferadb_storage::background;
use prometheus::IntCounter;

use self::lanes::{Lanes, Waiter};
pub(crate) use self::moving::{Polled, poll_before_turns};

/// Work done before the first turn, and between two looks at the clock within one: some 25 to 60 microseconds' worth.
pub const PIECE: u64 = 256;
/// What a unit of work is taken to cost before the first turn, in nanoseconds.
const NANOS_A_WORK: u64 = 150;

thread_local! {
    static LANES: RefCell<Arc<Shared>> = RefCell::default();
}

/// The lanes of a thread. A future that is moved to another thread still knows those that it waits in.
#[derive(Debug, Default)]
struct Shared {
    lanes: Mutex<Lanes>,
}

/// One request's part in the turns of its thread. Dropping it gives up its turn, or its place.
pub struct Turn<'v> {
    vault: VaultId,
    longest: Duration,
    /// Where the nanoseconds of its turns are added up.
    used: &'v AtomicU64,
    /// How many requests of the vault are in lanes, of whichever threads.
    inside: &'v AtomicUsize,
    turns: &'v IntCounter,
    /// Work since the request began, or since the latest look at the clock in its turn.
    work: u64,
    state: State,
}

enum State {
    /// Before the first turn.
    AtOnce,
    /// In the lanes.
    Inside(Inside),
    /// Between two turns, waiting for something else.
    Away,
}

struct Inside {
    shared: Arc<Shared>,
    waiter: Arc<Waiter>,
    /// Since when it has the turn, and how much of the core the thread had given away by then.
    since: Option<(Instant, Duration)>,
}

impl Inside {
    /// How long the turn has taken by `now`, but for what others had of the core meanwhile; `None` before it has begun.
    fn took(&self, now: Instant) -> Option<Duration> {
        let (since, given) = self.since?;
        let others = background::given_away().saturating_sub(given);
        Some(now.saturating_duration_since(since).saturating_sub(others))
    }
}

impl<'v> Turn<'v> {
    /// A request of `vault`, whose turns last at least one piece of work and end as soon as they took `longest`.
    pub const fn new(
        vault: VaultId,
        longest: Duration,
        (used, inside): (&'v AtomicU64, &'v AtomicUsize),
        turns: &'v IntCounter,
    ) -> Self {
        Self {
            vault,
            longest,
            used,
            inside,
            turns,
            work: 0,
            state: State::AtOnce,
        }
    }

    /// As [`Turn::new`], but of work that is known to be heavy: even the first piece waits for a turn.
    pub const fn of_heavy_work(
        vault: VaultId,
        longest: Duration,
        (used, inside): (&'v AtomicU64, &'v AtomicUsize),
        turns: &'v IntCounter,
    ) -> Self {
        Self {
            vault,
            longest,
            used,
            inside,
            turns,
            work: 0,
            state: State::Away,
        }
    }

    /// To be called before work that can be heavy: waits for a turn where others of the same vault do, on whichever thread. Their
    /// vault is at its share already.
    pub async fn begin(&mut self) {
        let is_inside = match self.state {
            State::AtOnce => self.inside.load(Ordering::Relaxed) > 0,
            State::Inside(_) => false,
            State::Away => true,
        };
        if is_inside {
            self.next().await;
        }
    }

    /// To be called before heavy work that is done in one piece: waits for a turn, unless it has one.
    pub async fn take(&mut self) {
        if !matches!(self.state, State::Inside(_)) {
            self.next().await;
        }
    }

    /// Counts work that was done; when the turn is over, waits for the next.
    pub async fn pace(&mut self, work: u64) {
        self.count(work);
        if self.is_over() {
            self.next().await;
        }
    }

    /// Counts work that was done.
    pub const fn count(&mut self, work: u64) {
        self.work = self.work.saturating_add(work);
    }

    /// Waits for something else than a turn. Whoever has one gives it up as soon as the waiting is not over at once.
    pub async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        poll_fn(|task| match other.as_mut().poll(task) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => {
                self.pause();
                Poll::Pending
            }
        })
        .await
    }

    /// Gives up the turn, if it has one, until the next call of [`Turn::pace`].
    pub fn pause(&mut self) {
        if let State::Inside(_) = self.state {
            self.leave();
            self.state = State::Away;
        }
    }

    fn is_over(&mut self) -> bool {
        match &self.state {
            State::AtOnce => self.work >= PIECE,
            State::Inside(inside) => {
                if self.work < PIECE {
                    return false;
                }
                self.work = 0;
                inside
                    .took(Instant::now())
                    .is_none_or(|took| took >= self.longest)
            }
            State::Away => true,
        }
    }

    async fn next(&mut self) {
        self.leave();
        moving::where_turns_are_taken().await;
        let shared = here();
        let waiter = shared.lock().enter(self.vault, Instant::now());
        self.inside.fetch_add(1, Ordering::Relaxed);
        self.state = State::Inside(Inside {
            shared,
            waiter: Arc::clone(&waiter),
            since: None,
        });
        poll_fn(|task| match waiter.is_granted(task.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
        // The thread looks for what has arrived before it comes back to this task.
        tokio::task::yield_now().await;
        background::give_way();
        self.turns.inc();
        self.work = 0;
        if let State::Inside(inside) = &mut self.state {
            let now = Instant::now();
            inside.since = Some((now, background::given_away()));
            inside.shared.lock().begin(&inside.waiter, now);
        }
    }

    fn leave(&mut self) {
        let inside = match &mut self.state {
            State::Inside(inside) => inside,
            State::AtOnce if self.work > 0 => {
                // No clock ran: it costs as much as the smallest of these pieces of work.
                self.charge(self.work.saturating_mul(NANOS_A_WORK));
                self.state = State::Away;
                return;
            }
            State::AtOnce | State::Away => return,
        };
        let now = Instant::now();
        let took = inside.took(now).unwrap_or_default();
        inside.since = None;
        inside.shared.lock().leave(&inside.waiter, took, now);
        self.inside.fetch_sub(1, Ordering::Relaxed);
        self.charge(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.state = State::Away;
    }

    fn charge(&self, nanos: u64) {
        self.used.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn here() -> Arc<Shared> {
    LANES.with_borrow(Arc::clone)
}
