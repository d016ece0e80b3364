//! The auth actor: it fetches the key set at the start, on a timer, and when a token names an unknown key.

use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::keys::KeySet;
use super::shared::Shared;
use super::source::{FetchError, Fetched, KeySource};

/// The first retry after a failed fetch comes this soon; each further one takes twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Retries come at least this often, however long the provider has been away.
const SLOWEST_RETRY: Duration = Duration::from_secs(60);
/// Whatever a source promises, a fetch that takes longer is given up, so that the next one can begin.
const FETCH_LIMIT: Duration = Duration::from_secs(10);

/// Fetch the key set now, unless a fetch is already under way.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct Refetch;

/// Stop: no further fetch begins.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Stop;

/// Keeps the published key set fresh. All it knows beyond that set is how often it has failed: one that took its place
/// after a panic would do the same.
pub struct AuthActor {
    shared: Arc<Shared>,
    source: Arc<dyn KeySource>,
    fetching: bool,
    failures_in_a_row: u32,
    next_fetch: Option<SpawnHandle>,
    /// Dropped with the actor, by which whoever started it learns that it is gone.
    _alive: oneshot::Sender<()>,
}

impl AuthActor {
    pub(super) fn new(shared: Arc<Shared>, source: Arc<dyn KeySource>, alive: oneshot::Sender<()>) -> Self {
        Self {
            shared,
            source,
            fetching: false,
            failures_in_a_row: 0,
            next_fetch: None,
            _alive: alive,
        }
    }

    fn fetch(&mut self, context: &mut Context<Self>) {
        if self.fetching {
            return;
        }
        self.fetching = true;
        self.shared.take_off();
        if let Some(timer) = self.next_fetch.take() {
            context.cancel_future(timer);
        }
        let source = Arc::clone(&self.source);
        let fetch = async move {
            let began_at = Instant::now();
            let outcome = tokio::time::timeout(FETCH_LIMIT, source.fetch()).await;
            (outcome.unwrap_or(Err(FetchError::Timeout)), began_at)
        };
        let landed = fetch.into_actor(self).map(|(outcome, began_at), actor, context| {
            let delay = actor.receive(outcome, began_at);
            actor.fetching = false;
            actor.shared.land();
            actor.next_fetch = Some(context.run_later(delay, Self::fetch));
        });
        context.spawn(landed);
    }

    /// Publishes what came, or keeps what was there; answers how long to wait before the next fetch.
    fn receive(&mut self, outcome: Result<Fetched, FetchError>, began_at: Instant) -> Duration {
        let read = outcome.and_then(|fetched| Ok((KeySet::parse(&fetched.body)?, fetched.max_age)));
        match read {
            Ok((keys, max_age)) => {
                self.failures_in_a_row = 0;
                let count = keys.len();
                if self.shared.publish(keys, began_at) {
                    tracing::info!(keys = count, "key set loaded");
                }
                self.refresh_delay(max_age)
            }
            Err(error) => {
                self.shared.note_failure(&error);
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                let age_seconds = self
                    .shared
                    .last_published()
                    .map(|last| last.fetched_at.elapsed().as_secs());
                match age_seconds {
                    None => tracing::error!(%error, "key set not loaded: no token can be verified"),
                    Some(_) if self.shared.usable().is_none() => {
                        tracing::error!(%error, age_seconds, "key set not refreshed: the last one is too old to use");
                    }
                    Some(_) => {
                        tracing::warn!(%error, age_seconds, "key set not refreshed: the last one is kept")
                    }
                }
                self.retry_delay()
            }
        }
    }

    /// The refresh interval, or sooner if the provider says that its answer will not keep that long.
    fn refresh_delay(&self, max_age: Option<Duration>) -> Duration {
        let interval = self.shared.settings.effective_refresh();
        let soonest = self.shared.settings.effective_floor();
        max_age.map_or(interval, |max_age| max_age.max(soonest).min(interval))
    }

    fn retry_delay(&self) -> Duration {
        let doublings = self.failures_in_a_row.saturating_sub(1).min(16);
        let delay = FIRST_RETRY.saturating_mul(1 << doublings);
        delay
            .min(SLOWEST_RETRY)
            .min(self.shared.settings.effective_refresh())
    }
}

impl Actor for AuthActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.fetch(context);
    }
}

impl Handler<Refetch> for AuthActor {
    type Result = ();

    fn handle(&mut self, _: Refetch, context: &mut Self::Context) {
        self.fetch(context);
    }
}

impl Handler<Stop> for AuthActor {
    type Result = ();

    fn handle(&mut self, _: Stop, context: &mut Self::Context) {
        context.stop();
    }
}
