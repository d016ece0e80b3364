//! What a member can reach through the schema: closures over its graph, each strongly connected part visited once.

use super::compiled::{Expr, MemberId, MemberKind, Schema, SlotSubject};
use crate::pause;

/// How many entries all closures of one schema may have together.
const MAX_ENTRIES: usize = 8_000_000;
/// How many steps it may take to find them.
const MAX_STEPS: usize = 50_000_000;

/// The schema's members reach each other in too many ways.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the relations and permissions of the schema depend on each other in more ways than can be kept track of"
)]
pub(crate) struct TooConnected;

impl Schema {
    /// Works out [`Member::reads`](super::Member::reads) of every member. All else must be in place.
    pub(crate) fn complete_reads(&mut self) -> Result<(), TooConnected> {
        self.index_slots();
        let edges = self.dependencies(true);
        let own = |member: usize, found: &mut Vec<u32>| {
            let stores = self
                .members
                .get(member)
                .is_some_and(|held| held.kind == MemberKind::Relation);
            found.extend(stores.then_some(member as u32));
        };
        let closures = Closures::new(&edges, own)?;
        for (position, member) in self.members.iter_mut().enumerate() {
            pause::now();
            member.reads = closures.of(position).iter().map(|id| MemberId(*id)).collect();
        }
        Ok(())
    }

    /// For each member, the members that it is decided by: those that its expression names, the targets of its
    /// arrows, and the members of the usersets that it stores; with `arrow_relations` also the relations that its
    /// arrows follow.
    pub(crate) fn dependencies(&self, arrow_relations: bool) -> Vec<Vec<u32>> {
        let members = self.members.iter().map(|member| {
            pause::at_piece();
            let mut found = Vec::new();
            collect_members(&member.expr, arrow_relations, &mut found);
            for slot in member
                .slots
                .iter()
                .filter_map(|slot| self.slots.get(slot.index()))
            {
                if let SlotSubject::Userset(userset) = slot.subject {
                    found.push(userset.0);
                }
            }
            found.sort_unstable();
            found.dedup();
            found
        });
        members.collect()
    }
}

/// The members that an expression names. Expressions are never deep: the compilers bound them.
fn collect_members(expr: &Expr, arrow_relations: bool, found: &mut Vec<u32>) {
    match expr {
        Expr::This | Expr::Nil | Expr::Itself => {}
        Expr::Member(member) => found.push(member.0),
        Expr::Union(operands) | Expr::Intersection(operands) => {
            operands
                .iter()
                .for_each(|operand| collect_members(operand, arrow_relations, found));
        }
        Expr::Exclusion(base, excluded) => {
            collect_members(base, arrow_relations, found);
            collect_members(excluded, arrow_relations, found);
        }
        Expr::Arrow {
            relation, targets, ..
        } => {
            found.extend(arrow_relations.then_some(relation.0));
            found.extend(targets.iter().map(|(_, target)| target.0));
        }
    }
}

/// For each node of a graph, everything that the nodes reachable from it (and it itself) own.
pub(crate) struct Closures {
    component_of: Vec<u32>,
    by_component: Vec<Vec<u32>>,
}

impl Closures {
    /// Works out the closures over `edges`; `own` adds what one node owns.
    pub(crate) fn new(edges: &[Vec<u32>], own: impl Fn(usize, &mut Vec<u32>)) -> Result<Self, TooConnected> {
        let components = components(edges);
        let mut component_of = vec![0_u32; edges.len()];
        for (component, nodes) in components.iter().enumerate() {
            for node in nodes {
                if let Some(held) = component_of.get_mut(*node as usize) {
                    *held = component as u32;
                }
            }
        }
        let mut by_component: Vec<Vec<u32>> = Vec::with_capacity(components.len());
        let (mut entries, mut steps) = (0_usize, 0_usize);
        // For each entry, the last component that found it: so that none is gathered twice.
        let mut seen: Vec<u32> = Vec::new();
        // A component is found after all those it leads to: their closures are there to be merged.
        for (component, nodes) in components.iter().enumerate() {
            pause::now();
            let mut owned = Vec::new();
            let mut successors = Vec::new();
            for node in nodes {
                own(*node as usize, &mut owned);
                let next = edges.get(*node as usize).into_iter().flatten();
                successors.extend(next.filter_map(|to| component_of.get(*to as usize)).copied());
            }
            successors.sort_unstable();
            successors.dedup();
            owned.retain(|entry| Self::is_new(&mut seen, *entry, component as u32));
            let mut found = owned;
            for successor in successors
                .into_iter()
                .filter(|successor| *successor != component as u32)
            {
                pause::at_piece();
                let closure = by_component
                    .get(successor as usize)
                    .map(Vec::as_slice)
                    .unwrap_or_default();
                steps += closure.len();
                if steps > MAX_STEPS {
                    return Err(TooConnected);
                }
                for entry in closure.iter().copied() {
                    if Self::is_new(&mut seen, entry, component as u32) {
                        found.push(entry);
                    }
                }
            }
            found.sort_unstable();
            entries += found.len() * nodes.len();
            if entries > MAX_ENTRIES {
                return Err(TooConnected);
            }
            by_component.push(found);
        }
        Ok(Self {
            component_of,
            by_component,
        })
    }

    /// Whether `component` had not found `entry` before; notes that it has now.
    fn is_new(seen: &mut Vec<u32>, entry: u32, component: u32) -> bool {
        const NEVER: u32 = u32::MAX;
        if seen.len() <= entry as usize {
            seen.resize(entry as usize + 1, NEVER);
        }
        let last = seen.get_mut(entry as usize);
        last.is_some_and(|last| std::mem::replace(last, component) != component)
    }

    /// What `node` reaches; sorted, each once.
    pub(crate) fn of(&self, node: usize) -> &[u32] {
        let component = self
            .component_of
            .get(node)
            .and_then(|at| self.by_component.get(*at as usize));
        component.map(Vec::as_slice).unwrap_or_default()
    }
}

/// The strongly connected components of a graph, each after all that it leads to. (Tarjan's algorithm, with its own
/// stack: a schema can be a chain of any length.)
pub(crate) fn components(edges: &[Vec<u32>]) -> Vec<Vec<u32>> {
    const UNSEEN: u32 = u32::MAX;
    #[derive(Clone, Copy)]
    struct State {
        index: u32,
        lowest: u32,
        on_stack: bool,
    }
    let mut states = vec![
        State {
            index: UNSEEN,
            lowest: UNSEEN,
            on_stack: false
        };
        edges.len()
    ];
    let mut next_index = 0_u32;
    let mut stack: Vec<u32> = Vec::new();
    let mut found = Vec::new();
    // Each frame: a node, and how many of its edges are done.
    let mut frames: Vec<(u32, usize)> = Vec::new();
    for root in 0..edges.len() as u32 {
        if states
            .get(root as usize)
            .is_none_or(|state| state.index != UNSEEN)
        {
            continue;
        }
        frames.push((root, 0));
        while let Some((node, done)) = frames.pop() {
            pause::at_piece();
            if done == 0
                && let Some(state) = states.get_mut(node as usize)
            {
                *state = State {
                    index: next_index,
                    lowest: next_index,
                    on_stack: true,
                };
                next_index += 1;
                stack.push(node);
            }
            let next = edges
                .get(node as usize)
                .and_then(|edges| edges.get(done))
                .copied();
            let Some(next) = next else {
                let Some(state) = states.get(node as usize).copied() else {
                    continue;
                };
                if let Some((parent, _)) = frames.last()
                    && let Some(parent) = states.get_mut(*parent as usize)
                {
                    parent.lowest = parent.lowest.min(state.lowest);
                }
                if state.lowest == state.index {
                    let start = stack.iter().rposition(|held| *held == node).unwrap_or(0);
                    let component = stack.split_off(start);
                    for held in &component {
                        if let Some(state) = states.get_mut(*held as usize) {
                            state.on_stack = false;
                        }
                    }
                    found.push(component);
                }
                continue;
            };
            frames.push((node, done + 1));
            let target = states.get(next as usize).copied();
            match target {
                Some(target) if target.index == UNSEEN => frames.push((next, 0)),
                Some(target) if target.on_stack => {
                    if let Some(state) = states.get_mut(node as usize) {
                        state.lowest = state.lowest.min(target.index);
                    }
                }
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_come_after_what_they_lead_to() {
        // 0 -> 1 -> 2 -> 1, 2 -> 3, 4 -> 4
        let edges = vec![vec![1], vec![2], vec![1, 3], vec![], vec![4]];
        let mut found = components(&edges);
        found.iter_mut().for_each(|component| component.sort_unstable());
        assert_eq!(found, [vec![3], vec![1, 2], vec![0], vec![4]]);
    }

    #[test]
    fn a_long_chain_and_a_large_cycle_need_no_deep_stack() {
        let chain: Vec<Vec<u32>> = (0..200_000).map(|node| vec![node + 1]).collect();
        assert_eq!(components(&chain).len(), 200_000);
        let mut cycle = chain;
        cycle.pop();
        cycle.push(vec![0]);
        assert_eq!(components(&cycle).len(), 1);
    }

    #[test]
    fn closures_agree_with_a_plain_search() {
        // A small pseudo-random graph, and the closure by breadth-first search.
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((seed >> 33) % below) as u32
        };
        for _ in 0..200 {
            let nodes = 1 + random(12);
            let edges: Vec<Vec<u32>> = (0..nodes)
                .map(|_| (0..random(4)).map(|_| random(u64::from(nodes))).collect())
                .collect();
            let closures = Closures::new(&edges, |node, found| found.push(node as u32)).unwrap();
            for node in 0..nodes {
                let mut reached = vec![node];
                let mut at = 0;
                while at < reached.len() {
                    for next in &edges[reached[at] as usize] {
                        if !reached.contains(next) {
                            reached.push(*next);
                        }
                    }
                    at += 1;
                }
                reached.sort_unstable();
                assert_eq!(closures.of(node as usize), reached, "{edges:?} from {node}");
            }
        }
    }

    #[test]
    fn too_many_entries_are_an_error() {
        let chain: Vec<Vec<u32>> = (0..10_000).map(|node| vec![node + 1]).collect();
        let own = |node: usize, found: &mut Vec<u32>| found.push(node as u32);
        assert_eq!(Closures::new(&chain, own).err(), Some(TooConnected));
    }
}
