//! Reads the conditions of a JSON model.

use super::model::identifier;
use super::tree::{Json, Kind, Member};
use crate::schema::CaveatType;
use crate::schema::diagnostic::{DiagnosticCode, Findings, Span};
use crate::schema::openfga::dsl::simple_type;
use crate::schema::openfga::model::{Condition, Expression};

/// How deeply the types of parameters nest.
const MAX_TYPE_DEPTH: usize = 8;

/// `"name": {"name", "expression", "parameters"}`
pub(super) fn condition(member: &Member, findings: &mut Findings) -> Option<Condition> {
    let json = &member.value;
    json.only(&["name", "expression", "parameters", "metadata"], findings);
    let name = identifier(&member.name, member.name_span, findings)?;
    if let Some(inner) = json.get(&["name"])
        && let Some(text) = inner.text(findings)
        && text != name.text
    {
        let message = format!(
            "the condition stands under the name `{}` and calls itself `{}`",
            name.text,
            text.escape_debug()
        );
        findings.push(DiagnosticCode::InvalidName, inner.span, message);
    }
    let mut sound = true;
    let mut parameters = Vec::new();
    let written = json.get(&["parameters"]);
    for parameter in written.map_or(&[][..], |object| object.members(findings)) {
        let name = identifier(&parameter.name, parameter.name_span, findings);
        let declared = parameter_type(&parameter.value, 0, findings);
        match (name, declared) {
            (Some(name), Some(declared)) => parameters.push((name, declared)),
            _ => sound = false,
        }
    }
    let expression = match json.get(&["expression"]) {
        Some(expression) => expression.text(findings).map(|text| Expression {
            text: text.to_owned(),
            // Without the quotes.
            span: Span {
                start: expression.span.start + 1,
                end: expression.span.end - 1,
            },
            escaped: true,
        }),
        None => {
            if matches!(json.kind, Kind::Object(_)) {
                let message = "the member `expression` is missing";
                findings.push(DiagnosticCode::MissingField, member.name_span, message);
            }
            None
        }
    };
    Some(Condition {
        name,
        parameters,
        expression: expression.filter(|_| sound),
        doc: None,
    })
}

/// `{"type_name": "TYPE_NAME_LIST", "generic_types": [{"type_name": "TYPE_NAME_STRING"}]}`
fn parameter_type(json: &Json, depth: usize, findings: &mut Findings) -> Option<CaveatType> {
    let (names, generics) = (["type_name", "typeName"], ["generic_types", "genericTypes"]);
    json.only(&[&names[..], &generics[..]].concat(), findings);
    let Some(written) = json.get(&names) else {
        let span = Span {
            start: json.span.start,
            end: json.span.start + 1,
        };
        let message = "the member `type_name` is missing";
        findings.push(DiagnosticCode::MissingField, span, message);
        return None;
    };
    let text = written.text(findings)?;
    let generics = json.get(&generics);
    let generics = generics.map_or(&[][..], |list| list.items(findings));
    let name = text
        .strip_prefix("TYPE_NAME_")
        .unwrap_or(text)
        .to_ascii_lowercase();
    let (container, wanted): (fn(Box<CaveatType>) -> CaveatType, usize) = match name.as_str() {
        "list" => (CaveatType::List, 1),
        "map" => (CaveatType::Map, 1),
        _ => (|element| *element, 0),
    };
    if generics.len() != wanted {
        let message = format!(
            "`{text}` takes {wanted} types in `generic_types`, found {}",
            generics.len()
        );
        findings.push(DiagnosticCode::UnknownParameterType, written.span, message);
        return None;
    }
    if depth > MAX_TYPE_DEPTH {
        let message = format!("the type is nested more than {MAX_TYPE_DEPTH} deep");
        findings.push(DiagnosticCode::NestingTooDeep, written.span, message);
        return None;
    }
    if let Some(element) = generics.first() {
        let element = parameter_type(element, depth + 1, findings)?;
        return Some(container(Box::new(element)));
    }
    let simple = simple_type(&name);
    if simple.is_none() {
        let message = format!(
            "there is no parameter type `{}`; there are TYPE_NAME_ANY, _BOOL, _STRING, _INT, _UINT, _DOUBLE, \
             _DURATION, _TIMESTAMP, _IPADDRESS, _LIST and _MAP",
            text.escape_debug()
        );
        findings.push(DiagnosticCode::UnknownParameterType, written.span, message);
    }
    simple
}
