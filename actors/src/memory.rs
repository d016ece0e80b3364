//! What all vaults of a server share in memory.

use crate::ledger::Ledger;
use crate::schemas::Schemas;

/// The ledger that memory is charged to, and the schemas that are held once for many. Clones share both.
#[derive(Clone)]
pub struct Memory {
    /// What all vaults hold together.
    pub ledger: Ledger,
    /// Their schemas.
    pub schemas: Schemas,
}

impl Memory {
    /// Nothing held yet, of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            ledger: Ledger::new(limit),
            schemas: Schemas::default(),
        }
    }
}
