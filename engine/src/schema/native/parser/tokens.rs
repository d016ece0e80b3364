//! The parser's footing: the token at hand, names, and what to say of a token that is not the one expected.

use smol_str::SmolStr;

use super::{KEYWORDS, Parsed, Parser, Reported};
use crate::noun::MAX_NAME_BYTES;
use crate::schema::diagnostic::{DiagnosticCode, Span};
use crate::schema::native::lexer::TokenKind;
use crate::schema::native::syntax::Identifier;

impl Parser<'_> {
    /// A name of one word.
    pub(super) fn name(&mut self, expected: &str) -> Parsed<Identifier> {
        if self.current.kind != TokenKind::Word || self.at_keyword() {
            return Err(self.unexpected(expected));
        }
        let identifier = Identifier {
            text: SmolStr::new(self.text()),
            span: self.current.span,
        };
        self.advance();
        self.valid(identifier)
    }

    /// A name of one word or more, with `/` between them.
    pub(super) fn path(&mut self, expected: &str) -> Parsed<Identifier> {
        let first = self.name(expected)?;
        if self.current.kind != TokenKind::Slash {
            return Ok(first);
        }
        let mut text = first.text.to_string();
        let mut span = first.span;
        while self.take(TokenKind::Slash) {
            let segment = self.name("a name after `/`")?;
            text.push('/');
            text.push_str(&segment.text);
            span = span.to(segment.span);
        }
        self.valid(Identifier {
            text: SmolStr::new(text),
            span,
        })
    }

    pub(super) fn valid(&mut self, identifier: Identifier) -> Parsed<Identifier> {
        let text = identifier.text.as_str();
        let message = if text.len() > MAX_NAME_BYTES {
            let bytes = text.len();
            format!("a name is at most {MAX_NAME_BYTES} bytes long, this one has {bytes}")
        } else if text.starts_with(|c: char| c.is_ascii_digit()) {
            format!("`{text}` is not a name: a name must not start with a digit")
        } else if let Some(c) = text
            .chars()
            .find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '/'))
        {
            format!(
                "`{text}` is not a name: it holds `{c}`, and a name has only letters a-z and A-Z, digits and `_`"
            )
        } else {
            return Ok(identifier);
        };
        self.findings
            .push(DiagnosticCode::InvalidName, identifier.span, message);
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
        let found = self.at_word(word);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn at_word(&self, word: &str) -> bool {
        self.current.kind == TokenKind::Word && self.text() == word
    }

    pub(super) fn expect(&mut self, kind: TokenKind, expected: &str) -> Parsed<()> {
        match self.take(kind) {
            true => Ok(()),
            false => Err(self.unexpected(expected)),
        }
    }

    /// Reports that the current token is not what was expected.
    pub(super) fn unexpected(&mut self, expected: &str) -> Reported {
        if self.current.span.start < self.garbled_until {
            return Reported;
        }
        let message = format!("expected {expected}, found {}", self.found());
        self.findings
            .push(DiagnosticCode::UnexpectedToken, self.current.span, message);
        Reported
    }

    /// The current token in words.
    pub(super) fn found(&self) -> String {
        match self.current.kind {
            TokenKind::End => "the end of the schema".into(),
            TokenKind::LineEnd => "the end of the line".into(),
            TokenKind::Word if self.at_keyword() => format!("the keyword `{}`", self.excerpt()),
            TokenKind::Text(_) => "a string".into(),
            _ => format!("`{}`", self.excerpt()),
        }
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

    /// Whether the current word is a keyword, and so cannot be a name.
    pub(super) fn at_keyword(&self) -> bool {
        let text = self.text();
        KEYWORDS.contains(&text)
            || self.enabled.contains(&text)
            || (text == "and" && self.enabled.contains(&"expiration"))
    }

    pub(super) fn text(&self) -> &str {
        self.current.span.text(self.source)
    }

    /// Whether the current token is the first on its line, or of a statement.
    pub(super) fn at_line_start(&self) -> bool {
        if matches!(self.previous.kind, TokenKind::LineEnd | TokenKind::Semicolon) {
            return true;
        }
        let gap = Span {
            start: self.previous.span.end,
            end: self.current.span.start,
        };
        gap.text(self.source).contains(['\n', '\r'])
    }

    /// Goes to the next token that means something.
    pub(super) fn advance(&mut self) {
        self.previous = self.current;
        loop {
            self.current = self.lexer.next();
            match self.current.kind {
                TokenKind::Unknown => {
                    let message = format!("unexpected `{}`", self.excerpt().escape_debug());
                    self.findings
                        .push(DiagnosticCode::UnexpectedCharacter, self.current.span, message);
                    let end = self.current.span.end as usize;
                    let rest = self.source.get(end..).unwrap_or_default();
                    self.garbled_until = (end + rest.find('\n').unwrap_or(rest.len())) as u32;
                }
                TokenKind::OpenComment => {
                    let Span { start, .. } = self.current.span;
                    let span = Span {
                        start,
                        end: start + 2,
                    };
                    let message = "this `/*` is never closed by `*/`";
                    self.findings.push(DiagnosticCode::Unterminated, span, message);
                    self.file.incomplete = true;
                }
                TokenKind::Text(false) => {
                    let message = "this string does not end on its line";
                    self.findings
                        .push(DiagnosticCode::Unterminated, self.current.span, message);
                    return;
                }
                _ => return,
            }
        }
    }
}
