//! How much is done in one go, and held at a time, by what moves whole vaults: counted, not timed.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "test code: a failure is to panic")]

#[path = "support/short_lived.rs"]
mod short_lived;
mod support;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use inferadb_engine::noun::Relationship;
use inferadb_storage::engine::MemoryEngine;
use inferadb_storage::{
    MAX_SHAPES, PastState, RelationshipFilter, Revision, Store, StoreError, Switch, VaultId, Write,
};
use short_lived::ShortLived;
use support::*;

/// The most relationships that are worked on between two looks at what else there is to do.
const PIECE: usize = 50;

/// Does `work`; answers how often it let others have their turn.
async fn pauses<T>(work: impl Future<Output = T>) -> (usize, T) {
    let (mut work, mut polls) = (pin!(work), 0);
    let outcome = poll_fn(|context| {
        polls += 1;
        work.as_mut().poll(context)
    });
    let outcome = outcome.await;
    (polls - 1, outcome)
}

fn rows(name: &str, count: usize) -> Vec<Relationship> {
    (0..count)
        .map(|at| relationship(&format!("doc:{name}{at:05}#r0@user:u")))
        .collect()
}

fn switch() -> Switch {
    Switch {
        schema: None,
        validated_against: None,
        limits: None,
        now: at(7),
    }
}

async fn write(store: &Store, vault: VaultId, touch: &[Relationship]) -> Revision {
    let write = Write {
        touch: touch.to_vec(),
        ..empty_write(1)
    };
    store.write(vault, &write).await.unwrap().revision
}

async fn untouch(store: &Store, vault: VaultId, delete: &[Relationship]) {
    let write = Write {
        delete: delete.iter().map(Relationship::key).collect(),
        ..empty_write(1)
    };
    store.write(vault, &write).await.unwrap();
}

async fn read_all(mut state: PastState) -> usize {
    let mut count = 0;
    while let Some(page) = state.next(Instant::now()).await.unwrap() {
        assert!(page.len() <= 1_000);
        count += page.len();
    }
    count
}

#[tokio::test]
async fn whole_states_are_read_and_built_in_small_pieces() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let (a, b) = (rows("a", 1_000), rows("b", 1_000));
    let (count, first) = pauses(write(&store, vault, &a)).await;
    assert!(count >= 1_000 / PIECE, "{count} of a write");
    write(&store, vault, &b).await;
    untouch(&store, vault, &a).await;
    for some in rows("c", 3_000).chunks(1_000) {
        write(&store, vault, some).await;
    }

    // The newest state, and one with 5,000 changes since: of one of them nothing is left, of the others what was there before.
    let state = store.state(vault, None).await.unwrap();
    let (count, read) = pauses(read_all(state)).await;
    assert_eq!(read, 4_000);
    assert!(count >= 4_000 / PIECE, "{count} of a state");
    let (count, state) = pauses(store.state(vault, Some(first))).await;
    // Each is read, and then kept.
    assert!(count >= 2 * 5_000 / PIECE, "{count} of the way back");
    let (count, read) = pauses(read_all(state.unwrap())).await;
    assert_eq!(read, 1_000);
    assert!(count >= 5_000 / PIECE, "{count} of a state that has passed");

    // What comes twice is looked up.
    let mut staging = store.stage(vault).await.unwrap();
    staging.add(&a).await.unwrap();
    let (count, added) = pauses(staging.add(&a)).await;
    added.unwrap();
    assert_eq!(staging.relationships(), 1_000);
    // Taken in, looked up, put together and stored, the last piece of it perhaps at once.
    assert!(
        count + 1 >= 4 * 1_000 / PIECE,
        "{count} of a page that came twice"
    );
    drop(staging);

    let mut staging = store.stage(vault).await.unwrap();
    staging.hand_in(&a).await.unwrap();
    staging.hand_in(&b).await.unwrap();
    let (count, merged) = pauses(staging.merge(&switch(), None)).await;
    let merged = merged.unwrap();
    assert_eq!((merged.created, merged.unchanged), (1_000, 1_000));
    // 5,000 keys are there on either side; as many are stored.
    assert!(count >= 2 * 5_000 / PIECE, "{count} of a merge");
}

#[tokio::test]
async fn a_search_that_finds_little_lets_others_have_their_turn() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    for some in rows("a", 3_000).chunks(1_000) {
        write(&store, vault, some).await;
    }
    let snapshot = store.snapshot(vault).await.unwrap();
    let filter = RelationshipFilter {
        relation: Some(name("r1")),
        ..RelationshipFilter::default()
    };
    let (count, page) = pauses(snapshot.relationships(&filter, None, 100, at(7))).await;
    assert!(page.unwrap().items.is_empty());
    assert!(count >= 3_000 / PIECE, "{count} of a search");
}

#[tokio::test]
async fn large_relationships_count_as_several() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let mut large = rows("large", 100);
    for one in &mut large {
        *one = relationship(&format!("{} c", one.key()));
        let text = inferadb_engine::context::Value::String("x".repeat(12_800));
        let context = &mut one.caveat.as_mut().unwrap().context;
        context.insert("text".into(), text);
    }
    let mut staging = store.stage(vault).await.unwrap();
    let (count, added) = pauses(staging.add(&large)).await;
    added.unwrap();
    assert!(count >= 100, "{count} of a page");
    staging.replace(&switch()).await.unwrap();
    let state = store.state(vault, None).await.unwrap();
    let (count, read) = pauses(read_all(state)).await;
    assert_eq!(read, 100);
    assert!(count >= 100, "{count} of a state");
}

#[tokio::test]
async fn stored_relationships_are_looked_up_few_at_a_time() {
    let inner = Arc::new(MemoryEngine::new().unwrap());
    let engine = Arc::new(ShortLived::new(inner, usize::MAX));
    let store = Store::with_engine(engine.clone()).await.unwrap();
    let (_, vault) = vault_of(&store).await;
    let all = rows("a", 1_000);
    write(&store, vault, &all).await;
    untouch(&store, vault, &all[..500]).await;
    let mut staging = store.stage(vault).await.unwrap();
    staging.add(&all).await.unwrap();
    staging.add(&all).await.unwrap();
    drop(staging);
    let everything = filter("doc - - - - -");
    let deleted = store.delete_matching(vault, &everything, None, &[], at(1)).await;
    assert_eq!(deleted.unwrap().deleted, 500);
    let most = engine.most_looked_up();
    assert!((PIECE..=64).contains(&most), "{most} at a time");
}

#[tokio::test]
async fn there_are_only_so_many_kinds_of_relationships() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let kinds: Vec<Relationship> = (0..=MAX_SHAPES)
        .map(|kind| relationship(&format!("doc:d#r{kind}@user:u")))
        .collect();
    let is_too_large = |outcome: &Result<(), StoreError>| matches!(outcome, Err(StoreError::TooLarge(_)));
    let add = async |kinds: &[Relationship]| {
        let mut staging = store.stage(vault).await.unwrap();
        for page in kinds.chunks(1_000) {
            staging.add(page).await?;
        }
        staging.replace(&switch()).await.map(drop)
    };
    assert!(is_too_large(&add(&kinds).await));
    add(&kinds[..MAX_SHAPES]).await.unwrap();
    let snapshot = store.snapshot(vault).await.unwrap();
    assert_eq!(snapshot.shapes().await.unwrap().len(), MAX_SHAPES);
    // A schema is judged by all of them at once.
    put_schema(&store, vault, "definition user {}").await;
    let schema = store.snapshot(vault).await.unwrap().schema().await.unwrap();
    let switch = Switch {
        validated_against: schema.map(|schema| schema.revision),
        ..switch()
    };
    let merge = async |page: &[Relationship]| {
        let mut staging = store.stage(vault).await.unwrap();
        staging.hand_in(page).await.unwrap();
        staging.merge(&switch, None).await.map(drop)
    };
    assert!(is_too_large(&merge(&kinds[MAX_SHAPES..]).await));
    merge(&kinds[..1]).await.unwrap();
}
