//! What one decision may still cost.

use super::evaluate::Stop;
use super::limits::{BYTES_PER_STEP, MAX_STEPS};

/// Steps left.
#[derive(Debug)]
pub(super) struct Budget {
    steps: u64,
}

impl Budget {
    /// The whole of it.
    pub(super) const fn new() -> Self {
        Self { steps: MAX_STEPS }
    }

    /// How many steps were taken.
    pub(super) const fn spent(&self) -> u64 {
        MAX_STEPS - self.steps
    }

    /// Takes steps, or stops the decision.
    pub(super) fn spend(&mut self, steps: u64) -> Result<(), Stop> {
        match self.steps.checked_sub(steps) {
            Some(left) => {
                self.steps = left;
                Ok(())
            }
            None => {
                self.steps = 0;
                Err(Stop::Limit("evaluation steps"))
            }
        }
    }

    /// Takes the steps of comparing, copying or searching so many bytes.
    pub(super) fn spend_bytes(&mut self, bytes: usize) -> Result<(), Stop> {
        self.spend((bytes / BYTES_PER_STEP) as u64)
    }

    /// Takes the steps of making or walking so many items.
    pub(super) fn spend_items(&mut self, items: usize) -> Result<(), Stop> {
        self.spend(items as u64)
    }
}
