//! `inferadb vault`: whole vaults out of and into a server that runs, over HTTP.

mod clone;
mod export;
mod import;
mod output;
mod progress;
mod remote;

use std::future::Future;
use std::path::PathBuf;

use actix_web::rt::signal::unix::{SignalKind, signal};
use clap::{Args, Subcommand, ValueEnum};
use uuid::Uuid;

use self::remote::ServerArgs;
use super::console::CliError;
use super::launch;
use crate::http::vault_file::Layout;

/// What can be done with a vault.
#[derive(Debug, Subcommand)]
pub(super) enum VaultCommand {
    /// Write a vault's schema, relationships and limits, all of one state, to a file.
    Export(ExportArgs),
    /// Read such a file into a vault: all of it, or nothing.
    Import(ImportArgs),
    /// Make a new vault with another's state.
    Clone(CloneArgs),
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The vault's id.
    vault: Uuid,
    /// The file, which is there only once it is whole; `-` is standard output.
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// How it is laid out [default: ndjson for .ndjson and .jsonl, json otherwise]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The vault's id.
    vault: Uuid,
    /// The file; `-` is standard input.
    file: PathBuf,
    /// What becomes of what the vault holds already.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Also take in what does not fit the schema: it is stored, and every answer ignores it
    #[arg(long)]
    force: bool,
    /// How the file is laid out [default: what its name or its first line says]
    #[arg(long, value_enum)]
    format: Option<FileFormat>,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
pub(super) struct CloneArgs {
    /// The id of the vault to clone.
    vault: Uuid,
    /// The new vault's name.
    name: String,
    /// The id of the new vault's account [default: the account of the vault that is cloned]
    #[arg(long)]
    account: Option<Uuid>,
    /// A revision that the vault was at [default: the newest]
    #[arg(long)]
    revision: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
}

/// The layouts as the command line names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FileFormat {
    /// One JSON object.
    Json,
    /// A JSON object a line.
    Ndjson,
}

/// What becomes of what a vault holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Mode {
    /// It stays; where a relationship is in both, the file's counts.
    #[default]
    Merge,
    /// It goes.
    Replace,
}

impl From<FileFormat> for Layout {
    fn from(name: FileFormat) -> Self {
        match name {
            FileFormat::Json => Self::Json,
            FileFormat::Ndjson => Self::Lines,
        }
    }
}

impl Mode {
    const fn query(self, is_forced: bool) -> &'static str {
        match (self, is_forced) {
            (Self::Merge, false) => "mode=merge",
            (Self::Merge, true) => "mode=merge&force=true",
            (Self::Replace, false) => "mode=replace",
            (Self::Replace, true) => "mode=replace&force=true",
        }
    }
}

/// Does what was asked for.
pub(super) fn run(command: VaultCommand) -> Result<(), CliError> {
    match command {
        VaultCommand::Export(arguments) => launch::run(until_told_to_stop(export::run(arguments))),
        VaultCommand::Import(arguments) => launch::run(until_told_to_stop(import::run(arguments))),
        VaultCommand::Clone(arguments) => launch::run(until_told_to_stop(clone::run(arguments))),
    }
}

/// Gives the work up at SIGINT and SIGTERM, so that it leaves nothing half done behind.
async fn until_told_to_stop(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(CliError::failed)?;
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Err(CliError::failed("interrupted")),
        _ = terminate.recv() => Err(CliError::failed("told to stop")),
    }
}

/// The layout that a file's name tells.
fn layout_of_name(path: &std::path::Path) -> Option<Layout> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "ndjson" | "jsonl" => Some(Layout::Lines),
        "json" => Some(Layout::Json),
        _ => None,
    }
}
