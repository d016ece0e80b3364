//! What the auth actor and the requests share: the published key set, and who may ask for it to be fetched anew.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::Addr;
use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;

use super::actor::{AuthActor, Refetch};
use super::keys::KeySet;
use super::settings::AuthSettings;
use super::source::FetchError;
use super::status::Counters;

/// How long a request waits for a fetch that somebody began: a little longer than a fetch may take.
const FETCH_WAIT: Duration = Duration::from_secs(6);

/// A key set as the actor published it.
pub(super) struct Published {
    pub(super) keys: KeySet,
    /// Moves when the keys change, and only then: a refresh that brings the same keys costs no cached verification.
    pub(super) generation: u64,
    /// When the fetch that brought it began. The clock is monotonic: setting the system's clock ages no key.
    pub(super) fetched_at: Instant,
}

/// The state behind every clone of one authenticator.
pub(super) struct Shared {
    pub(super) settings: AuthSettings,
    pub(super) counters: Counters,
    published: ArcSwapOption<Published>,
    flight: Mutex<Flight>,
    /// Changes each time a fetch ends, however it ends.
    landed: watch::Sender<u64>,
    last_error: Mutex<Option<String>>,
}

/// The one fetch that can be under way at a time.
#[derive(Default)]
struct Flight {
    under_way: bool,
    /// When an unknown key last caused a fetch.
    last_for_unknown: Option<Instant>,
    actor: Option<Addr<AuthActor>>,
}

impl Shared {
    pub(super) fn new(settings: AuthSettings, counters: Counters) -> Self {
        Self {
            settings,
            counters,
            published: ArcSwapOption::empty(),
            flight: Mutex::default(),
            landed: watch::channel(0).0,
            last_error: Mutex::default(),
        }
    }

    /// The key set to verify with, unless there is none or the hard cap has passed. The reader judges the age itself,
    /// so that keys die on time even if the actor has.
    pub(super) fn usable(&self) -> Option<Arc<Published>> {
        self.last_published()
            .filter(|published| published.fetched_at.elapsed() < self.settings.max_stale)
    }

    /// The generation of [`Shared::usable`], for looking a token up: the busiest path, so nothing is counted up and
    /// down.
    pub(super) fn usable_generation(&self) -> Option<u64> {
        let published = self.published.load();
        let published = published.as_ref()?;
        (published.fetched_at.elapsed() < self.settings.max_stale).then_some(published.generation)
    }

    /// The last good key set, however old.
    pub(super) fn last_published(&self) -> Option<Arc<Published>> {
        self.published.load_full()
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Publishes what a fetch brought; answers whether the keys have changed.
    pub(super) fn publish(&self, keys: KeySet, fetched_at: Instant) -> bool {
        let previous = self.last_published();
        let changed = previous.as_ref().is_none_or(|previous| previous.keys != keys);
        let generation = previous.map_or(0, |previous| previous.generation) + u64::from(changed);
        self.published.store(Some(Arc::new(Published {
            keys,
            generation,
            fetched_at,
        })));
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.counters.count_fetch(Ok(()));
        changed
    }

    /// Notes why a fetch brought nothing. The key set stays as it is.
    pub(super) fn note_failure(&self, error: &FetchError) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.counters.count_fetch(Err(error));
    }

    /// The actor says that it fetches from now on.
    pub(super) fn take_off(&self) {
        self.flight().under_way = true;
    }

    /// A fetch has ended, or the actor that did it has: whoever waits may look again.
    pub(super) fn land(&self) {
        self.flight().under_way = false;
        self.landed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The actor that refetches are asked of from now on.
    pub(super) fn set_actor(&self, actor: Option<Addr<AuthActor>>) {
        self.flight().actor = actor;
    }

    pub(super) fn actor(&self) -> Option<Addr<AuthActor>> {
        self.flight().actor.clone()
    }

    /// Waits for a fetch because a token needs a key that is not there; answers whether one has ended meanwhile, so
    /// that looking again makes sense.
    ///
    /// Everybody who comes while a fetch is under way waits for that one. Otherwise the first to come after the floor
    /// starts one, and those within the floor are told no at once. Attempts within the floor do not prolong it, and
    /// the periodic refresh takes no notice of it: a flood of unknown keys delays a genuine new one by the floor at
    /// most. With no usable key set (`have_keys` is false) only a fetch under way is waited for; the actor's own
    /// retries bring the next.
    pub(super) async fn await_fetch(&self, have_keys: bool) -> bool {
        let Some(mut landing) = self.join_or_start(have_keys) else {
            return false;
        };
        matches!(
            tokio::time::timeout(FETCH_WAIT, landing.changed()).await,
            Ok(Ok(()))
        )
    }

    fn join_or_start(&self, have_keys: bool) -> Option<watch::Receiver<u64>> {
        let mut flight = self.flight();
        if !flight.under_way {
            let floor = self.settings.effective_floor();
            let allowed = flight.last_for_unknown.is_none_or(|last| last.elapsed() >= floor);
            let actor = flight
                .actor
                .clone()
                .filter(|actor| have_keys && allowed && actor.connected())?;
            flight.last_for_unknown = Some(Instant::now());
            flight.under_way = true;
            actor.do_send(Refetch);
        }
        // Subscribed under the lock that a landing takes, so the landing cannot slip past.
        Some(self.landed.subscribe())
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
