//! The gate of a vault: who is inside, and whether anybody may still come in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::Notify;

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const DEAD: u8 = 2;
/// Somebody looks whether the gate is empty, to close it if so.
const PROBING: u8 = 3;

/// Counts the requests inside a vault, and closes it without cutting any of them off.
#[derive(Debug, Default)]
pub struct Gate {
    state: AtomicU8,
    inside: AtomicUsize,
    watching: AtomicUsize,
    left: Notify,
}

/// Why nobody may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The vault is being drained, or its actor died: ask the registry again.
    Gone,
    /// Too many are inside.
    Full,
    /// The server is overloaded, and the vault has used its share.
    Spent,
}

/// One request inside a vault. Dropping it leaves.
#[derive(Debug)]
pub struct Pass(Arc<Gate>);

/// One watch of a vault: it pins the vault, but a drain does not wait for it. Dropping it gives it up.
#[derive(Debug)]
pub struct Place(Arc<Gate>);

impl Gate {
    /// Comes in, if the vault is open and fewer than `most` are inside.
    pub fn enter(self: &Arc<Self>, most: usize) -> Result<Pass, Closed> {
        // The count is raised before the state is read, and `close` sets the state before it reads the count: one of
        // the two sees the other, whichever comes first.
        let before = self.inside.fetch_add(1, Ordering::SeqCst);
        let pass = Pass(Arc::clone(self));
        if self.state.load(Ordering::SeqCst) != OPEN {
            return Err(Closed::Gone);
        }
        if before >= most {
            return Err(Closed::Full);
        }
        Ok(pass)
    }

    /// Stays inside on behalf of somebody who came in, and who may leave before the work is done.
    pub fn stay(self: &Arc<Self>) -> Pass {
        self.inside.fetch_add(1, Ordering::SeqCst);
        Pass(Arc::clone(self))
    }

    /// Takes a place to watch from, on behalf of somebody inside, if fewer than `most` are taken.
    pub fn watch(self: &Arc<Self>, most: usize) -> Option<Place> {
        let before = self.watching.fetch_add(1, Ordering::SeqCst);
        let place = Place(Arc::clone(self));
        (before < most).then_some(place)
    }

    /// How many watch.
    pub fn watching(&self) -> usize {
        self.watching.load(Ordering::SeqCst)
    }

    /// Whether the vault is open.
    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }

    /// Whether the vault's actor died.
    pub fn is_dead(&self) -> bool {
        self.state.load(Ordering::SeqCst) == DEAD
    }

    /// How many are inside.
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::SeqCst)
    }

    /// Lets nobody in any more; says whether this call closed it.
    pub fn close(&self) -> bool {
        self.turn(OPEN, CLOSING) || self.turn(PROBING, CLOSING) || self.turn(OPEN, CLOSING)
    }

    /// Lets nobody in any more if nobody is inside or watches now; says whether it did.
    pub fn close_if_empty(&self) -> bool {
        if !self.turn(OPEN, PROBING) {
            return false;
        }
        if self.inside() == 0 && self.watching() == 0 {
            return self.turn(PROBING, CLOSING);
        }
        // Whoever closed it for good meanwhile, or marked it dead, must not be undone.
        self.turn(PROBING, OPEN);
        false
    }

    fn turn(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Notes that the actor is no more.
    pub fn mark_dead(&self) {
        self.state.store(DEAD, Ordering::SeqCst);
        self.left.notify_waiters();
    }

    /// Ends when nobody is inside.
    pub async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.inside() == 0 {
                return;
            }
            left.await;
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.0.inside.fetch_sub(1, Ordering::SeqCst) == 1 && !self.0.is_open() {
            self.0.left.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.watching.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_watches_pins_but_is_not_waited_for() {
        let gate = Arc::new(Gate::default());
        let place = gate.watch(1).unwrap();
        assert!(gate.watch(1).is_none());
        assert_eq!((gate.watching(), gate.inside()), (1, 0));
        assert!(!gate.close_if_empty());
        assert!(
            gate.enter(1).is_ok(),
            "the gate is open again, and a watch is no request"
        );
        drop(place);
        assert!(gate.close_if_empty());
    }

    #[test]
    fn full_and_closed_gates_let_nobody_in() {
        let gate = Arc::new(Gate::default());
        let first = gate.enter(1).unwrap();
        assert_eq!(gate.enter(1).unwrap_err(), Closed::Full);
        assert_eq!(gate.inside(), 1);
        assert!(!gate.close_if_empty(), "somebody is inside");
        assert!(gate.is_open());
        drop(first);
        assert!(gate.close_if_empty());
        assert_eq!(gate.enter(1).unwrap_err(), Closed::Gone);
        assert_eq!(gate.inside(), 0);
    }

    #[tokio::test]
    async fn draining_waits_for_those_inside() {
        let gate = Arc::new(Gate::default());
        let pass = gate.enter(8).unwrap();
        assert!(gate.close());
        let emptied = gate.emptied();
        tokio::pin!(emptied);
        assert!(futures_util::poll!(emptied.as_mut()).is_pending());
        drop(pass);
        emptied.await;
    }
}
