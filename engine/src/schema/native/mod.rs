//! The native schema language, which is SpiceDB's: from its text to a [`Schema`].

mod annotations;
mod caveats;
mod expand;
mod expressions;
mod lexer;
mod parser;
mod relations;
mod resolve;
mod syntax;
mod warnings;

pub(super) use self::caveats::place_in;
use super::Schema;
use super::diagnostic::{Diagnostic, DiagnosticCode, Findings, Span};

/// The longest schema, in bytes of its text.
pub const MAX_SOURCE_BYTES: usize = 4 << 20;

/// A schema, and what looks doubtful in it.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The schema.
    pub schema: Schema,
    /// The warnings, in the order of their places.
    pub warnings: Vec<Diagnostic>,
}

/// Compiles the text of a native schema; an empty text is the empty schema.
///
/// # Errors
///
/// All errors at once, in the order of their places, at most [`MAX_DIAGNOSTICS`](super::MAX_DIAGNOSTICS). A text of more
/// than [`MAX_SOURCE_BYTES`] is refused with [`DiagnosticCode::LimitExceeded`] alone.
pub fn compile(source: &str) -> Result<Compiled, Vec<Diagnostic>> {
    let mut findings = Findings::default();
    if source.len() > MAX_SOURCE_BYTES {
        let message = format!(
            "the schema has {} bytes; at most {MAX_SOURCE_BYTES} are allowed",
            source.len()
        );
        findings.push(DiagnosticCode::LimitExceeded, Span::default(), message);
        return Err(findings.finish(source));
    }
    let file = parser::parse(source, &mut findings);
    let schema = resolve::resolve(source, &file, &mut findings);
    match schema {
        Some((schema, warnings)) if findings.is_empty() => Ok(Compiled {
            schema,
            warnings: warnings.finish(source),
        }),
        _ => Err(findings.finish(source)),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
