//! Joins the modules of a model: one text, so that every place has one number, and one tree.

use std::collections::HashSet;

use super::dsl;
use super::json::{Json, Kind};
use super::model::Model;
use crate::schema::diagnostic::{DiagnosticCode, Findings, Part};

/// The most modules of one model.
const MAX_MODULES: usize = 1_000;
/// The longest name of a module's file, in bytes.
const MAX_NAME_BYTES: usize = 1024;

/// The texts of all modules, one after the other.
pub(super) struct Joined {
    pub(super) text: String,
    /// Where each module begins, in order.
    pub(super) parts: Vec<Part>,
}

/// Joins `{"modules": [{"name", "text"}], "schema_version"?}`. `None` if it is not that, which was reported.
pub(super) fn join(json: &Json, list: &Json, findings: &mut Findings) -> Option<Joined> {
    json.only(&["modules", "schema_version"], findings);
    if json.get(&["schema_version"]).is_some() {
        super::json::version(json, findings);
    }
    let items = list.items(findings);
    if matches!(&list.kind, Kind::List(items) if items.is_empty()) || items.len() > MAX_MODULES {
        let message = format!(
            "a model has 1 to {MAX_MODULES} modules, this one has {}",
            items.len()
        );
        findings.push(DiagnosticCode::LimitExceeded, list.span, message);
    }
    let mut joined = Joined {
        text: String::new(),
        parts: Vec::new(),
    };
    let mut names = HashSet::new();
    for module in items.iter().take(MAX_MODULES) {
        module.only(&["name", "text"], findings);
        let (Some(name), Some(text)) = (module.get(&["name"]), module.get(&["text"])) else {
            if matches!(module.kind, Kind::Object(_)) {
                let message = "a module has the members `name` and `text`";
                findings.push(DiagnosticCode::MissingField, module.span, message);
            }
            continue;
        };
        let (Some(file), Some(text)) = (name.text(findings), text.text(findings)) else {
            continue;
        };
        let message = if file.is_empty() || file.len() > MAX_NAME_BYTES || file.contains(char::is_control) {
            format!("the name of a file has 1 to {MAX_NAME_BYTES} bytes and no control characters")
        } else if !names.insert(file) {
            format!("there are two modules of the name `{file}`")
        } else {
            joined.parts.push(Part {
                file: file.to_owned(),
                start: joined.text.len() as u32,
            });
            joined.text.push_str(text);
            joined.text.push('\n');
            continue;
        };
        findings.push(DiagnosticCode::InvalidName, name.span, message);
    }
    findings.is_empty().then_some(joined)
}

/// Reads every module into one model.
pub(super) fn read(joined: &Joined, findings: &mut Findings) -> Model {
    let mut model = Model::default();
    for (position, part) in joined.parts.iter().enumerate() {
        let start = part.start as usize;
        let end = joined
            .parts
            .get(position + 1)
            .map_or(joined.text.len(), |next| next.start as usize);
        let file = dsl::parse(&joined.text, start, end.saturating_sub(1), findings);
        if file.module.is_none() && file.header.bytes() > 0 {
            let message = "this is not a module: expected `module` and its name, found `model`";
            findings.push(DiagnosticCode::UnexpectedToken, file.header, message);
        }
        model.types.extend(file.model.types);
        model.conditions.extend(file.model.conditions);
        model.incomplete |= file.model.incomplete;
    }
    model
}
