//! Lists of random worlds are the same sets as asking a check about everything: whatever rows are at hand, in pages of any size
//! and with little work a page. In half of
//! the worlds some relationships are changed by an overlay: a list over it is one over a store with the changes applied.
//!
//! `LIST_RANDOM_SEED=n` runs the one world of that seed; `LIST_RANDOM_WORLDS=n` sets how many are tried.
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
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use inferadb_engine::evaluate::{Check, Decision, Evaluation, EvaluationError, Limits, Step, Subject};
use inferadb_engine::list::{
    Breadth, Class as SubjectClass, ListDemand, ListStep, ListSupply, Listed, Opposite, Part, Plan, Position,
    ResourceQuestion, ResourceSearch, Search, Stretch, SubjectPlans, SubjectQuestion, SubjectSearch,
};
use inferadb_engine::noun::{ObjectId, Timestamp};
use inferadb_engine::overlay::Overlay;
use inferadb_engine::row::{Demand, Found, Row, RowKey, Rows, Supply};
use inferadb_engine::schema::{MemberId, Schema, SlotId, TypeId};

use world::{Class, Dice, NOW, OBJECTS, Who, World};

const FIRST_SEED: u64 = 1;
const WORLDS: u64 = 300;

type RowMap = BTreeMap<(u32, ObjectId), Arc<Row>>;
type Outcome = Result<Decision, EvaluationError>;

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

/// Everything that a list is asked of.
struct Vault {
    world: World,
    schema: Schema,
    /// The rows that count.
    rows: RowMap,
    /// The rows that are stored, and what lies over them.
    stored: RowMap,
    overlay: Overlay,
    /// The resources of each slot's subjects, as they are stored.
    resources: BTreeMap<(SlotId, ObjectId), Vec<Opposite>>,
}

impl Vault {
    fn new(dice: &mut Dice, world: World) -> Self {
        let text = world.text();
        let schema = match inferadb_engine::schema::compile(&text) {
            Ok(compiled) => compiled.schema,
            Err(errors) => panic!("{errors:?}\n{text}"),
        };
        let rows = world.rows(&schema);
        let (stored, overlay) = match dice.chance(50) {
            true => {
                let (base, overlay) = changes::before(dice, &world, &schema);
                (base.rows(&schema), overlay)
            }
            false => (rows.clone(), Overlay::new()),
        };
        let mut resources: BTreeMap<_, Vec<Opposite>> = BTreeMap::new();
        for ((slot, object), row) in &stored {
            for entry in row.entries() {
                resources
                    .entry((SlotId(*slot), entry.subject.clone()))
                    .or_default()
                    .push(Opposite {
                        id: object.clone(),
                        terms: entry.terms.clone(),
                    });
            }
        }
        for opposites in resources.values_mut() {
            opposites.sort_by(|a, b| a.id.cmp(&b.id));
        }
        Self {
            world,
            schema,
            rows,
            stored,
            overlay,
            resources,
        }
    }

    fn check(&self, member: MemberId, object: &ObjectId, subject: &Subject) -> Outcome {
        let source = Source {
            rows: &self.rows,
            salt: 0,
            percent: 100,
        };
        let context = self.world.context();
        let check = Check {
            member,
            object: object.clone(),
            subject: subject.clone(),
        };
        let mut evaluation =
            Evaluation::new(&self.schema, check, &context, Timestamp(NOW), Limits::default());
        loop {
            match evaluation.step(&source)? {
                Step::Done(verdict) => return Ok(verdict.decision),
                Step::Yield => {}
                Step::Need(_) => panic!("all rows are at hand"),
            }
        }
    }

    fn part(&self, demand: &ListDemand) -> Part {
        let (stretch, all): (&Stretch, Vec<Opposite>) = match demand {
            ListDemand::Resources(stretch) => {
                let key = (stretch.slot, stretch.of.clone());
                (stretch, self.resources.get(&key).cloned().unwrap_or_default())
            }
            ListDemand::Subjects(stretch) => {
                let row = self.stored.get(&(stretch.slot.0, stretch.of.clone()));
                let entries = row.iter().flat_map(|row| row.entries());
                let opposites = entries.map(|entry| Opposite {
                    id: entry.subject.clone(),
                    terms: entry.terms.clone(),
                });
                (stretch, opposites.collect())
            }
            ListDemand::Check(_) => panic!("no part"),
        };
        let range = (stretch.start.clone(), Bound::Unbounded);
        let mut rest = all.into_iter().filter(|held| range.contains(&held.id));
        let entries: Vec<Opposite> = rest.by_ref().take(stretch.limit).collect();
        Part {
            entries,
            is_last: rest.next().is_none(),
        }
    }

    fn supply(&self, dice: &mut Dice, demand: &ListDemand) -> ListSupply {
        let row = |key: &RowKey| self.stored.get(&world::key_of(key)).cloned().unwrap_or_default();
        match demand {
            ListDemand::Check(Demand::Probe(key, subject)) if dice.chance(50) => {
                ListSupply::Check(Supply::Entry(row(key).find(subject).cloned()))
            }
            ListDemand::Check(Demand::Probe(key, _) | Demand::Scan(key)) => {
                ListSupply::Check(Supply::Row(row(key)))
            }
            demand => {
                // Storage may answer less than was asked for.
                let mut part = self.part(demand);
                if dice.chance(30) && part.entries.len() > 1 {
                    part.entries.truncate(1 + dice.below(part.entries.len() - 1));
                    part.is_last = false;
                }
                ListSupply::Part(part)
            }
        }
    }

    /// One page, or all pages of one search.
    fn pages(
        &self,
        how: &How,
        dice: &mut Dice,
        mut search: impl Search,
    ) -> Result<(Vec<Listed>, Option<Position>), EvaluationError> {
        let source = Source {
            rows: &self.stored,
            salt: how.salt,
            percent: how.percent,
        };
        let laid = self.overlay.over(&source);
        search.set_limit(how.limit);
        let mut items = Vec::new();
        for _ in 0..200_000 {
            match search.step(&laid)? {
                ListStep::Page(page) => {
                    assert!(page.items.len() <= how.limit);
                    items.extend(page.items);
                    if page.next.is_none() || !how.streams {
                        return Ok((items, page.next));
                    }
                }
                ListStep::Yield => {}
                ListStep::Need(mut demands) => {
                    assert!(!demands.is_empty(), "a demand for nothing");
                    if how.one_at_a_time {
                        demands = vec![demands.swap_remove(dice.below(demands.len()))];
                    }
                    for demand in demands {
                        let supply = laid.lay_listed(&demand, self.supply(dice, &demand));
                        search.supply(demand, supply);
                    }
                }
            }
        }
        panic!("the search does not end");
    }

    fn resources(
        &self,
        how: &How,
        dice: &mut Dice,
        target: MemberId,
        subject: &Subject,
    ) -> Result<Vec<Listed>, EvaluationError> {
        let class = SubjectClass {
            object_type: subject.object_type,
            relation: subject.relation,
        };
        let plan = Arc::new(Plan::new(&self.schema, target, class, Breadth::Selected));
        let context = self.world.context();
        let mut all = Vec::new();
        let mut after = None;
        loop {
            let question = ResourceQuestion {
                subject: subject.clone(),
                after: after.clone(),
            };
            let search = ResourceSearch::new(
                &self.schema,
                Arc::clone(&plan),
                question,
                &context,
                Timestamp(NOW),
                how.limits,
            );
            let (items, next) = self.pages(how, dice, search)?;
            all.extend(items);
            let Some(next) = next else { return Ok(all) };
            assert!(next.after() > after.as_ref(), "no progress");
            after = next.after().cloned();
        }
    }

    fn subjects(
        &self,
        how: &How,
        dice: &mut Dice,
        target: MemberId,
        object: &ObjectId,
        class: SubjectClass,
    ) -> Result<Vec<Listed>, EvaluationError> {
        let plans = SubjectPlans::new(&self.schema, target, class);
        let context = self.world.context();
        let mut all = Vec::new();
        let mut from = None;
        loop {
            let question = SubjectQuestion {
                resource: object.clone(),
                from: from.clone(),
            };
            let search = SubjectSearch::new(
                &self.schema,
                plans.clone(),
                question,
                &context,
                Timestamp(NOW),
                how.limits,
            );
            let (items, next) = self.pages(how, dice, search)?;
            all.extend(items);
            let Some(next) = next else { return Ok(all) };
            assert_ne!(Some(&next), from.as_ref(), "no progress");
            from = Some(next);
        }
    }
}

/// How a list is asked for.
#[derive(Debug, Clone)]
struct How {
    percent: usize,
    one_at_a_time: bool,
    streams: bool,
    limit: usize,
    limits: Limits,
    salt: u64,
}

fn hows(dice: &mut Dice) -> Vec<How> {
    let limits = |quantum| Limits {
        quantum,
        ..Limits::default()
    };
    let how = |percent, one_at_a_time, streams, limit, limits| How {
        percent,
        one_at_a_time,
        streams,
        limit,
        limits,
        salt: 0,
    };
    let little = Limits {
        max_work: 3 + dice.next() % 60,
        ..limits(5)
    };
    let mut hows = vec![
        how(100, false, false, 1_000, limits(10_000)),
        how(0, true, false, 1, limits(10_000)),
        how(50, false, true, 2, limits(10_000)),
        how(60, true, false, 2, limits(1)),
        how(50, false, dice.chance(50), 1, little),
    ];
    for how in &mut hows {
        how.salt = dice.next();
    }
    hows
}

fn decision_of(outcome: &Outcome) -> Option<&Decision> {
    match outcome {
        Ok(Decision::Deny) | Err(_) => None,
        Ok(decision) => Some(decision),
    }
}

fn random_subject(dice: &mut Dice, vault: &Vault) -> Subject {
    let world = &vault.world;
    let of = dice.below(world.types.len());
    let (class, object) = match dice.below(10) {
        0 => (Class::Wildcard(of), 0),
        1..4 => {
            let names: Vec<String> = world.types[of].names().into_iter().collect();
            let name = names[dice.below(names.len())].clone();
            (Class::Userset(of, name), dice.below(OBJECTS))
        }
        _ => (Class::Object(of), dice.below(OBJECTS)),
    };
    let who = Who { class, object };
    Subject {
        object_type: world::type_id(&vault.schema, of),
        id: who.id(),
        relation: match &who.class {
            Class::Userset(of, name) => Some(world::member_id(&vault.schema, *of, name)),
            _ => None,
        },
    }
}

#[derive(Debug, Default)]
struct Tally {
    listed: u64,
    conditional: u64,
    undefined: u64,
    wildcards: u64,
    excluded: u64,
    exceeded: u64,
    overlaid: u64,
}

fn members(vault: &Vault) -> Vec<(TypeId, MemberId)> {
    let types = vault.schema.types().iter().enumerate();
    types
        .flat_map(|(at, held)| {
            held.members
                .iter()
                .map(move |member| (TypeId(at as u32), *member))
        })
        .collect()
}

fn judge<T>(
    found: &Result<Vec<T>, EvaluationError>,
    any_error: bool,
    little: bool,
    tally: &mut Tally,
) -> Option<bool> {
    match found {
        Err(EvaluationError::LimitExceeded { .. }) if little => {
            tally.exceeded += 1;
            None
        }
        Err(EvaluationError::RecursiveExclusion { .. }) if any_error => {
            tally.undefined += 1;
            None
        }
        Err(_) => Some(false),
        Ok(_) => Some(!any_error),
    }
}

fn try_world(seed: u64, tally: &mut Tally) {
    let mut dice = Dice(seed);
    let world = World::random(&mut dice);
    let vault = Vault::new(&mut Dice(!seed), world);
    let members = members(&vault);
    tally.overlaid += u64::from(vault.stored != vault.rows);
    let objects: Vec<ObjectId> = (0..OBJECTS).map(world::object_id).collect();
    let complain = |what: &str, how: &How, found: &dyn std::fmt::Debug, expected: &dyn std::fmt::Debug| {
        panic!(
            "seed {seed}: {what} {how:?}\nexpected {expected:?}\nfound {found:?}\n{}{:#?}\nrequest {:?}\noverlay {:#?}",
            vault.world.text(),
            vault.world.edges,
            vault.world.request,
            vault.overlay
        )
    };
    for _ in 0..4 {
        let subject = random_subject(&mut dice, &vault);
        for (_, target) in &members {
            let outcomes: Vec<Outcome> = objects
                .iter()
                .map(|object| vault.check(*target, object, &subject))
                .collect();
            let expected: Vec<(ObjectId, Decision)> = objects
                .iter()
                .zip(&outcomes)
                .filter_map(|(object, outcome)| Some((object.clone(), decision_of(outcome)?.clone())))
                .collect();
            let any_error = outcomes.iter().any(Result::is_err);
            for how in hows(&mut dice) {
                let little = how.limits.max_work < 100;
                let found = vault.resources(&how, &mut dice, *target, &subject);
                let what = format!("resources with {target:?} of {subject:?}");
                match judge(&found, any_error, little, tally) {
                    None => continue,
                    Some(false) => complain(&what, &how, &found, &outcomes),
                    Some(true) => {}
                }
                let found: Vec<(ObjectId, Decision)> = found
                    .unwrap()
                    .into_iter()
                    .map(|item| (item.id, item.decision))
                    .collect();
                if found != expected {
                    complain(&what, &how, &found, &expected);
                }
                tally.listed += found.len() as u64;
                let conditional = |(_, decision): &&(ObjectId, Decision)| *decision != Decision::Allow;
                tally.conditional += found.iter().filter(conditional).count() as u64;
            }
        }
    }
    let mut classes: Vec<SubjectClass> = (0..vault.schema.types().len())
        .map(|at| SubjectClass {
            object_type: TypeId(at as u32),
            relation: None,
        })
        .collect();
    let (object_type, member) = members[dice.below(members.len())];
    classes.push(SubjectClass {
        object_type,
        relation: Some(member),
    });
    let questions = members
        .iter()
        .flat_map(|(_, target)| classes.iter().map(|class| (*target, *class)));
    for (target, class) in questions {
        let object = &objects[dice.below(objects.len())];
        let fresh = ObjectId::parse("zz").unwrap();
        let ask = |id: &ObjectId| {
            let subject = Subject {
                object_type: class.object_type,
                id: id.clone(),
                relation: class.relation,
            };
            vault.check(target, object, &subject)
        };
        let named: Vec<(ObjectId, Outcome)> = objects
            .iter()
            .chain([&fresh])
            .map(|id| (id.clone(), ask(id)))
            .collect();
        let wildcard = class.relation.is_none().then(|| ask(&ObjectId::wildcard()));
        let any_error = named.iter().any(|(_, outcome)| outcome.is_err());
        for how in hows(&mut dice) {
            let little = how.limits.max_work < 100;
            let found = vault.subjects(&how, &mut dice, target, object, class);
            let what = format!("subjects of {class:?} with {target:?} of {object:?}");
            match judge(&found, any_error, little, tally) {
                None => continue,
                Some(false) => complain(&what, &how, &found, &named),
                Some(true) => {}
            }
            let found = found.unwrap();
            let ids: Vec<&ObjectId> = found.iter().map(|item| &item.id).collect();
            let concrete = ids.iter().skip_while(|id| id.is_wildcard());
            if !concrete.clone().is_sorted() || ids.iter().skip(1).any(|id| id.is_wildcard()) {
                complain(&what, &how, &found, &"sorted ids");
            }
            let everybody = found.first().filter(|item| item.id.is_wildcard());
            if everybody.map(|item| &item.decision) != wildcard.as_ref().and_then(decision_of) {
                complain(&what, &how, &found, &wildcard);
            }
            tally.wildcards += u64::from(everybody.is_some());
            for (id, outcome) in &named {
                let item = found.iter().find(|item| item.id == *id);
                let excluded = everybody.is_some_and(|item| item.excluded.contains(id));
                tally.excluded += u64::from(excluded);
                let listed = item.map(|item| &item.decision);
                let right = match (decision_of(outcome), everybody.map(|item| &item.decision)) {
                    (expected, None) => listed == expected,
                    (None, Some(_)) => listed.is_none() && excluded,
                    (Some(expected), Some(of_all)) => {
                        let lesser = *of_all == Decision::Allow && *expected != Decision::Allow;
                        // Whom nothing names is meant by the wildcard.
                        let is_implied = listed.is_none() && expected == of_all;
                        (listed == Some(expected) || is_implied) && excluded == lesser
                    }
                };
                if !right {
                    complain(&what, &how, &found, &named);
                }
            }
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn agree_with_asking_about_everything() {
    let mut tally = Tally::default();
    match setting("LIST_RANDOM_SEED") {
        Some(seed) => try_world(seed, &mut tally),
        None => {
            let worlds = setting("LIST_RANDOM_WORLDS").unwrap_or(WORLDS);
            (FIRST_SEED..FIRST_SEED + worlds).for_each(|seed| try_world(seed, &mut tally));
            let Tally {
                listed,
                conditional,
                undefined,
                wildcards,
                excluded,
                exceeded,
                overlaid,
            } = tally;
            assert!(overlaid > worlds / 4, "the worlds are too plain: {tally:?}");
            assert!(
                listed > worlds * 10 && conditional > worlds && exceeded > worlds,
                "the worlds are too plain: {tally:?}"
            );
            assert!(
                undefined > 0 && wildcards > worlds / 4 && excluded > 0,
                "the worlds are too plain: {tally:?}"
            );
        }
    }
    eprintln!("{tally:?}");
}
