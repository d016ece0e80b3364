//! What Linux is asked for: who comes first on a core, and which cores a thread may use.

use std::io;
use std::mem;

use libc::{
    SCHED_BATCH, SCHED_FLAG_RESET_ON_FORK, SCHED_OTHER, SYS_sched_getattr, SYS_sched_setattr, sched_attr,
    syscall,
};
use rustix::process::{getpid, getpriority_process, setpriority_process};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The least slice that Linux grants. Before 6.12 it takes note of none.
pub(super) const SHORTEST_SLICE_NANOS: u64 = 100_000;
/// The slice of a thread of the background: longer than that of one that answers requests, which is let in for that. No longer than need be:
/// some systems count what is left of it as used when the thread gives way.
const SHORT_SLICE_NANOS: u64 = 110_000;
/// The nicest that a thread can be.
const NICEST: i32 = 19;
/// The calling thread.
const THIS: libc::pid_t = 0;

/// Asks for the shortest slice there is, unless the thread has a policy of its own: whoever runs the process under another one knows
/// what for.
pub(super) fn shorten_slice() -> io::Result<()> {
    let mut attributes = get()?;
    if !has_policy(&attributes, SCHED_OTHER) {
        return Ok(());
    }
    attributes.sched_runtime = SHORTEST_SLICE_NANOS;
    // Threads that this one starts do long work apart.
    attributes.sched_flags |= u64::from(SCHED_FLAG_RESET_ON_FORK.unsigned_abs());
    set(&attributes)
}

/// Makes the calling thread so much nicer than the process, lets it use every core that the process may, and has it take a core from no
/// other thread when it is woken. The process's first thread goes by the process's id: what that one has is told by it, whichever
/// thread started the calling one. Answers what the system did not allow.
pub(super) fn stay_behind(nicer: i32) -> impl Iterator<Item = io::Error> {
    let nice = getpriority_process(Some(getpid()))
        .and_then(|nice| setpriority_process(None, (nice + nicer).min(NICEST)))
        .map_err(io::Error::from);
    let cores = cores_of_process().and_then(|cores| Ok(sched_setaffinity(None, &cores)?));
    let policy = get().and_then(|mut attributes| {
        if !has_policy(&attributes, SCHED_OTHER) {
            return Ok(());
        }
        attributes.sched_policy = SCHED_BATCH.unsigned_abs();
        // Whoever gives way gives up what is left of its slice: no more than so much.
        attributes.sched_runtime = SHORT_SLICE_NANOS;
        set(&attributes)
    });
    [nice, cores, policy].into_iter().filter_map(Result::err)
}

/// The cores that the process may use.
pub(super) fn cores_of_process() -> io::Result<CpuSet> {
    Ok(sched_getaffinity(Some(getpid()))?)
}

/// Binds the calling thread to one core.
pub(super) fn bind(core: usize) -> io::Result<()> {
    let mut own = CpuSet::new();
    own.set(core);
    Ok(sched_setaffinity(None, &own)?)
}

/// The numbers of some cores.
pub(super) fn numbers(cores: &CpuSet) -> impl Iterator<Item = usize> {
    (0..CpuSet::MAX_CPU).filter(|core| cores.is_set(*core))
}

fn has_policy(attributes: &sched_attr, policy: libc::c_int) -> bool {
    attributes.sched_policy == policy.unsigned_abs()
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
