//! `POST /v1/vaults/{vault}/clone`: a new vault with another's state.

use actix_web::{HttpResponse, web};
use inferadb_actors::{Reach, Revision, VaultError};
use serde::Deserialize;

use super::accounts::{account_id, checked_name};
use super::problem::Problem;
use super::received::Received;
use super::vaults::VaultView;
use super::{App, body, transfer};

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct CloneBody {
    name: String,
    #[serde(default)]
    account: Option<String>,
    #[serde(default)]
    revision: Option<String>,
}

body::objects!(CloneBody);

/// `POST /v1/vaults/{vault}/clone`
pub async fn clone(
    app: web::Data<App>,
    path: web::Path<String>,
    Received { caller, bytes, .. }: Received,
) -> Result<HttpResponse, Problem> {
    let (source, reach, _, _slot) = transfer::begin(&app, &caller, &path).await?;
    app.require_multi_tenancy()?;
    let body: CloneBody = body::json(&bytes)?;
    let name = checked_name(&body.name)?;
    let account = body.account.as_deref().map(account_id).transpose()?;
    if let (Reach::Account(own), Some(account)) = (reach, account)
        && own != account
    {
        // As one that does not exist.
        return Err(VaultError::NotFound("account").into());
    }
    let revision = match &body.revision {
        Some(text) => Some(
            Revision::decode(source, text)
                .map_err(|error| Problem::invalid("invalid_revision", "revision", error.to_string()))?,
        ),
        None => None,
    };
    let cloning = app.platform.clone_vault(source, reach, &name, account, revision);
    let vault = cloning.await.map_err(|error| {
        let is_about_revision = matches!(error, VaultError::RevisionAhead | VaultError::HistoryGone);
        let mut problem = Problem::from(error);
        if is_about_revision {
            problem.field = Some("revision".to_owned());
        }
        problem
    })?;
    tracing::info!(vault = %vault.id, account = %vault.account, %source, "vault cloned");
    Ok(HttpResponse::Created().json(VaultView::from(&vault)))
}
