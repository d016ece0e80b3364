//! Random worlds, half of them in an overlay: a check over the base and the overlay answers exactly as one over a store with
//! the changes applied, whatever rows are at hand; and so do the reverse rows.
//!
//! `OVERLAY_RANDOM_SEED=n` runs the one world of that seed; `OVERLAY_RANDOM_WORLDS=n` sets how many are tried.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

#[path = "evaluate_random/changes.rs"]
mod changes;
#[path = "evaluate_random/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use inferadb_engine::evaluate::{Check, Decision, Evaluation, EvaluationError, Limits, Step, Subject};
use inferadb_engine::noun::{ObjectId, Timestamp};
use inferadb_engine::row::{Demand, Entry, Found, Row, RowKey, Rows, Supply};
use inferadb_engine::schema::{Schema, SlotId};

use changes::before;
use world::{Class, Dice, NOW, OBJECTS, Who, World};

const WORLDS: u64 = 400;
const CHECKS: usize = 24;

type RowMap = BTreeMap<(u32, ObjectId), Arc<Row>>;

/// A source that knows some rows and keeps silent about the others.
struct Source<'s> {
    rows: &'s RowMap,
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

fn decide(
    schema: &Schema,
    world: &World,
    check: &Check,
    rows: &impl Rows,
    supply: impl Fn(&Demand) -> Supply,
) -> Result<Decision, EvaluationError> {
    let context = world.context();
    let mut evaluation = Evaluation::new(schema, check.clone(), &context, Timestamp(NOW), Limits::default());
    loop {
        match evaluation.step(rows)? {
            Step::Done(verdict) => {
                evaluation.explain(rows, 200);
                return Ok(verdict.decision);
            }
            Step::Yield => {}
            Step::Need(demands) => {
                for demand in demands {
                    let supplied = supply(&demand);
                    evaluation.supply(demand, supplied);
                }
            }
        }
    }
}

/// The reverse rows: for each slot and subject, the resources.
fn reversed(rows: &RowMap) -> BTreeMap<(u32, ObjectId), Vec<Entry>> {
    let mut reversed: BTreeMap<_, Vec<Entry>> = BTreeMap::new();
    for ((slot, object), row) in rows {
        for entry in row.entries() {
            let resource = Entry {
                subject: object.clone(),
                terms: entry.terms.clone(),
            };
            reversed
                .entry((*slot, entry.subject.clone()))
                .or_default()
                .push(resource);
        }
    }
    reversed
}

fn random_check(dice: &mut Dice, world: &World, schema: &Schema) -> Check {
    let member = |dice: &mut Dice, of: usize| {
        let names: Vec<String> = world.types[of].names().into_iter().collect();
        world::member_id(schema, of, &names[dice.below(names.len())])
    };
    let (of, subject_type) = (dice.below(world.types.len()), dice.below(world.types.len()));
    let who = Who {
        class: match dice.below(10) {
            0 => Class::Wildcard(subject_type),
            _ => Class::Object(subject_type),
        },
        object: dice.below(OBJECTS),
    };
    let relation = dice.chance(20).then(|| member(dice, subject_type));
    Check {
        member: member(dice, of),
        object: world::object_id(dice.below(OBJECTS)),
        subject: Subject {
            object_type: world::type_id(schema, subject_type),
            id: match relation {
                Some(_) => world::object_id(dice.below(OBJECTS)),
                None => who.id(),
            },
            relation,
        },
    }
}

/// How many decisions the overlay changed.
fn try_world(seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let after = World::random(&mut dice);
    let text = after.text();
    let schema = inferadb_engine::schema::compile(&text).unwrap().schema;
    let (base, overlay) = before(&mut dice, &after, &schema);
    let (rows_after, rows_base) = (after.rows(&schema), base.rows(&schema));
    let mut changed = 0;
    for _ in 0..CHECKS {
        let check = random_check(&mut dice, &after, &schema);
        let all = |rows| Source {
            rows,
            salt: 0,
            percent: 100,
        };
        let never = |_: &Demand| -> Supply { panic!("all rows are at hand") };
        let expected = decide(&schema, &after, &check, &all(&rows_after), never);
        let unchanged = decide(&schema, &after, &check, &all(&rows_base), never);
        changed += u64::from(unchanged != expected);
        let salt = dice.next();
        for percent in [100, 50, 0] {
            let source = Source {
                rows: &rows_base,
                salt,
                percent,
            };
            let laid = overlay.over(&source);
            let row = |key: &RowKey| rows_base.get(&world::key_of(key)).cloned().unwrap_or_default();
            let supply = |demand: &Demand| {
                let supply = match demand {
                    Demand::Probe(key, subject) if (salt ^ u64::from(key.slot.0)).is_multiple_of(2) => {
                        Supply::Entry(row(key).find(subject).cloned())
                    }
                    Demand::Probe(key, _) | Demand::Scan(key) => Supply::Row(row(key)),
                };
                laid.lay(demand, supply)
            };
            let found = decide(&schema, &after, &check, &laid, supply);
            assert_eq!(
                found, expected,
                "seed {seed}, {percent} % at hand: {check:?}\n{text}\nbase {:#?}\noverlay {overlay:#?}",
                base.edges
            );
        }
    }
    let (reverse_after, mut reverse_base) = (reversed(&rows_after), reversed(&rows_base));
    for (slot, subject) in overlay.reversed() {
        let key = (slot.0, subject.clone());
        let stored = reverse_base.remove(&key).unwrap_or_default();
        let merged = overlay
            .reverse(SlotId(slot.0), subject)
            .unwrap()
            .apply(&Row::new(stored));
        if !merged.is_empty() {
            reverse_base.insert(key, merged.entries().cloned().collect());
        }
    }
    assert_eq!(reverse_base, reverse_after, "seed {seed}, reverse rows");
    changed
}

#[test]
fn a_check_over_an_overlay_is_one_over_a_changed_store() {
    let setting = |name: &str| -> Option<u64> { std::env::var(name).ok()?.parse().ok() };
    if let Some(seed) = setting("OVERLAY_RANDOM_SEED") {
        try_world(seed);
        return;
    }
    let worlds = setting("OVERLAY_RANDOM_WORLDS").unwrap_or(WORLDS);
    let changed: u64 = (1..=worlds).map(try_world).sum();
    assert!(
        changed > worlds,
        "the overlays are too plain: {changed} decisions changed"
    );
    eprintln!("{changed} decisions changed");
}
