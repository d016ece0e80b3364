//! The product from outside: the real binary, spoken to over HTTP as its users do. `tests/README.md` says how this is built.
#![allow(missing_docs)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken test has to fail loudly"
)]

mod accounts;
mod checks;
mod consistency;
mod guide;
mod harness;
mod isolation;
mod lifecycle;
mod lists;
mod observed;
mod problems;
mod relationships;
mod schema;
mod scopes;
mod tokens;
