//! The product from outside: the real binary, spoken to over HTTP as its users do. `tests/README.md` says how this is built.
#![allow(missing_docs)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken test has to fail loudly"
)]

mod accounts;
mod authzen;
mod bodies;
mod checks;
#[cfg(feature = "foundationdb")]
mod cluster;
mod consistency;
mod contextual;
mod contextual_lists;
mod documentation;
mod expand;
mod guide;
mod harness;
mod isolation;
mod lifecycle;
mod limits;
mod lines;
mod list_streams;
mod lists;
mod observed;
mod openfga;
mod problems;
mod relationships;
mod schema;
mod schema_tools;
mod scopes;
mod simulate;
mod tokens;
mod transfer_ends;
mod transfers;
#[cfg(feature = "foundationdb")]
mod two_servers;
mod vault_command;
mod watch;
mod watch_ends;
