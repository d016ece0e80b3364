//! How many durable writes a second the embedded store does, and what its reads cost.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a benchmark is to stop at the first failure")]

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use inferadb_engine::noun::{Name, ObjectId, ObjectRef, Relationship, SubjectRef, Timestamp};
use inferadb_storage::{Backend, StorageConfig, Store, SubjectClass, VaultId, Write};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// An embedded store in a directory under the target folder, as `/tmp` may be in memory.
async fn store() -> (TempDir, Store, VaultId) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let backend = Backend::Embedded {
        path: directory.path().into(),
    };
    let store = Store::open(StorageConfig { backend }).await.unwrap();
    let defaults = store.ensure_defaults(None, None, Timestamp(1)).await.unwrap();
    (directory, store, defaults.vault.unwrap().id)
}

fn viewer(object: &str, subject: u64) -> Relationship {
    Relationship {
        resource: ObjectRef::parse(&format!("document:{object}")).unwrap(),
        relation: Name::parse("viewer").unwrap(),
        subject: SubjectRef::parse(&format!("user:{subject}")).unwrap(),
        caveat: None,
        expires_at: None,
    }
}

fn touch(touch: Vec<Relationship>) -> Write {
    let (create, delete, preconditions) = (vec![], vec![], vec![]);
    Write {
        touch,
        create,
        delete,
        preconditions,
        schema_revision: None,
        now: Timestamp(1),
    }
}

fn writes(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("durable_writes");
    group
        .sample_size(10)
        .throughput(Throughput::Elements(1))
        .measurement_time(Duration::from_secs(5));
    for writers in [1_u64, 8, 64] {
        let (_directory, store, vault) = runtime.block_on(store());
        let mut round = 0;
        group.bench_function(BenchmarkId::from_parameter(writers), |bencher| {
            bencher.iter_custom(|iterations| {
                round += 1;
                let started = Instant::now();
                runtime.block_on(async {
                    let tasks = (0..writers).map(|writer| {
                        let (store, object) = (store.clone(), format!("{round}-{writer}"));
                        tokio::spawn(async move {
                            for n in 0..iterations.div_ceil(writers) {
                                store
                                    .write(vault, &touch(vec![viewer(&object, n)]))
                                    .await
                                    .unwrap();
                            }
                        })
                    });
                    for task in tasks.collect::<Vec<_>>() {
                        task.await.unwrap();
                    }
                });
                started.elapsed()
            });
        });
    }
}

fn reads(c: &mut Criterion) {
    let runtime = runtime();
    let (_directory, store, vault) = runtime.block_on(store());
    for object in 0..100 {
        let object = object.to_string();
        let row = (0..100).map(|subject| viewer(&object, subject)).collect();
        runtime.block_on(store.write(vault, &touch(row))).unwrap();
    }
    let (document, relation) = (Name::parse("document").unwrap(), Name::parse("viewer").unwrap());
    let (user, object) = (Name::parse("user").unwrap(), ObjectId::parse("50").unwrap());
    let key = viewer("50", 50).key();
    c.bench_function("snapshot", |bencher| {
        bencher.iter(|| runtime.block_on(store.snapshot(vault)).unwrap())
    });
    let snapshot = runtime.block_on(store.snapshot(vault)).unwrap();
    c.bench_function("entry", |bencher| {
        bencher.iter(|| runtime.block_on(snapshot.entry(&key)).unwrap())
    });
    c.bench_function("row_of_100", |bencher| {
        bencher.iter(|| {
            let class = SubjectClass::Object;
            let row = snapshot.row(&document, &object, &relation, &user, &class, 1_000);
            runtime.block_on(row).unwrap()
        });
    });
}

criterion_group!(benches, writes, reads);
criterion_main!(benches);
