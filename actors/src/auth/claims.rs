//! The payload of a token whose signature holds: every claim that we act on, read strictly.

use uuid::Uuid;

use super::error::Refusal;
use super::json::{self, Json, Object};
use super::principal::{Principal, Scopes};
use super::settings::AuthSettings;

/// The last second of the year 9999. What lies behind it is milliseconds taken for seconds, or an attack.
const LATEST_TIME: f64 = 253_402_300_799.0;
/// Providers that insist on namespaced claims (Auth0) put ours under this prefix.
const NAMESPACE: &str = "https://inferadb.app/";
/// The claims that can carry scopes. Each may be a space-separated string or an array of strings.
const SCOPE_CLAIMS: [&str; 4] = ["scope", "scopes", "scp", "permissions"];

/// What a payload says, once it has passed.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) principal: Principal,
    /// The Unix second from which the token is accepted, clock skew included. A cached verification keeps to it, so
    /// that it answers as a fresh one would even when the clock was set back.
    pub(super) valid_from: i64,
}

impl Claims {
    /// Reads and judges a payload at `now`, in Unix seconds.
    pub(super) fn read(payload: &[u8], settings: &AuthSettings, now: i64) -> Result<Self, Refusal> {
        let claims = json::object(payload).map_err(|_| Refusal::BadPayload)?;
        let (expires_at, valid_from) = read_times(&claims, settings.clock_skew_seconds(), now)?;
        verify_issuer(&claims, settings.issuer.as_deref())?;
        verify_audience(&claims, &settings.audiences)?;
        let principal = Principal {
            subject: read_string(&claims, "sub", Refusal::BadSubject)?,
            vault: read_id(&claims, "vault", Refusal::BadVault, Refusal::ConflictingVaults)?,
            account: read_id(
                &claims,
                "account",
                Refusal::BadAccount,
                Refusal::ConflictingAccounts,
            )?,
            scopes: read_scopes(&claims)?,
            expires_at,
            token_id: read_string(&claims, "jti", Refusal::BadTokenId)?,
        };
        Ok(Self {
            principal,
            valid_from,
        })
    }
}

/// `exp`, rounded down, and the second from which `nbf` and `iat` let the token pass.
fn read_times(claims: &Object, skew: i64, now: i64) -> Result<(i64, i64), Refusal> {
    let expiry = time(claims, "exp", Refusal::BadExpiry)?.ok_or(Refusal::MissingExpiry)?;
    let expires_at = expiry.floor() as i64;
    if now >= expires_at.saturating_add(skew) {
        return Err(Refusal::Expired);
    }
    let mut valid_from = 0;
    let starts = [
        ("nbf", Refusal::BadNotBefore, Refusal::NotYetValid),
        ("iat", Refusal::BadIssuedAt, Refusal::IssuedInFuture),
    ];
    for (name, malformed, early) in starts {
        let Some(start) = time(claims, name, malformed)? else {
            continue;
        };
        let start = (start.ceil() as i64).saturating_sub(skew);
        if now < start {
            return Err(early);
        }
        valid_from = start.max(valid_from);
    }
    Ok((expires_at, valid_from))
}

/// A NumericDate (RFC 7519, section 2): a number, whole or not, that is a time people could mean.
fn time(claims: &Object, name: &str, malformed: Refusal) -> Result<Option<f64>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::Number(seconds)) if (0.0..=LATEST_TIME).contains(seconds) => Ok(Some(*seconds)),
        Some(_) => Err(malformed),
    }
}

fn verify_issuer(claims: &Object, issuer: Option<&str>) -> Result<(), Refusal> {
    match (claims.get("iss"), issuer) {
        (None | Some(Json::String(_)), None) => Ok(()),
        (Some(Json::String(claimed)), Some(issuer)) if claimed == issuer => Ok(()),
        _ => Err(Refusal::WrongIssuer),
    }
}

fn verify_audience(claims: &Object, audiences: &[String]) -> Result<(), Refusal> {
    let is_ours = |name: &str| !name.is_empty() && audiences.iter().any(|audience| audience == name);
    let accepted = match claims.get("aud") {
        Some(Json::String(name)) => is_ours(name),
        Some(Json::Array(names)) => {
            names.iter().all(|name| name.as_str().is_some())
                && names.iter().filter_map(Json::as_str).any(is_ours)
        }
        _ => false,
    };
    if accepted {
        Ok(())
    } else {
        Err(Refusal::WrongAudience)
    }
}

fn read_string(claims: &Object, name: &str, malformed: Refusal) -> Result<Option<String>, Refusal> {
    match claims.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(malformed),
    }
}

/// An id from the plain claim or the namespaced one. Where both are given they have to agree: taking either would let
/// whoever can set the other one choose the tenant.
fn read_id(
    claims: &Object,
    name: &str,
    malformed: Refusal,
    conflicting: Refusal,
) -> Result<Option<Uuid>, Refusal> {
    let read = |claim: Option<&Json>| claim.map(|claim| uuid(claim).ok_or(malformed)).transpose();
    let plain = read(claims.get(name))?;
    let namespaced = read(claims.get(&format!("{NAMESPACE}{name}")))?;
    match (plain, namespaced) {
        (Some(plain), Some(namespaced)) if plain != namespaced => Err(conflicting),
        (plain, namespaced) => Ok(plain.or(namespaced)),
    }
}

/// A UUID in the 36 characters of RFC 9562, section 4, in either case; the nil UUID names nothing.
fn uuid(claim: &Json) -> Option<Uuid> {
    let text = claim.as_str().filter(|text| text.len() == 36)?;
    Uuid::try_parse(text).ok().filter(|id| !id.is_nil())
}

/// Our scopes, from whichever claims name any. Claims that name none of ours have no say; those that do must all name
/// the same: a union would grant what no single claim grants.
fn read_scopes(claims: &Object) -> Result<Scopes, Refusal> {
    let mut agreed = Scopes::NONE;
    for name in SCOPE_CLAIMS {
        let scopes = match claims.get(name) {
            None => continue,
            Some(Json::String(names)) => names.split(' ').map(Scopes::named).collect(),
            Some(Json::Array(names)) => names
                .iter()
                .map(|name| name.as_str().map(Scopes::named).ok_or(Refusal::BadScope))
                .collect::<Result<Scopes, Refusal>>()?,
            Some(_) => return Err(Refusal::BadScope),
        };
        match (agreed.is_empty(), scopes.is_empty()) {
            (_, true) => {}
            (true, false) => agreed = scopes,
            (false, false) if agreed == scopes => {}
            (false, false) => return Err(Refusal::ConflictingScopes),
        }
    }
    Ok(agreed)
}

#[cfg(test)]
mod tests;
