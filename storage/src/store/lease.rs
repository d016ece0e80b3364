//! The lease of what is being built beside a vault's state: a key that says who builds it, and that it is not given up.
//!
//! Whoever builds it renews the lease by counting in it. No time is in it, as each server has a clock of its own: it is over for a
//! server that has seen it stay as it is for [`LEASE`].

use std::time::Duration;

use uuid::Uuid;

use super::StoreError;
use crate::codec::Reader;

/// How long what is being built may stand still.
pub(super) const LEASE: Duration = Duration::from_secs(10 * 60);

/// What is being done with a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is being built.
    Building,
    /// It is to be cleared.
    Doomed,
    /// It counts; what it was merged from is to be cleared.
    Merged,
}

/// What the key of a staging says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) stage: Stage,
    /// Who builds it.
    pub(super) process: Uuid,
    /// How often it has been renewed.
    pub(super) renewals: u64,
}

impl Lease {
    pub(super) fn encode(self) -> Vec<u8> {
        let stage = match self.stage {
            Stage::Building => 0,
            Stage::Doomed => 1,
            Stage::Merged => 2,
        };
        [
            &[stage],
            self.process.as_bytes().as_slice(),
            &self.renewals.to_be_bytes(),
        ]
        .concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let mut reader = Reader(bytes);
        let mut decode = || {
            let stage = match reader.array()? {
                [0] => Stage::Building,
                [1] => Stage::Doomed,
                [2] => Stage::Merged,
                _ => return None,
            };
            Some(Self {
                stage,
                process: Uuid::from_bytes(reader.array()?),
                renewals: u64::from_be_bytes(reader.array()?),
            })
        };
        decode().ok_or_else(|| StoreError::unreadable("staging"))
    }

    /// The same generation, of which this is to be done.
    pub(super) fn to_be(stage: Stage) -> Vec<u8> {
        let nobody = Self {
            stage,
            process: Uuid::nil(),
            renewals: 0,
        };
        nobody.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_survive_exactly() {
        for stage in [Stage::Building, Stage::Doomed, Stage::Merged] {
            let lease = Lease {
                stage,
                process: Uuid::new_v4(),
                renewals: 5,
            };
            assert_eq!(Lease::decode(&lease.encode()), Ok(lease));
        }
        assert!(Lease::decode(&[9; 25]).is_err());
    }
}
