//! Accounts: made, listed, renamed and removed by the platform's administrator.

use actix_web::http::StatusCode;
use actix_web::http::header::LINK;
use actix_web::{HttpRequest, HttpResponse, web};
use inferadb_actors::auth::Scopes;
use inferadb_actors::{AccountId, AccountRecord, Page};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::caller::Caller;
use super::problem::Problem;
use super::received::Received;
use super::wire::format_time;
use super::{App, body, ok};

/// The longest name of an account or vault, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// How many items a page has where the caller does not say.
const PAGE_SIZE: usize = 100;

#[derive(Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
struct NameBody {
    name: String,
}

body::objects!(NameBody);

/// The query of a list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListQuery {
    limit: Option<usize>,
    /// Where the page goes on.
    pub cursor: Option<String>,
    /// Vaults only: whether archived ones are listed too.
    pub archived: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteQuery {
    #[serde(default, deserialize_with = "body::or_default")]
    cascade: bool,
}

#[derive(Serialize)]
struct AccountView {
    id: String,
    name: String,
    created_at: String,
    updated_at: String,
}

impl From<&AccountRecord> for AccountView {
    fn from(account: &AccountRecord) -> Self {
        Self {
            id: account.id.to_string(),
            name: account.name.clone(),
            created_at: format_time(account.created_at),
            updated_at: format_time(account.updated_at),
        }
    }
}

/// `POST /v1/accounts`
pub async fn create(
    app: web::Data<App>,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    caller.require(Scopes::ADMIN)?;
    app.require_multi_tenancy()?;
    let name = named(&bytes)?;
    let account = app.platform.create_account(&name).await?;
    tracing::info!(account = %account.id, "account created");
    Ok(HttpResponse::Created().json(AccountView::from(&account)))
}

/// `GET /v1/accounts`
pub async fn list(app: web::Data<App>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    Caller::of(&app, &request).await?.require(Scopes::ADMIN)?;
    let query: ListQuery = body::query(&request)?;
    let page = app
        .platform
        .accounts(query.cursor.as_deref(), query.limit(&app)?)
        .await?;
    let views: Vec<AccountView> = page.items.iter().map(AccountView::from).collect();
    Ok(query.answer(&request, &page, &views))
}

/// `GET /v1/accounts/{account}`
pub async fn get(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    Caller::of(&app, &request).await?.require(Scopes::ADMIN)?;
    let account = app.platform.account(account_id(&path)?).await?;
    ok(&AccountView::from(&account))
}

/// `PATCH /v1/accounts/{account}`
pub async fn update(
    app: web::Data<App>,
    path: web::Path<String>,
    Received { caller, bytes }: Received,
) -> Result<HttpResponse, Problem> {
    caller.require(Scopes::ADMIN)?;
    let id = account_id(&path)?;
    let name = named(&bytes)?;
    let account = app.platform.rename_account(id, &name).await?;
    ok(&AccountView::from(&account))
}

/// `DELETE /v1/accounts/{account}`
pub async fn delete(
    app: web::Data<App>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Problem> {
    Caller::of(&app, &request).await?.require(Scopes::ADMIN)?;
    let id = account_id(&path)?;
    let query: DeleteQuery = body::query(&request)?;
    app.platform.delete_account(id, query.cascade).await?;
    tracing::info!(account = %id, cascade = query.cascade, "account deleted");
    Ok(HttpResponse::NoContent().finish())
}

impl App {
    /// Refuses to make accounts and vaults where there is but one of each.
    pub(super) fn require_multi_tenancy(&self) -> Result<(), Problem> {
        if self.multi_tenancy {
            return Ok(());
        }
        let detail = "accounts and vaults cannot be created: `multi_tenancy.enabled` is false";
        Err(Problem::new(StatusCode::CONFLICT, "single_tenant", detail))
    }
}

impl ListQuery {
    /// How many items the page is to have.
    pub fn limit(&self, app: &App) -> Result<usize, Problem> {
        let most = app.settings.max_page_size;
        match self.limit {
            None => Ok(PAGE_SIZE.min(most)),
            Some(limit) if (1..=most).contains(&limit) => Ok(limit),
            Some(_) => Err(Problem::invalid(
                "invalid_value",
                "limit",
                format!("`limit` must be from 1 to {most}"),
            )),
        }
    }

    /// The page as a plain JSON array, with the next page in a `Link` header (RFC 8288).
    pub fn answer<T, V: Serialize>(
        &self,
        request: &HttpRequest,
        page: &Page<T>,
        views: &[V],
    ) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        if let Some(cursor) = &page.cursor {
            let mut query = form_urlencoded::Serializer::new(String::new());
            if let Some(limit) = self.limit {
                query.append_pair("limit", &limit.to_string());
            }
            if self.archived {
                query.append_pair("archived", "true");
            }
            let query = query.append_pair("cursor", cursor).finish();
            response.insert_header((LINK, format!("<{}?{query}>; rel=\"next\"", request.path())));
        }
        response.json(views)
    }
}

/// The id in a path. One that is no UUID names nothing that exists.
pub fn account_id(path: &str) -> Result<AccountId, Problem> {
    Uuid::try_parse(path)
        .map(AccountId)
        .map_err(|_| Problem::new(StatusCode::NOT_FOUND, "not_found", "no such account"))
}

/// Refuses a name that a person could not tell from others.
pub fn checked_name(name: &str) -> Result<String, Problem> {
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        let detail =
            format!("`name` must be 1 to {MAX_NAME_BYTES} bytes without control characters, and not blank");
        return Err(Problem::invalid("invalid_value", "name", detail));
    }
    Ok(name.to_owned())
}

/// The name in a body that has nothing else.
pub fn named(bytes: &[u8]) -> Result<String, Problem> {
    let body: NameBody = body::json(bytes)?;
    checked_name(&body.name)
}
