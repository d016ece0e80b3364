//! OpenFGA models, in schema 1.1 and 1.2: from each of their forms to a [`Schema`](super::Schema).
//!
//! A model is given as the text of its DSL, as the JSON of OpenFGA's API, or as modules, which are a JSON object too:
//! `{"modules": [{"name": "core.fga", "text": "module core\n…"}]}`. All of them are read into one tree, and that is compiled.

mod conditions;
mod dsl;
mod json;
mod model;
mod modules;
mod resolve;
mod restrictions;
mod rewrites;
mod rules;
#[cfg(test)]
mod tests;

use self::json::Json;
use self::model::Model;
use super::diagnostic::{Diagnostic, DiagnosticCode, Findings, Part};
use super::native::{Compiled, MAX_SOURCE_BYTES};

/// Compiles an OpenFGA model, whichever form it is in.
///
/// # Errors
///
/// All errors at once, in the order of their places, at most [`MAX_DIAGNOSTICS`](super::MAX_DIAGNOSTICS); those of a
/// module name its file. A text of more than [`MAX_SOURCE_BYTES`] is refused with
/// [`DiagnosticCode::LimitExceeded`] alone.
pub(super) fn compile(source: &str) -> Result<Compiled, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    if source.len() > MAX_SOURCE_BYTES {
        let message = format!(
            "the model has {} bytes; at most {MAX_SOURCE_BYTES} are allowed",
            source.len()
        );
        findings.push(DiagnosticCode::LimitExceeded, Default::default(), message);
        return Err(findings.finish(source));
    }
    // The DSL begins with a word or a comment.
    if !source.trim_start().starts_with('{') {
        let file = dsl::parse(source, 0, source.len(), &mut findings);
        return finish(source, &[], &file.model, findings);
    }
    let json = match json::parse(source) {
        Ok(json) => json,
        Err((code, span, message)) => {
            findings.push(code, span, message);
            return Err(findings.finish(source));
        }
    };
    match json.get(&["modules"]) {
        Some(list) => compile_modules(source, &json, list, findings),
        None => {
            let model = json::read(&json, &mut findings);
            finish(source, &[], &model, findings)
        }
    }
}

fn compile_modules(
    source: &str,
    json: &Json,
    list: &Json,
    mut findings: Findings,
) -> Result<Compiled, Vec<Diagnostic>> {
    let Some(joined) = modules::join(json, list, &mut findings) else {
        return Err(findings.finish(source));
    };
    let model = modules::read(&joined, &mut findings);
    finish(&joined.text, &joined.parts, &model, findings)
}

fn finish(
    source: &str,
    parts: &[Part],
    model: &Model,
    mut findings: Findings,
) -> Result<Compiled, Vec<Diagnostic>> {
    match resolve::resolve(source, model, &mut findings) {
        Some((schema, warnings)) if findings.is_empty() => Ok(Compiled {
            schema,
            warnings: warnings.finish_parts(source, parts),
        }),
        _ => Err(findings.finish_parts(source, parts)),
    }
}
