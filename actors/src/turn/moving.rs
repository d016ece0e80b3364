//! Work that begins on one thread and goes on, as soon as it asks for a turn, on another.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// What is polled takes its turns where it is.
    Stays,
    /// What is polled is to be moved before its first turn.
    MayMove,
    /// It has asked for a turn.
    Asked,
}

thread_local! {
    static STATE: Cell<State> = const { Cell::new(State::Stays) };
}

/// What became of work that was polled where it cannot take turns.
pub(crate) enum Polled<T> {
    Done(T),
    /// It waits for something else than a turn.
    Waits,
    /// It asked for a turn: it is to be polled elsewhere from now on.
    Moves,
}

/// Puts back, even in a panic, what was there before.
struct Restore(State);

impl Drop for Restore {
    fn drop(&mut self) {
        STATE.set(self.0);
    }
}

/// Polls `work`, which is to take no turn on this thread.
pub(crate) fn poll_before_turns<T>(
    work: Pin<&mut (impl Future<Output = T> + ?Sized)>,
    task: &mut Context<'_>,
) -> Polled<T> {
    let _restore = Restore(STATE.replace(State::MayMove));
    match work.poll(task) {
        Poll::Ready(outcome) => Polled::Done(outcome),
        Poll::Pending if STATE.get() == State::Asked => Polled::Moves,
        Poll::Pending => Polled::Waits,
    }
}

/// To be awaited before a turn: ends where turns are taken.
pub(super) async fn where_turns_are_taken() {
    poll_fn(|task| match STATE.get() {
        State::Stays => Poll::Ready(()),
        State::MayMove | State::Asked => {
            STATE.set(State::Asked);
            // Whoever holds this among other work polls only what was woken.
            task.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}
