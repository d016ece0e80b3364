//! Recursion, limits, demands and explanations: evaluation ends, says so when it may not, and shows its way.
#![allow(missing_docs, reason = "tests")]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod evaluate_support;

use std::fmt::Write as _;

use evaluate_support::{Absent, NOW, Resident, Vault, id, run};
use inferadb_engine::evaluate::{
    Cut, Decision, Evaluation, EvaluationError, Limits, Step, Trace, TraceKind, TraceNode, TraceOutcome,
};
use inferadb_engine::noun::Timestamp;
use inferadb_engine::row::{Demand, Found, RowKey, Rows};

const SCHEMA: &str = "
    definition user {}
    definition group {
        relation member: user | group#member
    }
    definition folder {
        relation parent: folder
        relation viewer: user | group#member
        relation banned: user
        permission view = viewer + parent->view
        permission see = (viewer + parent->see) - banned
        permission odd = viewer - parent->odd
    }";

/// Folders 0 to `depth`, each in the next.
fn chain(depth: usize) -> Vault {
    let mut text = String::new();
    for at in 0..depth {
        writeln!(text, "folder:{at}#parent@folder:{}", at + 1).unwrap();
    }
    writeln!(text, "folder:{depth}#viewer@user:a").unwrap();
    Vault::new(SCHEMA, &text)
}

/// Groups each of which has every other one as a member.
fn dense(groups: usize) -> Vault {
    let mut text = String::new();
    for from in 0..groups {
        for to in (0..groups).filter(|to| *to != from) {
            writeln!(text, "group:{from}#member@group:{to}#member").unwrap();
        }
    }
    writeln!(text, "group:{}#member@user:a", groups - 1).unwrap();
    Vault::new(SCHEMA, &text)
}

fn exceeded(limit: &'static str, value: u64) -> EvaluationError {
    EvaluationError::LimitExceeded { limit, value }
}

#[test]
fn recursion_of_fifty_works() {
    let vault = chain(50);
    for permission in ["view", "see"] {
        vault.allows(&format!("folder:0#{permission}@user:a"));
        vault.denies(&format!("folder:0#{permission}@user:b"));
    }
}

#[test]
fn a_thousand_deep_fits_a_small_stack() {
    let deep = || {
        let mut vault = chain(1_000);
        vault.limits.max_depth = 1_000;
        for permission in ["view", "see"] {
            vault.allows(&format!("folder:0#{permission}@user:a"));
            let check = format!("folder:0#{permission}@user:b");
            vault.denies(&check);
            let mut evaluation = vault.evaluation(&check);
            run(&mut evaluation, &vault.rows, &vault.rows).unwrap();
            let trace = evaluation.explain(&vault.rows, 100_000);
            assert!(trace.truncated);
            assert_eq!(trace.root.outcome, TraceOutcome::Deny);
        }
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(deep);
    thread.unwrap().join().unwrap();
}

#[test]
fn too_deep_is_an_error_and_no_decision() {
    let mut vault = chain(101);
    assert_eq!(
        vault.verdict("folder:0#view@user:a"),
        Err(exceeded("max_depth", 100))
    );
    assert_eq!(
        vault.verdict("folder:0#view@user:b"),
        Err(exceeded("max_depth", 100))
    );
    vault.allows("folder:1#view@user:a");
    vault.denies("folder:1#view@user:b");
    // What is certain all the same is answered.
    vault.relate("folder:0#viewer@user:a");
    vault.allows("folder:0#view@user:a");
    vault.relate("folder:0#banned@user:b");
    vault.denies("folder:0#see@user:b");
}

#[test]
fn too_much_work_is_an_error_and_no_decision() {
    let mut vault = dense(30);
    vault.limits.max_work = 100;
    assert_eq!(
        vault.verdict("group:0#member@user:b"),
        Err(exceeded("max_work", 100))
    );
    vault.allows("group:29#member@user:a");
}

#[test]
fn dense_cycles_cost_little() {
    let vault = dense(200);
    let edges = 200 * 199;
    for (check, decision) in [
        ("group:0#member@user:b", Decision::Deny),
        ("group:0#member@user:a", Decision::Allow),
        ("group:0#member@group:7#member", Decision::Allow),
    ] {
        let verdict = run(&mut vault.evaluation(check), &vault.rows, &vault.rows).unwrap();
        assert_eq!(verdict.decision, decision, "{check}");
        assert!(verdict.work < 2 * edges, "{check} took {}", verdict.work);
    }
}

#[test]
fn an_exclusion_that_excludes_itself_is_an_error() {
    let mut vault = chain(0);
    vault.relate("folder:x#viewer@user:a");
    vault.relate("folder:x#parent@folder:x");
    let found = vault.verdict("folder:x#odd@user:a");
    assert!(
        matches!(found, Err(EvaluationError::RecursiveExclusion { .. })),
        "{found:?}"
    );
    vault.denies("folder:x#odd@user:b");
    // Recursion through an exclusion with an end has an answer: the last is odd, the one before is not, and so on.
    let mut vault = chain(6);
    for at in 0..6 {
        vault.relate(&format!("folder:{at}#viewer@user:a"));
    }
    vault.allows("folder:0#odd@user:a");
    vault.denies("folder:1#odd@user:a");
    vault.allows("folder:2#odd@user:a");
}

#[test]
fn one_batch_asks_for_all_that_is_missing() {
    let mut vault = Vault::new(SCHEMA, "");
    for at in 0..20 {
        vault.relate(&format!("folder:0#viewer@group:{at}#member"));
    }
    let mut evaluation = vault.evaluation("folder:0#view@user:a");
    let mut batches = Vec::new();
    loop {
        match evaluation.step(&Absent).unwrap() {
            Step::Need(demands) => {
                batches.push(demands.len());
                for demand in demands {
                    let (Demand::Probe(key, _) | Demand::Scan(key)) = &demand;
                    let row = vault.rows.0.get(key).cloned().unwrap_or_default();
                    evaluation.supply(demand, inferadb_engine::row::Supply::Row(row.into()));
                }
            }
            Step::Done(verdict) => {
                assert_eq!(verdict.decision, Decision::Deny);
                break;
            }
            Step::Yield => {}
        }
    }
    // The folder's viewers, groups and parents; then each group's users and groups.
    assert_eq!(batches, [3, 40]);
}

#[test]
fn a_certain_answer_waits_for_nothing() {
    struct Half(RowKey, Resident);
    impl Rows for Half {
        fn row(&self, key: &RowKey) -> Found<'_> {
            if *key == self.0 {
                self.1.row(key)
            } else {
                Found::Unknown
            }
        }
    }
    let vault = Vault::new(SCHEMA, "folder:0#viewer@user:a");
    let key = vault.rows.0.keys().next().unwrap().clone();
    let half = Half(key, Resident(vault.rows.0.clone()));
    let step = vault.evaluation("folder:0#view@user:a").step(&half).unwrap();
    assert!(matches!(step, Step::Done(verdict) if verdict.decision == Decision::Allow));
    let step = vault.evaluation("folder:0#view@user:b").step(&half).unwrap();
    assert!(matches!(step, Step::Need(demands) if demands.len() == 2));
}

#[test]
fn a_quantum_is_kept() {
    let mut vault = chain(60);
    vault.limits.quantum = 20;
    let mut evaluation = vault.evaluation("folder:0#view@user:b");
    let mut yields = 0;
    while evaluation.step(&vault.rows).unwrap() == Step::Yield {
        yields += 1;
    }
    assert!((5..60).contains(&yields), "{yields}");
}

fn trace(vault: &Vault, check: &str, max_nodes: usize) -> Trace {
    let mut evaluation = vault.evaluation(check);
    run(&mut evaluation, &vault.rows, &vault.rows).unwrap();
    evaluation.explain(&vault.rows, max_nodes)
}

fn count(node: &TraceNode, wanted: &impl Fn(&TraceNode) -> bool) -> usize {
    usize::from(wanted(node))
        + node
            .children
            .iter()
            .map(|child| count(child, wanted))
            .sum::<usize>()
}

#[test]
fn an_explanation_shows_the_relationships_it_rests_on() {
    let mut vault = chain(2);
    vault.relate("folder:1#viewer@group:x#member");
    vault.relate("group:x#member@user:b");
    let told = trace(&vault, "folder:0#view@user:b", 100);
    assert!(!told.truncated);
    assert_eq!(told.root.outcome, TraceOutcome::Allow);
    let granting = |node: &TraceNode| {
        node.outcome == TraceOutcome::Allow && matches!(node.kind, TraceKind::Relationship { .. })
    };
    // The parent, the group that views it, the group's member.
    assert_eq!(count(&told.root, &granting), 3, "{told:#?}");
    let the_last = |node: &TraceNode| {
        granting(node) && matches!(&node.kind, TraceKind::Relationship { subject, .. } if *subject == id("b"))
    };
    assert_eq!(count(&told.root, &the_last), 1);
}

#[test]
fn an_explanation_says_where_it_was_cut() {
    let cut = |wanted: Cut| move |node: &TraceNode| matches!(node.kind, TraceKind::Check { cut: Some(cut), .. } if cut == wanted);
    let vault = dense(4);
    let told = trace(&vault, "group:0#member@user:b", 1_000);
    assert!(!told.truncated);
    assert!(count(&told.root, &cut(Cut::Recursion)) > 0);
    assert!(count(&told.root, &cut(Cut::Reused)) > 0);
    // However small, it holds the reason first.
    let vault = dense(50);
    let told = trace(&vault, "group:0#member@user:a", 40);
    assert!(told.truncated);
    assert!(count(&told.root, &|_| true) < 60);
    let reason = |node: &TraceNode| matches!(&node.kind, TraceKind::Relationship { subject, .. } if *subject == id("a"));
    assert!(count(&told.root, &reason) > 0, "{told:#?}");
}

#[test]
fn a_check_of_nothing_known_is_an_error() {
    let vault = chain(0);
    let mut check = vault.check("folder:0#view@user:a");
    check.member.0 = 1_000;
    let mut evaluation = Evaluation::new(
        &vault.schema,
        check,
        &vault.context,
        Timestamp(NOW),
        Limits::default(),
    );
    let found = evaluation.step(&vault.rows);
    assert!(
        matches!(found, Err(EvaluationError::UnknownMember(_))),
        "{found:?}"
    );
}
