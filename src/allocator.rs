//! Giving memory back to the system.
//!
//! The allocator keeps what was freed for the thread that allocated it, until that thread allocates again. After vaults were
//! evicted each thread that may hold some of theirs is told to let go, or an idle server would stay as large as it ever was.

use std::time::Duration;

use inferadb_actors::Platform;

/// How often a thread that serves requests looks whether vaults were evicted.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Gives what the calling thread freed back to the system.
#[expect(unsafe_code, reason = "the allocator has no safe call for it")]
pub fn release() {
    // SAFETY: it may be called by any thread at any time, and touches nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Releases what the calling thread freed whenever vaults were evicted, for ever.
pub async fn release_after_evictions(platform: Platform) {
    let mut seen = platform.evictions();
    loop {
        actix_web::rt::time::sleep(LOOK_INTERVAL).await;
        let now = platform.evictions();
        if now != seen {
            seen = now;
            release();
        }
    }
}
