//! How late the threads that answer requests, or do what is heavy of them, come to what is due: the measure of an overload.

use std::time::Duration;

use actix_web::rt;
use inferadb_actors::{LagMeter, Platform};
use tokio::time::Instant;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(50);
/// Timers go by whole milliseconds: so much is no lateness.
const GRAIN: Duration = Duration::from_millis(2);
/// A thread for heavy work is owed a tenth of a core that others want: it may come as many times as late.
const PATIENCE: u32 = 10;

/// Looks, for as long as the thread answers requests, how late it comes to a timer, and tells the platform.
pub fn watch_this_thread(platform: &Platform) {
    rt::spawn(watch(platform.lag_meter(), 1));
}

/// The same of each thread for heavy work.
pub fn watch_heavy_threads(platform: &Platform) {
    platform.heavy().begin_on_each(|| {
        let meter = platform.lag_meter();
        || watch(meter, PATIENCE)
    });
}

/// Tells a `patience`th of how late it is.
async fn watch(meter: LagMeter, patience: u32) {
    loop {
        let due = Instant::now() + EVERY;
        tokio::time::sleep_until(due).await;
        meter.observe(due.elapsed().saturating_sub(GRAIN) / patience);
    }
}
