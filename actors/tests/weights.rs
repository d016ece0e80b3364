//! Weights beside what the allocator gave: what vaults are charged for is what they take.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use inferadb_actors::{
    AccountId, Backend, CheckRequest, Consistency, Platform, Reach, SchemaWrite, Settings, VaultId,
    WriteRequest, now,
};
use inferadb_engine::context::Value;
use inferadb_engine::noun::{CaveatRef, Name, ObjectRef, Relationship, SubjectRef, Timestamp};
use inferadb_engine::schema::Format;

/// The system's allocator, counting what is in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: it hands all on to an allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SCHEMA: &str = "
use expiration
caveat within(place string, hour int, days list<string>) {
    place == 'here' && hour < 18 && 'mon' in days
}
definition user {}
definition group {
    relation member: user | group#member
}
definition document {
    relation owner: user
    relation viewer: user | user with within | user with expiration | group#member
    relation banned: user
    permission view = (viewer + owner) - banned
    permission edit = owner
}
";

fn relationship(text: &str) -> Relationship {
    let (resource, rest) = text.split_once('#').unwrap();
    let (relation, subject) = rest.split_once('@').unwrap();
    Relationship {
        resource: ObjectRef::parse(resource).unwrap(),
        relation: Name::parse(relation).unwrap(),
        subject: SubjectRef::parse(subject).unwrap(),
        caveat: None,
        expires_at: None,
    }
}

fn caveated(at: usize) -> Relationship {
    let days = ["mon", "tue"].map(|day| Value::String(day.into()));
    let context = [
        ("hour".to_owned(), Value::Int(12)),
        ("place".to_owned(), Value::String("somewhere else".into())),
        ("days".to_owned(), Value::List(days.into())),
    ];
    Relationship {
        caveat: Some(CaveatRef {
            name: Name::parse("within").unwrap(),
            context: context.into(),
        }),
        ..relationship(&format!("document:d{}#viewer@user:u{at}", at / 4))
    }
}

fn expiring(at: usize) -> Relationship {
    Relationship {
        expires_at: Some(Timestamp(i64::MAX / 2)),
        ..relationship(&format!("document:d{}#viewer@user:u{at}", at / 4))
    }
}

async fn store(platform: &Platform, account: AccountId, all: &[Relationship]) -> VaultId {
    let id = platform.create_vault(account, "weighed").await.unwrap().id;
    let (vault, pass) = platform.enter(id, account).await.unwrap();
    let schema = SchemaWrite {
        text: SCHEMA.into(),
        format: Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap();
    for chunk in all.chunks(1_000) {
        let touch = chunk.to_vec();
        vault
            .write(WriteRequest {
                touch,
                ..WriteRequest::default()
            })
            .await
            .unwrap();
    }
    drop((vault, pass));
    platform.deactivate(id, Reach::Everything).await.unwrap();
    id
}

/// Activates a vault, waits until it is wholly resident, and asks so many checks.
async fn fill(platform: &Platform, account: AccountId, id: VaultId, checks: usize) {
    let (vault, _pass) = platform.enter(id, account).await.unwrap();
    let began = Instant::now();
    while !vault.stats().resident {
        assert!(began.elapsed() < Duration::from_secs(60), "never resident");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for at in 0..checks {
        let request = CheckRequest {
            subject: SubjectRef::parse(&format!("user:stranger-{at}")).unwrap(),
            // Of many resources: the cache is divided by them, and a part that is full would drop some.
            resource: ObjectRef::parse(&format!("document:d{}", at % 1_000)).unwrap(),
            permission: Name::parse("view").unwrap(),
            context: Arc::default(),
            contextual: Arc::default(),
            trace: false,
        };
        vault
            .check(&request, Consistency::MinimizeLatency, now())
            .await
            .unwrap();
    }
    vault.report_size();
}

fn in_use() -> usize {
    IN_USE.load(Ordering::Relaxed)
}

/// What is in use once it no longer changes: what was let go may be so on another thread, a moment later.
async fn settled() -> usize {
    let mut before = in_use();
    let mut calm = 0;
    while calm < 10 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let after = in_use();
        calm = if after.abs_diff(before) < 2_048 {
            calm + 1
        } else {
            0
        };
        before = after;
    }
    before
}

#[actix::test]
async fn what_vaults_are_charged_for_is_what_they_take() {
    let settings = Settings {
        memory_budget_bytes: 1 << 30,
        idle_timeout: None,
        ..Settings::default()
    };
    let metrics = prometheus::Registry::new();
    let platform = Platform::start(Backend::Memory, settings, &metrics)
        .await
        .unwrap();
    let account = platform.create_account("weights").await.unwrap().id;
    let all = |count: usize, one: &dyn Fn(usize) -> Relationship| (0..count).map(one).collect::<Vec<_>>();
    let uuid = "0190cafe-0000-7000-8000";
    // How many vaults, the relationships of each, and the checks asked of each.
    let cases: Vec<(&str, usize, Vec<Relationship>, usize)> = vec![
        ("nothing", 100, Vec::new(), 0),
        (
            "ten relationships, ten checks",
            100,
            all(10, &|at| {
                relationship(&format!("document:d{}#viewer@user:u{at}", at / 3))
            }),
            10,
        ),
        (
            "a row each",
            1,
            all(10_000, &|at| {
                relationship(&format!("document:d{at}#viewer@user:u{at}"))
            }),
            0,
        ),
        (
            "rows of five",
            1,
            all(10_000, &|at| {
                relationship(&format!("document:d{}#viewer@user:u{at}", at / 5))
            }),
            0,
        ),
        (
            "rows of fifty",
            1,
            all(10_000, &|at| {
                relationship(&format!("document:d{}#viewer@user:u{at}", at / 50))
            }),
            0,
        ),
        (
            "one wide row",
            1,
            all(10_000, &|at| {
                relationship(&format!("document:d#viewer@user:u{at:06}"))
            }),
            0,
        ),
        (
            "long ids",
            1,
            all(10_000, &|at| {
                relationship(&format!(
                    "document:{uuid}-{at:012}#owner@user:{uuid}-{:012}",
                    at / 2
                ))
            }),
            0,
        ),
        ("caveats", 1, all(4_000, &caveated), 0),
        ("expiries", 1, all(4_000, &expiring), 0),
        (
            "decisions",
            1,
            all(10, &|at| {
                relationship(&format!("document:d{at}#viewer@user:u{at}"))
            }),
            9_000,
        ),
    ];
    for (name, vaults, relationships, checks) in cases {
        let mut ids = Vec::new();
        for _ in 0..vaults {
            ids.push(store(&platform, account, &relationships).await);
        }
        drop(relationships);
        let before = settled().await;
        assert_eq!(platform.held_bytes(), 0, "{name}: nothing is active");
        for id in &ids {
            fill(&platform, account, *id, checks).await;
        }
        let taken = settled().await.saturating_sub(before);
        let held = platform.held_bytes();
        eprintln!(
            "{name}: {taken} bytes taken, {held} charged, {} each vault",
            taken / vaults
        );
        assert!(
            held.abs_diff(taken) <= taken / 5,
            "{name}: {taken} bytes taken, {held} charged"
        );
        for id in &ids {
            platform.deactivate(*id, Reach::Everything).await.unwrap();
        }
        let left = settled().await.saturating_sub(before);
        assert!(
            left <= taken / 10 + 8_192,
            "{name}: {left} of {taken} bytes are still taken"
        );
        for id in ids {
            platform.delete_vault(id, Reach::Everything).await.unwrap();
        }
    }
    platform.stop(Duration::from_secs(10)).await;
}
