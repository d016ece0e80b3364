//! The key-value engines: memory, embedded and FoundationDB.
//!
//! The first two share one optimistic machinery: `overlay` (what a transaction would change), `optimistic` (the
//! transaction itself), `committer` (the one thread that commits), `window` (what was committed lately) and `watches`.

mod committer;
mod embedded;
#[cfg(feature = "foundationdb")]
mod foundationdb;
mod memory;
mod optimistic;
mod overlay;
mod queue;
mod watches;
mod window;

pub use embedded::EmbeddedEngine;
#[cfg(feature = "foundationdb")]
pub use foundationdb::{FoundationDbEngine, stop_network};
pub use memory::MemoryEngine;
