//! The memory engine: nothing survives the process. For tests and trials.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use imbl::OrdMap;

use super::committer::{Accepted, Base, Failure, Optimistic};
use super::optimistic::{Snapshot, Visit};
use super::overlay::{Op, stamped_key, sum};
use crate::background;
use crate::kv::{Engine, KvError, Transaction};

/// A store in memory, with the semantics of the durable ones.
pub struct MemoryEngine {
    optimistic: Optimistic,
}

impl MemoryEngine {
    /// An empty store.
    ///
    /// # Errors
    ///
    /// [`KvError::Unavailable`] if no thread can be started.
    pub fn new() -> Result<Self, KvError> {
        let base = Memory {
            map: OrdMap::new(),
            version: 0,
        };
        let snapshot = base.snapshot();
        let optimistic = Optimistic::start("inferadb-memory", base, snapshot)
            .map_err(|error| KvError::Unavailable(error.to_string()))?;
        Ok(Self { optimistic })
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        Ok(self.optimistic.begin())
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        self.optimistic.watches.watch(key)
    }

    fn is_exclusive(&self) -> bool {
        true
    }

    fn clears_ranges_at_once(&self) -> bool {
        false
    }
}

impl fmt::Debug for MemoryEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryEngine")
    }
}

#[derive(Clone)]
struct Memory {
    map: OrdMap<Bytes, Bytes>,
    version: u64,
}

impl Memory {
    fn snapshot(&self) -> Arc<dyn Snapshot> {
        Arc::new(self.clone())
    }
}

impl Base for Memory {
    fn apply(&mut self, version: u64, batch: &[Accepted]) -> Result<Arc<dyn Snapshot>, Failure> {
        let map = &mut self.map;
        for accepted in batch {
            for op in &accepted.ops {
                background::breathe();
                match op {
                    Op::Set(key, value) | Op::SetUnread(key, value) => {
                        map.insert(key.clone(), value.clone());
                    }
                    Op::SetVersionstampedKey {
                        prefix,
                        suffix,
                        value,
                    } => {
                        map.insert(stamped_key(prefix, accepted.stamp, suffix), value.clone());
                    }
                    Op::SetVersionstampedValue { key, rest } => {
                        map.insert(key.clone(), stamped_key(&[], accepted.stamp, rest));
                    }
                    Op::Add(key, delta) => {
                        let value = sum(map.get(key).map(|held| &**held), *delta);
                        map.insert(key.clone(), value);
                    }
                    Op::Clear(key) => {
                        map.remove(key);
                    }
                    Op::ClearRange(range) => {
                        let inside: Vec<Bytes> =
                            map.range(range.clone()).map(|(key, _)| key.clone()).collect();
                        for key in inside {
                            map.remove(&key);
                        }
                    }
                }
            }
        }
        self.version = version;
        Ok(self.snapshot())
    }

    fn recover(&mut self) -> Result<Arc<dyn Snapshot>, KvError> {
        Ok(self.snapshot())
    }
}

impl Snapshot for Memory {
    fn version(&self) -> u64 {
        self.version
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, KvError> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(&self, range: &Range<Bytes>, reverse: bool, visit: &mut Visit<'_>) -> Result<(), KvError> {
        let mut pairs = self.map.range(range.clone());
        while let Some((key, value)) = if reverse { pairs.next_back() } else { pairs.next() } {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
