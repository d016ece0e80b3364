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
use std::time::Duration;

use inferadb_storage::background;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use crate::error::VaultError;
use crate::turn::{Polled, poll_before_turns};

/// How often a stop looks whether there is still work.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long a stop waits for a thread that was told to end.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Threads that requests' heavy work is done on. They end when they are stopped, or when the last clone is dropped; what is under way then
/// is dropped.
#[derive(Debug, Clone)]
pub struct HeavyThreads(Arc<[HeavyThread]>);

#[derive(Debug)]
struct HeavyThread {
    runtime: Handle,
    load: Load,
    /// What it is told. It ends when this is dropped.
    told: mpsc::UnboundedSender<Told>,
    /// Closed when it has ended.
    ended: watch::Receiver<()>,
}

/// How many pieces of work a thread has.
#[derive(Debug, Default)]
struct Load {
    /// That somebody waits for.
    awaited: Arc<AtomicUsize>,
    /// That nobody does: streams and watches, which mostly wait themselves.
    begun: Arc<AtomicUsize>,
}

/// What a thread is told.
enum Told {
    /// To begin work that does not leave it.
    Begin(Box<dyn FnOnce() + Send>),
    /// To end.
    End,
}

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
        let thread = self.with_least(|load| &load.awaited)?;
        let counted = Counted::one_of(&thread.load.awaited);
        Ok(thread.runtime.spawn(async move {
            let _counted = counted;
            work.await
        }))
    }

    /// Begins work here that nobody awaits, and that mostly waits itself. Where the threads have ended, `begin` is dropped.
    pub fn begin<F>(&self, begin: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        if let Ok(thread) = self.with_least(|load| &load.begun) {
            let counted = Counted::one_of(&thread.load.begun);
            thread.begin(move || async move {
                let _counted = counted;
                begin().await;
            });
        }
    }

    /// Begins something on each of the threads that goes on for as long as they do, and is not taken for work.
    pub fn begin_on_each<B, F>(&self, mut begin: impl FnMut() -> B)
    where
        B: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        self.0.iter().for_each(|thread| thread.begin(begin()));
    }

    /// Ends the threads, as soon as nothing is under way that is awaited or was begun to be seen through, and after so long in any case.
    pub async fn stop(&self, within: Duration) {
        let is_idle = || {
            let mut threads = self.0.iter();
            threads.all(|thread| thread.load.awaited.load(Ordering::Relaxed) == 0)
        };
        let waiting = async {
            while !is_idle() {
                sleep(LOOK_INTERVAL).await;
            }
        };
        // Whoever still waits is told that the server stops.
        let _ = timeout(within, waiting).await;
        for thread in self.0.iter() {
            // An error says that it has ended.
            let _ = thread.told.send(Told::End);
        }
        for thread in self.0.iter() {
            let mut ended = thread.ended.clone();
            // One that is in the midst of something ends after that.
            let _ = timeout(END_TIMEOUT, ended.changed()).await;
        }
    }

    /// The thread with the least of a kind of work, of those that have not ended.
    fn with_least(&self, of: impl Fn(&Load) -> &AtomicUsize) -> Result<&HeavyThread, VaultError> {
        let running = self.0.iter().filter(|thread| !thread.told.is_closed());
        let least = running.min_by_key(|thread| of(&thread.load).load(Ordering::Relaxed));
        least.ok_or(VaultError::ActorFailed)
    }
}

impl HeavyThread {
    fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (told, mut heard) = mpsc::unbounded_channel();
        let (running, ended) = watch::channel(());
        thread::Builder::new()
            .name("inferadb-heavy".into())
            .spawn(move || {
                background::enter();
                let local = LocalSet::new();
                local.block_on(&runtime, async {
                    while let Some(Told::Begin(begin)) = heard.recv().await {
                        begin();
                    }
                });
                drop((heard, local));
                runtime.shutdown_background();
                drop(running);
            })?;
        Ok(Self {
            runtime: handle,
            load: Load::default(),
            told,
            ended,
        })
    }

    fn begin<F>(&self, begin: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        // What it panics with is the work's, and not the thread's.
        let begin = move || drop(spawn_local(async move { begin().await }));
        // An error says that the thread has ended.
        let _ = self.told.send(Told::Begin(Box::new(begin)));
    }
}

impl Counted {
    fn one_of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
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
        inside: AtomicUsize,
        turns: IntCounter,
    }

    impl Charges {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                used: AtomicU64::new(0),
                inside: AtomicUsize::new(0),
                turns: IntCounter::new("turns", "turns").unwrap(),
            })
        }

        fn turn(&self) -> Turn<'_> {
            Turn::new(
                VaultId(Uuid::nil()),
                Duration::ZERO,
                (&self.used, &self.inside),
                &self.turns,
            )
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
        // The count is the last of it.
        while threads.0[0].load.awaited.load(Ordering::Relaxed) > 0 {
            thread::yield_now();
        }
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
    fn work_goes_where_there_is_least_of_its_kind() {
        let threads = HeavyThreads::start(3).unwrap();
        let counts = |of: fn(&Load) -> &Arc<AtomicUsize>| -> Vec<usize> {
            let threads = threads.0.iter();
            threads.map(|one| of(&one.load).load(Ordering::Relaxed)).collect()
        };
        (0..6).for_each(|_| threads.begin(std::future::pending));
        assert_eq!(counts(|load| &load.begun), [2, 2, 2]);
        for _ in 0..3 {
            drop(threads.spawn(std::future::pending::<()>()).unwrap());
        }
        assert_eq!(
            counts(|load| &load.awaited),
            [1, 1, 1],
            "what waits is no reason to go elsewhere"
        );
        // Work that is not to leave its thread, and what ends.
        let (say, heard) = oneshot::channel();
        threads.begin(|| async {
            let own = std::rc::Rc::new(7);
            let _ = say.send(*own);
        });
        assert_eq!(heard.blocking_recv().unwrap(), 7);
    }

    #[test]
    fn a_stop_sees_through_what_is_awaited_and_drops_the_rest() {
        let threads = HeavyThreads::start(2).unwrap();
        block_on(async {
            let (go_on, told) = oneshot::channel::<()>();
            let (say, heard) = oneshot::channel();
            drop(threads.spawn(async move {
                told.await.unwrap();
                say.send(()).unwrap();
            }));
            let (alive, dropped) = oneshot::channel::<()>();
            threads.begin(|| async move {
                std::future::pending::<()>().await;
                drop(alive);
            });
            let stopping = threads.stop(Duration::from_secs(3_600));
            join(stopping, async { go_on.send(()).unwrap() }).await;
            heard.await.unwrap();
            dropped.await.unwrap_err();
            let late = threads.run(async {}).await;
            assert!(matches!(late, Err(VaultError::ActorFailed)));
            // Nobody is waited for longer than a stop may take.
            let threads = HeavyThreads::start(1).unwrap();
            drop(threads.spawn(std::future::pending::<()>()).unwrap());
            threads.stop(Duration::ZERO).await;
        });
    }

    #[test]
    fn work_that_cannot_begin_leaves_the_thread_to_others() {
        let threads = HeavyThreads::start(1).unwrap();
        threads.begin(|| -> std::future::Ready<()> { panic!("as it should") });
        block_on(async { assert_eq!(threads.run(async { 7 }).await.unwrap(), 7) });
    }
}
