//! Random schemas and relationships against a slow, obvious reference: not one difference, whatever rows are at hand.
//!
//! `EVALUATE_RANDOM_SEED=n` runs the one world of that seed; `EVALUATE_RANDOM_WORLDS=n` sets how many are tried.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

#[path = "evaluate_random/reference.rs"]
mod reference;
#[path = "evaluate_random/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use inferadb_engine::evaluate::{
    Check, Decision, Evaluation, EvaluationError, Limits, Step, Subject, Verdict,
};
use inferadb_engine::noun::{ObjectId, Timestamp};
use inferadb_engine::row::{Demand, Found, Row, RowKey, Rows, Supply};
use inferadb_engine::schema::Schema;

use reference::{Answer, Node, Reference};
use world::{Class, Dice, NOW, OBJECTS, Who, World};

const FIRST_SEED: u64 = 1;
const WORLDS: u64 = 700;
const SUBJECTS: usize = 4;
const CHECKS: usize = 8;

type RowMap = BTreeMap<(u32, ObjectId), Arc<Row>>;

/// A source that knows some rows and keeps silent about the others.
struct Source<'s> {
    rows: &'s RowMap,
    /// Mixed with the key: whether the row is at hand.
    salt: u64,
    percent: usize,
}

impl Rows for Source<'_> {
    fn row(&self, key: &RowKey) -> Found<'_> {
        let digit = key.object.as_str().bytes().last().unwrap();
        let mut dice = Dice(self.salt ^ u64::from(key.slot.0) << 8 ^ u64::from(digit));
        if !dice.chance(self.percent) {
            return Found::Unknown;
        }
        match self.rows.get(&world::key_of(key)) {
            Some(row) => Found::Row(row),
            None => Found::Empty,
        }
    }
}

/// How a check is run: how much is at hand, how demands are answered, and how far a step goes.
struct Run {
    resident_percent: usize,
    one_at_a_time: bool,
    limits: Limits,
    salt: u64,
}

impl Run {
    fn verdict(
        &self,
        schema: &Schema,
        world: &World,
        rows: &RowMap,
        check: &Check,
        now: i64,
    ) -> Result<Verdict, EvaluationError> {
        let source = Source {
            rows,
            salt: self.salt,
            percent: self.resident_percent,
        };
        let mut dice = Dice(self.salt);
        let context = world.context();
        let mut evaluation = Evaluation::new(schema, check.clone(), &context, Timestamp(now), self.limits);
        for _ in 0..100_000 {
            match evaluation.step(&source)? {
                Step::Done(verdict) => {
                    assert!(evaluation.explain(&source, 200).root.children.len() <= 1);
                    assert_eq!(evaluation.step(&source), Ok(Step::Done(verdict.clone())));
                    return Ok(verdict);
                }
                Step::Yield => {}
                Step::Need(mut demands) => {
                    assert!(!demands.is_empty(), "a demand for nothing");
                    if self.one_at_a_time {
                        demands = vec![demands.swap_remove(dice.below(demands.len()))];
                    }
                    for demand in demands {
                        let supply = answer(&mut dice, rows, &demand);
                        evaluation.supply(demand, supply);
                    }
                }
            }
        }
        panic!("the evaluation does not end");
    }
}

fn answer(dice: &mut Dice, rows: &RowMap, demand: &Demand) -> Supply {
    let row = |key| rows.get(&world::key_of(key)).cloned().unwrap_or_default();
    match demand {
        Demand::Probe(key, subject) if dice.chance(50) => Supply::Entry(row(key).find(subject).cloned()),
        Demand::Probe(key, _) | Demand::Scan(key) => Supply::Row(row(key)),
    }
}

fn runs(salt: u64) -> [Run; 4] {
    let run = |resident_percent, one_at_a_time, quantum| Run {
        resident_percent,
        one_at_a_time,
        limits: Limits {
            quantum,
            ..Limits::default()
        },
        salt,
    };
    [
        run(100, false, 10_000),
        run(0, true, 10_000),
        run(50, false, 10_000),
        run(60, true, 1),
    ]
}

fn compile(text: &str) -> Schema {
    match inferadb_engine::schema::compile(text) {
        Ok(compiled) => compiled.schema,
        Err(errors) => panic!("{errors:?}\n{text}"),
    }
}

fn subject_of(schema: &Schema, who: &Who) -> Subject {
    Subject {
        object_type: world::type_id(schema, who.class.of()),
        id: who.id(),
        relation: match &who.class {
            Class::Userset(of, name) => Some(world::member_id(schema, *of, name)),
            _ => None,
        },
    }
}

fn random_subject(dice: &mut Dice, world: &World) -> Who {
    let of = dice.below(world.types.len());
    let class = match dice.below(10) {
        0 => Class::Wildcard(of),
        1..4 => {
            let names: Vec<String> = world.types[of].names().into_iter().collect();
            Class::Userset(of, names[dice.below(names.len())].clone())
        }
        _ => Class::Object(of),
    };
    Who {
        object: match class {
            Class::Wildcard(_) => 0,
            _ => dice.below(OBJECTS),
        },
        class,
    }
}

fn agrees(found: &Result<Verdict, EvaluationError>, expected: &Answer) -> bool {
    match (found, expected) {
        (Ok(verdict), Answer::Allow) => verdict.decision == Decision::Allow,
        (Ok(verdict), Answer::Deny) => verdict.decision == Decision::Deny,
        (Ok(verdict), Answer::Conditional(names)) => {
            let missing = names.iter().cloned().collect();
            verdict.decision == Decision::Conditional { missing }
        }
        (Err(EvaluationError::RecursiveExclusion { .. }), Answer::Undefined) => true,
        _ => false,
    }
}

/// How often each answer came up.
#[derive(Debug, Default)]
struct Tally {
    allow: u64,
    deny: u64,
    conditional: u64,
    undefined: u64,
    exceeded: u64,
}

fn try_world(seed: u64, tally: &mut Tally) {
    let mut dice = Dice(seed);
    let world = World::random(&mut dice);
    let text = world.text();
    let schema = compile(&text);
    let rows = world.rows(&schema);
    for _ in 0..SUBJECTS {
        let who = random_subject(&mut dice, &world);
        let answers = Reference::answers(&world, &who, NOW);
        let nodes = answers
            .keys()
            .filter(|node| world.types[node.0].names().contains(&node.1));
        let nodes: Vec<&Node> = nodes.collect();
        for _ in 0..CHECKS {
            let node = nodes[dice.below(nodes.len())];
            let check = Check {
                member: world::member_id(&schema, node.0, &node.1),
                object: world::object_id(node.2),
                subject: subject_of(&schema, &who),
            };
            let expected = &answers[node];
            let complain = |found: &Result<Verdict, EvaluationError>, how: &str| {
                panic!(
                    "seed {seed}, {how}: {node:?} of {who:?}\nexpected {expected:?}\nfound {found:?}\n{text}{:#?}\nrequest {:?}",
                    world.edges, world.request
                )
            };
            let salt = dice.next();
            for (at, run) in runs(salt).into_iter().enumerate() {
                let found = run.verdict(&schema, &world, &rows, &check, NOW);
                if !agrees(&found, expected) {
                    complain(&found, &format!("run {at}"));
                }
                // Until it expires the verdict holds.
                if let Ok(verdict) = &found {
                    let last = verdict.valid_until.map_or(NOW + 1_000, |until| until.0 - 1);
                    assert!(last >= NOW);
                    let later = run.verdict(&schema, &world, &rows, &check, last);
                    if !agrees(&later, expected) {
                        complain(&later, &format!("run {at}, later"));
                    }
                }
            }
            // With little depth or work: the right answer or an error.
            for mut run in runs(salt) {
                run.limits.max_depth = 1 + (salt % 3) as u32;
                run.limits.max_work = 4 + salt % 64;
                let found = run.verdict(&schema, &world, &rows, &check, NOW);
                let exceeded = matches!(found, Err(EvaluationError::LimitExceeded { .. }));
                tally.exceeded += u64::from(exceeded);
                if !exceeded && !agrees(&found, expected) {
                    complain(&found, "with little depth and work");
                }
            }
            match expected {
                Answer::Allow => tally.allow += 1,
                Answer::Deny => tally.deny += 1,
                Answer::Conditional(_) => tally.conditional += 1,
                Answer::Undefined => tally.undefined += 1,
            }
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn agrees_with_the_reference() {
    let mut tally = Tally::default();
    match setting("EVALUATE_RANDOM_SEED") {
        Some(seed) => try_world(seed, &mut tally),
        None => {
            let worlds = setting("EVALUATE_RANDOM_WORLDS").unwrap_or(WORLDS);
            (FIRST_SEED..FIRST_SEED + worlds).for_each(|seed| try_world(seed, &mut tally));
            let enough = worlds / 10;
            assert!(
                tally.allow > enough && tally.deny > enough && tally.conditional > enough,
                "the worlds are too plain: {tally:?}"
            );
            assert!(
                tally.undefined > 0 && tally.exceeded > enough,
                "the worlds are too plain: {tally:?}"
            );
        }
    }
    eprintln!("{tally:?}");
}
