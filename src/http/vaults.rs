//! Vaults and their lifecycle, for the platform's administrator and for an account's own.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::{AccountId, Reach, VaultChange, VaultId, VaultRecord};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::accounts::{ListQuery, account_id, checked_name, named};
use super::caller::Caller;
use super::problem::Problem;
use super::received::Received;
use super::wire::{format_time, parse_time};
use super::{App, body, ok};

/// A vault on the wire.
#[derive(Serialize)]
pub struct VaultView {
    id: String,
    account_id: String,
    name: String,
    created_at: String,
    updated_at: String,
    archived: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    archived_at: Option<String>,
    limits: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, default)]
struct ChangeBody {
    name: Option<String>,
    archived: Option<bool>,
    archived_at: Option<String>,
    limits: Option<Map<String, Value>>,
}

body::objects!(ChangeBody);

impl From<&VaultRecord> for VaultView {
    fn from(vault: &VaultRecord) -> Self {
        Self {
            id: vault.id.to_string(),
            account_id: vault.account.to_string(),
            name: vault.name.clone(),
            created_at: format_time(vault.created_at),
            updated_at: format_time(vault.updated_at),
            archived: vault.archived,
            archived_at: vault.archived_at.map(format_time),
            limits: vault.limits.clone().unwrap_or_default(),
        }
    }
}

/// `POST /v1/accounts/{account}/vaults`
pub async fn create(
    app: web::Data<App>,
    path: web::Path<String>,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let account = reachable_account(&caller, &path)?;
    app.require_multi_tenancy()?;
    let name = named(&bytes)?;
    let vault = app.platform.create_vault(account, &name).await?;
    tracing::info!(vault = %vault.id, account = %account, "vault created");
    Ok(HttpResponse::Created().json(VaultView::from(&vault)))
}

/// `GET /v1/accounts/{account}/vaults`
pub async fn list(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let account = reachable_account(&Caller::of(&app, &request).await?, &path)?;
    let query: ListQuery = body::query(&request)?;
    let page = app
        .platform
        .vaults(
            account,
            query.archived,
            query.cursor.as_deref(),
            query.limit(&app)?,
        )
        .await?;
    let views: Vec<VaultView> = page.items.iter().map(VaultView::from).collect();
    Ok(query.answer(&request, &page, &views))
}

/// `GET /v1/vaults/{vault}`
pub async fn get(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (id, reach) = reachable_vault(&Caller::of(&app, &request).await?, &path)?;
    ok(&VaultView::from(&app.platform.vault(id, reach).await?))
}

/// `PATCH /v1/vaults/{vault}`
pub async fn update(
    app: web::Data<App>,
    path: web::Path<String>,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    let (id, reach) = reachable_vault(&caller, &path)?;
    let body: ChangeBody = body::json(&bytes)?;
    let change = VaultChange {
        name: body.name.as_deref().map(checked_name).transpose()?,
        archived: body.archived,
        archived_at: body
            .archived_at
            .as_deref()
            .map(|text| parse_time("archived_at", text))
            .transpose()?,
        limits: body.limits,
    };
    let vault = app.platform.update_vault(id, reach, change).await?;
    ok(&VaultView::from(&vault))
}

/// `DELETE /v1/vaults/{vault}`
pub async fn delete(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (id, reach) = reachable_vault(&Caller::of(&app, &request).await?, &path)?;
    app.platform.delete_vault(id, reach).await?;
    tracing::info!(vault = %id, "vault deleted");
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /v1/vaults/{vault}/stats`
pub async fn stats(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (id, reach) = reachable_vault(&Caller::of(&app, &request).await?, &path)?;
    let report = app.platform.stats(id, reach).await?;
    let limits = json!({
        "max_depth": report.limits.max_depth,
        "max_work": report.limits.max_work,
        "checks_per_second": report.limits.checks_per_second,
        "writes_per_second": report.limits.writes_per_second,
        "max_watches": report.limits.max_watches,
        "max_concurrent_requests": report.limits.max_concurrent_requests,
        "mailbox_capacity": report.limits.mailbox_capacity,
    });
    let mut body = json!({
        "vault": report.record.id.to_string(),
        "account_id": report.record.account.to_string(),
        "active": report.active.is_some(),
        "archived": report.record.archived,
        "relationships": report.relationships,
        "revision": report.revision.encode(id),
        "limits": limits,
    });
    if let (Some(stats), Some(body)) = (report.active, body.as_object_mut()) {
        let asked = stats.cache_hits + stats.cache_misses;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
        let hit_rate = if asked == 0 {
            Value::Null
        } else {
            json!(stats.cache_hits as f64 / asked as f64)
        };
        body.insert("active_since".into(), json!(format_time(stats.activated_at)));
        body.insert(
            "activation_ms".into(),
            // To the microsecond.
            json!((stats.activation.as_secs_f64() * 1e6).round() / 1e3),
        );
        let idle_timeout = stats.idle_timeout.map(|timeout| timeout.as_secs());
        body.insert("idle_timeout_seconds".into(), json!(idle_timeout));
        body.insert("last_used_at".into(), json!(format_time(stats.last_used_at)));
        body.insert("in_flight".into(), json!(stats.in_flight));
        body.insert("mailbox_depth".into(), json!(stats.mailbox_depth));
        body.insert("watches".into(), json!(stats.watches));
        let cache = json!({
            "entries": stats.decisions,
            "bytes": stats.decision_bytes,
            "hits": stats.cache_hits,
            "misses": stats.cache_misses,
            "hit_rate": hit_rate,
        });
        body.insert("cache".into(), cache);
        let rows = json!({ "entries": stats.rows, "bytes": stats.row_bytes, "complete": stats.resident });
        body.insert("rows".into(), rows);
        let memory = json!({
            "bytes": stats.memory_bytes,
            "schema_bytes": stats.schema_bytes,
            "budget_bytes": stats.memory_budget_bytes,
        });
        body.insert("memory".into(), memory);
    }
    ok(&body)
}

/// `POST /v1/vaults/{vault}/activate`
pub async fn activate(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (id, reach) = reachable_vault(&Caller::of(&app, &request).await?, &path)?;
    app.platform.activate(id, reach).await?;
    ok(&json!({ "vault": id.to_string(), "active": true }))
}

/// `POST /v1/vaults/{vault}/deactivate`
pub async fn deactivate(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    let (id, reach) = reachable_vault(&Caller::of(&app, &request).await?, &path)?;
    app.platform.deactivate(id, reach).await?;
    ok(&json!({ "vault": id.to_string(), "active": false }))
}

/// The account of a path, if the caller may touch its vaults. One that the caller may not touch is one that does not exist.
fn reachable_account(caller: &Caller, path: &str) -> Result<AccountId, Problem> {
    let reach = caller.reach()?;
    let account = account_id(path)?;
    match reach {
        Reach::Account(own) if own != account => Err(Problem::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "no such account",
        )),
        _ => Ok(account),
    }
}

/// The vault of a path, and which vaults the caller may touch.
pub fn reachable_vault(caller: &Caller, path: &str) -> Result<(VaultId, Reach), Problem> {
    let reach = caller.reach()?;
    let id = Uuid::try_parse(path).map(VaultId);
    let id = id.map_err(|_| Problem::new(StatusCode::NOT_FOUND, "not_found", "no such vault"))?;
    Ok((id, reach))
}
