//! What an eviction, a deletion, a death or a change of settings leaves behind, and what it does not.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferadb_actors::{
    CacheSettings, CheckRequest, Consistency, Limits, LogSize, Pass, Reach, SchemaWrite, Settings, Vault,
    VaultChange, VaultError, VaultId, WriteRequest, now,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef};
use inferadb_engine::schema::Format;
use inferadb_storage::VaultPatch;
use serde_json::json;
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

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "never came to be: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn enter(stage: &Stage, id: VaultId) -> (Arc<Vault>, Pass) {
    stage.platform.enter(id, stage.account).await.unwrap()
}

/// A vault in which `ann` may read `document:a`.
async fn furnished(stage: &Stage) -> VaultId {
    let id = stage.vault().await;
    let (vault, _pass) = enter(stage, id).await;
    let schema = SchemaWrite {
        text: SCHEMA.into(),
        format: Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap();
    touch(&vault, 0..1).await.unwrap();
    id
}

/// Lets as many users read `document:a`; the first of them is `ann`.
async fn touch(vault: &Vault, users: std::ops::Range<usize>) -> Result<(), VaultError> {
    let name = |at| match at {
        0 => "ann".to_owned(),
        at => format!("u{at}"),
    };
    let texts = users.map(|at| format!("document:a#reader@user:{}", name(at)));
    let request = WriteRequest {
        touch: texts.map(|text| relationship(&text)).collect(),
        ..WriteRequest::default()
    };
    vault.write(request).await.map(drop)
}

fn may_read(user: &str) -> CheckRequest {
    CheckRequest {
        subject: SubjectRef::parse(user).unwrap(),
        resource: ObjectRef::parse("document:a").unwrap(),
        permission: Name::parse("read").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    }
}

/// Whether `ann` may read `document:a`, and whether the decision cache says so.
async fn ask(stage: &Stage, id: VaultId) -> Result<(Decision, bool), VaultError> {
    let (vault, _pass) = stage.platform.enter(id, stage.account).await?;
    let answer = vault
        .check(&may_read("user:ann"), Consistency::default(), now())
        .await?;
    Ok((answer.decision, answer.cached))
}

async fn change(stage: &Stage, id: VaultId, change: VaultChange) {
    let changed = stage.platform.update_vault(id, Reach::Everything, change).await;
    changed.unwrap();
}

fn limits(limits: serde_json::Value) -> VaultChange {
    VaultChange {
        limits: limits.as_object().cloned(),
        ..VaultChange::default()
    }
}

#[actix::test]
async fn an_evicted_vault_owes_what_one_that_stayed_would_owe() {
    let stage = Stage::new(Settings::default()).await;
    let id = furnished(&stage).await;
    change(&stage, id, limits(json!({ "checks_per_second": 1 }))).await;
    {
        let (vault, _pass) = enter(&stage, id).await;
        // More than a rate is let in at once, and takes minutes to be paid for.
        let checks = vec![may_read("user:ann"); 900];
        let answered = vault.check_batch(&checks, Consistency::default(), now()).await;
        answered.unwrap();
    }
    for _ in 0..2 {
        stage.platform.deactivate(id, Reach::Everything).await.unwrap();
        let refused = ask(&stage, id).await;
        assert!(
            matches!(
                refused,
                Err(VaultError::RateLimited {
                    limit: "checks_per_second",
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}

#[actix::test]
async fn a_change_of_settings_leaves_rows_and_decisions() {
    let stage = Stage::new(Settings::default()).await;
    let id = furnished(&stage).await;
    assert_eq!(ask(&stage, id).await.unwrap(), (Decision::Allow, false));
    let (vault, _pass) = enter(&stage, id).await;
    let before = vault.stats();
    change(
        &stage,
        id,
        VaultChange {
            name: Some("renamed".into()),
            ..limits(json!({ "checks_per_second": 1_000 }))
        },
    )
    .await;
    let after = vault.stats();
    assert!(after.revision > before.revision);
    assert_eq!(
        (vault.record().name.as_str(), after.limits.checks_per_second),
        ("renamed", 1_000)
    );
    assert_eq!((after.rows, after.decisions), (before.rows, before.decisions));
    assert_eq!(ask(&stage, id).await.unwrap(), (Decision::Allow, true));
    // What is written next follows it.
    touch(&vault, 1..2).await.unwrap();
    let answer = vault
        .check(&may_read("user:u1"), Consistency::default(), now())
        .await;
    assert_eq!(answer.unwrap().decision, Decision::Allow);
    assert_eq!(vault.stats().relationships, 2);
    // How far an evaluation may go is part of what was decided.
    assert_eq!(ask(&stage, id).await.unwrap(), (Decision::Allow, false));
    assert_eq!(ask(&stage, id).await.unwrap(), (Decision::Allow, true));
    change(&stage, id, limits(json!({ "max_depth": 7 }))).await;
    assert_eq!(ask(&stage, id).await.unwrap(), (Decision::Allow, false));
}

#[actix::test]
async fn a_vault_is_charged_for_its_schema_whenever_it_starts() {
    let stage = Stage::new(Settings {
        // Nobody else ends the window.
        overload_lag: None,
        ..Settings::default()
    })
    .await;
    let id = furnished(&stage).await;
    let relations = (0..3_000).map(|at| format!("relation r{at}: user\n"));
    let text = format!("{SCHEMA} definition wide {{ {} }}", relations.collect::<String>());
    {
        let (vault, _pass) = enter(&stage, id).await;
        let (format, force) = (Format::Native, false);
        vault
            .put_schema(SchemaWrite { text, format, force })
            .await
            .unwrap();
        change(&stage, id, limits(json!({ "max_watches": 3 }))).await;
    }
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    let (vault, _pass) = enter(&stage, id).await;
    // Far more than a request is taken to cost.
    assert!(vault.end_window() > 500_000);
    change(
        &stage,
        id,
        VaultChange {
            name: Some("renamed".into()),
            ..VaultChange::default()
        },
    )
    .await;
    let used = vault.end_window();
    assert!(used < 500_000, "compiled again: {used}");
}

#[actix::test]
async fn the_limits_shown_are_those_in_force() {
    let stage = Stage::new(Settings::default()).await;
    let id = furnished(&stage).await;
    let (vault, _pass) = enter(&stage, id).await;
    // By another server, of which this one has yet to learn.
    let patch = VaultPatch {
        limits: Some(json!({ "max_watches": 3 }).as_object().cloned()),
        ..VaultPatch::default()
    };
    stage.store.update_vault(id, &patch, now()).await.unwrap();
    let shown = async || stage.platform.stats(id, Reach::Everything).await.unwrap().limits;
    assert_eq!(shown().await.max_watches, Limits::default().max_watches);
    let fresh = Consistency::FullyConsistent;
    vault.check(&may_read("user:ann"), fresh, now()).await.unwrap();
    assert_eq!(shown().await.max_watches, 3);
}

#[actix::test]
async fn what_starts_takes_its_room_before_it_reads() {
    /// What an active vault weighs at the least.
    const VAULT: usize = 6_400;
    let stage = Stage::new(Settings {
        total_memory_bytes: 4 * VAULT - 1,
        ..Settings::default()
    })
    .await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(stage.vault().await);
    }
    let (held, holding) = watch::channel(true);
    stage.switch.arm(None, Fault::HoldActors(holding), usize::MAX);
    let starts = ids.iter().map(|id| {
        let (platform, account, id) = (stage.platform.clone(), stage.account, *id);
        actix::spawn(async move { platform.enter(id, account).await.map(drop) })
    });
    let starts: Vec<_> = starts.collect();
    // The others read, and hold nothing yet but their room.
    eventually("two find no room", async || {
        starts.iter().filter(|start| start.is_finished()).count() == 2
    })
    .await;
    assert_eq!(stage.platform.held_bytes(), 3 * VAULT);
    held.send_replace(false);
    let outcomes = futures_util::future::join_all(starts).await;
    let started = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(Ok(()))))
        .count();
    assert_eq!(started, 3);
    for refused in outcomes.into_iter().filter_map(|outcome| outcome.unwrap().err()) {
        assert!(refused.to_string().contains("memory"), "{refused}");
    }
}

#[actix::test]
async fn a_deletion_of_unknown_outcome_comes_to_count() {
    let stage = Stage::new(Settings {
        poll_interval: Duration::from_millis(5),
        ..Settings::default()
    })
    .await;
    let id = furnished(&stage).await;
    stage.switch.lose_a_commit();
    let outcome = stage.platform.delete_vault(id, Reach::Everything).await;
    assert!(matches!(outcome, Err(VaultError::OutcomeUnknown)), "{outcome:?}");
    // It is not deleted as far as anybody can see.
    assert_eq!(ask(&stage, id).await.unwrap().0, Decision::Allow);
    stage.switch.recover().await;
    eventually("a deleted vault ends", async || {
        matches!(ask(&stage, id).await, Err(VaultError::AccessDenied))
    })
    .await;
}

#[actix::test]
async fn an_account_goes_with_its_vaults_and_not_before_them() {
    let stage = Stage::new(Settings::default()).await;
    let ids = [furnished(&stage).await, furnished(&stage).await];
    let refused = stage.platform.delete_account(stage.account, false).await;
    assert!(matches!(refused, Err(VaultError::AccountNotEmpty)), "{refused:?}");
    assert_eq!(stage.platform.active_count(), 2);
    stage.platform.delete_account(stage.account, true).await.unwrap();
    assert_eq!(stage.platform.active_count(), 0);
    for id in ids {
        let gone = ask(&stage, id).await;
        assert!(matches!(gone, Err(VaultError::AccessDenied)), "{gone:?}");
    }
}

#[actix::test]
async fn a_death_that_an_eviction_finds_is_noted() {
    let stage = Stage::new(Settings::default()).await;
    let id = furnished(&stage).await;
    stage.switch.arm(Some(id), Fault::Panic, 1);
    let (vault, _pass) = enter(&stage, id).await;
    let fresh = Consistency::FullyConsistent;
    let lost = vault.check(&may_read("user:ann"), fresh, now()).await;
    assert!(matches!(lost, Err(VaultError::ActorFailed)), "{lost:?}");
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    assert_eq!(stage.metric("inferadb_vault_respawns_total"), 1.0);
}

#[actix::test]
async fn a_vault_that_is_active_and_full_is_active() {
    let stage = Stage::new(Settings {
        limits: Limits {
            max_concurrent_requests: 1,
            ..Limits::default()
        },
        ..Settings::default()
    })
    .await;
    let id = furnished(&stage).await;
    let (_vault, _pass) = enter(&stage, id).await;
    assert!(stage.platform.enter(id, stage.account).await.is_err());
    let refused = stage.metric("inferadb_requests_refused_total");
    stage.platform.activate(id, Reach::Everything).await.unwrap();
    assert_eq!(stage.metric("inferadb_requests_refused_total"), refused);
}

#[actix::test]
async fn the_log_of_a_vault_that_never_lives_long_is_trimmed() {
    let kept = LogSize {
        records: 5,
        bytes: u64::MAX,
    };
    let stage = Stage::new(Settings {
        log_kept: kept,
        ..Settings::default()
    })
    .await;
    let id = furnished(&stage).await;
    {
        let (vault, _pass) = enter(&stage, id).await;
        for user in 1..20 {
            touch(&vault, user..user + 1).await.unwrap();
        }
    }
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    assert!(stage.store.log_size(id).await.unwrap().records > 20);
    enter(&stage, id).await;
    eventually("its log is trimmed", async || {
        stage.store.log_size(id).await.unwrap().records <= 5
    })
    .await;
}

#[actix::test]
async fn what_is_known_to_be_wide_is_no_news() {
    let stage = Stage::new(Settings {
        // So that rows are read, and not loaded.
        memory_budget_bytes: 8_000,
        cache: CacheSettings {
            enabled: false,
            ..Settings::default().cache
        },
        ..Settings::default()
    })
    .await;
    let id = furnished(&stage).await;
    let (vault, _pass) = enter(&stage, id).await;
    touch(&vault, 0..600).await.unwrap();
    let published = async || {
        // The second is behind whatever the first one offered to the actor.
        for fresh in [Consistency::default(), Consistency::FullyConsistent] {
            let answer = vault.check(&may_read("user:ann"), fresh, now()).await;
            assert_eq!(answer.unwrap().decision, Decision::Allow);
        }
        vault.view()
    };
    published().await;
    let first = published().await;
    assert!(Arc::ptr_eq(&first, &published().await));
}
