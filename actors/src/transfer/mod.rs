//! Transfers of whole vaults: export, import, clone. None of them needs, or loads, the vault's rows in memory.

mod clone;
mod export;
mod import;

pub use self::export::Export;
pub use self::import::{Import, ImportMode, Imported};

/// The most relationships of one page of an export or import.
pub const MAX_TRANSFER_PAGE: usize = 1_000;
