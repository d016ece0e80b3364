//! Prints a compiled schema in the native language.
//!
//! In an OpenFGA model a relation can hold relationships and be computed at once; in the native language it cannot. Such
//! a relation is split: what it holds becomes a relation of its own, `direct_…`, and its name goes to a permission.
//! So every check, and every userset and arrow that names it, means what it meant; only what is *written* to it
//! moves, and that is told. A name that the native language does not have is told as well, and nothing is printed.

use std::collections::HashSet;
use std::fmt::{self, Write as _};

use super::compiled::{
    ArrowMode, Caveat, CaveatType, Expr, Member, MemberId, MemberKind, Schema, SlotSubject,
};
use super::native;
use crate::noun::{MAX_NAME_BYTES, Name};

/// The text of a schema, and what changed its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// The text.
    pub text: String,
    /// The relations that were split, in the order of the schema.
    pub splits: Vec<Split>,
}

/// A relation that became a relation and a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The type it belongs to.
    pub object_type: Name,
    /// Its name, which is the permission's now.
    pub member: Name,
    /// The relation that relationships are written to now.
    pub relation: Name,
}

/// Something in a schema that the native language cannot say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unprintable {
    /// What, such as ``relation `document#can-view` ``.
    pub what: String,
    /// Why not.
    pub why: String,
}

impl fmt::Display for Unprintable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has no native equivalent: {}", self.what, self.why)
    }
}

/// The words that name nothing in the native language.
const KEYWORDS: [&str; 6] = ["definition", "caveat", "relation", "permission", "nil", "with"];

/// Prints `schema` in the native language. What is printed compiles, and decides every check as `schema` does.
///
/// # Errors
///
/// Everything that has no native equivalent.
pub fn print(schema: &Schema) -> Result<Printed, Vec<Unprintable>> {
    let mut printer = Printer {
        schema,
        split: split_relations(schema),
        text: String::new(),
        splits: Vec::new(),
        unprintable: Vec::new(),
    };
    printer.schema();
    if !printer.unprintable.is_empty() {
        return Err(printer.unprintable);
    }
    // The compiler has the last word on what its language can say.
    if let Err(errors) = native::compile(&printer.text) {
        let unprintable = errors.into_iter().map(|error| Unprintable {
            what: format!("line {} of the native text", error.line),
            why: error.message,
        });
        return Err(unprintable.collect());
    }
    Ok(Printed {
        text: printer.text,
        splits: printer.splits,
    })
}

struct Printer<'a> {
    schema: &'a Schema,
    split: Vec<bool>,
    text: String,
    splits: Vec<Split>,
    unprintable: Vec<Unprintable>,
}

impl<'a> Printer<'a> {
    fn schema(&mut self) {
        let schema = self.schema;
        let mut features = Vec::new();
        let expires = |allowed: &super::Allowed| allowed.expiration;
        if schema.slots.iter().any(|slot| slot.allowed.iter().any(expires)) {
            features.push("expiration");
        }
        if schema.members.iter().any(|member| names_itself(&member.expr)) {
            features.push("self");
        }
        for feature in &features {
            self.line(0, &format!("use {feature}"));
        }
        if !features.is_empty() {
            self.text.push('\n');
        }
        for caveat in &schema.caveats {
            self.caveat(caveat);
        }
        for held in &schema.types {
            self.check_name("type", held.name.as_str(), held.name.as_str(), true);
            self.doc(0, held.doc.as_deref());
            if held.members.is_empty() {
                self.line(0, &format!("definition {} {{}}\n", held.name));
                continue;
            }
            self.line(0, &format!("definition {} {{", held.name));
            let taken: HashSet<&str> = held
                .members
                .iter()
                .filter_map(|id| self.member(*id))
                .map(|member| member.name.as_str())
                .collect();
            let mut taken: HashSet<String> = taken.into_iter().map(str::to_owned).collect();
            for id in &held.members {
                self.relation_or_permission(&held.name, *id, &mut taken);
            }
            self.line(0, "}\n");
        }
        // One line end at the end is enough.
        let length = self.text.trim_end().len();
        self.text.truncate(length);
        if length > 0 {
            self.text.push('\n');
        }
    }

    fn caveat(&mut self, caveat: &Caveat) {
        self.check_name("caveat", caveat.name.as_str(), caveat.name.as_str(), true);
        let mut parameters = Vec::with_capacity(caveat.parameters.len());
        for (name, declared) in &caveat.parameters {
            let shown = format!("{}.{name}", caveat.name);
            self.check_name("caveat parameter", name, &shown, false);
            parameters.push(format!("{name} {}", TypeName(declared)));
        }
        self.doc(0, caveat.doc.as_deref());
        self.line(
            0,
            &format!("caveat {}({}) {{", caveat.name, parameters.join(", ")),
        );
        // Not indented anew: a string can run over lines.
        self.line(1, &caveat.expression);
        self.line(0, "}\n");
    }

    fn relation_or_permission(&mut self, type_name: &Name, id: MemberId, taken: &mut HashSet<String>) {
        let Some(member) = self.member(id) else {
            return;
        };
        let shown = format!("{type_name}#{}", member.name);
        self.check_name("relation", member.name.as_str(), &shown, false);
        if member.kind == MemberKind::Permission {
            let expr = self.expr(&member.expr, "");
            self.doc(1, member.doc.as_deref());
            return self.line(1, &format!("permission {} = {expr}", member.name));
        }
        let subjects = self.subjects(member);
        if !self.split.get(id.index()).copied().unwrap_or(false) {
            self.doc(1, member.doc.as_deref());
            return self.line(1, &format!("relation {}: {subjects}", member.name));
        }
        let Some(direct) = free_name(member.name.as_str(), taken) else {
            self.unprintable.push(Unprintable {
                what: format!("relation `{shown}`"),
                why: "it must be split in two, and its name is too long for that".to_owned(),
            });
            return;
        };
        taken.insert(direct.to_string());
        let note = format!(
            "// What is related directly as `{}` is written here.",
            member.name
        );
        self.line(1, &note);
        self.line(1, &format!("relation {direct}: {subjects}"));
        let expr = self.expr(&member.expr, direct.as_str());
        self.doc(1, member.doc.as_deref());
        self.line(1, &format!("permission {} = {expr}", member.name));
        self.splits.push(Split {
            object_type: type_name.clone(),
            member: member.name.clone(),
            relation: direct,
        });
    }

    /// `user | user:* | group#member with caveat`
    fn subjects(&self, member: &Member) -> String {
        let slots = member
            .slots
            .iter()
            .filter_map(|id| self.schema.slots.get(id.index()));
        let mut subjects = Vec::new();
        for slot in slots {
            let held = self.schema.types.get(slot.subject_type.index());
            let type_name = held.map_or("", |held| held.name.as_str());
            let class = match slot.subject {
                SlotSubject::Object => type_name.to_owned(),
                SlotSubject::Wildcard => format!("{type_name}:*"),
                SlotSubject::Userset(member) => format!("{type_name}#{}", self.name_of(member)),
            };
            for allowed in &slot.allowed {
                let caveat = allowed.caveat.and_then(|id| self.schema.caveats.get(id.index()));
                subjects.push(match (caveat, allowed.expiration) {
                    (None, false) => class.clone(),
                    (None, true) => format!("{class} with expiration"),
                    (Some(caveat), false) => format!("{class} with {}", caveat.name),
                    (Some(caveat), true) => format!("{class} with {} and expiration", caveat.name),
                });
            }
        }
        subjects.join(" | ")
    }

    /// The expression, with parentheses around each operation in another; `direct` is what [`Expr::This`] is called.
    fn expr(&self, expr: &Expr, direct: &str) -> String {
        match expr {
            Expr::This => direct.to_owned(),
            Expr::Nil => "nil".to_owned(),
            Expr::Itself => "self".to_owned(),
            Expr::Member(member) => self.name_of(*member).to_owned(),
            Expr::Union(operands) => self.joined(operands, " + ", direct),
            Expr::Intersection(operands) => self.joined(operands, " & ", direct),
            Expr::Exclusion(base, excluded) => {
                format!(
                    "{} - {}",
                    self.operand(base, direct),
                    self.operand(excluded, direct)
                )
            }
            Expr::Arrow {
                relation,
                mode,
                targets,
            } => {
                let left = self.name_of(*relation);
                // An arrow that no subject has a target for finds nobody.
                match (targets.first(), mode) {
                    (None, _) => "nil".to_owned(),
                    (Some((_, target)), ArrowMode::Any) => format!("{left}->{}", self.name_of(*target)),
                    (Some((_, target)), ArrowMode::All) => format!("{left}.all({})", self.name_of(*target)),
                }
            }
        }
    }

    fn joined(&self, operands: &[Expr], operator: &str, direct: &str) -> String {
        let operands: Vec<String> = operands
            .iter()
            .map(|operand| self.operand(operand, direct))
            .collect();
        operands.join(operator)
    }

    fn operand(&self, expr: &Expr, direct: &str) -> String {
        let text = self.expr(expr, direct);
        match expr {
            Expr::Union(_) | Expr::Intersection(_) | Expr::Exclusion(..) => format!("({text})"),
            _ => text,
        }
    }

    fn member(&self, id: MemberId) -> Option<&'a Member> {
        self.schema.members.get(id.index())
    }

    fn name_of(&self, id: MemberId) -> &'a str {
        self.member(id).map_or("", |member| member.name.as_str())
    }

    fn check_name(&mut self, kind: &str, name: &str, shown: &str, is_path: bool) {
        let is_word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let words: Vec<&str> = match is_path {
            true => name.split('/').collect(),
            false => vec![name],
        };
        let why = if let Some(keyword) = words.iter().find(|word| KEYWORDS.contains(word)) {
            format!("`{keyword}` is a keyword there")
        } else if !words.iter().copied().all(is_word) {
            format!(
                "a name there holds only letters, digits and `_`{}",
                if is_path { ", and `/` between them" } else { "" }
            )
        } else {
            return;
        };
        self.unprintable.push(Unprintable {
            what: format!("{kind} `{shown}`"),
            why,
        });
    }

    fn doc(&mut self, indent: usize, doc: Option<&str>) {
        for line in doc.iter().flat_map(|doc| doc.lines()) {
            self.line(indent, format!("// {line}").trim_end());
        }
    }

    fn line(&mut self, indent: usize, text: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{}{text}", "    ".repeat(indent));
    }
}

/// The relations that must be split: those that are computed as well, and those with a wildcard that would come into
/// another type through a userset, which the native language lets only permissions do.
fn split_relations(schema: &Schema) -> Vec<bool> {
    let is_relation = |member: &Member| member.kind == MemberKind::Relation;
    let mut split: Vec<bool> = schema
        .members
        .iter()
        .map(|member| is_relation(member) && member.expr != Expr::This)
        .collect();
    let is_split = |split: &[bool], id: MemberId| split.get(id.index()).copied().unwrap_or(false);
    let mut wildcards = vec![false; schema.members.len()];
    let mut holders: Vec<Vec<MemberId>> = vec![Vec::new(); schema.members.len()];
    let mut open = Vec::new();
    for slot in schema
        .slots
        .iter()
        .filter(|slot| !is_split(&split, slot.relation))
    {
        match slot.subject {
            SlotSubject::Object => {}
            SlotSubject::Wildcard => open.push(slot.relation),
            SlotSubject::Userset(userset) => {
                if let Some(holders) = holders.get_mut(userset.index()) {
                    holders.push(slot.relation);
                }
            }
        }
    }
    while let Some(relation) = open.pop() {
        if let Some(held) = wildcards.get_mut(relation.index())
            && !*held
        {
            *held = true;
            open.extend(holders.get(relation.index()).into_iter().flatten());
        }
    }
    for slot in &schema.slots {
        if let SlotSubject::Userset(userset) = slot.subject
            && wildcards.get(userset.index()).copied().unwrap_or(false)
            && let Some(holder) = schema.members.get(slot.relation.index())
            && holder.object_type != slot.subject_type
            && let Some(split) = split.get_mut(userset.index())
        {
            *split = true;
        }
    }
    split
}

/// `direct_name`, or the like where that is taken.
fn free_name(name: &str, taken: &HashSet<String>) -> Option<Name> {
    let mut candidate = format!("direct_{name}");
    while taken.contains(&candidate) && candidate.len() <= MAX_NAME_BYTES {
        candidate.push('_');
    }
    Name::parse(&candidate).ok()
}

fn names_itself(expr: &Expr) -> bool {
    match expr {
        Expr::Itself => true,
        Expr::This | Expr::Nil | Expr::Member(_) | Expr::Arrow { .. } => false,
        Expr::Union(operands) | Expr::Intersection(operands) => operands.iter().any(names_itself),
        Expr::Exclusion(base, excluded) => names_itself(base) || names_itself(excluded),
    }
}

/// A parameter's type as the native language writes it.
struct TypeName<'a>(&'a CaveatType);

impl fmt::Display for TypeName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            CaveatType::Any => "any",
            CaveatType::Bool => "bool",
            CaveatType::String => "string",
            CaveatType::Int => "int",
            CaveatType::Uint => "uint",
            CaveatType::Double => "double",
            CaveatType::Bytes => "bytes",
            CaveatType::Duration => "duration",
            CaveatType::Timestamp => "timestamp",
            CaveatType::IpAddress => "ipaddress",
            CaveatType::List(element) => return write!(f, "list<{}>", TypeName(element)),
            CaveatType::Map(element) => return write!(f, "map<{}>", TypeName(element)),
        })
    }
}
