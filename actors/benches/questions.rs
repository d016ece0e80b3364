//! What a vault's other questions cost: checks that depend on the request's context, expansions, and lists that much is looked
//! at for: candidates that are denied, groups that lead to them. In memory and from storage.
#![allow(missing_docs, reason = "a bench is no library")]
#![expect(clippy::unwrap_used, reason = "a bench may fail")]

#[path = "support/relationships.rs"]
mod relationships;
#[path = "support/stage.rs"]
mod stage;

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use inferadb_actors::{
    CheckRequest, Consistency, ExpandRequest, ListRequest, Paging, ResourcesRequest, Vault, now,
};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{CaveatRef, Name, ObjectRef, Relationship, SubjectRef};

use self::relationships::relationship;
use self::stage::{BUDGETS, Stage};

const SCHEMA: &str = "
caveat office(hour int, address ipaddress, networks list<string>) {
    hour >= 9 && hour < 17 && networks.exists(network, address.in_cidr(network))
}
definition user {}
definition group {
    relation member: user | group#member
}
definition document {
    relation viewer: user | group#member | user with office
    relation banned: user
    permission view = viewer
    permission read = viewer - banned
}
";
/// How many documents each of the banned ones was given, and is banned from.
const DENIED: [usize; 3] = [3_000, 10_000, 30_000];
/// How many groups each of the joiners is in; a document stands above each of them.
const JOINED: [usize; 2] = [2_000, 20_000];
/// How many groups stand under one document, and how many members each has.
const GROUPS: (usize, usize) = (20, 20);
const WIDE: usize = 5_000;

fn stored() -> Vec<Relationship> {
    let mut texts = Vec::new();
    for of in DENIED {
        for at in 0..of {
            texts.push(format!("document:n{of}-{at:06}#viewer@user:denied{of}"));
            texts.push(format!("document:n{of}-{at:06}#banned@user:denied{of}"));
        }
    }
    for of in JOINED {
        for at in 0..of {
            texts.push(format!("group:j{of}-{at}#member@user:joiner{of}"));
            texts.push(format!("document:j{of}-{at:06}#viewer@group:j{of}-{at}#member"));
        }
    }
    for group in 0..GROUPS.0 {
        texts.push(format!("document:grouped#viewer@group:g{group}#member"));
        texts.extend((0..GROUPS.1).map(|at| format!("group:g{group}#member@user:m{group}-{at}")));
    }
    texts.extend((0..WIDE).map(|at| format!("document:wide#viewer@user:w{at}")));
    texts.push("document:plain#viewer@user:ann".to_owned());
    let mut all: Vec<Relationship> = texts.iter().map(|text| relationship(text)).collect();
    let networks = ["192.0.2.0/24", "198.51.100.0/24", "10.0.0.0/8"].map(|text| Value::String(text.into()));
    all.push(Relationship {
        caveat: Some(CaveatRef {
            name: Name::parse("office").unwrap(),
            context: Context::from([("networks".to_owned(), Value::List(networks.into()))]),
        }),
        ..relationship("document:caveated#viewer@user:ann")
    });
    all
}

fn check(document: &str, context: &[(&str, Value)]) -> CheckRequest {
    let context = context
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()));
    CheckRequest {
        subject: SubjectRef::parse("user:ann").unwrap(),
        resource: ObjectRef::parse(document).unwrap(),
        permission: Name::parse("view").unwrap(),
        context: Arc::new(context.collect()),
        contextual: Default::default(),
        trace: false,
    }
}

fn questions(criterion: &mut Criterion) {
    let system = actix::System::new();
    for (how, memory_budget_bytes) in BUDGETS {
        let stage = system.block_on(Stage::new(memory_budget_bytes, SCHEMA, stored().into_iter()));
        let vault = &*stage.vault;
        checks(criterion, how, &system, vault);
        expansions(criterion, how, &system, vault);
        lists(criterion, how, &system, vault);
        whole_lists(criterion, how, &system, vault);
        system.block_on(stage.stop());
    }
}

fn checks(criterion: &mut Criterion, how: &str, system: &actix::SystemRunner, vault: &Vault) {
    let address = |text: &str| ("address", Value::String(text.into()));
    let hour = ("hour", Value::Int(10));
    let conditional = Decision::Conditional {
        missing: vec!["address".to_owned()],
    };
    for (name, request, expected) in [
        // The decision cache answers this one, and none of the others.
        ("check_cached", check("document:plain", &[]), Decision::Allow),
        (
            "check_caveat_allow",
            check("document:caveated", &[hour.clone(), address("10.1.2.3")]),
            Decision::Allow,
        ),
        (
            "check_caveat_deny",
            check(
                "document:caveated",
                &[("hour", Value::Int(8)), address("10.1.2.3")],
            ),
            Decision::Deny,
        ),
        (
            "check_caveat_conditional",
            check("document:caveated", &[hour]),
            conditional,
        ),
    ] {
        let ask = || {
            let answer = vault.check(&request, Consistency::MinimizeLatency, now());
            system.block_on(answer).unwrap().decision
        };
        assert_eq!(ask(), expected, "{name}");
        criterion.bench_function(&format!("{how}/{name}"), |bencher| bencher.iter(ask));
    }
}

fn expansions(criterion: &mut Criterion, how: &str, system: &actix::SystemRunner, vault: &Vault) {
    for (name, document) in [
        ("expand_20_groups_of_20", "document:grouped"),
        ("expand_5000_subjects", "document:wide"),
    ] {
        let request = ExpandRequest {
            resource: ObjectRef::parse(document).unwrap(),
            permission: Name::parse("view").unwrap(),
            max_depth: 10,
            contextual: Default::default(),
        };
        let ask = || {
            let tree = vault.expand(&request, Consistency::MinimizeLatency, now());
            system.block_on(tree).unwrap().tree.len()
        };
        assert!(ask() > 20, "{name}");
        criterion.bench_function(&format!("{how}/{name}"), |bencher| bencher.iter(ask));
    }
}

fn lists(criterion: &mut Criterion, how: &str, system: &actix::SystemRunner, vault: &Vault) {
    let denied = DENIED.map(|of| (format!("list_of_{of}_denied"), format!("denied{of}"), "read", 0));
    let joined = JOINED.map(|of| {
        (
            format!("list_through_{of}_groups"),
            format!("joiner{of}"),
            "view",
            100,
        )
    });
    for (name, user, permission, expected) in denied.into_iter().chain(joined) {
        let request = ListRequest::Resources(ResourcesRequest {
            subject: SubjectRef::parse(&format!("user:{user}")).unwrap(),
            permission: Name::parse(permission).unwrap(),
            resource_type: Name::parse("document").unwrap(),
            context: Default::default(),
            contextual: Default::default(),
        });
        let ask = || {
            let paging = Paging {
                limit: 100,
                cursor: None,
                consistency: Consistency::MinimizeLatency,
                now: now(),
            };
            let page = system.block_on(vault.list(&request, &paging)).unwrap();
            (page.items.len(), page.cursor.is_some())
        };
        assert_eq!(ask(), (expected, expected > 0), "{name}");
        criterion.bench_function(&format!("{how}/{name}"), |bencher| bencher.iter(ask));
    }
}

/// All of a list: as one stream, and in pages of 100, each of which explores anew what leads to the answers.
fn whole_lists(criterion: &mut Criterion, how: &str, system: &actix::SystemRunner, vault: &Vault) {
    for (what, user, expected) in [
        ("10000_direct".to_owned(), "denied10000".to_owned(), 10_000),
        (
            format!("2000_through_{}_groups", JOINED[0]),
            format!("joiner{}", JOINED[0]),
            2_000,
        ),
    ] {
        let request = ListRequest::Resources(ResourcesRequest {
            subject: SubjectRef::parse(&format!("user:{user}")).unwrap(),
            permission: Name::parse("view").unwrap(),
            resource_type: Name::parse("document").unwrap(),
            context: Default::default(),
            contextual: Default::default(),
        });
        let paging = |cursor| Paging {
            limit: 100,
            cursor,
            consistency: Consistency::MinimizeLatency,
            now: now(),
        };
        let in_pages = || {
            system.block_on(async {
                let (mut found, mut cursor) = (0, None);
                loop {
                    let page = vault.list(&request, &paging(cursor)).await.unwrap();
                    found += page.items.len();
                    cursor = page.cursor;
                    if cursor.is_none() {
                        return found;
                    }
                }
            })
        };
        let as_stream = || {
            let mut found = 0;
            let take = async |page: inferadb_actors::ListPage| {
                found += page.items.len();
                Some(100)
            };
            system
                .block_on(vault.list_each(&request, &paging(None), take))
                .unwrap();
            found
        };
        assert_eq!((in_pages(), as_stream()), (expected, expected), "{what}");
        criterion.bench_function(&format!("{how}/all_{what}_in_pages"), |bencher| {
            bencher.iter(in_pages)
        });
        criterion.bench_function(&format!("{how}/all_{what}_as_stream"), |bencher| {
            bencher.iter(as_stream)
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(200));
    targets = questions
}
criterion_main!(benches);
