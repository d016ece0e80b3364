//! The threads that do long work for others: committing, following the log, compiling. Those that answer requests come before them.

use std::cell::Cell;

/// How much nicer than a thread that answers requests: where both want one core, Linux gives such a thread about a tenth of it.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

thread_local! {
    static IS_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// Makes the calling thread one of them, if it is none yet: lets those that answer requests go first, and uses any core that the process may,
/// though the thread that started it was bound to one. Where the system does not allow it things are as they were.
pub fn enter() {
    if !IS_BACKGROUND.replace(true) {
        #[cfg(target_os = "linux")]
        for error in linux::enter(NICER) {
            tracing::debug!(%error, "a thread could not be made one for the background");
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::mem::MaybeUninit;

    use rustix::process::{getpid, getpriority_process, setpriority_process};
    use rustix::thread::{sched_getaffinity, sched_setaffinity};

    /// The nicest that a thread can be.
    const NICEST: i32 = 19;

    /// On Linux all of it is the calling thread's own, and the process's first thread goes by the process's id: what this one has is told by
    /// that, whichever thread started it. Answers what the system did not allow.
    pub(super) fn enter(nicer: i32) -> impl Iterator<Item = io::Error> {
        let process = Some(getpid());
        let nice = getpriority_process(process)
            .and_then(|nice| setpriority_process(None, (nice + nicer).min(NICEST)));
        let cores = sched_getaffinity(process).and_then(|cores| sched_setaffinity(None, &cores));
        let policy = batch();
        [nice.map_err(Into::into), cores.map_err(Into::into), policy]
            .into_iter()
            .filter_map(Result::err)
    }

    /// Makes the calling thread one that takes a core from no other one when it is woken, unless it has another policy than the usual one.
    #[expect(unsafe_code, reason = "the standard library has no call for it")]
    fn batch() -> io::Result<()> {
        const THIS: libc::pid_t = 0;
        // SAFETY: it only reads what the calling thread has.
        let policy = unsafe { libc::sched_getscheduler(THIS) } & !libc::SCHED_RESET_ON_FORK;
        if policy != libc::SCHED_OTHER {
            return Ok(());
        }
        let parameters = MaybeUninit::<libc::sched_param>::zeroed();
        // SAFETY: they consist of integers, which may be zero, and are only read.
        match unsafe { libc::sched_setscheduler(THIS, libc::SCHED_BATCH, parameters.as_ptr()) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn the_thread_alone_is_nicer_and_only_once() {
        let before = getpriority_process(None).unwrap();
        std::thread::spawn(move || {
            enter();
            enter();
            assert_eq!(getpriority_process(None).unwrap(), (before + NICER).min(19));
            let started = std::thread::spawn(|| {
                enter();
                getpriority_process(None).unwrap()
            });
            assert_eq!(started.join().unwrap(), (before + NICER).min(19));
        })
        .join()
        .unwrap();
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
