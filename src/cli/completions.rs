//! `inferadb completions SHELL`: prints the shell's completion script.

use clap::Command;
use clap_complete::{Shell, generate};

use super::console::{CliError, answer};

/// Prints the script that completes `command` in `shell`.
pub(super) fn run(shell: Shell, mut command: Command) -> Result<(), CliError> {
    // Into memory first: `generate` panics when its output is closed.
    let mut script = Vec::new();
    generate(shell, &mut command, "inferadb", &mut script);
    answer(&script)
}
