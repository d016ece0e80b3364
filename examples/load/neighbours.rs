//! Quiet vaults beside a noisy one: their latency alone, and while the neighbour is driven far beyond its share by one kind
//! of request after the other, in turns, so that what else the machine does meets all of it alike.
//!
//! The generator shares the server's cores. So that it costs the same in every turn and little in all, each connection's thread lives as
//! long as the run, every request of a turn is drawn before the turn begins, and a turn begins when the server has come to rest
//! from the one before.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::{Connection, write_request};
use super::drive::{HEAD_START, new_histogram, verify, wait_until};
use super::noise::{Noise, Noisy};
use super::process::{self, CpuTime, Target};
use super::report::{self, Neighbourhood};
use super::world::{Expected, Random, World};
use super::{Failure, Options};

/// Requests a second of all quiet vaults together, unless told.
const QUIET_RATE: f64 = 1_000.0;
/// How long each kind of noise is made alone, to learn what it costs.
const CALIBRATION: Duration = Duration::from_millis(600);
/// The server has come to rest when it uses less than a twentieth of a core for so long.
const REST: Duration = Duration::from_millis(60);
/// For how long that is waited for.
const LONGEST_REST: Duration = Duration::from_secs(3);
/// How many different requests a connection has that sends as fast as it is answered.
const FLOOD_REQUESTS: usize = 64;

/// Latencies of the quiet vaults, in nanoseconds from when each request should have been sent.
pub struct Quiet {
    /// Of checks.
    pub checks: Histogram<u64>,
    /// Of writes.
    pub writes: Histogram<u64>,
    /// How much later than due the generator sent each, other than for an answer that had yet to come: its own part of the above.
    pub late: Histogram<u64>,
}

impl Quiet {
    /// Nothing measured yet.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            checks: new_histogram()?,
            writes: new_histogram()?,
            late: new_histogram()?,
        })
    }

    /// Adds what others met.
    pub fn add(&mut self, other: &Self) -> Result<(), Failure> {
        self.checks.add(&other.checks)?;
        self.writes.add(&other.writes)?;
        self.late.add(&other.late)?;
        Ok(())
    }

    fn record(&mut self, played: &Played) {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let into = match played.expected {
            Some(Expected::Written) => &mut self.writes,
            _ => &mut self.checks,
        };
        into.saturating_record(nanos(played.latency));
        self.late.saturating_record(nanos(played.late));
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

/// What one connection does in one turn.
struct Part {
    begin: Instant,
    end: Instant,
    cues: Vec<Cue>,
    /// Whether to begin again after the last, until the end.
    repeat: bool,
}

/// A request and when it is due.
struct Cue {
    due: Instant,
    request: Arc<Vec<u8>>,
    /// What must come back; `None` of noise, which may be refused.
    expected: Option<Expected>,
}

/// What became of it.
struct Played {
    expected: Option<Expected>,
    refused: bool,
    latency: Duration,
    late: Duration,
}

/// A connection with its thread.
struct Player {
    parts: Sender<Part>,
    played: Receiver<Result<Vec<Played>, Failure>>,
}

/// Measures the quiet vaults alone and beside each kind of noise, and prints the report. The world's last vault is the noisy one.
pub fn run(options: &Options, target: &Target, world: &World) -> Result<(), Failure> {
    let quiet = options.vaults();
    let noisy = Noisy::new(world, target.address, quiet)?;
    let pid = target
        .pid
        .ok_or("neighbours need the server's process: `--pid`")?;
    let share = options.workers() as f64 / (quiet + 1) as f64;
    let wanted = |noise: &Noise| options.beside.is_empty() || options.beside.contains(noise);
    // First beside nothing at all: how far the machine alone moves the figures.
    let mut kinds = vec![(None, None)];
    for noise in Noise::ALL.into_iter().filter(wanted) {
        let seconds = cost(target.address, pid, &noisy, noise)?;
        let rate = (!options.flood).then_some(options.noise * share / seconds);
        kinds.push((Some(Loudness { noise, rate }), Some(seconds)));
    }
    let mut parts = Vec::new();
    for (loudness, seconds) in &kinds {
        let name = loudness.map_or("nothing", |loudness| loudness.noise.name());
        parts.push((
            Neighbourhood::new("alone", None)?,
            Neighbourhood::new(name, *seconds)?,
        ));
    }
    let duration = options.seconds / options.rounds as f64;
    let rate = options.rate.unwrap_or(QUIET_RATE);
    thread::scope(|scope| {
        let open = |count: usize, prepare: Option<fn() -> io::Result<()>>| -> Result<Vec<Player>, Failure> {
            (0..count)
                .map(|_| {
                    let connection = connect(target.address)?;
                    let (parts, script) = channel();
                    let (told, played) = channel();
                    scope.spawn(move || match prepare.map(|prepare| prepare()) {
                        // An error says that the run was ended.
                        Some(Err(error)) => drop(told.send(Err(error.into()))),
                        _ => perform(connection, &script, &told),
                    });
                    Ok(Player { parts, played })
                })
                .collect()
        };
        let mut turns = Turns {
            world,
            noisy: &noisy,
            pid,
            rate,
            duration: Duration::from_secs_f64(duration),
            vaults: quiet,
            quiet: open(2 * quiet, options.realtime.then_some(process::come_first))?,
            loud: open(
                options.connections,
                options.realtime.then_some(process::come_last),
            )?,
            seed: 0,
        };
        for _ in 0..options.rounds {
            for ((loudness, _), (alone, beside)) in kinds.iter().zip(&mut parts) {
                turns.measure(None, alone)?;
                turns.measure(*loudness, beside)?;
            }
        }
        Ok::<_, Failure>(())
    })?;
    let how = match options.flood {
        true => format!(
            "as fast as it is answered over {} connections",
            options.connections
        ),
        false => format!(
            "at {} times its share: {:.2} of {} cores",
            options.noise,
            options.noise * share,
            options.workers()
        ),
    };
    let title = format!(
        "{quiet} quiet vaults, {rate} requests a second together; beside them one that is driven {how}"
    );
    Ok(report::neighbours(&mut io::stdout().lock(), &title, &parts)?)
}

/// Opens a connection that may be idle for a while: one that never asked anything is soon closed.
fn connect(address: SocketAddr) -> Result<Connection, Failure> {
    let mut connection = Connection::open(address)?;
    let mut request = Vec::new();
    write_request(&mut request, "GET", "/livez", "", b"");
    connection.exchange(&request)?;
    Ok(connection)
}

/// Seconds of the server's CPU for one piece of noise, made one at a time, with what it leaves to be done in the background.
fn cost(address: SocketAddr, pid: u32, noisy: &Noisy<'_>, noise: Noise) -> Result<f64, Failure> {
    let mut connection = Connection::open(address)?;
    let (mut random, mut body) = (Random::new(7), String::new());
    rest(pid)?;
    let before = CpuTime::of(pid)?;
    let end = Instant::now() + CALIBRATION;
    let mut count = 0;
    // Both kinds of import, at the least.
    while Instant::now() < end || count < 2 {
        let request = noisy.draw(noise, count, &mut random, &mut body);
        let answer = connection.exchange(&request)?;
        if answer.status != 200 {
            let got = String::from_utf8_lossy(answer.body);
            return Err(format!("{}: {got}", noise.name()).into());
        }
        count += 1;
    }
    rest(pid)?;
    let used = CpuTime::of(pid)?.since(&before).total();
    Ok(used.as_secs_f64() / count as f64)
}

/// Waits until the server is done with what it does in the background.
fn rest(pid: u32) -> Result<(), Failure> {
    let deadline = Instant::now() + LONGEST_REST;
    let mut before = CpuTime::of(pid)?;
    while Instant::now() < deadline {
        thread::sleep(REST);
        let now = CpuTime::of(pid)?;
        if now.since(&before).total() < REST / 20 {
            break;
        }
        before = now;
    }
    Ok(())
}

/// The turns of a run.
struct Turns<'a> {
    world: &'a World,
    noisy: &'a Noisy<'a>,
    pid: u32,
    rate: f64,
    duration: Duration,
    vaults: usize,
    /// Two for each quiet vault: its checks do not wait for its writes.
    quiet: Vec<Player>,
    loud: Vec<Player>,
    seed: u64,
}

impl Turns<'_> {
    fn measure(&mut self, loudness: Option<Loudness>, into: &mut Neighbourhood) -> Result<(), Failure> {
        self.seed += 1;
        // Drawn before anything is due: due times are moved to the turn's beginning when that is known.
        let origin = Instant::now();
        let (mut parts, writes): (Vec<Part>, Vec<Part>) =
            (0..self.vaults).map(|vault| self.be_quiet(vault, origin)).unzip();
        // In this order, since a server gives its threads connections by turns: each thread has some of both.
        parts.extend(writes);
        if let Some(loudness) = loudness {
            parts.extend((0..self.loud.len()).map(|number| self.be_noisy(number, loudness, origin)));
        }
        rest(self.pid)?;
        let before = CpuTime::of(self.pid)?;
        let begin = Instant::now() + HEAD_START;
        let players: Vec<&Player> = self.quiet.iter().chain(&self.loud).take(parts.len()).collect();
        for (player, mut part) in players.iter().zip(parts) {
            part.move_to(begin);
            player
                .parts
                .send(part)
                .map_err(|_| "a thread of the generator ended")?;
        }
        let mut turn = Quiet::new()?;
        for (at, player) in players.iter().enumerate() {
            let played = player
                .played
                .recv()
                .map_err(|_| "a thread of the generator ended")??;
            for one in &played {
                match one.expected {
                    Some(_) => turn.record(one),
                    None if one.refused => into.made.refused += 1,
                    None => into.made.answered += 1,
                }
            }
            if at + 1 == self.quiet.len() {
                into.took += begin.elapsed();
                into.cpu += CpuTime::of(self.pid)?.since(&before).total();
            }
        }
        into.end_turn(&turn)
    }

    /// One quiet vault's checks and its writes, at intervals that vary as those of independent callers do.
    fn be_quiet(&self, vault: usize, begin: Instant) -> (Part, Part) {
        let mut random = Random::new(self.seed ^ ((vault as u64 + 1) << 32));
        let interval = self.vaults as f64 / self.rate;
        let mut body = String::new();
        let end = begin + self.duration;
        let (mut checks, mut writes) = (Vec::new(), Vec::new());
        let mut due = begin + pause(&mut random, interval);
        while due < end {
            let mut request = Vec::new();
            let expected = self.world.draw_quiet(vault, &mut random, &mut request, &mut body);
            let cues = match expected {
                Expected::Written => &mut writes,
                _ => &mut checks,
            };
            cues.push(Cue {
                due,
                request: Arc::new(request),
                expected: Some(expected),
            });
            due += pause(&mut random, interval);
        }
        let part = |cues| Part {
            begin,
            end,
            cues,
            repeat: false,
        };
        (part(checks), part(writes))
    }

    /// One connection's part of the noise.
    fn be_noisy(&self, number: usize, loudness: Loudness, begin: Instant) -> Part {
        let mut random = Random::new(self.seed ^ ((number as u64 + 1) << 40));
        let interval = loudness.rate.map(|rate| self.loud.len() as f64 / rate);
        let mut body = String::new();
        let end = begin + self.duration;
        let mut cues = Vec::new();
        let mut due = begin;
        // Of what there are two kinds, each connection begins with another one in the next turn.
        let first = number + self.seed as usize / 2;
        loop {
            due += interval.map_or(Duration::ZERO, |interval| pause(&mut random, interval));
            // A request that is not due before the end is not made.
            if due > end || (interval.is_none() && cues.len() >= FLOOD_REQUESTS) {
                break;
            }
            let request = self
                .noisy
                .draw(loudness.noise, first + cues.len(), &mut random, &mut body);
            cues.push(Cue {
                due,
                request,
                expected: None,
            });
        }
        Part {
            begin,
            end,
            cues,
            repeat: interval.is_none(),
        }
    }
}

impl Part {
    /// Moves it as it is to another beginning.
    fn move_to(&mut self, begin: Instant) {
        let by = begin.saturating_duration_since(self.begin);
        self.begin += by;
        self.end += by;
        for cue in &mut self.cues {
            cue.due += by;
        }
    }
}

/// Plays one part after the other, until there are no more.
fn perform(
    mut connection: Connection,
    parts: &Receiver<Part>,
    played: &Sender<Result<Vec<Played>, Failure>>,
) {
    while let Ok(part) = parts.recv() {
        // An error says that the run was ended.
        if played.send(play(&mut connection, &part)).is_err() {
            return;
        }
    }
}

fn play(connection: &mut Connection, part: &Part) -> Result<Vec<Played>, Failure> {
    let mut all = Vec::with_capacity(part.cues.len());
    let mut answered = part.begin;
    wait_until(part.begin);
    loop {
        for cue in &part.cues {
            wait_until(cue.due);
            let sent = Instant::now();
            // What is late for want of an earlier answer is a quiet vault's latency, and noise that is not made.
            if cue.expected.is_none() && sent >= part.end {
                return Ok(all);
            }
            let late = sent.saturating_duration_since(cue.due.max(answered));
            let answer = connection.exchange(&cue.request)?;
            match cue.expected {
                Some(expected) => verify(&answer, expected, "a quiet vault's request")?,
                // 409: of an import that another one, of the same noise, overtook by replacing everything.
                None if matches!(answer.status, 200 | 409 | 429 | 503) => {}
                None => {
                    let got = String::from_utf8_lossy(answer.body);
                    return Err(format!("noise was answered {}: {got}", answer.status).into());
                }
            }
            let refused = answer.status != 200;
            answered = Instant::now();
            all.push(Played {
                expected: cue.expected,
                refused,
                latency: answered.saturating_duration_since(cue.due),
                late,
            });
        }
        if !part.repeat {
            return Ok(all);
        }
    }
}

/// A pause of `mean` seconds on average, as between independent arrivals.
fn pause(random: &mut Random, mean: f64) -> Duration {
    let unit = (random.next() >> 11) as f64 / (1_u64 << 53) as f64;
    Duration::from_secs_f64(-mean * (1.0 - unit).ln())
}
