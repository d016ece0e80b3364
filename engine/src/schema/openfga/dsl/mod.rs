//! The DSL of OpenFGA models, read into a [`Model`]: as many errors as there are lines with one.

mod condition;
mod lexer;
mod parser;
mod relation;

pub(super) use self::condition::simple_type;
use self::parser::Parser;
use super::model::{Identifier, Model};
use crate::schema::diagnostic::{Findings, Span};

/// One file of a model.
#[derive(Debug, Default)]
pub(super) struct File {
    /// The name of the module; `None` for a model that is whole in itself.
    pub(super) module: Option<Identifier>,
    /// Where its header stands.
    pub(super) header: Span,
    pub(super) model: Model,
}

/// Reads the part of `source` from byte `start` to byte `end`.
pub(super) fn parse(source: &str, start: usize, end: usize, findings: &mut Findings) -> File {
    Parser::new(source, start, end, findings).file()
}

/// The comment on the lines just before `at`, without comment marks.
fn doc_before(source: &str, start: usize, at: usize) -> Option<String> {
    let before = source.get(start..at)?;
    let mut lines: Vec<&str> = Vec::new();
    // The last piece is the indentation of what the comment is about.
    for line in before.split('\n').rev().skip(1) {
        match line.trim().strip_prefix('#') {
            Some(text) => lines.push(text.trim()),
            None => break,
        }
    }
    lines.reverse();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
