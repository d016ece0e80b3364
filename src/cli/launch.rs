//! The one place where the command line starts a server.

use actix_web::rt::System;

use super::DevArgs;
use super::console::CliError;
use crate::config::Config;

/// Runs the server until it is told to stop.
pub(super) fn serve(config: Config) -> Result<(), CliError> {
    System::new()
        .block_on(crate::server::run(config))
        .map_err(CliError::failed)
}

/// Runs a development server until it is told to stop.
pub(super) fn dev(arguments: DevArgs) -> Result<(), CliError> {
    System::new()
        .block_on(crate::dev::run(arguments))
        .map_err(CliError::failed)
}
