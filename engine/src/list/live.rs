//! Which members a class of subjects can have at all: the least set, found by counting what each part of an expression still
//! waits for, so that every operand and every slot is looked at once, however often what it names is named.

use rustc_hash::{FxHashMap, FxHashSet};

use super::plan::{Breadth, Class};
use crate::schema::{Expr, MemberId, Schema, SlotSubject};

/// The node of nobody: what is an operand of it decides nothing, but is looked at.
const ASIDE: usize = 0;

/// The members that lead to a target, the parts of their expressions, and what each waits for: one of its operands or all.
struct Network<'s> {
    schema: &'s Schema,
    class: Class,
    breadth: Breadth,
    /// The node of each member that was met.
    nodes: FxHashMap<MemberId, usize>,
    /// Those whose expressions are still to be looked at.
    met: Vec<(MemberId, usize)>,
    /// How many more operands each node waits for.
    missing: Vec<usize>,
    /// What each node is an operand of.
    parents: Vec<Vec<usize>>,
    /// What has come true, once for each operand that has.
    rises: Vec<usize>,
}

/// The members that `target` can come about by and that the class can have.
pub(super) fn live(schema: &Schema, target: MemberId, class: Class, breadth: Breadth) -> FxHashSet<MemberId> {
    let mut network = Network {
        schema,
        class,
        breadth,
        nodes: FxHashMap::default(),
        met: Vec::new(),
        missing: vec![usize::MAX],
        parents: vec![Vec::new()],
        rises: Vec::new(),
    };
    network.member(target);
    while let Some((member, node)) = network.met.pop() {
        if class.relation == Some(member) {
            network.rises.push(node);
        }
        if let Some(held) = schema.members().get(member.index()) {
            network.add(&held.expr, member, node);
        }
    }
    network.settle();
    let Network { nodes, missing, .. } = network;
    let is_live = |node: usize| missing.get(node) == Some(&0);
    nodes
        .into_iter()
        .filter_map(|(member, node)| is_live(node).then_some(member))
        .collect()
}

impl Network<'_> {
    fn node(&mut self, missing: usize, parent: Option<usize>) -> usize {
        self.missing.push(missing);
        self.parents.push(parent.into_iter().collect());
        self.missing.len() - 1
    }

    fn member(&mut self, member: MemberId) -> usize {
        if let Some(node) = self.nodes.get(&member) {
            return *node;
        }
        let node = self.node(1, None);
        self.nodes.insert(member, node);
        self.met.push((member, node));
        node
    }

    fn link(&mut self, member: MemberId, parent: usize) {
        let node = self.member(member);
        if let Some(parents) = self.parents.get_mut(node) {
            parents.push(parent);
        }
    }

    /// Makes `expr`, of `member`, one operand of `parent`. Expressions are never deep: the compilers bound them.
    fn add(&mut self, expr: &Expr, member: MemberId, parent: usize) {
        let schema = self.schema;
        match (expr, self.breadth) {
            (Expr::Nil, _) => {}
            (Expr::Itself, _) => {
                let held = schema.members().get(member.index());
                if self.class.relation.is_none()
                    && held.is_some_and(|held| held.object_type == self.class.object_type)
                {
                    self.rises.push(parent);
                }
            }
            (Expr::Member(other), _) => self.link(*other, parent),
            (Expr::This, _) => {
                let any = self.node(1, Some(parent));
                let slots = schema.members().get(member.index());
                for id in slots.map_or(&[][..], |held| held.slots.as_slice()) {
                    let Some(slot) = schema.slots().get(id.index()) else {
                        continue;
                    };
                    match slot.subject {
                        SlotSubject::Userset(other) => self.link(other, any),
                        SlotSubject::Object | SlotSubject::Wildcard => {
                            if self.class.relation.is_none() && slot.subject_type == self.class.object_type {
                                self.rises.push(any);
                            }
                        }
                    }
                }
            }
            // Only types that the relation's subjects can have are among the targets; a wildcard is never followed.
            (
                Expr::Arrow {
                    relation, targets, ..
                },
                _,
            ) => {
                let any = self.node(1, Some(parent));
                let slots = schema.members().get(relation.index());
                for id in slots.map_or(&[][..], |held| held.slots.as_slice()) {
                    let slot = schema.slots().get(id.index());
                    let target = slot
                        .filter(|slot| slot.subject != SlotSubject::Wildcard)
                        .and_then(|slot| {
                            targets
                                .binary_search_by_key(&slot.subject_type, |(of, _)| *of)
                                .ok()
                        })
                        .and_then(|at| targets.get(at));
                    if let Some((_, target)) = target {
                        self.link(*target, any);
                    }
                }
            }
            (Expr::Intersection(operands), Breadth::Selected) => match operands.len() {
                0 => self.rises.push(parent),
                count => {
                    let all = self.node(count, Some(parent));
                    self.add_each(operands, member, all);
                }
            },
            (Expr::Union(operands), _) | (Expr::Intersection(operands), Breadth::Everything) => {
                let any = self.node(1, Some(parent));
                self.add_each(operands, member, any);
            }
            (Expr::Exclusion(base, excluded), breadth) => {
                let any = self.node(1, Some(parent));
                self.add(base, member, any);
                let aside = if breadth == Breadth::Selected { ASIDE } else { any };
                self.add(excluded, member, aside);
            }
        }
    }

    fn add_each(&mut self, operands: &[Expr], member: MemberId, parent: usize) {
        for operand in operands {
            self.add(operand, member, parent);
        }
    }

    /// Tells every node that came true to those that wait for it, until nothing more follows.
    fn settle(&mut self) {
        while let Some(node) = self.rises.pop() {
            let Some(missing) = self.missing.get_mut(node) else {
                continue;
            };
            // One that is true already tells nobody again.
            let Some(left) = missing.checked_sub(1) else {
                continue;
            };
            *missing = left;
            if left == 0
                && let Some(parents) = self.parents.get_mut(node)
            {
                self.rises.append(parents);
            }
        }
    }
}
