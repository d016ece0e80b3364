//! What counts as work: not rows and entries alone, but all that a schema or a caveat from hostile hands can multiply.
#![allow(missing_docs, reason = "tests")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod evaluate_support;

use std::fmt::Write as _;

use evaluate_support::{Resident, Vault, run};
use inferadb_engine::context::Value;
use inferadb_engine::evaluate::{
    Decision, EvaluationError, Limits, Step, Trace, TraceKind, TraceNode, TraceOutcome, Verdict,
};
use inferadb_engine::schema::Format;

/// Groups in a row, each in the next, whose members go by way of `operands` operands each.
fn chain_of(operand: &str, operands: usize, groups: usize) -> Vault {
    let expression = vec![operand; operands].join("+");
    let schema = format!(
        "definition user {{}}
        definition group {{
            relation m: user | group#p
            relation n: user | group#p
            permission p = {expression}
        }}"
    );
    let mut text = String::new();
    for at in 0..groups {
        writeln!(text, "group:{at}#m@group:{}#p", at + 1).unwrap();
        writeln!(text, "group:{at}#n@group:{}#p", at + 1).unwrap();
    }
    let mut vault = Vault::new(&schema, &text);
    vault.limits.max_depth = 100_000;
    vault
}

/// What is decided where all rows are resident, and how often others had their turn meanwhile.
fn decided(vault: &Vault, check: &str) -> (Verdict, u64) {
    let mut evaluation = vault.evaluation(check);
    let mut yields = 0;
    loop {
        match evaluation.step(&vault.rows).unwrap() {
            Step::Done(verdict) => return (verdict, yields),
            Step::Yield => yields += 1,
            Step::Need(demands) => unreachable!("{demands:?}"),
        }
    }
}

#[test]
fn operands_are_charged() {
    // A few dozen rows are read, whatever there is to build.
    let vault = chain_of("(m & n)", 20_000, 20);
    let verdict = run(
        &mut vault.evaluation("group:0#p@user:a"),
        &vault.rows,
        &vault.rows,
    )
    .unwrap();
    assert_eq!(verdict.decision, Decision::Deny);
    let built = 20 * 20_000;
    assert!(verdict.work > built / 16, "{} for {built} operands", verdict.work);
    let mut vault = chain_of("(m & n)", 20_000, 20);
    vault.limits.max_work = 10_000;
    let found = vault.verdict("group:0#p@user:a");
    assert_eq!(
        found,
        Err(EvaluationError::LimitExceeded {
            limit: "max_work",
            value: 10_000
        })
    );
}

#[test]
fn many_operands_are_no_single_task() {
    let mut vault = chain_of("m", 20_000, 3);
    vault.limits.quantum = 100;
    let mut evaluation = vault.evaluation("group:0#p@user:a");
    let mut yields = 0;
    while evaluation.step(&vault.rows).unwrap() == Step::Yield {
        yields += 1;
    }
    assert!(yields > 20, "{yields}");
}

const CAVEATED: &str = "
    caveat c(l list<int>) { l.all(x, l.all(y, x + y >= 0)) }
    definition user {}
    definition group {
 relation m: user
 }
    definition doc {
        relation r: group#m with c
        relation s: group
        permission every = s.all(m)
    }";

#[test]
fn steps_of_caveats_are_charged() {
    let mut text = String::new();
    for at in 0..400 {
        writeln!(text, "doc:0#r@group:{at}#m if c").unwrap();
    }
    let list = |items: i64| Value::List((0..items).map(Value::Int).collect());
    let mut vault = Vault::new(CAVEATED, &text);
    vault.context = [("l".to_owned(), list(100))].into_iter().collect();
    let (verdict, yields) = decided(&vault, "doc:0#r@user:a");
    assert_eq!(verdict.decision, Decision::Deny);
    // Each goes over 10,000 pairs, of a few steps each.
    assert!(verdict.work > 400 * 10_000 / 32, "{}", verdict.work);
    assert!(yields > 10, "{yields}");
    vault.limits.max_work = 100_000;
    let found = vault.verdict("doc:0#r@user:a");
    assert!(matches!(
        found,
        Err(EvaluationError::LimitExceeded {
            limit: "max_work",
            ..
        })
    ));
    // Most caveats cost nothing beside the entry that they stand in.
    let mut short = Vault::new(CAVEATED, "doc:0#r@group:1#m if c\ngroup:1#m@user:a");
    short.context = [("l".to_owned(), list(1))].into_iter().collect();
    let plain = Vault::new(
        &CAVEATED.replace(" with c", ""),
        "doc:0#r@group:1#m\ngroup:1#m@user:a",
    );
    let work = |vault: &Vault| {
        run(&mut vault.evaluation("doc:0#r@user:a"), &vault.rows, &vault.rows)
            .unwrap()
            .work
    };
    assert_eq!(work(&short), work(&plain));
}

/// Whatever the quantum, a wide row is followed to its end, and no step does much more than its quantum.
#[test]
fn wide_rows_are_followed_in_steps() {
    let mut text = String::new();
    for at in 0..2_000 {
        writeln!(text, "doc:0#r@group:{at}#m\ndoc:0#s@group:{at}").unwrap();
        writeln!(text, "group:{at}#m@user:all").unwrap();
    }
    writeln!(text, "group:1999#m@user:last").unwrap();
    for quantum in [1, 7, 100, 1_000_000] {
        let mut vault = Vault::new(&CAVEATED.replace(" with c", ""), &text);
        vault.limits.quantum = quantum;
        for (check, decision) in [
            ("doc:0#r@user:last", Decision::Allow),
            ("doc:0#r@user:none", Decision::Deny),
            ("doc:0#every@user:all", Decision::Allow),
            ("doc:0#every@user:last", Decision::Deny),
        ] {
            let (verdict, yields) = decided(&vault, check);
            assert_eq!(verdict.decision, decision, "{check}, {quantum}");
            // One entry and the check behind it cost a few units.
            assert!(
                yields >= verdict.work / (quantum + 8),
                "{check}: {yields} yields, {} of work, by {quantum}",
                verdict.work
            );
        }
    }
}

#[test]
fn a_certain_deny_is_answered_whatever_the_rest_would_cost() {
    let schema = "
        definition user {}
        definition group {
 relation m: user | group#m
 }
        definition doc {
            relation a: group#m
            relation b: group#m
            permission p = a & b
        }";
    let mut text = "doc:0#a@group:x#m\ngroup:x#m@group:y#m\ngroup:y#m@user:other\n".to_owned();
    for at in 0..5_000 {
        writeln!(
            text,
            "doc:0#b@group:{at}#m\ngroup:{at}#m@group:z{at}#m\ngroup:z{at}#m@group:{at}#m"
        )
        .unwrap();
    }
    let mut vault = Vault::new(schema, &text);
    vault.limits.max_work = 15_000;
    // Where rows have to be fetched, the limit can be met before the deny is certain: then it is an error.
    let verdict = run(&mut vault.evaluation("doc:0#p@user:a"), &vault.rows, &vault.rows).unwrap();
    assert_eq!(verdict.decision, Decision::Deny);
    assert!(verdict.work > vault.limits.max_work);
    vault.relate("group:y#m@user:a");
    vault.limits.max_work = 1_000;
    let found = vault.verdict("doc:0#p@user:a");
    let expected = EvaluationError::LimitExceeded {
        limit: "max_work",
        value: 1_000,
    };
    assert_eq!(found, Err(expected));
}

/// The explanation of a check that is denied, how many nodes it has, and the work it took beside the check's own.
fn explained(vault: &Vault, check: &str, max_nodes: usize) -> (Trace, usize) {
    let mut evaluation = vault.evaluation(check);
    let verdict = run(&mut evaluation, &vault.rows, &vault.rows).unwrap();
    assert_eq!(verdict.decision, Decision::Deny, "{check}");
    let trace = evaluation.explain(&vault.rows, max_nodes);
    let mut nodes = 0;
    let mut stack: Vec<&TraceNode> = vec![&trace.root];
    while let Some(node) = stack.pop() {
        nodes += 1;
        stack.extend(&node.children);
    }
    assert_eq!(trace.root.outcome, TraceOutcome::Deny);
    (trace, nodes)
}

#[test]
fn an_explanation_has_no_more_nodes_than_it_may() {
    for (operands, most, least) in [(5_000, 1_000, 900), (50_000, 1_000, 10)] {
        let vault = chain_of("m", operands, 2);
        let (trace, nodes) = explained(&vault, "group:0#p@user:a", most);
        assert!(trace.truncated);
        assert!((least..most + 100).contains(&nodes), "{nodes}");
    }
}

/// Each of the arrows goes over the whole row: ten thousand million look-ups, were there no end to them.
#[test]
fn an_explanation_ends_whatever_there_is_to_look_up() {
    let mut expression = String::from("nobody");
    for _ in 0..20_000 {
        expression.push_str("+a->nobody");
    }
    let schema = format!(
        "definition user {{}}
        definition doc {{
            relation a: doc
            relation nobody: user
            relation x: user
            permission p = x & ({expression})
        }}"
    );
    let mut vault = Vault::new(&schema, "");
    for at in 0..10_000 {
        vault.relate(&format!("doc:0#a@doc:{}", at + 1));
    }
    let (trace, nodes) = explained(&vault, "doc:0#p@user:a", 1_000);
    assert!(nodes < 1_100, "{nodes}");
    // The reason is told all the same: the first operand is false.
    let TraceKind::Check { .. } = &trace.root.kind else {
        panic!("{trace:?}");
    };
    let all = trace.root.children.first().unwrap();
    assert_eq!(all.kind, TraceKind::Intersection);
    assert_eq!(all.children.first().unwrap().outcome, TraceOutcome::Deny);
}

#[test]
fn the_explanation_of_a_paradox_says_deny() {
    let model = "model
  schema 1.1
type user
type doc
  relations
    define blocked: [user, doc#viewer]
    define viewer: [user] but not blocked
";
    let schema = Format::OpenFga.compile(model).unwrap().schema;
    let mut vault = Vault {
        schema,
        rows: Resident::default(),
        context: [].into_iter().collect(),
        limits: Limits::default(),
    };
    vault.relate("doc:1#viewer@user:a");
    vault.relate("doc:1#blocked@doc:1#viewer");
    let (trace, _) = explained(&vault, "doc:1#viewer@user:a", 1_000);
    let exclusion = trace.root.children.first().unwrap();
    assert_eq!(
        (&exclusion.kind, exclusion.outcome),
        (&TraceKind::Exclusion, TraceOutcome::Deny)
    );
    let sides: Vec<_> = exclusion.children.iter().map(|node| node.outcome).collect();
    assert_eq!(sides, [TraceOutcome::Allow, TraceOutcome::Deny]);
}
