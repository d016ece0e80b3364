//! A large vault: imported, exported into another, merged, cloned and deleted, while the process's memory is watched. On the disk, or
//! in the cluster that `INFERADB_TEST_FDB_CLUSTER_FILE` names, with the feature `foundationdb`.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]
#![cfg(target_os = "linux")]

use std::time::Instant;

use inferadb_actors::{Backend, Import, ImportMode, Platform, Reach, Settings, VaultId, stop_client};
use inferadb_engine::noun::{Name, ObjectId, ObjectRef, Relationship, SubjectRef};
use inferadb_engine::schema::Format;
use tikv_jemallocator::Jemalloc;

/// The server's: how much of what was freed stays resident is a matter of the allocator.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

const SCHEMA: &str = "definition user {}
definition document {
    relation reader: user
    permission read = reader
}";

/// How much more memory may be resident than before, in bytes.
const MOST_GROWTH: u64 = 100_000_000;

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// The relationship of this number, in the order of keys.
fn row(at: usize) -> Relationship {
    let id = |text: String| ObjectId::parse(&text).unwrap();
    Relationship {
        resource: ObjectRef {
            object_type: Name::parse("document").unwrap(),
            id: id(format!("project-{:07}/file", at / 8)),
        },
        relation: Name::parse("reader").unwrap(),
        subject: SubjectRef {
            object_type: Name::parse("user").unwrap(),
            id: id(format!("employee-{}@example.com", at % 8)),
            relation: None,
        },
        caveat: None,
        expires_at: None,
    }
}

struct Watched {
    start: u64,
    most: u64,
    since: Instant,
}

impl Watched {
    fn look(&mut self) {
        self.most = self.most.max(resident_bytes());
    }

    fn report(&mut self, what: &str, count: usize) {
        self.look();
        let seconds = self.since.elapsed().as_secs_f64();
        let growth = self.most.saturating_sub(self.start);
        eprintln!(
            "{what}: {seconds:.1} s, {:.0} a second, at most {} MB more resident than at the start",
            count as f64 / seconds,
            growth / 1_000_000
        );
        assert!(growth < MOST_GROWTH, "{what}: {growth} bytes more");
        self.since = Instant::now();
    }
}

async fn begin(platform: &Platform, vault: VaultId, mode: ImportMode) -> Import {
    let mut import = platform.import(vault, Reach::Everything, mode).await.unwrap();
    import.schema(Format::Native, SCHEMA).await.unwrap();
    import
}

#[ignore = "takes minutes"]
#[actix::test]
async fn a_large_vault_moves_in_little_memory() {
    let count: usize = std::env::var("SOAK").map_or(1_000_000, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let backend = match std::env::var("INFERADB_TEST_FDB_CLUSTER_FILE") {
        Ok(file) if cfg!(feature = "foundationdb") => Backend::FoundationDb {
            cluster_file: file.into(),
            key_prefix: format!("test/{}", uuid::Uuid::new_v4()).parse().unwrap(),
        },
        _ => Backend::Embedded {
            path: folder.path().into(),
        },
    };
    let platform = Platform::start(backend, Settings::default(), &prometheus::Registry::new())
        .await
        .unwrap();
    let account = platform.create_account("soak").await.unwrap().id;
    let one = platform.create_vault(account, "one").await.unwrap().id;
    let other = platform.create_vault(account, "other").await.unwrap().id;
    let mut watched = Watched {
        start: resident_bytes(),
        most: 0,
        since: Instant::now(),
    };
    let mut import = begin(&platform, one, ImportMode::Replace).await;
    for page in 0..count / 1_000 {
        let rows = (page * 1_000..(page + 1) * 1_000).map(row).collect();
        import.add(rows).await.unwrap();
        watched.look();
    }
    let done = import.finish().await.unwrap();
    assert_eq!(done.relationships as usize, count);
    watched.report("import", count);

    let mut export = platform.export(one, Reach::Everything).await.unwrap();
    let mut exported = 0;
    while let Some(page) = export.next().await.unwrap() {
        assert_eq!(page.first(), Some(&row(exported)));
        exported += page.len();
        watched.look();
    }
    assert_eq!(exported, count);
    watched.report("export", count);

    let mut export = platform.export(one, Reach::Everything).await.unwrap();
    let mut import = begin(&platform, other, ImportMode::Merge).await;
    while let Some(page) = export.next().await.unwrap() {
        import.add(page).await.unwrap();
        watched.look();
    }
    watched.report("handed in to a merge", count);
    let finishing = import.finish();
    tokio::pin!(finishing);
    let done = loop {
        tokio::select! {
            done = &mut finishing => break done.unwrap(),
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => watched.look(),
        }
    };
    assert_eq!((done.created as usize, done.updated), (count, 0));
    watched.report("merged", count);

    let clone = {
        let cloning = platform.clone_vault(one, Reach::Everything, "clone", None, None);
        tokio::pin!(cloning);
        loop {
            tokio::select! {
                clone = &mut cloning => break clone.unwrap().id,
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => watched.look(),
            }
        }
    };
    watched.report("cloned", count);
    let stats = platform.stats(clone, Reach::Everything).await.unwrap();
    assert_eq!(stats.relationships as usize, count);

    for vault in [one, other, clone] {
        platform.delete_vault(vault, Reach::Everything).await.unwrap();
        assert!(platform.export(vault, Reach::Everything).await.is_err());
    }
    watched.report("deleted", 3 * count);
    platform.stop(std::time::Duration::from_secs(60)).await;
    drop(platform);
    stop_client();
}
