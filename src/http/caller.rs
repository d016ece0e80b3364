//! Who calls: the token of a request, what it allows, and the way into the vault that it names.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, ContentType};
use actix_web::{HttpRequest, HttpResponse};
use inferadb_actors::auth::{AuthError, Principal, Scopes};
use inferadb_actors::{AccountId, Reach, Vault, VaultError, VaultId};
use uuid::Uuid;

use super::problem::Problem;
use super::{App, Json, span};
use crate::telemetry::LogScope;

/// What the Authorization header begins with.
const SCHEME: &[u8] = b"Bearer ";

/// A caller whose token was verified.
#[derive(Debug, Clone)]
pub struct Caller(Arc<Principal>);

/// A token that is looked at again while the answer it was given for is still being sent.
pub struct Lease {
    token: Option<Box<str>>,
    expires_at: i64,
}

/// One request inside the vault of its token.
pub struct Visit {
    /// Who calls.
    pub caller: Caller,
    /// The vault.
    pub vault: Arc<Vault>,
    /// The request's id and when it arrived.
    pub scope: Arc<LogScope>,
}

impl Caller {
    /// The caller of a request.
    pub async fn of(app: &App, request: &HttpRequest) -> Result<Self, Problem> {
        match Self::known(app, request)? {
            Some(caller) => Ok(caller),
            None => Self::verified(app, request).await,
        }
    }

    /// The caller of a request, if that can be told at once: whose token was verified before.
    pub fn known(app: &App, request: &HttpRequest) -> Result<Option<Self>, Problem> {
        let Some(authenticator) = &app.authenticator else {
            return Ok(Some(Self(Arc::clone(&app.everybody))));
        };
        let token = bearer_token(request)?;
        Ok(authenticator.cached(token, unix_seconds()).map(Self))
    }

    /// The caller of a request whose token is verified now, if it has not been.
    pub async fn verified(app: &App, request: &HttpRequest) -> Result<Self, Problem> {
        let Some(authenticator) = &app.authenticator else {
            return Ok(Self(Arc::clone(&app.everybody)));
        };
        let token = text_of(bearer_token(request)?)?;
        // Boxed, so that the future of a request whose token is known stays small.
        let authenticated = Box::pin(authenticator.authenticate(token, unix_seconds()));
        Ok(Self(authenticated.await?))
    }

    /// The account that the token names, if it names one.
    pub fn account(&self) -> Option<Uuid> {
        self.0.account
    }

    /// Refuses a caller who has none of `scopes`.
    pub fn require(&self, scopes: Scopes) -> Result<(), Problem> {
        if self.0.scopes.any_of(scopes) {
            return Ok(());
        }
        let names: Vec<String> = scopes.names().map(|name| format!("`{name}`")).collect();
        Err(Problem::insufficient_scope(&names.join(" or ")))
    }

    /// Which vaults an administrator may touch; refuses everybody else.
    pub fn reach(&self) -> Result<Reach, Problem> {
        if self.0.scopes.any_of(Scopes::ADMIN) {
            return Ok(Reach::Everything);
        }
        self.require(Scopes::ADMIN | Scopes::ACCOUNT_ADMIN)?;
        match self.0.account {
            Some(account) => Ok(Reach::Account(AccountId(account))),
            None => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "account_missing",
                "a token with `inferadb.account.admin` needs an `account` claim",
            )),
        }
    }

    /// The caller's token, for as long as an answer is being sent; refuses one whose time is over but for the clocks'
    /// difference.
    pub fn lease(&self, app: &App, request: &HttpRequest) -> Result<Lease, Problem> {
        let token = match app.authenticator {
            Some(_) => Some(text_of(bearer_token(request)?)?.into()),
            None => None,
        };
        let lease = Lease {
            token,
            expires_at: self.0.expires_at,
        };
        if lease.left().is_zero() {
            return Err(Lease::expired());
        }
        Ok(lease)
    }

    /// The vault and account that the token names.
    fn scope(&self, app: &App) -> Result<(VaultId, AccountId), Problem> {
        let vault = self
            .0
            .vault
            .map(VaultId)
            .or(app.single_vault.map(|(vault, _)| vault));
        let account = self
            .0
            .account
            .map(AccountId)
            .or(app.single_vault.map(|(_, account)| account));
        match (vault, account) {
            (Some(vault), Some(account)) => Ok((vault, account)),
            _ => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "vault_access_denied",
                "Vault access denied: the token needs a `vault` and an `account` claim",
            )),
        }
    }
}

impl Lease {
    /// How long the token is good for yet.
    pub fn left(&self) -> Duration {
        let left = self.expires_at.saturating_sub(unix_seconds());
        Duration::from_secs(u64::try_from(left).unwrap_or(0))
    }

    /// What a stream ends with when its token's time is over.
    pub fn expired() -> Problem {
        Problem::unauthorized(
            "invalid_token",
            "the token has expired",
            "Bearer error=\"invalid_token\"",
        )
    }

    /// Refuses a token that would no longer be accepted: its key was withdrawn, or its time is over.
    pub async fn check(&self, app: &App) -> Result<(), Problem> {
        if self.left().is_zero() {
            return Err(Self::expired());
        }
        if let (Some(token), Some(authenticator)) = (&self.token, &app.authenticator) {
            authenticator.authenticate(token, unix_seconds()).await?;
        }
        Ok(())
    }
}

/// Runs `work` inside the vault of the token of `caller`, who has one of `scopes`, and counts it.
pub async fn in_vault<F>(
    app: &App,
    request: &HttpRequest,
    caller: Caller,
    scopes: Scopes,
    work: impl FnOnce(Visit) -> F,
) -> Result<HttpResponse, Problem>
where
    F: Future<Output = Result<HttpResponse, Problem>>,
{
    caller.require(scopes)?;
    let (vault, account) = caller.scope(app)?;
    let scope = LogScope::current()
        .unwrap_or_else(|| Arc::new(LogScope::new("", request.method().clone(), request.path())));
    scope.set_vault(vault.0, account.0);
    span::record_vault(vault, account);
    let (vault, pass) = app.platform.enter(vault, account).await?;
    let mut count = Count {
        vault: Arc::clone(&vault),
        started: scope.started(),
        failed: true,
    };
    let answer = work(Visit { caller, vault, scope }).await.map_err(denied_if_gone);
    count.failed = answer.is_err();
    drop(pass);
    answer
}

/// As [`in_vault`], of work that can be heavy: what takes longer than a moment goes on on the threads for that.
pub async fn in_vault_heavy<F>(
    app: &App,
    request: &HttpRequest,
    caller: Caller,
    scopes: Scopes,
    work: impl FnOnce(Visit) -> F,
) -> Result<HttpResponse, Problem>
where
    F: Future<Output = Result<Json, Problem>> + Send + 'static,
{
    in_vault(app, request, caller, scopes, |visit| async {
        let work = LogScope::carried(work(visit));
        let Json(body) = app.platform.heavy().finish(work).await??;
        Ok(HttpResponse::Ok().content_type(ContentType::json()).body(body))
    })
    .await
}

/// A vault that was deleted while the request was inside is one that the caller has no access to.
fn denied_if_gone(problem: Problem) -> Problem {
    if problem.code == "not_found" {
        VaultError::AccessDenied.into()
    } else {
        problem
    }
}

/// Counts a request of a vault, even one that is given up: that counts as failed.
struct Count {
    vault: Arc<Vault>,
    started: Instant,
    failed: bool,
}

impl Drop for Count {
    fn drop(&mut self) {
        let metrics = &self.vault.metrics;
        metrics.requests.inc();
        if self.failed {
            metrics.errors.inc();
        }
        metrics.latency.observe(self.started.elapsed().as_secs_f64());
    }
}

fn bearer_token(request: &HttpRequest) -> Result<&[u8], Problem> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let Some(header) = headers.next() else {
        return Err(AuthError::Missing.into());
    };
    if headers.next().is_some() {
        return Err(malformed_header("more than one Authorization header"));
    }
    match header.as_bytes().split_at_checked(SCHEME.len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(SCHEME) => Ok(trim_spaces(token)),
        _ => Err(AuthError::Missing.into()),
    }
}

/// A header's value holds no control characters: only what is not ASCII is left to refuse.
fn text_of(token: &[u8]) -> Result<&str, Problem> {
    let text = std::str::from_utf8(token).ok().filter(|text| text.is_ascii());
    text.ok_or_else(|| malformed_header("the Authorization header is not ASCII"))
}

fn trim_spaces(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

fn malformed_header(detail: &str) -> Problem {
    Problem::unauthorized("invalid_token", detail, "Bearer error=\"invalid_token\"")
}

fn unix_seconds() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
