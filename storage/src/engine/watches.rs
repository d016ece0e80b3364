//! Who waits for which key to change, within this process.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

use crate::kv::KvError;

/// The most watches at a time, as in a FoundationDB client.
const MAX_WATCHES: usize = 10_000;

/// The watches of one engine.
#[derive(Debug, Default)]
pub(super) struct Watches {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    by_key: HashMap<Bytes, HashMap<u64, oneshot::Sender<()>>>,
    count: usize,
    next_id: u64,
    closed: bool,
}

/// One watch's place in the list, given up when it is dropped.
struct Place {
    watches: Arc<Watches>,
    key: Bytes,
    id: u64,
}

impl Watches {
    /// A future that ends when `key` is next written.
    pub(super) fn watch(
        self: &Arc<Self>,
        key: &[u8],
    ) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        let key = Bytes::copy_from_slice(key);
        let (sender, receiver) = oneshot::channel();
        let mut state = self.lock();
        if state.closed {
            return Err(KvError::Unavailable("the store is closed".into()));
        }
        if state.count >= MAX_WATCHES {
            return Err(KvError::Unavailable(format!(
                "there are already {MAX_WATCHES} watches"
            )));
        }
        let id = state.next_id;
        state.next_id += 1;
        state.count += 1;
        state.by_key.entry(key.clone()).or_default().insert(id, sender);
        drop(state);
        let place = Place {
            watches: Arc::clone(self),
            key,
            id,
        };
        Ok(Box::pin(async move {
            let fired = receiver.await;
            drop(place);
            fired.map_err(|_| KvError::Unavailable("the store is closed".into()))
        }))
    }

    /// Ends the watches of everything that was written.
    pub(super) fn fire(&self, keys: &[Bytes], ranges: &[Range<Bytes>]) {
        let mut state = self.lock();
        if state.count == 0 {
            return;
        }
        for key in keys {
            state.fire(key);
        }
        for range in ranges {
            let inside: Vec<Bytes> = state
                .by_key
                .keys()
                .filter(|key| range.contains(*key))
                .cloned()
                .collect();
            for key in inside {
                state.fire(&key);
            }
        }
    }

    /// Ends every watch.
    pub(super) fn fire_all(&self) {
        let mut state = self.lock();
        let keys: Vec<Bytes> = state.by_key.keys().cloned().collect();
        for key in keys {
            state.fire(&key);
        }
    }

    /// Ends every watch with an error and refuses new ones.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.by_key.clear();
        state.count = 0;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fire(&mut self, key: &[u8]) {
        for (_, sender) in self.by_key.remove(key).into_iter().flatten() {
            self.count -= 1;
            // Whoever dropped the receiving end no longer wants to know.
            sender.send(()).ok();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.watches.lock();
        if let Some(held) = state.by_key.get_mut(&self.key)
            && held.remove(&self.id).is_some()
        {
            if held.is_empty() {
                state.by_key.remove(&self.key);
            }
            state.count -= 1;
        }
    }
}
