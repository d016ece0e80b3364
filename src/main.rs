//! The InferaDB server.

use std::process::ExitCode;

/// A request makes many small objects, which cost fewer instructions here than with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    inferadb::cli::main()
}
