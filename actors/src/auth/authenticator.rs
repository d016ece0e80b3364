//! The door: a bearer token goes in, and its principal comes out or the reason why not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix::Actor;
use prometheus::Registry;
use tokio::sync::oneshot;

use super::actor::{AuthActor, Stop};
use super::cache::{TokenCache, TokenDigest, Verification};
use super::claims::Claims;
use super::compact::Compact;
use super::error::{AuthError, Refusal, StartError};
use super::keys::Key;
use super::principal::Principal;
use super::settings::AuthSettings;
use super::shared::{Published, Shared};
use super::source::{self, KeySource};
use super::status::{Counters, Status, register};

/// How long the first respawn after a panic waits; each further one twice as long, up to the slowest.
const FIRST_RESPAWN: Duration = Duration::from_millis(100);
const SLOWEST_RESPAWN: Duration = Duration::from_secs(10);
/// How often one token may wait for a fetch: once for one that was already under way and may have begun too early,
/// and once for its own.
const MAX_WAITS: usize = 2;

/// Verifies bearer tokens against the provider's key set. Clones are cheap and share everything; the key set is
/// kept fresh by one [`AuthActor`], which stops when the last clone is dropped.
#[derive(Clone)]
pub struct Authenticator {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    tokens: TokenCache,
    stopped: Arc<AtomicBool>,
}

impl Authenticator {
    /// Starts the auth actor on the current actix arbiter, with the key set that the settings name, and registers the
    /// metrics if there is a registry. Does not wait for the key set: [`Authenticator::status`] says when it is
    /// there.
    ///
    /// # Errors
    ///
    /// If the settings cannot work, or if there is no running actix system.
    pub fn start(settings: AuthSettings, registry: Option<&Registry>) -> Result<Self, StartError> {
        let address = settings.jwks_url.as_deref().ok_or(StartError::NoKeySource)?;
        let source = source::source(address)?;
        Self::start_with(settings, source.into(), registry)
    }

    /// As [`Authenticator::start`], with a key set from elsewhere; `jwks_url` is not looked at.
    ///
    /// # Errors
    ///
    /// As [`Authenticator::start`].
    pub fn start_with(
        settings: AuthSettings,
        source: Arc<dyn KeySource>,
        registry: Option<&Registry>,
    ) -> Result<Self, StartError> {
        settings.verify()?;
        if actix::Arbiter::try_current().is_none() {
            return Err(StartError::NoRuntime);
        }
        tracing::info!(source = source.describe(), "key set configured");
        let tokens = TokenCache::new(settings.token_cache_entries);
        let shared = Arc::new(Shared::new(settings, Counters::new()?));
        if let Some(registry) = registry {
            register(&shared, registry)?;
        }
        let stopped = Arc::new(AtomicBool::new(false));
        // A fetch counts as under way from now on, so that a request that is faster than the actor waits for it.
        shared.take_off();
        actix::spawn(keep_alive(Arc::clone(&shared), source, Arc::clone(&stopped)));
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                tokens,
                stopped,
            }),
        })
    }

    /// The caller of a token that was verified before and that a fresh verification at `now` (Unix seconds) would
    /// still accept. Never waits, takes no mailbox hop.
    pub fn cached(&self, token: &[u8], now: i64) -> Option<Arc<Principal>> {
        self.cached_digest(&TokenDigest::of(token), now)
    }

    /// The caller of `token` at `now`, in Unix seconds: from the cache, or by verifying its signature and its claims.
    ///
    /// Waits only where the token names a key that is not in the set, for one fetch that all such tokens share.
    ///
    /// # Errors
    ///
    /// If the token breaks a rule, or if there is no key set to verify it with.
    pub async fn authenticate(&self, token: &str, now: i64) -> Result<Arc<Principal>, AuthError> {
        let digest = TokenDigest::of(token.as_bytes());
        if let Some(principal) = self.cached_digest(&digest, now) {
            return Ok(principal);
        }
        match self.verify(token, now).await {
            Ok(verification) => {
                self.inner.shared.counters.verified.inc();
                let principal = Arc::clone(&verification.principal);
                self.inner.tokens.put(digest, verification, now);
                Ok(principal)
            }
            Err(error) => {
                self.inner.shared.counters.count_refused(error);
                Err(error)
            }
        }
    }

    /// How authentication fares; for readiness and for operators.
    pub fn status(&self) -> Status {
        Status::of(&self.inner.shared)
    }

    /// Stops the auth actor. Keys already published keep verifying until the hard cap.
    pub fn stop(&self) {
        self.inner.stop();
    }

    fn cached_digest(&self, digest: &TokenDigest, now: i64) -> Option<Arc<Principal>> {
        let generation = self.inner.shared.usable_generation()?;
        let principal = self.inner.tokens.get(digest, generation, now)?;
        self.inner.shared.counters.cached.inc();
        Some(principal)
    }

    async fn verify(&self, token: &str, now: i64) -> Result<Verification, AuthError> {
        let shared = &self.inner.shared;
        let token = Compact::parse(token)?;
        let mut waits = 0;
        loop {
            let refused = match shared.usable() {
                None => AuthError::KeysUnavailable,
                Some(published) => match published.keys.select(token.key_id.as_deref(), token.algorithm) {
                    Ok(key) => return Ok(verify_with(key, &published, &token, &shared.settings, now)?),
                    Err(Refusal::UnknownKey) => {
                        // A token that no key could save is not worth a fetch. Nothing else follows from these
                        // claims: nobody has vouched for them yet.
                        Claims::read(&token.payload, &shared.settings, now)?;
                        Refusal::UnknownKey.into()
                    }
                    Err(refusal) => return Err(refusal.into()),
                },
            };
            if waits == MAX_WAITS || !shared.await_fetch(refused != AuthError::KeysUnavailable).await {
                return Err(refused);
            }
            waits += 1;
        }
    }
}

impl Inner {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(actor) = self.shared.actor() {
            actor.do_send(Stop);
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The signature first: claims count for nothing before it holds.
fn verify_with(
    key: &Key,
    published: &Published,
    token: &Compact<'_>,
    settings: &AuthSettings,
    now: i64,
) -> Result<Verification, Refusal> {
    if !key.verifies(token.algorithm, token.signed, &token.signature) {
        return Err(Refusal::BadSignature);
    }
    let claims = Claims::read(&token.payload, settings, now)?;
    Ok(Verification {
        principal: Arc::new(claims.principal),
        valid_from: claims.valid_from,
        generation: published.generation,
    })
}

/// Runs the actor, and another in its place whenever one is gone: actix closes the mailbox of an actor that panicked
/// for good.
async fn keep_alive(shared: Arc<Shared>, source: Arc<dyn KeySource>, stopped: Arc<AtomicBool>) {
    let mut delay = FIRST_RESPAWN;
    while !stopped.load(Ordering::Relaxed) {
        let (alive, gone) = oneshot::channel();
        let started_at = tokio::time::Instant::now();
        shared.set_actor(Some(
            AuthActor::new(Arc::clone(&shared), Arc::clone(&source), alive).start(),
        ));
        // The sender is never used, only dropped: an error is the news that the actor is gone.
        let _gone = gone.await;
        shared.set_actor(None);
        shared.land();
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        if started_at.elapsed() > SLOWEST_RESPAWN {
            delay = FIRST_RESPAWN;
        }
        tracing::error!(
            delay_ms = delay.as_millis(),
            "the auth actor is gone: starting another"
        );
        tokio::time::sleep(delay).await;
        delay = delay.saturating_mul(2).min(SLOWEST_RESPAWN);
    }
}
