//! Gives every type its members, those of the partials spread into it among them.

use std::collections::HashSet;

use super::resolve::Resolver;
use super::syntax::{Definition, Identifier, Item, Member};
use crate::pause;
use crate::schema::diagnostic::DiagnosticCode;
use crate::schema::reach::components;
use crate::schema::{Expr, MemberId, TypeId};

/// How many bytes of text a schema may have once every partial is spread.
const MAX_EXPANDED_BYTES: usize = 8 << 20;
/// How many relations and permissions a schema may have, those of all types together.
const MAX_MEMBERS: usize = 100_000;

impl<'a> Resolver<'a> {
    /// Checks the spreads of partials into partials: each must exist, and none may lead back to itself.
    pub(super) fn check_partials(&mut self) {
        let file = self.file;
        let mut edges = Vec::with_capacity(file.partials.len());
        for partial in &file.partials {
            let spreads = spreads(partial);
            edges.push(
                spreads
                    .filter_map(|name| self.partial(name))
                    .map(|at| at as u32)
                    .collect::<Vec<_>>(),
            );
        }
        for component in components(&edges) {
            let Some(first) = component.iter().min() else {
                continue;
            };
            let leads_back = edges
                .get(*first as usize)
                .is_some_and(|edges| edges.contains(first));
            if let Some(partial) = file.partials.get(*first as usize)
                && (component.len() > 1 || leads_back)
            {
                let message = format!(
                    "partial `{}` spreads itself, directly or by way of others",
                    partial.name.text
                );
                self.findings
                    .push(DiagnosticCode::PartialCycle, partial.name.span, message);
            }
        }
    }

    /// Collects the members of every type. `None` if they are too many.
    pub(super) fn expand_definitions(&mut self) -> Option<()> {
        let file = self.file;
        let mut bytes_left = MAX_EXPANDED_BYTES;
        let is_member = |item: &Item| matches!(item, Item::Member(_));
        let has_members: Vec<bool> = file
            .partials
            .iter()
            .map(|partial| partial.items.iter().any(is_member))
            .collect();
        for (position, definition) in self.definitions.clone().into_iter().enumerate() {
            let definition = file.definitions.get(definition)?;
            self.expand(TypeId(position as u32), definition, &has_members, &mut bytes_left)?;
        }
        Some(())
    }

    /// Collects the members of one type, the spreads depth first, as if they were written in their places.
    /// `has_members` says of each partial whether it has members of its own.
    fn expand(
        &mut self,
        object_type: TypeId,
        definition: &'a Definition,
        has_members: &[bool],
        bytes_left: &mut usize,
    ) -> Option<()> {
        let file = self.file;
        let mut spread = HashSet::new();
        let mut open = vec![definition.items.iter()];
        while let Some(items) = open.last_mut() {
            pause::at_piece();
            let Some(item) = items.next() else {
                open.pop();
                continue;
            };
            let bytes = match item {
                Item::Member(member) => member.span.bytes(),
                Item::Spread(name) => name.span.bytes(),
            };
            let left = bytes_left
                .checked_sub(bytes)
                .filter(|_| self.schema.members.len() < MAX_MEMBERS);
            let Some(left) = left else {
                let message = format!(
                    "with its partials spread, the schema has more than {MAX_MEMBERS} relations and permissions or \
                     {MAX_EXPANDED_BYTES} bytes"
                );
                self.findings
                    .push(DiagnosticCode::LimitExceeded, definition.name.span, message);
                return None;
            };
            *bytes_left = left;
            match item {
                Item::Member(member) => self.add_member(object_type, member),
                Item::Spread(name) => {
                    let partial = self
                        .partial(name)
                        .and_then(|at| Some((at, file.partials.get(at)?)));
                    let Some((at, partial)) = partial else {
                        // What it would have brought is unknown: names may only seem to be missing.
                        self.mark_incomplete(object_type);
                        continue;
                    };
                    if partial.incomplete {
                        self.mark_incomplete(object_type);
                    }
                    if spread.insert(at) {
                        open.push(partial.items.iter());
                    } else if has_members.get(at).copied().unwrap_or(false) {
                        let (name, text) = (name, definition.name.text.as_str());
                        let message = format!("partial `{}` is spread into `{text}` twice", name.text);
                        self.findings
                            .push(DiagnosticCode::DuplicateMember, name.span, message);
                    }
                }
            }
        }
        Some(())
    }

    fn add_member(&mut self, object_type: TypeId, written: &'a Member) {
        let key = (object_type, written.name.text.as_str());
        if self.members.contains_key(&key) {
            let (name, object_type) = (&written.name.text, self.type_name(object_type));
            let message = format!("`{object_type}` already has a relation or permission `{name}`");
            self.findings
                .push(DiagnosticCode::DuplicateMember, written.name.span, message);
            return;
        }
        let Some(name) = self.name(&written.name) else {
            return;
        };
        let id = MemberId(self.schema.members.len() as u32);
        self.members.insert(key, id);
        self.schema
            .members_by_name
            .insert((object_type, name.clone()), id);
        self.schema.members.push(crate::schema::Member {
            name,
            object_type,
            kind: written.kind(),
            slots: Vec::new(),
            expr: Expr::This,
            reads: Vec::new(),
            doc: written.comment.doc.clone(),
        });
        self.written.push(written);
        if let Some(held) = self.schema.types.get_mut(object_type.index()) {
            held.members.push(id);
        }
    }

    /// The position of the partial of that name; reports it if there is none.
    fn partial(&mut self, name: &Identifier) -> Option<usize> {
        let found = self.partials.get(name.text.as_str()).copied();
        if found.is_none() && !self.file.incomplete {
            let text = name.text.as_str();
            let message = match self.types.contains_key(text) {
                true => format!("expected a partial, found `{text}`, which is a definition"),
                false => format!("there is no partial `{text}`"),
            };
            self.findings
                .push(DiagnosticCode::UnknownPartial, name.span, message);
        }
        found
    }

    fn mark_incomplete(&mut self, object_type: TypeId) {
        if let Some(held) = self.incomplete.get_mut(object_type.index()) {
            *held = true;
        }
    }
}

fn spreads(definition: &Definition) -> impl Iterator<Item = &Identifier> {
    definition.items.iter().filter_map(|item| match item {
        Item::Spread(name) => Some(name),
        Item::Member(_) => None,
    })
}
