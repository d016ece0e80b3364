//! Drives requests at a server, at given times or as fast as it answers, and measures from when each should have been sent.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::Failure;
use super::client::{Answer, Connection};
use super::process::CpuTime;
use super::world::{BATCH, Expected, Random, World};

/// Time for every thread to connect before the first request is due.
pub(super) const HEAD_START: Duration = Duration::from_millis(50);

/// How requests are sent.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Connections, each with a thread of its own and one request at a time.
    pub connections: usize,
    /// Requests a second over all connections, sent when they are due however slow the answers are; `None`: each
    /// connection sends the next when it has its answer.
    pub rate: Option<f64>,
    /// How long.
    pub duration: Duration,
}

/// What came of it.
pub struct Outcome {
    /// Nanoseconds from when a request should have been sent to its answer.
    pub latencies: Histogram<u64>,
    /// From the first request due to the last answer.
    pub took: Duration,
    /// CPU time of the server, if its process is known.
    pub cpu: Option<CpuTime>,
}

impl Outcome {
    /// Answers a second.
    pub fn throughput(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// Microseconds of the server's CPU for one request.
    pub fn cpu_micros(&self) -> Option<f64> {
        let cpu = self.cpu.as_ref()?;
        Some(cpu.total().as_secs_f64() * 1e6 / self.latencies.len() as f64)
    }
}

/// Drives `world`'s requests at `address`. Every answer is compared with the known one: the first that differs ends
/// the run.
pub fn drive(
    address: SocketAddr,
    pid: Option<u32>,
    world: &World,
    plan: Plan,
    seed: u64,
) -> Result<Outcome, Failure> {
    let start = Instant::now() + HEAD_START;
    let before = pid.map(CpuTime::of).transpose()?;
    let measured = thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.connections)
            .map(|number| scope.spawn(move || drive_one(address, world, plan, number, start, seed)))
            .collect();
        let mut all = new_histogram()?;
        for thread in threads {
            let own = thread
                .join()
                .map_err(|_| "a thread of the generator panicked")??;
            all.add(own)?;
        }
        Ok::<_, Failure>(all)
    });
    let took = start.elapsed();
    let after = pid.map(CpuTime::of).transpose()?;
    Ok(Outcome {
        latencies: measured?,
        took,
        cpu: after.zip(before).map(|(after, before)| after.since(&before)),
    })
}

fn drive_one(
    address: SocketAddr,
    world: &World,
    plan: Plan,
    number: usize,
    start: Instant,
    seed: u64,
) -> Result<Histogram<u64>, Failure> {
    let mut connection = Connection::open(address)?;
    let mut random = Random::new(seed ^ ((number as u64 + 1) << 32));
    let mut latencies = new_histogram()?;
    let (mut request, mut body) = (Vec::new(), String::new());
    let end = start + plan.duration;
    let interval = plan
        .rate
        .map(|rate| Duration::from_secs_f64(plan.connections as f64 / rate));
    // The connections take turns, so that requests come evenly.
    let mut due = start
        + interval
            .unwrap_or_default()
            .mul_f64(number as f64 / plan.connections as f64);
    wait_until(due);
    while due < end {
        let expected = world.draw(&mut random, &mut request, &mut body);
        if interval.is_some() {
            wait_until(due);
        }
        let answer = connection.exchange(&request)?;
        verify(&answer, expected, &body)?;
        let answered = Instant::now();
        let nanos = u64::try_from(answered.saturating_duration_since(due).as_nanos()).unwrap_or(u64::MAX);
        latencies.saturating_record(nanos);
        due = match interval {
            Some(interval) => due + interval,
            None => answered,
        };
    }
    Ok(latencies)
}

pub(super) fn wait_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        thread::sleep(left);
    }
}

pub(super) fn verify(answer: &Answer<'_>, expected: Expected, body: &str) -> Result<(), Failure> {
    let times = |word: &str| count(answer.body, word.as_bytes());
    if let Expected::Batch(allowed) = expected
        && answer.status == 200
        && times(r#""decision":"allow""#) == allowed
        && times(r#""decision":"deny""#) == BATCH - allowed
    {
        return Ok(());
    }
    let begin: &[u8] = match expected {
        Expected::Batch(_) => b"no other answer will do",
        Expected::Allow => br#"{"decision":"allow""#,
        Expected::Deny => br#"{"decision":"deny""#,
        Expected::Written => br#"{"revision":"#,
    };
    if answer.status == 200 && answer.body.starts_with(begin) {
        return Ok(());
    }
    let got = String::from_utf8_lossy(answer.body);
    Err(format!(
        "{body}: {expected:?} was expected, the answer is {}: {got}",
        answer.status
    )
    .into())
}

/// How often `word` is in `text`.
fn count(text: &[u8], word: &[u8]) -> usize {
    text.windows(word.len()).filter(|window| *window == word).count()
}

/// Up to a minute, with three digits.
pub(super) fn new_histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}
