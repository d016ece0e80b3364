//! The memory of all vaults together: what each of them holds is charged to one ledger, which says when it is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The sum of all charges, and what it may be. Clones share it.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Signed: of two changes of one charge at once, the second can be counted before the first.
    held: AtomicIsize,
    limit: usize,
    /// The most that somebody found no room for since the latest sweep, in bytes.
    wanted: AtomicUsize,
    /// Whether no more than may be was held at some time since this was last taken.
    was_within: AtomicBool,
    pressed: Notify,
}

/// What one holder is charged with. It is given back when this is dropped.
#[derive(Debug)]
pub struct Charge {
    ledger: Ledger,
    bytes: AtomicUsize,
}

impl Ledger {
    /// Nothing held yet, of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Inner {
            held: AtomicIsize::new(0),
            limit,
            wanted: AtomicUsize::new(0),
            was_within: AtomicBool::new(true),
            pressed: Notify::new(),
        }))
    }

    /// What is held, in bytes.
    pub fn held(&self) -> usize {
        usize::try_from(self.0.held.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// Whether more is held than may be: what nobody could be asked for before it came.
    pub fn is_over(&self) -> bool {
        self.lacks(0) > 0
    }

    /// How much would be too much if so much more were held, in bytes.
    pub fn lacks(&self, bytes: usize) -> usize {
        self.held().saturating_add(bytes).saturating_sub(self.0.limit)
    }

    /// Whether more was held than may be at all times since this was last asked.
    pub fn stayed_over(&self) -> bool {
        let is_over = self.is_over();
        let was_within = self.0.was_within.swap(!is_over, Ordering::Relaxed);
        is_over && !was_within
    }

    /// Whether so much more would not be too much.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.lacks(bytes) == 0
    }

    /// Whether so much more would not be too much. Where it would be, calls for a sweep that finds room for it, or for
    /// [a part of the whole](Self::margin) at most.
    pub fn ask_room(&self, bytes: usize) -> bool {
        let fits = self.has_room(bytes);
        if !fits {
            self.0.wanted.fetch_max(bytes, Ordering::Relaxed);
            self.0.pressed.notify_one();
        }
        fits
    }

    /// What somebody found no room for since this was last taken.
    pub fn take_wanted(&self) -> usize {
        self.0.wanted.swap(0, Ordering::Relaxed).min(self.margin())
    }

    /// How much is to be free, in bytes: less calls for a sweep, so that there is room by the time it is needed.
    pub fn headroom(&self) -> usize {
        self.0.limit / 64
    }

    /// What a sweep frees beyond what is needed, in bytes, so that the next row does not start the same again.
    pub fn margin(&self) -> usize {
        self.0.limit / 16
    }

    /// A holder that is charged with nothing yet.
    pub fn charge(&self) -> Charge {
        Charge {
            ledger: self.clone(),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Ends when somebody found that there is too little room, now or since this was last awaited.
    pub async fn pressed(&self) {
        self.0.pressed.notified().await;
    }

    /// Takes so many bytes more, unless more would be held then than may be.
    fn take(&self, bytes: usize) -> bool {
        let (grown, limit) = (signed(bytes), signed(self.0.limit));
        let grow = |held: isize| held.checked_add(grown).filter(|held| *held <= limit);
        let before = self
            .0
            .held
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
        match before {
            Ok(before) => self.grew_to(before.wrapping_add(grown)),
            Err(_) => {
                self.0.wanted.fetch_max(bytes, Ordering::Relaxed);
                self.0.pressed.notify_one();
            }
        }
        before.is_ok()
    }

    fn grew_to(&self, held: isize) {
        if usize::try_from(held).unwrap_or(0) > self.0.limit - self.headroom() {
            self.0.pressed.notify_one();
        }
    }

    fn move_by(&self, before: usize, after: usize) {
        let held = &self.0.held;
        if after > before {
            let grown = signed(after - before);
            self.grew_to(held.fetch_add(grown, Ordering::Relaxed).wrapping_add(grown));
        } else {
            let shrunk = signed(before - after);
            let left = held.fetch_sub(shrunk, Ordering::Relaxed).wrapping_sub(shrunk);
            let left = usize::try_from(left).unwrap_or(0);
            // Read first: it is so nearly always, and all cores read it.
            if left <= self.0.limit && !self.0.was_within.load(Ordering::Relaxed) {
                self.0.was_within.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn signed(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

impl Charge {
    /// What it is charged with, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Charges it with `bytes` in all.
    pub fn set(&self, bytes: usize) {
        self.ledger
            .move_by(self.bytes.swap(bytes, Ordering::Relaxed), bytes);
    }

    /// Charges it with `bytes` in all, if there is room for what that is more. Where there is none it stays charged as it was, and a
    /// sweep is called for. One that is changed by two threads at once is not set by any.
    pub fn try_set(&self, bytes: usize) -> bool {
        match bytes.checked_sub(self.bytes()) {
            None | Some(0) => {
                self.set(bytes);
                true
            }
            Some(more) => self.try_add(more),
        }
    }

    /// Charges it with so many more, if there is room for them. Where there is none, a sweep is called for.
    pub fn try_add(&self, bytes: usize) -> bool {
        let taken = self.ledger.take(bytes);
        if taken {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }

    /// Gives so many of them back.
    pub fn give_back(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.ledger.move_by(bytes, 0);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_sum_up_and_go_with_their_holders() {
        let ledger = Ledger::new(1_000);
        let (first, second) = (ledger.charge(), ledger.charge());
        first.set(400);
        assert!(second.try_add(500));
        assert!(ledger.has_room(100));
        assert!(!ledger.has_room(101));
        assert!(!ledger.is_over());
        first.set(600);
        assert!(ledger.is_over());
        second.give_back(200);
        assert_eq!((ledger.held(), first.bytes(), second.bytes()), (900, 600, 300));
        drop(first);
        assert_eq!(ledger.held(), 300);
        drop(second);
        assert_eq!(ledger.held(), 0);
    }

    #[test]
    fn a_charge_that_is_given_back_before_it_was_counted_is_nothing_held() {
        let ledger = Ledger::new(1_000);
        let charge = ledger.charge();
        // Two changes of one charge at once, from 0 to 500 to 0: the second is counted first.
        ledger.move_by(500, 0);
        assert_eq!(ledger.held(), 0);
        assert!(ledger.has_room(1_000) && !ledger.is_over());
        ledger.move_by(0, 500);
        assert_eq!(ledger.held(), 0);
        charge.set(7);
        assert_eq!(ledger.held(), 7);
    }

    #[test]
    fn what_is_taken_by_many_at_once_is_never_more_than_may_be() {
        let ledger = Ledger::new(10_000);
        std::thread::scope(|scope| {
            for bytes in [7, 11, 130, 400] {
                let ledger = &ledger;
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let (first, second) = (ledger.charge(), ledger.charge());
                        let taken = [first.try_add(bytes), second.try_set(20 * bytes), first.try_set(3)];
                        assert!(ledger.held() <= 10_000, "{taken:?}");
                    }
                });
            }
        });
        assert_eq!(ledger.held(), 0);
    }

    #[test]
    fn over_for_a_while_is_not_staying_so() {
        let ledger = Ledger::new(10);
        let charge = ledger.charge();
        charge.set(11);
        assert!(!ledger.stayed_over(), "it was not before");
        assert!(ledger.stayed_over() && ledger.stayed_over());
        charge.set(10);
        charge.set(12);
        assert!(!ledger.stayed_over() && ledger.stayed_over());
        charge.set(5);
        assert!(!ledger.stayed_over());
        charge.set(11);
        assert!(!ledger.stayed_over() && ledger.stayed_over());
    }

    #[test]
    fn what_there_was_no_room_for_is_known_once() {
        let ledger = Ledger::new(1_600);
        let charge = ledger.charge();
        charge.set(1_550);
        assert!(ledger.ask_room(50) && !ledger.has_room(51));
        assert_eq!(
            ledger.take_wanted(),
            0,
            "only what was asked for, and did not fit"
        );
        assert!(!ledger.ask_room(60) && !ledger.ask_room(90) && !ledger.ask_room(70));
        assert_eq!((ledger.take_wanted(), ledger.take_wanted()), (90, 0));
        assert!(!charge.try_add(80) && !charge.try_set(1_601));
        assert_eq!((ledger.take_wanted(), charge.bytes()), (80, 1_550));
        assert!(!ledger.ask_room(1_000));
        assert_eq!(ledger.take_wanted(), 100, "one is not given what many have");
    }

    #[tokio::test]
    async fn too_little_room_is_heard_of_also_afterwards() {
        let ledger = Ledger::new(10);
        let charge = ledger.charge();
        charge.set(10);
        let pressed = ledger.pressed();
        tokio::pin!(pressed);
        assert!(futures_util::poll!(pressed.as_mut()).is_pending());
        assert!(!charge.try_add(1));
        pressed.await;
        charge.set(11);
        ledger.pressed().await;
    }
}
