//! Resolves how each relation is decided, and what OpenFGA asks of `from`.

use std::collections::HashSet;

use super::model::{Identifier, Restriction, Rewrite, RewriteKind, Subject};
use super::resolve::Resolver;
use crate::pause;
use crate::schema::diagnostic::DiagnosticCode;
use crate::schema::{ArrowMode, Expr, TypeId};

/// How many subject types rewrites may lead to, over the whole model: for each `from` those of its relation, for each
/// `[…]` (JSON can repeat it) those that stand there.
const MAX_STEPS: usize = 1_000_000;

impl<'a> Resolver<'a> {
    /// Gives every relation its expression. `None` if there is too much of them.
    pub(super) fn rewrites(&mut self) -> Option<()> {
        for (position, written) in self.written.clone().into_iter().enumerate() {
            if self.findings.is_full() {
                return None;
            }
            let object_type = self.schema.members.get(position)?.object_type;
            self.listed = written.restrictions.len();
            let expr = self.rewrite(object_type, &written.rewrite);
            if self.steps > MAX_STEPS {
                let message = "the rewrites of the model lead to too many types".to_owned()
                    + " (counting, for each `from`, the types of its relation)";
                self.findings
                    .push(DiagnosticCode::LimitExceeded, written.name.span, message);
                return None;
            }
            self.schema.members.get_mut(position)?.expr = expr;
        }
        Some(())
    }

    /// The rewrite resolved; [`Expr::Nil`] in the places of what was reported.
    fn rewrite(&mut self, object_type: TypeId, written: &'a Rewrite) -> Expr {
        pause::at_piece();
        match &written.kind {
            RewriteKind::This => {
                self.steps += self.listed;
                Expr::This
            }
            RewriteKind::Broken => Expr::Nil,
            RewriteKind::Computed(name) => self.member_of(object_type, name).map_or(Expr::Nil, Expr::Member),
            RewriteKind::From { relation, tupleset } => {
                self.from(object_type, relation, tupleset).unwrap_or(Expr::Nil)
            }
            RewriteKind::Union(operands) => Expr::Union(self.operands(object_type, operands)),
            RewriteKind::Intersection(operands) => Expr::Intersection(self.operands(object_type, operands)),
            RewriteKind::Exclusion(base, subtracted) => {
                let base = self.rewrite(object_type, base);
                let subtracted = self.rewrite(object_type, subtracted);
                Expr::Exclusion(Box::new(base), Box::new(subtracted))
            }
        }
    }

    fn operands(&mut self, object_type: TypeId, operands: &'a [Rewrite]) -> Vec<Expr> {
        operands
            .iter()
            .map(|operand| self.rewrite(object_type, operand))
            .collect()
    }

    /// `target from tupleset`: the tupleset must hold plain objects alone, one of whose types has the target.
    fn from(
        &mut self,
        object_type: TypeId,
        target: &'a Identifier,
        tupleset: &'a Identifier,
    ) -> Option<Expr> {
        let relation = self.member_of(object_type, tupleset)?;
        let written = self.written.get(relation.index())?;
        match &written.rewrite.kind {
            RewriteKind::Broken => return None,
            RewriteKind::This => {}
            _ => {
                self.indirect(tupleset, "is computed");
                return None;
            }
        }
        // Before the restrictions are walked: a relation can list one type as often as it likes, and a rewrite name it as often.
        self.steps += written.restrictions.len();
        if self.steps > MAX_STEPS {
            return None;
        }
        let is_plain = |restriction: &Restriction| matches!(restriction.subject, Subject::Object);
        if !written.restrictions.iter().all(is_plain) {
            self.indirect(tupleset, "can hold usersets or wildcards");
            return None;
        }
        let member = self.schema.members.get(relation.index())?;
        let mut targets = Vec::new();
        let mut may_have_it = false;
        for slot in member
            .slots
            .iter()
            .filter_map(|slot| self.schema.slots.get(slot.index()))
        {
            let found = self.members.get(&(slot.subject_type, target.text.as_str()));
            targets.extend(found.map(|found| (slot.subject_type, *found)));
            may_have_it |= self.is_incomplete(slot.subject_type);
        }
        // Where a type of the tupleset could not be resolved, that was reported.
        if targets.is_empty() && !may_have_it && member.slots.len() == distinct(&written.restrictions) {
            let message = format!(
                "none of the types that `{}` can hold has a relation `{}`",
                tupleset.text, target.text
            );
            self.findings
                .push(DiagnosticCode::UnknownMember, target.span, message);
        }
        targets.sort_unstable();
        targets.dedup();
        Some(Expr::Arrow {
            relation,
            mode: ArrowMode::Any,
            targets,
        })
    }

    fn indirect(&mut self, tupleset: &Identifier, why: &str) {
        let message = format!(
            "`{}` {why}: only a relation that holds plain objects, and nothing else, can stand after `from`",
            tupleset.text
        );
        self.findings
            .push(DiagnosticCode::IndirectTupleset, tupleset.span, message);
    }
}

/// How many types plain restrictions name.
fn distinct(restrictions: &[Restriction]) -> usize {
    let names: HashSet<&str> = restrictions
        .iter()
        .map(|restriction| restriction.type_name.text.as_str())
        .collect();
    names.len()
}
