//! What OpenFGA asks of a model as a whole: no relation defined by itself, and for every relation a way in.

use super::resolve::Resolver;
use crate::pause;
use crate::schema::diagnostic::DiagnosticCode;
use crate::schema::reach::components;
use crate::schema::{Expr, Schema, SlotSubject};

impl Resolver<'_> {
    /// Reports the relations that other relations of the same object, and nothing else, lead back to themselves.
    pub(super) fn check_cycles(&mut self) {
        let edges: Vec<Vec<u32>> = self
            .schema
            .members
            .iter()
            .map(|member| {
                let mut named = Vec::new();
                collect_computed(&member.expr, &mut named);
                named
            })
            .collect();
        for component in components(&edges) {
            let Some(first) = component.first().copied() else {
                continue;
            };
            let names_itself = edges
                .get(first as usize)
                .is_some_and(|edges| edges.contains(&first));
            if component.len() == 1 && !names_itself {
                continue;
            }
            for member in component {
                if let Some(written) = self.written.get(member as usize) {
                    let message = format!(
                        "`{}` is defined by itself, directly or by way of other relations",
                        written.name.text
                    );
                    self.findings
                        .push(DiagnosticCode::RelationCycle, written.name.span, message);
                }
            }
        }
    }

    /// Reports the relations that nobody can ever have: no relationship that could be written leads to them.
    pub(super) fn check_entrypoints(&mut self) {
        // Those of a cycle have none either; that they are in one says more.
        if !self.findings.is_empty() {
            return;
        }
        let reached = Ways::of(&self.schema).reached();
        for (written, is_reached) in self.written.iter().zip(reached) {
            if !is_reached {
                let message = format!(
                    "nobody can ever have `{}`: no relationship that can be written leads to it",
                    written.name.text
                );
                self.findings
                    .push(DiagnosticCode::NoEntrypoint, written.name.span, message);
            }
        }
    }
}

/// The relations of the same object that an expression names.
fn collect_computed(expr: &Expr, found: &mut Vec<u32>) {
    match expr {
        Expr::This | Expr::Nil | Expr::Itself | Expr::Arrow { .. } => {}
        Expr::Member(member) => found.push(member.0),
        Expr::Union(operands) | Expr::Intersection(operands) => {
            operands
                .iter()
                .for_each(|operand| collect_computed(operand, found));
        }
        Expr::Exclusion(base, subtracted) => {
            collect_computed(base, found);
            collect_computed(subtracted, found);
        }
    }
}

/// Members and the parts of their expressions, and what it takes to reach each: one of its operands or all of them.
/// The members come first, in their order.
struct Ways {
    /// How many more operands must be reached.
    missing: Vec<usize>,
    /// What each is an operand of.
    parents: Vec<Vec<usize>>,
    /// What is reached at once.
    open: Vec<usize>,
}

impl Ways {
    fn of(schema: &Schema) -> Self {
        let count = schema.members.len();
        let mut ways = Self {
            missing: vec![1; count],
            parents: vec![Vec::new(); count],
            open: Vec::new(),
        };
        for (position, member) in schema.members.iter().enumerate() {
            ways.add(schema, position, &member.expr, position);
        }
        ways
    }

    /// Makes `expr`, of a member, an operand of `parent`.
    fn add(&mut self, schema: &Schema, member: usize, expr: &Expr, parent: usize) {
        pause::at_piece();
        match expr {
            Expr::Nil => {}
            Expr::Itself => self.open(parent),
            Expr::Member(other) => self.link(other.index(), parent),
            Expr::Arrow { targets, .. } => {
                let any = self.node(1, parent);
                targets
                    .iter()
                    .for_each(|(_, target)| self.link(target.index(), any));
            }
            Expr::This => {
                let any = self.node(1, parent);
                let slots = schema.members.get(member).map_or(&[][..], |held| &held.slots);
                for slot in slots.iter().filter_map(|slot| schema.slots.get(slot.index())) {
                    match slot.subject {
                        SlotSubject::Object | SlotSubject::Wildcard => self.open(any),
                        SlotSubject::Userset(userset) => self.link(userset.index(), any),
                    }
                }
            }
            Expr::Union(operands) => {
                let any = self.node(1, parent);
                operands
                    .iter()
                    .for_each(|operand| self.add(schema, member, operand, any));
            }
            Expr::Intersection(operands) => {
                let all = self.node(operands.len(), parent);
                operands
                    .iter()
                    .for_each(|operand| self.add(schema, member, operand, all));
            }
            Expr::Exclusion(base, subtracted) => {
                // OpenFGA wants a way into what is taken away as well: without one nothing ever is.
                let all = self.node(2, parent);
                self.add(schema, member, base, all);
                self.add(schema, member, subtracted, all);
            }
        }
    }

    fn node(&mut self, missing: usize, parent: usize) -> usize {
        self.missing.push(missing);
        self.parents.push(vec![parent]);
        self.missing.len() - 1
    }

    fn link(&mut self, operand: usize, parent: usize) {
        if let Some(parents) = self.parents.get_mut(operand) {
            parents.push(parent);
        }
    }

    /// One operand of `node` is reached.
    fn open(&mut self, node: usize) {
        if let Some(missing) = self.missing.get_mut(node)
            && *missing > 0
        {
            *missing -= 1;
            if *missing == 0 {
                self.open.push(node);
            }
        }
    }

    /// For each node, whether it is reached.
    fn reached(mut self) -> Vec<bool> {
        while let Some(node) = self.open.pop() {
            pause::at_piece();
            let parents = self.parents.get_mut(node).map(std::mem::take);
            parents.into_iter().flatten().for_each(|parent| self.open(parent));
        }
        self.missing.into_iter().map(|missing| missing == 0).collect()
    }
}
