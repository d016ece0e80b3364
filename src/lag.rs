//! How late a thread that answers requests comes to what is due: the measure of an overload.

use std::time::Duration;

use actix_web::rt;
use inferadb_actors::Platform;
use tokio::time::Instant;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(50);
/// Timers go by whole milliseconds: so much is no lateness.
const GRAIN: Duration = Duration::from_millis(2);

/// Looks, for as long as the thread answers requests, how late it comes to a timer, and tells the platform.
pub fn watch_this_thread(platform: &Platform) {
    let meter = platform.lag_meter();
    rt::spawn(async move {
        loop {
            let due = Instant::now() + EVERY;
            tokio::time::sleep_until(due).await;
            meter.observe(due.elapsed().saturating_sub(GRAIN));
        }
    });
}
