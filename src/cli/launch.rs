//! The one place where the command line starts a server.

use std::future::Future;

use actix_web::rt::System;

use super::DevArgs;
use super::console::CliError;
use crate::config::Config;

/// Runs the server until it is told to stop.
pub(super) fn serve(config: Config) -> Result<(), CliError> {
    run(crate::server::run(config)).map_err(CliError::failed)
}

/// Runs a development server until it is told to stop.
pub(super) fn dev(arguments: DevArgs) -> Result<(), CliError> {
    run(crate::dev::run(arguments)).map_err(CliError::failed)
}

/// Runs to the end what needs a runtime.
pub(super) fn run<T>(server: impl Future<Output = T>) -> T {
    let ended = System::new().block_on(server);
    // After everything that could still ask storage for something.
    inferadb_actors::stop_client();
    ended
}
