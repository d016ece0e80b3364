//! Resolves the names of a syntax tree and builds the [`Schema`], step by step; each step reports all errors it sees.

use std::collections::HashMap;

use super::syntax::{File, Identifier, Member, MemberBody};
use crate::caveat::Compiler;
use crate::noun::Name;
use crate::schema::diagnostic::{DiagnosticCode, Findings};
use crate::schema::{CaveatId, MemberId, MemberKind, Schema, Type, TypeId};

/// A schema being built.
pub(super) struct Resolver<'a> {
    pub(super) source: &'a str,
    pub(super) file: &'a File,
    pub(super) findings: &'a mut Findings,
    pub(super) schema: Schema,
    /// The definitions that became types: their positions in the file, by type.
    pub(super) definitions: Vec<usize>,
    pub(super) types: HashMap<&'a str, TypeId>,
    /// The caveats by name; `None` for one that is broken.
    pub(super) caveats: HashMap<&'a str, Option<CaveatId>>,
    pub(super) partials: HashMap<&'a str, usize>,
    pub(super) members: HashMap<(TypeId, &'a str), MemberId>,
    /// Where each member was written.
    pub(super) written: Vec<&'a Member>,
    /// For each type, whether some of its members could not be read.
    pub(super) incomplete: Vec<bool>,
    /// For each member, whether it can hold a wildcard, itself or through usersets.
    pub(super) wildcards: Vec<bool>,
    /// How many arrow targets were looked up.
    pub(super) arrow_steps: usize,
    /// What compiles the caveats, and knows what further ones may still cost.
    pub(super) caveat_compiler: Compiler,
}

/// The schema of `file` and its warnings. `None` or findings, or both, where there are errors.
pub(super) fn resolve(source: &str, file: &File, findings: &mut Findings) -> Option<(Schema, Findings)> {
    let mut resolver = Resolver {
        source,
        file,
        findings,
        schema: Schema::default(),
        definitions: Vec::new(),
        types: HashMap::new(),
        caveats: HashMap::new(),
        partials: HashMap::new(),
        members: HashMap::new(),
        written: Vec::new(),
        incomplete: Vec::new(),
        wildcards: Vec::new(),
        arrow_steps: 0,
        caveat_compiler: Compiler::default(),
    };
    resolver.declare_names();
    resolver.caveats();
    resolver.check_partials();
    resolver.expand_definitions()?;
    resolver.relations();
    resolver.permissions()?;
    if !resolver.findings.is_empty() {
        return None;
    }
    resolver.annotations();
    if let Err(error) = resolver.schema.complete_reads() {
        resolver.findings.push(
            DiagnosticCode::LimitExceeded,
            Default::default(),
            error.to_string(),
        );
        return None;
    }
    let warnings = resolver.warnings();
    Some((resolver.schema, warnings))
}

impl<'a> Resolver<'a> {
    /// Gives every definition, caveat and partial its name; they share one space of names.
    fn declare_names(&mut self) {
        let file = self.file;
        let mut taken: HashMap<&str, &str> = HashMap::new();
        for (position, definition) in file.definitions.iter().enumerate() {
            if self.claim(&mut taken, "definition", &definition.name) {
                self.declare_type(position);
            }
        }
        for caveat in &file.caveats {
            if self.claim(&mut taken, "caveat", &caveat.name) {
                self.caveats.insert(&caveat.name.text, None);
            }
        }
        for (position, partial) in file.partials.iter().enumerate() {
            if self.claim(&mut taken, "partial", &partial.name) {
                self.partials.insert(&partial.name.text, position);
            }
        }
    }

    /// Takes a name for a thing of this kind, unless it is taken.
    fn claim(
        &mut self,
        taken: &mut HashMap<&'a str, &'static str>,
        kind: &'static str,
        name: &'a Identifier,
    ) -> bool {
        let Some(holder) = taken.get(name.text.as_str()) else {
            taken.insert(&name.text, kind);
            return true;
        };
        let message = format!("the name `{}` is already taken by another {holder}", name.text);
        self.findings
            .push(DiagnosticCode::DuplicateName, name.span, message);
        false
    }

    fn declare_type(&mut self, position: usize) {
        let Some(definition) = self.file.definitions.get(position) else {
            return;
        };
        let Some(name) = self.name(&definition.name) else {
            return;
        };
        let id = TypeId(self.schema.types.len() as u32);
        self.schema.types_by_name.insert(name.clone(), id);
        self.schema.types.push(Type {
            name,
            members: Vec::new(),
            doc: definition.comment.doc.clone(),
        });
        self.types.insert(&definition.name.text, id);
        self.definitions.push(position);
        self.incomplete.push(definition.incomplete);
    }

    /// The validated name. The parser let no bad one through; should the rules ever differ, that is an error.
    pub(super) fn name(&mut self, identifier: &Identifier) -> Option<Name> {
        match Name::parse(&identifier.text) {
            Ok(name) => Some(name),
            Err(error) => {
                self.findings
                    .push(DiagnosticCode::InvalidName, identifier.span, error.to_string());
                None
            }
        }
    }

    /// The type of that name; reports it if there is none.
    pub(super) fn type_of(&mut self, name: &Identifier) -> Option<TypeId> {
        let found = self.types.get(name.text.as_str()).copied();
        if found.is_none() && !self.file.incomplete {
            let text = &name.text;
            let message = match self.partials.contains_key(text.as_str()) {
                true => format!("expected a type, found `{text}`, which is a partial"),
                false if self.caveats.contains_key(text.as_str()) => {
                    format!("expected a type, found `{text}`, which is a caveat")
                }
                false => format!("there is no definition `{text}`"),
            };
            self.findings
                .push(DiagnosticCode::UnknownType, name.span, message);
        }
        found
    }

    /// The member of that name of a type; reports it if there is none.
    pub(super) fn member_of(&mut self, object_type: TypeId, name: &Identifier) -> Option<MemberId> {
        let found = self.members.get(&(object_type, name.text.as_str())).copied();
        if found.is_none() && !self.is_incomplete(object_type) {
            let hint = match name.text.as_str() {
                "self" if !self.file.self_keyword => {
                    "; to mean the object itself, add a line `use self` at the top of the schema"
                }
                _ => "",
            };
            let (text, object_type) = (&name.text, self.type_name(object_type));
            let message = format!("`{object_type}` has no relation or permission `{text}`{hint}");
            self.findings
                .push(DiagnosticCode::UnknownMember, name.span, message);
        }
        found
    }

    fn is_incomplete(&self, object_type: TypeId) -> bool {
        self.incomplete.get(object_type.index()).copied().unwrap_or(false)
    }

    pub(super) fn type_name(&self, object_type: TypeId) -> &str {
        self.schema
            .types
            .get(object_type.index())
            .map_or("", |held| held.name.as_str())
    }

    /// `type#member`, for messages.
    pub(super) fn member_name(&self, member: MemberId) -> String {
        match self.schema.members.get(member.index()) {
            Some(held) => format!("{}#{}", self.type_name(held.object_type), held.name),
            None => String::new(),
        }
    }
}

impl Member {
    pub(super) fn kind(&self) -> MemberKind {
        match self.body {
            MemberBody::Relation(_) => MemberKind::Relation,
            MemberBody::Permission { .. } => MemberKind::Permission,
            MemberBody::Broken(kind) => kind,
        }
    }
}
