//! Resolves relations: what subjects each can hold, and which of them can hold a wildcard.

use std::collections::{HashMap, HashSet};

use super::resolve::Resolver;
use super::syntax::{MemberBody, Subject, SubjectType};
use crate::pause;
use crate::schema::diagnostic::{DiagnosticCode, Span};
use crate::schema::{Allowed, MemberId, Slot, SlotId, SlotSubject, TypeId};

impl Resolver<'_> {
    /// Gives every relation its slots.
    pub(super) fn relations(&mut self) {
        let mut usersets = Vec::new();
        for (position, written) in self.written.clone().into_iter().enumerate() {
            if let MemberBody::Relation(types) = &written.body
                && !self.findings.is_full()
            {
                self.relation(MemberId(position as u32), types, &mut usersets);
            }
        }
        self.find_wildcards();
        for (relation, userset, span) in usersets {
            self.check_transitive_wildcard(relation, userset, span);
        }
    }

    fn relation(
        &mut self,
        relation: MemberId,
        types: &[SubjectType],
        usersets: &mut Vec<(MemberId, MemberId, Span)>,
    ) {
        let mut slots: HashMap<(TypeId, SlotSubject), SlotId> = HashMap::new();
        let mut seen = HashSet::new();
        for written in types {
            pause::at_piece();
            let Some((subject_type, subject, allowed)) = self.subject_type(written) else {
                continue;
            };
            if let SlotSubject::Userset(userset) = subject {
                usersets.push((relation, userset, written.span));
            }
            if !seen.insert((subject_type, subject, allowed.caveat, allowed.expiration)) {
                let text = written.span.text(self.source);
                let message = format!("the relation already allows `{text}`");
                self.findings
                    .push(DiagnosticCode::DuplicateSubjectType, written.span, message);
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
                slot.allowed.push(allowed);
            }
        }
    }

    /// One kind of subject; reports every name in it that does not exist.
    fn subject_type(&mut self, written: &SubjectType) -> Option<(TypeId, SlotSubject, Allowed)> {
        let caveat = match &written.caveat {
            None => Some(None),
            Some(name) => match self.caveats.get(name.text.as_str()) {
                Some(known) => known.map(Some),
                None => {
                    self.unknown_caveat(&name.text, name.span);
                    None
                }
            },
        };
        let subject_type = self.type_of(&written.type_name)?;
        let subject = match &written.subject {
            Subject::Object => SlotSubject::Object,
            Subject::Wildcard => SlotSubject::Wildcard,
            Subject::Userset(name) => SlotSubject::Userset(self.member_of(subject_type, name)?),
        };
        Some((
            subject_type,
            subject,
            Allowed {
                caveat: caveat?,
                expiration: written.expiration,
            },
        ))
    }

    fn unknown_caveat(&mut self, name: &str, span: Span) {
        if self.file.incomplete {
            return;
        }
        let hint = match name {
            "expiration" if !self.file.expiration_keyword => {
                "; to mean an expiry, add a line `use expiration` at the top of the schema"
            }
            _ => "",
        };
        let message = format!("there is no caveat `{name}`{hint}");
        self.findings.push(DiagnosticCode::UnknownCaveat, span, message);
    }

    /// Finds the relations that can hold a wildcard: of their own, or through the relation of a userset.
    fn find_wildcards(&mut self) {
        self.wildcards = vec![false; self.schema.members.len()];
        let mut holders: HashMap<MemberId, Vec<MemberId>> = HashMap::new();
        let mut open = Vec::new();
        for slot in &self.schema.slots {
            match slot.subject {
                SlotSubject::Object => {}
                SlotSubject::Wildcard => open.push(slot.relation),
                SlotSubject::Userset(userset) => holders.entry(userset).or_default().push(slot.relation),
            }
        }
        while let Some(relation) = open.pop() {
            if let Some(held) = self.wildcards.get_mut(relation.index())
                && !*held
            {
                *held = true;
                open.extend(holders.get(&relation).into_iter().flatten());
            }
        }
    }

    pub(super) fn can_hold_wildcard(&self, member: MemberId) -> bool {
        self.wildcards.get(member.index()).copied().unwrap_or(false)
    }

    /// A userset of another type must not bring in a wildcard. (Within one type SpiceDB lets it pass.)
    fn check_transitive_wildcard(&mut self, relation: MemberId, userset: MemberId, span: Span) {
        let members = &self.schema.members;
        let (Some(holder), Some(held)) = (members.get(relation.index()), members.get(userset.index())) else {
            return;
        };
        if holder.object_type != held.object_type && self.can_hold_wildcard(userset) {
            let (holder, held) = (&holder.name, self.member_name(userset));
            let message = format!(
                "relation `{holder}` cannot allow `{held}`, which can hold a wildcard: a wildcard must be allowed \
                 where it is meant"
            );
            self.findings
                .push(DiagnosticCode::TransitiveWildcard, span, message);
        }
    }
}
