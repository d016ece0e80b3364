//! The load generator: drives checks over keep-alive HTTP/1.1 and tells throughput, latency and the server's CPU for each check.
//!
//! `cargo run --release --example load -- --help`; `docs/performance.md` says what was measured with it.
#![allow(missing_docs)]

mod bare;
mod client;
mod cores;
mod drive;
mod neighbours;
mod noise;
mod process;
mod report;
mod world;

use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use inferadb_actors::auth::development::SigningKey;
use tikv_jemallocator::Jemalloc;

use self::drive::{Outcome, Plan, drive};
use self::process::{Setup, Target};
use self::report::Turn;
use self::world::{Scenario, World};

/// The server's own, for the bare handler as well: what is compared is the handlers.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Whatever ends a run: there is nobody but the person at the terminal to tell.
type Failure = Box<dyn Error + Send + Sync>;

/// Drives checks at a server and measures it.
#[derive(Debug, Parser)]
struct Options {
    /// What is asked.
    #[arg(long, value_enum, default_value = "cached")]
    scenario: Scenario,
    /// Vaults that the requests go to: 1 unless told, and of neighbours the quiet ones, 50 unless told.
    #[arg(long)]
    vaults: Option<usize>,
    /// Tokens for each vault.
    #[arg(long, default_value_t = 4)]
    tokens: usize,
    /// How many different checks are the hot ones, in each vault.
    #[arg(long, default_value_t = 100)]
    hot_checks: u64,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Requests a second, sent when due however slow the answers are; without it each connection sends as fast as it
    /// is answered.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds that one measurement takes.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of requests before the first measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up_seconds: f64,
    /// Threads that serve requests, for servers started here: 2 unless told, and with `--apart` one for each of the server's cores.
    #[arg(long)]
    workers: Option<usize>,
    /// Keep the generator on the last core and the server on all others, so that neither waits for the other's core.
    #[arg(long, conflicts_with_all = ["url", "bare"])]
    apart: bool,
    /// Bind each of them to a core of its own.
    #[arg(long)]
    pin: bool,
    /// Let each check leave its line in a log file.
    #[arg(long)]
    log_checks: bool,
    /// Compare with a bare actix-web handler that parses and answers the same JSON: the server without and with check
    /// lines, in turns.
    #[arg(long, conflicts_with_all = ["url", "log_checks"])]
    bare: bool,
    /// Turns of a comparison: many short ones, so that what else the machine does meets all targets alike.
    #[arg(long, default_value_t = 40)]
    rounds: usize,
    /// Keep the server's store on disk instead of in memory.
    #[arg(long, conflicts_with = "url")]
    embedded: bool,
    /// Of neighbours: how many times its share of the server's cores the noisy one is driven at.
    #[arg(long, default_value_t = 10.0)]
    noise: f64,
    /// Of neighbours: drive the noisy one as fast as it is answered, over all connections.
    #[arg(long)]
    flood: bool,
    /// Of neighbours: beside which noise the quiet ones are measured; all kinds unless told.
    #[arg(long, value_enum, value_delimiter = ',')]
    beside: Vec<noise::Noise>,
    /// Of neighbours: give the quiet ones' threads of the generator a real-time priority and the noisy one's the lowest, and keep the
    /// cores from going to sleep, so that what is measured is the server; this wants the right to.
    #[arg(long)]
    realtime: bool,
    /// The server's program; without it this program serves.
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// A server that runs already, as IP:PORT; it must trust the key of `--signing-key`.
    #[arg(
        long,
        value_name = "ADDRESS",
        requires = "signing_key",
        conflicts_with = "server"
    )]
    url: Option<SocketAddr>,
    /// The process of that server, to measure its CPU time.
    #[arg(long, requires = "url")]
    pid: Option<u32>,
    /// The Ed25519 key that signs the tokens, in PKCS#8, as development mode keeps it.
    #[arg(long, value_name = "FILE")]
    signing_key: Option<PathBuf>,
}

impl Options {
    fn vaults(&self) -> usize {
        let usual = match self.scenario {
            Scenario::Neighbours => 50,
            _ => 1,
        };
        self.vaults.unwrap_or(usual)
    }

    fn workers(&self) -> usize {
        let usual = match self.apart {
            true => cores::count().saturating_sub(1).max(1),
            false => 2,
        };
        self.workers.unwrap_or(usual)
    }
}

fn main() -> ExitCode {
    // The servers under measurement are this very program, so that they are always of the same build.
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        Some("serve") => return inferadb::cli::main(),
        Some("bare") => arguments
            .next()
            .and_then(|workers| workers.parse().ok())
            .ok_or_else(|| "`bare` needs the number of its workers".into())
            .and_then(|workers| bare::serve(workers).map_err(Failure::from)),
        _ => run(&Options::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // If standard error is closed there is nobody left to tell.
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    if options.vaults() == 0 || options.tokens == 0 || options.connections == 0 || options.hot_checks == 0 {
        return Err("there must be vaults, tokens, connections and hot checks: at least one of each".into());
    }
    if options.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return Err("`--rate` must be above 0".into());
    }
    let key = match &options.signing_key {
        Some(path) => SigningKey::load_or_create(path)?,
        None => SigningKey::generate()?,
    };
    let directory = tempfile::tempdir()?;
    if options.bare {
        return compare(options, &key, directory.path());
    }
    let own_core = options.apart.then(cores::leave_last).transpose()?;
    let target = match options.url {
        Some(address) => Target::running(address, options.pid),
        None => start("server", options, &key, directory.path(), options.log_checks)?,
    };
    if let Some(own_core) = own_core {
        cores::stay_on(&[own_core])?;
    }
    let _awake = options.realtime.then(cores::keep_awake).transpose()?;
    let world = set_up(options, &key, &target)?;
    warm_up(options, &target, &world)?;
    if options.scenario == Scenario::Neighbours {
        return neighbours::run(options, &target, &world);
    }
    let outcome = measure(options, &target, &world, 1)?;
    let how = match options.rate {
        Some(rate) => format!("{rate} requests a second"),
        None => "as fast as it is answered".to_owned(),
    };
    let title = format!(
        "{:?}, {} vault(s), {} connections, {how}",
        options.scenario,
        options.vaults(),
        options.connections
    );
    Ok(report::run(&mut io::stdout().lock(), &title, &outcome)?)
}

/// Measures the bare handler and the server without and with check lines, in turns, so that what else the machine
/// does meets all of them alike.
fn compare(options: &Options, key: &SigningKey, directory: &Path) -> Result<(), Failure> {
    let bare = Target::start_bare(options.workers())?;
    let quiet = start(
        "server, no check lines",
        options,
        key,
        &directory.join("quiet"),
        false,
    )?;
    let logged = start(
        "server, check lines",
        options,
        key,
        &directory.join("logged"),
        true,
    )?;
    let quiet_world = set_up(options, key, &quiet)?;
    let logged_world = set_up(options, key, &logged)?;
    let sides = [
        (&bare, &quiet_world),
        (&quiet, &quiet_world),
        (&logged, &logged_world),
    ];
    for (target, world) in sides {
        warm_up(options, target, world)?;
    }
    let mut rounds = Vec::with_capacity(options.rounds);
    for round in 0..options.rounds {
        let missing = Turn {
            micros: f64::NAN,
            user_share: f64::NAN,
        };
        let mut turns = vec![missing; sides.len()];
        for turn in 0..sides.len() {
            // Nobody is always first.
            let index = (turn + round) % sides.len();
            if let (Some((target, world)), Some(slot)) = (sides.get(index), turns.get_mut(index)) {
                let outcome = measure(options, target, world, round as u64 + 1)?;
                if let (Some(micros), Some(cpu)) = (outcome.cpu_micros(), &outcome.cpu) {
                    let user_share = cpu.user_share();
                    *slot = Turn { micros, user_share };
                }
            }
        }
        rounds.push(turns);
    }
    let names = sides.map(|(target, _)| target.name);
    Ok(report::comparison(&mut io::stdout().lock(), &names, &rounds)?)
}

fn start(
    name: &'static str,
    options: &Options,
    key: &SigningKey,
    directory: &Path,
    log_checks: bool,
) -> Result<Target, Failure> {
    let setup = Setup {
        program: options.server.as_deref(),
        directory,
        workers: options.workers(),
        pin: options.pin,
        cache: options.scenario.caches(),
        log_checks,
        embedded: options.embedded,
    };
    Target::start(name, &setup, &key.key_set())
}

fn set_up(options: &Options, key: &SigningKey, target: &Target) -> Result<World, Failure> {
    // A noisy neighbour is one more.
    let noisy = usize::from(options.scenario == Scenario::Neighbours);
    World::set_up(
        target.address,
        key,
        options.scenario,
        options.vaults() + noisy,
        options.tokens,
        options.hot_checks,
    )
}

fn warm_up(options: &Options, target: &Target, world: &World) -> Result<(), Failure> {
    let plan = Plan {
        rate: None,
        duration: Duration::from_secs_f64(options.warm_up_seconds),
        connections: options.connections,
    };
    drive(target.address, target.pid, world, plan, 0).map(drop)
}

fn measure(options: &Options, target: &Target, world: &World, seed: u64) -> Result<Outcome, Failure> {
    let plan = Plan {
        rate: options.rate,
        duration: Duration::from_secs_f64(options.seconds),
        connections: options.connections,
    };
    drive(target.address, target.pid, world, plan, seed)
}
