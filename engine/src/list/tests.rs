//! What random worlds cannot reach: members that are stored and computed at once, the plan's choices, and what is read.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use super::*;
use crate::context::Context;
use crate::evaluate::{Limits, Subject};
use crate::noun::{Name, ObjectRef, SubjectRef, Timestamp};
use crate::row::{Demand, Entry, Found, Row, RowKey, Supply};
use crate::schema::{Expr, MemberId, Schema, SlotSubject, TypeId, compile};

/// A schema and the rows of both directions.
struct Vault {
    schema: Schema,
    rows: BTreeMap<(SlotId, ObjectId), Row>,
    resources: BTreeMap<(SlotId, ObjectId), Vec<Opposite>>,
    limits: Limits,
    /// Whether checks need not demand rows.
    is_resident: bool,
}

impl Rows for Vault {
    fn row(&self, key: &RowKey) -> Found<'_> {
        if !self.is_resident {
            return Found::Unknown;
        }
        let row = self.rows.get(&(key.slot, key.object.clone()));
        row.map_or(Found::Empty, Found::Row)
    }
}

/// What a list came to, and what was read for it.
struct Outcome {
    listed: Vec<String>,
    /// Stretches and entries of the reverse rows.
    stretches: usize,
    entries: usize,
    next: Option<Position>,
    /// How often something was demanded, and the most at once.
    rounds: usize,
    most_at_once: usize,
}

impl Vault {
    fn new(schema: &str, relationships: &[String]) -> Self {
        let schema = compile(schema)
            .unwrap_or_else(|errors| panic!("{errors:#?}"))
            .schema;
        let mut vault = Self {
            schema,
            rows: BTreeMap::new(),
            resources: BTreeMap::new(),
            limits: Limits::default(),
            is_resident: true,
        };
        let mut entries: BTreeMap<_, Vec<Entry>> = BTreeMap::new();
        for text in relationships {
            let (object, rest) = text.split_once('#').unwrap();
            let (relation, subject) = rest.split_once('@').unwrap();
            let (object, subject) = (
                ObjectRef::parse(object).unwrap(),
                SubjectRef::parse(subject).unwrap(),
            );
            let slot = vault.slot(&object, relation, &subject);
            entries.entry((slot, object.id.clone())).or_default().push(Entry {
                subject: subject.id.clone(),
                terms: None,
            });
            vault
                .resources
                .entry((slot, subject.id))
                .or_default()
                .push(Opposite {
                    id: object.id,
                    terms: None,
                });
        }
        for opposites in vault.resources.values_mut() {
            opposites.sort_by(|a, b| a.id.cmp(&b.id));
        }
        vault.rows = entries
            .into_iter()
            .map(|(key, entries)| (key, Row::new(entries)))
            .collect();
        vault
    }

    fn type_id(&self, name: &str) -> TypeId {
        self.schema.type_named(&Name::parse(name).unwrap()).unwrap()
    }

    /// `type#member`
    fn member(&self, text: &str) -> MemberId {
        let (of, name) = text.split_once('#').unwrap();
        self.schema
            .member_named(self.type_id(of), &Name::parse(name).unwrap())
            .unwrap()
    }

    fn slot(&self, object: &ObjectRef, relation: &str, subject: &SubjectRef) -> SlotId {
        let relation = self.member(&format!("{}#{relation}", object.object_type));
        let of = self.type_id(subject.object_type.as_str());
        let class = match &subject.relation {
            Some(name) => SlotSubject::Userset(self.member(&format!("{}#{name}", subject.object_type))),
            None if subject.id.is_wildcard() => SlotSubject::Wildcard,
            None => SlotSubject::Object,
        };
        self.schema.slot_for(relation, of, class).unwrap()
    }

    fn drive(&self, mut search: impl Search, limit: usize) -> Result<Outcome, EvaluationError> {
        search.set_limit(limit);
        let (mut stretches, mut entries) = (0, 0);
        let (mut rounds, mut most_at_once) = (0, 0);
        loop {
            match search.step(self)? {
                ListStep::Page(page) => {
                    return Ok(Outcome {
                        listed: page.items.iter().map(|item| item.id.to_string()).collect(),
                        stretches,
                        entries,
                        next: page.next,
                        rounds,
                        most_at_once,
                    });
                }
                ListStep::Yield => {}
                ListStep::Need(demands) => {
                    rounds += 1;
                    most_at_once = most_at_once.max(demands.len());
                    for demand in demands {
                        if let (ListDemand::Check(Demand::Probe(key, _) | Demand::Scan(key)), false) =
                            (&demand, self.is_resident)
                        {
                            let row = self.rows.get(&(key.slot, key.object.clone()));
                            let row = Arc::new(row.cloned().unwrap_or_default());
                            search.supply(demand, ListSupply::Check(Supply::Row(row)));
                            continue;
                        }
                        let ListDemand::Resources(stretch) = &demand else {
                            panic!("all rows are at hand: {demand:?}")
                        };
                        let all = self.resources.get(&(stretch.slot, stretch.of.clone()));
                        let range = (stretch.start.clone(), Bound::Unbounded);
                        let all = all.into_iter().flatten();
                        let mut rest = all.filter(|held| range.contains(&held.id)).cloned();
                        let part: Vec<Opposite> = rest.by_ref().take(stretch.limit).collect();
                        stretches += 1;
                        entries += part.len();
                        let is_last = rest.next().is_none();
                        search.supply(
                            demand,
                            ListSupply::Part(Part {
                                entries: part,
                                is_last,
                            }),
                        );
                    }
                }
            }
        }
    }

    /// The first page of `type#member` for a subject.
    fn resources(&self, target: &str, subject: &str, limit: usize) -> Result<Outcome, EvaluationError> {
        let subject = SubjectRef::parse(subject).unwrap();
        let object_type = self.type_id(subject.object_type.as_str());
        let relation = subject
            .relation
            .map(|name| self.member(&format!("{}#{name}", subject.object_type)));
        let class = Class {
            object_type,
            relation,
        };
        let plan = Plan::new(&self.schema, self.member(target), class, Breadth::Selected);
        let question = ResourceQuestion {
            subject: Subject {
                object_type,
                id: subject.id,
                relation,
            },
            after: None,
        };
        let context = Context::new();
        let (plan, now) = (Arc::new(plan), Timestamp(0));
        self.drive(
            ResourceSearch::new(&self.schema, plan, question, &context, now, self.limits),
            limit,
        )
    }

    fn subjects(&self, resource: &str, member: &str, of: &str) -> Vec<String> {
        let resource = ObjectRef::parse(resource).unwrap();
        let class = Class {
            object_type: self.type_id(of),
            relation: None,
        };
        let target = self.member(&format!("{}#{member}", resource.object_type));
        let question = SubjectQuestion {
            resource: resource.id,
            from: None,
        };
        let context = Context::new();
        let plans = SubjectPlans::new(&self.schema, target, class);
        let search = SubjectSearch::new(&self.schema, plans, question, &context, Timestamp(0), self.limits);
        self.drive(search, 1_000).unwrap().listed
    }
}

fn texts(relationships: &[&str]) -> Vec<String> {
    relationships.iter().map(|text| (*text).to_owned()).collect()
}

/// As a model of the other kind has them: a relation that is stored, computed and inherited at once.
#[test]
fn members_that_are_stored_and_computed_at_once() {
    let mut vault = Vault::new(
        "
        definition user {}
        definition folder {
            relation parent: folder
            relation owner: user
            relation viewer: user | folder#viewer
        }
        definition document {
            relation parent: folder
            relation owner: user
            relation banned: user
            relation viewer: user | folder#viewer
        }",
        &texts(&[
            "folder:a#owner@user:u",
            "folder:b#parent@folder:a",
            "folder:c#viewer@folder:b#viewer",
            "folder:d#viewer@user:u",
            "document:1#parent@folder:c",
            "document:2#owner@user:u",
            "document:3#viewer@user:u",
            "document:4#viewer@folder:d#viewer",
            "document:5#parent@folder:a",
            "document:5#banned@user:u",
            "document:6#viewer@user:w",
        ]),
    );
    for of in ["folder", "document"] {
        let viewer = vault.member(&format!("{of}#viewer"));
        let arrow = Expr::Arrow {
            relation: vault.member(&format!("{of}#parent")),
            mode: crate::schema::ArrowMode::Any,
            targets: vec![(vault.type_id("folder"), vault.member("folder#viewer"))],
        };
        let owner = Expr::Member(vault.member(&format!("{of}#owner")));
        let union = Expr::Union(vec![Expr::This, owner, arrow]);
        vault.schema.members[viewer.index()].expr = match of {
            "folder" => union,
            _ => Expr::Exclusion(
                Box::new(union),
                Box::new(Expr::Member(vault.member("document#banned"))),
            ),
        };
    }
    for limit in [1_000, 100] {
        let listed = |target: &str, subject: &str| vault.resources(target, subject, limit).unwrap().listed;
        assert_eq!(listed("folder#viewer", "user:u"), ["a", "b", "c", "d"]);
        assert_eq!(listed("document#viewer", "user:u"), ["1", "2", "3", "4"]);
        assert_eq!(listed("document#viewer", "folder:b#viewer"), ["1"]);
        assert_eq!(listed("folder#viewer", "folder:a#viewer"), ["a", "b", "c"]);
    }
    assert_eq!(vault.subjects("document:1", "viewer", "user"), ["u"]);
    assert_eq!(vault.subjects("document:5", "viewer", "user"), [""; 0]);
    assert_eq!(vault.subjects("document:6", "viewer", "user"), ["w"]);
}

const DOCUMENTS: &str = "
    definition user {}
    definition group {
        relation member: user
        relation active: user
        permission working = member & active
    }
    definition document {
        relation viewer: user | group#working
        relation approver: user
        relation banned: user
        permission view = viewer
        permission publish = viewer & approver
        permission read = viewer - banned
        relation signer: user
        permission seal = (signer & approver) - banned
        permission both = signer & approver
        permission nothing = viewer & nil
    }";

#[test]
fn the_first_page_reads_about_one_chunk() {
    let mut stored: Vec<String> = (0..5_000)
        .map(|at| format!("document:d{at:05}#viewer@user:u"))
        .collect();
    stored.extend((0..5_000).map(|at| format!("document:e{at:05}#viewer@user:other")));
    let vault = Vault::new(DOCUMENTS, &stored);
    for target in ["document#view", "document#read"] {
        let page = vault.resources(target, "user:u", 100).unwrap();
        assert_eq!((page.listed.len(), page.listed[99].as_str()), (100, "d00099"));
        assert_eq!(
            page.next,
            Some(Position::After(ObjectId::parse("d00099").unwrap()))
        );
        assert!(
            page.entries <= 250,
            "{} entries for a page of 100 of {target}",
            page.entries
        );
    }
    let none = vault.resources("document#nothing", "user:u", 100).unwrap();
    assert_eq!((none.listed.len(), none.stretches), (0, 0));
}

#[test]
fn a_wide_false_branch_costs_nothing() {
    let mut stored: Vec<String> = (0..5_000)
        .map(|at| format!("document:d{at:05}#viewer@group:idle#working"))
        .collect();
    stored.extend(texts(&[
        "group:idle#member@user:u",
        "group:busy#member@user:u",
        "group:busy#active@user:u",
        "document:x#viewer@group:busy#working",
    ]));
    let vault = Vault::new(DOCUMENTS, &stored);
    let page = vault.resources("document#view", "user:u", 100).unwrap();
    assert_eq!(page.listed, ["x"]);
    assert!(page.entries < 20, "{}", page.entries);
}

#[test]
fn of_an_intersection_the_sparsest_operand_sets_the_pace() {
    // The sparse one is now the first operand, now the second; neither is known to be it before.
    for (dense, sparse) in [("signer", "approver"), ("approver", "signer")] {
        let mut stored: Vec<String> = (0..20_000)
            .map(|at| format!("document:d{at:05}#{dense}@user:u"))
            .collect();
        stored.extend((0..10).map(|at| format!("document:d{:05}#{sparse}@user:u", at * 2_000 + 7)));
        stored.push("document:d02007#banned@user:u".into());
        let vault = Vault::new(DOCUMENTS, &stored);
        for (target, expected) in [("document#both", 10), ("document#seal", 9)] {
            let page = vault.resources(target, "user:u", 100).unwrap();
            assert_eq!(page.listed.len(), expected);
            assert!(
                page.entries < 600,
                "{} entries for {target} with few {sparse}",
                page.entries
            );
        }
    }
}

#[test]
fn a_chain_and_a_cycle_of_any_length_are_followed_without_a_deep_stack() {
    let schema = "
        definition user {}
        definition folder {
            relation parent: folder
            relation viewer: user
            permission view = viewer + parent->view
        }";
    let length = 20_000;
    let mut stored: Vec<String> = (1..length)
        .map(|at| format!("folder:f{at:05}#parent@folder:f{:05}", at - 1))
        .collect();
    stored.push("folder:f00000#viewer@user:u".into());
    stored.push(format!("folder:f00000#parent@folder:f{:05}", length - 1));
    let mut vault = Vault::new(schema, &stored);
    let page = vault.resources("folder#view", "user:u", length).unwrap();
    assert_eq!(page.listed.len(), length);
    assert_eq!(page.next, None);
    vault.limits.max_work = 1_000;
    let cut = vault.resources("folder#view", "user:u", 10);
    assert!(matches!(
        cut,
        Err(EvaluationError::LimitExceeded {
            limit: "max_work",
            ..
        })
    ));
}

#[test]
fn a_schema_of_any_length_is_planned_without_a_deep_stack() {
    let mut schema = String::from("definition user {}\ndefinition thing {\n    relation p0: user\n");
    for at in 1..5_000 {
        schema.push_str(&format!("    permission p{at} = p{} & p0\n", at - 1));
    }
    schema.push('}');
    let vault = Vault::new(&schema, &texts(&["thing:a#p0@user:u"]));
    let page = vault.resources("thing#p4999", "user:u", 10);
    assert!(matches!(page, Ok(Outcome { listed, .. }) if listed == ["a"]));
}

#[test]
fn however_many_rows_lead_on_a_step_demands_few_of_them() {
    let schema = "
        definition user {}
        definition group {
            relation member: user | group#member
        }
        definition document {
            relation viewer: user | group#member
        }";
    let groups = 2_000;
    let mut stored = Vec::new();
    for at in 0..groups {
        stored.push(format!("group:g{at:05}#member@user:u"));
        stored.push(format!("document:d{at:05}#viewer@group:g{at:05}#member"));
    }
    let vault = Vault::new(schema, &stored);
    let page = vault.resources("document#viewer", "user:u", 3).unwrap();
    assert_eq!(page.listed, ["d00000", "d00001", "d00002"]);
    assert!(
        page.most_at_once <= super::explore::MAX_READINGS,
        "{}",
        page.most_at_once
    );
    // The user's groups, what each of them is in, and what stands above each.
    assert!(page.stretches < 2 * groups + 10, "{}", page.stretches);
    assert!(page.rounds < 30, "{}", page.rounds);
}

#[test]
fn where_all_are_denied_many_are_decided_side_by_side() {
    let schema = "
        definition user {}
        definition document {
            relation viewer: user
            relation banned: user
            permission view = viewer - banned
        }";
    let denied = 3_000;
    let mut stored = vec!["document:z#viewer@user:u".to_owned()];
    for at in 0..denied {
        stored.push(format!("document:d{at:05}#viewer@user:u"));
        stored.push(format!("document:d{at:05}#banned@user:u"));
    }
    let mut vault = Vault::new(schema, &stored);
    vault.is_resident = false;
    let page = vault.resources("document#view", "user:u", 1).unwrap();
    assert_eq!((page.listed, page.next), (vec!["z".to_owned()], None));
    // One page of one entry, 128 candidates at once where so many were denied before.
    assert!(page.rounds < 100, "{}", page.rounds);
}
