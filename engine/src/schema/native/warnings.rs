//! Warnings: what is legal, and probably not what was meant.
//!
//! A comment `// ignore-warning: the_code` above a member or a definition switches one off there; SpiceDB's
//! `// spicedb-ignore-warning: the-code` is understood too.

use super::resolve::Resolver;
use super::syntax::{Expression, ExpressionKind, Identifier, Member, MemberBody, Operator};
use crate::pause;
use crate::schema::diagnostic::{DiagnosticCode, Findings, Span};
use crate::schema::reach::components;
use crate::schema::{MemberId, MemberKind, SlotSubject, TypeId};

/// Longer expressions are not repeated in messages.
const LONGEST_EXCERPT_BYTES: usize = 100;

impl Resolver<'_> {
    /// The warnings about a schema without errors.
    pub(super) fn warnings(&self) -> Findings {
        let mut warnings = Findings::default();
        for (position, written) in self.written.iter().enumerate() {
            pause::at_piece();
            if warnings.is_full() {
                break;
            }
            let Some(member) = self.schema.members.get(position) else {
                continue;
            };
            let mut lint = Lint {
                resolver: self,
                object_type: member.object_type,
                written,
                warnings: &mut warnings,
            };
            lint.name();
            if let MemberBody::Permission {
                annotation,
                expression,
            } = &written.body
            {
                lint.annotation(annotation);
                lint.expression(expression, true);
            }
        }
        self.cycles(&mut warnings);
        warnings
    }

    /// Permissions of one type that are defined by each other without an arrow between.
    fn cycles(&self, warnings: &mut Findings) {
        let edges = self.written.iter().enumerate().map(|(position, written)| {
            let object_type = self.schema.members.get(position).map(|member| member.object_type);
            let mut names = Vec::new();
            if let MemberBody::Permission { expression, .. } = &written.body {
                named_members(expression, &mut names);
            }
            let members = names
                .into_iter()
                .filter_map(|name| self.members.get(&(object_type?, name)));
            members.map(|member| member.0).collect()
        });
        let edges: Vec<Vec<u32>> = edges.collect();
        for mut component in components(&edges)
            .into_iter()
            .filter(|component| component.len() > 1)
        {
            component.sort_unstable();
            let members = component.iter().filter_map(|id| self.written.get(*id as usize));
            let Some(first) = members.clone().next() else {
                continue;
            };
            let Some(object_type) = component
                .first()
                .and_then(|id| self.schema.members.get(*id as usize))
            else {
                continue;
            };
            let names: Vec<String> = members
                .map(|member| format!("`{}`", member.name.text))
                .take(10)
                .collect();
            let message = format!(
                "permissions {} are defined by each other; what only they would grant each other is never granted",
                names.join(", ")
            );
            let mut lint = Lint {
                resolver: self,
                object_type: object_type.object_type,
                written: first,
                warnings: &mut *warnings,
            };
            lint.warn(DiagnosticCode::PermissionCycle, first.name.span, message);
        }
    }
}

/// Warnings about one member.
struct Lint<'r, 'a> {
    resolver: &'r Resolver<'a>,
    object_type: TypeId,
    written: &'r Member,
    warnings: &'r mut Findings,
}

impl Lint<'_, '_> {
    fn warn(&mut self, code: DiagnosticCode, span: Span, message: String) {
        let resolver = self.resolver;
        let definition = resolver.definitions.get(self.object_type.index());
        let definition = definition.and_then(|position| resolver.file.definitions.get(*position));
        let mut comments = definition
            .map(|definition| &definition.comment)
            .into_iter()
            .chain([&self.written.comment]);
        if !comments.any(|comment| comment.ignored_warnings.contains(code.as_str())) {
            self.warnings.push(code, span, message);
        }
    }

    fn name(&mut self) {
        let type_name = self.resolver.type_name(self.object_type);
        let type_name = type_name.rsplit('/').next().unwrap_or(type_name);
        let name = &self.written.name;
        if name
            .text
            .strip_suffix(type_name)
            .is_some_and(|rest| rest.ends_with('_'))
        {
            let message = format!(
                "the name `{}` repeats the name of its type, `{type_name}`",
                name.text
            );
            self.warn(DiagnosticCode::RelationNameReferencesParent, name.span, message);
        }
    }

    fn annotation(&mut self, annotation: &[Identifier]) {
        for name in annotation {
            if !self.resolver.types.contains_key(name.text.as_str()) {
                let message = format!("the type annotation names `{}`, which is not defined", name.text);
                self.warn(DiagnosticCode::AnnotationUnknownType, name.span, message);
            }
        }
    }

    /// `outermost` says that no other operation holds this expression without parentheses between.
    fn expression(&mut self, expression: &Expression, outermost: bool) {
        match &expression.kind {
            ExpressionKind::Nil | ExpressionKind::Itself => {}
            ExpressionKind::Member(name) => {
                if *name == self.written.name.text {
                    let message =
                        format!("permission `{name}` is defined by itself; this part of it grants nothing");
                    self.warn(
                        DiagnosticCode::PermissionReferencesItself,
                        expression.span,
                        message,
                    );
                }
            }
            ExpressionKind::Arrow { relation, target, .. } => self.arrow(expression, relation, target),
            ExpressionKind::Operation(operator, operands) => {
                if outermost {
                    self.mixed_operators(expression, *operator, operands);
                }
                for operand in operands {
                    self.expression(operand, operand.parenthesized);
                }
            }
        }
    }

    fn mixed_operators(&mut self, expression: &Expression, operator: Operator, operands: &[Expression]) {
        let mut operators = vec![operator.symbol()];
        loose_operators(operands, &mut operators);
        if operators.len() < 2 {
            return;
        }
        let symbols: Vec<String> = operators.iter().map(|symbol| format!("`{symbol}`")).collect();
        let symbols = symbols.join(" and ");
        let reading = match expression.span.bytes() {
            0..=LONGEST_EXCERPT_BYTES => format!("; it is read as `{expression}`"),
            _ => String::new(),
        };
        let message = format!("the expression mixes {symbols} without parentheses{reading}");
        self.warn(
            DiagnosticCode::MixedOperatorsWithoutParentheses,
            expression.span,
            message,
        );
    }

    fn arrow(&mut self, arrow: &Expression, left: &Identifier, target: &Identifier) {
        let resolver = self.resolver;
        let relation = resolver.arrow_relation(self.object_type, left);
        let Some(relation) = relation.and_then(|id| resolver.schema.members.get(id.index())) else {
            return;
        };
        let slots = relation
            .slots
            .iter()
            .filter_map(|slot| resolver.schema.slots.get(slot.index()));
        let mut found = false;
        for slot in slots {
            if let SlotSubject::Userset(userset) = slot.subject {
                let message = format!(
                    "`{arrow}` follows `{}`, which can hold usersets `{}`: the arrow goes to the object and ignores \
                     the relation",
                    left.text,
                    resolver.member_name(userset)
                );
                self.warn(DiagnosticCode::ArrowWalksSubjectRelation, arrow.span, message);
            }
            let Some(id) = resolver.members.get(&(slot.subject_type, target.text.as_str())) else {
                continue;
            };
            found = true;
            if slot.subject_type != self.object_type && self.is_relation(*id) {
                let message = format!(
                    "`{arrow}` goes to `{}`, a relation; better point it at a permission",
                    resolver.member_name(*id)
                );
                self.warn(DiagnosticCode::ArrowReferencesRelation, arrow.span, message);
            }
        }
        if !found {
            let (target, left) = (&target.text, &left.text);
            let message =
                format!("`{arrow}` grants nothing: no subject of relation `{left}` has a `{target}`");
            self.warn(
                DiagnosticCode::ArrowReferencesUnreachableRelation,
                arrow.span,
                message,
            );
        }
    }

    fn is_relation(&self, member: MemberId) -> bool {
        let member = self.resolver.schema.members.get(member.index());
        member.is_some_and(|member| member.kind == MemberKind::Relation)
    }
}

/// Adds the operators of those operands that stand in no parentheses.
fn loose_operators(operands: &[Expression], operators: &mut Vec<char>) {
    for operand in operands.iter().filter(|operand| !operand.parenthesized) {
        if let ExpressionKind::Operation(operator, inner) = &operand.kind {
            if !operators.contains(&operator.symbol()) {
                operators.push(operator.symbol());
            }
            loose_operators(inner, operators);
        }
    }
}

/// The members of its own type that an expression names.
fn named_members<'e>(expression: &'e Expression, names: &mut Vec<&'e str>) {
    match &expression.kind {
        ExpressionKind::Member(name) => names.push(name),
        ExpressionKind::Operation(_, operands) => {
            operands.iter().for_each(|operand| named_members(operand, names))
        }
        ExpressionKind::Nil | ExpressionKind::Itself | ExpressionKind::Arrow { .. } => {}
    }
}
