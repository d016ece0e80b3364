//! A finer tick: while long work is under way, the scheduler looks ten thousand times a second whether another thread should have a core.
//!
//! A thread that answers requests is let in before one of the background when it is woken, if it has not had more than its share of the
//! core so far. By a few microseconds it often has, and then Linux looks again at its next tick only: by then the request
//! has waited for up to four milliseconds (`CONFIG_HZ=250`), though its turn came at once. A thread on each core that wakes, and
//! does nothing, has it look in time.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, Once, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;

use super::linux;

/// How often each core's thread wakes. It costs two or three percent of the core, while long work is under way.
const INTERVAL: Duration = Duration::from_micros(100);

static STARTED: Once = Once::new();
/// How many pieces of long work are under way.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
static LOCK: Mutex<()> = Mutex::new(());
static BEGUN: Condvar = Condvar::new();

/// Prepares for long work: starts the threads, once. They come from the calling thread, and come before those of the background only if it
/// does.
pub(super) fn prepare() {
    STARTED.call_once(start);
}

pub(super) fn begin() {
    if UNDER_WAY.fetch_add(1, Ordering::SeqCst) == 0 {
        // Whoever found nothing under way waits already, or looks again first.
        drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
        BEGUN.notify_all();
    }
}

pub(super) fn end() {
    UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
}

fn start() {
    let cores = match linux::cores_of_process() {
        Ok(cores) => cores,
        Err(error) => return tracing::debug!(%error, "the process's cores are not known"),
    };
    for core in linux::numbers(&cores) {
        let started = thread::Builder::new()
            .name(format!("inferadb-tick-{core}"))
            .spawn(move || tick_on(core));
        if let Err(error) = started {
            tracing::debug!(%error, core, "a core has no finer tick");
        }
    }
}

fn tick_on(core: usize) {
    // Without one of these it ticks less exactly, or in vain.
    let prepared = linux::bind(core)
        .and_then(|()| linux::shorten_slice())
        .and_then(|()| Ok(set_current_timer_slack(NonZeroU64::new(1))?));
    if let Err(error) = prepared {
        tracing::debug!(%error, core, "a core's finer tick could not be prepared");
    }
    loop {
        let mut waiting = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        while UNDER_WAY.load(Ordering::SeqCst) == 0 {
            waiting = BEGUN.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        drop(waiting);
        while UNDER_WAY.load(Ordering::SeqCst) > 0 {
            thread::sleep(INTERVAL);
        }
    }
}
