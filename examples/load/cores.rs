//! Which cores the generator and the server it starts are on, and that these are awake.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Failure;

/// Whoever has it open says how many microseconds a core may take to wake up (the kernel's `pm_qos_interface`).
const LATENCY: &str = "/dev/cpu_dma_latency";

/// How many cores this process may use.
pub fn count() -> usize {
    allowed().len()
}

/// Leaves the last core free: what is started from now on has the others. Answers which it is.
pub fn leave_last() -> Result<usize, Failure> {
    let mut cores = allowed();
    match (cores.pop(), cores.is_empty()) {
        (Some(last), false) => stay_on(&cores).map(|()| last).map_err(Failure::from),
        _ => Err("`--apart` needs two cores at least".into()),
    }
}

/// Keeps this thread, and those that it starts from now on, on some cores.
pub fn stay_on(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cores.iter().for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Keeps every core from going to sleep, until the answer is dropped.
pub fn keep_awake() -> Result<File, Failure> {
    let opened = OpenOptions::new().write(true).open(LATENCY);
    let mut latency = opened.map_err(|error| format!("`{LATENCY}`: {error}"))?;
    latency.write_all(&0_i32.to_ne_bytes())?;
    Ok(latency)
}

fn allowed() -> Vec<usize> {
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .collect()
}
