//! A schema that is replaced while relationships are written and imported: whatever comes first, nothing that was not judged stays.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "test code: a failure is to panic")]

mod support;

use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use inferadb_storage::kv::{Engine, Isolation, KvError, Pair, RangeOptions, Transaction, Versionstamp};
use inferadb_storage::{
    FitCheck, PutSchema, Revision, SchemaPut, Shape, Store, StoreError, Switch, VaultId, Write,
};
use support::*;
use tokio::sync::oneshot;

/// What the new schema has no place for.
const MISFIT: &str = "banned";

/// An engine that stops before one commit until it is told to go on.
struct Gated {
    inner: Arc<dyn Engine>,
    gate: Arc<Mutex<Gate>>,
}

#[derive(Default)]
struct Gate {
    /// How many commits pass before the one that is held.
    passing: usize,
    held: Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>,
}

struct GatedTransaction {
    inner: Box<dyn Transaction>,
    gate: Arc<Mutex<Gate>>,
}

#[async_trait]
impl Engine for Gated {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        Ok(Box::new(GatedTransaction {
            inner: self.inner.begin().await?,
            gate: Arc::clone(&self.gate),
        }))
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        self.inner.watch(key).await
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn clears_ranges_at_once(&self) -> bool {
        self.inner.clears_ranges_at_once()
    }
}

#[async_trait]
impl Transaction for GatedTransaction {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError> {
        self.inner.get(key, isolation).await
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        self.inner.range(range, options).await
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
        let held = {
            let mut gate = self.gate.lock().unwrap();
            if gate.passing == 0 {
                gate.held.take()
            } else {
                gate.passing -= 1;
                None
            }
        };
        if let Some((reached, go_on)) = held {
            reached.send(()).unwrap();
            go_on.await.unwrap();
        }
        self.inner.commit().await
    }
}

/// What is stored when the race begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    Nothing,
    /// A misfit was stored, and removed again.
    Removed,
    /// And then a schema was stored, which forgets what is no longer there.
    Forgotten,
    OneMisfit,
}

/// What races with the schema.
#[derive(Debug, Clone, Copy)]
enum Rival {
    Create,
    /// Of what may be stored, on other terms: another shape.
    TouchUnderCaveat,
    Delete,
    DeleteMatching,
    Replace,
    Merge,
}

async fn put(store: &Store, vault: VaultId, text: &str) -> Result<SchemaPut, StoreError> {
    let fit: &FitCheck<'_> = &|stored: &[Shape]| {
        let misfits: Vec<Shape> = stored
            .iter()
            .filter(|shape| shape.relation.as_str() == MISFIT)
            .cloned()
            .collect();
        if misfits.is_empty() || !text.contains("narrow") {
            Ok(())
        } else {
            Err(misfits)
        }
    };
    let schema = PutSchema {
        text,
        format: 1,
        force: false,
        now: at(5),
    };
    store.put_schema(vault, &schema, fit).await
}

async fn race(store: Store, vault: VaultId, rival: Rival, held: Option<Revision>) -> Result<(), StoreError> {
    let of_schema = |write: Write| Write {
        schema_revision: held,
        ..write
    };
    let switch = Switch {
        schema: None,
        validated_against: held,
        limits: None,
        now: at(6),
    };
    let rows = ["doc:a#viewer@user:u", "doc:x#banned@user:u"].map(relationship);
    match rival {
        Rival::Create => {
            let write = of_schema(touch(&["doc:x#banned@user:u"]));
            store.write(vault, &write).await.map(drop)
        }
        Rival::TouchUnderCaveat => {
            let write = of_schema(touch(&["doc:x#banned@user:u cav", "doc:y#banned@user:v"]));
            store.write(vault, &write).await.map(drop)
        }
        Rival::Delete => {
            let write = of_schema(delete(&["doc:x#banned@user:u"]));
            store.write(vault, &write).await.map(drop)
        }
        Rival::DeleteMatching => {
            let filter = filter("doc - - banned - -");
            store
                .delete_matching(vault, &filter, None, &[], at(6))
                .await
                .map(drop)
        }
        Rival::Replace => {
            let mut staging = store.stage(vault).await?;
            staging.add(&rows).await?;
            staging.replace(&switch).await.map(drop)
        }
        Rival::Merge => {
            let mut staging = store.stage(vault).await?;
            staging.hand_in(&rows).await?;
            staging.merge(&switch, None).await.map(drop)
        }
    }
}

/// One race: whoever is gated stops before its commit of that number, the other one does all it does, then the first goes on. Says
/// whether there was such a commit.
async fn run(start: Start, rival: Rival, schema_waits: bool, passing: usize) -> bool {
    let inner = engine().await;
    let gate = Arc::new(Mutex::new(Gate::default()));
    let gated = Gated {
        inner: Arc::clone(&inner),
        gate: Arc::clone(&gate),
    };
    let plain = Store::with_engine(inner).await.unwrap();
    let gated = Store::with_engine(Arc::new(gated)).await.unwrap();
    let (_, vault) = vault_of(&plain).await;
    let mut held = put(&plain, vault, "wide").await.unwrap().revision;
    let of_schema = |write: Write, held| Write {
        schema_revision: Some(held),
        ..write
    };
    if !matches!(start, Start::Nothing) {
        let write = of_schema(touch(&["doc:x#banned@user:u"]), held);
        plain.write(vault, &write).await.unwrap();
    }
    if matches!(start, Start::Removed | Start::Forgotten) {
        let write = of_schema(delete(&["doc:x#banned@user:u"]), held);
        plain.write(vault, &write).await.unwrap();
    }
    if matches!(start, Start::Forgotten) {
        held = put(&plain, vault, "wide again").await.unwrap().revision;
    }
    let ((reached, is_reached), (go_on, may_go_on)) = (oneshot::channel(), oneshot::channel());
    *gate.lock().unwrap() = Gate {
        passing,
        held: Some((reached, may_go_on)),
    };
    let first = async {
        if schema_waits {
            put(&gated, vault, "narrow").await.map(drop)
        } else {
            race(gated.clone(), vault, rival, Some(held)).await
        }
    };
    let second = async {
        // An error says that the first came to its end without such a commit.
        let was_reached = is_reached.await.is_ok();
        let outcome = if schema_waits {
            race(plain.clone(), vault, rival, Some(held)).await
        } else {
            put(&plain, vault, "narrow").await.map(drop)
        };
        if was_reached {
            go_on.send(()).unwrap();
        }
        (was_reached, outcome)
    };
    let first = async {
        let outcome = first.await;
        // If nothing was held there is nothing to wait for.
        gate.lock().unwrap().held = None;
        outcome
    };
    let (first, (was_reached, second)) = tokio::join!(first, second);
    let snapshot = plain.snapshot(vault).await.unwrap();
    let schema = snapshot.schema().await.unwrap().unwrap().text;
    let stored = stored(&plain, vault).await;
    let counted: u64 = snapshot
        .shapes()
        .await
        .unwrap()
        .iter()
        .map(|shape| shape.count)
        .sum();
    assert_eq!(
        counted,
        stored.len() as u64,
        "{start:?} {rival:?} {schema_waits} {passing}"
    );
    let has_misfit = stored.iter().any(|text| text.contains(MISFIT));
    assert!(
        schema != "narrow" || !has_misfit,
        "{start:?} {rival:?} {schema_waits} {passing}: {stored:?}, {first:?} and {second:?}"
    );
    was_reached
}

#[tokio::test]
async fn nothing_slips_in_between_the_judgement_and_the_schema() {
    let starts = [Start::Nothing, Start::Removed, Start::Forgotten, Start::OneMisfit];
    let rivals = [
        Rival::Create,
        Rival::TouchUnderCaveat,
        Rival::Delete,
        Rival::DeleteMatching,
        Rival::Replace,
        Rival::Merge,
    ];
    let mut races = 0;
    for start in starts {
        for rival in rivals {
            for schema_waits in [true, false] {
                let mut passing = 0;
                while run(start, rival, schema_waits, passing).await {
                    races += 1;
                    passing += 1;
                    assert!(passing < 50);
                }
            }
        }
    }
    assert!(races > 60, "{races} races");
}
