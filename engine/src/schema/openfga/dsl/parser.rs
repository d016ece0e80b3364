//! Reads files: the header, the types and, by way of its siblings, relations and conditions.

use smol_str::SmolStr;

use super::lexer::{Lexer, Token, TokenKind};
use super::{File, doc_before};
use crate::noun::MAX_NAME_BYTES;
use crate::schema::diagnostic::{DiagnosticCode, Findings, Span};
use crate::schema::openfga::model::{Identifier, TypeDefinition, VERSIONS};

/// The words that are no names.
const KEYWORDS: [&str; 9] = [
    "and",
    "or",
    "but",
    "from",
    "with",
    "define",
    "relations",
    "condition",
    "not",
];

/// A syntax error was found and reported: what was being read cannot be had.
pub(super) struct Reported;

pub(super) type Parsed<T> = Result<T, Reported>;

pub(super) struct Parser<'a> {
    pub(super) source: &'a str,
    pub(super) start: usize,
    pub(super) lexer: Lexer<'a>,
    pub(super) current: Token,
    pub(super) previous: Token,
    /// How many brackets and parentheses are open: within them a line may end anywhere.
    pub(super) open: usize,
    pub(super) findings: &'a mut Findings,
    file: File,
}

impl<'a> Parser<'a> {
    pub(super) fn new(source: &'a str, start: usize, end: usize, findings: &'a mut Findings) -> Self {
        let mut lexer = Lexer::new(source, start, end);
        let current = lexer.next();
        Self {
            source,
            start,
            lexer,
            current,
            previous: Token {
                kind: TokenKind::End,
                span: Span::new(start, start),
                first: true,
            },
            open: 0,
            findings,
            file: File::default(),
        }
    }

    pub(super) fn file(mut self) -> File {
        if self.header().is_err() {
            self.skip_to_item();
        }
        while self.current.kind != TokenKind::End {
            if self.findings.is_full() {
                self.file.model.incomplete = true;
                break;
            }
            self.open = 0;
            let read = match self.text() {
                "type" | "extend" => self.type_definition(),
                // Modules can follow one another in one text.
                "module" if self.file.module.is_some() => self.header(),
                "condition" => self.condition().map(|condition| {
                    self.file.model.conditions.push(condition);
                }),
                _ => {
                    let expected = match self.file.module {
                        Some(_) => "`type`, `extend type` or `condition`",
                        None => "`type` or `condition`",
                    };
                    let reported = self.unexpected_here(expected);
                    self.advance();
                    Err(reported)
                }
            };
            if read.is_err() {
                self.file.model.incomplete = true;
                self.skip_to_item();
            }
        }
        self.file
    }

    /// `model` and `schema 1.1`, or `module name`
    fn header(&mut self) -> Parsed<()> {
        let start = self.current.span;
        if self.take_word("module") {
            let name = self.name("the name of the module")?;
            self.file.header = start.to(name.span);
            self.file.module = Some(name);
            return self.line_end();
        }
        if !self.take_word("model") {
            return Err(self.unexpected_here("`model` or `module`"));
        }
        self.file.header = start;
        if !self.take_word("schema") {
            return Err(self.unexpected_here("`schema` and its version"));
        }
        if self.current.kind != TokenKind::Number {
            return Err(self.unexpected("the version of the schema"));
        }
        let version = self.text();
        if !VERSIONS.contains(&version) {
            let message = format!(
                "schema version `{}` is not supported; there are {}",
                self.excerpt(),
                VERSIONS.join(" and ")
            );
            self.findings
                .push(DiagnosticCode::UnsupportedVersion, self.current.span, message);
        }
        self.advance();
        self.line_end()
    }

    /// `type name`, and its relations
    fn type_definition(&mut self) -> Parsed<()> {
        let keyword = self.current.span;
        let doc = doc_before(self.source, self.start, keyword.start as usize);
        let extends = self.take_word("extend");
        if extends && self.file.module.is_none() {
            let message = "`extend` is for modules: only a file that begins with `module` can hold it";
            self.findings
                .push(DiagnosticCode::UnexpectedToken, keyword, message);
        }
        if !self.take_word("type") {
            return Err(self.unexpected("`type` after `extend`"));
        }
        let name = self.name("the name of a type")?;
        let mut definition = TypeDefinition {
            name,
            extends,
            relations: Vec::new(),
            doc,
            incomplete: false,
        };
        if self.line_end().is_err() {
            definition.incomplete = true;
            self.skip_to_item();
        }
        let mut has_relations = self.take_word("relations");
        if has_relations && self.line_end().is_err() {
            self.skip_to_item();
        }
        while self.text() == "define" && !self.findings.is_full() {
            if !has_relations {
                let _ = self.unexpected_here("`relations` on a line of its own before the first `define`");
                has_relations = true;
            }
            self.open = 0;
            let position = definition.relations.len();
            if self.relation(&mut definition.relations).is_err() {
                definition.incomplete |= definition.relations.len() == position;
                self.skip_to_item();
            }
            self.report_stray(&mut definition);
        }
        if has_relations && definition.relations.is_empty() && !definition.incomplete {
            let _ = self.unexpected_here("`define` and a relation");
            definition.incomplete = true;
        }
        self.file.model.types.push(definition);
        Ok(())
    }

    /// Reports what is neither a relation of this type nor the beginning of something else.
    fn report_stray(&mut self, definition: &mut TypeDefinition) {
        if self.current.kind != TokenKind::End && !self.begins_item() {
            let _ = self.unexpected_here("`define`, `type` or `condition`");
            definition.incomplete = true;
            self.advance();
            self.skip_to_item();
        }
    }

    /// Whether the current word begins something that stands on lines of its own.
    fn begins_item(&self) -> bool {
        match self.text() {
            "define" | "type" | "extend" | "condition" => true,
            "module" => self.file.module.is_some(),
            _ => false,
        }
    }

    /// Goes to the next line that begins with something whole.
    fn skip_to_item(&mut self) {
        while self.current.kind != TokenKind::End && !(self.current.first && self.begins_item()) {
            self.advance();
        }
    }

    /// A name that is no keyword.
    pub(super) fn name(&mut self, expected: &str) -> Parsed<Identifier> {
        let is_word = self.current.kind == TokenKind::Word && !KEYWORDS.contains(&self.text());
        if !is_word || (self.current.first && self.open == 0) {
            return Err(self.unexpected(expected));
        }
        let (text, span) = (SmolStr::new(self.text()), self.current.span);
        self.advance();
        let is_separator = |c: char| matches!(c, '/' | '.');
        let ends_badly = text.ends_with(is_separator);
        let message = if text.len() > MAX_NAME_BYTES {
            let bytes = text.len();
            format!("a name is at most {MAX_NAME_BYTES} bytes long, this one has {bytes}")
        } else if ends_badly || text.split(is_separator).any(str::is_empty) {
            format!("`{text}` is not a name: `/` and `.` stand singly between letters, digits, `_` and `-`")
        } else {
            return Ok(Identifier { text, span });
        };
        self.findings.push(DiagnosticCode::InvalidName, span, message);
        Err(Reported)
    }

    /// Takes the current token if it is of this kind.
    pub(super) fn take(&mut self, kind: TokenKind) -> bool {
        let found = self.current.kind == kind;
        if found {
            self.advance();
        }
        found
    }

    /// Takes the current word if it is this one.
    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.current.kind == TokenKind::Word && self.text() == word;
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, kind: TokenKind, expected: &str) -> Parsed<()> {
        match self.current.kind == kind && (!self.current.first || self.open > 0) {
            true => {
                self.advance();
                Ok(())
            }
            false => Err(self.unexpected(expected)),
        }
    }

    /// Nothing more may stand on this line.
    pub(super) fn line_end(&mut self) -> Parsed<()> {
        match self.current.first {
            true => Ok(()),
            false => Err(self.unexpected("the end of the line")),
        }
    }

    /// Reports that the current token, or the end of the line before it, is not what was expected.
    pub(super) fn unexpected(&mut self, expected: &str) -> Reported {
        if !self.current.first || self.open > 0 {
            return self.unexpected_here(expected);
        }
        let end = self.previous.span.end;
        let found = match self.current.kind {
            TokenKind::End => "the end of the model",
            _ => "the end of the line",
        };
        let message = format!("expected {expected}, found {found}");
        let span = Span { start: end, end };
        self.findings.push(DiagnosticCode::UnexpectedToken, span, message);
        Reported
    }

    /// Reports that the current token is not what was expected, even if it stands on the next line.
    pub(super) fn unexpected_here(&mut self, expected: &str) -> Reported {
        let (code, found) = match self.current.kind {
            TokenKind::End => (DiagnosticCode::UnexpectedToken, "the end of the model".to_owned()),
            TokenKind::Unknown => (
                DiagnosticCode::UnexpectedCharacter,
                format!("`{}`", self.excerpt().escape_debug()),
            ),
            _ => (DiagnosticCode::UnexpectedToken, format!("`{}`", self.excerpt())),
        };
        let message = format!("expected {expected}, found {found}");
        self.findings.push(code, self.current.span, message);
        Reported
    }

    /// The current token's text, cut short where it is long.
    pub(super) fn excerpt(&self) -> String {
        const LONGEST: usize = 60;
        let text = self.text();
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
            None => text.into(),
        }
    }

    pub(super) fn text(&self) -> &'a str {
        self.current.span.text(self.source)
    }

    pub(super) fn advance(&mut self) {
        self.previous = self.current;
        self.current = self.lexer.next();
    }
}
