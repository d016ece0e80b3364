//! Expressions: from the syntax of a member to operands of its gate.

use std::sync::Arc;

use super::expand::{Operand, Place, Work};
use super::graph::GateId;
use super::level::Level;
use super::{Evaluation, EvaluationError};
use crate::row::{Rows, Terms};
use crate::schema::{ArrowMode, Expr};

/// How many operands of a union are built at once; more of them are tasks of their own.
const AT_ONCE: usize = 256;

/// How deeply an expression is built on the Rust stack; what lies deeper becomes a task of its own.
const MAX_NESTING: u32 = 32;

impl<'a> Evaluation<'a> {
    /// Makes `expr` one more operand of `gate`.
    pub(super) fn build_into(
        &mut self,
        rows: &impl Rows,
        gate: GateId,
        expr: &'a Expr,
        place: &Place,
        nesting: u32,
    ) -> Result<(), EvaluationError> {
        if self.graph.value(gate) == Level::True {
            return Ok(());
        }
        match expr {
            Expr::This => self.this_into(rows, gate, place),
            Expr::Union(operands) if nesting < MAX_NESTING && operands.len() <= AT_ONCE => {
                self.union_into(rows, gate, operands, place, nesting)
            }
            Expr::Union(operands) if nesting < MAX_NESTING => {
                for some in operands.chunks(AT_ONCE) {
                    self.reader.count_operand()?;
                    self.later(gate, place, Work::Operands(some));
                }
                Ok(())
            }
            Expr::Arrow {
                relation,
                mode: ArrowMode::Any,
                targets,
            } => self.arrow_into(rows, gate, place, *relation, targets),
            _ => {
                let operand = self.build(rows, expr, place, nesting)?;
                self.put(gate, operand, false);
                Ok(())
            }
        }
    }

    /// Makes some of a union's operands `gate`'s.
    pub(super) fn union_into(
        &mut self,
        rows: &impl Rows,
        gate: GateId,
        operands: &'a [Expr],
        place: &Place,
        nesting: u32,
    ) -> Result<(), EvaluationError> {
        for operand in operands {
            if self.graph.value(gate) == Level::True {
                break;
            }
            self.reader.count_operand()?;
            self.build_into(rows, gate, operand, place, nesting + 1)?;
        }
        Ok(())
    }

    pub(super) fn build(
        &mut self,
        rows: &impl Rows,
        expr: &'a Expr,
        place: &Place,
        nesting: u32,
    ) -> Result<Operand, EvaluationError> {
        self.reader.count_operand()?;
        match expr {
            Expr::Nil => Ok(Operand::False),
            Expr::Itself => Ok(match self.reader.is_itself(place.member, &place.object) {
                Level::True => Operand::True,
                _ => Operand::False,
            }),
            Expr::Member(member) => Ok(self.visit(
                rows,
                Place {
                    member: *member,
                    ..place.clone()
                },
            )),
            Expr::Arrow {
                relation,
                mode: ArrowMode::All,
                targets,
            } => {
                let gate = self.add_task(place.clone(), Work::FollowAll(*relation, targets, None));
                self.enqueue(self.graph.gates[gate].task);
                Ok(Operand::Gate(gate))
            }
            _ if nesting >= MAX_NESTING => {
                let gate = self.add_task(place.clone(), Work::Expr(expr));
                self.enqueue(self.graph.gates[gate].task);
                Ok(Operand::Gate(gate))
            }
            Expr::This | Expr::Union(_) | Expr::Arrow { .. } => {
                let gate = self.graph.add_any();
                self.build_into(rows, gate, expr, place, nesting + 1)?;
                Ok(self.operand(gate))
            }
            Expr::Intersection(operands) => {
                let gate = self.graph.add_all(Level::True);
                for operand in operands {
                    match self.build(rows, operand, place, nesting + 1)? {
                        Operand::False => {
                            self.graph.abandon(gate);
                            return Ok(Operand::False);
                        }
                        operand => self.put(gate, operand, false),
                    }
                }
                self.graph.seal(gate);
                Ok(self.operand(gate))
            }
            Expr::Exclusion(left, right) => self.exclusion(rows, left, right, place, nesting),
        }
    }

    fn exclusion(
        &mut self,
        rows: &impl Rows,
        left: &'a Expr,
        right: &'a Expr,
        place: &Place,
        nesting: u32,
    ) -> Result<Operand, EvaluationError> {
        let left = self.build(rows, left, place, nesting + 1)?;
        if matches!(left, Operand::False) {
            return Ok(left);
        }
        let right = self.build(rows, right, place, nesting + 1)?;
        Ok(match (left, right) {
            (_, Operand::True) => Operand::False,
            (left, Operand::False) => left,
            (Operand::Gate(left), Operand::Gate(right)) => {
                Operand::Gate(self.graph.add_exclusion(Some(left), right))
            }
            (_, Operand::Gate(right)) => Operand::Gate(self.graph.add_exclusion(None, right)),
        })
    }

    /// A gate whose operands are all linked; one that is true needs no edge.
    fn operand(&self, gate: GateId) -> Operand {
        match self.graph.value(gate) {
            Level::True => Operand::True,
            _ => Operand::Gate(gate),
        }
    }

    /// What lies behind a relationship whose terms say `level`.
    pub(super) fn under(&mut self, level: Level, terms: Option<&Arc<Terms>>, operand: Operand) -> Operand {
        match (level, operand) {
            (Level::False, _) | (_, Operand::False) => Operand::False,
            (Level::True, operand) => operand,
            (Level::Unknown, operand) => {
                let gate = self.graph.add_all(Level::Unknown);
                if let Operand::Gate(behind) = operand {
                    self.graph.link(gate, behind, false);
                }
                self.graph.seal(gate);
                self.undecided.note(gate, terms);
                Operand::Gate(gate)
            }
        }
    }

    /// Makes `operand` one more of an `Any` gate's, or of an `All` gate's that is not false by it.
    pub(super) fn put(&mut self, gate: GateId, operand: Operand, hop: bool) {
        match operand {
            Operand::False => {}
            Operand::True => self.graph.put_true(gate),
            Operand::Gate(child) => self.graph.link(gate, child, hop),
        }
    }
}
