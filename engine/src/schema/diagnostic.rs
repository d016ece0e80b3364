//! What is wrong, or doubtful, in the text of a schema, and where.

use std::fmt;

/// The most errors, and the most warnings, that one compilation reports.
pub const MAX_DIAGNOSTICS: usize = 100;

/// An error or warning about one place in the text of a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, where a schema is made of several: the name of a module of an OpenFGA model.
    pub file: Option<String>,
    /// What kind of trouble it is: stable, for programs.
    pub code: DiagnosticCode,
    /// What was found and what was expected: for people.
    pub message: String,
    /// The line where it starts, from 1.
    pub line: u32,
    /// The column where it starts, from 1, in Unicode scalar values.
    pub column: u32,
    /// The line where it ends, from 1.
    pub end_line: u32,
    /// The column just after its end, from 1, in Unicode scalar values.
    pub end_column: u32,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}:")?;
        }
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

macro_rules! diagnostic_codes {
    ($($(#[$doc:meta])* $name:ident => $word:literal,)*) => {
        /// The kinds of errors and warnings.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum DiagnosticCode {
            $($(#[$doc])* $name,)*
        }

        impl DiagnosticCode {
            /// The stable snake_case word for it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

diagnostic_codes! {
    /// Error: a character that no schema holds outside comments and caveat expressions.
    UnexpectedCharacter => "unexpected_character",
    /// Error: a comment, a string or a caveat's body that never ends.
    Unterminated => "unterminated",
    /// Error: the grammar wants something else here.
    UnexpectedToken => "unexpected_token",
    /// Error: a name that is too long or holds a character that names must not hold.
    InvalidName => "invalid_name",
    /// Error: `use` of a feature that does not exist.
    UnknownFeature => "unknown_feature",
    /// Error: a keyword whose `use` line is missing or comes too late.
    MisplacedUse => "misplaced_use",
    /// Error: an `import`, which only the command-line tools resolve.
    ImportNotSupported => "import_not_supported",
    /// Error: arrows in a row, `a->b->c`.
    NestedArrow => "nested_arrow",
    /// Error: nested too deeply.
    NestingTooDeep => "nesting_too_deep",
    /// Error: the schema is too large in some respect.
    LimitExceeded => "limit_exceeded",
    /// Error: two types, caveats or partials of one name.
    DuplicateName => "duplicate_name",
    /// Error: two relations or permissions of one name in one type.
    DuplicateMember => "duplicate_member",
    /// Error: two parameters of one name in one caveat.
    DuplicateParameter => "duplicate_parameter",
    /// Error: one kind of subject listed twice on one relation.
    DuplicateSubjectType => "duplicate_subject_type",
    /// Error: a type that is not defined.
    UnknownType => "unknown_type",
    /// Error: a relation or permission that is not defined.
    UnknownMember => "unknown_member",
    /// Error: a caveat that is not defined.
    UnknownCaveat => "unknown_caveat",
    /// Error: a partial that is not defined.
    UnknownPartial => "unknown_partial",
    /// Error: a partial that spreads itself.
    PartialCycle => "partial_cycle",
    /// Error: a permission on the left of an arrow.
    ArrowOverPermission => "arrow_over_permission",
    /// Error: a relation that can hold a wildcard on the left of an arrow.
    ArrowOverWildcard => "arrow_over_wildcard",
    /// Error: a wildcard that another type's relation would bring in.
    TransitiveWildcard => "transitive_wildcard",
    /// Error: a caveat parameter whose type does not exist.
    UnknownParameterType => "unknown_parameter_type",
    /// Error: a caveat's expression that does not compile.
    InvalidExpression => "invalid_expression",
    /// Error: a permission reaches a type that its type annotation does not name.
    AnnotationMismatch => "annotation_mismatch",
    /// Error: a member of a JSON object that has no place there.
    UnknownField => "unknown_field",
    /// Error: a member that a JSON object must have.
    MissingField => "missing_field",
    /// Error: an OpenFGA model without a schema version, or of one that is not supported.
    UnsupportedVersion => "unsupported_version",
    /// Error: an OpenFGA relation with types of subjects and no place for them, or the other way round.
    UnassignableRelation => "unassignable_relation",
    /// Error: an OpenFGA relation after `from` that holds more than plain objects, or is computed.
    IndirectTupleset => "indirect_tupleset",
    /// Error: an OpenFGA relation that is defined by itself.
    RelationCycle => "relation_cycle",
    /// Error: an OpenFGA relation that nobody can ever have.
    NoEntrypoint => "no_entrypoint",
    /// Warning: an OpenFGA condition that no relation names.
    UnusedCaveat => "unused_caveat",
    /// Warning: a type annotation names a type that is not defined.
    AnnotationUnknownType => "annotation_unknown_type",
    /// Warning: `+`, `&` and `-` mixed without parentheses.
    MixedOperatorsWithoutParentheses => "mixed_operators_without_parentheses",
    /// Warning: a permission that is defined by itself.
    PermissionReferencesItself => "permission_references_itself",
    /// Warning: permissions of one type that are defined by each other.
    PermissionCycle => "permission_cycle",
    /// Warning: an arrow to a relation of another type, not to a permission.
    ArrowReferencesRelation => "arrow_references_relation",
    /// Warning: an arrow whose target no subject of its relation has.
    ArrowReferencesUnreachableRelation => "arrow_references_unreachable_relation",
    /// Warning: an arrow over usersets: it follows the object and ignores the userset's relation.
    ArrowWalksSubjectRelation => "arrow_walks_subject_relation",
    /// Warning: a member whose name repeats the name of its type.
    RelationNameReferencesParent => "relation_name_references_parent",
}

impl fmt::Display for DiagnosticCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A range of bytes of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        // A schema's text is bounded far below 4 GiB before anything takes its spans.
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// From the start of `self` to the end of `last`.
    pub(crate) const fn to(self, last: Span) -> Self {
        Self {
            start: self.start,
            end: last.end,
        }
    }

    pub(crate) const fn bytes(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// The text it covers.
    pub(crate) fn text(self, source: &str) -> &str {
        source
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// Gathers diagnostics by byte range; lines and columns are worked out once, at the end.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    found: Vec<(Span, DiagnosticCode, String)>,
}

impl Findings {
    pub(crate) fn push(&mut self, code: DiagnosticCode, span: Span, message: impl Into<String>) {
        // A partial is resolved once for each type it is spread into; its trouble is reported once.
        let known = self
            .found
            .iter()
            .any(|(at, held, _)| *at == span && *held == code);
        if !known && !self.is_full() {
            self.found.push((span, code, message.into()));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether it takes no more; looking for further trouble is then idle.
    pub(crate) fn is_full(&self) -> bool {
        self.found.len() >= MAX_DIAGNOSTICS
    }

    /// The diagnostics in the order of their places in `source`.
    pub(crate) fn finish(self, source: &str) -> Vec<Diagnostic> {
        self.finish_parts(source, &[])
    }

    /// The diagnostics in the order of their places in `source`, which is made of `parts`: lines count within each.
    pub(crate) fn finish_parts(mut self, source: &str, parts: &[Part]) -> Vec<Diagnostic> {
        self.found.sort_by_key(|(span, _, _)| *span);
        let lines = LineIndex::new(source);
        let diagnostics = self.found.into_iter().map(|(span, code, message)| {
            let part = parts
                .partition_point(|part| part.start <= span.start)
                .checked_sub(1)
                .and_then(|at| parts.get(at));
            let lines_before = part.map_or(0, |part| lines.position(part.start).0 - 1);
            let (line, column) = lines.position(span.start);
            let (end_line, end_column) = lines.position(span.end);
            Diagnostic {
                file: part.map(|part| part.file.clone()),
                code,
                message,
                line: line - lines_before,
                column,
                end_line: end_line - lines_before,
                end_column,
            }
        });
        diagnostics.collect()
    }
}

/// One of the files that a source is made of; it begins on a line of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its name.
    pub(crate) file: String,
    /// Where it begins, in bytes of the source.
    pub(crate) start: u32,
}

/// Where the lines of a text begin.
struct LineIndex<'a> {
    source: &'a str,
    starts: Vec<u32>,
}

impl<'a> LineIndex<'a> {
    fn new(source: &'a str) -> Self {
        let after_newlines = source.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(after_newlines.map(|(at, _)| at as u32 + 1));
        Self {
            source,
            starts: starts.collect(),
        }
    }

    /// Line and column, both from 1, of a byte offset.
    fn position(&self, offset: u32) -> (u32, u32) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = line
            .checked_sub(1)
            .and_then(|at| self.starts.get(at))
            .copied()
            .unwrap_or(0);
        let column = Span { start, end: offset }.text(self.source).chars().count();
        (line as u32, column as u32 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_scalar_values() {
        let source = "é = x\nαβγ y\n";
        let mut findings = Findings::default();
        let at = source.find('y').unwrap();
        findings.push(DiagnosticCode::UnknownType, Span::new(at, at + 1), "later");
        findings.push(DiagnosticCode::UnknownType, Span::new(0, 2), "first");
        let found = findings.finish(source);
        let places: Vec<_> = found
            .iter()
            .map(|d| (d.line, d.column, d.end_line, d.end_column))
            .collect();
        assert_eq!(places, [(1, 1, 1, 2), (2, 5, 2, 6)]);
        assert_eq!(found[1].to_string(), "2:5: later");
    }

    #[test]
    fn findings_are_bounded_and_each_is_reported_once() {
        let mut findings = Findings::default();
        for at in 0..300 {
            findings.push(DiagnosticCode::UnknownType, Span::new(at, at + 1), "x");
            findings.push(DiagnosticCode::UnknownType, Span::new(at, at + 1), "again");
        }
        assert!(findings.is_full());
        assert_eq!(findings.finish("x").len(), MAX_DIAGNOSTICS);
    }
}
