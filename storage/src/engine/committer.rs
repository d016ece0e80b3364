//! The one thread that commits: it judges waiting transactions, applies many of them at once, and answers them all.

use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::optimistic::{OptimisticTransaction, Snapshot};
use super::overlay::{Op, stamped_key};
use super::queue::{CommitQueue, Request};
use super::watches::Watches;
use super::window::Window;
use crate::background;
use crate::kv::{KvError, Transaction, Versionstamp};

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
        let queue = Arc::new(CommitQueue::default());
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
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            background::enter();
            committer.run();
        })?;
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
        self.queue.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the storage committer panicked");
        }
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
        // A store that failed is tried again though nobody wants anything.
        while let Some(requests) = self
            .queue
            .next(self.failed.is_some().then_some(RECOVERY_INTERVAL))
        {
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
        for request in self.queue.close_and_drain() {
            request
                .answer
                .send(Err(KvError::Unavailable("the store is closed".into())))
                .ok();
        }
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
