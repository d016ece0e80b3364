//! A storage engine that fails when told to, and a platform over it.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use inferadb_actors::{AccountId, Platform, Revision, Settings, VaultError, VaultId, Watch};
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};
use inferadb_storage::engine::MemoryEngine;
use inferadb_storage::kv::{Engine, Isolation, KvError, Pair, RangeOptions, Transaction, Versionstamp};
use inferadb_storage::{LogSize, Store};
use tokio::sync::watch;

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Reads of vault actors, on their own threads, panic.
    Panic,
    /// Reads fail: storage is away.
    Away,
    /// Reads wait until the held value is `false`.
    Hold(watch::Receiver<bool>),
    /// Reads of vault actors, on their own threads, wait so.
    HoldActors(watch::Receiver<bool>),
    /// Reads of rows, elsewhere than in vault actors, find that storage keeps their state no longer.
    RowsTooOld,
}

/// When it goes wrong.
#[derive(Debug)]
struct Armed {
    /// Reads of this vault only; `None`: every read, and every begin of a transaction.
    vault: Option<VaultId>,
    fault: Fault,
    /// How often yet.
    times: usize,
}

/// The switch of a [`FaultyEngine`]. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Switch {
    armed: Arc<Mutex<Option<Armed>>>,
    /// How many reads met the fault.
    met: Arc<AtomicU64>,
    /// How many commits are let through before one is refused.
    refusal: Arc<Mutex<Option<usize>>>,
    commits: Arc<Mutex<Commits>>,
}

/// What becomes of commits.
#[derive(Default)]
enum Commits {
    #[default]
    Stored,
    /// The next is not answered.
    ToBeLost,
    /// That one is yet to be stored, and nothing else can be.
    Lost(Box<dyn Transaction>),
}

impl std::fmt::Debug for Commits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Commits")
    }
}

impl Switch {
    /// From now on the next `times` reads of `vault` (`None`: of anything) meet `fault`.
    pub fn arm(&self, vault: Option<VaultId>, fault: Fault, times: usize) {
        *self.armed.lock().unwrap() = Some(Armed { vault, fault, times });
    }

    /// Nothing goes wrong any more.
    pub fn disarm(&self) {
        *self.armed.lock().unwrap() = None;
    }

    /// The outcome of the next commit is unknown: nobody sees it stored, and no other can be, before [`Switch::recover`].
    pub fn lose_a_commit(&self) {
        *self.commits.lock().unwrap() = Commits::ToBeLost;
    }

    /// Stores the commit whose outcome was unknown.
    pub async fn recover(&self) {
        let commits = std::mem::take(&mut *self.commits.lock().unwrap());
        match commits {
            Commits::Lost(transaction) => drop(transaction.commit().await.unwrap()),
            _ => panic!("nothing was committed"),
        }
    }

    /// How many reads met a fault so far.
    pub fn met(&self) -> u64 {
        self.met.load(Ordering::SeqCst)
    }

    /// Of the commits from now on, so many are let through; storage refuses the one after them.
    pub fn refuse_commit_after(&self, commits: usize) {
        *self.refusal.lock().unwrap() = Some(commits);
    }

    fn refuses_commit(&self) -> bool {
        let mut held = self.refusal.lock().unwrap();
        *held = match *held {
            Some(0) => {
                *held = None;
                return true;
            }
            Some(left) => Some(left - 1),
            None => None,
        };
        false
    }

    fn meets(&self, key: Option<&[u8]>) -> Option<Fault> {
        let mut held = self.armed.lock().unwrap();
        let armed = held.as_mut()?;
        let is_meant = match (armed.vault, key) {
            (None, _) => true,
            (Some(vault), Some(key)) => key.windows(16).any(|part| part == vault.0.as_bytes()),
            (Some(_), None) => false,
        };
        let is_actors = std::thread::current()
            .name()
            .is_some_and(|name| name.contains("arbiter"));
        let is_elsewhere = match armed.fault {
            Fault::Panic | Fault::HoldActors(_) => !is_actors,
            // A row's key is longer than that of anything else of a vault that is read outside of actors.
            Fault::RowsTooOld => is_actors || key.is_none_or(|key| key.len() < 24),
            Fault::Away | Fault::Hold(_) => false,
        };
        if !is_meant || is_elsewhere || armed.times == 0 {
            return None;
        }
        armed.times -= 1;
        self.met.fetch_add(1, Ordering::SeqCst);
        Some(armed.fault.clone())
    }

    async fn pass(&self, key: Option<&[u8]>) -> Result<(), KvError> {
        match self.meets(key) {
            None => Ok(()),
            Some(Fault::Panic) => panic!("a fault that the test asked for"),
            Some(Fault::RowsTooOld) => Err(KvError::TooOld),
            Some(Fault::Away) => Err(KvError::Unavailable("the test took it away".into())),
            Some(Fault::Hold(mut held) | Fault::HoldActors(mut held)) => {
                // An error says that the other side is gone: then nothing is held any more.
                let _ = held.wait_for(|held| !held).await;
                Ok(())
            }
        }
    }
}

/// The engine that the tests run on, with faults.
pub struct FaultyEngine {
    inner: Arc<dyn Engine>,
    switch: Switch,
    is_shared: bool,
}

struct FaultyTransaction {
    inner: Box<dyn Transaction>,
    switch: Switch,
}

#[async_trait]
impl Engine for FaultyEngine {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        self.switch.pass(None).await?;
        Ok(Box::new(FaultyTransaction {
            inner: self.inner.begin().await?,
            switch: self.switch.clone(),
        }))
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        self.inner.watch(key).await
    }

    fn is_exclusive(&self) -> bool {
        !self.is_shared
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }
}

#[async_trait]
impl Transaction for FaultyTransaction {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError> {
        self.switch.pass(Some(key)).await?;
        self.inner.get(key, isolation).await
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        self.switch.pass(Some(&range.start)).await?;
        self.inner.range(range, options).await
    }

    async fn range_of_size(
        &self,
        range: Range<Bytes>,
        options: RangeOptions,
        max_bytes: usize,
    ) -> Result<(Vec<Pair>, bool), KvError> {
        self.switch.pass(Some(&range.start)).await?;
        self.inner.range_of_size(range, options, max_bytes).await
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.inner.set(key, value);
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.inner.set_versionstamped_key(prefix, suffix, value);
    }

    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]) {
        self.inner.set_versionstamped_value(key, rest);
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.inner.add(key, delta);
    }

    fn clear(&mut self, key: &[u8]) {
        self.inner.clear(key);
    }

    fn clear_range(&mut self, range: Range<Bytes>) {
        self.inner.clear_range(range);
    }

    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError> {
        if self.switch.refuses_commit() {
            return Err(KvError::Unavailable("the disk is full".into()));
        }
        {
            let mut commits = self.switch.commits.lock().unwrap();
            match &*commits {
                Commits::Stored => {}
                Commits::ToBeLost => {
                    *commits = Commits::Lost(self.inner);
                    return Err(KvError::CommitUnknown);
                }
                Commits::Lost(_) => return Err(KvError::Unavailable("the test took it away".into())),
            }
        }
        self.inner.commit().await
    }
}

/// So many records of a log, whatever their size.
pub fn kept(records: u64) -> LogSize {
    LogSize {
        records,
        bytes: u64::MAX,
    }
}

/// A platform with one account, over a store that can be made to fail.
pub struct Stage {
    pub platform: Platform,
    pub store: Store,
    pub account: AccountId,
    pub switch: Switch,
    pub metrics: prometheus::Registry,
    engine: Arc<FaultyEngine>,
}

/// An empty store: in memory, or a part of its own of the cluster that `INFERADB_TEST_FDB_CLUSTER_FILE` names.
async fn engine() -> Arc<dyn Engine> {
    #[cfg(feature = "foundationdb")]
    if let Ok(file) = std::env::var("INFERADB_TEST_FDB_CLUSTER_FILE") {
        use inferadb_storage::engine::FoundationDbEngine;
        let prefix = format!("test/{}/", uuid::Uuid::new_v4());
        let engine = FoundationDbEngine::open(file.as_ref(), prefix.as_bytes()).await;
        return Arc::new(engine.unwrap());
    }
    Arc::new(MemoryEngine::new().unwrap())
}

impl Stage {
    /// With a store that only this process changes.
    pub async fn new(settings: Settings) -> Self {
        Self::over(settings, false).await
    }

    /// With a store that other processes may change too, if it `is_shared`.
    pub async fn over(settings: Settings, is_shared: bool) -> Self {
        let switch = Switch::default();
        let engine = Arc::new(FaultyEngine {
            inner: engine().await,
            switch: switch.clone(),
            is_shared,
        });
        let store = Store::with_engine(engine.clone()).await.unwrap();
        let metrics = prometheus::Registry::new();
        let platform = Platform::over(store.clone(), settings, &metrics).unwrap();
        let account = platform.create_account("stage").await.unwrap().id;
        Self {
            platform,
            store,
            account,
            switch,
            metrics,
            engine,
        }
    }

    /// Another server over the same stored data, which must be shared.
    pub async fn neighbour(&self, settings: Settings) -> Platform {
        assert!(!self.engine.is_exclusive());
        let store = Store::with_engine(self.engine.clone()).await.unwrap();
        Platform::over(store, settings, &prometheus::Registry::new()).unwrap()
    }

    /// The server stops, and another one starts over what it stored.
    pub async fn restart(&mut self, settings: Settings) {
        self.platform.stop(Duration::from_secs(20)).await;
        self.store.clone().close().await;
        self.store = Store::with_engine(self.engine.clone()).await.unwrap();
        self.metrics = prometheus::Registry::new();
        self.platform = Platform::over(self.store.clone(), settings, &self.metrics).unwrap();
    }

    /// A new vault.
    pub async fn vault(&self) -> VaultId {
        let vault = self.platform.create_vault(self.account, "vault").await;
        vault.unwrap().id
    }

    /// A watch of a vault on one of the servers.
    pub async fn watch(
        &self,
        platform: &Platform,
        id: VaultId,
        since: Option<Revision>,
    ) -> Result<Watch, VaultError> {
        let (vault, _pass) = platform.enter(id, self.account).await?;
        platform.watch(vault, since).await
    }

    /// The sum of a counter's or gauge's series.
    pub fn metric(&self, name: &str) -> f64 {
        let families = self.metrics.gather();
        let family = families.iter().find(|family| family.name() == name);
        let series = family.map_or(&[][..], |family| family.get_metric());
        series
            .iter()
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
            .sum()
    }

    /// The names of the families that have a series with this value of the label `vault`.
    pub fn series_of(&self, vault: VaultId) -> Vec<String> {
        let text = vault.to_string();
        let has = |family: &prometheus::proto::MetricFamily| {
            let mut labels = family
                .get_metric()
                .iter()
                .flat_map(prometheus::proto::Metric::get_label);
            labels.any(|label| label.value() == text)
        };
        let families = self.metrics.gather();
        let with = families.iter().filter(|family| has(family));
        with.map(|family| family.name().to_owned()).collect()
    }
}

/// A relationship from its notation `type:id#relation@subject`.
pub fn relationship(text: &str) -> Relationship {
    let (resource, rest) = text.split_once('#').unwrap();
    let (relation, subject) = rest.split_once('@').unwrap();
    Relationship {
        resource: ObjectRef::parse(resource).unwrap(),
        relation: Name::parse(relation).unwrap(),
        subject: SubjectRef::parse(subject).unwrap(),
        caveat: None,
        expires_at: None,
    }
}
