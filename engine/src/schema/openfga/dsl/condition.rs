//! Reads conditions: `condition name(parameter: type, …) { CEL }`.

use super::doc_before;
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser, Reported};
use crate::schema::CaveatType;
use crate::schema::diagnostic::{DiagnosticCode, Span};
use crate::schema::openfga::model::{Condition, Expression};

/// How deeply the types of parameters nest, as in `list<map<string>>`.
const MAX_TYPE_DEPTH: usize = 8;

impl Parser<'_> {
    pub(super) fn condition(&mut self) -> Parsed<Condition> {
        let doc = doc_before(self.source, self.start, self.current.span.start as usize);
        self.advance();
        let name = self.name("the name of a condition")?;
        self.expect(TokenKind::LeftParenthesis, "`(` and the condition's parameters")?;
        self.open += 1;
        let mut parameters = Vec::new();
        loop {
            let parameter = self.name("the name of a parameter")?;
            self.expect(TokenKind::Colon, "`:` and the parameter's type")?;
            let declared = self.parameter_type(0)?;
            parameters.push((parameter, declared));
            if !self.take(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightParenthesis, "`,` or `)`")?;
        self.open -= 1;
        if self.current.kind != TokenKind::LeftBrace {
            return Err(self.unexpected_here("`{` and the condition's expression"));
        }
        let expression = self.expression()?;
        self.line_end()?;
        Ok(Condition {
            name,
            parameters,
            expression: Some(expression),
            doc,
        })
    }

    /// `string`, `list<string>`
    fn parameter_type(&mut self, depth: usize) -> Parsed<CaveatType> {
        let span = self.current.span;
        let name = self.name("the type of a parameter")?;
        let container = match name.text.as_str() {
            "list" => CaveatType::List,
            "map" => CaveatType::Map,
            other => match simple_type(other) {
                Some(simple) => return Ok(simple),
                None => return Err(self.unknown_type(other, span)),
            },
        };
        if depth >= MAX_TYPE_DEPTH {
            let message = format!("the type is nested more than {MAX_TYPE_DEPTH} deep");
            self.findings.push(DiagnosticCode::NestingTooDeep, span, message);
            return Err(Reported);
        }
        self.expect(TokenKind::Less, "`<` and the type of the elements")?;
        let element = self.parameter_type(depth + 1)?;
        self.expect(TokenKind::Greater, "`>`")?;
        Ok(container(Box::new(element)))
    }

    fn unknown_type(&mut self, name: &str, span: Span) -> Reported {
        let message = format!(
            "there is no parameter type `{name}`; there are any, bool, string, int, uint, double, duration, \
             timestamp, ipaddress, list<…> and map<…>"
        );
        self.findings
            .push(DiagnosticCode::UnknownParameterType, span, message);
        Reported
    }

    /// `{ CEL }`
    fn expression(&mut self) -> Parsed<Expression> {
        let opening = self.current.span;
        let body = self.lexer.rest();
        let start = self.lexer.at;
        let Some(Body { length, text }) = body_of(body) else {
            let message = "the `{` of this condition is never closed";
            self.findings.push(DiagnosticCode::Unterminated, opening, message);
            // The rest is within it: to look for more there would be to read it again for every condition.
            self.lexer.at += body.len();
            self.advance();
            return Err(Reported);
        };
        self.lexer.at = start + length;
        self.advance();
        // The closing brace itself.
        self.advance();
        let leading = text.len() - text.trim_start().len();
        let trimmed = text.trim();
        let start = start + leading;
        Ok(Expression {
            text: trimmed.to_owned(),
            span: Span::new(start, start + trimmed.len()),
            escaped: false,
        })
    }
}

/// The type that takes no other type.
pub(in crate::schema::openfga) fn simple_type(name: &str) -> Option<CaveatType> {
    Some(match name {
        "any" => CaveatType::Any,
        "bool" => CaveatType::Bool,
        "string" => CaveatType::String,
        "int" => CaveatType::Int,
        "uint" => CaveatType::Uint,
        "double" => CaveatType::Double,
        "duration" => CaveatType::Duration,
        "timestamp" => CaveatType::Timestamp,
        "ipaddress" => CaveatType::IpAddress,
        _ => return None,
    })
}

/// The text up to the closing brace.
struct Body {
    length: usize,
    /// As long as the source in bytes, with blanks for `#` comments, which CEL does not know.
    text: String,
}

/// Finds the brace that closes a body: not within strings, comments or braces of its own.
fn body_of(source: &str) -> Option<Body> {
    let mut text = String::with_capacity(source.len().min(4096));
    let mut open = 0_usize;
    let mut at = 0;
    while let Some(c) = source.get(at..)?.chars().next() {
        let rest = source.get(at..)?;
        let length = match c {
            '"' | '\'' => string_length(rest, is_raw(source, at))?,
            '#' if source.get(..at)?.ends_with(char::is_whitespace) || at == 0 => {
                let length = line_length(rest);
                text.extend(std::iter::repeat_n(' ', length));
                at += length;
                continue;
            }
            '/' if rest.starts_with("//") => line_length(rest),
            '{' => {
                open += 1;
                1
            }
            '}' if open == 0 => return Some(Body { length: at, text }),
            '}' => {
                open -= 1;
                1
            }
            other => other.len_utf8(),
        };
        text.push_str(rest.get(..length)?);
        at += length;
    }
    None
}

/// Whether the quote at `at` begins a raw string: `r"…"`, but not the end of a longer name.
fn is_raw(source: &str, at: usize) -> bool {
    let before = source.get(..at).unwrap_or_default();
    let prefix = before.trim_end_matches(['r', 'R', 'b', 'B']);
    let letters = before.get(prefix.len()..).unwrap_or_default();
    let is_name = prefix.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    !is_name && letters.len() <= 2 && letters.contains(['r', 'R'])
}

/// How long the string at the start is, its quotes included; up to the end of its line where it is not closed.
fn string_length(rest: &str, raw: bool) -> Option<usize> {
    let quote = rest.chars().next()?;
    let triple: String = std::iter::repeat_n(quote, 3).collect();
    let (closing, lines) = match rest.starts_with(&triple) {
        true => (triple.as_str(), true),
        false => (rest.get(..1)?, false),
    };
    let mut at = closing.len();
    loop {
        let left = rest.get(at..)?;
        if left.starts_with(closing) {
            return Some(at + closing.len());
        }
        let mut characters = left.chars();
        let Some(c) = characters.next() else {
            return Some(at);
        };
        at += match c {
            '\\' if !raw => 1 + characters.next().map_or(0, char::len_utf8),
            // What is not closed on its line is the CEL compiler's to report.
            '\n' if !lines => return Some(at),
            c => c.len_utf8(),
        };
    }
}

fn line_length(rest: &str) -> usize {
    rest.find(['\n', '\r']).unwrap_or(rest.len())
}
