//! Transfers of whole vaults: export, import, clone. None of them needs, or loads, the vault's rows in memory.

mod clone;
mod export;
mod import;
mod pace;

pub use self::export::Export;
pub use self::import::{Import, ImportMode, Imported};
pub(crate) use self::pace::Inactive;
pub use self::pace::Pace;

/// The most relationships of one page of an export or import.
pub const MAX_TRANSFER_PAGE: usize = 1_000;
