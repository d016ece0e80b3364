//! Who comes first on a core: the threads that answer requests, or those that do long work for others, such as committing, following the
//! log, evaluating what is heavy, or compiling.
//!
//! Where the system does not allow what is asked of it here, or is another one than Linux, things stay as they were.

#[cfg(target_os = "linux")]
mod linux;

use std::cell::Cell;
use std::time::{Duration, Instant};

/// How much nicer than a thread that answers requests: where both want one core, Linux gives such a thread about a tenth of it.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// For how long a thread of the background works before it lets others in.
const BREATH: Duration = Duration::from_micros(50);
/// Who let nobody in for longer has slept meanwhile, most likely, and begins anew.
const REST: Duration = Duration::from_micros(250);

thread_local! {
    /// Since when a thread of the background has let nobody in; `None` of other threads.
    static BUSY_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    /// How long others had the thread's core because it let them.
    static GIVEN_AWAY: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Makes the calling thread one of the background, if it is none yet: lets those that answer requests go first, and uses any core that the
/// process may, though the thread that started it was bound to one.
pub fn enter() {
    if BUSY_SINCE.get().is_none() {
        BUSY_SINCE.set(Some(Instant::now()));
        #[cfg(target_os = "linux")]
        for error in linux::stay_behind(NICER) {
            tracing::debug!(%error, "a thread could not be made one for the background");
        }
    }
}

/// To be called between two pieces of work on a thread of the background: whoever waits for its core is let in.
pub fn give_way() {
    if BUSY_SINCE.get().is_some() {
        give_way_at(Instant::now());
    }
}

fn give_way_at(now: Instant) {
    #[cfg(target_os = "linux")]
    rustix::thread::sched_yield();
    let back = Instant::now();
    GIVEN_AWAY.set(GIVEN_AWAY.get() + back.saturating_duration_since(now));
    BUSY_SINCE.set(Some(back));
}

/// How long others had the calling thread's core so far because it let them: no work of its own.
pub fn given_away() -> Duration {
    GIVEN_AWAY.get()
}

/// To be called in the loops of long work, wherever it is done: on a thread of the background, whoever waits for its core is let in some
/// twenty thousand times a second.
pub fn breathe() {
    let Some(since) = BUSY_SINCE.get() else { return };
    let now = Instant::now();
    let busy = now.saturating_duration_since(since);
    if busy >= REST {
        BUSY_SINCE.set(Some(now));
    } else if busy >= BREATH {
        give_way_at(now);
    }
}

/// Prepares the calling thread for answering requests, as the `number`th that does: asks for the shortest slice that the system grants and,
/// if it is to be pinned, binds it to one of the process's cores.
///
/// A thread of the background that runs would otherwise finish its slice, some milliseconds, before the request is let in. What the
/// thread may use of the core in all stays the same.
pub fn answer_requests(number: usize, pin: bool) {
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = linux::shorten_slice() {
            tracing::debug!(%error, "the thread's slice could not be shortened");
        }
        if pin && let Err(error) = pin_to_nth(number) {
            tracing::warn!(%error, "a thread that answers requests could not be bound to a core");
        }
    }
    #[cfg(not(target_os = "linux"))]
    if pin {
        tracing::warn!(number, "only Linux binds threads to cores");
    }
}

/// Binds the calling thread to the `number`th core that the process may use, counted round.
#[cfg(target_os = "linux")]
fn pin_to_nth(number: usize) -> std::io::Result<()> {
    let cores: Vec<usize> = linux::numbers(&linux::cores_of_process()?).collect();
    let core = cores.get(number % cores.len().max(1));
    core.map_or(Ok(()), |core| linux::bind(*core))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rustix::process::getpriority_process;
    use rustix::thread::sched_getaffinity;

    use super::*;

    #[test]
    fn a_thread_of_the_background_alone_is_nicer_and_only_once() {
        let before = getpriority_process(None).unwrap();
        thread::spawn(move || {
            enter();
            enter();
            assert_eq!(getpriority_process(None).unwrap(), (before + NICER).min(19));
            assert_eq!(
                linux::get().unwrap().sched_policy,
                libc::SCHED_BATCH.unsigned_abs()
            );
            let started = thread::spawn(|| {
                enter();
                getpriority_process(None).unwrap()
            });
            assert_eq!(started.join().unwrap(), (before + NICER).min(19));
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(None).unwrap(), before);
    }

    #[test]
    fn long_work_lets_others_in_when_it_has_gone_on_for_a_while_and_in_the_background_alone() {
        breathe();
        assert!(BUSY_SINCE.get().is_none());
        thread::spawn(|| {
            enter();
            let begun = BUSY_SINCE.get().unwrap();
            // Until it has gone on for so long, nothing happens.
            while BUSY_SINCE.get() == Some(begun) {
                breathe();
            }
            assert!(begun.elapsed() >= BREATH);
            let since = BUSY_SINCE.get().unwrap();
            assert!(since >= begun + BREATH);
            give_way();
            assert!(BUSY_SINCE.get().unwrap() > since);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn whoever_gives_way_lets_those_in_who_wait_for_the_core() {
        let switches = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let mut lines = status.lines();
            let count = lines.find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
            count.unwrap().trim().parse::<u64>().unwrap()
        };
        let core = linux::numbers(&sched_getaffinity(None).unwrap()).next().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                linux::bind(core).unwrap();
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            scope.spawn(|| {
                enter();
                let bound = linux::bind(core);
                let before = switches();
                // So many are made within a moment, in which the system by itself switches a few times at most.
                for _ in 0..2_000 {
                    give_way();
                    if switches() >= before + 50 {
                        break;
                    }
                }
                let after = switches();
                // Before anything can fail: the other one would go on for ever.
                done.store(true, Ordering::Relaxed);
                bound.unwrap();
                assert!(after >= before + 50, "{before} and {after}");
                assert!(given_away() > Duration::ZERO);
            });
        });
    }

    #[test]
    fn a_thread_that_answers_requests_alone_has_a_shorter_slice() {
        let before = linux::get().unwrap();
        thread::spawn(move || {
            answer_requests(0, false);
            let after = linux::get().unwrap();
            // Systems before 6.12 tell of no slice.
            assert!(
                matches!(after.sched_runtime, 0 | linux::SHORTEST_SLICE_NANOS),
                "{}",
                after.sched_runtime
            );
            assert_eq!(
                (after.sched_policy, after.sched_nice),
                (before.sched_policy, before.sched_nice)
            );
            let started = thread::spawn(|| linux::get().unwrap()).join().unwrap();
            assert_eq!(started.sched_runtime, before.sched_runtime);
        })
        .join()
        .unwrap();
        assert_eq!(linux::get().unwrap().sched_runtime, before.sched_runtime);
    }

    #[test]
    fn a_pinned_thread_has_one_core_and_the_next_another() {
        let allowed = sched_getaffinity(None).unwrap().count();
        let cores: Vec<_> = (0..2)
            .map(|number| {
                let pinned = thread::spawn(move || {
                    answer_requests(number, true);
                    let cores = sched_getaffinity(None).unwrap();
                    // What it starts for the background is not bound.
                    let started = thread::spawn(|| {
                        enter();
                        sched_getaffinity(None).unwrap().count()
                    });
                    assert_eq!(started.join().unwrap(), allowed);
                    cores
                });
                pinned.join().unwrap()
            })
            .collect();
        assert!(cores.iter().all(|cores| cores.count() == 1));
        assert_eq!(cores[0] == cores[1], allowed == 1);
        assert_eq!(sched_getaffinity(None).unwrap().count(), allowed);
    }
}
