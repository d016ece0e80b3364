//! What a change of schema does: what was added, removed and changed, which permissions may answer differently, and
//! which stored relationships would no longer fit.

mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use self::words::{canonical, expression, member_name, on_one_line, subjects_of, type_name};
use super::compiled::{Caveat, Expr, Member, MemberId, MemberKind, Schema, Slot};
use crate::caveat::same_expression;

macro_rules! change_kinds {
    ($($(#[$doc:meta])* $name:ident => $word:literal, $text:literal;)*) => {
        /// The kinds of changes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ChangeKind {
            $($(#[$doc])* $name,)*
        }

        impl ChangeKind {
            /// The stable snake_case word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            const fn words(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

change_kinds! {
    /// A type is new.
    TypeAdded => "type_added", "type added";
    /// A type is gone.
    TypeRemoved => "type_removed", "type removed";
    /// A relation is new.
    RelationAdded => "relation_added", "relation added";
    /// A relation is gone.
    RelationRemoved => "relation_removed", "relation removed";
    /// A permission is new.
    PermissionAdded => "permission_added", "permission added";
    /// A permission is gone.
    PermissionRemoved => "permission_removed", "permission removed";
    /// A relation is now a permission: its relationships no longer fit.
    BecamePermission => "became_permission", "relation became a permission";
    /// A permission is now a relation.
    BecameRelation => "became_relation", "permission became a relation";
    /// A relation takes subjects that it did not take before.
    SubjectsWidened => "subjects_widened", "subjects now allowed";
    /// A relation no longer takes subjects that it took before.
    SubjectsNarrowed => "subjects_narrowed", "subjects no longer allowed";
    /// A permission is decided differently.
    ExpressionChanged => "expression_changed", "expression changed";
    /// A caveat is new.
    CaveatAdded => "caveat_added", "caveat added";
    /// A caveat is gone.
    CaveatRemoved => "caveat_removed", "caveat removed";
    /// A caveat has a parameter that it did not have before.
    ParameterAdded => "parameter_added", "parameter added";
    /// A caveat has lost a parameter: contexts that name it no longer fit.
    ParameterRemoved => "parameter_removed", "parameter removed";
    /// A caveat's parameter has another type: contexts that hold it may no longer fit.
    ParameterRetyped => "parameter_retyped", "parameter has another type";
    /// A caveat is decided differently.
    CaveatExpressionChanged => "caveat_expression_changed", "caveat expression changed";
}

/// One difference between two schemas.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// What kind of change.
    pub kind: ChangeKind,
    /// What changed: a type, `type#member`, a caveat, or `caveat(parameter)`.
    pub at: String,
    /// How it was, where that can be said: subjects, an expression, a type.
    pub old: Option<String>,
    /// How it is.
    pub new: Option<String>,
}

/// What a change of schema does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemaDiff {
    /// The changes, those of one thing together.
    pub changes: Vec<Change>,
    /// `type#member` of each permission (or computed relation) of both schemas that may answer differently: it is
    /// decided by something that changed. Sorted.
    pub affected: Vec<String>,
    /// The kinds of relationships, as `type#relation@subjects`, that the old schema takes and the new one does not:
    /// where such are stored, they no longer fit. Sorted.
    pub orphaned: Vec<String>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.kind.words())?;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, ": `{old}` is now `{new}`"),
            (Some(one), None) | (None, Some(one)) => write!(f, ": `{one}`"),
            (None, None) => Ok(()),
        }
    }
}

impl SchemaDiff {
    /// Compares two schemas by their names, whatever the order in which things are written, operands of unions and intersections
    /// included, and whatever language each is in.
    pub fn between(old: &Schema, new: &Schema) -> Self {
        let mut comparison = Comparison {
            old: Side::new(old),
            new: Side::new(new),
            changes: Vec::new(),
            changed: BTreeSet::new(),
            orphaned: Vec::new(),
        };
        comparison.caveats();
        comparison.types();
        comparison.members();
        let affected = comparison.affected();
        let Comparison {
            mut changes,
            mut orphaned,
            ..
        } = comparison;
        changes.sort_by(|a, b| a.at.cmp(&b.at).then(a.kind.cmp(&b.kind)));
        orphaned.sort();
        Self {
            changes,
            affected,
            orphaned,
        }
    }

    /// Whether the schemas mean the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One of the two schemas, by names.
struct Side<'a> {
    schema: &'a Schema,
    /// `type#member` of each member.
    members: BTreeMap<String, MemberId>,
    caveats: BTreeMap<&'a str, &'a Caveat>,
}

impl<'a> Side<'a> {
    fn new(schema: &'a Schema) -> Self {
        let members = (0..schema.members().len()).map(|at| MemberId(at as u32));
        let caveats = schema
            .caveats()
            .iter()
            .map(|caveat| (caveat.name.as_str(), caveat));
        Self {
            schema,
            members: members.map(|id| (member_name(schema, id), id)).collect(),
            caveats: caveats.collect(),
        }
    }

    fn member(&self, name: &str) -> Option<&'a Member> {
        let id = self.members.get(name)?;
        self.schema.members().get(id.index())
    }

    fn slots(&self, member: &Member) -> impl Iterator<Item = &'a Slot> {
        let schema = self.schema;
        member
            .slots
            .clone()
            .into_iter()
            .filter_map(move |id| schema.slots().get(id.index()))
    }

    /// What relationships of a member may name: `user`, `user:* with c`, `group#member with expiration`.
    fn subjects(&self, member: &Member) -> BTreeSet<String> {
        let schema = self.schema;
        self.slots(member)
            .flat_map(|slot| {
                slot.allowed
                    .iter()
                    .map(move |allowed| subjects_of(schema, slot, *allowed))
            })
            .collect()
    }

    /// The names of the caveats that relationships of a member can be under.
    fn caveats_of(&self, member: &Member) -> BTreeSet<&'a str> {
        let ids = self
            .slots(member)
            .flat_map(|slot| slot.allowed.iter().filter_map(|allowed| allowed.caveat));
        ids.filter_map(|id| self.schema.caveats().get(id.index()))
            .map(|caveat| caveat.name.as_str())
            .collect()
    }

    /// The names of those members that are decided by any of `changed`.
    fn reached_from(&self, changed: &BTreeSet<String>) -> BTreeSet<String> {
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.schema.members().len()];
        for (reader, read) in self.schema.dependencies(true).into_iter().enumerate() {
            for member in read {
                if let Some(list) = readers.get_mut(member as usize) {
                    list.push(reader);
                }
            }
        }
        let mut reached = vec![false; readers.len()];
        let mut left: Vec<usize> = changed
            .iter()
            .filter_map(|name| self.members.get(name))
            .map(|id| id.index())
            .collect();
        while let Some(member) = left.pop() {
            match reached.get_mut(member) {
                Some(seen) if !*seen => *seen = true,
                _ => continue,
            }
            left.extend(readers.get(member).into_iter().flatten());
        }
        let is_reached = |id: &MemberId| reached.get(id.index()).copied().unwrap_or(false);
        let names = self.members.iter().filter(|(_, id)| is_reached(id));
        names.map(|(name, _)| name.clone()).collect()
    }
}

struct Comparison<'a> {
    old: Side<'a>,
    new: Side<'a>,
    changes: Vec<Change>,
    /// The members that changed themselves.
    changed: BTreeSet<String>,
    orphaned: Vec<String>,
}

impl Comparison<'_> {
    fn push(&mut self, kind: ChangeKind, at: impl Into<String>, old: Option<String>, new: Option<String>) {
        self.changes.push(Change {
            kind,
            at: at.into(),
            old,
            new,
        });
    }

    fn caveats(&mut self) {
        let mut touched = BTreeSet::new();
        for (name, old) in self.old.caveats.clone() {
            let Some(new) = self.new.caveats.get(name).copied() else {
                self.push(ChangeKind::CaveatRemoved, name, None, None);
                continue;
            };
            let before = self.changes.len();
            for (parameter, old_type) in &old.parameters {
                let at = format!("{name}({parameter})");
                match new.parameters.iter().find(|(other, _)| other == parameter) {
                    None => self.push(ChangeKind::ParameterRemoved, at, Some(type_name(old_type)), None),
                    Some((_, new_type)) if new_type != old_type => {
                        let types = (Some(type_name(old_type)), Some(type_name(new_type)));
                        self.push(ChangeKind::ParameterRetyped, at, types.0, types.1);
                    }
                    Some(_) => {}
                }
            }
            for (parameter, new_type) in &new.parameters {
                if !old.parameters.iter().any(|(other, _)| other == parameter) {
                    let at = format!("{name}({parameter})");
                    self.push(ChangeKind::ParameterAdded, at, None, Some(type_name(new_type)));
                }
            }
            if !same_expression(&old.expression, &new.expression) {
                let (was, is) = (on_one_line(&old.expression), on_one_line(&new.expression));
                self.push(ChangeKind::CaveatExpressionChanged, name, Some(was), Some(is));
            }
            if self.changes.len() > before {
                touched.insert(name);
            }
        }
        for (name, _) in self.new.caveats.clone() {
            if !self.old.caveats.contains_key(name) {
                self.push(ChangeKind::CaveatAdded, name, None, None);
            }
        }
        // A relation under a changed caveat has changed as far as answers go.
        for side in [&self.old, &self.new] {
            for (name, id) in &side.members {
                let member = side.schema.members().get(id.index());
                if member.is_some_and(|member| !side.caveats_of(member).is_disjoint(&touched)) {
                    self.changed.insert(name.clone());
                }
            }
        }
    }

    fn types(&mut self) {
        let names = |side: &Side<'_>| -> BTreeSet<String> {
            side.schema
                .types()
                .iter()
                .map(|held| held.name.to_string())
                .collect()
        };
        let (old, new) = (names(&self.old), names(&self.new));
        for name in old.difference(&new) {
            self.push(ChangeKind::TypeRemoved, name, None, None);
        }
        for name in new.difference(&old) {
            self.push(ChangeKind::TypeAdded, name, None, None);
        }
    }

    fn members(&mut self) {
        let names: BTreeSet<String> = self
            .old
            .members
            .keys()
            .chain(self.new.members.keys())
            .cloned()
            .collect();
        for name in names {
            let before = self.changes.len();
            match (self.old.member(&name), self.new.member(&name)) {
                (Some(old), Some(new)) => self.member(&name, old, new),
                (Some(old), None) => {
                    let kind = match old.kind {
                        MemberKind::Relation => ChangeKind::RelationRemoved,
                        MemberKind::Permission => ChangeKind::PermissionRemoved,
                    };
                    self.push(kind, &name, None, None);
                    let gone = self.old.subjects(old);
                    self.orphaned
                        .extend(gone.iter().map(|subject| format!("{name}@{subject}")));
                }
                (None, Some(new)) => {
                    let kind = match new.kind {
                        MemberKind::Relation => ChangeKind::RelationAdded,
                        MemberKind::Permission => ChangeKind::PermissionAdded,
                    };
                    self.push(kind, &name, None, None);
                }
                (None, None) => {}
            }
            if self.changes.len() > before {
                self.changed.insert(name);
            }
        }
    }

    fn member(&mut self, name: &str, old: &Member, new: &Member) {
        match (old.kind, new.kind) {
            (MemberKind::Relation, MemberKind::Permission) => {
                self.push(ChangeKind::BecamePermission, name, None, None);
            }
            (MemberKind::Permission, MemberKind::Relation) => {
                self.push(ChangeKind::BecameRelation, name, None, None);
            }
            _ => {}
        }
        let (was, is) = (self.old.subjects(old), self.new.subjects(new));
        for subject in was.difference(&is) {
            self.push(ChangeKind::SubjectsNarrowed, name, Some(subject.clone()), None);
            self.orphaned.push(format!("{name}@{subject}"));
        }
        for subject in is.difference(&was) {
            self.push(ChangeKind::SubjectsWidened, name, None, Some(subject.clone()));
        }
        if old.kind == new.kind {
            let same = canonical(self.old.schema, &old.expr) == canonical(self.new.schema, &new.expr);
            if !same {
                let (was, is) = (
                    expression(self.old.schema, &old.expr),
                    expression(self.new.schema, &new.expr),
                );
                self.push(ChangeKind::ExpressionChanged, name, Some(was), Some(is));
            }
        }
    }

    /// The computed members of both schemas that something changed can be seen through.
    fn affected(&self) -> Vec<String> {
        let mut reached = self.old.reached_from(&self.changed);
        reached.append(&mut self.new.reached_from(&self.changed));
        let is_computed = |name: &String| match (self.old.member(name), self.new.member(name)) {
            (Some(old), Some(new)) => old.expr != Expr::This || new.expr != Expr::This,
            _ => false,
        };
        reached.into_iter().filter(is_computed).collect()
    }
}

#[cfg(test)]
mod tests;
