//! A vault small enough to write down: a schema and relationships as text, and checks of them.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail, and not every test uses everything"
)]

use std::sync::Arc;

use inferadb_engine::context::{Context, Value};
use inferadb_engine::evaluate::{
    Check, Decision, Evaluation, EvaluationError, Limits, Step, Subject, Verdict,
};
use inferadb_engine::noun::{Name, ObjectId, ObjectRef, SubjectRef, Timestamp};
use inferadb_engine::row::{Entry, Found, Row, RowKey, Rows, Supply, Terms};
use inferadb_engine::schema::{Schema, SlotId, SlotSubject, compile};
use rustc_hash::FxHashMap;

/// The moment of all checks.
pub const NOW: i64 = 1_000;

/// Rows, all at hand.
#[derive(Default)]
pub struct Resident(pub FxHashMap<RowKey, Row>);

impl Rows for Resident {
    fn row(&self, key: &RowKey) -> Found<'_> {
        self.0.get(key).map_or(Found::Empty, Found::Row)
    }
}

/// No row at hand: all are demanded.
pub struct Absent;

impl Rows for Absent {
    fn row(&self, _key: &RowKey) -> Found<'_> {
        Found::Unknown
    }
}

pub struct Vault {
    pub schema: Schema,
    pub rows: Resident,
    pub context: Context,
    pub limits: Limits,
}

impl Vault {
    /// A schema, and relationships one a line: `type:id#relation@subject`, then perhaps `until 1500` and `if caveat` or
    /// `if caveat=true` (what is stored for the parameter that has the caveat's name).
    pub fn new(schema: &str, relationships: &str) -> Self {
        let compiled = compile(schema).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let mut vault = Self {
            schema: compiled.schema,
            rows: Resident::default(),
            context: Context::new(),
            limits: Limits::default(),
        };
        for line in relationships
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            vault.relate(line);
        }
        vault
    }

    pub fn relate(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (object, rest) = words.next().unwrap().split_once('#').unwrap();
        let (relation, subject) = rest.split_once('@').unwrap();
        let object = ObjectRef::parse(object).unwrap();
        let subject = SubjectRef::parse(subject).unwrap();
        let mut terms = Terms::default();
        while let Some(word) = words.next() {
            let value = words.next().unwrap();
            match word {
                "until" => terms.expires_at = Some(Timestamp(value.parse().unwrap())),
                "if" => {
                    let (name, stored) = value.split_once('=').unwrap_or((value, ""));
                    let caveat = self.schema.caveat_named(&Name::parse(name).unwrap()).unwrap();
                    let stored = stored
                        .parse()
                        .ok()
                        .map(|stored| (name.to_owned(), Value::Bool(stored)));
                    terms.caveat = Some((caveat, stored.into_iter().collect()));
                }
                _ => panic!("`{line}`"),
            }
        }
        let plain = terms == Terms::default();
        let key = RowKey {
            slot: self.slot(&object, relation, &subject),
            object: object.id,
        };
        self.rows.0.entry(key).or_default().put(Entry {
            subject: subject.id,
            terms: (!plain).then(|| Arc::new(terms)),
        });
    }

    fn slot(&self, object: &ObjectRef, relation: &str, subject: &SubjectRef) -> SlotId {
        let schema = &self.schema;
        let object_type = schema.type_named(&object.object_type).unwrap();
        let relation = schema
            .member_named(object_type, &Name::parse(relation).unwrap())
            .unwrap();
        let subject_type = schema.type_named(&subject.object_type).unwrap();
        let class = match &subject.relation {
            Some(member) => SlotSubject::Userset(schema.member_named(subject_type, member).unwrap()),
            None if subject.id.is_wildcard() => SlotSubject::Wildcard,
            None => SlotSubject::Object,
        };
        let slots = &schema.members()[relation.index()].slots;
        let mut fitting = slots.iter().filter(|slot| {
            let slot = &schema.slots()[slot.index()];
            slot.subject_type == subject_type && slot.subject == class
        });
        *fitting.next().expect("the schema has no such class of subjects")
    }

    /// `type:id#member@subject` as a check.
    pub fn check(&self, text: &str) -> Check {
        let (object, rest) = text.split_once('#').unwrap();
        let (member, subject) = rest.split_once('@').unwrap();
        let object = ObjectRef::parse(object).unwrap();
        let subject = SubjectRef::parse(subject).unwrap();
        let object_type = self.schema.type_named(&object.object_type).unwrap();
        let subject_type = self.schema.type_named(&subject.object_type).unwrap();
        let relation = subject
            .relation
            .map(|name| self.schema.member_named(subject_type, &name).unwrap());
        Check {
            member: self
                .schema
                .member_named(object_type, &Name::parse(member).unwrap())
                .unwrap(),
            object: object.id,
            subject: Subject {
                object_type: subject_type,
                id: subject.id,
                relation,
            },
        }
    }

    pub fn evaluation(&self, text: &str) -> Evaluation<'_> {
        Evaluation::new(
            &self.schema,
            self.check(text),
            &self.context,
            Timestamp(NOW),
            self.limits,
        )
    }

    /// The verdict with all rows at hand, and that it is the same with none at hand.
    pub fn verdict(&self, text: &str) -> Result<Verdict, EvaluationError> {
        let resident = run(&mut self.evaluation(text), &self.rows, &self.rows);
        let demanded = run(&mut self.evaluation(text), &Absent, &self.rows);
        match (&resident, &demanded) {
            (Ok(resident), Ok(demanded)) => assert_eq!(resident.decision, demanded.decision, "{text}"),
            (resident, demanded) => assert_eq!(resident, demanded, "{text}"),
        }
        resident
    }

    pub fn decision(&self, text: &str) -> Decision {
        match self.verdict(text) {
            Ok(verdict) => verdict.decision,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    pub fn allows(&self, text: &str) {
        assert_eq!(self.decision(text), Decision::Allow, "{text}");
    }

    pub fn denies(&self, text: &str) {
        assert_eq!(self.decision(text), Decision::Deny, "{text}");
    }

    pub fn misses(&self, text: &str, names: &[&str]) {
        let missing = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(self.decision(text), Decision::Conditional { missing }, "{text}");
    }
}

/// Steps to the end; what is demanded is supplied from `all`.
pub fn run(
    evaluation: &mut Evaluation<'_>,
    source: &impl Rows,
    all: &Resident,
) -> Result<Verdict, EvaluationError> {
    loop {
        match evaluation.step(source)? {
            Step::Done(verdict) => return Ok(verdict),
            Step::Yield => {}
            Step::Need(demands) => {
                for demand in demands {
                    let (inferadb_engine::row::Demand::Probe(key, _)
                    | inferadb_engine::row::Demand::Scan(key)) = &demand;
                    let row = all.0.get(key).cloned().unwrap_or_default();
                    evaluation.supply(demand, Supply::Row(Arc::new(row)));
                }
            }
        }
    }
}

pub fn id(text: &str) -> ObjectId {
    ObjectId::parse(text).unwrap()
}
