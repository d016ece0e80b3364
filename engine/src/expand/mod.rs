//! Expansion: who stands in a relation or permission, and how they got there, as a tree.
//!
//! It is stepped like an evaluation, breadth first: what lies near the resource is shown before what lies deep, and where the tree
//! may not grow any more it says so at the very place. Nothing recurses along the data. Which rows are at hand changes
//! nothing about the tree.

mod tree;

use std::collections::VecDeque;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

pub use self::tree::{ExpandCut, ExpandKind, ExpandNode, ExpandTree, NodeId};
use crate::noun::{ObjectId, Timestamp};
use crate::row::{Found, Row, RowKey, Rows};
use crate::schema::{Expr, MemberId, Schema, SlotId, SlotSubject, TypeId};

/// How many rows are demanded at once.
const MAX_DEMANDS: usize = 64;
/// How many tasks ahead are looked at for rows to demand.
const LOOK_AHEAD: usize = 1_024;

/// How deep the tree may be, counted in nodes. It bounds the stack that walking it takes, where a schema chains permissions
/// endlessly; along the data [`ExpandLimits::max_depth`] comes first.
const MAX_TREE_DEPTH: u32 = 512;

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

/// What is left of a list is one task, so that there are no more tasks than nodes, however wide the schema is.
#[derive(Debug)]
enum Work<'a> {
    /// The place's member itself.
    Member,
    /// A part of its expression.
    Expr(&'a Expr),
    /// Parts of its expression, one after the other.
    Exprs(&'a [Expr]),
    /// The subjects of slots of the place's object, one slot after the other.
    Rows(&'a [SlotId], Behind<'a>),
}

/// Where the subjects of a row lead.
#[derive(Debug, Clone, Copy)]
enum Behind<'a> {
    /// Usersets to their members.
    Usersets,
    /// All but wildcards to the targets of an arrow.
    Targets(&'a [(TypeId, MemberId)]),
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
            if self.run(rows, task) {
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
        for task in self.tasks.iter().take(LOOK_AHEAD) {
            let Work::Rows(slots, _) = task.work else { continue };
            for slot in slots {
                if demands.len() == MAX_DEMANDS {
                    return demands;
                }
                let key = task.place.row(*slot);
                let unknown = !self.supplied.contains_key(&key) && matches!(rows.row(&key), Found::Unknown);
                if unknown && named.insert(key.clone()) {
                    demands.push(key);
                }
            }
        }
        demands
    }

    /// Does a task, or the first part of it; whether it needs a row that is not at hand.
    fn run(&mut self, rows: &impl Rows, task: Task<'a>) -> bool {
        let Task { parent, place, work } = task;
        if matches!(work, Work::Exprs([]) | Work::Rows([], _)) {
            return false;
        }
        self.work += 1;
        if self.is_full() {
            self.cut(parent, ExpandCut::Size);
            return false;
        }
        match work {
            Work::Member => self.member(parent, place),
            Work::Expr(expr) => self.expr(parent, place, expr),
            Work::Exprs(exprs) => {
                if let Some((first, rest)) = exprs.split_first() {
                    let work = Work::Exprs(rest);
                    self.tasks.push_front(Task {
                        parent,
                        place: place.clone(),
                        work,
                    });
                    self.expr(parent, place, first);
                }
            }
            Work::Rows(slots, behind) => {
                let Some((slot, rest)) = slots.split_first() else {
                    return false;
                };
                let key = place.row(*slot);
                match rows.row(&key) {
                    Found::Row(row) => self.subjects(rows, parent, &place, &key, row, behind),
                    Found::Empty => {}
                    Found::Unknown => match self.supplied.remove(&key) {
                        Some((row, whole)) => {
                            self.subjects(rows, parent, &place, &key, &row, behind);
                            if !whole {
                                self.cut(parent, ExpandCut::Size);
                            }
                        }
                        None => {
                            // It was not done: which rows are at hand must not show in the tree.
                            self.work -= 1;
                            self.tasks.push_front(Task { parent, place, work });
                            return true;
                        }
                    },
                }
                let work = Work::Rows(rest, behind);
                self.tasks.push_front(Task { parent, place, work });
            }
        }
        false
    }

    /// Whether the tree may not grow any more.
    fn is_full(&self) -> bool {
        self.room() == 0 || self.work > self.limits.max_work
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
        match expr {
            Expr::Member(member) => {
                let member = *member;
                self.member(parent, Place { member, ..place });
            }
            Expr::Union(operands) => {
                let node = self.add(parent, ExpandKind::Union);
                self.later(node, place, Work::Exprs(operands));
            }
            Expr::Intersection(operands) => {
                let node = self.add(parent, ExpandKind::Intersection);
                self.later(node, place, Work::Exprs(operands));
            }
            Expr::Exclusion(left, right) => {
                let node = self.add(parent, ExpandKind::Exclusion);
                self.later(node, place.clone(), Work::Expr(left));
                self.later(node, place, Work::Expr(right));
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
                self.later_rows(node, place, relation, Behind::Usersets);
            }
            Expr::Arrow {
                relation,
                mode,
                targets,
            } => {
                let kind = ExpandKind::Arrow {
                    relation: *relation,
                    mode: *mode,
                    target: targets.first().map(|(_, target)| *target),
                };
                let node = self.add(parent, kind);
                self.later_rows(node, place, *relation, Behind::Targets(targets));
            }
        }
    }

    /// Has the subjects of a relation of the place's object become children of `node`.
    fn later_rows(&mut self, node: NodeId, place: Place, relation: MemberId, behind: Behind<'a>) {
        if let Some(member) = self.schema.members().get(relation.index()) {
            self.later(node, place, Work::Rows(&member.slots, behind));
        }
    }

    fn subjects(
        &mut self,
        rows: &impl Rows,
        parent: NodeId,
        place: &Place,
        key: &RowKey,
        row: &Row,
        behind: Behind<'a>,
    ) {
        let Some(slot) = self.schema.slots().get(key.slot.index()) else {
            return;
        };
        let target = match (behind, slot.subject) {
            (Behind::Usersets, SlotSubject::Userset(target)) => Some(target),
            (Behind::Usersets, _) => None,
            // An arrow passes wildcards over.
            (Behind::Targets(_), SlotSubject::Wildcard) => return,
            (Behind::Targets(targets), _) => target_of(targets, slot.subject_type),
        };
        for entry in row.entries() {
            self.work += 1;
            let expires_at = entry.terms.as_ref().and_then(|terms| terms.expires_at);
            if expires_at.is_some_and(|expires_at| expires_at <= self.now) {
                continue;
            }
            if self.is_full() {
                self.cut(parent, ExpandCut::Size);
                return;
            }
            let kind = ExpandKind::Subject {
                slot: key.slot,
                subject: entry.subject.clone(),
                terms: entry.terms.clone(),
                contextual: rows.is_contextual(key, &entry.subject),
            };
            let node = self.add(parent, kind);
            if let Some(member) = target {
                let place = Place {
                    member,
                    object: entry.subject.clone(),
                    steps: place.steps.saturating_add(1),
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

    fn depth(&self, node: NodeId) -> u32 {
        self.nodes.get(node as usize).map_or(0, |node| node.depth)
    }

    /// Whether `met` is `node` or lies above it.
    fn lies_within(&self, mut node: NodeId, met: &(MemberId, ObjectId)) -> bool {
        loop {
            let Some(held) = self.nodes.get(node as usize) else {
                return false;
            };
            if matches!(&held.kind, ExpandKind::Member { member, object } if (*member, object) == (met.0, &met.1))
            {
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

/// The member that an arrow leads to on objects of a type.
fn target_of(targets: &[(TypeId, MemberId)], object_type: TypeId) -> Option<MemberId> {
    let at = targets.binary_search_by_key(&object_type, |(held, _)| *held);
    targets.get(at.ok()?).map(|(_, member)| *member)
}
