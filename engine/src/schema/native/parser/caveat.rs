//! Reads caveats: their parameters, and their expression as raw text.

use super::{MAX_DEPTH, Parsed, Parser, Reported};
use crate::schema::diagnostic::{DiagnosticCode, Span};
use crate::schema::native::lexer::TokenKind;
use crate::schema::native::syntax::{Caveat, Identifier, ParameterType};

impl Parser<'_> {
    /// `caveat name(parameter type, …) { expression }`
    pub(super) fn caveat(&mut self) {
        self.seen_definition = true;
        let comment = self.comment();
        self.advance();
        let Ok(name) = self.path("a name for the caveat") else {
            self.file.incomplete = true;
            self.caveat_after_error();
            return;
        };
        let parameters = self.parameters().and_then(|parameters| match self.current.kind {
            TokenKind::LeftBrace => Ok(parameters),
            _ => Err(self.unexpected("`{` on the same line")),
        });
        let (parameters, expression) = match parameters {
            Ok(parameters) => (parameters, self.caveat_body()),
            Err(Reported) => {
                self.caveat_after_error();
                (Vec::new(), None)
            }
        };
        self.file.caveats.push(Caveat {
            name,
            parameters,
            expression,
            comment,
        });
    }

    /// Goes past the body of a caveat whose head is broken, if it has one.
    fn caveat_after_error(&mut self) {
        self.skipping = true;
        loop {
            match self.current.kind {
                TokenKind::LeftBrace => {
                    self.caveat_body();
                    return;
                }
                TokenKind::End => return,
                TokenKind::Word if self.at_line_start() && matches!(self.text(), "definition" | "caveat") => {
                    return;
                }
                _ => self.advance(),
            }
        }
    }

    /// The expression between the braces, the opening one being the current token.
    fn caveat_body(&mut self) -> Option<Span> {
        let opening = self.current.span;
        let Some((body, closing)) = self.lexer.caveat_body() else {
            let message = "the `{` of this caveat is never closed";
            self.findings.push(DiagnosticCode::Unterminated, opening, message);
            self.file.incomplete = true;
            self.advance();
            return None;
        };
        self.current = closing;
        self.advance();
        self.skipping = false;
        let text = body.text(self.source);
        let before = text.len() - text.trim_start().len();
        let trimmed = Span {
            start: body.start + before as u32,
            end: body.start + text.trim_end().len() as u32,
        };
        if trimmed.start >= trimmed.end {
            let message = "the caveat has no expression";
            self.findings
                .push(DiagnosticCode::UnexpectedToken, opening.to(closing.span), message);
            return None;
        }
        Some(trimmed)
    }

    /// `(parameter type, …)`
    fn parameters(&mut self) -> Parsed<Vec<(Identifier, ParameterType)>> {
        self.expect(TokenKind::LeftParenthesis, "`(` and the caveat's parameters")?;
        if self.current.kind == TokenKind::RightParenthesis {
            return Err(self.unexpected("a parameter (a caveat has at least one)"));
        }
        let mut parameters = Vec::new();
        loop {
            let name = self.name("a name for the parameter")?;
            let parameter_type = self.parameter_type(0)?;
            parameters.push((name, parameter_type));
            if !self.take(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightParenthesis, "`,` or `)`")?;
        Ok(parameters)
    }

    /// `type` or `type<type, …>`
    fn parameter_type(&mut self, depth: usize) -> Parsed<ParameterType> {
        if depth >= MAX_DEPTH {
            let message = format!("the type is nested more than {MAX_DEPTH} deep");
            self.findings
                .push(DiagnosticCode::NestingTooDeep, self.current.span, message);
            return Err(Reported);
        }
        let name = self.name("the type of the parameter")?;
        let mut arguments = Vec::new();
        if self.take(TokenKind::Less) {
            loop {
                arguments.push(self.parameter_type(depth + 1)?);
                if !self.take(TokenKind::Comma) {
                    break;
                }
            }
            self.expect(TokenKind::Greater, "`>`")?;
        }
        let span = name.span.to(self.previous.span);
        Ok(ParameterType {
            name,
            arguments,
            span,
        })
    }
}
