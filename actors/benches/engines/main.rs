//! What a check and a write cost over the embedded engine and, where `INFERADB_TEST_FDB_CLUSTER_FILE` names a cluster and the
//! feature `foundationdb` is on, over FoundationDB: first what is asked of storage for each, counted, then the times.
#![allow(missing_docs, reason = "a bench is no library")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a bench may fail, and counts stay small"
)]

mod counting;
#[path = "../support/relationships.rs"]
mod relationships;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use inferadb_actors::{
    AccountId, CacheSettings, CheckRequest, Consistency, Pass, Platform, SchemaWrite, Settings, Vault,
    WriteRequest, now, stop_client,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, SubjectRef};
use inferadb_storage::Store;
use inferadb_storage::engine::EmbeddedEngine;
use inferadb_storage::kv::Engine;
use tempfile::TempDir;

use self::counting::{Counting, Counts};
use self::relationships::relationship;

const SCHEMA: &str = "
definition user {}
definition folder {
    relation parent: folder
    relation viewer: user
    permission view = viewer + parent->view
}
definition document {
    relation parent: folder
    relation viewer: user
    permission view = viewer + parent->view
}
";
/// `alice` may view the document through three levels.
const STORED: [&str; 4] = [
    "document:plan#parent@folder:team",
    "folder:team#parent@folder:company",
    "folder:company#viewer@user:alice",
    "document:plan#viewer@user:bob",
];
/// How many operations are counted.
const COUNTED: u32 = 100;

/// A vault of its own on a platform of its own.
struct Stage {
    platform: Platform,
    vault: Arc<Vault>,
    _pass: Pass,
}

fn write(text: &str) -> WriteRequest {
    WriteRequest {
        touch: vec![relationship(text)],
        ..WriteRequest::default()
    }
}

fn question() -> CheckRequest {
    CheckRequest {
        subject: SubjectRef::parse("user:alice").unwrap(),
        resource: ObjectRef::parse("document:plan").unwrap(),
        permission: Name::parse("view").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    }
}

/// Decisions are not cached, so that each check is evaluated; rows are kept within `memory_budget_bytes`.
async fn stage(engine: Arc<dyn Engine>, memory_budget_bytes: usize) -> Stage {
    let store = Store::with_engine(engine).await.unwrap();
    let settings = Settings {
        memory_budget_bytes,
        cache: CacheSettings {
            enabled: false,
            ..Settings::default().cache
        },
        // What asks now and then on its own is not to be counted.
        poll_interval: Duration::from_secs(3_600),
        ..Settings::default()
    };
    let platform = Platform::over(store, settings, &prometheus::Registry::new()).unwrap();
    let account: AccountId = platform.create_account("bench").await.unwrap().id;
    let id = platform.create_vault(account, "bench").await.unwrap().id;
    let (vault, pass) = platform.enter(id, account).await.unwrap();
    let schema = SchemaWrite {
        text: SCHEMA.into(),
        format: inferadb_engine::schema::Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap();
    for text in STORED {
        vault.write(write(text)).await.unwrap();
    }
    Stage {
        platform,
        vault,
        _pass: pass,
    }
}

async fn check(stage: &Stage) {
    let question = question();
    let answer = stage.vault.check(&question, Consistency::MinimizeLatency, now());
    assert_eq!(answer.await.unwrap().decision, Decision::Allow);
}

async fn fully_consistent(stage: &Stage) {
    let question = question();
    let answer = stage.vault.check(&question, Consistency::FullyConsistent, now());
    assert_eq!(answer.await.unwrap().decision, Decision::Allow);
}

/// A write of a relationship that is not there yet.
async fn write_one(stage: &Stage) {
    thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });
    let at = COUNT.get();
    COUNT.set(at + 1);
    let request = write(&format!("document:d{at}#viewer@user:carol"));
    stage.vault.write(request).await.unwrap();
}

async fn engines() -> Vec<(&'static str, Arc<dyn Engine>, Option<TempDir>)> {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let embedded = EmbeddedEngine::open(directory.path()).unwrap();
    #[cfg_attr(
        not(feature = "foundationdb"),
        expect(unused_mut, reason = "there is no other engine")
    )]
    let mut engines: Vec<(&str, Arc<dyn Engine>, _)> =
        vec![("embedded", Arc::new(embedded), Some(directory))];
    #[cfg(feature = "foundationdb")]
    if let Ok(file) = std::env::var("INFERADB_TEST_FDB_CLUSTER_FILE") {
        let prefix = format!("test/{}/", uuid::Uuid::new_v4());
        let engine = inferadb_storage::engine::FoundationDbEngine::open(file.as_ref(), prefix.as_bytes());
        engines.push(("foundationdb", Arc::new(engine.await.unwrap()), None));
    }
    engines
}

fn engines_compared(criterion: &mut Criterion) {
    let system = actix::System::new();
    for (name, engine, _directory) in system.block_on(engines()) {
        let counts = Counts::default();
        let counted: Arc<dyn Engine> = Arc::new(Counting {
            inner: Arc::clone(&engine),
            counts: counts.clone(),
        });
        let [resident, cold] =
            [64 << 20, 0].map(|budget| system.block_on(stage(Arc::clone(&counted), budget)));
        macro_rules! measure {
            ($what:literal, $stage:expr, $operation:ident) => {{
                system.block_on($operation($stage));
                let before = counts.now();
                for _ in 0..COUNTED {
                    system.block_on($operation($stage));
                }
                let each = counts.since(before, COUNTED);
                eprintln!(
                    "{name}/{}: {:.2} reads, {:.2} commits, {:.2} round trips",
                    $what, each.reads, each.commits, each.round_trips
                );
                criterion.bench_function(&format!("{name}/{}", $what), |bencher| {
                    bencher.iter(|| system.block_on($operation($stage)));
                });
            }};
        }
        measure!("check_resident", &resident, check);
        measure!("check_resident_fully_consistent", &resident, fully_consistent);
        measure!("check_cold_3_levels", &cold, check);
        measure!("write", &resident, write_one);
        for stage in [resident, cold] {
            let Stage {
                platform,
                vault,
                _pass,
            } = stage;
            drop((vault, _pass));
            system.block_on(platform.stop(Duration::from_secs(10)));
        }
    }
    stop_client();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    targets = engines_compared
}
criterion_main!(benches);
