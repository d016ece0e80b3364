//! How the system schedules the threads that answer requests.
//!
//! A thread that commits or compiles runs for milliseconds, and Linux lets it finish its slice, some milliseconds as well, while a request
//! waits for the same core. A thread with a shorter slice is let in before that; what it may use of the core in all stays the same. And
//! Linux may put two threads on one core while another one is free: a thread that is bound to a core of its own does not meet that.

/// Prepares the calling thread for answering requests, as the `number`th that does: asks for the shortest slice that the system grants and,
/// if it is to be pinned, binds it to one of the process's cores. Where the system does not allow it things are as they were.
pub fn prepare(number: usize, pin: bool) {
    #[cfg(target_os = "linux")]
    {
        if let Err(error) = linux::shorten() {
            tracing::debug!(%error, "the thread's slice could not be shortened");
        }
        if pin && let Err(error) = linux::pin(number) {
            tracing::warn!(%error, "a thread that answers requests could not be bound to a core");
        }
    }
    #[cfg(not(target_os = "linux"))]
    if pin {
        tracing::warn!(number, "only Linux binds threads to cores");
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem;

    use libc::{
        SCHED_FLAG_RESET_ON_FORK, SCHED_OTHER, SYS_sched_getattr, SYS_sched_setattr, sched_attr, syscall,
    };
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    /// The least that Linux grants. Before 6.12 it takes note of none.
    const SLICE_NANOS: u64 = 100_000;
    /// The calling thread.
    const THIS: libc::pid_t = 0;

    /// Binds the calling thread to the `number`th core that it may use, counted round.
    pub(super) fn pin(number: usize) -> rustix::io::Result<()> {
        let allowed = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let count = usize::try_from(allowed.count()).unwrap_or(usize::MAX);
        let Some(core) = cores.nth(number % count.max(1)) else {
            return Ok(());
        };
        let mut own = CpuSet::new();
        own.set(core);
        sched_setaffinity(None, &own)
    }

    pub(super) fn shorten() -> io::Result<()> {
        let mut attributes = get()?;
        // Whoever runs the server under another policy knows what for.
        if i32::try_from(attributes.sched_policy) != Ok(SCHED_OTHER) {
            return Ok(());
        }
        attributes.sched_runtime = SLICE_NANOS;
        // Threads that this one starts do long work apart.
        attributes.sched_flags |= u64::from(SCHED_FLAG_RESET_ON_FORK.unsigned_abs());
        set(&attributes)
    }

    #[expect(unsafe_code, reason = "the standard library has no call for it")]
    pub(super) fn get() -> io::Result<sched_attr> {
        let size = mem::size_of::<sched_attr>();
        // SAFETY: it consists of integers, which may be zero.
        let mut attributes: sched_attr = unsafe { mem::zeroed() };
        // SAFETY: the system writes at most `size` bytes there.
        let outcome = unsafe { syscall(SYS_sched_getattr, THIS, &raw mut attributes, size, 0) };
        told(outcome).map(|()| attributes)
    }

    #[expect(unsafe_code, reason = "the standard library has no call for it")]
    fn set(attributes: &sched_attr) -> io::Result<()> {
        // SAFETY: the system reads as many bytes as its member `size` says, which `get` has set.
        told(unsafe { syscall(SYS_sched_setattr, THIS, &raw const *attributes, 0) })
    }

    fn told(outcome: libc::c_long) -> io::Result<()> {
        match outcome {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use inferadb_actors::background;
    use rustix::thread::sched_getaffinity;

    #[test]
    fn the_thread_alone_has_a_shorter_slice() {
        let before = linux::get().unwrap();
        std::thread::spawn(move || {
            prepare(0, false);
            let after = linux::get().unwrap();
            // Systems before 6.12 tell of no slice.
            assert!(
                matches!(after.sched_runtime, 0 | 100_000),
                "{}",
                after.sched_runtime
            );
            assert_eq!(
                (after.sched_policy, after.sched_nice),
                (before.sched_policy, before.sched_nice)
            );
            let started = std::thread::spawn(|| linux::get().unwrap()).join().unwrap();
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
                let pinned = std::thread::spawn(move || {
                    prepare(number, true);
                    let cores = sched_getaffinity(None).unwrap();
                    // What it starts for the background is not bound.
                    let started = std::thread::spawn(|| {
                        background::enter();
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
