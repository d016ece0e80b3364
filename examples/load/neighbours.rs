//! Quiet vaults beside a noisy one: their latency alone, and while the neighbour is driven far beyond its share by one kind
//! of request after the other, in turns, so that what else the machine does meets all of it alike.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::Connection;
use super::drive::{HEAD_START, new_histogram, verify, wait_until};
use super::process::{CpuTime, Target};
use super::report::{self, Neighbourhood};
use super::world::{Expected, Noise, Random, World};
use super::{Failure, Options};

/// Requests a second of all quiet vaults together, unless told.
const QUIET_RATE: f64 = 1_000.0;
/// How long each kind of noise is made alone, to learn what it costs.
const CALIBRATION: Duration = Duration::from_millis(600);

/// Latencies of the quiet vaults, in nanoseconds from when each request should have been sent.
pub struct Quiet {
    /// Of checks.
    pub checks: Histogram<u64>,
    /// Of writes.
    pub writes: Histogram<u64>,
}

impl Quiet {
    /// Nothing measured yet.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            checks: new_histogram()?,
            writes: new_histogram()?,
        })
    }

    /// Adds what others met.
    pub fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.checks.add(&other.checks)?;
        self.writes.add(&other.writes)?;
        Ok(())
    }
}

/// What became of a neighbour's noise.
#[derive(Debug, Clone, Copy, Default)]
pub struct Made {
    /// Requests that were answered.
    pub answered: u64,
    /// Requests that were refused.
    pub refused: u64,
}

/// How loud a neighbour is.
#[derive(Debug, Clone, Copy)]
struct Loudness {
    noise: Noise,
    /// Requests a second; `None`: as fast as they are answered.
    rate: Option<f64>,
}

/// Measures the quiet vaults alone and beside each kind of noise, and prints the report. The world's last vault is the noisy one.
pub fn run(options: &Options, target: &Target, world: &World) -> Result<(), Failure> {
    let quiet = options.vaults();
    world.crowd(target.address, quiet)?;
    let pid = target
        .pid
        .ok_or("neighbours need the server's process: `--pid`")?;
    let share = options.workers as f64 / (quiet + 1) as f64;
    let mut kinds = Vec::new();
    for noise in Noise::ALL {
        let seconds = cost(target.address, pid, world, quiet, noise)?;
        let rate = (!options.flood).then_some(options.noise * share / seconds);
        kinds.push((Loudness { noise, rate }, seconds));
    }
    let mut connections = (0..quiet)
        .map(|_| Connection::open(target.address))
        .collect::<io::Result<Vec<_>>>()?;
    let mut alone = Neighbourhood::new("alone", None)?;
    let mut beside = Vec::new();
    for (loudness, seconds) in &kinds {
        beside.push(Neighbourhood::new(loudness.noise.name(), Some(*seconds))?);
    }
    let turn = Turn {
        address: target.address,
        world,
        rate: options.rate.unwrap_or(QUIET_RATE),
        duration: Duration::from_secs_f64(options.seconds / options.rounds as f64),
        noisy_connections: options.connections,
    };
    for round in 0..options.rounds as u64 {
        turn.measure(&mut connections, None, pid, round, &mut alone)?;
        for ((loudness, _), into) in kinds.iter().zip(&mut beside) {
            turn.measure(&mut connections, Some(*loudness), pid, round, into)?;
        }
    }
    let how = match options.flood {
        true => format!(
            "as fast as it is answered over {} connections",
            options.connections
        ),
        false => format!("at {} times its share of the server's cores", options.noise),
    };
    let title = format!(
        "{quiet} quiet vaults, {} requests a second together; beside them one that is driven {how}",
        turn.rate
    );
    Ok(report::neighbours(
        &mut io::stdout().lock(),
        &title,
        &alone,
        &beside,
    )?)
}

/// Seconds of the server's CPU for one piece of noise, made one at a time.
fn cost(address: SocketAddr, pid: u32, world: &World, vault: usize, noise: Noise) -> Result<f64, Failure> {
    let mut connection = Connection::open(address)?;
    let mut random = Random::new(7);
    let (mut request, mut body) = (Vec::new(), String::new());
    let before = CpuTime::of(pid)?;
    let end = Instant::now() + CALIBRATION;
    let mut count = 0_u32;
    while Instant::now() < end {
        world.draw_noise(vault, noise, &mut random, &mut request, &mut body);
        let answer = connection.exchange(&request)?;
        if answer.status != 200 {
            let got = String::from_utf8_lossy(answer.body);
            return Err(format!("{}: {got}", noise.name()).into());
        }
        count += 1;
    }
    let used = CpuTime::of(pid)?.since(&before).total();
    Ok(used.as_secs_f64() / f64::from(count.max(1)))
}

/// One turn's plan.
struct Turn<'a> {
    address: SocketAddr,
    world: &'a World,
    rate: f64,
    duration: Duration,
    noisy_connections: usize,
}

impl Turn<'_> {
    fn measure(
        &self,
        connections: &mut [Connection],
        loudness: Option<Loudness>,
        pid: u32,
        seed: u64,
        into: &mut Neighbourhood,
    ) -> Result<(), Failure> {
        let before = CpuTime::of(pid)?;
        let start = Instant::now() + HEAD_START;
        let is_over = AtomicBool::new(false);
        let count = connections.len();
        thread::scope(|scope| {
            let quiet: Vec<_> = connections
                .iter_mut()
                .enumerate()
                .map(|(vault, connection)| {
                    let interval = count as f64 / self.rate;
                    scope.spawn(move || self.be_quiet(connection, vault, interval, start, seed))
                })
                .collect();
            let noisy: Vec<_> = loudness
                .into_iter()
                .flat_map(|loudness| (0..self.noisy_connections).map(move |number| (number, loudness)))
                .map(|(number, loudness)| {
                    let is_over = &is_over;
                    scope.spawn(move || self.be_noisy(count, number, loudness, start, seed, is_over))
                })
                .collect();
            let mut outcome = Ok(());
            let mut turn = Quiet::new()?;
            for thread in quiet {
                match thread.join().map_err(|_| "a thread of the generator panicked")? {
                    Ok(own) => turn.add(&own)?,
                    Err(failure) => outcome = Err(failure),
                }
            }
            into.end_turn(&turn)?;
            is_over.store(true, Ordering::Relaxed);
            for thread in noisy {
                let made = thread
                    .join()
                    .map_err(|_| "a thread of the generator panicked")??;
                into.made.answered += made.answered;
                into.made.refused += made.refused;
            }
            outcome
        })?;
        into.took += start.elapsed();
        into.cpu += CpuTime::of(pid)?.since(&before).total();
        Ok(())
    }

    /// One quiet vault's requests, at intervals that vary as those of independent callers do.
    fn be_quiet(
        &self,
        connection: &mut Connection,
        vault: usize,
        interval: f64,
        start: Instant,
        seed: u64,
    ) -> Result<Quiet, Failure> {
        let mut random = Random::new(seed ^ ((vault as u64 + 1) << 32));
        let mut quiet = Quiet::new()?;
        let (mut request, mut body) = (Vec::new(), String::new());
        let end = start + self.duration;
        let mut due = start + pause(&mut random, interval);
        while due < end {
            let expected = self.world.draw_quiet(vault, &mut random, &mut request, &mut body);
            wait_until(due);
            let answer = connection.exchange(&request)?;
            verify(&answer, expected, &body)?;
            let nanos = u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX);
            match expected {
                Expected::Written => quiet.writes.saturating_record(nanos),
                _ => quiet.checks.saturating_record(nanos),
            }
            due += pause(&mut random, interval);
        }
        Ok(quiet)
    }

    fn be_noisy(
        &self,
        vault: usize,
        number: usize,
        loudness: Loudness,
        start: Instant,
        seed: u64,
        is_over: &AtomicBool,
    ) -> Result<Made, Failure> {
        let mut connection = Connection::open(self.address)?;
        let mut random = Random::new(seed ^ ((number as u64 + 1) << 40));
        let mut made = Made::default();
        let (mut request, mut body) = (Vec::new(), String::new());
        let interval = loudness.rate.map(|rate| self.noisy_connections as f64 / rate);
        let mut due = start;
        while !is_over.load(Ordering::Relaxed) {
            let noise = loudness.noise;
            self.world
                .draw_noise(vault, noise, &mut random, &mut request, &mut body);
            if let Some(interval) = interval {
                due += pause(&mut random, interval);
                // A request that will not be due before the end is not worth waiting for.
                if due > start + self.duration {
                    break;
                }
                wait_until(due);
            }
            let answer = connection.exchange(&request)?;
            match answer.status {
                200 => made.answered += 1,
                429 | 503 => made.refused += 1,
                status => {
                    let got = String::from_utf8_lossy(answer.body);
                    return Err(format!("{} answered {status}: {got}", noise.name()).into());
                }
            }
        }
        Ok(made)
    }
}

/// A pause of `mean` seconds on average, as between independent arrivals.
fn pause(random: &mut Random, mean: f64) -> Duration {
    let unit = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::from_secs_f64(-mean * (1.0 - unit).ln())
}
