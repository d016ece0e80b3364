//! Resolves the names of a model and builds the [`Schema`], step by step; each step reports all errors it sees.

use std::collections::{HashMap, HashSet};

use super::model::{Identifier, Model, Relation, Restriction, Rewrite, RewriteKind, Subject, TypeDefinition};
use crate::noun::Name;
use crate::schema::diagnostic::{DiagnosticCode, Findings};
use crate::schema::{
    Allowed, ArrowMode, CaveatId, Expr, Member, MemberId, MemberKind, Schema, Slot, SlotId, SlotSubject,
    Type, TypeId,
};

/// How many relations a model may have.
const MAX_RELATIONS: usize = 100_000;
/// How many subject types `from` may be looked up in, over the whole model.
const MAX_FROM_STEPS: usize = 1_000_000;

/// A schema being built.
pub(super) struct Resolver<'a> {
    pub(super) source: &'a str,
    pub(super) model: &'a Model,
    pub(super) findings: &'a mut Findings,
    pub(super) schema: Schema,
    /// The conditions by name; `None` for one that is broken.
    pub(super) conditions: HashMap<&'a str, Option<CaveatId>>,
    /// Where each member was written.
    pub(super) written: Vec<&'a Relation>,
    types: HashMap<&'a str, TypeId>,
    members: HashMap<(TypeId, &'a str), MemberId>,
    /// For each type, whether some of its relations could not be read.
    incomplete: Vec<bool>,
    /// Whether what could not be read may have added relations to any type.
    all_incomplete: bool,
    used: HashSet<CaveatId>,
    warnings: Findings,
    from_steps: usize,
}

/// The schema of `model` and its warnings. `None` or findings, or both, where there are errors.
pub(super) fn resolve(source: &str, model: &Model, findings: &mut Findings) -> Option<(Schema, Findings)> {
    let mut resolver = Resolver {
        source,
        model,
        findings,
        schema: Schema {
            denies_paradoxes: true,
            ..Schema::default()
        },
        conditions: HashMap::new(),
        written: Vec::new(),
        types: HashMap::new(),
        members: HashMap::new(),
        incomplete: Vec::new(),
        all_incomplete: model.incomplete && model.types.iter().any(|held| held.extends),
        used: HashSet::new(),
        warnings: Findings::default(),
        from_steps: 0,
    };
    resolver.conditions();
    resolver.declare_types();
    resolver.declare_relations()?;
    resolver.restrictions();
    resolver.rewrites()?;
    if !resolver.findings.is_empty() {
        return None;
    }
    resolver.check_cycles();
    resolver.check_entrypoints();
    if !resolver.findings.is_empty() {
        return None;
    }
    if let Err(error) = resolver.schema.complete_reads() {
        resolver.findings.push(
            DiagnosticCode::LimitExceeded,
            Default::default(),
            error.to_string(),
        );
        return None;
    }
    resolver.unused_conditions();
    Some((resolver.schema, resolver.warnings))
}

impl<'a> Resolver<'a> {
    fn declare_types(&mut self) {
        let model = self.model;
        for definition in model.types.iter().filter(|definition| !definition.extends) {
            let name = &definition.name;
            if self.types.contains_key(name.text.as_str()) {
                let message = format!("there is another type `{}`", name.text);
                self.findings
                    .push(DiagnosticCode::DuplicateName, name.span, message);
                continue;
            }
            let Some(parsed) = self.name(name, "type") else {
                continue;
            };
            let id = TypeId(self.schema.types.len() as u32);
            self.types.insert(&name.text, id);
            self.schema.types_by_name.insert(parsed.clone(), id);
            self.schema.types.push(Type {
                name: parsed,
                members: Vec::new(),
                doc: definition.doc.clone(),
            });
            self.incomplete.push(definition.incomplete);
        }
    }

    /// Declares the relations of each type in the order they were written, then those that modules add to types.
    /// `None` if they are too many.
    fn declare_relations(&mut self) -> Option<()> {
        let model = self.model;
        let mut declared = HashSet::new();
        for extends in [false, true] {
            for definition in model.types.iter().filter(|held| held.extends == extends) {
                let known = self.types.get(definition.name.text.as_str()).copied();
                match known {
                    // The second of two types of one name was reported.
                    Some(id) if extends || declared.insert(id) => self.declare_members(id, definition)?,
                    Some(_) => {}
                    None => self.unknown_type(&definition.name),
                }
            }
        }
        Some(())
    }

    fn declare_members(&mut self, object_type: TypeId, definition: &'a TypeDefinition) -> Option<()> {
        if let Some(incomplete) = self.incomplete.get_mut(object_type.index()) {
            *incomplete |= definition.incomplete;
        }
        for relation in &definition.relations {
            let name = &relation.name;
            if self.members.contains_key(&(object_type, name.text.as_str())) {
                let message = format!(
                    "type `{}` already has a relation `{}`",
                    definition.name.text, name.text
                );
                self.findings
                    .push(DiagnosticCode::DuplicateMember, name.span, message);
                continue;
            }
            if self.schema.members.len() >= MAX_RELATIONS {
                let message = format!("a model has at most {MAX_RELATIONS} relations");
                self.findings
                    .push(DiagnosticCode::LimitExceeded, name.span, message);
                return None;
            }
            let Some(parsed) = self.name(name, "relation") else {
                continue;
            };
            let id = MemberId(self.schema.members.len() as u32);
            let holds = stores(&relation.rewrite);
            self.members.insert((object_type, &name.text), id);
            self.written.push(relation);
            self.schema
                .members_by_name
                .insert((object_type, parsed.clone()), id);
            self.schema.members.push(Member {
                name: parsed,
                object_type,
                kind: match holds {
                    true => MemberKind::Relation,
                    false => MemberKind::Permission,
                },
                slots: Vec::new(),
                expr: Expr::Nil,
                reads: Vec::new(),
                doc: relation.doc.clone(),
            });
            if let Some(held) = self.schema.types.get_mut(object_type.index()) {
                held.members.push(id);
            }
        }
        Some(())
    }

    /// The validated name. `this` and `self` mean something in rewrites, and so nothing can be called so.
    fn name(&mut self, identifier: &Identifier, kind: &str) -> Option<Name> {
        let text = identifier.text.as_str();
        let (name, message) = match Name::parse(text) {
            // It is known under that name all the same: one error is enough.
            Ok(name) if matches!(text, "this" | "self") => {
                let message = format!("`{text}` is a reserved word: a {kind} cannot be called so");
                (Some(name), message)
            }
            Ok(name) => return Some(name),
            Err(error) => (None, error.to_string()),
        };
        self.findings
            .push(DiagnosticCode::InvalidName, identifier.span, message);
        name
    }

    /// Gives every relation its slots.
    fn restrictions(&mut self) {
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

    /// Gives every relation its expression. `None` if there is too much of them.
    fn rewrites(&mut self) -> Option<()> {
        for (position, written) in self.written.clone().into_iter().enumerate() {
            if self.findings.is_full() {
                return None;
            }
            let object_type = self.schema.members.get(position)?.object_type;
            let expr = self.rewrite(object_type, &written.rewrite);
            if self.from_steps > MAX_FROM_STEPS {
                let message = "the `from` of the model lead to too many types".to_owned()
                    + " (counting, for each of them, the types of its relation)";
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
        match &written.kind {
            RewriteKind::This => Expr::This,
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
        let is_plain = |restriction: &Restriction| matches!(restriction.subject, Subject::Object);
        if !written.restrictions.iter().all(is_plain) {
            self.indirect(tupleset, "can hold usersets or wildcards");
            return None;
        }
        let member = self.schema.members.get(relation.index())?;
        self.from_steps += member.slots.len();
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

    fn unknown_type(&mut self, name: &Identifier) {
        if !self.model.incomplete {
            let message = format!("there is no type `{}`", name.text);
            self.findings
                .push(DiagnosticCode::UnknownType, name.span, message);
        }
    }

    /// The relation of that name of a type; reports it if there is none.
    fn member_of(&mut self, object_type: TypeId, name: &Identifier) -> Option<MemberId> {
        let found = self.members.get(&(object_type, name.text.as_str())).copied();
        if found.is_none() && !self.is_incomplete(object_type) {
            let object_type = self
                .schema
                .types
                .get(object_type.index())
                .map_or("", |held| held.name.as_str());
            let message = format!("type `{object_type}` has no relation `{}`", name.text);
            self.findings
                .push(DiagnosticCode::UnknownMember, name.span, message);
        }
        found
    }

    fn is_incomplete(&self, object_type: TypeId) -> bool {
        self.all_incomplete || self.incomplete.get(object_type.index()).copied().unwrap_or(false)
    }

    fn unused_conditions(&mut self) {
        for condition in &self.model.conditions {
            let id = self
                .conditions
                .get(condition.name.text.as_str())
                .copied()
                .flatten();
            if id.is_some_and(|id| !self.used.contains(&id)) {
                let message = format!("condition `{}` is not used", condition.name.text);
                self.warnings
                    .push(DiagnosticCode::UnusedCaveat, condition.name.span, message);
            }
        }
    }
}

/// Whether a relation with this rewrite holds relationships of its own.
fn stores(rewrite: &Rewrite) -> bool {
    match &rewrite.kind {
        RewriteKind::This => true,
        RewriteKind::Computed(_) | RewriteKind::From { .. } | RewriteKind::Broken => false,
        RewriteKind::Union(operands) | RewriteKind::Intersection(operands) => operands.iter().any(stores),
        RewriteKind::Exclusion(base, subtracted) => stores(base) || stores(subtracted),
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
