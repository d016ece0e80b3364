//! What a trial that runs inside a vault's request costs the vault.

use inferadb_engine::evaluate::Limits;

use super::Vault;
use crate::error::VaultError;
use crate::turn::PIECE;

impl Vault {
    /// Begins a trial: charges one check to the vault's rate, and answers the limits that hold for each check.
    pub fn begin_trial(&self) -> Result<Limits, VaultError> {
        self.take_checks(1)?;
        Ok(self.limits.load().for_engine(4 * PIECE))
    }

    /// Charges the checks that a trial made. How many it would be was not known before: later checks wait for them.
    pub fn end_trial(&self, checks: usize) {
        let rate = self.limits.load().checks_per_second;
        self.checks.owe(rate, checks.saturating_sub(1));
    }
}
