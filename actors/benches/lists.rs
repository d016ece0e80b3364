//! What lists cost in a vault of a million relationships: the first page of 100 of a subject that stands under 500,000 resources, and
//! all of 10,000 subjects; plain, through groups, with an intersection and with an exclusion; in memory and from storage.
#![allow(missing_docs, reason = "a bench is no library")]
#![expect(clippy::unwrap_used, reason = "a bench may fail")]

#[path = "support/relationships.rs"]
mod relationships;
#[path = "support/stage.rs"]
mod stage;

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use inferadb_actors::{Consistency, ListRequest, Paging, ResourcesRequest, SubjectsRequest, Vault, now};
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};

use self::relationships::relationship;
use self::stage::{BUDGETS, Stage};

const SCHEMA: &str = "
definition user {}
definition group {
    relation member: user | group#member
}
definition document {
    relation viewer: user | group#member
    relation approver: user
    relation banned: user
    permission view = viewer
    permission publish = viewer & approver
    permission read = viewer - banned
}
";
const DOCUMENTS: usize = 500_000;
const SUBJECTS: usize = 10_000;

/// A million relationships: what `alice` and the groups of `bob` stand under, subjects of one document, and what nobody asks for.
fn stored() -> impl Iterator<Item = Relationship> {
    let granted = (0..DOCUMENTS).flat_map(|at| {
        let mut of_one = vec![format!("document:d{at:06}#viewer@user:alice")];
        if at % 100 == 0 {
            of_one.push(format!("document:d{at:06}#approver@user:alice"));
        }
        if at % 10 == 0 {
            of_one.push(format!("document:d{at:06}#banned@user:alice"));
            of_one.push(format!(
                "document:d{at:06}#viewer@group:g{}#member",
                at / 10 % 100
            ));
        }
        of_one
    });
    let groups = (0..100).map(|at| format!("group:g{at}#member@user:bob"));
    let subjects = (0..SUBJECTS).flat_map(|at| {
        let mut of_one = vec![format!("document:big#viewer@user:u{at:05}")];
        if at % 2 == 0 {
            of_one.push(format!("document:big#approver@user:u{at:05}"));
            of_one.push(format!("document:big#banned@user:u{at:05}"));
        }
        of_one
    });
    let others = (0..375_000).map(|at| format!("document:x{at:06}#viewer@user:v{at:06}"));
    let all = granted.chain(groups).chain(subjects).chain(others);
    all.map(|text| relationship(&text))
}

fn resources(subject: &str, permission: &str) -> ListRequest {
    ListRequest::Resources(ResourcesRequest {
        subject: SubjectRef::parse(subject).unwrap(),
        permission: Name::parse(permission).unwrap(),
        resource_type: Name::parse("document").unwrap(),
        context: Default::default(),
        contextual: Default::default(),
    })
}

fn subjects(permission: &str) -> ListRequest {
    ListRequest::Subjects(SubjectsRequest {
        resource: ObjectRef::parse("document:big").unwrap(),
        permission: Name::parse(permission).unwrap(),
        subject_type: Name::parse("user").unwrap(),
        subject_relation: None,
        context: Default::default(),
        contextual: Default::default(),
    })
}

async fn list(vault: &Vault, request: &ListRequest, limit: usize) -> usize {
    let paging = Paging {
        limit,
        cursor: None,
        consistency: Consistency::MinimizeLatency,
        now: now(),
    };
    vault.list(request, &paging).await.unwrap().items.len()
}

fn lists(criterion: &mut Criterion) {
    let system = actix::System::new();
    for (how, memory_budget_bytes) in BUDGETS {
        let stage = system.block_on(Stage::new(memory_budget_bytes, SCHEMA, stored()));
        let vault = &*stage.vault;
        let stats = vault.stats();
        eprintln!(
            "{} relationships, resident: {}",
            stats.relationships, stats.resident
        );
        for (name, request, limit, expected) in [
            ("first_page_direct", resources("user:alice", "view"), 100, 100),
            (
                "first_page_through_100_groups",
                resources("user:bob", "view"),
                100,
                100,
            ),
            (
                "first_page_intersection",
                resources("user:alice", "publish"),
                100,
                100,
            ),
            ("first_page_exclusion", resources("user:alice", "read"), 100, 100),
            ("subjects", subjects("view"), SUBJECTS, SUBJECTS),
            (
                "subjects_intersection",
                subjects("publish"),
                SUBJECTS,
                SUBJECTS / 2,
            ),
            ("subjects_exclusion", subjects("read"), SUBJECTS, SUBJECTS / 2),
        ] {
            let ask = || system.block_on(list(vault, &request, limit));
            assert_eq!(ask(), expected, "{name}");
            criterion.bench_function(&format!("{how}/{name}"), |bencher| bencher.iter(ask));
        }
        system.block_on(stage.stop());
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_millis(500));
    targets = lists
}
criterion_main!(benches);
