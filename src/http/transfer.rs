//! What exports, imports and clones of whole vaults begin with.

use inferadb_actors::{Reach, VaultId, VaultRecord};
use serde::Deserialize;

use super::App;
use super::caller::Caller;
use super::places::Place;
use super::problem::Problem;
use super::vaults::reachable_vault;
use crate::telemetry::LogScope;

/// Exports and clones take no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoQuery {}

/// The vault of a path for a transfer by a caller who may have it, and a place for the transfer.
pub async fn begin(
    app: &App,
    caller: &Caller,
    path: &str,
) -> Result<(VaultId, Reach, VaultRecord, Place), Problem> {
    let (id, reach) = reachable_vault(caller, path)?;
    let record = app.platform.vault(id, reach).await?;
    if let Some(scope) = LogScope::current() {
        scope.set_vault(id.0, record.account.0);
    }
    let slot = app.transfers.enter(record.account)?;
    Ok((id, reach, record, slot))
}
