//! Expansion: what the tree shows, where it is cut, and that it means what checks say.
#![allow(missing_docs, reason = "tests")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod evaluate_support;
#[path = "evaluate_random/world.rs"]
#[allow(dead_code, reason = "not every test uses everything")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use evaluate_support::{Absent, NOW, Resident, Vault};
use inferadb_engine::evaluate::{Check, Decision, Evaluation, Limits, Subject};
use inferadb_engine::expand::{
    ExpandCut, ExpandKind, ExpandLimits, ExpandNode, ExpandStep, ExpandTree, Expansion, NodeId,
};
use inferadb_engine::noun::{ObjectId, Timestamp};
use inferadb_engine::row::{Found, Row, RowKey, Rows};
use inferadb_engine::schema::{ArrowMode, MemberId, Schema, SlotSubject, TypeId};

const SCHEMA: &str = "
    use expiration
    use self
    caveat c(x int) {
        x > 1
    }
    definition user {}
    definition group {
        relation member: user | group#member
    }
    definition folder {
        relation parent: folder
        relation viewer: user | user:* | group#member | user with c | user with expiration
        relation banned: user
        permission view = viewer + parent->view
        permission see = view - banned
        permission both = viewer & see
        permission all = parent.all(viewer)
        permission odd = self + nil
    }";

const LIMITS: ExpandLimits = ExpandLimits {
    max_depth: 100,
    max_nodes: 10_000,
    max_work: 1_000_000,
    quantum: 10_000,
};

/// Steps to the end; what is demanded is supplied by `answer`, one row or all at once.
fn expand(
    mut expansion: Expansion<'_>,
    rows: &impl Rows,
    one_at_a_time: bool,
    answer: impl Fn(&RowKey, usize) -> (Row, bool),
) -> ExpandTree {
    loop {
        match expansion.step(rows) {
            ExpandStep::Done(tree) => return tree,
            ExpandStep::Yield => {}
            ExpandStep::Need(keys) => {
                assert!(!keys.is_empty() && keys.len() <= 64, "{} rows", keys.len());
                let most = if one_at_a_time { 1 } else { keys.len() };
                for key in keys.into_iter().take(most) {
                    let (row, whole) = answer(&key, expansion.room());
                    expansion.supply(key, Arc::new(row), whole);
                }
            }
        }
    }
}

/// The tree of `type:id#member`, which is the same with all rows at hand and with none.
fn tree(vault: &Vault, resource: &str, limits: ExpandLimits) -> ExpandTree {
    let check = vault.check(&format!("{resource}@user:x"));
    let start = || {
        Expansion::new(
            &vault.schema,
            check.member,
            check.object.clone(),
            Timestamp(NOW),
            limits,
        )
    };
    let whole = |key: &RowKey, _| (vault.rows.0.get(key).cloned().unwrap_or_default(), true);
    let resident = expand(start(), &vault.rows, false, whole);
    for one_at_a_time in [false, true] {
        assert_eq!(
            expand(start(), &Absent, one_at_a_time, whole),
            resident,
            "{resource}"
        );
    }
    // Of a wide row only as much is read as there is room for.
    let partial = expand(start(), &Absent, false, |key, room| {
        let (row, _) = whole(key, room);
        let first = row.entries().take(room + 1).cloned().collect();
        (Row::new(first), row.len() <= room + 1)
    });
    assert_eq!(partial, resident, "{resource}, in parts");
    resident
}

/// One line a node, as a person would write it.
fn text(vault: &Vault, tree: &ExpandTree) -> String {
    let mut text = String::new();
    let mut left = vec![(0, 0)];
    while let Some((id, depth)) = left.pop() {
        let node = tree.node(id).unwrap();
        let _ = write!(
            text,
            "{:width$}{}",
            "",
            line(&vault.schema, node),
            width = 2 * depth
        );
        text.push_str(match node.cut {
            None => "\n",
            Some(ExpandCut::Recursion) => " (recursion)\n",
            Some(ExpandCut::Elsewhere) => " (elsewhere)\n",
            Some(ExpandCut::Depth) => " (depth)\n",
            Some(ExpandCut::Size) => " (size)\n",
        });
        left.extend(node.children.iter().rev().map(|child| (*child, depth + 1)));
    }
    text
}

fn line(schema: &Schema, node: &ExpandNode) -> String {
    let type_name = |of: TypeId| schema.types().get(of.index()).unwrap().name.to_string();
    let member_name = |of: MemberId| schema.members().get(of.index()).unwrap().name.to_string();
    match &node.kind {
        ExpandKind::Member { member, object } => {
            let of = schema.members().get(member.index()).unwrap().object_type;
            format!("{}:{object}#{}", type_name(of), member_name(*member))
        }
        ExpandKind::Union => "union".into(),
        ExpandKind::Intersection => "intersection".into(),
        ExpandKind::Exclusion => "exclusion".into(),
        ExpandKind::Nil => "nil".into(),
        ExpandKind::Itself { object_type, object } => format!("self {}:{object}", type_name(*object_type)),
        ExpandKind::This => "this".into(),
        ExpandKind::Arrow { relation, mode, .. } => format!("{mode:?} {}", member_name(*relation)),
        ExpandKind::Subject {
            slot,
            subject,
            terms,
            contextual,
        } => {
            let slot = schema.slots().get(slot.index()).unwrap();
            let mut line = format!("{}:{subject}", type_name(slot.subject_type));
            if let SlotSubject::Userset(member) = slot.subject {
                let _ = write!(line, "#{}", member_name(member));
            }
            if let Some(terms) = terms {
                line.push_str(if terms.caveat.is_some() { " if" } else { "" });
                let _ = write!(line, " {:?}", terms.expires_at.map(|at| at.0));
            }
            line.push_str(if *contextual { " contextual" } else { "" });
            line
        }
    }
}

fn shows(vault: &Vault, resource: &str, limits: ExpandLimits, expected: &str) {
    let found = tree(vault, resource, limits);
    let left_out = [Some(ExpandCut::Depth), Some(ExpandCut::Size)];
    let cut = (0..found.len() as NodeId).any(|id| left_out.contains(&found.node(id).unwrap().cut));
    assert_eq!(found.truncated, cut, "{resource}");
    let dedented: Vec<&str> = expected
        .lines()
        .skip(1)
        .map(|line| line.get(8..).unwrap_or(""))
        .collect();
    assert_eq!(
        text(vault, &found).trim_end(),
        dedented.join("\n").trim_end(),
        "{resource}"
    );
}

#[test]
fn the_tree_shows_how_subjects_got_there() {
    let vault = Vault::new(
        SCHEMA,
        "folder:f#viewer@user:a
        folder:f#viewer@user:b if c
        folder:f#viewer@user:gone until 900
        folder:f#viewer@user:soon until 1500
        folder:f#viewer@user:*
        folder:f#viewer@group:g#member
        folder:f#parent@folder:up
        folder:f#banned@user:a
        folder:up#viewer@user:c
        folder:up#viewer@group:g#member
        group:g#member@user:d
        group:g#member@group:h#member
        group:h#member@group:g#member",
    );
    shows(
        &vault,
        "folder:f#see",
        LIMITS,
        "
        folder:f#see
          exclusion
            folder:f#view
              union
                folder:f#viewer
                  this
                    user:a
                    user:b if None
                    user:soon Some(1500)
                    user:*
                    group:g#member
                      group:g#member
                        this
                          user:d
                          group:h#member
                            group:h#member
                              this
                                group:g#member
                                  group:g#member (recursion)
                Any parent
                  folder:up
                    folder:up#view
                      union
                        folder:up#viewer
                          this
                            user:c
                            group:g#member
                              group:g#member (elsewhere)
                        Any parent
            folder:f#banned
              this
                user:a",
    );
    shows(
        &vault,
        "folder:f#all",
        LIMITS,
        "
        folder:f#all
          All parent
            folder:up
              folder:up#viewer
                this
                  user:c
                  group:g#member
                    group:g#member
                      this
                        user:d
                        group:h#member
                          group:h#member
                            this
                              group:g#member
                                group:g#member (recursion)",
    );
    shows(
        &vault,
        "folder:f#odd",
        LIMITS,
        "
        folder:f#odd
          union
            self folder:f
            nil",
    );
    shows(
        &vault,
        "folder:none#both",
        LIMITS,
        "
        folder:none#both
          intersection
            folder:none#viewer
              this
            folder:none#see
              exclusion
                folder:none#view
                  union
                    folder:none#viewer (elsewhere)
                    Any parent
                folder:none#banned
                  this",
    );
}

#[test]
fn the_tree_says_where_it_was_cut() {
    let vault = Vault::new(
        SCHEMA,
        "folder:0#parent@folder:1
        folder:1#parent@folder:2
        folder:0#viewer@user:a
        folder:0#viewer@user:b
        folder:0#viewer@group:g#member
        folder:1#viewer@user:c
        group:g#member@user:d",
    );
    let limits = |max_depth, max_nodes| ExpandLimits {
        max_depth,
        max_nodes,
        ..LIMITS
    };
    shows(
        &vault,
        "folder:0#view",
        limits(0, 100),
        "
        folder:0#view
          union
            folder:0#viewer
              this
                user:a
                user:b
                group:g#member
                  group:g#member (depth)
            Any parent
              folder:1
                folder:1#view (depth)",
    );
    shows(
        &vault,
        "folder:0#view",
        limits(1, 100),
        "
        folder:0#view
          union
            folder:0#viewer
              this
                user:a
                user:b
                group:g#member
                  group:g#member
                    this
                      user:d
            Any parent
              folder:1
                folder:1#view
                  union
                    folder:1#viewer
                      this
                        user:c
                    Any parent
                      folder:2
                        folder:2#view (depth)",
    );
    // What lies near comes first.
    shows(
        &vault,
        "folder:0#view",
        limits(9, 7),
        "
        folder:0#view
          union
            folder:0#viewer
              this (size)
                user:a
            Any parent
              folder:1 (size)",
    );
    shows(
        &vault,
        "folder:0#viewer",
        limits(9, 4),
        "
        folder:0#viewer
          this (size)
            user:a
            user:b",
    );
    shows(
        &vault,
        "folder:1#viewer",
        limits(9, 4),
        "
        folder:1#viewer
          this
            user:c",
    );
    let tired = ExpandLimits {
        max_work: 4,
        ..LIMITS
    };
    shows(
        &vault,
        "folder:0#viewer",
        tired,
        "
        folder:0#viewer
          this (size)
            user:a",
    );
}

#[test]
fn hostile_data_and_schemas_end() {
    // Groups each of which has every other one as a member.
    let mut relationships = String::new();
    for from in 0..60 {
        for to in (0..60).filter(|to| *to != from) {
            let _ = writeln!(relationships, "group:{from}#member@group:{to}#member");
        }
    }
    let dense = Vault::new(SCHEMA, &relationships);
    let found = tree(&dense, "group:0#member", LIMITS);
    assert!(!found.truncated && found.len() > 60 * 59, "{}", found.len());
    // Permissions that name each other: no step along the data, however long the chain is.
    let mut schema = String::from("definition user {}\ndefinition doc {\nrelation p0: user\n");
    for at in 1..2_000 {
        let _ = writeln!(schema, "permission p{at} = p{}", at - 1);
    }
    schema.push('}');
    let chain = Vault::new(&schema, "doc:d#p0@user:a");
    let found = tree(&chain, "doc:d#p1999", LIMITS);
    assert!(found.truncated && found.len() < 600, "{}", found.len());
    // Folders, each in the next, beyond any depth.
    let mut relationships = String::new();
    for at in 0..5_000 {
        let _ = writeln!(relationships, "folder:{at}#parent@folder:{}", at + 1);
    }
    let deep = Vault::new(SCHEMA, &relationships);
    let boundless = ExpandLimits {
        max_depth: u32::MAX,
        ..LIMITS
    };
    assert!(tree(&deep, "folder:0#view", boundless).truncated);
    // Work is done in quanta.
    let check = dense.check("group:0#member@user:x");
    let limits = ExpandLimits {
        quantum: 10,
        ..LIMITS
    };
    let mut expansion = Expansion::new(&dense.schema, check.member, check.object, Timestamp(NOW), limits);
    let mut yields = 0;
    while expansion.step(&dense.rows) == ExpandStep::Yield {
        yields += 1;
    }
    assert!(yields > 50, "{yields}");
}

/// All rows of a random world.
struct All<'s>(&'s BTreeMap<(u32, ObjectId), Arc<Row>>);

impl Rows for All<'_> {
    fn row(&self, key: &RowKey) -> Found<'_> {
        self.0
            .get(&world::key_of(key))
            .map_or(Found::Empty, |row| Found::Row(row))
    }
}

/// A plain subject: its type and object.
type Plain = (TypeId, usize);

/// Who is in each member that a tree shows, read from the tree alone.
struct Reading<'t> {
    schema: &'t Schema,
    tree: &'t ExpandTree,
    everybody: BTreeSet<Plain>,
    members: BTreeMap<(MemberId, ObjectId), BTreeSet<Plain>>,
}

impl Reading<'_> {
    /// Whom a node holds; of a subject that an arrow follows only what lies behind it counts.
    fn of(&mut self, id: NodeId, followed: bool) -> BTreeSet<Plain> {
        let node = self.tree.node(id).unwrap().clone();
        let follows = matches!(node.kind, ExpandKind::Arrow { .. });
        let children = node.children.iter();
        let mut sets: Vec<BTreeSet<Plain>> = children.map(|child| self.of(*child, follows)).collect();
        let union = |sets: Vec<BTreeSet<Plain>>| sets.into_iter().flatten().collect();
        let common = |sets: Vec<BTreeSet<Plain>>| {
            let mut sets = sets.into_iter();
            let first = sets.next().unwrap_or_default();
            sets.fold(first, |held, set| held.intersection(&set).copied().collect())
        };
        match node.kind {
            ExpandKind::Member { member, object } => {
                let held = self.members.entry((member, object)).or_default();
                match node.cut {
                    None => *held = sets.pop().unwrap(),
                    Some(cut) => assert!(matches!(cut, ExpandCut::Recursion | ExpandCut::Elsewhere)),
                }
                held.clone()
            }
            ExpandKind::Union | ExpandKind::This => union(sets),
            ExpandKind::Arrow {
                mode: ArrowMode::Any, ..
            } => union(sets),
            ExpandKind::Intersection | ExpandKind::Arrow { .. } => common(sets),
            ExpandKind::Nil => BTreeSet::new(),
            ExpandKind::Exclusion => panic!("no exclusions here"),
            ExpandKind::Itself { object_type, object } => BTreeSet::from([(object_type, number(&object))]),
            ExpandKind::Subject { slot, subject, .. } => {
                let slot = self.schema.slots().get(slot.index()).unwrap();
                match slot.subject {
                    _ if followed || !node.children.is_empty() => union(sets),
                    SlotSubject::Object => BTreeSet::from([(slot.subject_type, number(&subject))]),
                    SlotSubject::Wildcard => {
                        let of_type = |plain: &&Plain| plain.0 == slot.subject_type;
                        self.everybody.iter().filter(of_type).copied().collect()
                    }
                    SlotSubject::Userset(_) => BTreeSet::new(),
                }
            }
        }
    }
}

fn number(id: &ObjectId) -> usize {
    id.as_str().trim_start_matches('o').parse().unwrap()
}

#[test]
fn the_tree_means_what_checks_say() {
    let mut compared = 0;
    for seed in 1..=400 {
        let mut dice = world::Dice(seed);
        let random = world::World::random(&mut dice);
        let text = random.text();
        let plain = random.edges.iter().all(|edge| edge.caveat.is_none());
        // Without exclusions the least fixpoint is what counts, and there is but one way to it.
        if !plain || text.contains(" - ") {
            continue;
        }
        let schema = inferadb_engine::schema::compile(&text).unwrap().schema;
        let rows = random.rows(&schema);
        let now = Timestamp(world::NOW);
        let everybody: BTreeSet<Plain> = (0..random.types.len())
            .flat_map(|of| (0..world::OBJECTS).map(move |object| (of, object)))
            .map(|(of, object)| (world::type_id(&schema, of), object))
            .collect();
        for at in 0..schema.members().len() as u32 {
            let object = world::object_id(dice.below(world::OBJECTS));
            let start = || Expansion::new(&schema, MemberId(at), object.clone(), now, LIMITS);
            let answer = |key: &RowKey, _| {
                let row = rows.get(&world::key_of(key)).cloned().unwrap_or_default();
                (Row::clone(&row), true)
            };
            let tree = expand(start(), &All(&rows), false, answer);
            assert_eq!(expand(start(), &Absent, true, answer), tree, "seed {seed}");
            assert!(!tree.truncated);
            let mut reading = Reading {
                schema: &schema,
                tree: &tree,
                everybody: everybody.clone(),
                members: BTreeMap::new(),
            };
            let mut found = reading.of(0, false);
            loop {
                let again = reading.of(0, false);
                let before = reading.members.clone();
                let settled = again == found && reading.of(0, false) == again && reading.members == before;
                found = again;
                if settled {
                    break;
                }
            }
            for (object_type, subject) in &everybody {
                let check = Check {
                    member: MemberId(at),
                    object: object.clone(),
                    subject: Subject {
                        object_type: *object_type,
                        id: world::object_id(*subject),
                        relation: None,
                    },
                };
                let context = random.context();
                let mut evaluation = Evaluation::new(&schema, check, &context, now, Limits::default());
                let verdict =
                    evaluate_support::run(&mut evaluation, &All(&rows), &Resident::default()).unwrap();
                let inside = found.contains(&(*object_type, *subject));
                assert_eq!(
                    verdict.decision == Decision::Allow,
                    inside,
                    "seed {seed}: {object_type:?}:{subject}\n{text}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 2_000, "the worlds are too few: {compared}");
}
