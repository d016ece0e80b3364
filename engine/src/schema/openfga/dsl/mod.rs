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
    // Lines end where the lexer ends them: else a comment would belong to all that follows it with bare returns.
    let ends = ['\n', '\r'];
    let before = source.get(start..at)?;
    let mut lines: Vec<&str> = Vec::new();
    // What stands after the last line end is the indentation of what the comment is about.
    let mut left = before.get(..before.rfind(ends)? + 1)?;
    loop {
        let above = left
            .strip_suffix('\n')
            .map(|line| line.strip_suffix('\r').unwrap_or(line));
        let Some(above) = above.or_else(|| left.strip_suffix('\r')) else {
            break;
        };
        let line_start = above.rfind(ends).map_or(0, |end| end + 1);
        let (rest, line) = above.split_at_checked(line_start)?;
        match line.trim().strip_prefix('#') {
            Some(text) => lines.push(text.trim()),
            None => break,
        }
        left = rest;
    }
    lines.reverse();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
