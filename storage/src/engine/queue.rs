//! The transactions that wait for the committer, and which of them are next.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::committer::ReadRange;
use super::overlay::Op;
use crate::kv::{KvError, Versionstamp};

/// The most transactions that wait for the committer; further ones wait for a place.
const MAX_WAITING: usize = 1_024;
/// The most operations that are applied in one go, so that those who came first do not wait for all the rest.
const MAX_BATCH_OPS: usize = 50_000;
/// About the most bytes that they come to.
const MAX_BATCH_BYTES: usize = 32 << 20;
/// A transaction of more operations or bytes, or one that clears a range of who knows how many keys, is a large one: small ones do not wait
/// for several of them.
const SMALL_OPS: usize = 256;
const SMALL_BYTES: usize = 256 << 10;
/// The most operations of large ones that are applied in one go, but for a single one's.
const MAX_LARGE_BATCH_OPS: usize = 4_096;

/// The transactions that wait to be committed.
#[derive(Debug)]
pub(super) struct CommitQueue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    small: VecDeque<Request>,
    large: VecDeque<Request>,
    /// Whether it is the large ones' turn.
    large_next: bool,
    closed: bool,
}

/// A transaction that waits, and who waits for its outcome.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) read_version: u64,
    pub(super) reads: Vec<ReadRange>,
    pub(super) ops: Vec<Op>,
    pub(super) answer: oneshot::Sender<Result<Versionstamp, KvError>>,
    pub(super) place: OwnedSemaphorePermit,
}

impl Default for CommitQueue {
    fn default() -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Condvar::new(),
            places: Arc::new(Semaphore::new(MAX_WAITING)),
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
            waiting.push(Request {
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

    /// Waits for transactions, and takes those that are next: none at all once `patience` has ended, `None` at the end.
    pub(super) fn next(&self, patience: Option<Duration>) -> Option<Vec<Request>> {
        let mut waiting = self.lock();
        while waiting.is_empty() && !waiting.closed {
            match patience {
                Some(patience) => {
                    let wait = self.wake.wait_timeout(waiting, patience);
                    let (held, timeout) = wait.unwrap_or_else(PoisonError::into_inner);
                    waiting = held;
                    if timeout.timed_out() {
                        return Some(waiting.take_batch());
                    }
                }
                None => waiting = self.wake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            }
        }
        (!waiting.is_empty()).then(|| waiting.take_batch())
    }

    /// Takes in no more; what waits can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_all();
    }

    /// Takes in no more, and takes all that waits.
    pub(super) fn close_and_drain(&self) -> Vec<Request> {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.drain().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    fn bytes(&self) -> usize {
        self.ops.iter().map(Op::bytes).sum()
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    fn push(&mut self, request: Request) {
        let clears_range = request.ops.iter().any(|op| matches!(op, Op::ClearRange(_)));
        match request.ops.len() <= SMALL_OPS && request.bytes() <= SMALL_BYTES && !clears_range {
            true => self.small.push_back(request),
            false => self.large.push_back(request),
        }
    }

    /// What is committed next: small ones and large ones by turns, each in the order in which they came. No order between them was
    /// promised to anybody, since all of them wait at the same time.
    fn take_batch(&mut self) -> Vec<Request> {
        let is_large = match (self.small.is_empty(), self.large.is_empty()) {
            (false, false) => self.large_next,
            (is_large, _) => is_large,
        };
        self.large_next = !is_large;
        let (from, max_ops) = match is_large {
            true => (&mut self.large, MAX_LARGE_BATCH_OPS),
            false => (&mut self.small, MAX_BATCH_OPS),
        };
        let (mut ops, mut bytes) = (0, 0);
        let mut taken = Vec::new();
        while ops < max_ops
            && bytes < MAX_BATCH_BYTES
            && let Some(request) = from.pop_front()
        {
            ops += request.ops.len();
            bytes += request.bytes();
            taken.push(request);
        }
        taken
    }

    fn drain(&mut self) -> impl Iterator<Item = Request> {
        self.small.drain(..).chain(self.large.drain(..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn request(ops: usize) -> Request {
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Request {
            read_version: 0,
            reads: Vec::new(),
            ops: vec![Op::Clear(Bytes::new()); ops],
            answer: oneshot::channel().0,
            place,
        }
    }

    fn batches(sizes: &[usize]) -> Vec<Vec<usize>> {
        let mut waiting = Waiting::default();
        for size in sizes {
            waiting.push(request(*size));
        }
        let mut batches = Vec::new();
        while !waiting.is_empty() {
            let batch = waiting.take_batch();
            batches.push(batch.iter().map(|request| request.ops.len()).collect());
        }
        batches
    }

    #[test]
    fn small_ones_wait_for_one_large_one_at_most() {
        assert_eq!(
            batches(&[5_000, 1, 5_001, 2, 5_002, 256]),
            [vec![1, 2, 256], vec![5_000], vec![5_001], vec![5_002]]
        );
        // Large ones that are not very large share.
        assert_eq!(
            batches(&[1_500, 1_501, 1_502, 1_503]),
            [vec![1_500, 1_501, 1_502], vec![1_503]]
        );
    }

    #[test]
    fn what_may_take_long_is_no_small_one() {
        let mut waiting = Waiting::default();
        let (mut clears, mut heavy) = (request(1), request(1));
        clears.ops = vec![Op::ClearRange(Bytes::new()..Bytes::from_static(b"z"))];
        heavy.ops = (0..4)
            .map(|_| Op::Clear(Bytes::from(vec![0; 90 << 10])))
            .collect();
        for one in [clears, heavy, request(2)] {
            waiting.push(one);
        }
        assert_eq!(waiting.take_batch()[0].ops.len(), 2);
        assert_eq!(waiting.take_batch().len(), 2);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let mut waiting = Waiting::default();
        waiting.push(request(5_000));
        for _ in 0..2 {
            waiting.push(request(1));
        }
        assert_eq!(waiting.take_batch().len(), 2);
        // However many small ones come.
        waiting.push(request(1));
        assert_eq!(waiting.take_batch()[0].ops.len(), 5_000);
        waiting.push(request(5_000));
        assert_eq!(waiting.take_batch()[0].ops.len(), 1);
    }

    #[test]
    fn a_batch_is_bounded() {
        let sizes = vec![256; 300];
        let batches = batches(&sizes);
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [196, 104]);
    }
}
