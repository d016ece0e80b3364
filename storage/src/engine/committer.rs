//! The one thread that commits: it judges waiting transactions, applies many of them at once, and answers them all.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::optimistic::{OptimisticTransaction, Snapshot};
use super::overlay::{Op, stamped_key};
use super::watches::Watches;
use super::window::Window;
use crate::kv::{KvError, Transaction, Versionstamp};

/// The most transactions that wait for the committer; further ones wait for a place.
const MAX_WAITING: usize = 1_024;
/// The most operations that are applied in one go, so that those who came first do not wait for all the rest.
const MAX_BATCH_OPS: usize = 50_000;
/// About the most bytes that they come to.
const MAX_BATCH_BYTES: usize = 32 << 20;
/// How often a store that failed is tried again.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(1);

/// What a transaction read from its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ReadRange {
    Key(Bytes),
    Range(Range<Bytes>),
}

/// Where commits land.
pub(super) trait Base: Send + 'static {
    /// Stores the writes of `version`, in order, all or none, and durably; answers the state with them.
    fn apply(&mut self, version: u64, batch: &[Accepted]) -> Result<Arc<dyn Snapshot>, Failure>;

    /// Tries to get back to a working state after a failure; answers the state that is stored.
    fn recover(&mut self) -> Result<Arc<dyn Snapshot>, KvError>;
}

/// A transaction that is to be stored.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stamp: Versionstamp,
    pub(super) ops: Vec<Op>,
}

/// A batch could not be stored.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: KvError,
    /// Whether the failure came so late that the batch may be stored all the same.
    pub(super) maybe_stored: bool,
}

/// The transactions that wait to be committed.
#[derive(Debug)]
pub(super) struct CommitQueue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: VecDeque<Request>,
    closed: bool,
}

#[derive(Debug)]
struct Request {
    read_version: u64,
    reads: Vec<ReadRange>,
    ops: Vec<Op>,
    answer: oneshot::Sender<Result<Versionstamp, KvError>>,
    place: OwnedSemaphorePermit,
}

/// The shared part of an optimistic engine: begins transactions, and owns the committer's thread.
pub(super) struct Optimistic {
    published: Arc<RwLock<Arc<dyn Snapshot>>>,
    queue: Arc<CommitQueue>,
    pub(super) watches: Arc<Watches>,
    thread: Option<JoinHandle<()>>,
}

impl Optimistic {
    /// Starts a committer named `name` over `base`, whose stored state is `snapshot`.
    pub(super) fn start(
        name: &str,
        base: impl Base,
        snapshot: Arc<dyn Snapshot>,
    ) -> Result<Self, std::io::Error> {
        let queue = Arc::new(CommitQueue {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
        });
        let watches = Arc::new(Watches::default());
        let version = snapshot.version();
        let published = Arc::new(RwLock::new(snapshot));
        let committer = Committer {
            base,
            queue: Arc::clone(&queue),
            published: Arc::clone(&published),
            watches: Arc::clone(&watches),
            window: Window::new(version),
            last_version: version,
            failed: None,
        };
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || committer.run())?;
        Ok(Self {
            published,
            queue,
            watches,
            thread: Some(thread),
        })
    }

    /// Begins a transaction on the newest published state.
    pub(super) fn begin(&self) -> Box<dyn Transaction> {
        let snapshot = Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner));
        Box::new(OptimisticTransaction::new(snapshot, Arc::clone(&self.queue)))
    }
}

impl Drop for Optimistic {
    /// Commits what waits, then ends the thread, which closes the store's file.
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.wake.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the storage committer panicked");
        }
    }
}

impl CommitQueue {
    /// Hands a transaction to the committer and waits for its outcome.
    pub(super) async fn commit(
        &self,
        read_version: u64,
        reads: Vec<ReadRange>,
        ops: Vec<Op>,
    ) -> Result<Versionstamp, KvError> {
        let closed = || KvError::Unavailable("the store is closed".into());
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| closed())?;
        let (answer, outcome) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(closed());
            }
            waiting.requests.push_back(Request {
                read_version,
                reads,
                ops,
                answer,
                place,
            });
        }
        self.wake.notify_one();
        // Without an answer the committer died half-way.
        outcome.await.unwrap_or(Err(KvError::CommitUnknown))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Committer<B> {
    base: B,
    queue: Arc<CommitQueue>,
    published: Arc<RwLock<Arc<dyn Snapshot>>>,
    watches: Arc<Watches>,
    window: Window,
    last_version: u64,
    /// Why the store does not work at the moment.
    failed: Option<KvError>,
}

impl<B: Base> Committer<B> {
    fn run(mut self) {
        while let Some(requests) = self.next_requests() {
            if self.failed.is_some() {
                self.recover();
            }
            match &self.failed {
                None => self.commit(requests),
                Some(error) => {
                    for request in requests {
                        request.answer.send(Err(error.clone())).ok();
                    }
                }
            }
        }
    }

    /// The requests that wait, in order; none at all while a failed store is to be tried again; `None` at the end.
    fn next_requests(&self) -> Option<Vec<Request>> {
        let mut waiting = self.queue.lock();
        while waiting.requests.is_empty() {
            if waiting.closed {
                return None;
            }
            if self.failed.is_some() {
                let wait = self.queue.wake.wait_timeout(waiting, RECOVERY_INTERVAL);
                let (held, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
                waiting = held;
                if timeout.timed_out() {
                    break;
                }
            } else {
                waiting = self
                    .queue
                    .wake
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        let (mut ops, mut bytes) = (0, 0);
        let mut taken = Vec::new();
        while ops < MAX_BATCH_OPS
            && bytes < MAX_BATCH_BYTES
            && let Some(request) = waiting.requests.pop_front()
        {
            ops += request.ops.len();
            bytes += request.ops.iter().map(Op::bytes).sum::<usize>();
            taken.push(request);
        }
        Some(taken)
    }

    fn commit(&mut self, requests: Vec<Request>) {
        let version = self.last_version + 1;
        let mut batch = Vec::with_capacity(requests.len());
        let mut answers = Vec::with_capacity(requests.len());
        let (mut keys, mut ranges) = (Vec::new(), Vec::new());
        // There are at most `MAX_WAITING` requests, so their order fits.
        for (order, request) in (0_u16..).zip(requests) {
            if let Err(error) = self.window.check(request.read_version, &request.reads) {
                request.answer.send(Err(error)).ok();
                continue;
            }
            let stamp = Versionstamp::new(version, order);
            let (own_keys, own_ranges) = write_set(stamp, &request.ops);
            keys.extend(own_keys.iter().cloned());
            ranges.extend(own_ranges.iter().cloned());
            // Remembered at once, so that the next in the same batch is judged by it. Should the batch fail, this
            // costs somebody a needless retry.
            self.window.remember(version, own_keys, own_ranges);
            batch.push(Accepted {
                stamp,
                ops: request.ops,
            });
            answers.push((request.answer, stamp, request.place));
        }
        if batch.is_empty() {
            return;
        }
        self.last_version = version;
        let outcome = match self.base.apply(version, &batch) {
            Ok(snapshot) => {
                self.publish(snapshot);
                self.watches.fire(&keys, &ranges);
                Ok(())
            }
            Err(failure) => Err(self.fail(version, failure)),
        };
        for (answer, stamp, place) in answers {
            let answered = match &outcome {
                Ok(()) | Err(None) => Ok(stamp),
                Err(Some(error)) => Err(error.clone()),
            };
            // Whoever asked may have gone; the commit stands.
            answer.send(answered).ok();
            drop(place);
        }
    }

    /// Deals with a batch that failed; answers the error for those who wait, or `None` if the batch is stored after all.
    fn fail(&mut self, version: u64, failure: Failure) -> Option<KvError> {
        tracing::error!(error = %failure.error, "a storage commit failed");
        self.failed = Some(failure.error.clone());
        self.recover();
        if !failure.maybe_stored {
            return Some(failure.error);
        }
        if self.failed.is_some() {
            return Some(KvError::CommitUnknown);
        }
        let stored = self
            .published
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .version();
        if stored >= version {
            None
        } else {
            Some(failure.error)
        }
    }

    fn recover(&mut self) {
        match self.base.recover() {
            Ok(snapshot) => {
                self.failed = None;
                self.last_version = self.last_version.max(snapshot.version());
                // What was read from an older state can no longer be judged.
                self.window = Window::new(snapshot.version());
                self.publish(snapshot);
                self.watches.fire_all();
                tracing::info!("storage works again");
            }
            Err(error) => self.failed = Some(error),
        }
    }

    fn publish(&self, snapshot: Arc<dyn Snapshot>) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
    }
}

impl<B> Drop for Committer<B> {
    /// However the thread ends, nobody waits for it any more.
    fn drop(&mut self) {
        let mut waiting = self.queue.lock();
        waiting.closed = true;
        for request in waiting.requests.drain(..) {
            request
                .answer
                .send(Err(KvError::Unavailable("the store is closed".into())))
                .ok();
        }
        drop(waiting);
        self.watches.close();
    }
}

/// The keys and ranges that `ops` write, once their stamp is known.
fn write_set(stamp: Versionstamp, ops: &[Op]) -> (Vec<Bytes>, Vec<Range<Bytes>>) {
    let (mut keys, mut ranges) = (Vec::new(), Vec::new());
    for op in ops {
        match op {
            Op::Set(key, _) | Op::Add(key, _) | Op::Clear(key) => keys.push(key.clone()),
            Op::SetUnread(..) => {}
            Op::SetVersionstampedValue { key, .. } => keys.push(key.clone()),
            Op::SetVersionstampedKey { prefix, suffix, .. } => keys.push(stamped_key(prefix, stamp, suffix)),
            Op::ClearRange(range) => ranges.push(range.clone()),
        }
    }
    (keys, ranges)
}
