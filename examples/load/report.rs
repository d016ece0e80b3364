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

/// Prints the server's CPU for one check in each round, for each target, and the medians of the ratios to the first
/// target of the same round.
pub fn comparison(out: &mut impl Write, names: &[&str], rounds: &[Vec<f64>]) -> io::Result<()> {
    writeln!(out, "server CPU for one check, µs")?;
    write!(out, "  {:8}", "round")?;
    for name in names {
        write!(out, "{name:>24}")?;
    }
    writeln!(out)?;
    for (number, round) in rounds.iter().enumerate() {
        write!(out, "  {:<8}", number + 1)?;
        for micros in round {
            write!(out, "{micros:>24.2}")?;
        }
        writeln!(out)?;
    }
    let column = |index: usize| rounds.iter().filter_map(move |round| round.get(index).copied());
    let row = |of: &dyn Fn(usize) -> f64| (0..names.len()).map(of).collect::<Vec<_>>();
    let medians = row(&|index| median(column(index).collect()));
    let ratios = row(&|index| {
        median(
            column(index)
                .zip(column(0))
                .map(|(own, first)| own / first)
                .collect(),
        )
    });
    for (label, values) in [("median", medians), ("ratio", ratios)] {
        write!(out, "  {label:8}")?;
        for value in values {
            write!(out, "{value:>24.2}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
