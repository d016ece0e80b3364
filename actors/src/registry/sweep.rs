//! What takes room and time back from vaults: sweeps evict the idle and the coldest, and an overloaded server holds the busiest.

use std::sync::Arc;
use std::time::Instant;

use inferadb_engine::noun::Timestamp;

use super::draining::Reason;
use super::{FORGIVEN_AFTER, Inner, Registry};
use crate::overload::LagMeter;
use crate::vault::{Vault, now};

impl Registry {
    /// Takes away what should not be active: idle vaults, the coldest ones beyond the caps or where there was no room for
    /// rows, and dead ones; answers how many it evicted. Does nothing while another sweep is under way.
    pub async fn sweep(&self, now: Timestamp) -> usize {
        let Ok(_sweeps) = self.0.sweeps.try_lock() else {
            return 0;
        };
        let wanted = self.ledger().take_wanted();
        self.sweep_alone(now, wanted).await
    }

    /// Finds room for so many bytes more, at the cost of the coldest vaults; says whether there is.
    pub(super) async fn make_room(&self, bytes: usize) -> bool {
        if self.ledger().has_room(bytes) {
            return true;
        }
        let mut sweeps = self.0.sweeps.lock().await;
        // Whoever swept before may have found enough for many.
        let began = Instant::now();
        if !self.ledger().has_room(bytes) && !sweeps.is_in_vain(began) {
            self.sweep_alone(now(), bytes).await;
            if !self.ledger().has_room(bytes) {
                sweeps.was_in_vain(began, Instant::now());
            }
        }
        self.ledger().has_room(bytes)
    }

    async fn sweep_alone(&self, now: Timestamp, wanted: usize) -> usize {
        let mut coldest_first: Vec<Arc<Vault>> = self.actives();
        for vault in &coldest_first {
            if !vault.is_open() {
                self.discard(vault);
            } else {
                vault.report_size();
            }
        }
        coldest_first.retain(|vault| vault.is_open());
        // Taken once: they are used while they are sorted.
        coldest_first.sort_by_cached_key(|vault| vault.last_used());
        let (settings, ledger) = (&self.0.settings, self.ledger());
        let is_short = !ledger.has_room(wanted.max(ledger.headroom()));
        let enough = wanted + ledger.margin();
        let mut count = coldest_first.len();
        // Where those that are watched are too many by themselves, evicting all others does not help.
        let watched = coldest_first.iter().filter(|vault| vault.is_watched());
        let can_fit = watched.count() <= settings.max_active;
        // Some more than are too many, so that the next activation does not start the same again.
        let most = match count > settings.max_active {
            true => settings.max_active - settings.max_active / 64,
            false => settings.max_active,
        };
        let (mut evicted, mut staying) = (0, Vec::new());
        // One by one: what a vault held is given back once nobody has it any more, and the next one may stay then.
        let mut coldest_first = coldest_first.into_iter();
        for vault in coldest_first.by_ref() {
            let idle_micros = now.0.saturating_sub(vault.last_used().0);
            let is_idle = settings
                .idle_timeout
                .is_some_and(|limit| u128::try_from(idle_micros).unwrap_or(0) >= limit.as_micros());
            let reason = if is_idle {
                Reason::Idle
            } else if count > most && can_fit {
                Reason::MaxActive
            } else if is_short && !ledger.has_room(enough) {
                Reason::Memory
            } else {
                staying.push(vault);
                break;
            };
            if self.evict_if_idle(&vault, reason).await {
                count -= 1;
                evicted += 1;
            } else {
                staying.push(vault);
            }
        }
        staying.extend(coldest_first);
        // Not for headroom alone: who fits exactly, and is in use, may stay as he is.
        self.slim(&staying, wanted).await;
        drop(staying);
        let held = i64::try_from(ledger.held()).unwrap_or(i64::MAX);
        self.0.metrics.held_bytes.set(held);
        self.0
            .deaths
            .retain(|_, deaths| deaths.latest.elapsed() < FORGIVEN_AFTER);
        let now = Instant::now();
        self.0.debts.retain(|_, rates| !rates.are_spent_out(now));
        evicted
    }

    /// Finds room for so many bytes among the rows and decisions of vaults that cannot be evicted, since somebody is inside or watches: from
    /// the coldest first.
    async fn slim(&self, coldest_first: &[Arc<Vault>], wanted: usize) {
        let can_give = |vault: &&Arc<Vault>| vault.is_open() && vault.can_slim();
        for vault in coldest_first.iter().filter(can_give) {
            let lacking = self.ledger().lacks(wanted);
            if lacking == 0 {
                return;
            }
            vault.slim(lacking).await;
        }
    }

    /// Ends a window: where the threads were late or memory is short, holds the vaults that use most to less.
    pub fn balance(&self) {
        let Inner {
            overload, settings, ..
        } = &*self.0;
        let late = overload.end_window();
        let is_late = settings.overload_lag.is_some_and(|most| late >= most);
        // What evictions brought down meanwhile only comes and goes.
        let is_over = self.ledger().stayed_over();
        let mut brake = overload.brake();
        let window = brake.end_window(Instant::now());
        if brake.is_released() && !is_late && !is_over {
            return;
        }
        let memory_is_short = brake.is_memory_short(is_over);
        let vaults = self.actives();
        let mut used: Vec<u64> = vaults.iter().map(|vault| vault.end_window()).collect();
        used.extend(self.0.inactive.end_window());
        let was_held = brake.holds();
        let had = window.as_nanos() * settings.request_threads as u128;
        let had = u64::try_from(had).unwrap_or(u64::MAX);
        let level = brake.next(is_late, had, used.iter().copied());
        for vault in &vaults {
            vault.hold_to(level);
        }
        self.0.inactive.hold_to(level);
        // One that is watched would not go though nobody were inside.
        let largest = vaults.iter().filter(|vault| !vault.is_watched());
        let largest = largest.max_by_key(|vault| vault.bytes());
        let largest = largest.filter(|_| memory_is_short);
        brake.hold_memory(largest.is_some());
        if let Some(largest) = largest {
            // As soon as nobody is inside it can be evicted.
            largest.hold_to(Some(0));
            tracing::warn!(vault = %largest.id, bytes = largest.bytes(), "memory is short: the largest vault takes no requests for now");
        }
        self.0.metrics.set_overloaded(brake.holds());
        if level.is_some() && !was_held {
            let late_ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(late_ms, "overloaded: the busiest vaults are held to less");
        }
    }

    /// A meter for one more thread that answers requests.
    pub fn lag_meter(&self) -> LagMeter {
        self.0.overload.meter(self.0.metrics.lag_seconds.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Platform;
    use crate::settings::Settings;
    use inferadb_storage::{Backend, VaultId};
    use std::time::Duration;

    #[actix::test]
    async fn a_sweep_that_is_given_up_leaves_no_vault_half_drained() {
        let metrics = prometheus::Registry::new();
        let platform = Platform::start(Backend::Memory, Settings::default(), &metrics)
            .await
            .unwrap();
        let account = platform.create_account("sweeps").await.unwrap().id;
        let id = platform.create_vault(account, "swept").await.unwrap().id;
        drop(platform.enter(id, account).await.unwrap());
        // The vault's thread is kept busy meanwhile, so that it cannot be drained at once.
        let (free, busy) = std::sync::mpsc::channel::<()>();
        let arbiter = platform.registry.arbiter_of(id);
        arbiter.spawn_fn(move || {
            let _ = busy.recv();
        });
        let mut sweep = Box::pin(platform.registry.sweep(Timestamp(i64::MAX)));
        assert!(futures_util::poll!(sweep.as_mut()).is_pending());
        assert_eq!(platform.registry.active(id).map(|vault| vault.id), None);
        drop(sweep);
        drop(free);
        let again = tokio::time::timeout(Duration::from_secs(20), platform.enter(id, account));
        again.await.unwrap().unwrap();
        assert_eq!((platform.active_count(), platform.evictions()), (1, 1));
    }

    #[actix::test]
    async fn a_sweep_for_memory_takes_the_coldest_until_there_is_room_and_no_more() {
        const TOTAL: usize = 1_000_000;
        const VAULTS: usize = 40;
        let settings = Settings {
            total_memory_bytes: TOTAL,
            idle_timeout: None,
            ..Settings::default()
        };
        let platform = Platform::start(Backend::Memory, settings, &prometheus::Registry::new()).await;
        let platform = platform.unwrap();
        let account = platform.create_account("sweeps").await.unwrap().id;
        let mut ids = Vec::new();
        for _ in 0..VAULTS {
            let id = platform.create_vault(account, "cold").await.unwrap().id;
            drop(platform.enter(id, account).await.unwrap());
            ids.push(id);
        }
        let ledger = platform.registry.ledger();
        let each = ledger.held() / VAULTS;
        // Everything that is left is held by somebody else.
        let other = ledger.charge();
        other.set(TOTAL - ledger.held());
        assert!(platform.registry.make_room(1).await);
        let needed = (ledger.margin() + 1).div_ceil(each);
        let evicted = usize::try_from(platform.evictions()).unwrap();
        // A sweep also finds what they share of their schema.
        assert!(
            (needed - 1..=needed + 1).contains(&evicted),
            "{evicted}, not {needed}"
        );
        let is_active = |id: &VaultId| platform.registry.active(*id).is_some();
        let (cold, hot) = ids.split_at(evicted);
        assert!(!cold.iter().any(is_active) && hot.iter().all(is_active));
    }
}
