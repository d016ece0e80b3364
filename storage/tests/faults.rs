//! Failures injected through the trait: nothing is done twice, and nothing is reported that is not so.
#![allow(missing_docs)]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a failure is to panic"
)]

mod support;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use inferadb_storage::kv::{Engine, Isolation, KvError, Pair, RangeOptions, Transaction, Versionstamp};
use inferadb_storage::{
    ChangeKind, PutSchema, Shape, Staging, Store, StoreError, Switch, VaultId, VaultPatch, Write,
};
use support::*;

/// What happens at a commit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Conflict,
    Unavailable,
    /// Lost: the outcome is unknown and nothing is stored.
    Lost,
    /// Stored, but the outcome is unknown.
    Stored,
    /// The outcome is unknown, and it is committed just before the next commit.
    LateBefore,
    /// The outcome is unknown, and it is committed just after the next commit.
    LateAfter,
}

const FAULTS: [Fault; 7] = [
    Fault::None,
    Fault::Conflict,
    Fault::Unavailable,
    Fault::Lost,
    Fault::Stored,
    Fault::LateBefore,
    Fault::LateAfter,
];

#[derive(Default)]
struct Script {
    faults: VecDeque<Fault>,
    late: Option<(Fault, Box<dyn Transaction>)>,
    /// What happens right after the next commit.
    then: Option<BoxFuture<'static, ()>>,
}

/// An engine whose commits fail as the script says.
struct FaultyEngine {
    inner: Arc<dyn Engine>,
    script: Arc<Mutex<Script>>,
}

struct FaultyTransaction {
    inner: Box<dyn Transaction>,
    script: Arc<Mutex<Script>>,
    writes: bool,
}

#[async_trait]
impl Engine for FaultyEngine {
    async fn begin(&self) -> Result<Box<dyn Transaction>, KvError> {
        let inner = self.inner.begin().await?;
        Ok(Box::new(FaultyTransaction {
            inner,
            script: Arc::clone(&self.script),
            writes: false,
        }))
    }

    async fn watch(&self, key: &[u8]) -> Result<BoxFuture<'static, Result<(), KvError>>, KvError> {
        self.inner.watch(key).await
    }

    fn is_exclusive(&self) -> bool {
        false
    }

    fn clears_ranges_at_once(&self) -> bool {
        true
    }
}

#[async_trait]
impl Transaction for FaultyTransaction {
    async fn get(&self, key: &[u8], isolation: Isolation) -> Result<Option<Bytes>, KvError> {
        self.inner.get(key, isolation).await
    }

    async fn range(&self, range: Range<Bytes>, options: RangeOptions) -> Result<Vec<Pair>, KvError> {
        self.inner.range(range, options).await
    }

    fn set(&mut self, key: &[u8], value: &[u8]) {
        self.writes = true;
        self.inner.set(key, value);
    }

    fn set_versionstamped_key(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.writes = true;
        self.inner.set_versionstamped_key(prefix, suffix, value);
    }

    fn set_versionstamped_value(&mut self, key: &[u8], rest: &[u8]) {
        self.writes = true;
        self.inner.set_versionstamped_value(key, rest);
    }

    fn add(&mut self, key: &[u8], delta: i64) {
        self.writes = true;
        self.inner.add(key, delta);
    }

    fn clear(&mut self, key: &[u8]) {
        self.writes = true;
        self.inner.clear(key);
    }

    fn clear_range(&mut self, range: Range<Bytes>) {
        self.writes = true;
        self.inner.clear_range(range);
    }

    async fn commit(self: Box<Self>) -> Result<Versionstamp, KvError> {
        if !self.writes {
            return self.inner.commit().await;
        }
        let (fault, late) = {
            let mut script = self.script.lock().unwrap();
            (
                script.faults.pop_front().unwrap_or(Fault::None),
                script.late.take(),
            )
        };
        let (before, after) = match late {
            Some((Fault::LateBefore, late)) => (Some(late), None),
            Some((_, late)) => (None, Some(late)),
            None => (None, None),
        };
        if let Some(late) = before {
            // Whether it still can be committed is up to the engine.
            late.commit().await.ok();
        }
        let outcome = match fault {
            Fault::None => self.inner.commit().await,
            Fault::Conflict => Err(KvError::Conflict),
            Fault::Unavailable => Err(KvError::Unavailable("injected".into())),
            Fault::Lost => Err(KvError::CommitUnknown),
            Fault::Stored => self.inner.commit().await.and(Err(KvError::CommitUnknown)),
            Fault::LateBefore | Fault::LateAfter => {
                self.script.lock().unwrap().late = Some((fault, self.inner));
                Err(KvError::CommitUnknown)
            }
        };
        if let Some(late) = after {
            late.commit().await.ok();
        }
        let then = self.script.lock().unwrap().then.take();
        if let Some(then) = then {
            then.await;
        }
        outcome
    }
}

async fn faulty() -> (Store, Arc<Mutex<Script>>) {
    let script = Arc::new(Mutex::new(Script::default()));
    let engine = FaultyEngine {
        inner: engine().await,
        script: Arc::clone(&script),
    };
    (Store::with_engine(Arc::new(engine)).await.unwrap(), script)
}

/// Every sequence of up to three faults.
fn sequences() -> impl Iterator<Item = Vec<Fault>> {
    let pairs = FAULTS
        .into_iter()
        .flat_map(|first| FAULTS.map(|second| [first, second]));
    pairs.flat_map(|[first, second]| FAULTS.map(|third| vec![first, second, third]))
}

/// Lets what comes late come now; answers what is then there.
async fn settle(script: &Arc<Mutex<Script>>) {
    let late = {
        let mut script = script.lock().unwrap();
        script.faults.clear();
        script.late.take()
    };
    if let Some((_, late)) = late {
        late.commit().await.ok();
    }
}

/// Checks that what was answered is what happened.
fn check<T: std::fmt::Debug>(faults: &[Fault], outcome: &Result<T, StoreError>, times: usize) {
    match outcome {
        Ok(_) => assert_eq!(times, 1, "{faults:?} {outcome:?}"),
        Err(StoreError::OutcomeUnknown) => assert!(times <= 1, "{faults:?} {outcome:?}"),
        Err(StoreError::Unavailable(_)) => assert_eq!(times, 0, "{faults:?} {outcome:?}"),
        Err(other) => panic!("{faults:?} {other:?}"),
    }
}

#[tokio::test]
async fn writes_happen_once_or_not_at_all_and_say_which() {
    for (round, faults) in sequences().enumerate() {
        let (store, script) = faulty().await;
        let (_, vault) = vault_of(&store).await;
        store
            .write(
                vault,
                &touch(&["doc:old#viewer@user:u", "doc:gone#viewer@user:u"]),
            )
            .await
            .unwrap();
        let start = revision(&store, vault).await;
        script.lock().unwrap().faults = faults.clone().into();
        let write = match round % 2 {
            0 => create(&["doc:new#viewer@user:u"]),
            _ => Write {
                delete: vec![key("doc:gone#viewer@user:u")],
                ..touch(&["doc:old#viewer@user:u busy"])
            },
        };
        let outcome = store.write(vault, &write).await;
        settle(&script).await;
        let changes = store.changes(vault, start, 10).await.unwrap();
        check(&faults, &outcome, changes.len());
        if let (Ok(written), [change]) = (&outcome, changes.as_slice()) {
            assert_eq!(written.revision, change.revision);
            let counts = (written.created, written.updated, written.deleted);
            assert_eq!(counts, if round % 2 == 0 { (1, 0, 0) } else { (0, 1, 1) });
        }
        let counted: u64 = store
            .snapshot(vault)
            .await
            .unwrap()
            .shapes()
            .await
            .unwrap()
            .iter()
            .map(|shape| shape.count)
            .sum();
        assert_eq!(counted as usize, stored(&store, vault).await.len(), "{faults:?}");
    }
}

#[tokio::test]
async fn deletions_by_filter_happen_once_or_not_at_all() {
    for faults in sequences() {
        let (store, script) = faulty().await;
        let (_, vault) = vault_of(&store).await;
        store
            .write(vault, &touch(&["doc:a#viewer@user:u", "doc:b#viewer@user:u"]))
            .await
            .unwrap();
        let start = revision(&store, vault).await;
        script.lock().unwrap().faults = faults.clone().into();
        let outcome = store
            .delete_matching(vault, &filter("doc - - - - -"), None, &[], at(3))
            .await;
        settle(&script).await;
        check(
            &faults,
            &outcome,
            store.changes(vault, start, 10).await.unwrap().len(),
        );
        if let Ok(done) = outcome {
            assert_eq!((done.deleted, done.complete), (2, true), "{faults:?}");
            assert_eq!(stored(&store, vault).await, Vec::<String>::new());
            assert_eq!(store.snapshot(vault).await.unwrap().shapes().await.unwrap(), []);
        }
    }
}

#[tokio::test]
async fn schemas_and_settings_are_stored_once_or_not_at_all() {
    for faults in sequences() {
        let (store, script) = faulty().await;
        let (_, vault) = vault_of(&store).await;
        let fits = |_: &[Shape]| Ok(());
        let schema = PutSchema {
            text: "definition user {}",
            format: 1,
            force: false,
            now: at(4),
        };
        let patch = VaultPatch {
            name: Some("other".into()),
            ..VaultPatch::default()
        };
        for kind in [ChangeKind::Schema, ChangeKind::Settings] {
            let start = revision(&store, vault).await;
            script.lock().unwrap().faults = faults.clone().into();
            let outcome = match kind {
                ChangeKind::Schema => store.put_schema(vault, &schema, &fits).await.map(|_| ()),
                _ => store.update_vault(vault, &patch, at(4)).await.map(|_| ()),
            };
            settle(&script).await;
            check(
                &faults,
                &outcome,
                store.changes(vault, start, 10).await.unwrap().len(),
            );
        }
    }
}

#[tokio::test]
async fn accounts_and_vaults_are_made_and_deleted_once_or_not_at_all() {
    for faults in sequences() {
        let (store, script) = faulty().await;
        let (account, vault) = vault_of(&store).await;
        let arm = || script.lock().unwrap().faults = faults.clone().into();

        arm();
        let outcome = store.create_account("b", at(3)).await;
        settle(&script).await;
        check(
            &faults,
            &outcome,
            store.accounts(None, 10).await.unwrap().items.len() - 1,
        );

        arm();
        let outcome = store.create_vault(account.id, "b", at(3)).await;
        settle(&script).await;
        let vaults = async || {
            let all = inferadb_storage::Archived::With;
            store.vaults(account.id, all, None, 10).await.unwrap().items.len()
        };
        let with_new = vaults().await;
        check(&faults, &outcome, with_new - 1);

        arm();
        let outcome = store.delete_vault(vault, at(4)).await;
        settle(&script).await;
        check(&faults, &outcome, with_new - vaults().await);

        arm();
        let outcome = store.ensure_defaults(None, None, at(5)).await;
        settle(&script).await;
        if let Ok(defaults) = outcome {
            let again = store.ensure_defaults(None, None, at(6)).await.unwrap();
            assert_eq!(
                (again.account, again.vault),
                (defaults.account, defaults.vault),
                "{faults:?}"
            );
            assert!(!again.account_created && !again.vault_created);
        }
    }
}

#[tokio::test]
async fn endless_conflicts_end() {
    let (store, script) = faulty().await;
    let (_, vault) = vault_of(&store).await;
    script.lock().unwrap().faults = [Fault::Conflict; 1_000].into();
    assert_eq!(
        store.write(vault, &touch(&["doc:a#viewer@user:u"])).await,
        Err(StoreError::Contended)
    );
    script.lock().unwrap().faults = [Fault::Lost; 1_000].into();
    assert_eq!(
        store.write(vault, &touch(&["doc:a#viewer@user:u"])).await,
        Err(StoreError::OutcomeUnknown)
    );
}

/// Everything stored, with a page of other relationships handed to an import.
async fn staged(store: &Store, vault: VaultId, merges: bool) -> Staging {
    let mut staging = store.stage(vault).await.unwrap();
    let page = [
        relationship("doc:in#viewer@user:u"),
        relationship("doc:old#viewer@user:u busy"),
    ];
    match merges {
        true => staging.hand_in(&page).await.unwrap(),
        false => staging.add(&page).await.unwrap(),
    }
    staging
}

#[tokio::test]
async fn imports_are_switched_to_once_or_not_at_all() {
    let plain = Switch {
        schema: None,
        validated_against: None,
        limits: None,
        now: at(3),
    };
    // A merge commits its page, the hold and the counters before the switch: there are faults at each of them.
    for (merges, before) in [(false, 0), (false, 1), (true, 0), (true, 1), (true, 3)] {
        for faults in sequences() {
            let (store, script) = faulty().await;
            let (_, vault) = vault_of(&store).await;
            store
                .write(
                    vault,
                    &touch(&["doc:old#viewer@user:u", "doc:kept#viewer@user:u"]),
                )
                .await
                .unwrap();
            let start = revision(&store, vault).await;
            let staging = staged(&store, vault, merges).await;
            let mut planned = vec![Fault::None; before];
            planned.extend(&faults);
            script.lock().unwrap().faults = planned.into();
            let outcome = match merges {
                false => staging.replace(&plain).await.map(|switched| {
                    assert_eq!(switched.held, 2);
                    switched.revision
                }),
                true => staging.merge(&plain, None).await.map(|merged| {
                    assert_eq!((merged.created, merged.updated, merged.unchanged), (1, 1, 0));
                    merged.revision
                }),
            };
            settle(&script).await;
            let head = revision(&store, vault).await;
            check(&faults, &outcome, usize::from(head != start));
            let whole = stored(&store, vault).await;
            let expected: &[&str] = match (head != start, merges) {
                (false, _) => &["doc:kept#viewer@user:u", "doc:old#viewer@user:u"],
                (true, true) => &[
                    "doc:in#viewer@user:u",
                    "doc:kept#viewer@user:u",
                    "doc:old#viewer@user:u",
                ],
                (true, false) => &["doc:in#viewer@user:u", "doc:old#viewer@user:u"],
            };
            assert_eq!(whole, expected, "{faults:?}");
            if let Ok(revision) = outcome {
                assert_eq!(revision, head);
            }
            let shapes = store.snapshot(vault).await.unwrap().shapes().await.unwrap();
            let counted: u64 = shapes.iter().map(|shape| shape.count).sum();
            assert_eq!(counted as usize, expected.len(), "{faults:?}");
        }
    }
}

#[tokio::test]
async fn pages_of_an_import_count_once() {
    for faults in sequences() {
        let (store, script) = faulty().await;
        let (_, vault) = vault_of(&store).await;
        let mut staging = staged(&store, vault, false).await;
        script.lock().unwrap().faults = faults.clone().into();
        let again = [
            relationship("doc:in#viewer@user:u"),
            relationship("doc:a#viewer@user:u"),
        ];
        let added = staging.add(&again).await;
        settle(&script).await;
        if added.is_err() {
            continue;
        }
        let plain = Switch {
            schema: None,
            validated_against: None,
            limits: None,
            now: at(3),
        };
        assert_eq!(staging.relationships(), 3, "{faults:?}");
        staging.replace(&plain).await.unwrap();
        let shapes = store.snapshot(vault).await.unwrap().shapes().await.unwrap();
        assert_eq!(
            shapes.iter().map(|shape| shape.count).sum::<u64>(),
            3,
            "{faults:?}"
        );
    }
}

#[tokio::test]
async fn a_clone_is_there_once_or_not_at_all() {
    for faults in sequences() {
        let (store, script) = faulty().await;
        let (account, _) = vault_of(&store).await;
        let mut staging = store.stage_new().await.unwrap();
        staging
            .add(&[relationship("doc:in#viewer@user:u")])
            .await
            .unwrap();
        let id = staging.vault();
        // The counters are stored first.
        script.lock().unwrap().faults = [vec![Fault::None], faults.clone()].concat().into();
        let outcome = staging.create(account.id, "copy", None, None, at(4)).await;
        settle(&script).await;
        let there = store.vault(id).await.unwrap().is_some();
        check(&faults, &outcome, usize::from(there));
        if there {
            assert_eq!(stored(&store, id).await, ["doc:in#viewer@user:u"]);
        }
    }
}

#[tokio::test]
async fn a_deletion_takes_nothing_of_what_an_import_put_in_its_place() {
    let (store, script) = faulty().await;
    let (_, vault) = vault_of(&store).await;
    for half in 0..2 {
        let texts: Vec<String> = (0..750)
            .map(|n| format!("doc:{half}-{n}#viewer@user:u"))
            .collect();
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        store.write(vault, &create(&refs)).await.unwrap();
    }
    let mut staging = store.stage(vault).await.unwrap();
    let row = "doc:z#viewer@user:u";
    staging.add(&[relationship(row)]).await.unwrap();
    let replacement = async move {
        let switch = Switch {
            schema: None,
            validated_against: None,
            limits: None,
            now: at(4),
        };
        staging.replace(&switch).await.unwrap();
    };
    script.lock().unwrap().then = Some(Box::pin(replacement));
    let users = filter("- - - - user u");
    let outcome = store.delete_matching(vault, &users, None, &[], at(5)).await;
    assert_eq!(outcome, Err(StoreError::Replaced));
    assert_eq!(stored(&store, vault).await, [row]);
}
