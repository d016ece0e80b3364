//! Resolves the expressions of permissions, and the type rules of arrows.

use super::resolve::Resolver;
use super::syntax::{Expression, ExpressionKind, Identifier, MemberBody, Operator};
use crate::pause;
use crate::schema::diagnostic::DiagnosticCode;
use crate::schema::{ArrowMode, Expr, MemberId, MemberKind, TypeId};

/// How many subject types the arrows of a schema may be looked up in, over all arrows.
const MAX_ARROW_STEPS: usize = 1_000_000;

impl Resolver<'_> {
    /// Gives every permission its expression. `None` if there is too much of them.
    pub(super) fn permissions(&mut self) -> Option<()> {
        for (position, written) in self.written.clone().into_iter().enumerate() {
            let MemberBody::Permission { expression, .. } = &written.body else {
                continue;
            };
            let Some(object_type) = self.schema.members.get(position).map(|member| member.object_type) else {
                continue;
            };
            if self.findings.is_full() {
                return None;
            }
            let expr = self.expression(object_type, expression);
            if self.arrow_steps > MAX_ARROW_STEPS {
                let message = "the arrows of the schema lead to too many types".to_owned()
                    + " (counting, for each arrow, the types of its relation)";
                self.findings
                    .push(DiagnosticCode::LimitExceeded, expression.span, message);
                return None;
            }
            if let Some(member) = self.schema.members.get_mut(position) {
                member.expr = expr;
            }
        }
        Some(())
    }

    /// The expression resolved; [`Expr::Nil`] in the places of what was reported.
    fn expression(&mut self, object_type: TypeId, written: &Expression) -> Expr {
        pause::at_piece();
        match &written.kind {
            ExpressionKind::Nil => Expr::Nil,
            ExpressionKind::Itself => Expr::Itself,
            ExpressionKind::Member(name) => {
                let name = Identifier {
                    text: name.clone(),
                    span: written.span,
                };
                self.member_of(object_type, &name).map_or(Expr::Nil, Expr::Member)
            }
            ExpressionKind::Arrow {
                relation,
                mode,
                target,
            } => self
                .arrow(object_type, relation, *mode, target)
                .unwrap_or(Expr::Nil),
            ExpressionKind::Operation(operator, operands) => {
                let operands = operands
                    .iter()
                    .map(|operand| self.expression(object_type, operand));
                operation(*operator, operands.collect())
            }
        }
    }

    fn arrow(
        &mut self,
        object_type: TypeId,
        left: &Identifier,
        mode: ArrowMode,
        target: &Identifier,
    ) -> Option<Expr> {
        let relation = self.member_of(object_type, left)?;
        let member = self.schema.members.get(relation.index())?;
        if member.kind == MemberKind::Permission {
            let message = format!(
                "`{}` is a permission; only a relation can stand on the left of an arrow",
                left.text
            );
            self.findings
                .push(DiagnosticCode::ArrowOverPermission, left.span, message);
            return None;
        }
        if self.can_hold_wildcard(relation) {
            let message = format!(
                "relation `{}` can hold a wildcard, and so cannot stand on the left of an arrow",
                left.text
            );
            self.findings
                .push(DiagnosticCode::ArrowOverWildcard, left.span, message);
            return None;
        }
        // Before they are looked up: one permission can hold any number of arrows.
        self.arrow_steps += member.slots.len();
        if self.arrow_steps > MAX_ARROW_STEPS {
            return None;
        }
        let mut targets = Vec::new();
        for slot in member
            .slots
            .iter()
            .filter_map(|slot| self.schema.slots.get(slot.index()))
        {
            // The subject's object is followed, whether it stands for itself or for a userset.
            if let Some(found) = self.members.get(&(slot.subject_type, target.text.as_str())) {
                targets.push((slot.subject_type, *found));
            }
        }
        targets.sort_unstable();
        targets.dedup();
        Some(Expr::Arrow {
            relation,
            mode,
            targets,
        })
    }
}

/// Joins operands from the left. Unions in a union and intersections in an intersection become one.
fn operation(operator: Operator, operands: Vec<Expr>) -> Expr {
    match operator {
        Operator::Union => Expr::Union(flatten(operands, |expr| match expr {
            Expr::Union(inner) => Ok(inner),
            other => Err(other),
        })),
        Operator::Intersection => Expr::Intersection(flatten(operands, |expr| match expr {
            Expr::Intersection(inner) => Ok(inner),
            other => Err(other),
        })),
        Operator::Exclusion => {
            let exclude = |base, excluded| Expr::Exclusion(Box::new(base), Box::new(excluded));
            operands.into_iter().reduce(exclude).unwrap_or(Expr::Nil)
        }
    }
}

fn flatten(operands: Vec<Expr>, open: impl Fn(Expr) -> Result<Vec<Expr>, Expr>) -> Vec<Expr> {
    let mut flat = Vec::with_capacity(operands.len());
    for operand in operands {
        match open(operand) {
            Ok(inner) => flat.extend(inner),
            Err(other) => flat.push(other),
        }
    }
    flat
}

impl Resolver<'_> {
    /// The relation on the left of an arrow, once everything is resolved.
    pub(super) fn arrow_relation(&self, object_type: TypeId, left: &Identifier) -> Option<MemberId> {
        self.members.get(&(object_type, left.text.as_str())).copied()
    }
}
