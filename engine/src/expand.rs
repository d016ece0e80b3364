//! Expansion: who stands in a relation or permission, and how they got there, as a tree.
//!
//! It is stepped like an evaluation, breadth first: what lies near the resource is shown before what lies deep, and where the tree
//! may not grow any more it says so at the very place. Nothing recurses along the data. Which rows are at hand changes
//! nothing about the tree.

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::noun::{ObjectId, Timestamp};
use crate::row::{Entry, Found, Row, RowKey, Rows, Terms};
use crate::schema::{ArrowMode, Expr, MemberId, Schema, SlotId, SlotSubject, TypeId};

/// How many rows are demanded at once.
const MAX_DEMANDS: usize = 64;

/// How deep the tree may be, counted in nodes. It bounds the stack that walking it takes, where a schema chains permissions
/// endlessly; along the data [`ExpandLimits::max_depth`] comes first.
const MAX_TREE_DEPTH: u32 = 512;

/// A node's position in its tree.
pub type NodeId = u32;

/// How far one expansion may go. What lies beyond is not shown, and the tree says where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpandLimits {
    /// How many steps from object to object, by usersets and arrows.
    pub max_depth: u32,
    /// How many nodes the tree may have.
    pub max_nodes: usize,
    /// How many rows and entries may be read.
    pub max_work: u64,
    /// After how many rows and entries one step yields.
    pub quantum: u64,
}

/// Who has a member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandTree {
    nodes: Vec<ExpandNode>,
    /// Whether anything was left out: the nodes that are [cut](ExpandNode::cut) for another reason than that they are shown
    /// elsewhere say where.
    pub truncated: bool,
}

/// One part of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandNode {
    /// What it is.
    pub kind: ExpandKind,
    /// What it is made of, in the order of the schema, and of subjects' ids.
    pub children: Vec<NodeId>,
    /// Why some or all of its children are not shown, if so.
    pub cut: Option<ExpandCut>,
    parent: NodeId,
    depth: u32,
}

/// What a part of the tree is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpandKind {
    /// A relation or permission of an object. Its child is how it is decided.
    Member {
        /// The relation or permission.
        member: MemberId,
        /// The object's id; its type is the member's.
        object: ObjectId,
    },
    /// Whoever is in one of the children.
    Union,
    /// Whoever is in all of them.
    Intersection,
    /// Whoever is in the first and not in the second.
    Exclusion,
    /// Nobody.
    Nil,
    /// The object itself.
    Itself {
        /// Its type.
        object_type: TypeId,
        /// Its id.
        object: ObjectId,
    },
    /// The relationships of a relation; the children are their subjects.
    This,
    /// An arrow; the children are the subjects that it follows.
    Arrow {
        /// The relation that is followed.
        relation: MemberId,
        /// Whether one of them is enough, or all must agree.
        mode: ArrowMode,
    },
    /// The subject of a relationship that has not expired. A userset's or an arrow's child is what lies behind it.
    Subject {
        /// The relation and the class of subjects.
        slot: SlotId,
        /// The subject's id.
        subject: ObjectId,
        /// The relationship's terms.
        terms: Option<Arc<Terms>>,
        /// Whether it is not stored but counts for this request alone.
        contextual: bool,
    },
}

/// Why something is not shown below a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpandCut {
    /// It lies within itself: whoever is in it is in it.
    Recursion,
    /// It is shown in full elsewhere in the tree.
    Elsewhere,
    /// It lies deeper than [`ExpandLimits::max_depth`] steps.
    Depth,
    /// The tree may not grow any more. Some children may be there.
    Size,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpandStep {
    /// The tree. There is no later step.
    Done(ExpandTree),
    /// The expansion cannot go on before some of these rows were supplied, the first of them at least. Each is named once.
    Need(Vec<RowKey>),
    /// A quantum of work was done; step again.
    Yield,
}

/// One expansion under way. All rows, whether read from the source or supplied, must be of one revision.
#[derive(Debug)]
pub struct Expansion<'a> {
    schema: &'a Schema,
    now: Timestamp,
    limits: ExpandLimits,
    nodes: Vec<ExpandNode>,
    tasks: VecDeque<Task<'a>>,
    /// Rows that were supplied, until they are used; and whether they are whole.
    supplied: FxHashMap<RowKey, (Arc<Row>, bool)>,
    shown: FxHashSet<(MemberId, ObjectId)>,
    work: u64,
    truncated: bool,
}

/// The next children of a node.
#[derive(Debug)]
struct Task<'a> {
    parent: NodeId,
    place: Place,
    work: Work<'a>,
}

/// The member and object that an expression is read for.
#[derive(Debug, Clone)]
struct Place {
    member: MemberId,
    object: ObjectId,
    steps: u32,
}

#[derive(Debug)]
enum Work<'a> {
    /// The place's member itself.
    Member,
    /// A part of its expression.
    Expr(&'a Expr),
    /// The subjects of one of its slots, each followed to a member if there is one to follow to.
    Row(SlotId, Option<MemberId>),
}

impl ExpandTree {
    /// The node of the resource and permission that were asked about.
    pub fn root(&self) -> Option<&ExpandNode> {
        self.nodes.first()
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&ExpandNode> {
        self.nodes.get(id as usize)
    }

    /// How many nodes it has.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl<'a> Expansion<'a> {
    /// Prepares the expansion of `member` of `object`. `now` is the moment at which expiry is judged.
    pub fn new(
        schema: &'a Schema,
        member: MemberId,
        object: ObjectId,
        now: Timestamp,
        limits: ExpandLimits,
    ) -> Self {
        let place = Place {
            member,
            object,
            steps: 0,
        };
        let root = Task {
            parent: 0,
            place,
            work: Work::Member,
        };
        Self {
            schema,
            now,
            limits,
            nodes: Vec::new(),
            tasks: VecDeque::from([root]),
            supplied: FxHashMap::default(),
            shown: FxHashSet::default(),
            work: 0,
            truncated: false,
        }
    }

    /// How many more nodes the tree may have: reading more entries of a row than that is of no use.
    pub fn room(&self) -> usize {
        self.limits.max_nodes.saturating_sub(self.nodes.len())
    }

    /// Goes on until the tree is whole or full, rows are missing, or a quantum of work is done.
    pub fn step(&mut self, rows: &impl Rows) -> ExpandStep {
        let started = self.work;
        while let Some(task) = self.tasks.pop_front() {
            if let Some(task) = self.run(rows, task) {
                self.tasks.push_front(task);
                return ExpandStep::Need(self.demands(rows));
            }
            if self.work - started >= self.limits.quantum {
                return ExpandStep::Yield;
            }
        }
        ExpandStep::Done(ExpandTree {
            nodes: std::mem::take(&mut self.nodes),
            truncated: self.truncated,
        })
    }

    /// Answers one of the demands of [`ExpandStep::Need`] with the row or, where `whole` is `false`, its first entries.
    pub fn supply(&mut self, key: RowKey, row: Arc<Row>, whole: bool) {
        self.supplied.insert(key, (row, whole));
    }

    /// The rows that the next tasks need and that are not at hand.
    fn demands(&self, rows: &impl Rows) -> Vec<RowKey> {
        let mut named = FxHashSet::default();
        let mut demands = Vec::new();
        for task in &self.tasks {
            let Work::Row(slot, _) = task.work else { continue };
            let key = task.place.row(slot);
            let unknown = !self.supplied.contains_key(&key) && matches!(rows.row(&key), Found::Unknown);
            if unknown && named.insert(key.clone()) {
                demands.push(key);
                if demands.len() == MAX_DEMANDS {
                    break;
                }
            }
        }
        demands
    }

    /// Does a task; gives it back if it needs a row that is not at hand.
    fn run(&mut self, rows: &impl Rows, task: Task<'a>) -> Option<Task<'a>> {
        self.work += 1;
        if self.room() == 0 || self.work > self.limits.max_work {
            self.cut(task.parent, ExpandCut::Size);
            return None;
        }
        match task.work {
            Work::Member => self.member(task.parent, task.place),
            Work::Expr(expr) => self.expr(task.parent, task.place, expr),
            Work::Row(slot, target) => {
                let key = task.place.row(slot);
                match rows.row(&key) {
                    Found::Row(row) => self.subjects(rows, &task, &key, row.entries(), target),
                    Found::Empty => {}
                    Found::Unknown => match self.supplied.remove(&key) {
                        Some((row, whole)) => {
                            self.subjects(rows, &task, &key, row.entries(), target);
                            if !whole {
                                self.cut(task.parent, ExpandCut::Size);
                            }
                        }
                        None => return Some(task),
                    },
                }
            }
        }
        None
    }

    fn member(&mut self, parent: NodeId, place: Place) {
        let Some(member) = self.schema.members().get(place.member.index()) else {
            return;
        };
        let kind = ExpandKind::Member {
            member: place.member,
            object: place.object.clone(),
        };
        let node = self.add(parent, kind);
        let met = (place.member, place.object.clone());
        if self.shown.contains(&met) {
            let within = self.lies_within(parent, &met);
            let cut = match within {
                true => ExpandCut::Recursion,
                false => ExpandCut::Elsewhere,
            };
            self.cut(node, cut);
        } else if place.steps > self.limits.max_depth {
            self.cut(node, ExpandCut::Depth);
        } else if self.depth(node) >= MAX_TREE_DEPTH {
            self.cut(node, ExpandCut::Size);
        } else {
            self.shown.insert(met);
            self.later(node, place, Work::Expr(&member.expr));
        }
    }

    fn expr(&mut self, parent: NodeId, place: Place, expr: &'a Expr) {
        let operands = |kind, operands: &mut dyn Iterator<Item = &'a Expr>, expansion: &mut Self| {
            let node = expansion.add(parent, kind);
            for operand in operands {
                expansion.later(node, place.clone(), Work::Expr(operand));
            }
        };
        match expr {
            Expr::Member(member) => {
                let member = *member;
                self.member(parent, Place { member, ..place });
            }
            Expr::Union(list) => operands(ExpandKind::Union, &mut list.iter(), self),
            Expr::Intersection(list) => operands(ExpandKind::Intersection, &mut list.iter(), self),
            Expr::Exclusion(left, right) => {
                let mut both = [&**left, &**right].into_iter();
                operands(ExpandKind::Exclusion, &mut both, self);
            }
            Expr::Nil => {
                self.add(parent, ExpandKind::Nil);
            }
            Expr::Itself => {
                if let Some(member) = self.schema.members().get(place.member.index()) {
                    let object_type = member.object_type;
                    let object = place.object;
                    self.add(parent, ExpandKind::Itself { object_type, object });
                }
            }
            Expr::This => {
                let node = self.add(parent, ExpandKind::This);
                let relation = place.member;
                self.rows(node, &place, relation, |_, subject| match subject {
                    SlotSubject::Userset(target) => Some(target),
                    SlotSubject::Object | SlotSubject::Wildcard => None,
                });
            }
            Expr::Arrow {
                relation,
                mode,
                targets,
            } => {
                let kind = ExpandKind::Arrow {
                    relation: *relation,
                    mode: *mode,
                };
                let node = self.add(parent, kind);
                self.rows(node, &place, *relation, |subject_type, _| {
                    let target = targets.iter().find(|(of, _)| *of == subject_type);
                    target.map(|(_, member)| *member)
                });
            }
        }
    }

    /// Has the subjects of a relation of the place's object become children of `node`; an arrow passes wildcards over.
    fn rows(
        &mut self,
        node: NodeId,
        place: &Place,
        relation: MemberId,
        target: impl Fn(TypeId, SlotSubject) -> Option<MemberId>,
    ) {
        let schema = self.schema;
        let slots = schema.members().get(relation.index());
        let follows = !matches!(self.kind(node), Some(ExpandKind::This));
        for id in slots.into_iter().flat_map(|member| &member.slots) {
            let Some(slot) = schema.slots().get(id.index()) else {
                continue;
            };
            if follows && slot.subject == SlotSubject::Wildcard {
                continue;
            }
            let target = target(slot.subject_type, slot.subject);
            self.later(node, place.clone(), Work::Row(*id, target));
        }
    }

    fn subjects(
        &mut self,
        rows: &impl Rows,
        task: &Task<'a>,
        key: &RowKey,
        entries: &[Entry],
        target: Option<MemberId>,
    ) {
        let now = self.now;
        let expired = |entry: &Entry| {
            let expires_at = entry.terms.as_ref().and_then(|terms| terms.expires_at);
            expires_at.is_some_and(|expires_at| expires_at <= now)
        };
        for entry in entries {
            self.work += 1;
            if expired(entry) {
                continue;
            }
            if self.room() == 0 || self.work > self.limits.max_work {
                self.cut(task.parent, ExpandCut::Size);
                return;
            }
            let kind = ExpandKind::Subject {
                slot: key.slot,
                subject: entry.subject.clone(),
                terms: entry.terms.clone(),
                contextual: rows.is_contextual(key, &entry.subject),
            };
            let node = self.add(task.parent, kind);
            if let Some(member) = target {
                let place = Place {
                    member,
                    object: entry.subject.clone(),
                    steps: task.place.steps.saturating_add(1),
                };
                self.later(node, place, Work::Member);
            }
        }
    }

    fn add(&mut self, parent: NodeId, kind: ExpandKind) -> NodeId {
        // `max_nodes` bounds the tree far below this.
        let id = NodeId::try_from(self.nodes.len()).unwrap_or(NodeId::MAX);
        let depth = match id {
            0 => 0,
            _ => self.depth(parent) + 1,
        };
        self.nodes.push(ExpandNode {
            kind,
            children: Vec::new(),
            cut: None,
            parent,
            depth,
        });
        if let Some(parent) = self.nodes.get_mut(parent as usize).filter(|_| id != 0) {
            parent.children.push(id);
        }
        id
    }

    fn later(&mut self, parent: NodeId, place: Place, work: Work<'a>) {
        self.tasks.push_back(Task { parent, place, work });
    }

    fn cut(&mut self, node: NodeId, cut: ExpandCut) {
        self.truncated |= matches!(cut, ExpandCut::Depth | ExpandCut::Size);
        if let Some(node) = self.nodes.get_mut(node as usize) {
            node.cut = Some(cut);
        }
    }

    fn kind(&self, node: NodeId) -> Option<&ExpandKind> {
        self.nodes.get(node as usize).map(|node| &node.kind)
    }

    fn depth(&self, node: NodeId) -> u32 {
        self.nodes.get(node as usize).map_or(0, |node| node.depth)
    }

    /// Whether `met` is `node` or lies above it.
    fn lies_within(&self, mut node: NodeId, met: &(MemberId, ObjectId)) -> bool {
        loop {
            let Some(held) = self.nodes.get(node as usize) else {
                return false;
            };
            if matches!(&held.kind, ExpandKind::Member { member, object } if (*member, object) == (met.0, &met.1)) {
                return true;
            }
            if node == 0 {
                return false;
            }
            node = held.parent;
        }
    }
}

impl Place {
    fn row(&self, slot: SlotId) -> RowKey {
        RowKey {
            slot,
            object: self.object.clone(),
        }
    }
}
