//! What is printed of a run, and of a comparison.

use std::io::{self, Write};

use super::drive::Outcome;

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
