//! The sweeper: looks, on a timer, for vaults that should not be active any more.

use std::time::Duration;

use actix::prelude::*;

use crate::registry::Registry;
use crate::vault::now;

/// Sweeps the registry on a timer.
pub struct Sweeper {
    registry: Registry,
    every: Duration,
    sweeping: bool,
}

impl Sweeper {
    /// A sweeper that looks often enough to evict idle vaults within a quarter of their time.
    pub fn new(registry: Registry) -> Self {
        let idle = registry.idle_timeout().unwrap_or(Duration::from_secs(4));
        let every = (idle / 4).clamp(Duration::from_millis(250), Duration::from_secs(1));
        Self {
            registry,
            every,
            sweeping: false,
        }
    }
}

/// How long memory stays as it is after a sweep that found too little to take: what is in use may be so for a while.
const PAUSE: Duration = Duration::from_millis(100);

/// Sweeps as soon as memory is short, and does not wait for the timer.
async fn relieve(registry: Registry) {
    loop {
        registry.ledger().pressed().await;
        let evicted = registry.sweep(now()).await;
        if evicted == 0 || registry.ledger().is_over() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Actor for Sweeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.spawn(relieve(self.registry.clone()).into_actor(self));
        ctx.run_interval(self.every, |sweeper, ctx| {
            if sweeper.sweeping {
                return;
            }
            sweeper.sweeping = true;
            let registry = sweeper.registry.clone();
            let sweep = async move { registry.sweep(now()).await };
            ctx.spawn(
                sweep
                    .into_actor(sweeper)
                    .map(|_, sweeper, _| sweeper.sweeping = false),
            );
        });
    }
}
