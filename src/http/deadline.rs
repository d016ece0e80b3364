//! Deadlines of requests: one coarse timer for all that a thread is at work on, since a timer for each costs a good part of a check.

use std::cell::RefCell;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix_web::rt;
use slab::Slab;

/// How often a thread looks at the deadlines it has to keep: none is kept later than by so much.
const TICK: Duration = Duration::from_millis(10);
/// After so many looks in a row that found nothing to wait for, a thread looks no more until there is something.
const IDLE_TICKS: u32 = 100;

thread_local! {
    static WAITING: RefCell<Waiting> = const { RefCell::new(Waiting { entries: Slab::new(), ticking: false }) };
}

/// A future that is given up when its deadline has passed.
#[derive(Debug)]
pub struct Within<F> {
    work: F,
    at: Option<Instant>,
    place: Place,
}

/// The deadline passed before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed;

/// The place of a future among those that wait; it is given back when this is dropped.
#[derive(Debug, Default)]
struct Place(Option<usize>);

/// What waits on one thread.
struct Waiting {
    entries: Slab<Entry>,
    /// Whether a task of the thread looks at them.
    ticking: bool,
}

struct Entry {
    at: Instant,
    waker: Waker,
}

/// The task that looks; whatever ends it, another one can take its place.
struct Ticker;

/// Gives `work` up once `at` has passed, at most [`TICK`] late; never, without a deadline. To be polled on a thread of actix's.
pub fn within<F: Future + Unpin>(at: Option<Instant>, work: F) -> Within<F> {
    Within {
        work,
        at,
        place: Place::default(),
    }
}

impl<F: Future + Unpin> Future for Within<F> {
    type Output = Result<F::Output, Passed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { work, at, place } = &mut *self;
        if let Poll::Ready(output) = Pin::new(work).poll(context) {
            return Poll::Ready(Ok(output));
        }
        if let Some(at) = *at {
            // Most requests are pending once, until their body is read: the clock is not asked for that.
            if place.0.is_some() && at <= Instant::now() {
                return Poll::Ready(Err(Passed));
            }
            place.wait(at, context.waker());
        }
        Poll::Pending
    }
}

impl Place {
    /// Has `waker` woken when `at` has passed.
    fn wait(&mut self, at: Instant, waker: &Waker) {
        // What a waker does when it is dropped is not known: it is dropped when nothing is borrowed any more.
        let (former, start) = WAITING.with_borrow_mut(|waiting| {
            let known = self.0.and_then(|place| waiting.entries.get_mut(place));
            let former = match known {
                Some(entry) if entry.waker.will_wake(waker) => None,
                Some(entry) => Some(mem::replace(&mut entry.waker, waker.clone())),
                None => {
                    let waker = waker.clone();
                    self.0 = Some(waiting.entries.insert(Entry { at, waker }));
                    None
                }
            };
            (former, !mem::replace(&mut waiting.ticking, true))
        });
        drop(former);
        if start {
            rt::spawn(Ticker.run());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(place) = self.0 else { return };
        // While a thread ends there may be nothing left to give it back to.
        let entry = WAITING.try_with(|waiting| waiting.borrow_mut().entries.try_remove(place));
        drop(entry);
    }
}

impl Ticker {
    async fn run(self) {
        let mut idle = 0;
        while idle < IDLE_TICKS {
            rt::time::sleep(TICK).await;
            let now = Instant::now();
            let (due, empty) = WAITING.with_borrow(|waiting| {
                let due = waiting.entries.iter().filter(|(_, entry)| entry.at <= now);
                let due: Vec<Waker> = due.map(|(_, entry)| entry.waker.clone()).collect();
                (due, waiting.entries.is_empty())
            });
            due.into_iter().for_each(Waker::wake);
            idle = if empty { idle + 1 } else { 0 };
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        let _ = WAITING.try_with(|waiting| waiting.borrow_mut().ticking = false);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use actix_web::rt::System;
    use futures_util::future::join_all;

    use super::*;

    fn waiting() -> (usize, bool) {
        WAITING.with_borrow(|waiting| (waiting.entries.len(), waiting.ticking))
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_millis(1))
    }

    #[test]
    fn what_is_ready_never_waits_and_what_is_not_is_given_up() {
        System::new().block_on(async {
            assert_eq!(within(Some(Instant::now()), ready(1)).await, Ok(1));
            assert_eq!(within(None, ready(1)).await, Ok(1));
            assert_eq!(waiting(), (0, false));
            assert_eq!(within(soon(), pending::<()>()).await, Err(Passed));
            let late = join_all((0..100).map(|_| within(soon(), pending::<()>()))).await;
            assert!(late.iter().all(|late| *late == Err(Passed)));
            assert_eq!(waiting(), (0, true), "every place is given back");
        });
        assert_eq!(waiting(), (0, false), "its task ended with the system");
        // A thread that begins anew keeps its deadlines again.
        System::new().block_on(async {
            assert_eq!(within(soon(), pending::<()>()).await, Err(Passed));
        });
    }

    #[test]
    fn work_that_was_pending_ends_before_a_deadline_that_is_far() {
        System::new().block_on(async {
            let far = Some(Instant::now() + Duration::from_secs(3_600));
            let mut polls = 0;
            let work = std::future::poll_fn(|context| {
                polls += 1;
                context.waker().wake_by_ref();
                if polls < 5 {
                    Poll::Pending
                } else {
                    Poll::Ready(polls)
                }
            });
            assert_eq!(within(far, work).await, Ok(5));
            assert_eq!(waiting().0, 0);
            let mut given_up = Box::pin(within(far, pending::<()>()));
            let mut context = Context::from_waker(Waker::noop());
            assert!(given_up.as_mut().poll(&mut context).is_pending());
            assert_eq!(waiting().0, 1);
            drop(given_up);
            assert_eq!(waiting().0, 0, "what is given up waits no more");
        });
    }
}
