//! Expansions against the reference: whoever is in the tree, read as the sets that it says it is, and nobody else, has the permission.

use std::collections::HashMap;

use inferadb_actors::{ExpandRequest, Expanded, Vault};
use inferadb_engine::context::Value;
use inferadb_engine::expand::{ExpandKind, ExpandNode, NodeId};
use inferadb_engine::noun::{Name, ObjectId, SubjectRef};
use inferadb_engine::row::Terms;
use inferadb_engine::schema::{ArrowMode, MemberId, Schema, SlotSubject};

use crate::Trial;
use crate::past::{self, Question, base};
use crate::random_subject;
use crate::reference::Answer;
use crate::world::{CAVEATS, Who};

/// 0 false, 1 unknown, 2 true.
type Level = u8;
type Levels = HashMap<Key, Level>;

/// What has a level of its own, so that a tree which names itself can be worked out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Member(MemberId, ObjectId),
    Exclusion(NodeId),
}

/// A tree, read for one subject.
struct Reading<'t> {
    expanded: &'t Expanded,
    subject: SubjectRef,
    request: [Option<bool>; CAVEATS],
}

impl Trial {
    /// Expands a random permission and reads the tree for the subject and some others.
    pub async fn expand(&mut self, vault: &Vault, who: &Who, request: [Option<bool>; CAVEATS]) {
        let state = self.state();
        let nodes = state.nodes();
        let node = nodes[self.dice.below(nodes.len())].clone();
        let (consistency, least) = self.consistency();
        let expand = ExpandRequest {
            resource: past::object(node.0, node.2),
            permission: Name::parse(&node.1).unwrap(),
            max_depth: 100,
            contextual: Default::default(),
        };
        let expanded = vault.expand(&expand, consistency, base(self.now)).await.unwrap();
        assert!(expanded.revision >= least);
        assert!(!expanded.tree.truncated, "the worlds are small");
        let others = (0..2).map(|_| random_subject(&mut self.dice, &state));
        for who in others.chain([who.clone()]).collect::<Vec<_>>() {
            let question = Question {
                node: node.clone(),
                who: who.clone(),
                request,
                now: self.now,
            };
            let reading = Reading {
                expanded: &expanded,
                subject: past::subject(&who),
                request,
            };
            let expected = self.past.answer(expanded.revision, &question).unwrap();
            let (low, high) = reading.well_founded();
            let is_right = match expected {
                Answer::Allow => (low, high) == (2, 2),
                Answer::Deny => (low, high) == (0, 0),
                Answer::Conditional(_) => (low, high) == (1, 1),
                Answer::Undefined => low != high,
            };
            assert!(
                is_right,
                "seed {}: {question:?} in a tree\nexpected {expected:?}, found {low} to {high}\n{:#?}\n{}",
                self.seed,
                expanded.tree,
                self.past.at(expanded.revision).describe()
            );
            self.tally.expanded += 1;
        }
    }
}

impl Reading<'_> {
    /// The bounds of the root's level, as the reference finds them.
    fn well_founded(&self) -> (Level, Level) {
        let root = |levels: &Levels| self.level(0, levels);
        let keys: Vec<(Key, NodeId)> = (0..self.expanded.tree.len() as NodeId)
            .filter_map(|id| Some((self.key(id)?, id)))
            .collect();
        let mut high: Levels = keys.iter().map(|(key, _)| (key.clone(), 2)).collect();
        loop {
            let low = self.least_fixpoint(&keys, &high);
            let next = self.least_fixpoint(&keys, &low);
            if next == high {
                return (root(&low), root(&high));
            }
            high = next;
        }
    }

    fn least_fixpoint(&self, keys: &[(Key, NodeId)], opposite: &Levels) -> Levels {
        let mut levels: Levels = keys.iter().map(|(key, _)| (key.clone(), 0)).collect();
        loop {
            let mut moved = false;
            for (key, id) in keys {
                let level = self.defined(*id, &levels, opposite);
                moved |= levels.insert(key.clone(), level) != Some(level);
            }
            if !moved {
                return levels;
            }
        }
    }

    fn node(&self, id: NodeId) -> &ExpandNode {
        self.expanded.tree.node(id).unwrap()
    }

    fn schema(&self) -> &Schema {
        self.expanded.schema()
    }

    /// What a node is known by, where it is shown in full.
    fn key(&self, id: NodeId) -> Option<Key> {
        let node = self.node(id);
        match &node.kind {
            ExpandKind::Member { member, object } if node.cut.is_none() => {
                Some(Key::Member(*member, object.clone()))
            }
            ExpandKind::Exclusion => Some(Key::Exclusion(id)),
            _ => None,
        }
    }

    /// The level that the parts of a node give it.
    fn defined(&self, id: NodeId, levels: &Levels, opposite: &Levels) -> Level {
        let node = self.node(id);
        match (&node.kind, node.children.as_slice()) {
            (ExpandKind::Exclusion, [left, right]) => {
                self.level(*left, levels).min(2 - self.level(*right, opposite))
            }
            (ExpandKind::Member { member, object }, [child]) => {
                let held = &self.schema().members()[member.index()];
                let of = &self.schema().types()[held.object_type.index()].name;
                let itself = self.subject.relation.as_ref() == Some(&held.name)
                    && (&self.subject.object_type, &self.subject.id) == (of, object);
                self.level(*child, levels).max(2 * u8::from(itself))
            }
            other => panic!("{other:?}"),
        }
    }

    fn level(&self, id: NodeId, levels: &Levels) -> Level {
        let node = self.node(id);
        let mut children = node.children.iter().map(|child| self.level(*child, levels));
        match &node.kind {
            ExpandKind::Member { member, object } => levels[&Key::Member(*member, object.clone())],
            ExpandKind::Exclusion => levels[&Key::Exclusion(id)],
            ExpandKind::Nil => 0,
            ExpandKind::Union | ExpandKind::This => children.max().unwrap_or(0),
            ExpandKind::Intersection => children.min().unwrap_or(2),
            ExpandKind::Itself { object_type, object } => {
                let of = &self.schema().types()[object_type.index()].name;
                let same = (&self.subject.object_type, &self.subject.id) == (of, object);
                2 * u8::from(same && self.subject.relation.is_none())
            }
            ExpandKind::Arrow { mode, .. } => match mode {
                ArrowMode::Any => children.max().unwrap_or(0),
                ArrowMode::All => children.min().unwrap_or(0),
            },
            ExpandKind::Subject {
                slot, subject, terms, ..
            } => {
                let held = &self.schema().slots()[slot.index()];
                let behind = match (children.next(), self.is_under_arrow(id), held.subject) {
                    (Some(level), ..) => level,
                    (None, true, _) | (None, _, SlotSubject::Userset(_)) => 0,
                    (None, false, of) => {
                        let of_type = &self.schema().types()[held.subject_type.index()].name;
                        let plain = self.subject.relation.is_none() && self.subject.object_type == *of_type;
                        let meant = of == SlotSubject::Wildcard || self.subject.id == *subject;
                        2 * u8::from(plain && meant)
                    }
                };
                behind.min(self.terms(terms.as_deref()))
            }
        }
    }

    fn is_under_arrow(&self, id: NodeId) -> bool {
        let nodes = (0..self.expanded.tree.len() as NodeId).map(|at| self.node(at));
        let parent = nodes.into_iter().find(|node| node.children.contains(&id));
        parent.is_some_and(|node| matches!(node.kind, ExpandKind::Arrow { .. }))
    }

    fn terms(&self, terms: Option<&Terms>) -> Level {
        let Some((caveat, stored)) = terms.and_then(|terms| terms.caveat.as_ref()) else {
            return 2;
        };
        let name = self.schema().caveats()[caveat.index()].name.as_str();
        let at: usize = name[1..].parse().unwrap();
        let stored = stored
            .get(&format!("v{at}"))
            .map(|value| *value == Value::Bool(true));
        match stored.or(self.request[at]) {
            Some(true) => 2,
            Some(false) => 0,
            None => 1,
        }
    }
}
