//! Work apart: what is heavy and cannot be done in turns, such as compiling a schema, is done on threads of its own, a few at a
//! time, so that those which answer requests never wait for it.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use inferadb_engine::pause;
use inferadb_storage::background;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::VaultError;

/// What vaults' requests ask for: half of the cores are left to answer others.
static OF_REQUESTS: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new((cores() / 2).max(1))));
/// What activations need, which do not wait for what requests ask for.
static OF_ACTIVATIONS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(cores())));

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Does work that a request of a vault asks for, while `own` keeps the vault from asking for more of it. `charge` is told the nanoseconds
/// that it took. Once begun it is done and charged though whoever asked goes away.
pub(crate) async fn of_request<T: Send + 'static>(
    own: OwnedSemaphorePermit,
    charge: impl FnOnce(u64) + Send + 'static,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, VaultError> {
    run(&OF_REQUESTS, move || {
        let _own = own;
        let (started, given) = (Instant::now(), background::given_away());
        let outcome = work();
        // What others had of the core meanwhile is theirs.
        let took = started.elapsed().saturating_sub(background::given_away() - given);
        charge(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        outcome
    })
    .await
}

/// Does work that a vault cannot be activated without.
pub(crate) async fn of_activation<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, VaultError> {
    run(&OF_ACTIVATIONS, work).await
}

/// Makes the calling thread one of the background, whose long work pauses, that of the engine too.
pub(crate) fn enter() {
    background::enter();
    pause::with(background::breathe);
}

async fn run<T: Send + 'static>(
    places: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, VaultError> {
    // The semaphore is never closed.
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.map_err(|_| VaultError::ActorFailed)?;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        enter();
        work()
    });
    done.await.map_err(|_| VaultError::ActorFailed)
}
