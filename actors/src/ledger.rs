//! The memory of all vaults together: what each of them holds is charged to one ledger, which says when it is too much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The sum of all charges, and what it may be. Clones share it.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    held: AtomicUsize,
    limit: usize,
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
            held: AtomicUsize::new(0),
            limit,
            pressed: Notify::new(),
        }))
    }

    /// What is held, in bytes.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Whether more is held than may be.
    pub fn is_over(&self) -> bool {
        self.held() > self.0.limit
    }

    /// Whether so much more would be too much. Whoever hears so and could do with it calls for a sweep by that.
    pub fn has_room(&self, bytes: usize) -> bool {
        let fits = self.held().saturating_add(bytes) <= self.0.limit;
        if !fits {
            self.0.pressed.notify_one();
        }
        fits
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

    fn move_by(&self, before: usize, after: usize) {
        let held = &self.0.held;
        if after > before {
            let grown = after - before;
            if held.fetch_add(grown, Ordering::Relaxed) + grown > self.0.limit {
                self.0.pressed.notify_one();
            }
        } else {
            held.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

impl Charge {
    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What it is charged with, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Charges it with `bytes` in all.
    pub fn set(&self, bytes: usize) {
        self.ledger
            .move_by(self.bytes.swap(bytes, Ordering::Relaxed), bytes);
    }

    /// Charges it with so many more.
    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.ledger.move_by(0, bytes);
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
        second.add(500);
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

    #[tokio::test]
    async fn too_little_room_is_heard_of_also_afterwards() {
        let ledger = Ledger::new(10);
        let charge = ledger.charge();
        charge.set(10);
        let pressed = ledger.pressed();
        tokio::pin!(pressed);
        assert!(futures_util::poll!(pressed.as_mut()).is_pending());
        charge.add(1);
        pressed.await;
        charge.add(1);
        ledger.pressed().await;
    }
}
