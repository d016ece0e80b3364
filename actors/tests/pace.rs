//! The pace of what is heavy beside checks: transfers go in turns, schemas are compiled apart, a delete by filter is charged as it
//! goes; and all of it is charged to its vault.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use inferadb_actors::{
    DeleteRequest, ImportMode, Pass, Reach, RelationshipFilter, SchemaWrite, Settings, Vault, VaultId,
    WriteRequest,
};
use inferadb_engine::noun::{Name, Relationship};
use inferadb_engine::schema::Format;
use tokio::task::yield_now;

use support::{Stage, relationship};

const SCHEMA: &str = "
definition user {}
definition document {
    relation viewer: user
}
";
/// What committing a changed relationship is taken to cost.
const NANOS_A_CHANGE: u64 = 10_000;

fn settings() -> Settings {
    Settings {
        turn: Duration::ZERO,
        // What the timer makes of a busy machine is none of these tests' business.
        overload_lag: None,
        ..Settings::default()
    }
}

async fn vault(stage: &Stage) -> (VaultId, Arc<Vault>, Pass) {
    let id = stage.vault().await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let schema = SchemaWrite {
        text: SCHEMA.into(),
        format: Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap();
    (id, vault, pass)
}

fn page(name: &str) -> Vec<Relationship> {
    let text = |at| format!("document:{name}-{at:04}#viewer@user:ann");
    (0..1_000).map(|at| relationship(&text(at))).collect()
}

/// Does `work` beside a task that comes once each time the thread has looked for what has arrived; answers how often it came, and that no two turns
/// went by between.
async fn looks_during<T>(stage: &Stage, work: impl Future<Output = T>) -> (usize, T) {
    let is_done = Rc::new(Cell::new(false));
    let looking = async {
        let (mut looks, mut turns) = (0, stage.metric("inferadb_turns_total"));
        while !is_done.get() {
            yield_now().await;
            let now = stage.metric("inferadb_turns_total");
            assert!(now - turns <= 1.0, "{} turns in one go", now - turns);
            (turns, looks) = (now, looks + 1);
        }
        looks
    };
    let working = async {
        let outcome = work.await;
        is_done.set(true);
        outcome
    };
    futures_util::future::join(looking, working).await
}

#[actix::test]
async fn a_transfer_goes_in_turns_and_is_charged_to_its_vault() {
    let stage = Stage::new(settings()).await;
    let (id, vault, _pass) = vault(&stage).await;
    for mode in [ImportMode::Merge, ImportMode::Replace] {
        vault.end_window();
        let before = stage.metric("inferadb_turns_total");
        let (looks, ()) = looks_during(&stage, async {
            let mut import = stage.platform.import(id, Reach::Everything, mode).await.unwrap();
            for name in ["a", "b", "c"] {
                import.add(page(name)).await.unwrap();
            }
            assert_eq!(import.finish().await.unwrap().relationships, 3_000);
        })
        .await;
        let turns = stage.metric("inferadb_turns_total") - before;
        // 3,000 relationships, at most 50 of them in a turn.
        assert!(
            turns >= 60.0 && looks >= 60,
            "{turns} turns of {mode:?}, {looks} looks"
        );
        assert!(vault.end_window() > 0, "nobody was charged for {mode:?}");
    }
    let before = stage.metric("inferadb_turns_total");
    let (_, ()) = looks_during(&stage, async {
        let mut export = stage.platform.export(id, Reach::Everything).await.unwrap();
        while export.next().await.unwrap().is_some() {}
    })
    .await;
    let turns = stage.metric("inferadb_turns_total") - before;
    assert!(turns >= 60.0, "{turns} turns of the export");
    assert!(vault.end_window() > 0, "nobody was charged for the export");
    let (looks, copy) = looks_during(
        &stage,
        stage
            .platform
            .clone_vault(id, Reach::Everything, "copy", None, None),
    )
    .await;
    assert!(copy.is_ok() && looks >= 60, "{looks} looks");
    assert!(vault.end_window() > 0, "nobody was charged for the clone");
}

#[actix::test]
async fn the_way_back_to_an_earlier_state_is_gone_in_turns_too() {
    let stage = Stage::new(settings()).await;
    let (id, vault, _pass) = vault(&stage).await;
    let mut revisions = Vec::new();
    for name in ["a", "b", "c"] {
        let request = WriteRequest {
            touch: page(name),
            ..WriteRequest::default()
        };
        revisions.push(vault.write(request).await.unwrap());
    }
    // All of it is there, or all but the first thousand is undone.
    let mut turns = Vec::new();
    for at in [revisions[2], revisions[0]] {
        let before = stage.metric("inferadb_turns_total");
        let clone = stage
            .platform
            .clone_vault(id, Reach::Everything, "copy", None, Some(at));
        let (_, copy) = looks_during(&stage, clone).await;
        copy.unwrap();
        turns.push(stage.metric("inferadb_turns_total") - before);
    }
    // Of 3,000 relationships each is read and written; of 1,000, with 2,000 changes that are read, kept, and undone.
    assert!(turns[0] >= 120.0 && turns[1] >= 40.0 + 120.0, "{turns:?}");
}

#[actix::test]
async fn an_import_into_a_vault_that_has_used_its_share_waits() {
    let stage = Stage::new(settings()).await;
    let (id, vault, _pass) = vault(&stage).await;
    let mut import = stage
        .platform
        .import(id, Reach::Everything, ImportMode::Replace)
        .await
        .unwrap();
    vault.hold_to(Some(0));
    let mut adding = Box::pin(import.add(page("a")));
    for _ in 0..500 {
        assert!(futures_util::poll!(adding.as_mut()).is_pending());
        yield_now().await;
    }
    assert_eq!(stage.metric("inferadb_turns_total"), 0.0);
    vault.hold_to(None);
    adding.await.unwrap();
    assert_eq!(import.finish().await.unwrap().relationships, 1_000);
}

#[actix::test]
async fn a_delete_by_filter_is_charged_as_it_goes() {
    let stage = Stage::new(settings()).await;
    let (id, vault, _pass) = vault(&stage).await;
    for name in ["a", "b", "c"] {
        let mut import = stage
            .platform
            .import(id, Reach::Everything, ImportMode::Merge)
            .await
            .unwrap();
        import.add(page(name)).await.unwrap();
        import.finish().await.unwrap();
    }
    vault.end_window();
    let request = |limit| DeleteRequest {
        filter: RelationshipFilter {
            resource_type: Some(Name::parse("document").unwrap()),
            ..RelationshipFilter::default()
        },
        limit,
        preconditions: Vec::new(),
    };
    let few = vault.delete(request(Some(10))).await.unwrap();
    assert_eq!(few.deleted, 10);
    assert_eq!(vault.end_window(), 10 * NANOS_A_CHANGE);
    let rest = vault.delete(request(None)).await.unwrap();
    assert_eq!(rest.deleted, 2_990);
    assert_eq!(vault.end_window(), 2_990 * NANOS_A_CHANGE);
}

#[actix::test]
async fn work_apart_is_done_on_another_thread_one_piece_at_a_time_and_charged() {
    let stage = Stage::new(settings()).await;
    let (_, vault, _pass) = vault(&stage).await;
    let (_, other, _other) = self::vault(&stage).await;
    vault.end_window();
    let (free, held) = mpsc::channel::<()>();
    let (begun, beginning) = tokio::sync::oneshot::channel();
    let first = {
        let vault = Arc::clone(&vault);
        actix::spawn(async move {
            let work = move || {
                begun.send(std::thread::current().id()).unwrap();
                held.recv().unwrap();
            };
            vault.apart(work).await
        })
    };
    let thread = beginning.await.unwrap();
    assert_ne!(thread, std::thread::current().id());
    // Whoever asked goes away: it is done to its end all the same, and the vault has no other until then.
    first.abort();
    assert!(first.await.is_err());
    let mut second = Box::pin(vault.compile(Format::Native, SCHEMA.into()));
    for _ in 0..100 {
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        yield_now().await;
    }
    free.send(()).unwrap();
    second.await.unwrap();
    assert!(vault.end_window() > 0, "nobody was charged");
    // What panics is that request's failure, and takes nobody's place.
    for _ in 0..8 {
        assert!(
            other
                .apart(|| panic!("a fault that the test asked for"))
                .await
                .is_err()
        );
    }
    other.compile(Format::Native, SCHEMA.into()).await.unwrap();
}
