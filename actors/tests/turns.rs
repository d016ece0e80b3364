//! Fairness: vaults take turns on a thread however many requests each has, a noisy one is held first when the server is
//! overloaded, and its large writes do not fill the way to storage.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use inferadb_actors::{
    CheckRequest, Consistency, LagMeter, ListRequest, Paging, Pass, ResourcesRequest, SchemaWrite, Settings,
    Vault, VaultError, VaultId, WriteRequest, now,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef};
use inferadb_engine::schema::Format;
use tokio::sync::watch;
use tokio::task::yield_now;

use support::{Fault, Stage, relationship};

const SCHEMA: &str = "
definition user {}
definition group {
    relation member: user | group#member
}
definition document {
    relation reader: user | group#member
    relation banned: user
    permission read = reader
    permission safe = reader - banned
}
";

/// So many that a check which looks at all of them takes a dozen turns at least.
const GROUPS: usize = 1_000;

/// Turns as short as they can be, and no decision that was made before.
fn settings() -> Settings {
    let mut settings = Settings {
        turn: Duration::ZERO,
        ..Settings::default()
    };
    settings.cache.enabled = false;
    settings
}

async fn crowded(stage: &Stage) -> (VaultId, Arc<Vault>, Pass) {
    let id = stage.vault().await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let schema = SchemaWrite {
        text: SCHEMA.into(),
        format: Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap();
    let crowd = (0..GROUPS).flat_map(|group| {
        [
            format!("document:crowded#reader@group:g{group}#member"),
            format!("group:g{group}#member@group:h{group}#member"),
            format!("group:h{group}#member@user:member"),
        ]
    });
    let plain = (0..GROUPS).map(|at| format!("document:d{at:06}#reader@user:ann"));
    let all: Vec<_> = crowd.chain(plain).collect();
    for texts in all.chunks(1_000) {
        vault.write(touch(texts)).await.unwrap();
    }
    (id, vault, pass)
}

fn touch(texts: &[String]) -> WriteRequest {
    WriteRequest {
        touch: texts.iter().map(|text| relationship(text)).collect(),
        ..WriteRequest::default()
    }
}

fn question(document: &str) -> CheckRequest {
    CheckRequest {
        subject: SubjectRef::parse("user:stranger").unwrap(),
        resource: ObjectRef::parse(document).unwrap(),
        permission: Name::parse("read").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    }
}

/// Kinds of work that take many turns.
#[derive(Debug, Clone, Copy)]
enum Work {
    Check,
    Batch,
    List,
}

async fn do_work(vault: &Vault, work: Work) {
    match work {
        Work::Check => {
            let question = question("document:crowded");
            let answer = vault.check(&question, Consistency::default(), now());
            assert_eq!(answer.await.unwrap().decision, Decision::Deny);
        }
        Work::Batch => {
            let checks = vec![question("document:d000001"); 400];
            let batch = vault.check_batch(&checks, Consistency::default(), now());
            assert_eq!(batch.await.unwrap().results.len(), 400);
        }
        Work::List => {
            let list = ListRequest::Resources(ResourcesRequest {
                subject: SubjectRef::parse("user:ann").unwrap(),
                permission: Name::parse("safe").unwrap(),
                resource_type: Name::parse("document").unwrap(),
                context: Arc::default(),
                contextual: Arc::default(),
            });
            let paging = Paging {
                limit: GROUPS,
                cursor: None,
                consistency: Consistency::default(),
                now: now(),
            };
            assert_eq!(vault.list(&list, &paging).await.unwrap().items.len(), GROUPS);
        }
    }
}

#[actix::test]
async fn between_two_turns_the_thread_looks_for_what_has_arrived() {
    let stage = Stage::new(settings()).await;
    let (_, vault, _pass) = crowded(&stage).await;
    for work in [Work::Check, Work::Batch, Work::List] {
        let before = stage.metric("inferadb_turns_total");
        let left = Rc::new(Cell::new(12));
        for _ in 0..left.get() {
            let (vault, left) = (Arc::clone(&vault), Rc::clone(&left));
            actix::spawn(async move {
                do_work(&vault, work).await;
                left.set(left.get() - 1);
            });
        }
        // This task comes once each time the thread has looked for what has arrived.
        let (mut turns, mut looks) = (before, 0);
        while left.get() > 0 {
            yield_now().await;
            let now = stage.metric("inferadb_turns_total");
            assert!(now - turns <= 1.0, "{} turns of {work:?} in one go", now - turns);
            (turns, looks) = (now, looks + 1);
        }
        assert!(
            turns - before >= 12.0 && looks >= 12,
            "{} turns of {work:?} in {looks}",
            turns - before
        );
    }
}

#[actix::test]
async fn one_request_of_a_vault_is_not_behind_all_those_of_another() {
    let stage = Stage::new(settings()).await;
    let (_, noisy, _noisy) = crowded(&stage).await;
    let (_, quiet, _quiet) = crowded(&stage).await;
    for work in [Work::Check, Work::Batch, Work::List] {
        let ended = Rc::new(RefCell::new(Vec::new()));
        let start = |vault: &Arc<Vault>, name: &'static str| {
            let (vault, ended) = (Arc::clone(vault), Rc::clone(&ended));
            actix::spawn(async move {
                do_work(&vault, work).await;
                ended.borrow_mut().push(name);
            })
        };
        let mut tasks: Vec<_> = (0..8).map(|_| start(&noisy, "noisy")).collect();
        for _ in 0..3 {
            yield_now().await;
        }
        tasks.push(start(&quiet, "quiet"));
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(
            ended.borrow().first(),
            Some(&"quiet"),
            "the last to come has a vault to itself: {work:?} {ended:?}"
        );
    }
}

#[actix::test]
async fn a_request_that_is_given_up_gives_up_its_turn() {
    let stage = Stage::new(settings()).await;
    let (_, vault, _pass) = crowded(&stage).await;
    for polls in 0..8 {
        // Polled a few times, then neither polled nor dropped for a while, then dropped: others go on after that.
        let mut abandoned = Box::pin(do_work(&vault, Work::Check));
        for _ in 0..polls {
            assert!(futures_util::poll!(abandoned.as_mut()).is_pending());
            yield_now().await;
        }
        let other = actix::spawn({
            let vault = Arc::clone(&vault);
            async move { do_work(&vault, Work::Check).await }
        });
        yield_now().await;
        drop(abandoned);
        other.await.unwrap();
    }
}

/// Ends a window in which the thread was as late as that.
fn end_window(stage: &Stage, thread: &LagMeter, late: Duration) {
    for _ in 0..5 {
        thread.observe(late);
    }
    stage.platform.balance();
}

#[actix::test]
async fn an_overloaded_server_holds_the_busiest_vault_and_no_other() {
    // The timer ends windows as well: one between two of the test, in which the thread tells nothing, is a late one more.
    let stage = Stage::new(Settings {
        overload_lag: Some(Duration::from_millis(25)),
        // So that requests which are only let in are more than a share of their time.
        request_threads: 0,
        ..settings()
    })
    .await;
    let (noisy, ..) = crowded(&stage).await;
    let mut quiet = Vec::new();
    for _ in 0..4 {
        quiet.push(crowded(&stage).await.0);
    }
    let enter = |id: VaultId| stage.platform.enter(id, stage.account);
    let (late, in_time) = (Duration::from_millis(80), Duration::ZERO);
    let thread = stage.platform.lag_meter();
    let mut refused = 0;
    for _ in 0..40 {
        for _ in 0..100 {
            match enter(noisy).await {
                Ok(_) => {}
                Err(VaultError::RateLimited {
                    limit: "fair_share",
                    retry_after,
                }) => {
                    assert!(retry_after >= Duration::from_millis(250));
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        for id in &quiet {
            enter(*id).await.unwrap();
        }
        end_window(&stage, &thread, late);
    }
    assert!(refused > 100, "{refused}");
    let counted = stage.metric("inferadb_requests_refused_total");
    assert_eq!(counted, f64::from(refused));
    assert_eq!(stage.metric("inferadb_overloaded"), 1.0);
    // In time again, everybody is let in again.
    for _ in 0..80 {
        end_window(&stage, &thread, in_time);
    }
    assert_eq!(stage.metric("inferadb_overloaded"), 0.0);
    // A thread that tells nothing at all any more would be late.
    drop(thread);
    for _ in 0..1_000 {
        enter(noisy).await.unwrap();
    }
}

#[actix::test]
async fn large_writes_of_one_vault_go_to_storage_one_after_the_other() {
    let stage = Stage::new(settings()).await;
    let (noisy, vault, _pass) = crowded(&stage).await;
    let (_, other, _other) = crowded(&stage).await;
    let texts: Vec<String> = (0..600)
        .map(|at| format!("document:w{at}#reader@user:ben"))
        .collect();
    let mut met = Vec::new();
    for count in [1, 4] {
        let (release, held) = watch::channel(true);
        let before = stage.switch.met();
        stage.switch.arm(Some(noisy), Fault::Hold(held), usize::MAX);
        let writes: Vec<_> = (0..count)
            .map(|_| {
                let (vault, request) = (Arc::clone(&vault), touch(&texts));
                actix::spawn(async move { vault.write(request).await })
            })
            .collect();
        while stage.switch.met() == before {
            yield_now().await;
        }
        for at in 0..20 {
            let one = [format!("document:x{at}#reader@user:ben")];
            other.write(touch(&one)).await.unwrap();
        }
        met.push(stage.switch.met() - before);
        release.send(false).unwrap();
        for write in writes {
            write.await.unwrap().unwrap();
        }
        stage.switch.disarm();
    }
    assert_eq!(met[0], met[1], "four are as far as one would be: {met:?}");
}

#[actix::test]
async fn a_write_that_is_given_up_keeps_its_share_of_the_way_to_storage() {
    let stage = Stage::new(settings()).await;
    let (noisy, vault, _pass) = crowded(&stage).await;
    let (_, other, _other) = crowded(&stage).await;
    let texts: Vec<String> = (0..600)
        .map(|at| format!("document:w{at}#reader@user:ben"))
        .collect();
    let mut met = Vec::new();
    for further in [0, 4] {
        let (release, held) = watch::channel(true);
        let before = stage.switch.met();
        stage.switch.arm(Some(noisy), Fault::Hold(held), usize::MAX);
        let write = || {
            let (vault, request) = (Arc::clone(&vault), touch(&texts));
            actix::spawn(async move { vault.write(request).await })
        };
        let first = write();
        while stage.switch.met() == before {
            yield_now().await;
        }
        first.abort();
        let _ = first.await;
        let further: Vec<_> = (0..further).map(|_| write()).collect();
        for at in 0..20 {
            let one = [format!("document:x{at}#reader@user:ben")];
            other.write(touch(&one)).await.unwrap();
        }
        met.push(stage.switch.met() - before);
        release.send(false).unwrap();
        for write in further {
            write.await.unwrap().unwrap();
        }
        // The one that was given up is done as well: the next one gets its share.
        write().await.unwrap().unwrap();
        stage.switch.disarm();
    }
    assert_eq!(met[0], met[1], "what was given up is still at storage: {met:?}");
}
