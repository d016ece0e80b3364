//! What vaults cost in memory: many small ones, active together, and a large one; and whether the memory comes back.
//!
//! `cargo bench -p inferadb-actors --bench tenants -- many --stored 100000 --active 10000`, `… -- one --relationships 1000000`.
#![allow(missing_docs, reason = "a bench is no library")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a bench may fail, and its output is its purpose"
)]

mod fill;
mod measure;
mod process;
#[path = "../support/relationships.rs"]
mod relationships;

use std::path::PathBuf;
use std::process::Command;

#[global_allocator]
static ALLOCATOR: process::Counting = process::Counting;

/// What is measured, and how much of it.
#[derive(Debug, Clone)]
struct Options {
    scenario: String,
    stored: usize,
    active: usize,
    relationships: usize,
    checks: usize,
    idle_seconds: u64,
    /// Whether each vault has a schema text of its own.
    own_schemas: bool,
    /// Whether metrics carry a `vault` label.
    per_vault_metrics: bool,
    /// `single`: each relationship in a row of its own; `mixed`: rows of one to ten entries, and a few wide ones.
    shape: String,
    /// Ids of this many bytes at least.
    id_bytes: usize,
    directory: PathBuf,
    /// `fill` and `measure` are processes of their own: what filling leaves in memory must not count.
    phase: String,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self {
            scenario: "many".into(),
            stored: 100_000,
            active: 10_000,
            relationships: 1_000_000,
            checks: 5,
            idle_seconds: 30,
            own_schemas: false,
            per_vault_metrics: true,
            shape: "mixed".into(),
            id_bytes: 0,
            directory: PathBuf::new(),
            phase: "all".into(),
        };
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap();
            match argument.as_str() {
                "--stored" => options.stored = value().parse().unwrap(),
                "--active" => options.active = value().parse().unwrap(),
                "--relationships" => options.relationships = value().parse().unwrap(),
                "--checks" => options.checks = value().parse().unwrap(),
                "--idle-seconds" => options.idle_seconds = value().parse().unwrap(),
                "--own-schemas" => options.own_schemas = true,
                "--no-per-vault-metrics" => options.per_vault_metrics = false,
                "--shape" => options.shape = value(),
                "--id-bytes" => options.id_bytes = value().parse().unwrap(),
                "--directory" => options.directory = value().into(),
                "--phase" => options.phase = value(),
                scenario => options.scenario = scenario.to_owned(),
            }
        }
        options
    }
}

fn main() {
    let options = Options::parse();
    match options.phase.as_str() {
        "fill" => actix::System::new().block_on(fill::fill(&options)),
        "measure" => measure::measure(&options),
        _ => {
            let kept = tempfile::tempdir().unwrap();
            let given = options.directory.clone();
            let directory = match given.as_os_str().is_empty() {
                true => kept.path().to_owned(),
                false => given,
            };
            // One that was filled before is measured as it is.
            if !directory.join(fill::VAULTS).exists() {
                std::fs::create_dir_all(&directory).unwrap();
                again(&directory, "fill");
            }
            again(&directory, "measure");
        }
    }
}

fn again(directory: &std::path::Path, phase: &str) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(std::env::args().skip(1));
    command.arg("--directory").arg(directory).args(["--phase", phase]);
    assert!(command.status().unwrap().success(), "{phase} failed");
}
