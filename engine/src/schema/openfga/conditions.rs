//! Compiles the conditions of a model to caveats.

use std::collections::HashSet;
use std::sync::Arc;

use super::json::decoded_offset;
use super::model::{Condition, Expression};
use super::resolve::Resolver;
use crate::caveat::CompileError;
use crate::noun::Name;
use crate::pause;
use crate::schema::diagnostic::{DiagnosticCode, Span};
use crate::schema::native::place_in;
use crate::schema::{Caveat, CaveatId};

impl Resolver<'_> {
    /// Compiles every condition, and gives it its name.
    pub(super) fn conditions(&mut self) {
        let model = self.model;
        for condition in &model.conditions {
            pause::now();
            if self.conditions.contains_key(condition.name.text.as_str()) {
                let message = format!("there is another condition `{}`", condition.name.text);
                self.findings
                    .push(DiagnosticCode::DuplicateName, condition.name.span, message);
            } else if !self.findings.is_full() {
                let id = self.condition(condition);
                self.conditions.insert(&condition.name.text, id);
            }
        }
    }

    fn condition(&mut self, condition: &Condition) -> Option<CaveatId> {
        let name = match Name::parse(&condition.name.text) {
            Ok(name) => name,
            Err(error) => {
                let span = condition.name.span;
                self.findings
                    .push(DiagnosticCode::InvalidName, span, error.to_string());
                return None;
            }
        };
        let mut names = HashSet::new();
        let mut parameters = Vec::with_capacity(condition.parameters.len());
        for (parameter, declared) in &condition.parameters {
            if !names.insert(parameter.text.as_str()) {
                let message = format!("the condition already has a parameter `{}`", parameter.text);
                self.findings
                    .push(DiagnosticCode::DuplicateParameter, parameter.span, message);
                return None;
            }
            parameters.push((parameter.text.to_string(), declared.clone()));
        }
        let expression = condition.expression.as_ref()?;
        let program = match self.caveat_compiler.compile(&parameters, &expression.text) {
            Ok(program) => Arc::new(program),
            Err(errors) => {
                for error in errors {
                    let message = format!("in the expression of condition `{name}`: {}", error.message);
                    let span = self.place_of(expression, &error);
                    self.findings
                        .push(DiagnosticCode::InvalidExpression, span, message);
                }
                return None;
            }
        };
        let id = CaveatId(self.schema.caveats.len() as u32);
        self.schema.caveats_by_name.insert(name.clone(), id);
        self.schema.caveats.push(Caveat {
            name,
            parameters,
            expression: expression.text.clone(),
            program,
            doc: condition.doc.clone(),
        });
        Some(id)
    }

    /// The place in the source of an error within an expression.
    fn place_of(&self, expression: &Expression, error: &CompileError) -> Span {
        if !expression.escaped {
            return place_in(expression.span, &expression.text, error);
        }
        let inside = place_in(Span::default(), &expression.text, error);
        let written = expression.span.text(self.source);
        let base = expression.span.start as usize;
        let at = |offset: u32| base + decoded_offset(written, offset as usize);
        Span::new(at(inside.start), at(inside.end))
    }
}
