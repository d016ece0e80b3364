//! `POST /v1/vaults/{vault}/clone`: a new vault with another's state.

use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::{Reach, Revision, VaultError};
use serde::Deserialize;

use super::accounts::{account_id, checked_name};
use super::problem::Problem;
use super::received::Received;
use super::transfer::{self, NoQuery};
use super::vaults::VaultView;
use super::{App, body};
use crate::telemetry::LogScope;

/// Why there is no way back to a revision.
const GONE: &str = "the vault's state at this revision cannot be read any more: the changes made since then are not all kept, or come to \
                    more than 32 MiB";

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
    request: HttpRequest,
    path: web::Path<String>,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let (source, reach, _, _slot) = transfer::begin(&app, &caller, &path).await?;
    app.require_multi_tenancy()?;
    let NoQuery {} = body::query(&request)?;
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
    let platform = app.platform.clone();
    let cloning = LogScope::carried(async move {
        platform
            .clone_vault(source, reach, &name, account, revision)
            .await
    });
    let cloned = app.platform.heavy().run(cloning).await?;
    let vault = cloned.map_err(|error| {
        // Without a revision it is what was written meanwhile: the next attempt begins with what is there then.
        let is_gone = revision.is_some() && matches!(error, VaultError::HistoryGone);
        let is_about_revision = is_gone || matches!(error, VaultError::RevisionAhead);
        let mut problem = Problem::from(error);
        if is_about_revision {
            problem.field = Some("revision".to_owned());
        }
        if is_gone {
            GONE.clone_into(&mut problem.detail);
        }
        problem
    })?;
    tracing::info!(vault = %vault.id, account = %vault.account, %source, "vault cloned");
    Ok(HttpResponse::Created().json(VaultView::from(&vault)))
}
