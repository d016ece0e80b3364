//! States that are built beside the one that counts, and states that have passed: against a reference that keeps everything.
#![allow(missing_docs)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code: a failure is to panic"
)]

#[path = "support/short_lived.rs"]
mod short_lived;
mod support;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use inferadb_engine::context::Value;
use inferadb_engine::noun::{Relationship, Timestamp};
use inferadb_storage::engine::MemoryEngine;
use inferadb_storage::kv::{Engine, Isolation, RangeOptions};
use inferadb_storage::{
    FitCheck, PastState, PutSchema, Revision, SchemaFit, Shape, Staging, Store, StoreError, Switch, VaultId,
    VaultPatch, Write,
};
use short_lived::ShortLived;
use support::*;

/// Long enough for whatever should happen at all.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a vault holds, by the text of a relationship's key.
type Model = BTreeMap<String, Relationship>;

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// One of so many relationships, with terms by chance.
fn random(dice: &mut Dice, of: u64) -> Relationship {
    let key = dice.below(of);
    let terms = [
        "",
        " busy",
        " until:9000000000000000",
        " busy until:9000000000000000",
    ];
    let terms = terms[dice.below(4) as usize];
    relationship(&format!(
        "doc:{}#r{}@user:u{}{terms}",
        key % 37,
        key % 3,
        key / 37
    ))
}

fn write_of(touch: Vec<Relationship>, delete: Vec<Relationship>) -> Write {
    Write {
        touch,
        delete: delete.iter().map(Relationship::key).collect(),
        ..empty_write(1)
    }
}

fn apply(model: &mut Model, write: &Write) {
    for touched in &write.touch {
        model.insert(touched.key().to_string(), touched.clone());
    }
    for deleted in &write.delete {
        model.remove(&deleted.to_string());
    }
}

fn random_write(dice: &mut Dice, of: u64) -> Write {
    let mut touch: Vec<Relationship> = (0..=dice.below(5)).map(|_| random(dice, of)).collect();
    let mut seen = std::collections::HashSet::new();
    touch.retain(|one| seen.insert(one.key()));
    let mut delete: Vec<Relationship> = (0..dice.below(5)).map(|_| random(dice, of)).collect();
    delete.retain(|one| seen.insert(one.key()));
    write_of(touch, delete)
}

async fn read_all(mut state: PastState) -> Result<Model, StoreError> {
    let mut model = Model::new();
    while let Some(page) = state.next(Instant::now()).await? {
        assert!(!page.is_empty() && page.len() <= 1_000);
        for relationship in page {
            assert!(
                model
                    .insert(relationship.key().to_string(), relationship)
                    .is_none()
            );
        }
    }
    Ok(model)
}

async fn now_stored(store: &Store, vault: VaultId) -> Model {
    let state = store.state(vault, None).await.unwrap();
    let counted = state.relationships();
    let model = read_all(state).await.unwrap();
    assert_eq!(counted, model.len() as u64, "the counters");
    model
}

/// Each shape's counter is what a count of the relationships says, in both orders.
async fn check_counters(store: &Store, vault: VaultId) {
    let model = now_stored(store, vault).await;
    let snapshot = store.snapshot(vault).await.unwrap();
    for shape in snapshot.shapes().await.unwrap() {
        let is_of = |one: &&Relationship| {
            one.relation == shape.relation
                && one.caveat.is_some() == shape.caveat.is_some()
                && one.expires_at.is_some() == shape.expires
        };
        assert_eq!(
            shape.count,
            model.values().filter(is_of).count() as u64,
            "{shape:?}"
        );
    }
    let by_subject = filter("- - - - user -");
    let mut reverse = Model::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = snapshot
            .relationships(&by_subject, after.as_deref(), 1_000, at(2))
            .await
            .unwrap();
        for one in page.items {
            reverse.insert(one.key().to_string(), one);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(reverse, model, "the reverse order");
}

fn switch() -> Switch {
    Switch {
        schema: None,
        validated_against: None,
        limits: None,
        now: at(7),
    }
}

async fn stage(store: &Store, vault: VaultId, pages: &[Vec<Relationship>]) -> Staging {
    let mut staging = store.stage(vault).await.unwrap();
    for page in pages {
        staging.add(page).await.unwrap();
    }
    staging
}

fn pages(dice: &mut Dice, count: usize, of: u64) -> Vec<Vec<Relationship>> {
    (0..count)
        .map(|_| (0..=dice.below(60)).map(|_| random(dice, of)).collect())
        .collect()
}

fn model_of(pages: &[Vec<Relationship>]) -> Model {
    pages
        .iter()
        .flatten()
        .map(|one| (one.key().to_string(), one.clone()))
        .collect()
}

/// Every key of the store.
async fn all_keys(engine: &dyn Engine) -> Vec<Bytes> {
    let options = RangeOptions {
        limit: usize::MAX,
        reverse: false,
        isolation: Isolation::Snapshot,
    };
    let transaction = engine.begin().await.unwrap();
    let all = Bytes::new()..Bytes::from_static(&[0xff]);
    let pairs = transaction.range(all, options).await.unwrap();
    pairs.into_iter().map(|(key, _)| key).collect()
}

/// Waits until the chore has cleared everything of `vault` but the generation that counts.
async fn swept(engine: &dyn Engine, vault: VaultId) {
    let data = [&[0x10], vault.0.as_bytes().as_slice(), &[0x05]].concat();
    let is_clean = async || {
        let keys = all_keys(engine).await;
        let generations: std::collections::HashSet<_> = keys
            .iter()
            .filter_map(|key| key.strip_prefix(data.as_slice())?.get(..4).map(<[u8]>::to_vec))
            .collect();
        let inputs = keys
            .iter()
            .filter(|key| key.starts_with(&data) && key.get(22) == Some(&4));
        generations.len() <= 1 && inputs.count() == 0 && !keys.iter().any(|key| key.first() == Some(&0x0a))
    };
    let waiting = async {
        while !is_clean().await {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(in_time.is_ok(), "leftovers are swept");
}

async fn over_memory() -> (Arc<MemoryEngine>, Store) {
    let engine = Arc::new(MemoryEngine::new().unwrap());
    let store = Store::with_engine(engine.clone()).await.unwrap();
    (engine, store)
}

#[tokio::test]
async fn a_replacement_shows_at_once_and_what_was_there_is_gone() {
    let (engine, store) = over_memory().await;
    let (_, vault) = vault_of(&store).await;
    let mut dice = Dice(1);
    let mut model = Model::new();
    for round in 0..6 {
        let write = random_write(&mut dice, 200);
        store.write(vault, &write).await.unwrap();
        apply(&mut model, &write);
        let before = revision(&store, vault).await;
        let held = store.snapshot(vault).await.unwrap();
        let pages = pages(&mut dice, 1 + round * 20, 3_000);
        let staging = stage(&store, vault, &pages).await;
        assert_eq!(
            now_stored(&store, vault).await,
            model,
            "nothing shows before the switch"
        );
        assert_eq!(staging.relationships(), model_of(&pages).len() as u64);
        let switched = staging.replace(&switch()).await.unwrap();
        assert_eq!(switched.held, model.len() as u64);
        assert_eq!(revision(&store, vault).await, switched.revision);
        // A snapshot from before is of before.
        assert_eq!(
            held.scan_all(None, 10_000).await.unwrap().items.len(),
            model.len()
        );
        drop(held);
        model = model_of(&pages);
        assert_eq!(now_stored(&store, vault).await, model);
        check_counters(&store, vault).await;
        assert_eq!(
            store.changes(vault, before, 10).await,
            Err(StoreError::HistoryGone)
        );
        assert_eq!(store.changes(vault, switched.revision, 10).await, Ok(vec![]));
        assert_eq!(
            store.state(vault, Some(before)).await.err(),
            Some(StoreError::HistoryGone)
        );
        swept(&*engine, vault).await;
    }
    store.delete_vault(vault, at(9)).await.unwrap();
    let waiting = async {
        let of_vault = |key: &Bytes| key.windows(16).any(|part| part == vault.0.as_bytes()) && key[0] >= 0x0a;
        while all_keys(&*engine).await.iter().any(of_vault) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("all of the vault is cleared");
}

#[tokio::test]
async fn what_is_given_up_leaves_the_vault_as_it_was_and_nothing_behind() {
    let (engine, store) = over_memory().await;
    let (account, vault) = vault_of(&store).await;
    store.write(vault, &touch(&["doc:1#r0@user:u0"])).await.unwrap();
    let before = (now_stored(&store, vault).await, revision(&store, vault).await);
    let mut dice = Dice(2);
    for chunks in 0..5 {
        let pages = pages(&mut dice, chunks, 500);
        drop(stage(&store, vault, &pages).await);
        let mut handed_in = store.stage(vault).await.unwrap();
        for page in &pages {
            handed_in.hand_in(page).await.unwrap();
        }
        drop(handed_in);
        let mut new = store.stage_new().await.unwrap();
        for page in &pages {
            new.add(page).await.unwrap();
        }
        let never = new.vault();
        drop(new);
        swept(&*engine, vault).await;
        swept(&*engine, never).await;
        assert_eq!(store.vault(never).await.unwrap(), None);
    }
    // A server that is gone: another one opens the store.
    for at_once in [false, true] {
        let pages = pages(&mut dice, 4, 500);
        let lost = stage(&store, vault, &pages).await;
        if at_once {
            std::mem::forget(lost);
            Store::with_engine(engine.clone()).await.unwrap().close().await;
        } else {
            std::mem::forget(lost);
        }
        let other = Store::with_engine(engine.clone()).await.unwrap();
        swept(&*engine, vault).await;
        other.close().await;
    }
    assert_eq!(
        before,
        (now_stored(&store, vault).await, revision(&store, vault).await)
    );
    // What was given up cannot be gone on with.
    let pages = pages(&mut dice, 2, 500);
    let mut staging = stage(&store, vault, &pages).await;
    store.delete_vault(vault, at(3)).await.unwrap();
    assert_eq!(staging.add(&pages[0]).await, Err(StoreError::VaultNotFound));
    assert!(matches!(
        staging.replace(&switch()).await,
        Err(StoreError::ImportGone | StoreError::VaultNotFound)
    ));
    let new = store.stage_new().await.unwrap();
    store.delete_account(account.id, at(4)).await.unwrap();
    let gone = new.create(account.id, "late", None, None, at(5)).await;
    assert_eq!(gone.err(), Some(StoreError::AccountNotFound));
}

#[tokio::test]
async fn what_is_begun_while_its_importer_goes_away_is_given_up() {
    let (_, store) = over_memory().await;
    let (_, vault) = vault_of(&store).await;
    for round in 0..20 {
        let mut staging = Box::pin(store.stage(vault));
        // However far it has come by then.
        for _ in 0..round % 4 {
            let look = poll_fn(|context| Poll::Ready(staging.as_mut().poll(context)));
            if look.await.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let waiting = async {
        let mut held = Vec::new();
        while held.len() < 4 {
            match store.stage(vault).await {
                Ok(staging) => held.push(staging),
                Err(StoreError::TooManyImports) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("none of them is built any more");
}

#[tokio::test]
async fn only_so_many_are_built_at_a_time() {
    let (_, store) = over_memory().await;
    let (_, vault) = vault_of(&store).await;
    let mut held = Vec::new();
    let refused = loop {
        match store.stage(vault).await {
            Ok(staging) => held.push(staging),
            Err(error) => break error,
        }
    };
    assert_eq!((refused, held.len()), (StoreError::TooManyImports, 4));
    held.pop();
    let waiting = async {
        while store.stage(vault).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .expect("there is room again");
}

/// Two servers over one engine, of which the other's time of day is so many seconds ahead: neither breaks what the other does.
async fn work_together(ahead: i64) {
    let engine: Arc<dyn Engine> = Arc::new(ShortLived::new(engine().await, usize::MAX));
    let first = Store::with_engine(engine.clone()).await.unwrap();
    let second = Store::with_engine(engine.clone()).await.unwrap();
    let time = |store: usize| [at(5_000_000_000_000), at(5_000_000_000_000 + ahead * 1_000_000)][store];
    let mut dice = Dice(ahead.unsigned_abs());
    let account = first.create_account("acme", time(0)).await.unwrap();
    let vault = second.create_vault(account.id, "main", time(1)).await.unwrap().id;
    let stores = [first, second];
    for importer in [0, 1] {
        let (own, other) = (&stores[importer], &stores[1 - importer]);
        let pages = pages(&mut dice, 6, 400);
        // Each is begun, the other server's chore has something to do and does it, and both go on.
        let mut replacing = own.stage(vault).await.unwrap();
        let mut merging = own.stage(vault).await.unwrap();
        for page in &pages {
            replacing.add(page).await.unwrap();
            merging.hand_in(page).await.unwrap();
            let given_up = other.stage_new().await.unwrap();
            let gone = given_up.vault();
            drop(given_up);
            swept_of(&*engine, gone).await;
        }
        let now = time(importer);
        replacing.replace(&Switch { now, ..switch() }).await.unwrap();
        assert_eq!(now_stored(other, vault).await, model_of(&pages));
        let stop = Arc::new(AtomicBool::new(false));
        let writer = tokio::spawn(keep_writing(other.clone(), vault, 7, 400, Arc::clone(&stop)));
        let merged = merging.merge(&Switch { now, ..switch() }, None).await.unwrap();
        stop.store(true, Ordering::SeqCst);
        let written = writer.await.unwrap();
        let mut model = model_of(&pages);
        // What the import replaced is all there was, so what counts is it and what was written since the merge.
        let later = written.iter().filter(|(revision, _)| *revision > merged.revision);
        for (_, write) in later {
            apply(&mut model, write);
        }
        let found = now_stored(own, vault).await;
        assert!(model.iter().all(|(key, one)| found.get(key) == Some(one)));
        check_counters(own, vault).await;
    }
}

/// Waits until nothing says any more that a state of `vault` is being built.
async fn swept_of(engine: &dyn Engine, vault: VaultId) {
    let key = [&[0x0a], vault.0.as_bytes().as_slice()].concat();
    let waiting = async {
        while all_keys(engine).await.iter().any(|one| one.starts_with(&key)) {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(in_time.is_ok(), "what was given up is swept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_an_hour_apart_do_not_break_each_others_imports_merges_and_writes() {
    for ahead in [3_600, -3_600] {
        work_together(ahead).await;
    }
}

/// Writes at random until told to stop; answers each write that was done with its revision.
async fn keep_writing(
    store: Store,
    vault: VaultId,
    seed: u64,
    of: u64,
    stop: Arc<AtomicBool>,
) -> Vec<(Revision, Write)> {
    let mut dice = Dice(seed);
    let mut done = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        if dice.below(10) == 0 {
            let doomed = random(&mut dice, of);
            let (resource, subject) = (&doomed.resource.id, &doomed.subject.id);
            let text = format!("doc {resource} - {} user {subject}", doomed.relation);
            let deleted = store
                .delete_matching(vault, &filter(&text), None, &[], at(1))
                .await;
            let deleted = deleted.unwrap();
            if deleted.deleted > 0 {
                done.push((deleted.revision, write_of(vec![], vec![doomed])));
            }
            continue;
        }
        let write = random_write(&mut dice, of);
        // Nobody fails because a merge is under way.
        let written = store.write(vault, &write).await.unwrap();
        if written.created + written.updated + written.deleted > 0 {
            done.push((written.revision, write));
        }
    }
    done
}

/// The state after the changes of the log that follow `after`.
async fn replayed(
    store: &Store,
    vault: VaultId,
    mut model: Model,
    mut after: Revision,
    through: Revision,
) -> Model {
    loop {
        let changes = store.changes(vault, after, 500).await.unwrap();
        let changes: Vec<_> = changes
            .into_iter()
            .filter(|change| change.revision <= through)
            .collect();
        let Some(last) = changes.last() else { return model };
        after = last.revision;
        for change in &changes {
            if let inferadb_storage::ChangeKind::Relationships(relationships) = &change.kind {
                for (op, one) in relationships {
                    match op {
                        inferadb_storage::ChangeOp::Deleted => model.remove(&one.key().to_string()),
                        _ => model.insert(one.key().to_string(), one.clone()),
                    };
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merges_hold_against_busy_writers() {
    for (round, reads) in [usize::MAX, 5, 8].into_iter().enumerate() {
        let inner = Arc::new(MemoryEngine::new().unwrap());
        let engine = Arc::new(ShortLived::new(inner.clone(), reads));
        let plain = Store::with_engine(inner.clone()).await.unwrap();
        let store = Store::with_engine(engine).await.unwrap();
        let (_, vault) = vault_of(&plain).await;
        let mut dice = Dice(100 + round as u64);
        let of = 6_000;
        for _ in 0..40 {
            let mut touch: Vec<_> = (0..100).map(|_| random(&mut dice, of)).collect();
            let mut seen = std::collections::HashSet::new();
            touch.retain(|one| seen.insert(one.key()));
            plain.write(vault, &write_of(touch, vec![])).await.unwrap();
        }
        for merge in 0..3 {
            let start = (now_stored(&plain, vault).await, revision(&plain, vault).await);
            let pages = pages(&mut dice, 40, of);
            let mut staging = store.stage(vault).await.unwrap();
            for page in &pages {
                staging.hand_in(page).await.unwrap();
            }
            let stop = Arc::new(AtomicBool::new(false));
            let writers: Vec<_> = (0..3)
                .map(|at| keep_writing(plain.clone(), vault, 7 * merge + at, of, Arc::clone(&stop)))
                .map(tokio::spawn)
                .collect();
            let merged = staging.merge(&switch(), None).await;
            stop.store(true, Ordering::SeqCst);
            let mut written = Vec::new();
            for writer in writers {
                written.extend(writer.await.unwrap());
            }
            let merged = merged.unwrap();
            written.sort_by_key(|(revision, _)| *revision);
            assert!(
                written.iter().any(|(revision, _)| *revision < merged.revision),
                "writers were at work"
            );
            let mut model = start.0.clone();
            for (_, write) in written.iter().filter(|(at, _)| *at < merged.revision) {
                apply(&mut model, write);
            }
            let imported = model_of(&pages);
            let changed = |(key, one): &(&String, &Relationship)| model.get(*key).map(|held| held != *one);
            let [created, updated, unchanged] = [None, Some(true), Some(false)]
                .map(|outcome| imported.iter().filter(|one| changed(one) == outcome).count() as u64);
            assert_eq!(
                (merged.created, merged.updated, merged.unchanged),
                (created, updated, unchanged)
            );
            model.extend(imported);
            let head = revision(&plain, vault).await;
            let after = replayed(&plain, vault, model, merged.revision, head).await;
            assert_eq!(now_stored(&plain, vault).await, after);
            check_counters(&plain, vault).await;
            swept(&*inner, vault).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacements_are_not_kept_from_switching_by_busy_writers() {
    let (engine, store) = over_memory().await;
    let (_, vault) = vault_of(&store).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|at| keep_writing(store.clone(), vault, at, 300, Arc::clone(&stop)))
        .map(tokio::spawn)
        .collect();
    let mut dice = Dice(3);
    for _ in 0..10 {
        let pages = pages(&mut dice, 10, 300);
        let staging = stage(&store, vault, &pages).await;
        let switched = staging.replace(&switch()).await.unwrap();
        // The log since the switch leads from what was imported to what is there.
        let head = revision(&store, vault).await;
        let expected = replayed(&store, vault, model_of(&pages), switched.revision, head).await;
        let state = store.state(vault, Some(head)).await.unwrap();
        assert_eq!(read_all(state).await.unwrap(), expected);
    }
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    check_counters(&store, vault).await;
    swept(&*engine, vault).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_is_of_one_state_though_snapshots_do_not_live_long() {
    for (round, reads) in [usize::MAX, 5, 7].into_iter().enumerate() {
        let inner = Arc::new(MemoryEngine::new().unwrap());
        let plain = Store::with_engine(inner.clone()).await.unwrap();
        let engine = Arc::new(ShortLived::new(inner, reads));
        let store = Store::with_engine(engine.clone()).await.unwrap();
        let (_, vault) = vault_of(&plain).await;
        let mut dice = Dice(round as u64);
        let staging = stage(&plain, vault, &pages(&mut dice, 400, 20_000)).await;
        staging.replace(&switch()).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..2)
            .map(|at| keep_writing(plain.clone(), vault, at, 20_000, Arc::clone(&stop)))
            .map(tokio::spawn)
            .collect();
        for _ in 0..3 {
            let state = store.state(vault, None).await.unwrap();
            let revision = state.revision();
            let counted = state.relationships();
            let past = plain.state(vault, Some(revision)).await.unwrap();
            let exported = read_all(state).await.unwrap();
            assert_eq!(counted, exported.len() as u64);
            assert_eq!(past.relationships(), counted);
            assert_eq!(read_all(past).await.unwrap(), exported);
            // And what the log tells from there on leads to what is there.
            let head = self::revision(&plain, vault).await;
            let expected = replayed(&plain, vault, exported, revision, head).await;
            let later = store.state(vault, Some(head)).await.unwrap();
            assert_eq!(read_all(later).await.unwrap(), expected);
        }
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(
            engine.renewals() > 0,
            reads != usize::MAX,
            "snapshots became too old"
        );
    }
}

#[tokio::test]
async fn an_export_that_is_read_slowly_holds_no_old_state_of_the_store() {
    let engine = Arc::new(ShortLived::exclusive(
        Arc::new(MemoryEngine::new().unwrap()),
        usize::MAX,
    ));
    let store = Store::with_engine(engine.clone()).await.unwrap();
    let (_, vault) = vault_of(&store).await;
    let mut dice = Dice(11);
    let filled = pages(&mut dice, 200, 20_000);
    stage(&store, vault, &filled)
        .await
        .replace(&switch())
        .await
        .unwrap();
    let expected = now_stored(&store, vault).await;
    let mut state = store.state(vault, None).await.unwrap();
    let (_, others) = engine.transactions();
    let mut exported = Model::new();
    let mut now = Instant::now();
    let mut take = |page: Vec<Relationship>| {
        exported.extend(page.into_iter().map(|one| (one.key().to_string(), one)));
    };
    let mut renewed = 0;
    loop {
        let (begun, _) = engine.transactions();
        let Some(page) = state.next(now).await.unwrap() else {
            break;
        };
        let (after, held) = engine.transactions();
        renewed += after - begun;
        assert!(held <= others, "no more than the one it reads from");
        take(page);
        now += Duration::from_secs(20);
        for _ in 0..3 {
            store
                .write(vault, &random_write(&mut dice, 20_000))
                .await
                .unwrap();
        }
    }
    assert!(renewed > 0);
    assert_eq!(exported, expected);
    assert_ne!(now_stored(&store, vault).await, expected);

    // What is put to use slowly is no reason to hold one either.
    let mut state = store.state(vault, None).await.unwrap();
    state.next(now).await.unwrap();
    let (begun, held) = engine.transactions();
    for _ in 0..10 {
        store
            .write(vault, &random_write(&mut dice, 20_000))
            .await
            .unwrap();
        now += Duration::from_secs(20);
        state.refresh(now).await.unwrap();
    }
    let (after, still_held) = engine.transactions();
    // Ten of the writers, and a newer one every other time.
    assert!(after - begun >= 10 + 5, "{begun} {after}");
    assert_eq!(still_held, held);
    while state.next(now).await.unwrap().is_some() {}
    let (_, left) = engine.transactions();
    assert_eq!(left, held - 1, "what has been read to its end is let go");
    drop(state);

    // Where the way to a newer state is lost, an embedded store keeps the old one.
    for way in ["trimmed", "replaced"] {
        let expected = now_stored(&store, vault).await;
        let mut state = store.state(vault, None).await.unwrap();
        let mut exported: Vec<Relationship> = state.next(now).await.unwrap().unwrap();
        store
            .write(vault, &random_write(&mut dice, 20_000))
            .await
            .unwrap();
        match way {
            "trimmed" => drop(store.trim_changes(vault, kept(0)).await.unwrap()),
            _ => drop(
                stage(&store, vault, &filled[..3])
                    .await
                    .replace(&switch())
                    .await
                    .unwrap(),
            ),
        }
        store
            .write(vault, &random_write(&mut dice, 20_000))
            .await
            .unwrap();
        while let Some(page) = state.next(now).await.unwrap() {
            now += Duration::from_secs(60);
            exported.extend(page);
        }
        let exported: Model = exported
            .into_iter()
            .map(|one| (one.key().to_string(), one))
            .collect();
        assert_eq!(exported, expected, "{way}");
    }
}

#[tokio::test]
async fn large_relationships_behind_small_ones_are_read_few_at_a_time() {
    let engine = Arc::new(ShortLived::new(
        Arc::new(MemoryEngine::new().unwrap()),
        usize::MAX,
    ));
    let store = Store::with_engine(engine.clone()).await.unwrap();
    let (_, vault) = vault_of(&store).await;
    let small: Vec<_> = (0..1_500)
        .map(|at| relationship(&format!("a:{at}#r0@user:u")))
        .collect();
    let large: Vec<_> = (0..600)
        .map(|at| {
            let mut one = relationship(&format!("b:{at:03}#r0@user:u c"));
            let text = Value::String("x".repeat(20_000));
            one.caveat.as_mut().unwrap().context.insert("text".into(), text);
            one
        })
        .collect();
    let pages: Vec<_> = small
        .chunks(500)
        .chain(large.chunks(100))
        .map(<[_]>::to_vec)
        .collect();
    stage(&store, vault, &pages)
        .await
        .replace(&switch())
        .await
        .unwrap();
    let mut state = store.state(vault, None).await.unwrap();
    let mut count = 0;
    loop {
        let before = engine.read_bytes();
        let Some(page) = state.next(Instant::now()).await.unwrap() else {
            break;
        };
        count += page.len();
        let read = engine.read_bytes() - before;
        assert!(read < 2 << 20, "{read} bytes at once");
    }
    assert_eq!(count, 2_100);
}

#[tokio::test]
async fn an_export_that_cannot_go_on_says_so() {
    let inner = Arc::new(MemoryEngine::new().unwrap());
    let plain = Store::with_engine(inner.clone()).await.unwrap();
    let store = Store::with_engine(Arc::new(ShortLived::new(inner, 5)))
        .await
        .unwrap();
    let (_, vault) = vault_of(&plain).await;
    let mut dice = Dice(5);
    let filled = pages(&mut dice, 400, 20_000);
    stage(&plain, vault, &filled)
        .await
        .replace(&switch())
        .await
        .unwrap();
    // The changes since were trimmed before they were looked at.
    let mut trimmed = store.state(vault, None).await.unwrap();
    trimmed.next(Instant::now()).await.unwrap();
    for _ in 0..5 {
        plain
            .write(vault, &random_write(&mut dice, 20_000))
            .await
            .unwrap();
    }
    plain.trim_changes(vault, kept(1)).await.unwrap();
    assert_eq!(read_all(trimmed).await, Err(StoreError::HistoryGone));
    // The vault was replaced.
    let mut replaced = store.state(vault, None).await.unwrap();
    replaced.next(Instant::now()).await.unwrap();
    stage(&plain, vault, &filled)
        .await
        .replace(&switch())
        .await
        .unwrap();
    assert_eq!(read_all(replaced).await, Err(StoreError::HistoryGone));
    // More was written than can be undone.
    let mut behind = store.state(vault, None).await.unwrap();
    let since = behind.revision();
    behind.next(Instant::now()).await.unwrap();
    for round in 0..72 {
        let id = "x".repeat(900);
        let touch: Vec<_> = (0..500)
            .map(|at| relationship(&format!("zoo:{id}{round}-{at}#r0@user:u")))
            .collect();
        plain.write(vault, &write_of(touch, vec![])).await.unwrap();
    }
    assert_eq!(read_all(behind).await, Err(StoreError::TooManyChanges));
    let past = plain.state(vault, Some(since)).await;
    assert_eq!(past.err(), Some(StoreError::TooManyChanges));
}

#[tokio::test]
async fn every_kept_state_can_be_read_again() {
    for reads in [usize::MAX, 5] {
        let inner = Arc::new(MemoryEngine::new().unwrap());
        let plain = Store::with_engine(inner.clone()).await.unwrap();
        let store = Store::with_engine(Arc::new(ShortLived::new(inner, reads)))
            .await
            .unwrap();
        let (_, vault) = vault_of(&plain).await;
        let mut dice = Dice(6);
        let mut model = Model::new();
        let mut schema: Option<String> = None;
        let mut past = Vec::new();
        for at in 0..150 {
            match dice.below(12) {
                0 => {
                    let text = format!("definition user {{}} // {}", dice.below(3));
                    put_schema(&plain, vault, &text).await;
                    schema = Some(text);
                }
                1 => {
                    let name = Some(format!("vault {at}"));
                    let patch = VaultPatch {
                        name,
                        ..VaultPatch::default()
                    };
                    plain.update_vault(vault, &patch, Timestamp(at)).await.unwrap();
                }
                _ => {
                    let mut write = random_write(&mut dice, 60);
                    let held = plain.snapshot(vault).await.unwrap().schema().await.unwrap();
                    write.schema_revision = held.map(|held| held.revision);
                    plain.write(vault, &write).await.unwrap();
                    apply(&mut model, &write);
                }
            }
            past.push((revision(&plain, vault).await, model.clone(), schema.clone()));
        }
        plain.trim_changes(vault, kept(60)).await.unwrap();
        let mut gone = 0;
        for (at, model, schema) in past.iter().rev() {
            match store.state(vault, Some(*at)).await {
                Ok(state) => {
                    assert_eq!(state.revision(), *at);
                    assert_eq!(state.schema().map(|held| &held.text), schema.as_ref());
                    assert_eq!(state.relationships(), model.len() as u64);
                    assert_eq!(read_all(state).await.unwrap(), *model);
                    assert_eq!(gone, 0, "what is kept has no holes");
                }
                Err(StoreError::HistoryGone) => gone += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(gone > 0 && gone < past.len());
    }
}

#[tokio::test]
async fn a_new_vault_is_there_whole() {
    let (engine, store) = over_memory().await;
    let (account, vault) = vault_of(&store).await;
    put_schema(&store, vault, "definition user {}").await;
    let mut dice = Dice(8);
    let pages = pages(&mut dice, 20, 700);
    let source = store.state(vault, None).await.unwrap();
    let mut staging = store.stage_new().await.unwrap();
    for page in &pages {
        staging.add(page).await.unwrap();
    }
    let id = staging.vault();
    assert_eq!(store.vault(id).await.unwrap(), None);
    let limits = Some([("max_depth".to_owned(), 7.into())].into_iter().collect());
    let made = staging
        .create(account.id, "copy", source.schema(), limits.clone(), at(9))
        .await
        .unwrap();
    assert_eq!(store.vault(id).await.unwrap(), Some(made.clone()));
    assert_eq!((made.id, made.limits), (id, limits));
    assert_eq!(now_stored(&store, id).await, model_of(&pages));
    check_counters(&store, id).await;
    let schema = store.snapshot(id).await.unwrap().schema().await.unwrap().unwrap();
    assert_eq!(schema.text, "definition user {}");
    swept(&*engine, id).await;
    // It is a vault like any other.
    let write = Write {
        schema_revision: Some(schema.revision),
        ..touch(&["doc:new#r0@user:u"])
    };
    store.write(id, &write).await.unwrap();
    let replacement = vec![vec![relationship("doc:other#r0@user:u")]];
    let next = Switch {
        validated_against: Some(schema.revision),
        ..switch()
    };
    stage(&store, id, &replacement)
        .await
        .replace(&next)
        .await
        .unwrap();
    assert_eq!(now_stored(&store, id).await, model_of(&replacement));
    swept(&*engine, id).await;
}

/// Takes no relationship of the relation `r1`, and finds that out by the shapes or by each.
struct NoSuchRelation {
    by_shape: bool,
}

impl SchemaFit for NoSuchRelation {
    fn shapes(&self, stored: &[Shape]) -> Result<(), Vec<Shape>> {
        let misfits: Vec<Shape> = stored
            .iter()
            .filter(|shape| shape.relation.as_str() == "r1")
            .cloned()
            .collect();
        if misfits.is_empty() || !self.by_shape {
            Ok(())
        } else {
            Err(misfits)
        }
    }

    fn relationship(&self, stored: &Relationship) -> bool {
        stored.relation.as_str() != "r1"
    }
}

#[tokio::test]
async fn schemas_come_with_the_switch_and_are_judged_before_it() {
    let (engine, store) = over_memory().await;
    let (_, vault) = vault_of(&store).await;
    put_schema(&store, vault, "one").await;
    let held = |text: &'static str| {
        let store = store.clone();
        async move {
            let schema = store
                .snapshot(vault)
                .await
                .unwrap()
                .schema()
                .await
                .unwrap()
                .unwrap();
            assert_eq!(schema.text, text);
            schema.revision
        }
    };
    let first = held("one").await;
    let writing = |texts: &[&str], schema| Write {
        schema_revision: Some(schema),
        ..touch(texts)
    };
    store
        .write(vault, &writing(&["doc:1#r1@user:u", "doc:1#r0@user:u"], first))
        .await
        .unwrap();
    let with = |text: &str| Switch {
        schema: Some((text.into(), 1)),
        ..switch()
    };
    let page = vec![relationship("doc:2#r0@user:u")];
    for by_shape in [true, false] {
        let mut staging = store.stage(vault).await.unwrap();
        staging.hand_in(&page).await.unwrap();
        let fit: &FitCheck<'_> = &NoSuchRelation { by_shape };
        match staging.merge(&with("two"), Some(fit)).await {
            Err(StoreError::Misfits { shapes, examples }) => {
                assert_eq!(shapes.len(), 1);
                assert_eq!(examples, [key("doc:1#r1@user:u")]);
            }
            other => panic!("{other:?}"),
        }
        held("one").await;
    }
    // What was validated against a schema is not stored under another.
    let mut staging = store.stage(vault).await.unwrap();
    staging.hand_in(&page).await.unwrap();
    let replacing = stage(&store, vault, std::slice::from_ref(&page)).await;
    put_schema(&store, vault, "two").await;
    let old = Switch {
        validated_against: Some(first),
        ..switch()
    };
    assert_eq!(
        staging.merge(&old, None).await.err(),
        Some(StoreError::SchemaMoved)
    );
    assert_eq!(replacing.replace(&old).await.err(), Some(StoreError::SchemaMoved));
    let second = held("two").await;
    // A write that was validated against the old schema finds out.
    let limits: Option<serde_json::Map<_, _>> =
        Some([("max_depth".to_owned(), 7.into())].into_iter().collect());
    let three = Switch {
        limits: Some(limits.clone()),
        ..with("three")
    };
    let switched = stage(&store, vault, std::slice::from_ref(&page))
        .await
        .replace(&three)
        .await
        .unwrap();
    assert!(switched.schema_changed);
    assert_eq!(held("three").await, switched.revision);
    assert_eq!(store.vault(vault).await.unwrap().unwrap().limits, limits);
    let late = store.write(vault, &writing(&["doc:3#r1@user:u"], second)).await;
    assert_eq!(late, Err(StoreError::SchemaMoved));
    // The same text again is the same schema.
    let again = stage(&store, vault, &[page])
        .await
        .replace(&with("three"))
        .await
        .unwrap();
    assert!(!again.schema_changed);
    assert_eq!(held("three").await, switched.revision);
    let fits = |_: &[Shape]| Ok(());
    let four = PutSchema {
        text: "four",
        format: 1,
        force: false,
        now: at(9),
    };
    store.put_schema(vault, &four, &fits).await.unwrap();
    held("four").await;
    swept(&*engine, vault).await;
}
