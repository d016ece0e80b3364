//! Where candidates come from: what of a schema can lead from one class of subjects to one member, worked out once.
//!
//! Of an intersection one operand is enough to find everything, and of an exclusion the base: the plan takes the operand that
//! looks cheapest. What is found through them, or through `all`, is *unsure* and has to be verified; what is found through
//! nothing but unions and arrows is *sure*.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rustc_hash::{FxHashMap, FxHashSet};

use super::live::live;
use crate::schema::{ArrowMode, Expr, MemberId, Schema, SlotId, SlotSubject, TypeId};

/// How deeply the cost of an operand is looked into.
const COST_DEPTH: u32 = 12;

/// The most operands that are searched beside the first.
const MAX_GUARDS: usize = 8;

/// The most operands that are tried for that: a plan is made of each.
const MAX_TRIED: usize = 16;

/// A class of subjects that are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Class {
    /// Their type.
    pub object_type: TypeId,
    /// The member, of usersets; `None` for plain objects and the wildcard.
    pub relation: Option<MemberId>,
}

/// How much of the expressions a plan covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Breadth {
    /// What finds every candidate: one operand of an intersection, the base of an exclusion.
    Selected,
    /// Everything that a decision can depend on.
    Everything,
}

/// See the module's text.
#[derive(Debug)]
pub struct Plan {
    pub(super) target: MemberId,
    pub(super) class: Class,
    pub(super) breadth: Breadth,
    parts: FxHashMap<MemberId, Part>,
    /// The slots in which a plain subject itself can stand, the relation there, and whether that is sure.
    pub(super) seeds: Vec<(SlotId, MemberId, bool)>,
    /// The members that an object has on itself.
    pub(super) selves: Vec<(MemberId, bool)>,
    /// Plans of further operands, where the target is an intersection: what each of them finds, all have to find. They need no
    /// exploration: no hop is in them.
    pub(super) guards: Vec<Plan>,
    /// Whether what all of them and this plan find for sure is sure. Without all of them nothing is.
    pub(super) is_joint: bool,
}

/// One way in which a member's candidates come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Stored under the member as plain objects or as the wildcard.
    Seed(SlotId),
    /// The object itself.
    Itself,
    /// Another member of the same object.
    Same(MemberId),
    /// A member of the objects that stand in a slot.
    Hop(SlotId, MemberId),
}

/// What the plan knows of one member.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// From the member towards the subjects, and whether each is sure.
    pub(super) ways: Vec<(Way, bool)>,
    /// From the member towards the target: other members of the same object.
    pub(super) same: Vec<(MemberId, bool)>,
    /// From the member towards the target: slots to other objects, and their members there.
    pub(super) hops: Vec<(SlotId, Vec<(MemberId, bool)>)>,
    /// Whether having the member on an object means having the target there, for sure or perhaps.
    pub(super) arrives: Option<bool>,
    /// Whether other objects follow from it.
    pub(super) leads_on: bool,
}

impl Plan {
    /// The plan for finding subjects of `class` that have `target`, or what they have it on.
    pub fn new(schema: &Schema, target: MemberId, class: Class, breadth: Breadth) -> Self {
        let analysis = Analysis::new(schema, target, class, breadth);
        analysis
            .joined(target)
            .unwrap_or_else(|| Self::from(&analysis, target, None))
    }

    /// The plan of one target; with `ways` these are the target's, whatever its expression.
    fn from(analysis: &Analysis<'_>, target: MemberId, ways: Option<Vec<(Way, bool)>>) -> Self {
        let mut plan = Self {
            target,
            class: analysis.class,
            breadth: analysis.breadth,
            parts: FxHashMap::default(),
            seeds: Vec::new(),
            selves: Vec::new(),
            guards: Vec::new(),
            is_joint: false,
        };
        plan.collect_ways(analysis, ways);
        plan.turn_around();
        plan.find_arrivals();
        plan.find_leads();
        plan
    }

    /// What it weighs, in bytes, about: its lists with the places that are free in them.
    pub fn bytes(&self) -> usize {
        let parts = self.parts.capacity() * (size_of::<(MemberId, Part)>() + 1);
        let within: usize = self.parts.values().map(Part::bytes).sum();
        let seeds = self.seeds.capacity() * size_of::<(SlotId, MemberId, bool)>();
        let selves = self.selves.capacity() * size_of::<(MemberId, bool)>();
        let guards: usize = self.guards.iter().map(Self::bytes).sum();
        size_of::<Self>() + parts + within + seeds + selves + guards
    }

    /// Whether nothing has to be explored, and the target does not come about by way of itself.
    fn is_flat(&self) -> bool {
        let mut ways = self.parts.values().flat_map(|part| &part.ways);
        !ways.any(|(way, _)| match way {
            Way::Hop(..) => true,
            Way::Same(member) => *member == self.target,
            Way::Seed(_) | Way::Itself => false,
        })
    }

    /// What the plan knows of a member; `None`: it leads nowhere.
    pub(super) fn part(&self, member: MemberId) -> Option<&Part> {
        self.parts.get(&member)
    }

    fn collect_ways(&mut self, analysis: &Analysis<'_>, of_target: Option<Vec<(Way, bool)>>) {
        let mut of_target = of_target;
        let mut stack = vec![self.target];
        while let Some(member) = stack.pop() {
            if self.parts.contains_key(&member) {
                continue;
            }
            let ways = of_target.take().unwrap_or_else(|| analysis.ways(member));
            stack.extend(ways.iter().filter_map(|(way, _)| match way {
                Way::Same(other) | Way::Hop(_, other) => Some(*other),
                Way::Seed(_) | Way::Itself => None,
            }));
            self.parts.insert(
                member,
                Part {
                    ways,
                    ..Part::default()
                },
            );
        }
    }

    fn turn_around(&mut self) {
        let mut members: Vec<MemberId> = self.parts.keys().copied().collect();
        members.sort_unstable();
        let mut hops: BTreeMap<(MemberId, SlotId), Vec<(MemberId, bool)>> = BTreeMap::new();
        for member in members {
            let ways = self.parts.get(&member).map(|part| part.ways.clone());
            for (way, sure) in ways.unwrap_or_default() {
                match way {
                    Way::Seed(slot) => self.seeds.push((slot, member, sure)),
                    Way::Itself => self.selves.push((member, sure)),
                    Way::Same(other) => {
                        if let Some(part) = self.parts.get_mut(&other) {
                            part.same.push((member, sure));
                        }
                    }
                    Way::Hop(slot, other) => hops.entry((other, slot)).or_default().push((member, sure)),
                }
            }
        }
        for ((from, slot), to) in hops {
            if let Some(part) = self.parts.get_mut(&from) {
                part.hops.push((slot, to));
            }
        }
    }

    fn find_arrivals(&mut self) {
        // The sure ones first, so that an unsure way never hides a sure one.
        for sure in [true, false] {
            let mut seen = FxHashSet::default();
            let mut stack = vec![self.target];
            while let Some(member) = stack.pop() {
                let Some(part) = self.parts.get_mut(&member) else {
                    continue;
                };
                if !seen.insert(member) {
                    continue;
                }
                part.arrives.get_or_insert(sure);
                stack.extend(part.ways.iter().filter_map(|(way, way_sure)| match way {
                    Way::Same(other) if *way_sure || !sure => Some(*other),
                    _ => None,
                }));
            }
        }
    }

    fn find_leads(&mut self) {
        let hop = |(member, part): (&MemberId, &Part)| (!part.hops.is_empty()).then_some(*member);
        let mut stack: Vec<MemberId> = self.parts.iter().filter_map(hop).collect();
        while let Some(member) = stack.pop() {
            let Some(part) = self.parts.get_mut(&member) else {
                continue;
            };
            if std::mem::replace(&mut part.leads_on, true) {
                continue;
            }
            stack.extend(part.ways.iter().filter_map(|(way, _)| match way {
                Way::Same(other) => Some(*other),
                _ => None,
            }));
        }
    }
}

impl Part {
    /// What its lists weigh, in bytes.
    fn bytes(&self) -> usize {
        let ways = self.ways.capacity() * size_of::<(Way, bool)>();
        let same = self.same.capacity() * size_of::<(MemberId, bool)>();
        let hops = self.hops.capacity() * size_of::<(SlotId, Vec<(MemberId, bool)>)>();
        let to = self
            .hops
            .iter()
            .map(|(_, to)| to.capacity() * size_of::<(MemberId, bool)>());
        ways + same + hops + to.sum::<usize>()
    }
}

/// The schema as seen from one target and one class of subjects.
struct Analysis<'s> {
    schema: &'s Schema,
    class: Class,
    breadth: Breadth,
    /// The members that a subject of the class can have at all.
    live: FxHashSet<MemberId>,
    /// The costs of members that were asked for, by how deeply they were looked into: each is worked out once.
    costs: RefCell<FxHashMap<(MemberId, u32), u32>>,
}

impl<'s> Analysis<'s> {
    fn new(schema: &'s Schema, target: MemberId, class: Class, breadth: Breadth) -> Self {
        Self {
            schema,
            class,
            breadth,
            live: live(schema, target, class, breadth),
            costs: RefCell::default(),
        }
    }

    fn is_live_expr(&self, expr: &Expr, member: MemberId) -> bool {
        let go = |operand: &Expr| self.is_live_expr(operand, member);
        match (expr, self.breadth) {
            (Expr::Union(operands), _) => operands.iter().any(go),
            (Expr::Intersection(operands), Breadth::Selected) => operands.iter().all(go),
            (Expr::Intersection(operands), Breadth::Everything) => operands.iter().any(go),
            (Expr::Exclusion(base, _), Breadth::Selected) => go(base),
            (Expr::Exclusion(base, excluded), Breadth::Everything) => go(base) || go(excluded),
            (Expr::Member(other), _) => self.live.contains(other),
            (Expr::This | Expr::Itself | Expr::Arrow { .. } | Expr::Nil, _) => {
                let mut ways = Vec::new();
                self.ways_of(expr, member, true, &mut ways);
                !ways.is_empty()
            }
        }
    }

    /// The plan of a target that is an intersection, with guards; `None` where it is none, or no operand can be one.
    fn joined(&self, target: MemberId) -> Option<Plan> {
        if self.breadth == Breadth::Everything || self.class.relation.is_some() {
            return None;
        }
        let (member, operands, sure) = self.intersection_of(target)?;
        let (cheapest, _) = operands
            .iter()
            .enumerate()
            .min_by_key(|(_, operand)| self.cost(operand, member, COST_DEPTH))?;
        let plan = |operand: &Expr| Plan::from(self, target, Some(self.ways_in(operand, member)));
        let mut guards: Vec<Plan> = Vec::new();
        for (at, operand) in operands.iter().enumerate().take(MAX_TRIED) {
            if at != cheapest && guards.len() < MAX_GUARDS {
                let guard = plan(operand);
                if guard.is_flat() {
                    guards.push(guard);
                }
            }
        }
        if guards.is_empty() {
            return None;
        }
        let all = guards.len() + 1 == operands.len();
        let mut first = plan(operands.get(cheapest)?);
        if !(all && sure && first.is_flat()) {
            first = Plan::from(self, target, None);
        } else {
            first.is_joint = true;
        }
        first.guards = guards;
        Some(first)
    }

    /// The intersection that decides a target, if one does; its member, and whether nothing is taken away from it.
    fn intersection_of(&self, target: MemberId) -> Option<(MemberId, &'s [Expr], bool)> {
        let mut member = target;
        let mut expr = &self.schema.members().get(member.index())?.expr;
        let mut sure = true;
        for _ in 0..COST_DEPTH {
            match expr {
                Expr::Member(other) => {
                    member = *other;
                    expr = &self.schema.members().get(member.index())?.expr;
                }
                Expr::Exclusion(base, excluded) => {
                    sure &= !self.is_live_expr(excluded, member);
                    expr = base;
                }
                Expr::Intersection(operands) => {
                    let live = operands.iter().all(|operand| self.is_live_expr(operand, member));
                    return live.then_some((member, operands, sure));
                }
                _ => return None,
            }
        }
        None
    }

    /// The ways of a member, each once.
    fn ways(&self, member: MemberId) -> Vec<(Way, bool)> {
        let held = self.schema.members().get(member.index());
        held.map_or_else(Vec::new, |held| self.ways_in(&held.expr, member))
    }

    fn ways_in(&self, expr: &Expr, member: MemberId) -> Vec<(Way, bool)> {
        let mut ways = Vec::new();
        self.ways_of(expr, member, true, &mut ways);
        // Of two that differ in sureness alone the sure one comes first and stays.
        ways.sort_by_key(|(way, sure)| (*way, !*sure));
        ways.dedup_by_key(|(way, _)| *way);
        ways
    }

    fn ways_of(&self, expr: &Expr, member: MemberId, sure: bool, ways: &mut Vec<(Way, bool)>) {
        match expr {
            Expr::Nil => {}
            Expr::Itself => {
                let held = self.schema.members().get(member.index());
                let fits = held.is_some_and(|held| held.object_type == self.class.object_type);
                if fits && self.class.relation.is_none() {
                    ways.push((Way::Itself, sure));
                }
            }
            Expr::This => self.stored_ways(member, sure, ways),
            Expr::Member(other) => {
                if self.live.contains(other) && *other != member {
                    ways.push((Way::Same(*other), sure));
                }
            }
            Expr::Union(operands) => operands
                .iter()
                .for_each(|operand| self.ways_of(operand, member, sure, ways)),
            Expr::Intersection(operands) => match self.breadth {
                Breadth::Everything => operands
                    .iter()
                    .for_each(|operand| self.ways_of(operand, member, false, ways)),
                Breadth::Selected if operands.iter().all(|operand| self.is_live_expr(operand, member)) => {
                    let cheapest = operands
                        .iter()
                        .min_by_key(|operand| self.cost(operand, member, COST_DEPTH));
                    if let Some(cheapest) = cheapest {
                        self.ways_of(cheapest, member, false, ways);
                    }
                }
                Breadth::Selected => {}
            },
            Expr::Exclusion(base, excluded) => {
                // What no subject of the class can have takes nothing away.
                let takes = self.is_live_expr(excluded, member);
                self.ways_of(base, member, sure && !takes, ways);
                if takes && self.breadth == Breadth::Everything {
                    self.ways_of(excluded, member, false, ways);
                }
            }
            Expr::Arrow {
                relation,
                mode,
                targets,
            } => {
                let sure = sure && *mode == ArrowMode::Any;
                for (slot, subject, subject_type) in self.slots(*relation) {
                    let target = targets.binary_search_by_key(&subject_type, |(of, _)| *of);
                    if let Some((_, target)) = target.ok().and_then(|at| targets.get(at))
                        && subject != SlotSubject::Wildcard
                        && self.live.contains(target)
                    {
                        ways.push((Way::Hop(slot, *target), sure));
                    }
                }
            }
        }
    }

    fn stored_ways(&self, member: MemberId, sure: bool, ways: &mut Vec<(Way, bool)>) {
        for (slot, subject, subject_type) in self.slots(member) {
            match subject {
                SlotSubject::Object | SlotSubject::Wildcard => {
                    if subject_type == self.class.object_type && self.class.relation.is_none() {
                        ways.push((Way::Seed(slot), sure));
                    }
                }
                SlotSubject::Userset(other) => {
                    if self.live.contains(&other) {
                        ways.push((Way::Hop(slot, other), sure));
                    }
                }
            }
        }
    }

    /// A guess at how much an operand would find: the fewer hops and wildcards the better.
    fn cost(&self, expr: &Expr, member: MemberId, depth: u32) -> u32 {
        const WILDCARD: u32 = 20;
        const HOP: u32 = 10;
        const UNKNOWN: u32 = 50;
        let Some(deeper) = depth.checked_sub(1) else {
            return UNKNOWN;
        };
        let go = |operand: &Expr| self.cost(operand, member, deeper);
        let sum = |costs: &mut dyn Iterator<Item = u32>| costs.fold(0, u32::saturating_add);
        match expr {
            Expr::Nil => 0,
            Expr::Itself => 1,
            Expr::Member(other) => match self.schema.members().get(other.index()) {
                Some(held) if self.live.contains(other) => {
                    let known = self.costs.borrow().get(&(*other, deeper)).copied();
                    known.unwrap_or_else(|| {
                        let cost = self.cost(&held.expr, *other, deeper);
                        self.costs.borrow_mut().insert((*other, deeper), cost);
                        cost
                    })
                }
                _ => 0,
            },
            Expr::Union(operands) => sum(&mut operands.iter().map(go)),
            Expr::Intersection(operands) => operands.iter().map(go).min().unwrap_or(0),
            Expr::Exclusion(base, _) => go(base),
            Expr::This | Expr::Arrow { .. } => {
                let mut ways = Vec::new();
                self.ways_of(expr, member, true, &mut ways);
                sum(&mut ways.iter().map(|(way, _)| match way {
                    Way::Seed(slot) => match self.schema.slots().get(slot.index()).map(|slot| slot.subject) {
                        Some(SlotSubject::Wildcard) => WILDCARD,
                        _ => 1,
                    },
                    Way::Hop(..) => HOP,
                    Way::Same(_) | Way::Itself => 1,
                }))
            }
        }
    }

    fn slots(&self, relation: MemberId) -> impl Iterator<Item = (SlotId, SlotSubject, TypeId)> + use<'s> {
        let schema = self.schema;
        let member = schema.members().get(relation.index());
        let slots = member.map_or(&[][..], |member| member.slots.as_slice());
        slots.iter().filter_map(|id| {
            let slot = schema.slots().get(id.index())?;
            Some((*id, slot.subject, slot.subject_type))
        })
    }
}
