//! Watches and followers below the surface: over servers that share storage, over actors that die, and with states
//! that storage does not keep.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use inferadb_actors::{
    Change, ChangeKind, CheckRequest, Consistency, Limits, Platform, Reach, Revision, SchemaWrite, Settings,
    VaultError, VaultId, Watch, WriteRequest, now,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef};
use inferadb_engine::schema::Format;
use support::{Fault, Stage, kept, relationship};

const SCHEMA: &str = "
definition user {}

definition document {
    relation reader: user
    permission read = reader
}
";
/// Long enough for whatever should happen at all; nothing waits so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

async fn put(platform: &Platform, stage: &Stage, id: VaultId, text: &str) -> Result<Revision, VaultError> {
    let (vault, _pass) = platform.enter(id, stage.account).await?;
    let touch = vec![relationship(text)];
    vault
        .write(WriteRequest {
            touch,
            ..WriteRequest::default()
        })
        .await
}

async fn put_schema(platform: &Platform, stage: &Stage, id: VaultId) -> Revision {
    let (vault, _pass) = platform.enter(id, stage.account).await.unwrap();
    let text = SCHEMA.into();
    let schema = SchemaWrite {
        text,
        format: Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap().0
}

async fn next(watch: &mut Watch) -> Result<Vec<Arc<Change>>, VaultError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.unwrap()
}

/// The revisions of the next so many changes.
async fn revisions(watch: &mut Watch, count: usize) -> Vec<Revision> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let changes = next(watch).await.unwrap();
        assert!(!changes.is_empty());
        seen.extend(changes.iter().map(|change| change.revision));
        assert_eq!(seen.last(), Some(&watch.position()));
    }
    seen
}

/// Settings whose poll never comes: what moves a follower is the watch of the head.
fn without_poll() -> Settings {
    Settings {
        poll_interval: Duration::from_secs(3600),
        ..Settings::default()
    }
}

#[actix::test]
async fn a_follower_is_woken_by_what_another_server_commits() {
    let stage = Stage::over(without_poll(), true).await;
    let other = Platform::over(stage.store.clone(), without_poll(), &prometheus::Registry::new()).unwrap();
    let id = stage.vault().await;
    let mut watch = stage.watch(&other, id, None).await.unwrap();
    let mut expected = vec![put_schema(&stage.platform, &stage, id).await];
    for at in 0..200 {
        let text = format!("document:a#reader@user:u{at}");
        let writer = if at % 3 == 0 { &other } else { &stage.platform };
        expected.push(put(writer, &stage, id, &text).await.unwrap());
        // Sometimes the follower has nothing to do for a while, and sometimes more than one pass.
        if at % 50 == 0 {
            let seen = revisions(&mut watch, expected.len()).await;
            assert_eq!(seen, expected);
            expected.clear();
        }
    }
    assert_eq!(revisions(&mut watch, expected.len()).await, expected);
    // What a watch has shown, every read of its server shows.
    let (vault, pass) = other.enter(id, stage.account).await.unwrap();
    assert_eq!(vault.view_revision(), watch.position());
    drop((vault, pass));
    stage.platform.delete_vault(id, Reach::Everything).await.unwrap();
    let end = next(&mut watch).await;
    assert!(matches!(end, Err(VaultError::AccessDenied)), "{end:?}");
}

#[actix::test]
async fn a_watch_goes_on_with_the_next_actor() {
    let stage = Stage::new(Settings::default()).await;
    let id = stage.vault().await;
    put_schema(&stage.platform, &stage, id).await;
    let mut watch = stage.watch(&stage.platform, id, None).await.unwrap();
    for round in 0..6 {
        let text = format!("document:a#reader@user:u{round}");
        if round % 2 == 0 {
            stage.switch.arm(Some(id), Fault::Panic, 1);
            let lost = put(&stage.platform, &stage, id, "document:a#reader@user:lost").await;
            assert!(matches!(lost, Err(VaultError::ActorFailed)), "{lost:?}");
        } else {
            stage.platform.deactivate(id, Reach::Everything).await.unwrap();
        }
        let written = put(&stage.platform, &stage, id, &text).await.unwrap();
        assert_eq!(revisions(&mut watch, 1).await, [written]);
    }
    assert_eq!(stage.metric("inferadb_vault_watches"), 1.0);
    let vault = Arc::downgrade(watch.vault());
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    stage.platform.stop(PATIENCE).await;
    let end = next(&mut watch).await;
    assert!(matches!(end, Err(VaultError::Stopping)), "{end:?}");
    drop(watch);
    // The last actor lets go of it on a thread of its own.
    let gone = async {
        while vault.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("nobody holds the vault any more");
}

#[actix::test]
async fn a_watch_that_begins_in_the_past_catches_up_from_the_log() {
    let settings = Settings {
        log_kept: kept(1_000),
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let id = stage.vault().await;
    let start = put_schema(&stage.platform, &stage, id).await;
    let mut expected = Vec::new();
    for at in 0..300 {
        let text = format!("document:a#reader@user:u{at}");
        expected.push(put(&stage.platform, &stage, id, &text).await.unwrap());
    }
    let mut watch = stage.watch(&stage.platform, id, Some(start)).await.unwrap();
    assert_eq!(revisions(&mut watch, 300).await, expected);
    stage.store.trim_changes(id, kept(100)).await.unwrap();
    let gone = stage.watch(&stage.platform, id, Some(expected[0])).await;
    assert!(matches!(gone.err(), Some(VaultError::HistoryGone)));
    let mut watch = stage
        .watch(&stage.platform, id, Some(expected[199]))
        .await
        .unwrap();
    assert_eq!(revisions(&mut watch, 100).await, expected[200..]);
    // A watch that is overtaken by the trimming is told so, and not shown a history with a hole.
    let mut slow = stage
        .watch(&stage.platform, id, Some(expected[199]))
        .await
        .unwrap();
    stage.store.trim_changes(id, kept(10)).await.unwrap();
    let end = next(&mut slow).await;
    assert!(matches!(end, Err(VaultError::HistoryGone)), "{end:?}");
}

#[actix::test]
async fn a_watch_is_not_ahead_of_what_reads_show() {
    let stage = Stage::new(Settings::default()).await;
    let id = stage.vault().await;
    put_schema(&stage.platform, &stage, id).await;
    let mut watch = stage.watch(&stage.platform, id, None).await.unwrap();
    let writing = async {
        for at in 0..200 {
            let text = format!("document:a#reader@user:u{at}");
            put(&stage.platform, &stage, id, &text).await.unwrap();
        }
    };
    let watching = async {
        let mut seen = 0;
        while seen < 200 {
            for change in next(&mut watch).await.unwrap() {
                let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
                assert!(vault.view_revision() >= change.revision);
                assert!(matches!(&change.kind, ChangeKind::Relationships(_)));
                seen += 1;
            }
        }
    };
    tokio::join!(writing, watching);
}

#[actix::test]
async fn a_state_that_storage_keeps_no_longer_makes_an_evaluation_start_again() {
    let settings = Settings {
        memory_budget_bytes: 0,
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let id = stage.vault().await;
    put_schema(&stage.platform, &stage, id).await;
    put(&stage.platform, &stage, id, "document:a#reader@user:ann")
        .await
        .unwrap();
    let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let check = CheckRequest {
        subject: SubjectRef::parse("user:ann").unwrap(),
        resource: ObjectRef::parse("document:a").unwrap(),
        permission: Name::parse("read").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: true,
    };
    for times in 1..=4 {
        let met = stage.switch.met();
        stage.switch.arm(Some(id), Fault::RowsTooOld, times);
        let answer = vault.check(&check, Consistency::default(), now()).await.unwrap();
        assert_eq!(answer.decision, Decision::Allow);
        assert_eq!(stage.switch.met() - met, times as u64, "the fault was met");
        stage.switch.arm(Some(id), Fault::RowsTooOld, times);
        let batch = vault
            .check_batch(&[check.clone(), check.clone()], Consistency::default(), now())
            .await
            .unwrap();
        assert!(
            batch
                .results
                .iter()
                .all(|result| result.as_ref().unwrap().decision == Decision::Allow)
        );
    }
    // Where no state is kept for long enough there is an answer all the same, and it is no decision.
    stage.switch.arm(Some(id), Fault::RowsTooOld, usize::MAX);
    let answer = vault.check(&check, Consistency::default(), now()).await;
    assert!(matches!(answer, Err(VaultError::Overloaded(_))), "{answer:?}");
}

#[actix::test]
async fn who_is_inside_watches_though_the_vault_is_going() {
    let stage = Stage::new(Settings::default()).await;
    let id = stage.vault().await;
    put_schema(&stage.platform, &stage, id).await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let mut draining = Box::pin(stage.platform.deactivate(id, Reach::Everything));
    while vault.is_open() {
        assert!(futures_util::poll!(draining.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    // Waiting for the next actor would be waiting for oneself to leave.
    let watching = tokio::time::timeout(PATIENCE, stage.platform.watch(vault, None)).await;
    let mut watch = watching.unwrap().unwrap();
    drop(pass);
    draining.await.unwrap();
    let written = put(&stage.platform, &stage, id, "document:a#reader@user:ann")
        .await
        .unwrap();
    assert_eq!(revisions(&mut watch, 1).await, [written]);
}

#[actix::test]
async fn a_watch_waits_where_it_moves_to_a_vault_that_is_busy() {
    let settings = Settings {
        limits: Limits {
            max_concurrent_requests: 1,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let id = stage.vault().await;
    put_schema(&stage.platform, &stage, id).await;
    let mut watch = stage.watch(&stage.platform, id, None).await.unwrap();
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    let written = put(&stage.platform, &stage, id, "document:a#reader@user:ann")
        .await
        .unwrap();
    // Another one is there first.
    let other = stage.platform.enter(id, stage.account).await.unwrap();
    let mut moving = Box::pin(watch.next());
    let refused = || stage.metric("inferadb_requests_refused_total");
    while refused() < 1.0 {
        assert!(futures_util::poll!(moving.as_mut()).is_pending(), "it waits");
        tokio::task::yield_now().await;
    }
    // The clock stands still but for what is waited for.
    tokio::time::pause();
    drop(other);
    let changes = moving.await.unwrap();
    assert_eq!(changes.last().unwrap().revision, written);
}

#[actix::test]
async fn a_watch_ends_where_it_moves_to_a_vault_that_may_have_no_more() {
    let settings = Settings {
        limits: Limits {
            max_watches: 1,
            ..Limits::default()
        },
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let id = stage.vault().await;
    put_schema(&stage.platform, &stage, id).await;
    let mut watch = stage.watch(&stage.platform, id, None).await.unwrap();
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    // Another one is there first: this one would show nothing for who knows how long.
    let _other = stage.watch(&stage.platform, id, None).await.unwrap();
    let refused = watch.next().await.unwrap_err();
    assert!(
        matches!(
            refused,
            VaultError::RateLimited {
                limit: "max_watches",
                ..
            }
        ),
        "{refused}"
    );
}
