//! Resolves the names of a model and builds the [`Schema`], step by step; each step reports all errors it sees.

use std::collections::{HashMap, HashSet};

use super::model::{Identifier, Model, Relation, TypeDefinition};
use super::restrictions::stores;
use crate::caveat::Compiler;
use crate::noun::Name;
use crate::pause;
use crate::schema::diagnostic::{DiagnosticCode, Findings};
use crate::schema::{CaveatId, Expr, Member, MemberId, MemberKind, Schema, Type, TypeId};

/// How many relations a model may have.
const MAX_RELATIONS: usize = 100_000;

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
    pub(super) types: HashMap<&'a str, TypeId>,
    pub(super) members: HashMap<(TypeId, &'a str), MemberId>,
    /// For each type, whether some of its relations could not be read.
    incomplete: Vec<bool>,
    /// Whether what could not be read may have added relations to any type.
    all_incomplete: bool,
    pub(super) used: HashSet<CaveatId>,
    pub(super) warnings: Findings,
    /// How many subject types the rewrites were looked up in.
    pub(super) steps: usize,
    /// How many kinds of subjects the relation lists whose rewrite is being resolved.
    pub(super) listed: usize,
    /// What compiles the conditions, and knows what further ones may still cost.
    pub(super) caveat_compiler: Compiler,
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
        steps: 0,
        listed: 0,
        caveat_compiler: Compiler::default(),
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
            pause::at_piece();
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

    pub(super) fn unknown_type(&mut self, name: &Identifier) {
        if !self.model.incomplete {
            let message = format!("there is no type `{}`", name.text);
            self.findings
                .push(DiagnosticCode::UnknownType, name.span, message);
        }
    }

    /// The relation of that name of a type; reports it if there is none.
    pub(super) fn member_of(&mut self, object_type: TypeId, name: &Identifier) -> Option<MemberId> {
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

    pub(super) fn is_incomplete(&self, object_type: TypeId) -> bool {
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
