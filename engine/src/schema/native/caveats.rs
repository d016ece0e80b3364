//! Resolves caveats: the types of their parameters, and their expressions by way of the CEL compiler.

use std::collections::HashSet;
use std::sync::Arc;

use super::resolve::Resolver;
use super::syntax::{Caveat, ParameterType};
use crate::caveat::CompileError;
use crate::pause;
use crate::schema::diagnostic::{DiagnosticCode, Span};
use crate::schema::{CaveatId, CaveatType};

impl Resolver<'_> {
    /// Compiles every caveat whose name was taken for it.
    pub(super) fn caveats(&mut self) {
        let file = self.file;
        let mut seen = HashSet::new();
        for caveat in &file.caveats {
            pause::now();
            // The second of two caveats of one name was reported.
            let declared = self.caveats.contains_key(caveat.name.text.as_str());
            if declared && seen.insert(caveat.name.text.as_str()) && !self.findings.is_full() {
                let id = self.caveat(caveat);
                self.caveats.insert(&caveat.name.text, id);
            }
        }
    }

    fn caveat(&mut self, caveat: &Caveat) -> Option<CaveatId> {
        let expression = caveat.expression?;
        let mut names = HashSet::new();
        let mut parameters = Vec::with_capacity(caveat.parameters.len());
        let mut sound = true;
        for (name, written) in &caveat.parameters {
            if !names.insert(name.text.as_str()) {
                let message = format!("the caveat already has a parameter `{}`", name.text);
                self.findings
                    .push(DiagnosticCode::DuplicateParameter, name.span, message);
                sound = false;
            }
            match self.parameter_type(written) {
                Some(resolved) => parameters.push((name.text.to_string(), resolved)),
                None => sound = false,
            }
        }
        if !sound {
            return None;
        }
        let text = expression.text(self.source);
        let program = match self.caveat_compiler.compile(&parameters, text) {
            Ok(program) => Arc::new(program),
            Err(errors) => {
                for error in errors {
                    let span = place_in(expression, text, &error);
                    let message = format!(
                        "in the expression of caveat `{}`: {}",
                        caveat.name.text, error.message
                    );
                    self.findings
                        .push(DiagnosticCode::InvalidExpression, span, message);
                }
                return None;
            }
        };
        let name = self.name(&caveat.name)?;
        let id = CaveatId(self.schema.caveats.len() as u32);
        self.schema.caveats_by_name.insert(name.clone(), id);
        self.schema.caveats.push(crate::schema::Caveat {
            name,
            parameters,
            expression: text.to_owned(),
            program,
            doc: caveat.comment.doc.clone(),
        });
        Some(id)
    }

    fn parameter_type(&mut self, written: &ParameterType) -> Option<CaveatType> {
        let simple = match written.name.text.as_str() {
            "any" => CaveatType::Any,
            "bool" => CaveatType::Bool,
            "string" => CaveatType::String,
            "int" => CaveatType::Int,
            "uint" => CaveatType::Uint,
            "double" => CaveatType::Double,
            "bytes" => CaveatType::Bytes,
            "duration" => CaveatType::Duration,
            "timestamp" => CaveatType::Timestamp,
            "ipaddress" => CaveatType::IpAddress,
            "list" => {
                return self
                    .element_type(written)
                    .map(|element| CaveatType::List(Box::new(element)));
            }
            "map" => {
                return self
                    .element_type(written)
                    .map(|element| CaveatType::Map(Box::new(element)));
            }
            other => {
                let message = format!(
                    "there is no parameter type `{other}`; there are any, bool, string, int, uint, double, bytes, \
                     duration, timestamp, ipaddress, list<…> and map<…>"
                );
                self.findings
                    .push(DiagnosticCode::UnknownParameterType, written.name.span, message);
                return None;
            }
        };
        if written.arguments.is_empty() {
            return Some(simple);
        }
        let message = format!("the type `{}` takes no type in `<…>`", written.name.text);
        self.findings
            .push(DiagnosticCode::UnknownParameterType, written.span, message);
        None
    }

    /// The one type in the `<…>` of a list or map.
    fn element_type(&mut self, written: &ParameterType) -> Option<CaveatType> {
        match written.arguments.as_slice() {
            [element] => self.parameter_type(element),
            arguments => {
                let (name, count) = (&written.name.text, arguments.len());
                let message =
                    format!("the type `{name}` takes one type, as in `{name}<string>`, found {count}");
                self.findings
                    .push(DiagnosticCode::UnknownParameterType, written.span, message);
                None
            }
        }
    }
}

/// The place in the source of an error within an expression.
pub(in crate::schema) fn place_in(expression: Span, text: &str, error: &CompileError) -> Span {
    let lines_before = error.line.saturating_sub(1) as usize;
    let line_start: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    let line = text.get(line_start..).unwrap_or_default();
    let mut characters = line.char_indices().skip(error.column.saturating_sub(1) as usize);
    let offset = characters.next().map_or(line.len(), |(offset, _)| offset);
    let start = line_start + offset;
    // An error at the very end is shown at its last character's end.
    let end = text
        .get(start..)
        .and_then(|rest| rest.chars().next())
        .map_or(start, |c| start + c.len_utf8());
    let base = expression.start as usize;
    Span::new(base + start, base + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_mapped_into_the_source() {
        let source = "caveat c(a int) {\n  αβ +\n  éx\n}";
        let start = source.find('α').unwrap();
        let expression = Span::new(start, source.len() - 2);
        let text = expression.text(source);
        let at = |line, column| {
            let error = CompileError {
                message: String::new(),
                line,
                column,
            };
            place_in(expression, text, &error).text(source)
        };
        assert_eq!(at(1, 1), "α");
        assert_eq!(at(1, 4), "+");
        assert_eq!(at(2, 3), "é");
        assert_eq!(at(2, 4), "x");
        assert_eq!(at(2, 99), "");
        assert_eq!(at(99, 1), "");
    }
}
