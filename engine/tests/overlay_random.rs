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

#[path = "evaluate_random/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use inferadb_engine::context::Value;
use inferadb_engine::evaluate::{Check, Decision, Evaluation, EvaluationError, Limits, Step, Subject};
use inferadb_engine::noun::{CaveatRef, Name, ObjectId, ObjectRef, Relationship, SubjectRef, Timestamp};
use inferadb_engine::overlay::Overlay;
use inferadb_engine::row::{Demand, Entry, Found, Row, RowKey, Rows, Supply};
use inferadb_engine::schema::{Schema, SlotId};

use world::{CAVEATS, Class, Dice, Edge, NOW, OBJECTS, Who, World};

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

fn relationship(edge: &Edge) -> Relationship {
    let name = |text: String| Name::parse(&text).unwrap();
    Relationship {
        resource: ObjectRef {
            object_type: name(format!("t{}", edge.object_type)),
            id: world::object_id(edge.object),
        },
        relation: name(edge.relation.clone()),
        subject: SubjectRef {
            object_type: name(format!("t{}", edge.who.class.of())),
            id: edge.who.id(),
            relation: match &edge.who.class {
                Class::Userset(_, relation) => Some(name(relation.clone())),
                _ => None,
            },
        },
        caveat: edge.caveat.map(|(caveat, stored)| CaveatRef {
            name: name(format!("c{caveat}")),
            context: stored
                .map(|value| (format!("v{caveat}"), Value::Bool(value)))
                .into_iter()
                .collect(),
        }),
        expires_at: edge.expires_at.map(Timestamp),
    }
}

fn same_key(a: &Edge, b: &Edge) -> bool {
    (a.object_type, a.object, &a.relation, &a.who) == (b.object_type, b.object, &b.relation, &b.who)
}

/// The world before the overlay's changes: some relationships of `after` are not there yet, some have other terms, and
/// some are there that will not be. And the overlay of these changes.
fn before(dice: &mut Dice, after: &World, schema: &Schema) -> (World, Overlay) {
    let mut base = after.clone();
    let mut overlay = Overlay::new();
    base.edges.clear();
    for edge in &after.edges {
        let mut held = edge.clone();
        match dice.below(10) {
            0..5 => base.edges.push(held),
            5..8 => overlay.add(schema, &relationship(edge)).unwrap(),
            8 => {
                held.caveat = dice
                    .chance(50)
                    .then(|| (dice.below(CAVEATS), dice.chance(50).then(|| dice.chance(50))));
                held.expires_at = dice.chance(50).then(|| NOW - 20 + dice.below(60) as i64);
                base.edges.push(held);
                overlay.add(schema, &relationship(edge)).unwrap();
            }
            // Added though it is stored just so; or removed and added again.
            _ => {
                base.edges.push(held);
                overlay.remove(schema, &relationship(edge).key());
                overlay.add(schema, &relationship(edge)).unwrap();
            }
        }
    }
    for edge in World::related(dice, &after.types) {
        if after.edges.iter().any(|held| same_key(held, &edge)) {
            continue;
        }
        match dice.below(4) {
            0 | 1 => {
                overlay.remove(schema, &relationship(&edge).key());
                base.edges.push(edge);
            }
            // Removed though it is not stored; or added and removed again.
            2 => overlay.remove(schema, &relationship(&edge).key()),
            _ => {
                overlay.add(schema, &relationship(&edge)).unwrap();
                overlay.remove(schema, &relationship(&edge).key());
            }
        }
    }
    (base, overlay)
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
        let merged = overlay.reverse(SlotId(slot.0), subject).unwrap().apply(&stored);
        if !merged.is_empty() {
            reverse_base.insert(key, merged.entries().to_vec());
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
