//! The InferaDB server.

use std::process::ExitCode;

/// Vaults come and go by the million small objects: the allocator must be quick with them and give back what is free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    inferadb::cli::main()
}
