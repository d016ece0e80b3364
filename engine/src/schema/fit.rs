//! Whether a relationship fits a schema, and into which slot.

use super::compiled::{Allowed, Member, MemberId, MemberKind, Schema, Slot, SlotId, SlotSubject, TypeId};
use super::misfit::Misfit;
use crate::noun::{Relationship, SubjectRef};

/// How many alternatives a message names at most.
const MOST_NAMED: usize = 10;

/// How many slots of a relation are looked through one by one.
const MANY_SLOTS: usize = 8;

impl Schema {
    /// Makes the slots of relations of many findable at once. All of them must be in place.
    pub(crate) fn index_slots(&mut self) {
        for (position, member) in self.members.iter().enumerate() {
            let Ok(relation) = u32::try_from(position).map(MemberId) else {
                continue;
            };
            if member.slots.len() <= MANY_SLOTS {
                continue;
            }
            for id in &member.slots {
                if let Some(slot) = self.slots.get(id.index()) {
                    let class = (relation, slot.subject_type, slot.subject);
                    self.slots_by_class.entry(class).or_insert(*id);
                }
            }
        }
    }

    /// How many slots can be found by a map.
    pub fn indexed_slots(&self) -> usize {
        self.slots_by_class.len()
    }

    /// The slot of `relation` for a class of subjects, if it holds such.
    pub fn slot_for(&self, relation: MemberId, subject_type: TypeId, subject: SlotSubject) -> Option<SlotId> {
        let slots = &self.members.get(relation.index())?.slots;
        if slots.len() > MANY_SLOTS {
            return self
                .slots_by_class
                .get(&(relation, subject_type, subject))
                .copied();
        }
        let wanted = |slot: &Slot| slot.subject_type == subject_type && slot.subject == subject;
        slots
            .iter()
            .copied()
            .find(|id| self.slots.get(id.index()).is_some_and(wanted))
    }

    /// The slot that a relationship belongs into.
    ///
    /// # Errors
    ///
    /// The first thing about it that the schema does not allow.
    pub fn fits(&self, relationship: &Relationship) -> Result<SlotId, Misfit> {
        let relation = self.writable(relationship)?;
        let (subject_type, subject) = self.subject_class(&relationship.subject)?;
        let slot = self.slot_for(relation, subject_type, subject);
        let Some((id, slot)) = slot.and_then(|id| Some((id, self.slots.get(id.index())?))) else {
            let member = self.members.get(relation.index());
            return Err(Misfit::SubjectNotAllowed {
                relation: self.full_name(relation),
                subject: self.class_name(subject_type, subject),
                allowed: member.map_or_else(String::new, |member| self.classes(member)),
            });
        };
        self.check_terms(slot, relationship)?;
        Ok(id)
    }

    /// The relation that a relationship is written to.
    fn writable(&self, relationship: &Relationship) -> Result<MemberId, Misfit> {
        let resource = &relationship.resource;
        let object_type = self
            .type_named(&resource.object_type)
            .ok_or_else(|| Misfit::UnknownResourceType(resource.object_type.clone()))?;
        if resource.id.is_wildcard() {
            return Err(Misfit::WildcardResource(resource.object_type.clone()));
        }
        let found = self.member_named(object_type, &relationship.relation);
        match found.and_then(|id| Some((id, self.members.get(id.index())?))) {
            // A member of another language's model may be both: computed, and with relationships of its own.
            Some((id, member)) if member.kind == MemberKind::Relation || !member.slots.is_empty() => Ok(id),
            Some(_) => Err(Misfit::NotARelation {
                object_type: resource.object_type.clone(),
                permission: relationship.relation.clone(),
            }),
            None => Err(Misfit::UnknownRelation {
                object_type: resource.object_type.clone(),
                relation: relationship.relation.clone(),
            }),
        }
    }

    /// The class that a subject belongs to.
    fn subject_class(&self, subject: &SubjectRef) -> Result<(TypeId, SlotSubject), Misfit> {
        let subject_type = self
            .type_named(&subject.object_type)
            .ok_or_else(|| Misfit::UnknownSubjectType(subject.object_type.clone()))?;
        let class = match &subject.relation {
            None if subject.id.is_wildcard() => SlotSubject::Wildcard,
            None => SlotSubject::Object,
            Some(_) if subject.id.is_wildcard() => {
                return Err(Misfit::WildcardUserset(subject.object_type.clone()));
            }
            Some(relation) => {
                let member = self.member_named(subject_type, relation);
                SlotSubject::Userset(member.ok_or_else(|| Misfit::UnknownSubjectRelation {
                    subject_type: subject.object_type.clone(),
                    relation: relation.clone(),
                })?)
            }
        };
        Ok((subject_type, class))
    }

    /// Whether the slot allows the relationship's caveat, its context and its expiry.
    fn check_terms(&self, slot: &Slot, relationship: &Relationship) -> Result<(), Misfit> {
        let caveat = match &relationship.caveat {
            None => None,
            Some(caveat) => {
                let id = self.caveat_named(&caveat.name);
                Some(id.ok_or_else(|| Misfit::UnknownCaveat(caveat.name.clone()))?)
            }
        };
        let wanted = Allowed {
            caveat,
            expiration: relationship.expires_at.is_some(),
        };
        if !slot.allowed.contains(&wanted) {
            let relation = self.full_name(slot.relation);
            let subject = self.class_name(slot.subject_type, slot.subject);
            let allowed = slot
                .allowed
                .iter()
                .map(|allowed| format!("`{}`", self.terms(&subject, *allowed)));
            let allowed = listed(allowed, "no such subjects");
            if slot.allowed.iter().any(|allowed| allowed.caveat == wanted.caveat) {
                let found = if wanted.expiration {
                    "with an expiry"
                } else {
                    "without an expiry"
                };
                return Err(Misfit::ExpirationNotAllowed {
                    relation,
                    subject,
                    found,
                    allowed,
                });
            }
            let found = match &relationship.caveat {
                Some(caveat) => format!("with caveat `{}`", caveat.name),
                None => "without a caveat".into(),
            };
            return Err(Misfit::CaveatNotAllowed {
                relation,
                subject,
                found,
                allowed,
            });
        }
        if let (Some(written), Some(id)) = (&relationship.caveat, caveat)
            && let Some(caveat) = self.caveats.get(id.index())
        {
            let known = |name: &String| caveat.parameters.iter().any(|(parameter, _)| parameter == name);
            if let Some(parameter) = written.context.keys().find(|name| !known(name)) {
                let allowed = caveat
                    .parameters
                    .iter()
                    .map(|(parameter, _)| format!("`{parameter}`"));
                return Err(Misfit::UnknownParameter {
                    caveat: caveat.name.clone(),
                    parameter: parameter.clone(),
                    allowed: listed(allowed, "none"),
                });
            }
            caveat
                .program
                .accepts(&written.context)
                .map_err(Misfit::UnfitValue)?;
        }
        Ok(())
    }

    /// `type#member`
    fn full_name(&self, member: MemberId) -> String {
        let found = self.members.get(member.index());
        found.map_or_else(String::new, |held| {
            self.class_name(held.object_type, SlotSubject::Userset(member))
        })
    }

    /// `type`, `type:*` or `type#member`
    fn class_name(&self, subject_type: TypeId, subject: SlotSubject) -> String {
        let type_name = self
            .types
            .get(subject_type.index())
            .map_or("", |held| held.name.as_str());
        match subject {
            SlotSubject::Object => type_name.into(),
            SlotSubject::Wildcard => format!("{type_name}:*"),
            SlotSubject::Userset(member) => {
                let member = self
                    .members
                    .get(member.index())
                    .map_or("", |held| held.name.as_str());
                format!("{type_name}#{member}")
            }
        }
    }

    /// The classes of subjects of a relation, for messages.
    fn classes(&self, member: &Member) -> String {
        let slots = member
            .slots
            .iter()
            .filter_map(|slot| self.slots.get(slot.index()));
        listed(
            slots.map(|slot| format!("`{}`", self.class_name(slot.subject_type, slot.subject))),
            "none",
        )
    }

    /// `subject with caveat and expiration`
    fn terms(&self, subject: &str, allowed: Allowed) -> String {
        let caveat = allowed.caveat.and_then(|id| self.caveats.get(id.index()));
        match (caveat, allowed.expiration) {
            (None, false) => subject.into(),
            (None, true) => format!("{subject} with expiration"),
            (Some(caveat), false) => format!("{subject} with {}", caveat.name),
            (Some(caveat), true) => format!("{subject} with {} and expiration", caveat.name),
        }
    }
}

/// Joins alternatives, the first few of them.
fn listed(mut alternatives: impl Iterator<Item = String>, none: &str) -> String {
    let mut named: Vec<String> = alternatives.by_ref().take(MOST_NAMED).collect();
    if alternatives.next().is_some() {
        named.push("others".into());
    }
    match named.is_empty() {
        true => none.into(),
        false => named.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use crate::context::{Context, Value};
    use crate::noun::{CaveatRef, Name, ObjectId, ObjectRef, Relationship, SubjectRef, Timestamp};
    use crate::schema::{Schema, SlotId, compile};

    use crate::schema::Misfit;

    fn schema() -> Schema {
        let source = "use expiration\n\
            definition user {}\n\
            definition robot {}\n\
            definition group {\nrelation member: user\npermission all = member\n}\n\
            caveat c(x int, y int) {\nx > y\n}\n\
            caveat other(x int) {\nx > 1\n}\n\
            definition doc {\n\
            relation viewer: user | user:* | group#member | group#all | group with c\n\
            relation strict: user with c | robot with expiration | group with c and expiration\n\
            permission view = viewer\n}";
        compile(source).unwrap().schema
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// `resource#relation@subject`, perhaps with a caveat and an expiry.
    fn relationship(text: &str, caveat: Option<&str>, expires: bool) -> Relationship {
        let (resource, rest) = text.split_once('#').unwrap();
        let (relation, subject) = rest.split_once('@').unwrap();
        let context = Context::from([("x".to_owned(), Value::Int(1))]);
        Relationship {
            resource: ObjectRef::parse(resource).unwrap(),
            relation: name(relation),
            subject: SubjectRef::parse(subject).unwrap(),
            caveat: caveat.map(|caveat| CaveatRef {
                name: name(caveat),
                context,
            }),
            expires_at: expires.then_some(Timestamp(1)),
        }
    }

    fn fit(text: &str, caveat: Option<&str>, expires: bool) -> Result<SlotId, Misfit> {
        schema().fits(&relationship(text, caveat, expires))
    }

    #[test]
    fn what_fits_finds_its_own_slot() {
        let slots: Vec<u32> = [
            ("doc:1#viewer@user:a", None, false),
            ("doc:1#viewer@user:*", None, false),
            ("doc:1#viewer@group:g#member", None, false),
            ("doc:1#viewer@group:g#all", None, false),
            ("doc:1#viewer@group:g#...", Some("c"), false),
            ("doc:1#strict@user:a", Some("c"), false),
            ("doc:1#strict@robot:a", None, true),
            ("doc:1#strict@group:a", Some("c"), true),
        ]
        .into_iter()
        .map(|(text, caveat, expires)| fit(text, caveat, expires).unwrap().0)
        .collect();
        let first = slots[0];
        assert_eq!(slots, (first..first + 8).collect::<Vec<_>>());
    }

    #[test]
    fn what_does_not_fit_is_told_why() {
        let cases = [
            (
                "dog:1#viewer@user:a",
                None,
                false,
                "resource",
                "the schema has no type `dog`",
            ),
            (
                "doc:1#fan@user:a",
                None,
                false,
                "relation",
                "type `doc` has no relation `fan`",
            ),
            (
                "doc:1#view@user:a",
                None,
                false,
                "relation",
                "`view` is a permission of type `doc`",
            ),
            (
                "doc:1#viewer@cat:a",
                None,
                false,
                "subject",
                "the schema has no type `cat`",
            ),
            (
                "doc:1#viewer@group:g#fan",
                None,
                false,
                "subject",
                "type `group` has no relation or permission `fan`",
            ),
            (
                "doc:1#viewer@robot:a",
                None,
                false,
                "subject",
                "relation `doc#viewer` does not allow subjects `robot`; it allows `user`, `user:*`, `group#member`, \
                 `group#all`, `group`",
            ),
            (
                "doc:1#strict@user:*",
                None,
                false,
                "subject",
                "does not allow subjects `user:*`",
            ),
            (
                "doc:1#strict@group:g#member",
                None,
                false,
                "subject",
                "does not allow subjects `group#member`",
            ),
            (
                "doc:1#viewer@user:a",
                Some("d"),
                false,
                "caveat",
                "the schema has no caveat `d`",
            ),
            (
                "doc:1#viewer@user:a",
                Some("c"),
                false,
                "caveat",
                "relation `doc#viewer` does not allow `user` with caveat `c`; it allows `user`",
            ),
            (
                "doc:1#strict@user:a",
                None,
                false,
                "caveat",
                "`user` without a caveat; it allows `user with c`",
            ),
            (
                "doc:1#strict@user:a",
                Some("other"),
                false,
                "caveat",
                "with caveat `other`",
            ),
            (
                "doc:1#strict@user:a",
                Some("c"),
                true,
                "expires_at",
                "`user` with an expiry; it allows `user with c`",
            ),
            (
                "doc:1#viewer@user:a",
                None,
                true,
                "expires_at",
                "`user` with an expiry; it allows `user`",
            ),
            (
                "doc:1#strict@robot:a",
                None,
                false,
                "expires_at",
                "`robot` without an expiry; it allows `robot with expiration`",
            ),
            (
                "doc:1#strict@group:a",
                Some("c"),
                false,
                "expires_at",
                "`group` without an expiry; it allows `group with c and expiration`",
            ),
        ];
        for (text, caveat, expires, field, words) in cases {
            let misfit = fit(text, caveat, expires).unwrap_err();
            assert_eq!(misfit.field(), field, "{text}: {misfit}");
            assert!(misfit.to_string().contains(words), "{text}: {misfit}");
        }
    }

    #[test]
    fn stored_context_names_only_parameters() {
        let mut written = relationship("doc:1#strict@user:a", Some("c"), false);
        written
            .caveat
            .as_mut()
            .unwrap()
            .context
            .insert("z".into(), Value::Null);
        let misfit = schema().fits(&written).unwrap_err();
        assert_eq!(misfit.field(), "caveat");
        assert_eq!(
            misfit.to_string(),
            "caveat `c` has no parameter `z`; it has `x`, `y`"
        );
    }

    #[test]
    fn wildcards_stand_alone() {
        let mut written = relationship("doc:1#viewer@group:g#member", None, false);
        written.subject.id = ObjectId::wildcard();
        assert_eq!(
            schema().fits(&written),
            Err(Misfit::WildcardUserset(name("group")))
        );
        written.resource.id = ObjectId::wildcard();
        assert_eq!(
            schema().fits(&written),
            Err(Misfit::WildcardResource(name("doc")))
        );
    }
}
