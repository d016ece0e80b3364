//! What is printed of a run, and of a comparison.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::Failure;
use super::drive::Outcome;
use super::neighbours::{Made, Quiet};

/// Prints one run.
pub fn run(out: &mut impl Write, title: &str, outcome: &Outcome) -> io::Result<()> {
    let millis = |quantile: f64| outcome.latencies.value_at_quantile(quantile) as f64 / 1e6;
    writeln!(out, "{title}")?;
    writeln!(out, "  requests    {}", outcome.latencies.len())?;
    writeln!(out, "  throughput  {:.0} a second", outcome.throughput())?;
    writeln!(
        out,
        "  latency     p50 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, max {:.3} ms, from when each should have been sent",
        millis(0.5),
        millis(0.99),
        millis(0.999),
        millis(1.0)
    )?;
    if let (Some(cpu), Some(micros)) = (&outcome.cpu, outcome.cpu_micros()) {
        let shares: Vec<String> = cpu
            .thread_shares()
            .map(|share| format!("{:.0} %", 100.0 * share))
            .collect();
        writeln!(
            out,
            "  server CPU  {micros:.1} µs a request ({:.0} % user), {:.2} cores; threads {}",
            100.0 * cpu.user_share(),
            cpu.total().as_secs_f64() / outcome.took.as_secs_f64(),
            shares.join(", ")
        )?;
    }
    Ok(())
}

/// What one turn of a comparison measured.
#[derive(Clone, Copy)]
pub struct Turn {
    /// The server's CPU for one check, in microseconds.
    pub micros: f64,
    /// The part of it that was user time, from 0 to 1.
    pub user_share: f64,
}

/// Prints the server's CPU for one check, for each target, and its ratio to the first target's of the same round:
/// quartiles over the rounds.
pub fn comparison(out: &mut impl Write, names: &[&str], rounds: &[Vec<Turn>]) -> io::Result<()> {
    writeln!(out, "server CPU for one check, {} rounds", rounds.len())?;
    write!(out, "  {:24}", "")?;
    for name in names {
        write!(out, "{name:>24}")?;
    }
    writeln!(out)?;
    let column = |index: usize, of: &dyn Fn(&Turn, &Turn) -> f64| -> Vec<f64> {
        let pairs = rounds
            .iter()
            .filter_map(|round| round.get(index).zip(round.first()));
        pairs.map(|(own, first)| of(own, first)).collect()
    };
    let mut row = |label: &str, quantile: f64, of: &dyn Fn(&Turn, &Turn) -> f64| {
        write!(out, "  {label:24}")?;
        for index in 0..names.len() {
            write!(out, "{:>24.2}", at_quantile(column(index, of), quantile))?;
        }
        writeln!(out)
    };
    let micros = |own: &Turn, _: &Turn| own.micros;
    row("µs, lower quartile", 0.25, &micros)?;
    row("µs, median", 0.5, &micros)?;
    row("µs, upper quartile", 0.75, &micros)?;
    row("user µs, median", 0.5, &|own, _| own.micros * own.user_share)?;
    let ratio = |own: &Turn, first: &Turn| own.micros / first.micros;
    row("ratio, lower quartile", 0.25, &ratio)?;
    row("ratio, median", 0.5, &ratio)?;
    row("ratio, upper quartile", 0.75, &ratio)
}

fn at_quantile(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = quantile * values.len().saturating_sub(1) as f64;
    values.get(at.round() as usize).copied().unwrap_or(f64::NAN)
}

/// What one part of a measurement of neighbours found.
pub struct Neighbourhood {
    /// What the noise is.
    pub name: &'static str,
    /// The server's CPU seconds for one piece, made alone.
    pub cost: Option<f64>,
    /// What the quiet vaults met.
    pub quiet: Quiet,
    /// Milliseconds of their checks' median and 99th percentile, and the generator's own part of the latter, turn by turn.
    pub turns: Vec<[f64; 3]>,
    /// What became of the noise.
    pub made: Made,
    /// How long it took in all.
    pub took: Duration,
    /// The server's CPU time in all.
    pub cpu: Duration,
}

impl Neighbourhood {
    /// Nothing measured yet.
    pub fn new(name: &'static str, cost: Option<f64>) -> Result<Self, Failure> {
        Ok(Self {
            name,
            cost,
            quiet: Quiet::new()?,
            turns: Vec::new(),
            made: Made::default(),
            took: Duration::ZERO,
            cpu: Duration::ZERO,
        })
    }

    /// Adds what the quiet vaults met in one turn.
    pub fn end_turn(&mut self, turn: &Quiet) -> Result<(), Failure> {
        self.quiet.add(turn)?;
        let at = |latencies: &Histogram<u64>, quantile| millis(latencies, quantile);
        let [p50, p99] = [0.5, 0.99].map(|quantile| at(&turn.checks, quantile));
        self.turns.push([p50, p99, at(&turn.late, 0.99)]);
        Ok(())
    }

    /// The median over the turns of what `of` tells of one, and of the turn alone just before it.
    fn median(&self, alone: &Self, of: impl Fn([f64; 3], [f64; 3]) -> f64) -> f64 {
        let rounds = self.turns.iter().zip(&alone.turns);
        at_quantile(rounds.map(|(own, alone)| of(*own, *alone)).collect(), 0.5)
    }
}

fn millis(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e6
}

/// Prints what quiet vaults met alone and beside each kind of noise, and the ratio of the two.
pub fn neighbours(
    out: &mut impl Write,
    title: &str,
    parts: &[(Neighbourhood, Neighbourhood)],
) -> io::Result<()> {
    writeln!(out, "{title}")?;
    writeln!(
        out,
        "  {:18} {:>8} {:>8} {:>7} {:>6} | {:>8} {:>8} {:>8} {:>8} | {:>6} {:>6} | {:>8} {:>8} | {:>8} {:>8} | {:>8} {:>8}",
        "beside",
        "µs each",
        "made/s",
        "refused",
        "cores",
        "p50 ms",
        "p99 ms",
        "alone",
        "own late",
        "p50 ×",
        "p99 ×",
        "all: p99",
        "alone",
        "p99.9",
        "alone",
        "writes99",
        "alone",
    )?;
    for (alone, beside) in parts {
        let seconds = beside.took.as_secs_f64();
        writeln!(
            out,
            "  {:18} {:>8.0} {:>8.1} {:>7} {:>6.2} | {:>8.3} {:>8.3} {:>8.3} {:>8.3} | {:>6.2} {:>6.2} | {:>8.3} {:>8.3} | {:>8.3} {:>8.3} | {:>8.2} {:>8.2}",
            beside.name,
            beside.cost.unwrap_or_default() * 1e6,
            beside.made.answered as f64 / seconds,
            beside.made.refused,
            beside.cpu.as_secs_f64() / seconds,
            beside.median(alone, |own, _| own[0]),
            beside.median(alone, |own, _| own[1]),
            beside.median(alone, |_, alone| alone[1]),
            beside.median(alone, |own, _| own[2]),
            beside.median(alone, |own, alone| own[0] / alone[0]),
            beside.median(alone, |own, alone| own[1] / alone[1]),
            millis(&beside.quiet.checks, 0.99),
            millis(&alone.quiet.checks, 0.99),
            millis(&beside.quiet.checks, 0.999),
            millis(&alone.quiet.checks, 0.999),
            millis(&beside.quiet.writes, 0.99),
            millis(&alone.quiet.writes, 0.99),
        )?;
    }
    let turns = parts.first().map_or(0, |(alone, _)| alone.turns.len());
    writeln!(
        out,
        "  p50 and p99 of checks turn by turn, and their ratio to the turn alone just before: medians over {turns} rounds"
    )?;
    let count = |of: &dyn Fn(&Quiet) -> u64| parts.iter().map(|(alone, _)| of(&alone.quiet)).sum::<u64>();
    let checks = count(&|quiet| quiet.checks.len());
    let writes = count(&|quiet| quiet.writes.len());
    writeln!(
        out,
        "  {checks} checks and {writes} writes of the quiet ones alone, about as many beside all kinds; `own late`: the 99th percentile of what the generator itself came late"
    )
}
