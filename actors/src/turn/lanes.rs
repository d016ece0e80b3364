//! Who is next: a lane for each vault that waits, and one turn at a time among them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use inferadb_storage::VaultId;

/// A turn that has neither ended nor been given up for so long belongs to a request that nobody polls any more.
const LOST_AFTER: Duration = Duration::from_millis(250);

/// The lanes of one thread. The vault that has used the least time of those that wait is next; one that comes after others
/// have waited a while begins where they are, so that an idle time is no credit.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<VaultId, Lane>,
    /// Lanes somebody waits in, in the order of their turns. Of one lane whose turn it is, none.
    ready: BTreeSet<(Duration, u64, VaultId)>,
    /// Lanes nobody waits in that are still ahead of the others.
    idle: BTreeSet<(Duration, VaultId)>,
    running: Option<Running>,
    /// How far the lane has come whose turn was the latest.
    reached: Duration,
    sequence: u64,
}

#[derive(Debug, Default)]
struct Lane {
    /// The time it used, from where it began.
    used: Duration,
    waiting: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Running {
    waiter: Arc<Waiter>,
    /// When it was granted or, once it has begun, when it began.
    since: Instant,
}

/// A request that waits for its turn, or has it.
#[derive(Debug)]
pub(super) struct Waiter {
    vault: VaultId,
    granted: AtomicBool,
    waker: AtomicWaker,
}

impl Waiter {
    /// Whether its turn has come; the task is woken when it does.
    pub(super) fn is_granted(&self, task: &std::task::Waker) -> bool {
        self.waker.register(task);
        self.granted.load(Ordering::Acquire)
    }
}

impl Lanes {
    /// Waits in the vault's lane.
    pub(super) fn enter(&mut self, vault: VaultId, now: Instant) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            vault,
            granted: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let is_running = self.is_running(vault);
        let lane = self.lanes.entry(vault).or_default();
        lane.waiting.push_back(Arc::clone(&waiter));
        if lane.waiting.len() == 1 && !is_running {
            self.idle.remove(&(lane.used, vault));
            lane.used = lane.used.max(self.reached);
            self.sequence += 1;
            self.ready.insert((lane.used, self.sequence, vault));
        }
        self.grant(now);
        waiter
    }

    /// Begins a turn that was granted: the time until the request was polled is none of its own.
    pub(super) fn begin(&mut self, waiter: &Arc<Waiter>, now: Instant) {
        if let Some(running) = &mut self.running
            && Arc::ptr_eq(&running.waiter, waiter)
        {
            running.since = now;
        }
    }

    /// Gives a turn back, or the place of one that has yet to come; `used` is the time it took.
    pub(super) fn leave(&mut self, waiter: &Arc<Waiter>, used: Duration, now: Instant) {
        let has_turn = |running: &Running| Arc::ptr_eq(&running.waiter, waiter);
        if self.running.as_ref().is_some_and(has_turn) {
            self.end(used);
        } else if let Some(lane) = self.lanes.get_mut(&waiter.vault) {
            lane.waiting.retain(|other| !Arc::ptr_eq(other, waiter));
            if lane.waiting.is_empty() && !self.is_running(waiter.vault) {
                self.ready.retain(|(_, _, vault)| *vault != waiter.vault);
                self.rest(waiter.vault);
            }
        }
        self.grant(now);
    }

    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.running.is_none() && self.ready.is_empty()
    }

    fn is_running(&self, vault: VaultId) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.waiter.vault == vault)
    }

    /// Ends the turn under way.
    fn end(&mut self, used: Duration) {
        let Some(Running { waiter, .. }) = self.running.take() else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(&waiter.vault) else {
            return;
        };
        lane.used += used;
        if lane.waiting.is_empty() {
            self.rest(waiter.vault);
        } else {
            self.sequence += 1;
            self.ready.insert((lane.used, self.sequence, waiter.vault));
        }
    }

    /// Keeps what a lane has used for as long as it is ahead of the others.
    fn rest(&mut self, vault: VaultId) {
        match self.lanes.get(&vault) {
            Some(lane) if lane.used > self.reached => {
                self.idle.insert((lane.used, vault));
            }
            _ => {
                self.lanes.remove(&vault);
            }
        }
    }

    /// Gives the next turn, unless one is under way.
    fn grant(&mut self, now: Instant) {
        if let Some(running) = &self.running {
            if now.saturating_duration_since(running.since) < LOST_AFTER {
                return;
            }
            // Nobody used it: the thread may just have been elsewhere.
            self.end(Duration::ZERO);
        }
        let Some((used, _, vault)) = self.ready.pop_first() else {
            // Nobody is ahead of anybody.
            self.lanes.clear();
            self.idle.clear();
            self.reached = Duration::ZERO;
            return;
        };
        self.reached = self.reached.max(used);
        while let Some((used, vault)) = self.idle.first().copied()
            && used <= self.reached
        {
            self.idle.pop_first();
            self.lanes.remove(&vault);
        }
        let waiting = self.lanes.get_mut(&vault).map(|lane| &mut lane.waiting);
        if let Some(waiter) = waiting.and_then(VecDeque::pop_front) {
            waiter.granted.store(true, Ordering::Release);
            waiter.waker.wake();
            self.running = Some(Running { waiter, since: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const A: VaultId = VaultId(Uuid::from_u128(1));
    const B: VaultId = VaultId(Uuid::from_u128(2));
    const C: VaultId = VaultId(Uuid::from_u128(3));
    const SLICE: Duration = Duration::from_micros(100);

    fn has_turn(waiter: &Waiter) -> bool {
        waiter.granted.load(Ordering::Acquire)
    }

    /// Runs turns of the given length until nobody waits; answers whose they were.
    fn run(
        lanes: &mut Lanes,
        waiters: Vec<Arc<Waiter>>,
        length: impl Fn(VaultId) -> Duration,
    ) -> Vec<VaultId> {
        let now = Instant::now();
        let mut left = waiters;
        let mut order = Vec::new();
        while !left.is_empty() {
            let granted: Vec<usize> = (0..left.len()).filter(|at| has_turn(&left[*at])).collect();
            let [at] = granted[..] else {
                panic!("one turn at a time, not {}", granted.len());
            };
            let waiter = left.remove(at);
            order.push(waiter.vault);
            lanes.leave(&waiter, length(waiter.vault), now);
        }
        assert!(lanes.is_empty());
        order
    }

    #[test]
    fn vaults_take_turns_however_many_requests_one_has() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let mut waiters: Vec<_> = (0..6).map(|_| lanes.enter(A, now)).collect();
        waiters.push(lanes.enter(B, now));
        waiters.push(lanes.enter(C, now));
        waiters.push(lanes.enter(B, now));
        let order = run(&mut lanes, waiters, |_| SLICE);
        assert_eq!(order, [A, B, C, A, B, A, A, A, A]);
    }

    #[test]
    fn who_took_longer_waits_longer() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let mut waiters = Vec::new();
        for _ in 0..3 {
            waiters.push(lanes.enter(A, now));
            waiters.push(lanes.enter(A, now));
            waiters.push(lanes.enter(B, now));
        }
        let order = run(
            &mut lanes,
            waiters,
            |vault| if vault == A { 4 * SLICE } else { SLICE },
        );
        assert_eq!(order, [A, B, B, B, A, A, A, A, A]);
    }

    #[test]
    fn one_that_comes_back_keeps_what_it_used() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let first = lanes.enter(A, now);
        let others: Vec<_> = (0..3).map(|_| lanes.enter(B, now)).collect();
        lanes.leave(&first, 2 * SLICE, now);
        let again = lanes.enter(A, now);
        // A is two slices ahead: B has two turns before it.
        let order = run(&mut lanes, others.into_iter().chain([again]).collect(), |_| SLICE);
        assert_eq!(order, [B, B, A, B]);
    }

    #[test]
    fn a_newcomer_has_no_credit_and_no_debt() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let mut waiters: Vec<_> = (0..9).map(|_| lanes.enter(A, now)).collect();
        for _ in 0..5 {
            let waiter = waiters.remove(0);
            assert!(has_turn(&waiter));
            lanes.leave(&waiter, SLICE, now);
        }
        waiters.extend((0..3).map(|_| lanes.enter(B, now)));
        assert_eq!(run(&mut lanes, waiters, |_| SLICE), [A, B, A, B, A, B, A]);
    }

    #[test]
    fn who_gives_up_is_passed_over() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let running = lanes.enter(A, now);
        let waiting: Vec<_> = [A, B, C].map(|vault| lanes.enter(vault, now)).into();
        lanes.leave(&waiting[1], Duration::ZERO, now);
        // The one whose turn it is gives up before it begins.
        lanes.leave(&running, Duration::ZERO, now);
        let left = vec![Arc::clone(&waiting[0]), Arc::clone(&waiting[2])];
        assert_eq!(run(&mut lanes, left, |_| SLICE).len(), 2);
        // Leaving twice is harmless.
        lanes.leave(&waiting[0], SLICE, now);
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_turn_that_nobody_takes_is_lost() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let lost = lanes.enter(A, now);
        let next = lanes.enter(B, now);
        assert!(has_turn(&lost) && !has_turn(&next));
        let last = lanes.enter(C, now + LOST_AFTER);
        assert!(has_turn(&next) && !has_turn(&last));
        // Its late end ends nobody else's turn.
        lanes.leave(&lost, SLICE, now + LOST_AFTER);
        assert!(!has_turn(&last));
        lanes.leave(&next, SLICE, now + LOST_AFTER);
        assert!(has_turn(&last));
    }

    #[test]
    fn a_turn_begins_when_its_request_is_polled() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let stalled = lanes.enter(A, now);
        let polled = now + LOST_AFTER * 2;
        lanes.begin(&stalled, polled);
        let next = lanes.enter(B, polled + LOST_AFTER / 2);
        assert!(!has_turn(&next), "the first is still at it");
        // Whoever has no turn begins none.
        lanes.begin(&next, polled + LOST_AFTER / 2);
        let last = lanes.enter(C, polled + LOST_AFTER);
        assert!(has_turn(&next) && !has_turn(&last));
    }

    #[test]
    fn a_lost_turn_is_no_debt() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let _lost = lanes.enter(A, now);
        let after = now + LOST_AFTER;
        let first = lanes.enter(B, after);
        let waiters = [B, A, B, A].map(|vault| lanes.enter(vault, after));
        let order = run(&mut lanes, [vec![first], waiters.into()].concat(), |_| SLICE);
        assert_eq!(order, [B, A, B, A, B]);
    }

    #[test]
    fn nothing_is_kept_of_vaults_that_are_done() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let running = lanes.enter(A, now);
        let waiting = lanes.enter(A, now);
        lanes.leave(&running, SLICE, now);
        for number in 10..1_000 {
            let one = lanes.enter(VaultId(Uuid::from_u128(number)), now);
            lanes.leave(&one, Duration::ZERO, now);
        }
        assert_eq!(lanes.lanes.len(), 1);
        lanes.leave(&waiting, SLICE, now);
        assert!(lanes.lanes.is_empty() && lanes.idle.is_empty());
    }
}
