//! Lists and expansions of vaults that are made to be hard: very wide, very deep, all in vain, written under, gone.
//!
//! `WIDE=n` sets how wide.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inferadb_actors::{
    CheckRequest, Consistency, ExpandRequest, Limits, ListRequest, Paging, Pass, Reach, ResourcesRequest,
    SchemaWrite, Settings, SimulateRequest, SubjectsRequest, Vault, VaultError, VaultId, WriteRequest, now,
};
use inferadb_engine::context::Value;
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{CaveatRef, Name, ObjectRef, Relationship, SubjectRef};
use inferadb_engine::schema::Format;

use support::{Fault, Stage, relationship};

const SCHEMA: &str = "
use expiration
definition user {}
definition group {
  relation member: user | group#member
}
definition folder {
  relation parent: folder
  relation reader: user
  permission read = reader + parent->read
}
definition document {
  relation reader: user | group#member | user:*
  relation banned: user
  relation parent: folder
  permission read = reader - banned
  permission both = reader & banned
  permission up = parent->read
}
";

fn wide() -> usize {
    let given = std::env::var("WIDE").ok().and_then(|text| text.parse().ok());
    given.unwrap_or(1_500)
}

async fn vault_of(stage: &Stage, schema: &str) -> (VaultId, Arc<Vault>, Pass) {
    let id = stage.vault().await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let schema = SchemaWrite {
        text: schema.into(),
        format: Format::Native,
        force: true,
    };
    vault.put_schema(schema).await.unwrap();
    (id, vault, pass)
}

async fn write(vault: &Vault, texts: impl Iterator<Item = String>) {
    let touch: Vec<_> = texts.map(|text| relationship(&text)).collect();
    for touch in touch.chunks(1_000) {
        let request = WriteRequest {
            touch: touch.to_vec(),
            ..WriteRequest::default()
        };
        vault.write(request).await.unwrap();
    }
}

fn resources(subject: &str, permission: &str, of: &str) -> ListRequest {
    ListRequest::Resources(ResourcesRequest {
        subject: SubjectRef::parse(subject).unwrap(),
        permission: Name::parse(permission).unwrap(),
        resource_type: Name::parse(of).unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
    })
}

fn subjects(resource: &str, permission: &str, of: &str) -> ListRequest {
    ListRequest::Subjects(SubjectsRequest {
        resource: ObjectRef::parse(resource).unwrap(),
        permission: Name::parse(permission).unwrap(),
        subject_type: Name::parse(of).unwrap(),
        subject_relation: None,
        context: Arc::default(),
        contextual: Arc::default(),
    })
}

fn paging(limit: usize, cursor: Option<String>) -> Paging {
    Paging {
        limit,
        cursor,
        consistency: Consistency::FullyConsistent,
        now: now(),
    }
}

fn settings(memory_budget_bytes: usize) -> Settings {
    Settings {
        memory_budget_bytes,
        ..Settings::default()
    }
}

/// How many entries a list has in all, the longest that a page took, and how many pages there were.
async fn count(vault: &Vault, list: &ListRequest, limit: usize, most: usize) -> (usize, Duration, usize) {
    let (mut found, mut cursor, mut longest, mut pages) = (0, None, Duration::ZERO, 0);
    loop {
        let started = Instant::now();
        let page = vault.list(list, &paging(limit, cursor)).await.unwrap();
        longest = longest.max(started.elapsed());
        pages += 1;
        found += page.items.len();
        cursor = page.cursor;
        if cursor.is_none() || pages == most {
            return (found, longest, pages);
        }
    }
}

#[actix::test]
async fn a_subject_in_very_many_groups() {
    for budget in [0, 64 << 20] {
        let stage = Stage::new(settings(budget)).await;
        let (_, vault, _pass) = vault_of(&stage, SCHEMA).await;
        let wide = wide();
        write(
            &vault,
            (0..wide).map(|at| format!("group:g{at:06}#member@user:ann")),
        )
        .await;
        write(
            &vault,
            (0..wide).map(|at| format!("document:d{at:06}#reader@group:g{at:06}#member")),
        )
        .await;
        let list = resources("user:ann", "read", "document");
        let (found, longest, pages) = count(&vault, &list, 1_000, usize::MAX).await;
        eprintln!("{wide} groups, budget {budget}: {found} in {pages} pages, at most {longest:?}");
        assert_eq!(found, wide);
        let (found, longest, _) = count(&vault, &list, 1, 3).await;
        eprintln!("  of one: {found}, at most {longest:?}");
        assert_eq!(found, 3);
    }
}

#[actix::test]
async fn a_wildcard_with_very_many_exclusions() {
    for budget in [0, 64 << 20] {
        let stage = Stage::new(settings(budget)).await;
        let (_, vault, _pass) = vault_of(&stage, SCHEMA).await;
        let wide = wide();
        write(&vault, std::iter::once("document:d#reader@user:*".into())).await;
        write(
            &vault,
            (0..wide).map(|at| format!("document:d#banned@user:u{at:06}")),
        )
        .await;
        let started = Instant::now();
        let list = subjects("document:d", "read", "user");
        let page = vault.list(&list, &paging(1, None)).await;
        eprintln!("{wide} exclusions, budget {budget}: {:?}", started.elapsed());
        match page {
            Ok(page) => {
                assert_eq!(page.items.len(), 1);
                assert_eq!(
                    page.items.iter().map(|item| item.excluded.len()).sum::<usize>(),
                    wide
                );
                assert!(page.cursor.is_none());
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[actix::test]
async fn a_list_of_candidates_that_are_all_denied() {
    for budget in [0, 64 << 20] {
        let stage = Stage::new(settings(budget)).await;
        let (_, vault, _pass) = vault_of(&stage, SCHEMA).await;
        let wide = wide();
        write(
            &vault,
            (0..wide).map(|at| format!("document:d{at:06}#reader@user:ann")),
        )
        .await;
        write(
            &vault,
            (0..wide).map(|at| format!("document:d{at:06}#banned@user:ann")),
        )
        .await;
        write(&vault, std::iter::once("document:z#reader@user:ann".into())).await;
        let list = resources("user:ann", "read", "document");
        let (found, longest, pages) = count(&vault, &list, 1, usize::MAX).await;
        eprintln!("{wide} denied, budget {budget}: {found} in {pages} pages, at most {longest:?}");
        assert_eq!(found, 1);
    }
}

#[actix::test]
async fn a_very_deep_chain() {
    for budget in [0, 64 << 20] {
        let stage = Stage::new(settings(budget)).await;
        let (_, vault, _pass) = vault_of(&stage, SCHEMA).await;
        let deep = wide();
        write(
            &vault,
            (1..deep).map(|at| format!("folder:f{at:06}#parent@folder:f{:06}", at - 1)),
        )
        .await;
        write(&vault, std::iter::once("folder:f000000#reader@user:ann".into())).await;
        let started = Instant::now();
        let list = resources("user:ann", "read", "folder");
        let (found, longest, _) = count(&vault, &list, 1_000, usize::MAX).await;
        eprintln!(
            "{deep} deep, budget {budget}: {found} in {:?}, {longest:?} a page",
            started.elapsed()
        );
        assert_eq!(found, deep);
        let last = format!("folder:f{:06}", deep - 1);
        let list = subjects(&last, "read", "user");
        let started = Instant::now();
        let (found, ..) = count(&vault, &list, 1, usize::MAX).await;
        eprintln!("  subjects of the last: {found} in {:?}", started.elapsed());
        assert_eq!(found, 1);
        let expand = ExpandRequest {
            resource: ObjectRef::parse(&last).unwrap(),
            permission: Name::parse("read").unwrap(),
            max_depth: u32::MAX,
            contextual: Arc::default(),
        };
        let expanded = vault
            .expand(&expand, Consistency::default(), now())
            .await
            .unwrap();
        assert!(expanded.tree.truncated);
    }
}

/// How often others get their turn while something goes on.
async fn turns<T>(work: impl Future<Output = T>) -> (usize, T) {
    let mut turns = 0;
    let others = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    let done = tokio::select! {
        done = work => done,
        () = others => unreachable!("it has no end"),
    };
    (turns, done)
}

/// Otherwise a deadline would be looked at only when all is done.
#[actix::test]
async fn others_get_their_turn_though_storage_answers_at_once() {
    // Turns as short as they can be.
    let stage = Stage::new(Settings {
        turn: Duration::ZERO,
        ..settings(0)
    })
    .await;
    let (_, vault, _pass) = vault_of(&stage, SCHEMA).await;
    write(
        &vault,
        (1..1_000).map(|at| format!("folder:f{at:06}#parent@folder:f{:06}", at - 1)),
    )
    .await;
    write(&vault, std::iter::once("folder:f000000#reader@user:ann".into())).await;
    write(
        &vault,
        (0..1_000).map(|at| format!("document:d{at:06}#reader@user:ann")),
    )
    .await;
    write(
        &vault,
        (0..1_000).map(|at| format!("document:d{at:06}#banned@user:ann")),
    )
    .await;
    // What the work alone comes to: turns while storage is waited for come on top.
    for (list, least) in [
        (resources("user:ann", "read", "folder"), 50),
        (subjects("folder:f000999", "read", "user"), 100),
        (resources("user:ann", "read", "document"), 10),
    ] {
        let (turns, page) = turns(vault.list(&list, &paging(1, None))).await;
        assert!(turns >= least, "{turns} turns for {list:?}: {page:?}");
    }
    let expand = ExpandRequest {
        resource: ObjectRef::parse("folder:f000999").unwrap(),
        permission: Name::parse("read").unwrap(),
        max_depth: u32::MAX,
        contextual: Arc::default(),
    };
    let (held, expanded) = turns(vault.expand(&expand, Consistency::default(), now())).await;
    assert!(held >= 15, "{held} turns: {:?}", expanded.is_ok());
    let check = CheckRequest {
        subject: SubjectRef::parse("user:ann").unwrap(),
        resource: ObjectRef::parse("folder:f000095").unwrap(),
        permission: Name::parse("read").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    };
    let (held, answer) = turns(vault.check(&check, Consistency::default(), now())).await;
    assert!(held >= 5, "{held} turns: {answer:?}");
}

#[actix::test]
async fn a_state_that_storage_keeps_no_longer_makes_lists_and_trees_start_again() {
    let stage = Stage::new(settings(0)).await;
    let (id, vault, _pass) = vault_of(&stage, SCHEMA).await;
    let names = ["ann", "bob", "cat"];
    write(
        &vault,
        names.iter().map(|name| format!("document:d#reader@user:{name}")),
    )
    .await;
    write(
        &vault,
        ["a", "b", "c"]
            .iter()
            .map(|at| format!("document:{at}#reader@user:ann")),
    )
    .await;
    let check = CheckRequest {
        subject: SubjectRef::parse("user:ann").unwrap(),
        resource: ObjectRef::parse("document:d").unwrap(),
        permission: Name::parse("read").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    };
    let expand = ExpandRequest {
        resource: check.resource.clone(),
        permission: check.permission.clone(),
        max_depth: 10,
        contextual: Arc::default(),
    };
    let lists = [
        (resources("user:ann", "read", "document"), 4),
        (subjects("document:d", "read", "user"), 3),
    ];
    for times in 1..=4 {
        for (list, expected) in &lists {
            stage.switch.arm(Some(id), Fault::RowsTooOld, times);
            let page = vault.list(list, &paging(10, None)).await.unwrap();
            assert_eq!(page.items.len(), *expected);
            stage.switch.arm(Some(id), Fault::RowsTooOld, times);
            let mut found = 0;
            let take = async |page: inferadb_actors::ListPage| {
                found += page.items.len();
                Some(10)
            };
            vault.list_each(list, &paging(10, None), take).await.unwrap();
            assert_eq!(found, *expected);
        }
        stage.switch.arm(Some(id), Fault::RowsTooOld, times);
        let expanded = vault
            .expand(&expand, Consistency::default(), now())
            .await
            .unwrap();
        assert!(!expanded.tree.truncated);
        stage.switch.arm(Some(id), Fault::RowsTooOld, times);
        let request = SimulateRequest {
            schema: Some(SCHEMA.into()),
            checks: vec![check.clone()],
            ..SimulateRequest::default()
        };
        let simulated = vault
            .simulate(request, Consistency::default(), now())
            .await
            .unwrap();
        for result in &simulated.results {
            assert_eq!(*result.before.as_ref().unwrap(), Decision::Allow);
            assert_eq!(*result.after.as_ref().unwrap(), Decision::Allow);
        }
    }
    // Where no state is kept for long enough there is an answer all the same, and it is no list.
    stage.switch.arm(Some(id), Fault::RowsTooOld, usize::MAX);
    for (list, _) in &lists {
        let found = vault.list(list, &paging(10, None)).await;
        assert!(matches!(found, Err(VaultError::Overloaded(_))), "{found:?}");
    }
    let expanded = vault.expand(&expand, Consistency::default(), now()).await;
    assert!(matches!(expanded, Err(VaultError::Overloaded(_))));
}

#[actix::test]
async fn a_failure_in_the_middle_of_a_stream_is_told() {
    let stage = Stage::new(settings(0)).await;
    let (id, vault, _pass) = vault_of(&stage, SCHEMA).await;
    write(
        &vault,
        (0..3_000).map(|at| format!("document:d{at:06}#reader@user:ann")),
    )
    .await;
    let list = resources("user:ann", "read", "document");
    for (fault, is_error) in [(Fault::Away, true), (Fault::RowsTooOld, false)] {
        let (mut found, mut cursor) = (0, None);
        let take = async |page: inferadb_actors::ListPage| {
            found += page.items.len();
            cursor = page.cursor;
            stage.switch.arm(Some(id), fault.clone(), usize::MAX);
            Some(1_000)
        };
        let streamed = vault.list_each(&list, &paging(1_000, None), take).await;
        assert_eq!(streamed.is_err(), is_error, "{streamed:?}");
        assert!(found < 3_000);
        assert!(cursor.is_some(), "it was not the end");
        stage.switch.disarm();
        let mut rest = 0;
        while let Some(next) = cursor {
            let page = vault.list(&list, &paging(1_000, Some(next))).await.unwrap();
            rest += page.items.len();
            cursor = page.cursor;
        }
        assert_eq!(found + rest, 3_000, "nothing is lost and nothing repeated");
    }
}

#[actix::test]
async fn a_vault_that_is_deleted_ends_its_streams() {
    let stage = Stage::new(settings(0)).await;
    let (id, vault, pass) = vault_of(&stage, SCHEMA).await;
    write(
        &vault,
        (0..3_000).map(|at| format!("document:d{at:06}#reader@user:ann")),
    )
    .await;
    let (_, neighbour, _kept) = vault_of(&stage, SCHEMA).await;
    write(
        &neighbour,
        std::iter::once("document:other#reader@user:ann".into()),
    )
    .await;
    let list = resources("user:ann", "read", "document");
    let platform = stage.platform.clone();
    let mut pass = Some(pass);
    let (mut found, mut cut) = (0, None);
    let take = async |page: inferadb_actors::ListPage| {
        found += page.items.len();
        cut = cut.take().or(page.cursor);
        if pass.take().is_some() {
            let deleted = tokio::time::timeout(
                Duration::from_secs(60),
                platform.delete_vault(id, Reach::Everything),
            );
            deleted.await.unwrap().unwrap();
        }
        Some(1_000)
    };
    let streamed = vault.list_each(&list, &paging(1_000, None), take).await;
    eprintln!("deleted under a stream: {found}, {streamed:?}");
    assert!(
        streamed.is_err() || found == 3_000,
        "a list that is shorter than it says"
    );
    let refused = vault.list(&list, &paging(10, None)).await;
    assert!(refused.is_err(), "{refused:?}");
    // Nobody goes on with it in another vault.
    let foreign = neighbour.list(&list, &paging(10, cut)).await;
    let code = matches!(&foreign, Err(VaultError::Invalid { code, .. }) if *code == "invalid_cursor");
    assert!(code, "{foreign:?}");
    let page = neighbour.list(&list, &paging(1, None)).await.unwrap();
    assert_eq!((page.items.len(), page.cursor), (1, None));
}

const HEAVY: &str = "
caveat is(texts list<string>) { 'in' in texts }
definition user {}
definition group {
  relation member: user
}
definition folder {
  relation reader: group#member | group#member with is
  permission read = reader
}
definition document {
  relation parent: folder
  relation reader: user with is
  permission read = parent->read
}
";

/// A relationship under a caveat that holds, whose context is of so many bytes.
fn heavy(text: &str, bytes: usize) -> Relationship {
    let texts = ["in".to_owned(), "x".repeat(bytes)].map(Value::String);
    let context = [("texts".to_owned(), Value::List(texts.into()))];
    Relationship {
        caveat: Some(CaveatRef {
            name: Name::parse("is").unwrap(),
            context: context.into(),
        }),
        ..relationship(text)
    }
}

async fn touch(vault: &Vault, some: Vec<Relationship>) -> Result<(), VaultError> {
    let request = WriteRequest {
        touch: some,
        ..WriteRequest::default()
    };
    vault.write(request).await.map(drop)
}

fn may_read(resource: &str) -> CheckRequest {
    CheckRequest {
        subject: SubjectRef::parse("user:ann").unwrap(),
        resource: ObjectRef::parse(resource).unwrap(),
        permission: Name::parse("read").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    }
}

/// What a check holds of large contexts is bounded: it reads some of what it demands, goes on, and reads the rest; one row of too
/// much is over the limit.
#[actix::test]
async fn a_check_of_rows_with_large_contexts_reads_a_bounded_part_at_a_time() {
    let stage = Stage::new(settings(1 << 20)).await;
    let (_, vault, _pass) = vault_of(&stage, HEAVY).await;
    for folder in 0..10 {
        let some = (0..30).map(|at| {
            heavy(
                &format!("folder:f{folder}#reader@group:g{folder}-{at}#member"),
                80_000,
            )
        });
        touch(&vault, some.collect()).await.unwrap();
        write(
            &vault,
            std::iter::once(format!("document:d#parent@folder:f{folder}")),
        )
        .await;
    }
    let check = may_read("document:d");
    let asked = vault.check(&check, Consistency::default(), now()).await.unwrap();
    assert_eq!(asked.decision, Decision::Deny);
    write(&vault, std::iter::once("group:g7-29#member@user:ann".to_owned())).await;
    let asked = vault.check(&check, Consistency::default(), now()).await.unwrap();
    assert_eq!(asked.decision, Decision::Allow);
    for chunk in 0..8 {
        let some = (0..30).map(|at| heavy(&format!("folder:all#reader@group:h{chunk}-{at}#member"), 80_000));
        touch(&vault, some.collect()).await.unwrap();
    }
    let refused = vault
        .check(&may_read("folder:all"), Consistency::default(), now())
        .await;
    assert!(matches!(refused, Err(VaultError::Evaluation(_))), "{refused:?}");
}

/// Writes that wait are bounded by what they weigh, and not by their number alone.
#[actix::test]
async fn writes_that_wait_are_bounded_in_bytes() {
    let stage = Stage::new(Settings::default()).await;
    let (id, vault, _pass) = vault_of(&stage, HEAVY).await;
    let large = |to: &str| -> Vec<Relationship> {
        (0..900)
            .map(|at| heavy(&format!("document:d{at}#reader@user:{to}"), 80_000))
            .collect()
    };
    let (free, held) = tokio::sync::watch::channel(true);
    stage.switch.arm(Some(id), Fault::HoldActors(held), usize::MAX);
    let first = actix::spawn({
        let (vault, some) = (Arc::clone(&vault), large("ann"));
        async move { touch(&vault, some).await }
    });
    while stage.switch.met() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let second = touch(&vault, large("ben")).await;
    assert!(
        matches!(
            second,
            Err(VaultError::RateLimited {
                limit: "mailbox_capacity",
                ..
            })
        ),
        "{second:?}"
    );
    free.send_replace(false);
    stage.switch.disarm();
    // It is more than one transaction takes.
    assert!(first.await.unwrap().is_err());
    touch(&vault, vec![heavy("document:d#reader@user:ann", 80_000)])
        .await
        .unwrap();
}

/// A row that may be resident can be read: where it lies makes no difference.
#[actix::test]
async fn rows_with_large_contexts_answer_alike_from_memory_and_from_storage() {
    let stage = Stage::over(Settings::default(), true).await;
    let (id, vault, _pass) = vault_of(&stage, HEAVY).await;
    for chunk in 0..8 {
        let some = (0..30).map(|at| heavy(&format!("folder:all#reader@group:h{chunk}-{at}#member"), 80_000));
        touch(&vault, some.collect()).await.unwrap();
    }
    // The same vault at a server that has no room for its rows.
    let crowded = stage.neighbour(Settings {
        total_memory_bytes: 8 << 20,
        ..Settings::default()
    });
    let crowded = crowded.await;
    let (elsewhere, _pass_elsewhere) = crowded.enter(id, stage.account).await.unwrap();
    let (check, fresh) = (may_read("folder:all"), Consistency::FullyConsistent);
    let question = ExpandRequest {
        resource: ObjectRef::parse("folder:all").unwrap(),
        permission: Name::parse("read").unwrap(),
        max_depth: 5,
        contextual: Arc::default(),
    };
    for expected in [Decision::Deny, Decision::Allow] {
        let mut trees = Vec::new();
        for vault in [&vault, &elsewhere] {
            assert_eq!(
                vault.check(&check, fresh, now()).await.unwrap().decision,
                expected
            );
            let expanded = vault.expand(&question, fresh, now()).await.unwrap();
            assert!(!expanded.tree.truncated);
            trees.push(expanded.tree);
        }
        assert!(trees.first() == trees.last());
        assert!(vault.stats().resident && !elsewhere.stats().resident);
        write(&vault, std::iter::once("group:h7-29#member@user:ann".to_owned())).await;
    }
}

/// A row of more entries than a check may visit fails it only where nothing else decides.
#[actix::test]
async fn a_row_that_is_too_wide_does_not_hide_what_grants() {
    const CROWD: &str = "
definition user {}
definition group {
  relation member: user
}
definition folder {
  relation reader: group#member
}
definition document {
  relation crowd: group#member
  relation parent: folder
  permission read = crowd + parent->reader
}
";
    let stage = Stage::new(Settings {
        limits: Limits {
            max_work: 1_000,
            ..Limits::default()
        },
        ..settings(0)
    })
    .await;
    let (_, vault, _pass) = vault_of(&stage, CROWD).await;
    let crowd = (0..1_500).map(|at| format!("document:d#crowd@group:g{at}#member"));
    write(&vault, crowd).await;
    let check = may_read("document:d");
    let refused = vault.check(&check, Consistency::default(), now()).await;
    assert!(matches!(refused, Err(VaultError::Evaluation(_))), "{refused:?}");
    let grants = [
        "document:d#parent@folder:f",
        "folder:f#reader@group:few#member",
        "group:few#member@user:ann",
    ];
    write(&vault, grants.iter().map(|text| (*text).to_owned())).await;
    let asked = vault.check(&check, Consistency::default(), now()).await.unwrap();
    assert_eq!(asked.decision, Decision::Allow);
}
