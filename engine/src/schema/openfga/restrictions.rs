//! Resolves what each relation can hold: the kinds of subjects that it lists.

use std::collections::{HashMap, HashSet};

use super::model::{Relation, Restriction, Rewrite, RewriteKind, Subject};
use super::resolve::Resolver;
use crate::pause;
use crate::schema::diagnostic::DiagnosticCode;
use crate::schema::{Allowed, CaveatId, MemberId, Slot, SlotId, SlotSubject, TypeId};

impl<'a> Resolver<'a> {
    /// Gives every relation its slots.
    pub(super) fn restrictions(&mut self) {
        for (position, relation) in self.written.clone().into_iter().enumerate() {
            let member = MemberId(position as u32);
            let holds = stores(&relation.rewrite);
            if self.findings.is_full() {
                return;
            }
            if !holds
                && let Some(first) = relation.restrictions.first()
                && !matches!(relation.rewrite.kind, RewriteKind::Broken)
            {
                let message = format!(
                    "`{}` lists types of subjects, but its rewrite has no `this` to hold them",
                    relation.name.text
                );
                self.findings
                    .push(DiagnosticCode::UnassignableRelation, first.span, message);
            }
            if holds && relation.restrictions.is_empty() {
                let message = format!(
                    "`{}` can be assigned directly, but lists no types of subjects",
                    relation.name.text
                );
                self.findings
                    .push(DiagnosticCode::UnassignableRelation, relation.name.span, message);
            }
            self.slots(member, relation);
        }
    }

    fn slots(&mut self, relation: MemberId, written: &'a Relation) {
        let mut slots: HashMap<(TypeId, SlotSubject), SlotId> = HashMap::new();
        let mut seen = HashSet::new();
        for restriction in &written.restrictions {
            pause::at_piece();
            let Some((subject_type, subject, caveat)) = self.restriction(restriction) else {
                continue;
            };
            if !seen.insert((subject_type, subject, caveat)) {
                let message = format!("`{}` lists this kind of subject twice", written.name.text);
                self.warnings
                    .push(DiagnosticCode::DuplicateSubjectType, restriction.span, message);
                continue;
            }
            let id = *slots.entry((subject_type, subject)).or_insert_with(|| {
                let id = SlotId(self.schema.slots.len() as u32);
                self.schema.slots.push(Slot {
                    relation,
                    subject_type,
                    subject,
                    allowed: Vec::new(),
                });
                if let Some(member) = self.schema.members.get_mut(relation.index()) {
                    member.slots.push(id);
                }
                id
            });
            if let Some(slot) = self.schema.slots.get_mut(id.index()) {
                slot.allowed.push(Allowed {
                    caveat,
                    expiration: false,
                });
            }
        }
    }

    /// One kind of subject; reports every name in it that does not exist.
    fn restriction(&mut self, written: &'a Restriction) -> Option<(TypeId, SlotSubject, Option<CaveatId>)> {
        let caveat = match &written.condition {
            None => Some(None),
            Some(name) => match self.conditions.get(name.text.as_str()) {
                Some(known) => known.map(Some),
                None => {
                    if !self.model.incomplete {
                        let message = format!("there is no condition `{}`", name.text);
                        self.findings
                            .push(DiagnosticCode::UnknownCaveat, name.span, message);
                    }
                    None
                }
            },
        };
        if let Some(Some(id)) = caveat {
            self.used.insert(id);
        }
        let Some(subject_type) = self.types.get(written.type_name.text.as_str()).copied() else {
            self.unknown_type(&written.type_name);
            return None;
        };
        let subject = match &written.subject {
            Subject::Object => SlotSubject::Object,
            Subject::Wildcard => SlotSubject::Wildcard,
            Subject::Userset(name) => SlotSubject::Userset(self.member_of(subject_type, name)?),
        };
        Some((subject_type, subject, caveat?))
    }
}

/// Whether a relation with this rewrite holds relationships of its own.
pub(super) fn stores(rewrite: &Rewrite) -> bool {
    match &rewrite.kind {
        RewriteKind::This => true,
        RewriteKind::Computed(_) | RewriteKind::From { .. } | RewriteKind::Broken => false,
        RewriteKind::Union(operands) | RewriteKind::Intersection(operands) => operands.iter().any(stores),
        RewriteKind::Exclusion(base, subtracted) => stores(base) || stores(subtracted),
    }
}
