//! Reads a native schema into its syntax tree, reporting every syntax error on the way.
//!
//! After an error it goes on at the next statement or definition, and says nothing about what lies between.

mod caveat;
mod comment;
mod expression;
mod member;
mod recovery;
mod tokens;

use super::lexer::{Lexer, Token, TokenKind};
use super::syntax::{Definition, File, Item, Member, MemberBody};
use crate::schema::diagnostic::{DiagnosticCode, Findings, Span};

/// How deep expressions and parameter types may be nested.
pub(super) const MAX_DEPTH: usize = 200;

/// The features that a `use` line can name.
const FEATURES: [&str; 5] = ["expiration", "import", "partial", "self", "typechecking"];
/// The words that are keywords everywhere.
const KEYWORDS: [&str; 6] = ["definition", "caveat", "relation", "permission", "nil", "with"];

/// A syntax error was found and reported: what was being read cannot be had.
struct Reported;

type Parsed<T> = Result<T, Reported>;

/// Reads `source`.
pub(super) fn parse(source: &str, findings: &mut Findings) -> File {
    let mut parser = Parser {
        source,
        lexer: Lexer::new(source),
        current: Token {
            kind: TokenKind::End,
            span: Span::default(),
        },
        previous: Token {
            kind: TokenKind::LineEnd,
            span: Span::default(),
        },
        enabled: Vec::new(),
        seen_definition: false,
        seen_partial_without_use: false,
        skipping: false,
        garbled_until: 0,
        unclosed: 0,
        file: File::default(),
        findings,
    };
    parser.advance();
    parser.file();
    parser.file.typechecking = parser.enabled.contains(&"typechecking");
    parser.file.self_keyword = parser.enabled.contains(&"self");
    parser.file.expiration_keyword = parser.enabled.contains(&"expiration");
    parser.file
}

struct Parser<'a> {
    source: &'a str,
    lexer: Lexer<'a>,
    current: Token,
    previous: Token,
    /// The features that `use` lines have enabled.
    enabled: Vec<&'static str>,
    /// Whether `use` comes too late now.
    seen_definition: bool,
    seen_partial_without_use: bool,
    /// Whether what does not belong here is the rest of something that was already reported.
    skipping: bool,
    /// The end of the last line that holds an unknown character: what seems to be missing there may be that.
    garbled_until: u32,
    /// How many `{` were taken as closed without a `}`.
    unclosed: usize,
    file: File,
    findings: &'a mut Findings,
}

impl Parser<'_> {
    fn file(&mut self) {
        loop {
            if self.findings.is_full() {
                self.file.incomplete = true;
                return;
            }
            match self.current.kind {
                TokenKind::End => return,
                TokenKind::Semicolon | TokenKind::LineEnd => self.advance(),
                TokenKind::RightBrace if self.unclosed > 0 => {
                    self.unclosed -= 1;
                    self.advance();
                }
                TokenKind::Word if self.at_declaration() => {
                    self.skipping = false;
                    self.declaration();
                }
                _ => {
                    if !self.skipping {
                        self.unexpected("`definition`, `caveat`, `partial` or `use`");
                    }
                    self.skip_to_declaration();
                }
            }
        }
    }

    /// Whether the current word begins something that can stand outside of all braces.
    fn at_declaration(&self) -> bool {
        matches!(
            self.text(),
            "definition" | "caveat" | "use" | "partial" | "import"
        )
    }

    fn declaration(&mut self) {
        match self.text() {
            "use" => self.use_feature(),
            "import" => self.import(),
            "caveat" => self.caveat(),
            "partial" => {
                if !self.enabled.contains(&"partial") && !self.seen_partial_without_use {
                    self.seen_partial_without_use = true;
                    let message =
                        "`partial` must be enabled by a line `use partial` at the top of the schema";
                    self.findings
                        .push(DiagnosticCode::MisplacedUse, self.current.span, message);
                }
                if let Some(partial) = self.definition("partial") {
                    self.file.partials.push(partial);
                }
            }
            _ => {
                self.seen_definition = true;
                if let Some(definition) = self.definition("definition") {
                    self.file.definitions.push(definition);
                }
            }
        }
    }

    /// `use feature`
    fn use_feature(&mut self) {
        let start = self.current.span;
        self.advance();
        if self.current.kind != TokenKind::Word {
            self.unexpected(&format!("the name of a feature ({})", FEATURES.join(", ")));
            return self.skip_to_declaration();
        }
        let Some(feature) = FEATURES.into_iter().find(|feature| *feature == self.text()) else {
            let message = format!(
                "`{}` is not a feature; there are {}",
                self.excerpt(),
                FEATURES.join(", ")
            );
            self.findings
                .push(DiagnosticCode::UnknownFeature, self.current.span, message);
            return self.advance();
        };
        if self.seen_definition {
            let message = format!("`use {feature}` must stand before the first definition and caveat");
            let span = start.to(self.current.span);
            self.findings.push(DiagnosticCode::MisplacedUse, span, message);
        }
        // Enabled even where it comes too late: one error is enough.
        self.enabled.push(feature);
        self.advance();
    }

    /// `import "file"`
    fn import(&mut self) {
        let start = self.current.span;
        self.advance();
        let mut span = start;
        if let TokenKind::Text(_) = self.current.kind {
            span = start.to(self.current.span);
            self.advance();
        }
        let message = "`import` is resolved by the command-line tools only; \
                       a schema that is sent here must hold every definition itself";
        self.findings
            .push(DiagnosticCode::ImportNotSupported, span, message);
        self.file.incomplete = true;
        self.skipping = true;
    }

    /// `definition name { … }` or `partial name { … }`
    fn definition(&mut self, keyword: &str) -> Option<Definition> {
        let comment = self.comment();
        self.advance();
        let name = self.path(&format!("a name for the {keyword}"));
        let opened = match name {
            Ok(_) => self.expect(TokenKind::LeftBrace, "`{` on the same line"),
            Err(Reported) => Err(Reported),
        };
        if opened.is_err() && !self.skip_to_brace() {
            self.file.incomplete = true;
            self.skipping = true;
            return None;
        }
        let (items, incomplete) = self.body(keyword);
        match name {
            Ok(name) => Some(Definition {
                name,
                items,
                comment,
                incomplete,
            }),
            Err(Reported) => {
                self.file.incomplete = true;
                None
            }
        }
    }

    /// The statements up to and including the closing brace, and whether some could not be read.
    fn body(&mut self, keyword: &str) -> (Vec<Item>, bool) {
        let opening = self.previous.span;
        let mut items = Vec::new();
        let mut incomplete = false;
        self.skipping = false;
        loop {
            if self.findings.is_full() {
                return (items, true);
            }
            let item = match self.current.kind {
                TokenKind::RightBrace => {
                    self.advance();
                    self.skipping = false;
                    return (items, incomplete);
                }
                TokenKind::Semicolon | TokenKind::LineEnd => {
                    self.advance();
                    continue;
                }
                TokenKind::Ellipsis => self.spread(),
                TokenKind::Word if matches!(self.text(), "relation" | "permission") => self.member(),
                TokenKind::End => {
                    let message = format!("the `{{` of this {keyword} is never closed");
                    self.findings.push(DiagnosticCode::Unterminated, opening, message);
                    return (items, incomplete);
                }
                TokenKind::Word if matches!(self.text(), "definition" | "caveat") => {
                    self.unexpected(&format!("`}}` to close the {keyword}"));
                    self.unclosed += 1;
                    return (items, incomplete);
                }
                _ => {
                    if !self.skipping {
                        self.unexpected("`relation`, `permission` or `}`");
                    }
                    Err(Reported)
                }
            };
            match item {
                Ok(item) => {
                    self.skipping = false;
                    match &item {
                        Item::Member(Member {
                            body: MemberBody::Broken(_),
                            ..
                        }) => self.skip_statement(),
                        _ => self.statement_end(),
                    }
                    items.push(item);
                }
                Err(Reported) => {
                    incomplete = true;
                    self.skip_statement();
                }
            }
        }
    }

    /// What must stand after a statement.
    fn statement_end(&mut self) {
        match self.current.kind {
            TokenKind::Semicolon | TokenKind::LineEnd => self.advance(),
            TokenKind::End => {}
            // After `group#...` a line end is no token of its own.
            _ if self.previous.kind == TokenKind::Ellipsis && self.at_line_start() => {}
            TokenKind::RightBrace => {
                self.unexpected("a new line or `;` after the statement");
            }
            _ => {
                self.unexpected("a new line or `;` after the statement");
                self.skip_statement();
            }
        }
    }
}
