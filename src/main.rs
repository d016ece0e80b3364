//! The InferaDB server.

use std::process::ExitCode;

fn main() -> ExitCode {
    inferadb::cli::main()
}
