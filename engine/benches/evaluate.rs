//! What checks cost in the engine alone, all rows at hand and nothing cached.
#![allow(missing_docs, reason = "a bench is no library")]
#![expect(clippy::panic, reason = "a bench may fail")]

#[path = "../tests/evaluate_support/mod.rs"]
mod evaluate_support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use evaluate_support::{NOW, Vault};
use inferadb_engine::context::Value;
use inferadb_engine::evaluate::{Check, Decision, Evaluation, Step};
use inferadb_engine::expand::{ExpandLimits, ExpandStep, Expansion};
use inferadb_engine::noun::{ObjectId, Timestamp};
use inferadb_engine::row::{Entry, Row};

const SCHEMA: &str = "
    definition user {}
    definition group {
        relation member: user | group#member
    }
    definition folder {
        relation parent: folder
        relation owner: user
        relation viewer: user | group#member
        permission edit = owner + parent->edit
        permission view = viewer + edit + parent->view
    }
    definition document {
        relation parent: folder
        relation owner: user
        relation viewer: user | group#member
        permission edit = owner + parent->edit
        permission view = viewer + edit + parent->view
    }";

/// A document in nested folders, the innermost being `folder:1`; each folder has two groups as viewers.
fn nested(depth: usize) -> String {
    let mut text = String::from("document:1#parent@folder:1\ndocument:1#owner@user:owner\n");
    for at in 1..=depth {
        if at < depth {
            text += &format!("folder:{at}#parent@folder:{}\n", at + 1);
        }
        text += &format!("folder:{at}#owner@user:owner{at}\n");
        text += &format!("folder:{at}#viewer@group:a{at}#member\nfolder:{at}#viewer@group:b{at}#member\n");
        text += &format!("group:a{at}#member@user:a{at}\ngroup:b{at}#member@user:b{at}\n");
    }
    text
}

fn decide(vault: &Vault, check: &Check) -> Decision {
    let check = check.clone();
    let mut evaluation = Evaluation::new(&vault.schema, check, &vault.context, Timestamp(NOW), vault.limits);
    loop {
        match evaluation.step(&vault.rows) {
            Ok(Step::Done(verdict)) => return verdict.decision,
            Ok(Step::Yield) => {}
            other => panic!("{other:?}"),
        }
    }
}

fn bench(criterion: &mut Criterion, name: &str, vault: &Vault, check: &str, expected: &Decision) {
    let check = vault.check(check);
    assert_eq!(decide(vault, &check), *expected, "{name}");
    criterion.bench_function(name, |bencher| bencher.iter(|| decide(vault, black_box(&check))));
}

/// A check of a relationship under a caveat, and the same as it depends on what the request says.
fn caveated(criterion: &mut Criterion) {
    let schema = "
        caveat office(hour int, address ipaddress, networks list<string>, office bool) {
            office || (hour >= 9 && hour < 17 && networks.exists(network, address.in_cidr(network)))
        }
        definition user {}
        definition document {
            relation viewer: user with office
            permission view = viewer
        }";
    let networks = ["192.0.2.0/24", "198.51.100.0/24", "10.0.0.0/8"].map(|text| Value::String(text.into()));
    let given = [
        ("networks", Value::List(networks.into())),
        ("office", Value::Bool(false)),
        ("address", Value::String("10.1.2.3".into())),
        ("hour", Value::Int(10)),
    ];
    let missing = vec!["hour".to_owned()];
    for (name, taken, expected) in [
        ("caveat_allowed", 4, Decision::Allow),
        ("caveat_conditional", 3, Decision::Conditional { missing }),
    ] {
        let mut vault = Vault::new(schema, "document:1#viewer@user:ann if office");
        let given = given.iter().take(taken);
        vault.context = given
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        bench(criterion, name, &vault, "document:1#view@user:ann", &expected);
    }
}

/// The whole tree beneath a permission.
fn expanded(criterion: &mut Criterion, name: &str, vault: &Vault, check: &str) {
    let check = vault.check(check);
    let limits = ExpandLimits {
        max_depth: 100,
        max_nodes: 100_000,
        max_work: 1_000_000,
        quantum: 10_000,
    };
    let expand = || {
        let object = check.object.clone();
        let mut expansion = Expansion::new(&vault.schema, check.member, object, Timestamp(NOW), limits);
        loop {
            match expansion.step(&vault.rows) {
                ExpandStep::Done(tree) => return tree.len(),
                ExpandStep::Yield => {}
                other => panic!("{other:?}"),
            }
        }
    };
    criterion.bench_function(name, |bencher| bencher.iter(expand));
}

fn evaluate(criterion: &mut Criterion) {
    let direct = Vault::new(SCHEMA, "document:1#owner@user:alice\ndocument:1#viewer@user:bob");
    bench(
        criterion,
        "direct",
        &direct,
        "document:1#viewer@user:bob",
        &Decision::Allow,
    );
    bench(
        criterion,
        "direct_permission",
        &direct,
        "document:1#view@user:bob",
        &Decision::Allow,
    );
    bench(
        criterion,
        "direct_denied",
        &direct,
        "document:1#view@user:carol",
        &Decision::Deny,
    );

    let three = Vault::new(SCHEMA, &nested(3));
    bench(
        criterion,
        "nested_3",
        &three,
        "document:1#view@user:b3",
        &Decision::Allow,
    );
    let five = Vault::new(SCHEMA, &nested(5));
    bench(
        criterion,
        "nested_5_denied",
        &five,
        "document:1#view@user:nobody",
        &Decision::Deny,
    );

    let wide: String = (0..10_000)
        .map(|at| format!("group:wide#member@user:u{at}\n"))
        .collect();
    let wide = Vault::new(SCHEMA, &format!("document:1#viewer@group:wide#member\n{wide}"));
    bench(
        criterion,
        "wide_userset_10000",
        &wide,
        "document:1#view@user:u7777",
        &Decision::Allow,
    );
    bench(
        criterion,
        "wide_userset_10000_denied",
        &wide,
        "document:1#view@user:nobody",
        &Decision::Deny,
    );
    let many: String = (0..10_000)
        .map(|at| format!("document:1#viewer@group:g{at}#member\ngroup:g{at}#member@user:u{at}\n"))
        .collect();
    let many = Vault::new(SCHEMA, &many);
    bench(
        criterion,
        "many_usersets_10000_denied",
        &many,
        "document:1#view@user:nobody",
        &Decision::Deny,
    );

    let chain: String = (0..49)
        .map(|at| format!("group:{at}#member@group:{}#member\n", at + 1))
        .collect();
    let chain = Vault::new(SCHEMA, &format!("{chain}group:49#member@user:alice"));
    bench(
        criterion,
        "recursion_50",
        &chain,
        "group:0#member@user:alice",
        &Decision::Allow,
    );
    bench(
        criterion,
        "recursion_50_denied",
        &chain,
        "group:0#member@user:bob",
        &Decision::Deny,
    );

    let mut dense = String::new();
    for from in 0..200 {
        for to in (0..200).filter(|to| *to != from) {
            dense += &format!("group:{from}#member@group:{to}#member\n");
        }
    }
    let dense = Vault::new(SCHEMA, &dense);
    bench(
        criterion,
        "dense_cycle_200_denied",
        &dense,
        "group:0#member@user:bob",
        &Decision::Deny,
    );

    caveated(criterion);
    expanded(criterion, "expand_nested_5", &five, "document:1#view@user:x");
    expanded(
        criterion,
        "expand_wide_userset_10000",
        &wide,
        "document:1#view@user:x",
    );

    let subjects = ["owner", "a1", "b2", "a3", "nobody"];
    let checks: Vec<Check> = (0..100)
        .map(|at| {
            three.check(&format!(
                "document:1#view@user:{}",
                subjects.get(at % 5).unwrap_or(&"x")
            ))
        })
        .collect();
    criterion.bench_function("batch_100", |bencher| {
        bencher.iter(|| {
            checks
                .iter()
                .filter(|check| decide(&three, check) == Decision::Allow)
                .count()
        });
    });
}

/// A write to a row whose former state somebody still reads, as the next view of a vault makes it.
fn write(criterion: &mut Criterion) {
    let entry = |at: usize| Entry {
        subject: ObjectId::parse(&format!("person-{at:06}")).unwrap_or(ObjectId::wildcard()),
        terms: None,
    };
    for width in [1, 10, 10_000, 1_000_000] {
        let row = Row::new((0..width).map(|at| entry(2 * at)).collect());
        let added = entry(width | 1);
        criterion.bench_function(&format!("write_to_row_of_{width}"), |bencher| {
            bencher.iter(|| {
                let mut next = row.clone();
                next.put(black_box(&added).clone());
                next
            });
        });
    }
}

criterion_group!(benches, evaluate, write);
criterion_main!(benches);
