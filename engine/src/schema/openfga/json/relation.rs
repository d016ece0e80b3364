//! Reads the relations of a JSON type: their rewrites, and the kinds of subjects that its metadata lists.

use std::collections::HashMap;

use super::model::{identifier, named};
use super::tree::{Json, Kind, Member};
use crate::schema::diagnostic::{DiagnosticCode, Findings, Span};
use crate::schema::openfga::model::{
    Identifier, MAX_DEPTH, Relation, Restriction, Rewrite, RewriteKind, Subject,
};

/// The relations of a type, and whether some could not be read.
pub(super) fn relations(json: &Json, findings: &mut Findings) -> (Vec<Relation>, bool) {
    let metadata = json.get(&["metadata"]);
    if let Some(metadata) = metadata {
        metadata.only(&["relations", "module", "source_info", "sourceInfo"], findings);
    }
    let described = metadata.and_then(|metadata| metadata.get(&["relations"]));
    let described = described.map_or(&[][..], |described| described.members(findings));
    let mut unused: HashMap<&str, &Member> = described
        .iter()
        .map(|member| (member.name.as_str(), member))
        .collect();
    let written = json.get(&["relations"]);
    let written = written.map_or(&[][..], |relations| relations.members(findings));
    let mut relations = Vec::with_capacity(written.len());
    let mut incomplete = false;
    for member in written {
        let described = unused.remove(member.name.as_str());
        let Some(name) = identifier(&member.name, member.name_span, findings) else {
            incomplete = true;
            continue;
        };
        let restrictions =
            described.map_or_else(Vec::new, |described| restrictions(&described.value, findings));
        let rewrite = rewrite(&member.value, 0, findings).unwrap_or(Rewrite {
            kind: RewriteKind::Broken,
            span: member.value.span,
        });
        relations.push(Relation {
            name,
            restrictions,
            rewrite,
            doc: None,
        });
    }
    for described in described {
        if unused.contains_key(described.name.as_str()) {
            let message = format!(
                "there is metadata for the relation `{}`, but no such relation",
                described.name.escape_debug()
            );
            findings.push(DiagnosticCode::UnknownMember, described.name_span, message);
        }
    }
    (relations, incomplete)
}

fn restrictions(described: &Json, findings: &mut Findings) -> Vec<Restriction> {
    let types = ["directly_related_user_types", "directlyRelatedUserTypes"];
    let rest = ["module", "source_info", "sourceInfo"];
    described.only(&[&types[..], &rest[..]].concat(), findings);
    let list = described.get(&types);
    let list = list.map_or(&[][..], |list| list.items(findings));
    list.iter()
        .filter_map(|written| restriction(written, findings))
        .collect()
}

/// `{"type", "relation" | "wildcard", "condition"}`
fn restriction(json: &Json, findings: &mut Findings) -> Option<Restriction> {
    json.only(&["type", "relation", "wildcard", "condition"], findings);
    let type_name = named(json, &["type"], findings)?;
    let relation = optional(json, "relation", findings)?;
    let wildcard = json.get(&["wildcard"]);
    if let Some(wildcard) = wildcard {
        wildcard.only(&[], findings);
    }
    let subject = match (relation, wildcard) {
        (None, None) => Subject::Object,
        (None, Some(_)) => Subject::Wildcard,
        (Some(relation), None) => Subject::Userset(relation),
        (Some(_), Some(wildcard)) => {
            let message = "`relation` and `wildcard` exclude each other";
            findings.push(DiagnosticCode::UnexpectedToken, wildcard.span, message);
            return None;
        }
    };
    Some(Restriction {
        type_name,
        subject,
        condition: optional(json, "condition", findings)?,
        span: json.span,
    })
}

/// A name that need not be there, and can be empty; the outer `None` is one that was reported.
#[expect(clippy::option_option, reason = "three outcomes: reported, absent, there")]
fn optional(json: &Json, member: &str, findings: &mut Findings) -> Option<Option<Identifier>> {
    match json.get(&[member]) {
        None => Some(None),
        Some(value) => match value.text(findings)? {
            "" => Some(None),
            text => identifier(text, value.span, findings).map(Some),
        },
    }
}

/// One of the kinds of rewrites, inside of `depth` others.
fn rewrite(json: &Json, depth: usize, findings: &mut Findings) -> Option<Rewrite> {
    const KINDS: &str =
        "`this`, `computedUserset`, `tupleToUserset`, `union`, `intersection` or `difference`";
    if depth > MAX_DEPTH {
        let message = format!("the relation is nested more than {MAX_DEPTH} deep");
        findings.push(DiagnosticCode::NestingTooDeep, start_of(json), message);
        return None;
    }
    let Kind::Object(members) = &json.kind else {
        json.expected(&format!("an object with {KINDS}"), findings);
        return None;
    };
    let mut given = members
        .iter()
        .filter(|member| !matches!(member.value.kind, Kind::Null));
    let (Some(member), None) = (given.next(), given.next()) else {
        let message = format!("expected exactly one of {KINDS}");
        findings.push(DiagnosticCode::UnexpectedToken, start_of(json), message);
        return None;
    };
    let kind = match member.name.as_str() {
        "this" => {
            member.value.only(&[], findings);
            RewriteKind::This
        }
        "computedUserset" | "computed_userset" => {
            RewriteKind::Computed(object_relation(&member.value, findings)?)
        }
        "tupleToUserset" | "tuple_to_userset" => from(member, findings)?,
        "union" => RewriteKind::Union(children(member, depth, findings)?),
        "intersection" => RewriteKind::Intersection(children(member, depth, findings)?),
        "difference" => {
            member.value.only(&["base", "subtract"], findings);
            let base = required(&member.value, "base", findings)?;
            let subtract = required(&member.value, "subtract", findings)?;
            let base = rewrite(base, depth + 1, findings);
            let subtract = rewrite(subtract, depth + 1, findings);
            RewriteKind::Exclusion(Box::new(base?), Box::new(subtract?))
        }
        other => {
            let message = format!("expected {KINDS}, found `{}`", other.escape_debug());
            findings.push(DiagnosticCode::UnknownField, member.name_span, message);
            return None;
        }
    };
    Some(Rewrite {
        kind,
        span: start_of(json),
    })
}

/// `{"tupleset": {"relation"}, "computedUserset": {"relation"}}`
fn from(member: &Member, findings: &mut Findings) -> Option<RewriteKind> {
    let computed = ["computedUserset", "computed_userset"];
    member
        .value
        .only(&[&["tupleset"][..], &computed[..]].concat(), findings);
    let tupleset = required(&member.value, "tupleset", findings)?;
    let tupleset = object_relation(tupleset, findings)?;
    let relation = match member.value.get(&computed) {
        Some(relation) => relation,
        None => required(&member.value, "computedUserset", findings)?,
    };
    let relation = object_relation(relation, findings)?;
    Some(RewriteKind::From { relation, tupleset })
}

/// `{"relation": …}`; the API's answers add an empty `object`.
fn object_relation(json: &Json, findings: &mut Findings) -> Option<Identifier> {
    json.only(&["relation", "object"], findings);
    if let Some(object) = json.get(&["object"])
        && !object.text(findings)?.is_empty()
    {
        let message = "`object` must be empty: rewrites are about relations of the same object";
        findings.push(DiagnosticCode::UnexpectedToken, object.span, message);
    }
    named(json, &["relation"], findings)
}

/// `{"child": […]}`, of two or more.
fn children(member: &Member, depth: usize, findings: &mut Findings) -> Option<Vec<Rewrite>> {
    member.value.only(&["child"], findings);
    let list = required(&member.value, "child", findings)?;
    let items = list.items(findings);
    if items.len() < 2 {
        let message = format!("`{}` takes two operands or more", member.name);
        findings.push(DiagnosticCode::UnexpectedToken, start_of(list), message);
        return None;
    }
    let read: Vec<Option<Rewrite>> = items
        .iter()
        .map(|item| rewrite(item, depth + 1, findings))
        .collect();
    read.into_iter().collect()
}

fn required<'a>(json: &'a Json, member: &str, findings: &mut Findings) -> Option<&'a Json> {
    let found = json.get(&[member]);
    if found.is_none() && matches!(json.kind, Kind::Object(_)) {
        let message = format!("the member `{member}` is missing");
        findings.push(DiagnosticCode::MissingField, start_of(json), message);
    }
    found
}

/// The first character: an object can span many lines.
fn start_of(json: &Json) -> Span {
    let start = json.span.start;
    Span {
        start,
        end: start + 1,
    }
}
