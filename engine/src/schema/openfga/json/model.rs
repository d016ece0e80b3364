//! Reads the outermost of a JSON model: its version, types and conditions.

use super::condition::condition;
use super::relation::relations;
use super::tree::{Json, Kind};
use crate::noun::Name;
use crate::schema::diagnostic::{DiagnosticCode, Findings, Span};
use crate::schema::openfga::model::{Identifier, Model, TypeDefinition, VERSIONS};

/// The model that `json` is; with or without the `authorization_model` around it that the API answers.
pub(in crate::schema::openfga) fn read(json: &Json, findings: &mut Findings) -> Model {
    let wrapped = json.get(&["authorization_model"]);
    if wrapped.is_some() {
        json.only(&["authorization_model"], findings);
    }
    let json = wrapped.unwrap_or(json);
    let known = ["schema_version", "type_definitions", "conditions", "id"];
    let or_camel = ["schemaVersion", "typeDefinitions"];
    json.only(&[&known[..], &or_camel[..]].concat(), findings);
    version(json, findings);
    let mut model = Model::default();
    let definitions = json.get(&["type_definitions", "typeDefinitions"]);
    for written in definitions.map_or(&[][..], |list| list.items(findings)) {
        match type_definition(written, findings) {
            Some(definition) => model.types.push(definition),
            None => model.incomplete = true,
        }
    }
    let conditions = json.get(&["conditions"]);
    for member in conditions.map_or(&[][..], |object| object.members(findings)) {
        match condition(member, findings) {
            Some(condition) => model.conditions.push(condition),
            None => model.incomplete = true,
        }
    }
    model
}

/// The `schema_version`, which must be there and be one that can be read.
pub(in crate::schema::openfga) fn version(json: &Json, findings: &mut Findings) {
    let Some(version) = json.get(&["schema_version", "schemaVersion"]) else {
        let start = json.span.start;
        let span = Span {
            start,
            end: start + 1,
        };
        let message = format!(
            "the member `schema_version` is missing; it is {}",
            VERSIONS.join(" or ")
        );
        findings.push(DiagnosticCode::UnsupportedVersion, span, message);
        return;
    };
    if let Some(text) = version.text(findings)
        && !VERSIONS.contains(&text)
    {
        let message = format!(
            "schema version `{}` is not supported; there are {}",
            text.escape_debug(),
            VERSIONS.join(" and ")
        );
        findings.push(DiagnosticCode::UnsupportedVersion, version.span, message);
    }
}

fn type_definition(json: &Json, findings: &mut Findings) -> Option<TypeDefinition> {
    json.only(&["type", "relations", "metadata"], findings);
    let name = named(json, &["type"], findings)?;
    let (relations, incomplete) = relations(json, findings);
    Some(TypeDefinition {
        name,
        extends: false,
        relations,
        doc: None,
        incomplete,
    })
}

/// The name that a member of `json` holds; reports it if there is none, or none that names can be.
pub(super) fn named(json: &Json, member: &[&str], findings: &mut Findings) -> Option<Identifier> {
    let Some(value) = json.get(member) else {
        if matches!(json.kind, Kind::Object(_)) {
            let start = json.span.start;
            let span = Span {
                start,
                end: start + 1,
            };
            let message = format!("the member `{}` is missing", member.first().unwrap_or(&""));
            findings.push(DiagnosticCode::MissingField, span, message);
        } else {
            json.expected("an object", findings);
        }
        return None;
    };
    let text = value.text(findings)?;
    identifier(text, value.span, findings)
}

/// A name that stands in a string at `span`.
pub(super) fn identifier(text: &str, span: Span, findings: &mut Findings) -> Option<Identifier> {
    match Name::parse(text) {
        Ok(_) => Some(Identifier {
            text: text.into(),
            span,
        }),
        Err(error) => {
            findings.push(DiagnosticCode::InvalidName, span, error.to_string());
            None
        }
    }
}
