//! The command line: what can be asked for, and how its outcome is told.

mod check;
mod completions;
mod console;
mod convert;
mod diff;
mod launch;
mod schema;
mod source;
mod test;
mod vault;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use inferadb_engine::schema::Format;

pub use self::console::CliError;

use self::source::Language;
use crate::config::{Config, Loaded, process_environment};

/// A multi-tenant authorization server.
#[derive(Debug, Parser)]
#[command(name = "inferadb", version, propagate_version = true)]
struct Cli {
    /// Tell more about what goes wrong.
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(ConfigArgs),
    /// Run a server to try things out: this machine only, its own signing key, example data and a ready-made token.
    Dev(DevArgs),
    /// Work with the configuration.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Work with schemas.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Move whole vaults out of and into a server that runs.
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether the server would start with this configuration.
    Check(ConfigArgs),
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Compile schemas and list every error as FILE:LINE:COLUMN: MESSAGE.
    Validate {
        /// The schemas; `-` is standard input. An OpenFGA model in modules is its `fga.mod`, or all of its modules.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Their language [default: OpenFGA for .fga, .json and .mod, native otherwise]
        #[arg(long)]
        language: Option<Language>,
        /// How the answer is written.
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Print the native equivalent of an OpenFGA model.
    Convert {
        /// The model; `-` is standard input. One in modules is its `fga.mod`, or all of its modules.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Its language [default: OpenFGA]
        #[arg(long)]
        language: Option<Language>,
    },
    /// Run schema tests: SpiceDB validation files and OpenFGA stores (.fga.yaml). Exit code 0 if everything holds, 1 if
    /// not, 2 if a file cannot be run. With --verbose, each wrong decision is explained.
    Test {
        /// The test files; `-` is standard input.
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// How the outcome is written.
        #[arg(long, value_enum, default_value_t)]
        format: OutputFormat,
    },
    /// Say what a change of schema does: what is added, removed and changed, which permissions may answer differently, and
    /// which relationships would no longer fit. Exit code 0 if there are no differences, 1 if there are, 2 on trouble.
    Diff(DiffArgs),
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
struct DiffArgs {
    /// The schema as it was; `-` is standard input.
    old: PathBuf,
    /// The schema as it will be; `-` is standard input.
    new: PathBuf,
    /// Relationships to try on the new schema: one a line, or a validation file or the tuples of a store (.yaml).
    #[arg(long, value_name = "FILE")]
    relationships: Option<PathBuf>,
    /// How the answer is written.
    #[arg(long, value_enum, default_value_t)]
    format: OutputFormat,
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// The configuration file [default: /etc/inferadb/config.yaml if it is there]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What `inferadb dev` can be told.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DevArgs {
    /// The port to listen on, on this machine only; 0 takes any free one.
    #[arg(long, short, default_value_t = 8080)]
    pub port: u16,
    /// The port of the metrics, on this machine only; 0 takes any free one.
    #[arg(long, default_value_t = 9090)]
    pub metrics_port: u16,
    /// Where data and the signing key are kept.
    #[arg(long, value_name = "DIRECTORY", default_value = "data/dev")]
    pub data_dir: PathBuf,
    /// Delete what is kept there and begin anew.
    #[arg(long)]
    pub reset: bool,
}

/// Reads the process's arguments, does what they ask for and says how it went.
///
/// Exit code 0 only where it did what was asked; 1 where it failed, with one line on standard error, and where `schema
/// diff` finds differences; 2 where the arguments make no sense, and where `schema test` or `schema diff` cannot read what
/// they are given.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version go to standard output with 0, mistakes to standard error with 2. If that stream is
            // closed there is nobody left to tell.
            let _ = answer.print();
            return u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from);
        }
    };
    match run(cli.command, cli.verbose) {
        Ok(()) => ExitCode::SUCCESS,
        // What differs was told: that is no error.
        Err(error @ CliError::Differences) => ExitCode::from(error.exit_code()),
        Err(error) => {
            console::report(&error, cli.verbose);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(command: Command, verbose: bool) -> Result<(), CliError> {
    match command {
        Command::Serve(arguments) => launch::serve(load(&arguments)?),
        Command::Dev(arguments) => launch::dev(arguments),
        Command::Config(ConfigCommand::Check(arguments)) => {
            check::run(arguments.config.as_deref(), &load(&arguments)?)
        }
        Command::Schema(SchemaCommand::Validate {
            files,
            language,
            format,
        }) => schema::validate(&files, language.map(Format::from), format),
        Command::Schema(SchemaCommand::Convert { files, language }) => {
            convert::convert(&files, language.map(Format::from))
        }
        Command::Schema(SchemaCommand::Test { files, format }) => test::run(&files, format, verbose),
        Command::Schema(SchemaCommand::Diff(arguments)) => diff::run(&arguments),
        Command::Vault(command) => vault::run(command),
        Command::Completions { shell } => completions::run(shell, Cli::command()),
    }
}

/// The configuration; its warnings go to standard error.
fn load(arguments: &ConfigArgs) -> Result<Config, CliError> {
    let environment = process_environment()?;
    let Loaded { config, warnings } = Config::load(arguments.config.as_deref(), environment.into_iter())?;
    for warning in warnings {
        console::warn(&warning);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(matches!(
            parse("inferadb serve").unwrap().command,
            Command::Serve(ConfigArgs { config: None })
        ));
        let cli = parse("inferadb config check --config a.yaml --verbose").unwrap();
        assert!(cli.verbose);
        assert!(matches!(cli.command, Command::Config(ConfigCommand::Check(_))));
        let Command::Dev(dev) = parse("inferadb dev --port 0 --data-dir x --reset")
            .unwrap()
            .command
        else {
            panic!()
        };
        assert_eq!(
            dev,
            DevArgs {
                port: 0,
                metrics_port: 9090,
                data_dir: "x".into(),
                reset: true
            }
        );
        for mistake in [
            "inferadb",
            "inferadb serve --port 1",
            "inferadb schema validate",
            "inferadb dev --port 70000",
        ] {
            assert_eq!(parse(mistake).unwrap_err().exit_code(), 2, "{mistake}");
        }
        assert_eq!(parse("inferadb --version").unwrap_err().exit_code(), 0);
    }
}
