//! The life of vault actors: started once, drained with nobody cut off, evicted without a trace, and started again
//! after they died, while their neighbours notice nothing.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use inferadb_actors::{
    CacheSettings, CheckRequest, Consistency, DeleteRequest, Limits, Reach, RelationshipFilter, SchemaWrite,
    Settings, StoreError, Vault, VaultChange, VaultError, VaultId, WriteRequest, now,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef};
use inferadb_engine::schema::Format;
use tokio::sync::watch;

use support::{Fault, Stage, relationship};

const SCHEMA: &str = "
definition user {}

definition document {
    relation reader: user
    permission read = reader
}
";

/// Long enough for whatever should happen at all on a busy machine; nothing waits so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

fn check_of(subject: &str, document: &str) -> CheckRequest {
    CheckRequest {
        subject: SubjectRef::parse(subject).unwrap(),
        resource: ObjectRef::parse(document).unwrap(),
        permission: Name::parse("read").unwrap(),
        context: Default::default(),
        contextual: Arc::default(),
        trace: false,
    }
}

fn touch(texts: &[String]) -> WriteRequest {
    WriteRequest {
        touch: texts.iter().map(|text| relationship(text)).collect(),
        ..WriteRequest::default()
    }
}

/// Asks one vault whether `ann` may read `document:a`.
async fn ask(stage: &Stage, id: VaultId, consistency: Consistency) -> Result<Decision, VaultError> {
    let (vault, _pass) = stage.platform.enter(id, stage.account).await?;
    let answer = vault
        .check(&check_of("user:ann", "document:a"), consistency, now())
        .await?;
    Ok(answer.decision)
}

async fn put(stage: &Stage, id: VaultId, text: &str) -> Result<(), VaultError> {
    let (vault, _pass) = stage.platform.enter(id, stage.account).await?;
    vault.write(touch(&[text.to_owned()])).await.map(drop)
}

/// A vault in which `ann` may read `document:a`.
async fn furnished(stage: &Stage) -> VaultId {
    let id = stage.vault().await;
    let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let schema = SchemaWrite {
        text: SCHEMA.into(),
        format: Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap();
    vault
        .write(touch(&["document:a#reader@user:ann".into()]))
        .await
        .unwrap();
    id
}

/// Waits for what comes to be by itself; the limit only ends a test that fails.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn stage() -> Stage {
    Stage::new(Settings::default()).await
}

#[actix::test]
async fn a_panic_in_one_actor_is_nobody_elses() {
    let stage = stage().await;
    let (broken, sound) = (furnished(&stage).await, furnished(&stage).await);
    for round in 0..4 {
        stage.switch.arm(Some(broken), Fault::Panic, 1);
        // Storage is read by the actor itself: in a commit, and to catch up.
        let lost = match round % 2 {
            0 => put(&stage, broken, "document:a#reader@user:ben").await,
            _ => ask(&stage, broken, Consistency::FullyConsistent).await.map(drop),
        };
        assert!(matches!(lost, Err(VaultError::ActorFailed)), "{lost:?}");
        assert_eq!(
            ask(&stage, sound, Consistency::FullyConsistent).await.unwrap(),
            Decision::Allow
        );
        put(&stage, sound, "document:b#reader@user:ben").await.unwrap();
        let begun = Instant::now();
        assert_eq!(
            ask(&stage, broken, Consistency::default()).await.unwrap(),
            Decision::Allow
        );
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "back after {:?}",
            begun.elapsed()
        );
        put(&stage, broken, &format!("document:c{round}#reader@user:ann"))
            .await
            .unwrap();
    }
    assert_eq!(stage.switch.met(), 4);
    assert_eq!(stage.metric("inferadb_vault_respawns_total"), 4.0);
    assert_eq!(stage.metric("inferadb_active_vaults"), 2.0);
    // Nothing that was acknowledged is gone.
    let (vault, _pass) = stage.platform.enter(broken, stage.account).await.unwrap();
    for round in 0..4 {
        let check = check_of("user:ann", &format!("document:c{round}"));
        let answer = vault.check(&check, Consistency::default(), now()).await.unwrap();
        assert_eq!(answer.decision, Decision::Allow);
    }
}

#[actix::test]
async fn requests_inside_when_the_actor_dies_end_in_errors_and_later_ones_do_not() {
    let stage = stage().await;
    let id = furnished(&stage).await;
    let (held, holding) = watch::channel(true);
    // One commit waits in storage; the next read, by somebody who catches up, panics.
    stage.switch.arm(Some(id), Fault::HoldActors(holding), 1);
    let mut waiting = Box::pin(put(&stage, id, "document:a#reader@user:ben"));
    while stage.switch.met() < 1 {
        assert!(futures_util::poll!(&mut waiting).is_pending());
        tokio::task::yield_now().await;
    }
    stage.switch.arm(Some(id), Fault::Panic, 1);
    let (panicked, waited) = tokio::join!(ask(&stage, id, Consistency::FullyConsistent), waiting);
    assert!(matches!(panicked, Err(VaultError::ActorFailed)), "{panicked:?}");
    assert!(matches!(waited, Err(VaultError::ActorFailed)), "{waited:?}");
    drop(held);
    assert_eq!(
        ask(&stage, id, Consistency::FullyConsistent).await.unwrap(),
        Decision::Allow
    );
    put(&stage, id, "document:a#reader@user:cem").await.unwrap();
}

#[actix::test]
async fn a_panic_while_a_vault_starts_is_an_error_and_the_next_request_starts_it() {
    let stage = stage().await;
    let (id, sound) = (furnished(&stage).await, furnished(&stage).await);
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    for _ in 0..3 {
        stage.switch.arm(Some(id), Fault::Panic, 1);
        let lost = ask(&stage, id, Consistency::default()).await;
        assert!(matches!(lost, Err(VaultError::ActorFailed)), "{lost:?}");
        assert_eq!(
            ask(&stage, sound, Consistency::default()).await.unwrap(),
            Decision::Allow
        );
    }
    let begun = Instant::now();
    assert_eq!(
        ask(&stage, id, Consistency::default()).await.unwrap(),
        Decision::Allow
    );
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(stage.platform.active_count(), 2);
}

#[actix::test]
async fn back_off_grows_and_is_bounded() {
    let stage = stage().await;
    let id = furnished(&stage).await;
    let mut waits = Vec::new();
    for _ in 0..9 {
        stage.switch.arm(Some(id), Fault::Panic, 1);
        let lost = ask(&stage, id, Consistency::FullyConsistent).await;
        assert!(matches!(lost, Err(VaultError::ActorFailed)), "{lost:?}");
        let begun = Instant::now();
        assert_eq!(
            ask(&stage, id, Consistency::default()).await.unwrap(),
            Decision::Allow
        );
        waits.push(begun.elapsed());
    }
    assert!(
        waits.iter().all(|wait| *wait < Duration::from_secs(1)),
        "{waits:?}"
    );
    assert!(waits.last().unwrap() >= &Duration::from_millis(320), "{waits:?}");
}

#[actix::test]
async fn a_vault_starts_once_for_a_hundred_first_requests() {
    let stage = stage().await;
    let id = furnished(&stage).await;
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    let before = stage.metric("inferadb_vault_activations_total");
    let (held, holding) = watch::channel(true);
    stage.switch.arm(Some(id), Fault::HoldActors(holding), 1);
    let requests = join_all((0..100).map(|_| ask(&stage, id, Consistency::default())));
    let release = async {
        eventually("the start reads storage", || stage.switch.met() == 1).await;
        held.send(false).unwrap();
    };
    let (answers, ()) = tokio::join!(requests, release);
    for answer in answers {
        assert_eq!(answer.unwrap(), Decision::Allow);
    }
    assert_eq!(stage.metric("inferadb_vault_activations_total") - before, 1.0);
}

#[actix::test]
async fn draining_waits_for_those_inside_and_newcomers_wait_for_it() {
    let stage = stage().await;
    let id = furnished(&stage).await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let mut evicting = Box::pin(stage.platform.deactivate(id, Reach::Everything));
    while vault.is_open() {
        assert!(futures_util::poll!(&mut evicting).is_pending());
        tokio::task::yield_now().await;
    }
    let mut newcomer = Box::pin(ask(&stage, id, Consistency::default()));
    for _ in 0..50 {
        assert!(futures_util::poll!(&mut evicting).is_pending());
        assert!(futures_util::poll!(&mut newcomer).is_pending());
        tokio::task::yield_now().await;
    }
    // Whoever is inside is served to the end.
    vault
        .write(touch(&["document:z#reader@user:zoe".into()]))
        .await
        .unwrap();
    let answer = vault
        .check(
            &check_of("user:zoe", "document:z"),
            Consistency::FullyConsistent,
            now(),
        )
        .await;
    assert_eq!(answer.unwrap().decision, Decision::Allow);
    drop((vault, pass));
    let (evicted, answered) = tokio::join!(evicting, newcomer);
    evicted.unwrap();
    assert_eq!(answered.unwrap(), Decision::Allow);
    assert_eq!(stage.platform.active_count(), 1);
}

#[actix::test]
async fn an_eviction_goes_on_though_whoever_asked_for_it_goes_away() {
    let stage = stage().await;
    let id = furnished(&stage).await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    {
        let mut evicting = Box::pin(stage.platform.deactivate(id, Reach::Everything));
        while vault.is_open() {
            assert!(futures_util::poll!(&mut evicting).is_pending());
            tokio::task::yield_now().await;
        }
    }
    drop((vault, pass));
    let answered = tokio::time::timeout(PATIENCE, ask(&stage, id, Consistency::default())).await;
    assert_eq!(
        answered.expect("the vault never came back").unwrap(),
        Decision::Allow
    );
}

#[actix::test]
async fn deleted_and_archived_vaults_end_with_the_requests_inside() {
    let stage = stage().await;
    let (deleted, archived) = (furnished(&stage).await, furnished(&stage).await);
    let archive = VaultChange {
        archived: Some(true),
        ..VaultChange::default()
    };
    for (id, is_deletion) in [(deleted, true), (archived, false)] {
        let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
        let change = archive.clone();
        let ending = async {
            match is_deletion {
                true => stage.platform.delete_vault(id, Reach::Everything).await.unwrap(),
                false => drop(
                    stage
                        .platform
                        .update_vault(id, Reach::Everything, change)
                        .await
                        .unwrap(),
                ),
            }
        };
        let inside = async {
            while vault.is_open() {
                tokio::task::yield_now().await;
            }
            // From memory an answer of the state before is right; what asks storage learns of the end.
            let fresh = vault
                .check(
                    &check_of("user:ann", "document:a"),
                    Consistency::FullyConsistent,
                    now(),
                )
                .await;
            assert!(matches!(fresh, Err(VaultError::AccessDenied)), "{fresh:?}");
            let written = vault.write(touch(&["document:b#reader@user:ann".into()])).await;
            assert!(written.is_err(), "{written:?}");
            drop(pass);
        };
        tokio::join!(ending, inside);
        let refused = ask(&stage, id, Consistency::default()).await;
        assert!(matches!(refused, Err(VaultError::AccessDenied)), "{refused:?}");
    }
    assert_eq!(stage.platform.active_count(), 0);
    let back = VaultChange {
        archived: Some(false),
        ..VaultChange::default()
    };
    stage
        .platform
        .update_vault(archived, Reach::Everything, back)
        .await
        .unwrap();
    assert_eq!(
        ask(&stage, archived, Consistency::default()).await.unwrap(),
        Decision::Allow
    );
}

#[actix::test]
async fn a_vault_deleted_while_it_starts_does_not_stay() {
    let stage = stage().await;
    let id = furnished(&stage).await;
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    let (held, holding) = watch::channel(true);
    // The start's snapshot is taken at once; its later reads wait, so that it sees the vault as it was.
    let begun = stage.switch.met();
    stage.switch.arm(Some(id), Fault::HoldActors(holding), 1);
    let starting = ask(&stage, id, Consistency::default());
    let deleting = async {
        eventually("the start reads storage", || stage.switch.met() > begun).await;
        let deletion = stage.platform.delete_vault(id, Reach::Everything);
        tokio::pin!(deletion);
        while stage.store.vault(id).await.unwrap().is_some() {
            let _ = futures_util::poll!(deletion.as_mut());
            tokio::task::yield_now().await;
        }
        held.send(false).unwrap();
        deletion.await.unwrap();
    };
    let (_, ()) = tokio::join!(starting, deleting);
    let refused = ask(&stage, id, Consistency::default()).await;
    assert!(matches!(refused, Err(VaultError::AccessDenied)), "{refused:?}");
    assert_eq!(stage.platform.active_count(), 0);
}

#[actix::test]
async fn too_many_active_vaults_push_out_the_coldest_but_nobody_inside() {
    let settings = Settings {
        max_active: 3,
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let pinned = furnished(&stage).await;
    let (vault, pass) = stage.platform.enter(pinned, stage.account).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..8 {
        others.push(furnished(&stage).await);
    }
    eventually("three are left", || stage.platform.active_count() <= 3).await;
    assert!(vault.is_open(), "somebody is inside");
    assert_eq!(
        vault
            .check(&check_of("user:ann", "document:a"), Consistency::default(), now())
            .await
            .unwrap()
            .decision,
        Decision::Allow
    );
    assert!(stage.metric("inferadb_vault_evictions_total") >= 6.0);
    drop((vault, pass));
    for id in others {
        assert_eq!(
            ask(&stage, id, Consistency::default()).await.unwrap(),
            Decision::Allow
        );
    }
}

#[actix::test]
async fn where_many_are_active_the_coldest_go_a_few_at_a_time() {
    let settings = Settings {
        max_active: 128,
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    for _ in 0..129 {
        let id = stage.vault().await;
        drop(stage.platform.enter(id, stage.account).await.unwrap());
    }
    // The next two activations need no sweep.
    eventually("a sixty-fourth less", || stage.platform.active_count() == 126).await;
    eventually("counted", || stage.platform.evictions() == 3).await;
}

#[actix::test]
async fn a_newcomer_gets_in_though_every_other_vault_is_in_use() {
    let settings = Settings {
        max_active: 1,
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let (first, second) = (furnished(&stage).await, furnished(&stage).await);
    let inside = stage.platform.enter(first, stage.account).await.unwrap();
    for _ in 0..20 {
        stage
            .platform
            .deactivate(second, Reach::Everything)
            .await
            .unwrap();
        let before = stage.metric("inferadb_vault_activations_total");
        assert_eq!(
            ask(&stage, second, Consistency::default()).await.unwrap(),
            Decision::Allow
        );
        assert_eq!(
            stage.metric("inferadb_vault_activations_total") - before,
            1.0,
            "started once"
        );
    }
    assert!(inside.0.is_open());
}

#[actix::test]
async fn idle_vaults_go_and_those_in_use_stay() {
    let settings = Settings {
        idle_timeout: Some(Duration::from_millis(40)),
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let (used, idle) = (furnished(&stage).await, furnished(&stage).await);
    let (vault, _pass) = stage.platform.enter(used, stage.account).await.unwrap();
    eventually("the idle one is gone", || stage.series_of(idle).is_empty()).await;
    assert_eq!(stage.platform.active_count(), 1);
    assert!(vault.is_open());
    assert_eq!(
        ask(&stage, idle, Consistency::default()).await.unwrap(),
        Decision::Allow
    );
}

#[actix::test]
async fn memory_is_shared_and_the_coldest_vaults_give_theirs_back() {
    let settings = Settings {
        total_memory_bytes: 120_000,
        idle_timeout: None,
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let mut ids = Vec::new();
    let mut pinned = None;
    for _ in 0..6 {
        let id = furnished(&stage).await;
        let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
        let rows: Vec<String> = (0..300)
            .map(|at| format!("document:d{at}#reader@user:ann"))
            .collect();
        vault.write(touch(&rows)).await.unwrap();
        ids.push(id);
        if pinned.is_none() {
            pinned = Some((vault, pass));
        }
    }
    let held = || stage.metric("inferadb_cache_memory_bytes");
    eventually("memory is within its bound", || {
        held() > 0.0 && held() <= 120_000.0
    })
    .await;
    assert!(pinned.as_ref().unwrap().0.is_open(), "somebody is inside");
    assert!(stage.platform.active_count() < ids.len());
    for id in &ids {
        let (vault, _pass) = stage.platform.enter(*id, stage.account).await.unwrap();
        let answer = vault
            .check(
                &check_of("user:ann", "document:d299"),
                Consistency::default(),
                now(),
            )
            .await;
        assert_eq!(answer.unwrap().decision, Decision::Allow);
    }
}

#[actix::test]
async fn an_evicted_vault_answers_as_before_and_leaves_nothing() {
    let stage = stage().await;
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        ids.insert(furnished(&stage).await);
    }
    for _ in 0..2 {
        for id in &ids {
            assert_eq!(
                ask(&stage, *id, Consistency::default()).await.unwrap(),
                Decision::Allow
            );
            assert!(stage.series_of(*id).len() >= 9, "{:?}", stage.series_of(*id));
        }
        assert_eq!(stage.platform.active_count(), ids.len());
        for id in &ids {
            stage.platform.deactivate(*id, Reach::Everything).await.unwrap();
        }
        assert_eq!(stage.platform.active_count(), 0);
        assert_eq!(stage.metric("inferadb_active_vaults"), 0.0);
        // The actors' memory goes with them, a moment after they were told to stop.
        for id in &ids {
            eventually("its series are gone", || stage.series_of(*id).is_empty()).await;
        }
        assert_eq!(stage.metric("inferadb_cache_memory_bytes"), 0.0);
    }
}

#[actix::test]
async fn the_handle_of_a_vault_is_freed_once_it_is_evicted_or_died() {
    let stage = stage().await;
    let (evicted, died) = (furnished(&stage).await, furnished(&stage).await);
    let mut handles: Vec<std::sync::Weak<Vault>> = Vec::new();
    for id in [evicted, died] {
        let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
        handles.push(Arc::downgrade(&vault));
    }
    stage
        .platform
        .deactivate(evicted, Reach::Everything)
        .await
        .unwrap();
    stage.switch.arm(Some(died), Fault::Panic, 1);
    assert!(ask(&stage, died, Consistency::FullyConsistent).await.is_err());
    assert_eq!(
        ask(&stage, died, Consistency::default()).await.unwrap(),
        Decision::Allow
    );
    eventually("both are freed", || {
        handles.iter().all(|handle| handle.strong_count() == 0)
    })
    .await;
}

#[actix::test]
async fn storage_that_is_away_makes_errors_and_never_decisions() {
    // Nothing stays in memory: every check has to ask.
    let settings = Settings {
        memory_budget_bytes: 0,
        cache: CacheSettings {
            enabled: false,
            max_entries: 0,
            ttl: Duration::from_secs(1),
        },
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let id = furnished(&stage).await;
    let cold = furnished(&stage).await;
    stage.platform.deactivate(cold, Reach::Everything).await.unwrap();
    for _ in 0..3 {
        stage.switch.arm(None, Fault::Away, usize::MAX);
        for consistency in [Consistency::default(), Consistency::FullyConsistent] {
            let failed = ask(&stage, id, consistency).await;
            assert!(
                matches!(failed, Err(VaultError::Storage(StoreError::Unavailable(_)))),
                "{failed:?}"
            );
            let failed = ask(&stage, cold, consistency).await;
            assert!(
                matches!(failed, Err(VaultError::Storage(StoreError::Unavailable(_)))),
                "{failed:?}"
            );
        }
        let failed = put(&stage, id, "document:a#reader@user:ben").await;
        assert!(
            matches!(failed, Err(VaultError::Storage(StoreError::Unavailable(_)))),
            "{failed:?}"
        );
        assert!(stage.platform.is_ready().await.is_err());
        stage.switch.disarm();
        assert!(stage.platform.is_ready().await.is_ok());
        assert_eq!(
            ask(&stage, id, Consistency::default()).await.unwrap(),
            Decision::Allow
        );
        assert_eq!(
            ask(&stage, cold, Consistency::default()).await.unwrap(),
            Decision::Allow
        );
        put(&stage, id, "document:a#reader@user:ben").await.unwrap();
        stage.platform.deactivate(cold, Reach::Everything).await.unwrap();
    }
}

#[actix::test]
async fn single_reads_that_fail_are_errors_wherever_they_fall() {
    let settings = Settings {
        memory_budget_bytes: 0,
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let id = furnished(&stage).await;
    let mut failed = 0;
    for after in 0..40 {
        stage.platform.deactivate(id, Reach::Everything).await.unwrap();
        // The reads before pass: armed to hold on nothing.
        let (_open, opened) = watch::channel(false);
        stage.switch.arm(Some(id), Fault::Hold(opened), after);
        let met = stage.switch.met();
        let asked = async {
            // As soon as those reads are done the next one fails.
            let (vault, _pass) = stage.platform.enter(id, stage.account).await?;
            if stage.switch.met() - met >= after as u64 {
                // The actor trims its log beside, and may meet one of them: it goes no further then.
                stage.switch.arm(Some(id), Fault::Away, 2);
            }
            vault
                .check(
                    &check_of("user:ann", "document:a"),
                    Consistency::FullyConsistent,
                    now(),
                )
                .await
        };
        match asked.await {
            Ok(answer) => assert_eq!(answer.decision, Decision::Allow),
            Err(VaultError::Storage(StoreError::Unavailable(_))) => failed += 1,
            Err(error) => panic!("{error:?}"),
        }
        stage.switch.disarm();
        assert_eq!(
            ask(&stage, id, Consistency::default()).await.unwrap(),
            Decision::Allow
        );
    }
    assert!(failed > 0);
}

#[actix::test]
async fn rates_are_the_vaults_own() {
    let stage = stage().await;
    let (hot, calm) = (furnished(&stage).await, furnished(&stage).await);
    let limits = |limits: serde_json::Value| VaultChange {
        limits: limits.as_object().cloned(),
        ..VaultChange::default()
    };
    let slow = limits(serde_json::json!({ "checks_per_second": 1, "writes_per_second": 1 }));
    for id in [hot, calm] {
        stage
            .platform
            .update_vault(id, Reach::Everything, slow.clone())
            .await
            .unwrap();
    }
    let (vault, _pass) = stage.platform.enter(hot, stage.account).await.unwrap();
    // A request larger than the rate is let in, and later ones wait for what it used up: minutes, here.
    let checks = vec![check_of("user:ann", "document:a"); 1_000];
    vault
        .check_batch(&checks, Consistency::default(), now())
        .await
        .unwrap();
    let limited = vault.check(&checks[0], Consistency::default(), now()).await;
    match limited {
        Err(VaultError::RateLimited { limit, retry_after }) => {
            assert_eq!(limit, "checks_per_second");
            assert!(retry_after > Duration::from_secs(60), "{retry_after:?}");
        }
        other => panic!("{other:?}"),
    }
    let rows: Vec<String> = (0..900)
        .map(|at| format!("document:d{at}#reader@user:ann"))
        .collect();
    vault.write(touch(&rows)).await.unwrap();
    let limited = vault.write(touch(&["document:e#reader@user:ann".into()])).await;
    assert!(
        matches!(
            limited,
            Err(VaultError::RateLimited {
                limit: "writes_per_second",
                ..
            })
        ),
        "{limited:?}"
    );
    // The neighbour is not held to what this one used up, and an override is in force at once.
    assert_eq!(
        ask(&stage, calm, Consistency::default()).await.unwrap(),
        Decision::Allow
    );
    put(&stage, calm, "document:b#reader@user:ann").await.unwrap();
    let free = limits(serde_json::json!({ "checks_per_second": 0, "writes_per_second": null }));
    stage
        .platform
        .update_vault(hot, Reach::Everything, free)
        .await
        .unwrap();
    for _ in 0..10 {
        vault
            .check_batch(&checks, Consistency::default(), now())
            .await
            .unwrap();
        put(&stage, hot, "document:e#reader@user:ann").await.unwrap();
    }
}

#[actix::test]
async fn no_more_come_in_than_may_and_no_more_wait_than_may() {
    let limits = Limits {
        max_concurrent_requests: 4,
        mailbox_capacity: 2,
        ..Limits::default()
    };
    let settings = Settings {
        limits,
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let id = furnished(&stage).await;
    let mut inside = Vec::new();
    for _ in 0..4 {
        inside.push(stage.platform.enter(id, stage.account).await.unwrap());
    }
    let counted = || {
        let metrics = &inside[0].0.metrics;
        (metrics.requests.get(), metrics.errors.get())
    };
    let before = counted();
    let full = stage.platform.enter(id, stage.account).await;
    assert!(matches!(
        full,
        Err(VaultError::RateLimited {
            limit: "max_concurrent_requests",
            ..
        })
    ));
    assert_eq!(
        counted(),
        (before.0 + 1, before.1 + 1),
        "nobody else counts who is not let in"
    );
    let (held, holding) = watch::channel(true);
    stage.switch.arm(Some(id), Fault::Hold(holding), usize::MAX);
    let writes = join_all(
        inside
            .iter()
            .map(|(vault, _)| vault.write(touch(&["document:g#reader@user:ann".into()]))),
    );
    let release = async {
        eventually("a write is at storage", || stage.switch.met() > 0).await;
        held.send(false).unwrap();
    };
    let (written, ()) = tokio::join!(writes, release);
    let overloaded = written
        .iter()
        .filter(|written| {
            let limit = "mailbox_capacity";
            matches!(written, Err(VaultError::RateLimited { limit: named, .. }) if *named == limit)
        })
        .count();
    assert_eq!(
        (
            overloaded,
            written.iter().filter(|written| written.is_ok()).count()
        ),
        (2, 2),
        "{written:?}"
    );
    drop(inside);
    assert_eq!(
        ask(&stage, id, Consistency::default()).await.unwrap(),
        Decision::Allow
    );
}

#[actix::test]
async fn a_stopped_platform_lets_nobody_in() {
    let stage = stage().await;
    let (active, cold) = (furnished(&stage).await, furnished(&stage).await);
    stage.platform.deactivate(cold, Reach::Everything).await.unwrap();
    let (vault, pass) = stage.platform.enter(active, stage.account).await.unwrap();
    let inside = async {
        while vault.is_open() {
            tokio::task::yield_now().await;
        }
        vault
            .write(touch(&["document:b#reader@user:ann".into()]))
            .await
            .unwrap();
        drop(pass);
    };
    tokio::join!(stage.platform.stop(Duration::from_secs(30)), inside);
    for id in [active, cold] {
        let refused = ask(&stage, id, Consistency::default()).await;
        assert!(matches!(refused, Err(VaultError::Stopping)), "{refused:?}");
    }
    assert_eq!(stage.platform.active_count(), 0);
}

#[actix::test]
async fn rows_that_were_read_before_a_write_do_not_hide_it() {
    // Little stays in memory and no decision is cached: rows are read from storage and offered to the actor.
    let settings = Settings {
        memory_budget_bytes: 4_000,
        cache: CacheSettings {
            enabled: false,
            max_entries: 0,
            ttl: Duration::from_secs(1),
        },
        ..Settings::default()
    };
    let stage = Stage::new(settings).await;
    let id = furnished(&stage).await;
    let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
    // Enough that the vault is never wholly resident.
    let rows: Vec<String> = (0..200)
        .map(|at| format!("document:d{at}#reader@user:ann"))
        .collect();
    vault.write(touch(&rows)).await.unwrap();
    for round in 0..20 {
        let subject = format!("user:new{round}");
        // Nothing is known of it yet: the check has to read.
        let document = format!("document:fresh{round}");
        let (held, holding) = watch::channel(true);
        let begun = stage.switch.met();
        stage.switch.arm(Some(id), Fault::Hold(holding), 1);
        let question = check_of(&subject, &document);
        let early = vault.check(&question, Consistency::default(), now());
        let write = async {
            eventually("the check reads storage", || stage.switch.met() > begun).await;
            let row = format!("{document}#reader@{subject}");
            vault.write(touch(&[row])).await.unwrap();
            held.send(false).unwrap();
        };
        let (early, ()) = tokio::join!(early, write);
        // Whichever state it names, what it read must not become the state after the write. (The question goes
        // through the actor, which by then has had the offered rows.)
        early.unwrap();
        let late = vault.check(&question, Consistency::FullyConsistent, now()).await;
        assert_eq!(late.unwrap().decision, Decision::Allow, "round {round}");
    }
}

/// What the first transactions of a delete by filter took away is gone, though a later one fails: no cached or resident row
/// may keep it, and it is owed to the rate of writes.
#[actix::test]
async fn a_delete_that_fails_half_way_is_seen_as_far_as_it_came() {
    let stage = stage().await;
    let id = furnished(&stage).await;
    let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
    for chunk in 0..3 {
        let some: Vec<String> = (0..1_000)
            .map(|at| format!("document:b{chunk}-{at:04}#reader@user:ben"))
            .collect();
        vault.write(touch(&some)).await.unwrap();
    }
    let change = VaultChange {
        limits: Some(serde_json::from_str(r#"{"writes_per_second":1}"#).unwrap()),
        ..VaultChange::default()
    };
    stage
        .platform
        .update_vault(id, Reach::Everything, change)
        .await
        .unwrap();
    assert_eq!(
        ask(&stage, id, Consistency::default()).await.unwrap(),
        Decision::Allow
    );
    stage.switch.refuse_commit_after(2);
    let delete = DeleteRequest {
        filter: RelationshipFilter {
            resource_type: Some(Name::parse("document").unwrap()),
            ..RelationshipFilter::default()
        },
        limit: None,
        preconditions: Vec::new(),
    };
    let failed = vault.delete(delete).await;
    assert!(matches!(failed, Err(VaultError::Storage(_))), "{failed:?}");
    assert_eq!(
        ask(&stage, id, Consistency::default()).await.unwrap(),
        Decision::Deny
    );
    assert_eq!(vault.stats().relationships, 1_001);
    let owed = put(&stage, id, "document:a#reader@user:ann").await;
    assert!(matches!(owed, Err(VaultError::RateLimited { .. })), "{owed:?}");
}

#[actix::test]
async fn an_archival_of_unknown_outcome_comes_to_count() {
    let stage = Stage::new(Settings {
        poll_interval: Duration::from_millis(5),
        ..Settings::default()
    })
    .await;
    let id = furnished(&stage).await;
    stage.switch.lose_a_commit();
    let change = VaultChange {
        archived: Some(true),
        ..VaultChange::default()
    };
    let outcome = stage.platform.update_vault(id, Reach::Everything, change).await;
    assert!(matches!(outcome, Err(VaultError::OutcomeUnknown)), "{outcome:?}");
    assert_eq!(
        ask(&stage, id, Consistency::default()).await.unwrap(),
        Decision::Allow
    );
    stage.switch.recover().await;
    let begun = Instant::now();
    let end = loop {
        match ask(&stage, id, Consistency::default()).await {
            Ok(_) => assert!(begun.elapsed() < PATIENCE, "an archived vault goes on"),
            Err(error) => break error,
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(end, VaultError::AccessDenied), "{end:?}");
}

#[actix::test]
async fn a_vault_that_ends_by_itself_is_drained_like_any_other() {
    let stage = Stage::over(Settings::default(), true).await;
    let id = furnished(&stage).await;
    let other = stage.neighbour(Settings::default()).await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    other.delete_vault(id, Reach::Everything).await.unwrap();
    eventually("its actor finds it gone", || !vault.is_open()).await;
    let mut late = Box::pin(ask(&stage, id, Consistency::default()));
    assert!(futures_util::poll!(late.as_mut()).is_pending());
    assert_eq!(
        (stage.platform.active_count(), stage.platform.evictions()),
        (1, 0),
        "somebody is inside"
    );
    drop((vault, pass));
    let late = late.await;
    assert!(matches!(late, Err(VaultError::AccessDenied)), "{late:?}");
    assert_eq!(
        (stage.platform.active_count(), stage.platform.evictions()),
        (0, 1)
    );
}
