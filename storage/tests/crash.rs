//! Kills a process that writes to an embedded store, again and again: what it was told is stored is there, whole.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "test code: a failure is to panic")]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use inferadb_storage::{AccountId, Backend, StorageConfig, Store, VaultId, Write};
use support::*;

const DIRECTORY: &str = "INFERADB_TEST_CRASH_DIRECTORY";
const ROUND: &str = "INFERADB_TEST_CRASH_ROUND";
const WRITERS: usize = 8;
/// The relationships of one batch.
const BATCH: usize = 5;
const KILLS: usize = 10;

async fn open(directory: &Path) -> (Store, VaultId) {
    let backend = Backend::Embedded {
        path: directory.into(),
    };
    let store = Store::open(StorageConfig { backend }).await.unwrap();
    let id = uuid::Uuid::from_u128(7);
    let defaults = store
        .ensure_defaults(Some(AccountId(id)), Some(VaultId(id)), at(1))
        .await
        .unwrap();
    let vault = defaults.vault.unwrap().id;
    (store, vault)
}

/// The process that is killed: writes batches for ever, and says each once it is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let (Ok(directory), Ok(round)) = (std::env::var(DIRECTORY), std::env::var(ROUND)) else {
        return;
    };
    let (store, vault) = open(Path::new(&directory)).await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, round) = (store.clone(), round.clone());
            tokio::spawn(async move {
                for n in 0_u64.. {
                    let batch = format!("{round}-{writer}-{n}");
                    let create = (0..BATCH)
                        .map(|item| relationship(&format!("doc:{batch}#viewer@user:{item}")))
                        .collect();
                    store
                        .write(
                            vault,
                            &Write {
                                create,
                                ..empty_write(1)
                            },
                        )
                        .await
                        .unwrap();
                    // One write call, so that a line is whole or absent.
                    std::io::stdout()
                        .write_all(format!("\nstored {batch}\n").as_bytes())
                        .unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

#[tokio::test]
async fn acknowledged_batches_survive_kills_and_no_batch_is_half_there() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Killed after a number of acknowledgements, which falls anywhere within a batch of the others.
        let deadly = 20 + (uuid::Uuid::new_v4().as_u128() % 150) as usize;
        let mut said = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(batch) = line.strip_prefix("stored ") {
                acknowledged.push(batch.to_owned());
                said += 1;
                if said == deadly {
                    // SIGKILL; what was said until then is still in the pipe and is read too.
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(said >= deadly, "the child ended by itself after {said}");
        let (store, vault) = open(directory.path()).await;
        let mut batches: BTreeMap<String, usize> = BTreeMap::new();
        for key in stored_ids(&store, vault).await {
            *batches.entry(key).or_default() += 1;
        }
        for (batch, items) in &batches {
            assert_eq!(*items, BATCH, "batch {batch} is half there");
        }
        for batch in &acknowledged {
            assert!(
                batches.contains_key(batch),
                "the acknowledged batch {batch} is lost"
            );
        }
        let shapes = store.snapshot(vault).await.unwrap().shapes().await.unwrap();
        assert_eq!(
            shapes.iter().map(|shape| shape.count as usize).sum::<usize>(),
            batches.len() * BATCH
        );
        store.close().await;
    }
}

/// The id of each relationship's resource.
async fn stored_ids(store: &Store, vault: VaultId) -> Vec<String> {
    let snapshot = store.snapshot(vault).await.unwrap();
    let (mut ids, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let page = snapshot.scan_all(after.as_deref(), 1_000).await.unwrap();
        ids.extend(
            page.items
                .into_iter()
                .map(|relationship| relationship.resource.id.to_string()),
        );
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}
