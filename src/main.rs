//! The InferaDB server.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// What vaults hold are many small objects of all ages. This one packs them, and threads of its own give what was freed back to the system
/// within seconds, whichever thread had it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    inferadb::cli::main()
}
