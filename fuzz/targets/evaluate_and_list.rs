//! Small worlds: one of a few schemas, relationships and a question, all from the input. A check decides alike whatever
//! rows are at hand, and the list of resources is the same as asking a check about every one of them.
#![no_main]

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, LazyLock};

use inferadb_engine::context::{Context, Value};
use inferadb_engine::evaluate::{Check, Decision, Evaluation, EvaluationError, Limits, Step, Subject};
use inferadb_engine::list::{
    Breadth, Class, ListDemand, ListStep, ListSupply, Opposite, Part, Plan, ResourceQuestion, ResourceSearch,
    Search,
};
use inferadb_engine::noun::{ObjectId, Timestamp};
use inferadb_engine::row::{Demand, Entry, Found, Row, RowKey, Rows, Supply, Terms};
use inferadb_engine::schema::{Format, MemberId, Schema, SlotSubject};
use libfuzzer_sys::fuzz_target;

/// The moment of all questions; relationships expire before it, or after.
const NOW: i64 = 1_000;
/// How many objects a type has.
const OBJECTS: u8 = 5;

static SCHEMAS: LazyLock<Vec<Schema>> = LazyLock::new(|| {
    let native = [
        "definition user {}
         definition group {
             relation member: user | group#member
             relation guest: user:*
         }
         definition doc {
             relation parent: doc
             relation viewer: user | user:* | group#member
             relation banned: user | group#member
             permission view = (viewer + parent->view) - banned
             permission every = parent.all(view) & viewer
         }",
        "use expiration
         caveat c(c bool) { c }
         caveat d(d bool) { d }
         definition user {}
         definition group {
             relation member: user | user with c | group#all with d | user with expiration
             relation out: user with c and expiration | group#member
             permission all = member - out
         }
         definition doc {
             relation up: doc | doc with c | group#all
             relation reader: user with d | group#all | user:* with c
             permission read = reader + up->read + up->all
             permission both = reader & up->read
         }",
        "use self
         definition user {
             relation friend: user | user#friends
             permission friends = self + friend + friend->friends
         }
         definition doc {
             relation owner: user | user#friends
             permission edit = owner - owner->friends
         }",
    ];
    let model = "model
  schema 1.1
type user
type doc
  relations
    define parent: [doc, doc with c]
    define blocked: [user, user:*, doc#viewer]
    define viewer: ([user, user:* with c, doc#viewer] or viewer from parent) but not blocked
    define both: viewer and viewer from parent
condition c(c: bool) {
  c
}
";
    let sources = native.map(|text| (Format::Native, text)).into_iter();
    sources
        .chain([(Format::OpenFga, model)])
        .map(|(format, text)| {
            format
                .compile(text)
                .unwrap_or_else(|errors| panic!("{errors:?}"))
                .schema
        })
        .collect()
});

/// Takes the input byte by byte; zeros at its end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn id(&mut self) -> ObjectId {
        id(self.byte() % OBJECTS)
    }
}

fn id(number: u8) -> ObjectId {
    ObjectId::parse(&number.to_string()).unwrap()
}

/// `true`, `false`, or nothing for each of the parameters.
fn context(input: &mut Input) -> Context {
    let mut given = Context::new();
    for name in ["c", "d"] {
        match input.below(3) {
            0 => {}
            held => {
                given.insert(name.to_owned(), Value::Bool(held == 1));
            }
        }
    }
    given
}

struct World {
    schema: &'static Schema,
    rows: BTreeMap<(u32, ObjectId), Arc<Row>>,
    context: Context,
}

/// Rows of which one in `every` is at hand (0: none).
struct Source<'w> {
    world: &'w World,
    every: u8,
}

impl Rows for Source<'_> {
    fn row(&self, key: &RowKey) -> Found<'_> {
        let digit = key.object.as_str().bytes().last().unwrap_or(0);
        if self.every == 0 || (digit ^ key.slot.0 as u8) % self.every != 0 {
            return Found::Unknown;
        }
        match self.world.rows.get(&(key.slot.0, key.object.clone())) {
            Some(row) => Found::Row(row),
            None => Found::Empty,
        }
    }
}

impl World {
    fn new(input: &mut Input) -> Self {
        let schema = &SCHEMAS[input.below(SCHEMAS.len())];
        let context_given = context(input);
        let mut rows: BTreeMap<(u32, ObjectId), Arc<Row>> = BTreeMap::new();
        for _ in 0..input.below(24) {
            let at = input.below(schema.slots().len());
            let slot = &schema.slots()[at];
            let object = input.id();
            let subject = match slot.subject {
                SlotSubject::Wildcard => ObjectId::wildcard(),
                _ => input.id(),
            };
            let allowed = slot.allowed[input.below(slot.allowed.len())];
            let terms = Terms {
                caveat: allowed.caveat.map(|caveat| {
                    let mut stored = context(input);
                    let name = schema.caveats()[caveat.index()].name.as_str();
                    stored.retain(|held, _| held == name);
                    (caveat, stored)
                }),
                expires_at: allowed
                    .expiration
                    .then(|| Timestamp(NOW - 10 + 20 * i64::from(input.byte() % 2))),
            };
            let row = rows.entry((at as u32, object)).or_default();
            Arc::make_mut(row).put(Entry {
                subject,
                terms: (terms != Terms::default()).then(|| Arc::new(terms)),
            });
        }
        Self {
            schema,
            rows,
            context: context_given,
        }
    }

    fn row(&self, key: &RowKey) -> Arc<Row> {
        self.rows
            .get(&(key.slot.0, key.object.clone()))
            .cloned()
            .unwrap_or_default()
    }

    fn check(
        &self,
        member: MemberId,
        object: ObjectId,
        subject: &Subject,
        every: u8,
    ) -> Result<Decision, EvaluationError> {
        let check = Check {
            member,
            object,
            subject: subject.clone(),
        };
        let mut evaluation = Evaluation::new(
            self.schema,
            check,
            &self.context,
            Timestamp(NOW),
            Limits::default(),
        );
        loop {
            match evaluation.step(&Source { world: self, every })? {
                Step::Done(verdict) => return Ok(verdict.decision),
                Step::Yield => {}
                Step::Need(demands) => {
                    for demand in demands {
                        let (Demand::Probe(key, _) | Demand::Scan(key)) = &demand;
                        let row = self.row(key);
                        evaluation.supply(demand, Supply::Row(row));
                    }
                }
            }
        }
    }

    fn part(&self, demand: &ListDemand) -> Part {
        let (stretch, all) = match demand {
            ListDemand::Resources(stretch) => {
                let rows = self.rows.iter().filter(|((slot, _), _)| *slot == stretch.slot.0);
                let held = rows.filter_map(|((_, object), row)| {
                    Some((object.clone(), row.find(&stretch.of)?.terms.clone()))
                });
                (stretch, held.collect::<Vec<_>>())
            }
            ListDemand::Subjects(stretch) => {
                let row = self.rows.get(&(stretch.slot.0, stretch.of.clone()));
                let entries = row.iter().flat_map(|row| row.entries());
                (
                    stretch,
                    entries
                        .map(|entry| (entry.subject.clone(), entry.terms.clone()))
                        .collect(),
                )
            }
            ListDemand::Check(_) => unreachable!("it is answered with rows"),
        };
        let range = (stretch.start.clone(), Bound::Unbounded);
        let mut rest = all.into_iter().filter(|(id, _)| range.contains(id));
        let entries = rest
            .by_ref()
            .take(stretch.limit)
            .map(|(id, terms)| Opposite { id, terms })
            .collect();
        Part {
            entries,
            is_last: rest.next().is_none(),
        }
    }

    fn list(
        &self,
        member: MemberId,
        subject: &Subject,
        every: u8,
        limit: usize,
    ) -> Result<Vec<(ObjectId, Decision)>, EvaluationError> {
        let class = Class {
            object_type: subject.object_type,
            relation: subject.relation,
        };
        let plan = Arc::new(Plan::new(self.schema, member, class, Breadth::Selected));
        let question = ResourceQuestion {
            subject: subject.clone(),
            after: None,
        };
        let mut search = ResourceSearch::new(
            self.schema,
            plan,
            question,
            &self.context,
            Timestamp(NOW),
            Limits::default(),
        );
        search.set_limit(limit);
        let mut found = Vec::new();
        for _ in 0..10_000 {
            match search.step(&Source { world: self, every })? {
                ListStep::Page(page) => {
                    assert!(page.items.len() <= limit);
                    found.extend(page.items.into_iter().map(|item| (item.id, item.decision)));
                    if page.next.is_none() {
                        return Ok(found);
                    }
                }
                ListStep::Yield => {}
                ListStep::Need(demands) => {
                    for demand in demands {
                        let supply = match &demand {
                            ListDemand::Check(Demand::Probe(key, _) | Demand::Scan(key)) => {
                                ListSupply::Check(Supply::Row(self.row(key)))
                            }
                            demand => ListSupply::Part(self.part(demand)),
                        };
                        search.supply(demand, supply);
                    }
                }
            }
        }
        panic!("the search does not end");
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let world = World::new(&mut input);
    let schema = world.schema;
    let member = MemberId(input.below(schema.members().len()) as u32);
    let object_type = inferadb_engine::schema::TypeId(input.below(schema.types().len()) as u32);
    let of_type = &schema.types()[object_type.index()].members;
    let relation = of_type.get(input.below(2 + 2 * of_type.len())).copied();
    let subject = Subject {
        object_type,
        id: match input.below(8) {
            0 if relation.is_none() => ObjectId::wildcard(),
            _ => input.id(),
        },
        relation,
    };
    let (every, limit) = (input.byte() % 4, 1 + input.below(4));
    let mut expected = Vec::new();
    let mut failed = false;
    for number in 0..OBJECTS {
        let resident = world.check(member, id(number), &subject, 1);
        let demanded = world.check(member, id(number), &subject, every);
        match (&resident, &demanded) {
            (Err(_), Err(_)) => failed = true,
            (resident, demanded) => assert_eq!(resident, demanded, "object {number}"),
        }
        match resident {
            Ok(Decision::Deny) | Err(_) => {}
            Ok(decision) => expected.push((id(number), decision)),
        }
    }
    match world.list(member, &subject, every, limit) {
        Ok(found) => {
            assert!(!failed, "{found:?}");
            assert_eq!(found, expected);
        }
        Err(error) => assert!(failed, "{error}"),
    }
});
