//! Exports while others write as fast as they can: each is imported into another vault, which must then hold what replaying the change
//! log from its beginning up to the revision of the export comes to.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use inferadb_actors::{
    AccountId, Backend, ChangeKind, ChangeOp, ImportMode, LogSize, Platform, Reach, Revision, SchemaWrite,
    Settings, VaultId, WriteRequest, stop_client,
};
use inferadb_engine::noun::{Name, ObjectId, ObjectRef, Relationship, SubjectRef, Timestamp};
use inferadb_engine::schema::Format;
use inferadb_storage::kv::Versionstamp;
use inferadb_storage::{StorageConfig, Store};

const SCHEMA: &str = "use expiration
definition user {}
definition document {
    relation reader: user | user with expiration
    permission read = reader
}";
/// How many changes one write has.
const CHANGES: u64 = 20;

/// How hard it is.
struct Race {
    writers: u64,
    /// How many different relationships there can be.
    keys: u64,
    exports: usize,
    /// How long exports go on to be begun.
    at_least: Duration,
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

fn random(dice: &mut Dice, keys: u64) -> Relationship {
    let key = dice.below(keys);
    Relationship {
        resource: ObjectRef {
            object_type: Name::parse("document").unwrap(),
            id: ObjectId::parse(&format!("d{:06}", key / 4)).unwrap(),
        },
        relation: Name::parse("reader").unwrap(),
        subject: SubjectRef {
            object_type: Name::parse("user").unwrap(),
            id: ObjectId::parse(&format!("u{}", key % 4)).unwrap(),
            relation: None,
        },
        caveat: None,
        // None of these passes before the test does.
        expires_at: (dice.below(2) == 0).then(|| Timestamp(4_000_000_000_000_000 + dice.below(1_000) as i64)),
    }
}

/// One write of random changes; answers how many they were.
async fn write_some(platform: &Platform, account: AccountId, id: VaultId, dice: &mut Dice, keys: u64) -> u64 {
    let mut request = WriteRequest::default();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..CHANGES {
        let one = random(dice, keys);
        if !seen.insert(one.key()) {
            continue;
        }
        if dice.below(3) == 0 {
            request.delete.push(one.key());
        } else {
            request.touch.push(one);
        }
    }
    let (vault, _pass) = platform.enter(id, account).await.unwrap();
    vault.write(request).await.unwrap();
    seen.len() as u64
}

/// Writes until told to stop; answers how many changes that were.
async fn keep_writing(
    platform: Platform,
    account: AccountId,
    id: VaultId,
    seed: u64,
    keys: u64,
    stop: Rc<Cell<bool>>,
) -> u64 {
    let mut dice = Dice(seed);
    let mut done = 0;
    while !stop.get() {
        done += write_some(&platform, account, id, &mut dice, keys).await;
    }
    done
}

/// The state that the log leads to, as far as it was replayed.
struct Replayed {
    model: BTreeMap<String, Relationship>,
    at: Revision,
    records: usize,
}

impl Replayed {
    async fn advance(&mut self, store: &Store, id: VaultId, through: Revision) {
        while self.at < through {
            let changes = store.changes(id, self.at, 500).await.unwrap();
            for change in changes.iter().filter(|change| change.revision <= through) {
                if let ChangeKind::Relationships(relationships) = &change.kind {
                    for (op, one) in relationships {
                        match op {
                            ChangeOp::Deleted => self.model.remove(&one.key().to_string()),
                            _ => self.model.insert(one.key().to_string(), one.clone()),
                        };
                    }
                }
                self.at = change.revision;
                self.records += 1;
            }
        }
        assert_eq!(self.at, through, "an export is of a revision of the log");
    }
}

async fn race(backend: Backend, race: Race) {
    let store = Store::open(StorageConfig { backend }).await.unwrap();
    let settings = Settings {
        log_kept: LogSize {
            records: u64::MAX,
            bytes: u64::MAX,
        },
        ..Settings::default()
    };
    let platform = Platform::over(store.clone(), settings, &prometheus::Registry::new()).unwrap();
    let account = platform.create_account("race").await.unwrap().id;
    let id = platform.create_vault(account, "written").await.unwrap().id;
    let other = platform.create_vault(account, "other").await.unwrap().id;
    {
        let (vault, _pass) = platform.enter(id, account).await.unwrap();
        let schema = SchemaWrite {
            text: SCHEMA.into(),
            format: Format::Native,
            force: false,
        };
        vault.put_schema(schema).await.unwrap();
    }
    let stop = Rc::new(Cell::new(false));
    let writers: Vec<_> = (1..=race.writers)
        .map(|seed| {
            keep_writing(
                platform.clone(),
                account,
                id,
                seed * 7_919,
                race.keys,
                Rc::clone(&stop),
            )
        })
        .map(actix::spawn)
        .collect();
    let mut replayed = Replayed {
        model: BTreeMap::new(),
        at: Revision(Versionstamp::default()),
        records: 0,
    };
    let started = Instant::now();
    let mut dice = Dice(104_729);
    let (mut exports, mut exported, mut written) = (0, 0, 0);
    while exports < race.exports || started.elapsed() < race.at_least {
        let mut export = platform.export(id, Reach::Everything).await.unwrap();
        let counted = export.relationships().unwrap();
        // Every export is overtaken, also where the writers happen not to have had a turn.
        written += write_some(&platform, account, id, &mut dice, race.keys).await;
        let mut import = platform
            .import(other, Reach::Everything, ImportMode::Replace)
            .await
            .unwrap();
        let schema = export.schema().unwrap();
        import.schema(schema.format, &schema.text).await.unwrap();
        while let Some(page) = export.next().await.unwrap() {
            import.add(page).await.unwrap();
        }
        let imported = import.finish().await.unwrap();
        let head = store.head(id).await.unwrap().unwrap().revision;
        assert!(export.revision() < head, "others wrote meanwhile");
        replayed.advance(&store, id, export.revision()).await;
        let mut found = platform.export(other, Reach::Everything).await.unwrap();
        let mut expected = replayed.model.values();
        while let Some(page) = found.next().await.unwrap() {
            for one in &page {
                assert_eq!(Some(one), expected.next());
            }
        }
        assert_eq!(expected.next(), None);
        assert_eq!(counted as usize, replayed.model.len());
        assert_eq!(imported.relationships, counted);
        exports += 1;
        exported += counted;
    }
    let seconds = started.elapsed().as_secs_f64();
    stop.set(true);
    for writer in writers {
        written += writer.await.unwrap();
    }
    eprintln!(
        "{exports} exports of {} relationships each, imported elsewhere and compared with the log replayed ({} records) \
         in {seconds:.1} s, while {written} changes were asked for, {:.0} a second",
        exported / exports as u64,
        replayed.records,
        written as f64 / seconds
    );
    platform.stop(Duration::from_secs(60)).await;
}

#[actix::test]
async fn an_export_is_what_the_log_comes_to_at_its_revision() {
    let small = Race {
        writers: 3,
        keys: 5_000,
        exports: 4,
        at_least: Duration::ZERO,
    };
    race(Backend::Memory, small).await;
}

#[ignore = "takes a minute"]
#[actix::test]
async fn exports_at_full_speed() {
    let seconds = std::env::var("RACE_SECONDS").map_or(60, |text| text.parse().unwrap());
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
    let large = Race {
        writers: 32,
        keys: 200_000,
        exports: 3,
        at_least: Duration::from_secs(seconds),
    };
    race(backend, large).await;
    stop_client();
}
