//! What happens when the disk fails, and with files of another format.

use std::io;
use std::sync::Mutex;

use redb::StorageBackend;

use super::*;
use crate::kv::{Isolation, Versionstamp};

/// A disk in memory that can be told to fail.
#[derive(Debug, Default)]
struct Disk {
    bytes: Mutex<Vec<u8>>,
    failing: Mutex<Option<(Call, ErrorKind)>>,
}

/// Which call fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Call {
    Write,
    Sync,
}

#[derive(Debug)]
struct Handle(Arc<Disk>);

impl Disk {
    fn fail(&self, call: Call) -> io::Result<()> {
        match *self.failing.lock().unwrap() {
            Some((failing, kind)) if failing == call => Err(kind.into()),
            _ => Ok(()),
        }
    }

    fn set_failing(&self, failing: Option<(Call, ErrorKind)>) {
        *self.failing.lock().unwrap() = failing;
    }
}

impl StorageBackend for Handle {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.bytes.lock().unwrap().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.0.bytes.lock().unwrap();
        let from = bytes.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.fail(Call::Write)?;
        self.0.bytes.lock().unwrap().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.fail(Call::Sync)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.fail(Call::Write)?;
        let mut bytes = self.0.bytes.lock().unwrap();
        bytes[offset as usize..offset as usize + data.len()].copy_from_slice(data);
        Ok(())
    }
}

fn engine(disk: &Arc<Disk>) -> Result<EmbeddedEngine, KvError> {
    let disk = Arc::clone(disk);
    let opener = move || {
        let same = Arc::clone(&disk);
        let file = PacedFile::new(Handle(Arc::clone(&disk)), move |_: &Range<u64>| {
            same.fail(Call::Write)
        });
        Builder::new().create_with_backend(file)
    };
    EmbeddedEngine::with_opener(PathBuf::from(FILE_NAME), Box::new(opener))
}

async fn put(engine: &EmbeddedEngine, keys: &[&str]) -> Result<Versionstamp, KvError> {
    let mut transaction = engine.begin().await.unwrap();
    for key in keys {
        transaction.set(key.as_bytes(), &[7; 5_000]);
    }
    transaction.commit().await
}

async fn holds(engine: &EmbeddedEngine, key: &str) -> bool {
    let transaction = engine.begin().await.unwrap();
    transaction
        .get(key.as_bytes(), Isolation::Snapshot)
        .await
        .unwrap()
        .is_some()
}

#[tokio::test]
async fn a_full_disk_fails_whole_commits_and_writing_goes_on_once_there_is_room() {
    let disk = Arc::new(Disk::default());
    let engine = engine(&disk).unwrap();
    let first = put(&engine, &["a"]).await.unwrap();
    disk.set_failing(Some((Call::Write, ErrorKind::StorageFull)));
    for _ in 0..3 {
        let outcome = put(&engine, &["b", "c"]).await;
        assert!(
            matches!(outcome, Err(KvError::Unavailable(_) | KvError::CommitUnknown)),
            "{outcome:?}"
        );
    }
    disk.set_failing(None);
    let mut last = put(&engine, &["d"]).await;
    // Until it was opened again, which the next commit brings about, it may refuse once more.
    while last.is_err() {
        last = put(&engine, &["d"]).await;
    }
    assert!(last.unwrap() > first);
    assert!(holds(&engine, "a").await && holds(&engine, "d").await);
    assert_eq!(holds(&engine, "b").await, holds(&engine, "c").await);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_until_a_restart() {
    let disk = Arc::new(Disk::default());
    let first = engine(&disk).unwrap();
    put(&first, &["a"]).await.unwrap();
    disk.set_failing(Some((Call::Sync, ErrorKind::Other)));
    assert_eq!(put(&first, &["b", "c"]).await, Err(KvError::CommitUnknown));
    disk.set_failing(None);
    assert!(matches!(put(&first, &["d"]).await, Err(KvError::Damaged(_))));
    drop(first);
    let second = engine(&disk).unwrap();
    assert!(holds(&second, "a").await && !holds(&second, "d").await);
    assert_eq!(holds(&second, "b").await, holds(&second, "c").await);
}

#[tokio::test]
async fn a_format_of_the_future_is_refused() {
    let disk = Arc::new(Disk::default());
    drop(engine(&disk).unwrap());
    let database = Builder::new()
        .create_with_backend(Handle(Arc::clone(&disk)))
        .unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(META)
        .unwrap()
        .insert(META_FORMAT, FILE_FORMAT + 1)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    match engine(&disk) {
        Err(KvError::Damaged(reason)) => assert!(reason.contains("file format 2"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
