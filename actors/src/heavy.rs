//! The threads for heavy work. A request begins where it arrived; what takes longer than a moment goes on here, in turns, so that the
//! threads which answer requests are always free for what is light, and come before these wherever both want one core.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::thread;

use inferadb_storage::background;
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::error::VaultError;
use crate::turn::{Polled, poll_before_turns};

/// Threads that requests' heavy work is done on. They end when the last clone is dropped and the work that was under way has ended.
#[derive(Debug, Clone)]
pub struct HeavyThreads(Arc<[HeavyThread]>);

#[derive(Debug)]
struct HeavyThread {
    runtime: Handle,
    /// How many pieces of work it has.
    tasks: Arc<AtomicUsize>,
    /// Begins work on the thread. It ends when this is dropped.
    begin: mpsc::UnboundedSender<Beginning>,
}

/// Begins work that does not leave its thread.
type Beginning = Box<dyn FnOnce() + Send>;

/// Counts a piece of work for as long as there is any of it.
struct Counted(Arc<AtomicUsize>);

/// Work on another thread, which is given up when this is dropped.
struct Elsewhere<T>(JoinHandle<T>);

impl HeavyThreads {
    /// Starts `count` of them, one at least.
    ///
    /// # Errors
    ///
    /// The system has no more threads, or no clock to wait by.
    pub fn start(count: usize) -> io::Result<Self> {
        (0..count.max(1))
            .map(|_| HeavyThread::start())
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// Does `work` where it is awaited until it asks for a turn, and from then on here. It is given up when whoever awaits it is.
    ///
    /// # Errors
    ///
    /// [`VaultError::ActorFailed`]: the threads have ended.
    ///
    /// # Panics
    ///
    /// Where `work` does.
    pub async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, VaultError> {
        let mut work = Box::pin(work);
        let done = poll_fn(|task| match poll_before_turns(work.as_mut(), task) {
            Polled::Done(outcome) => Poll::Ready(Some(outcome)),
            Polled::Moves => Poll::Ready(None),
            Polled::Waits => Poll::Pending,
        });
        match done.await {
            Some(outcome) => Ok(outcome),
            None => self.run(work).await,
        }
    }

    /// Does `work` here from its beginning. It is given up when whoever awaits it is.
    ///
    /// # Errors
    ///
    /// [`VaultError::ActorFailed`]: the threads have ended.
    ///
    /// # Panics
    ///
    /// Where `work` does.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, VaultError> {
        Elsewhere(self.spawn(work)?).await
    }

    /// Begins `work` here, which goes on though nobody awaits it any more.
    ///
    /// # Errors
    ///
    /// [`VaultError::ActorFailed`]: the threads have ended.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<JoinHandle<T>, VaultError> {
        let thread = self.least_busy()?;
        let counted = thread.count();
        Ok(thread.runtime.spawn(async move {
            let _counted = counted;
            work.await
        }))
    }

    /// Begins work here that nobody awaits. Where the threads have ended, `begin` is dropped.
    pub fn begin<F>(&self, begin: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let Ok(thread) = self.least_busy() else { return };
        let counted = thread.count();
        let begin = move || {
            let work = begin();
            spawn_local(async move {
                let _counted = counted;
                work.await;
            });
        };
        // An error says that the thread has ended.
        let _ = thread.begin.send(Box::new(begin));
    }

    /// Begins something on each of the threads that goes on for as long as they do, and is not taken for work.
    pub fn begin_on_each<B, F>(&self, mut begin: impl FnMut() -> B)
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        for thread in self.0.iter() {
            let begin = begin();
            // An error says that the thread has ended.
            let _ = thread.begin.send(Box::new(move || drop(spawn_local(begin()))));
        }
    }

    fn least_busy(&self) -> Result<&HeavyThread, VaultError> {
        let threads = self.0.iter();
        let least = threads.min_by_key(|thread| thread.tasks.load(Ordering::Relaxed));
        least.ok_or(VaultError::ActorFailed)
    }
}

impl HeavyThread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (begin, mut beginnings) = mpsc::unbounded_channel::<Beginning>();
        thread::Builder::new()
            .name("inferadb-heavy".into())
            .spawn(move || {
                background::enter();
                let local = LocalSet::new();
                local.block_on(&runtime, async {
                    while let Some(begin) = beginnings.recv().await {
                        begin();
                    }
                });
                // What is still under way there is for those who have gone.
                drop(local);
                runtime.shutdown_background();
            })?;
        Ok(Self {
            runtime: handle,
            tasks: Arc::default(),
            begin,
        })
    }

    fn count(&self) -> Counted {
        self.tasks.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(&self.tasks))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Future for Elsewhere<T> {
    type Output = Result<T, VaultError>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(task).map(|ended| {
            ended.map_err(|error| match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(_) => VaultError::ActorFailed,
            })
        })
    }
}

impl<T> Drop for Elsewhere<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::atomic::AtomicU64;
    use std::thread::ThreadId;
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::future::join;
    use inferadb_storage::VaultId;
    use prometheus::IntCounter;
    use tokio::sync::oneshot;
    use uuid::Uuid;

    use super::*;
    use crate::turn::{PIECE, Turn};

    struct Charges {
        used: AtomicU64,
        turns: IntCounter,
    }

    impl Charges {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                used: AtomicU64::new(0),
                turns: IntCounter::new("turns", "turns").unwrap(),
            })
        }

        fn turn(&self) -> Turn<'_> {
            Turn::new(VaultId(Uuid::nil()), Duration::ZERO, &self.used, &self.turns)
        }
    }

    /// The threads that work is on before, and after it was paced by so much.
    async fn threads_of(charges: Arc<Charges>, work: u64) -> (ThreadId, ThreadId) {
        let before = thread::current().id();
        charges.turn().pace(work).await;
        (before, thread::current().id())
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(work)
    }

    #[test]
    fn light_work_stays_and_heavy_work_moves() {
        let threads = HeavyThreads::start(1).unwrap();
        let here = thread::current().id();
        block_on(async {
            let charges = Charges::new();
            let light = threads.finish(threads_of(Arc::clone(&charges), PIECE - 1)).await;
            assert_eq!(light.unwrap(), (here, here));
            assert_eq!(charges.turns.get(), 0);
            let (before, after) = threads
                .finish(threads_of(Arc::clone(&charges), PIECE))
                .await
                .unwrap();
            assert!(before == here && after != here);
            assert_eq!(charges.turns.get(), 1);
            assert!(
                charges.used.load(Ordering::Relaxed) > 0,
                "what was done here is charged"
            );
            let (before, after) = threads.run(threads_of(charges, PIECE)).await.unwrap();
            assert!(before != here && after == before);
        });
    }

    #[test]
    fn work_that_is_done_together_moves_together() {
        let threads = HeavyThreads::start(2).unwrap();
        block_on(async {
            let (say, mut heard) = mpsc::channel(1);
            let charges = Charges::new();
            // One waits for the other, which asks for a turn first.
            let both = async move {
                let speaking = async {
                    let threads = threads_of(charges, PIECE).await;
                    say.send(threads.1).await.unwrap();
                };
                join(async { heard.recv().await.unwrap() }, speaking).await.0
            };
            let moved_to = threads.finish(both).await.unwrap();
            assert_ne!(moved_to, thread::current().id());
        });
    }

    #[test]
    fn where_nothing_can_be_moved_turns_are_taken_where_the_work_is() {
        let here = thread::current().id();
        let charges = Charges::new();
        assert_eq!(block_on(threads_of(Arc::clone(&charges), PIECE)), (here, here));
        assert_eq!(charges.turns.get(), 1);
    }

    #[test]
    fn work_is_given_up_with_whoever_awaits_it() {
        let threads = HeavyThreads::start(1).unwrap();
        block_on(async {
            let (alive, dropped) = oneshot::channel::<()>();
            let work = threads.run(async move {
                std::future::pending::<()>().await;
                drop(alive);
            });
            assert!(work.now_or_never().is_none());
            // It ends only if the work and what it holds are dropped.
            dropped.await.unwrap_err();
        });
        assert_eq!(threads.0[0].tasks.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_panic_is_the_callers_and_the_thread_goes_on() {
        let threads = HeavyThreads::start(1).unwrap();
        block_on(async {
            let work = threads.run(async { panic!("as it should") });
            let outcome: Result<Result<(), _>, _> = AssertUnwindSafe(work).catch_unwind().await;
            assert!(outcome.is_err());
            assert_eq!(threads.run(async { 7 }).await.unwrap(), 7);
        });
    }

    #[test]
    fn work_goes_where_there_is_least_of_it() {
        let threads = HeavyThreads::start(3).unwrap();
        let tasks = || -> Vec<usize> {
            let threads = threads.0.iter();
            threads.map(|one| one.tasks.load(Ordering::Relaxed)).collect()
        };
        (0..6).for_each(|_| threads.begin(std::future::pending));
        assert_eq!(tasks(), [2, 2, 2]);
        // Work that is not to leave its thread, and what ends.
        let (say, heard) = oneshot::channel();
        threads.begin(|| async {
            let own = std::rc::Rc::new(7);
            let _ = say.send(*own);
        });
        assert_eq!(heard.blocking_recv().unwrap(), 7);
    }
}
