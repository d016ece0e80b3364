//! Cuts the text of a model into tokens. Lines count: every token knows whether it is the first of its line.

use crate::pause;
use crate::schema::diagnostic::Span;

/// What a token is. Which words are keywords depends on where they stand, so the parser tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// A name or keyword, with `/`, `.` and `-` within.
    Word,
    /// Digits and dots.
    Number,
    Colon,
    Comma,
    Hash,
    Star,
    Less,
    Greater,
    LeftBracket,
    RightBracket,
    LeftParenthesis,
    RightParenthesis,
    LeftBrace,
    RightBrace,
    /// A run of characters that mean nothing here.
    Unknown,
    /// The end of the text.
    End,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
    /// Whether nothing but white space stands before it on its line.
    pub(super) first: bool,
}

/// Hands out tokens one by one, of one file that is part of `source`.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    source: &'a str,
    /// Where it goes on.
    pub(super) at: usize,
    end: usize,
}

impl<'a> Lexer<'a> {
    /// Reads the part of `source` from byte `start` to byte `end`.
    pub(super) fn new(source: &'a str, start: usize, end: usize) -> Self {
        let mut lexer = Self {
            source,
            at: start,
            end,
        };
        // A byte order mark is not text.
        if lexer.rest().starts_with('\u{feff}') {
            lexer.at += '\u{feff}'.len_utf8();
        }
        lexer
    }

    /// What is left of the file.
    pub(super) fn rest(&self) -> &'a str {
        self.source.get(self.at..self.end).unwrap_or_default()
    }

    /// The next token; [`TokenKind::End`] for ever once the text is used up.
    pub(super) fn next(&mut self) -> Token {
        pause::at_piece();
        let first = self.skip_space();
        let start = self.at;
        let Some(c) = self.rest().chars().next() else {
            return Token {
                kind: TokenKind::End,
                span: Span::new(start, start),
                first: true,
            };
        };
        self.at += c.len_utf8();
        let kind = match c {
            ':' => TokenKind::Colon,
            ',' => TokenKind::Comma,
            '#' => TokenKind::Hash,
            '*' => TokenKind::Star,
            '<' => TokenKind::Less,
            '>' => TokenKind::Greater,
            '[' => TokenKind::LeftBracket,
            ']' => TokenKind::RightBracket,
            '(' => TokenKind::LeftParenthesis,
            ')' => TokenKind::RightParenthesis,
            '{' => TokenKind::LeftBrace,
            '}' => TokenKind::RightBrace,
            'a'..='z' | 'A'..='Z' | '_' => {
                self.skip_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '/' | '.' | '-'));
                TokenKind::Word
            }
            '0'..='9' => {
                self.skip_while(|c| c.is_ascii_alphanumeric() || c == '.');
                TokenKind::Number
            }
            _ => {
                self.skip_while(|c| {
                    !c.is_ascii_alphanumeric() && !c.is_whitespace() && !"_:,#*<>[](){}".contains(c)
                });
                TokenKind::Unknown
            }
        };
        Token {
            kind,
            span: Span::new(start, self.at),
            first,
        }
    }

    /// Skips white space and comments; answers whether a line begins after them.
    fn skip_space(&mut self) -> bool {
        let mut first = self
            .before()
            .is_none_or(|c| matches!(c, '\n' | '\r' | '\u{feff}'));
        while let Some(c) = self.rest().chars().next() {
            match c {
                '\n' | '\r' => first = true,
                c if c.is_whitespace() => {}
                // A `#` within a word, as in `group#member`, begins no comment.
                '#' if first || self.before().is_some_and(char::is_whitespace) => {
                    self.skip_while(|c| c != '\n' && c != '\r');
                    continue;
                }
                _ => break,
            }
            self.at += c.len_utf8();
        }
        first
    }

    fn before(&self) -> Option<char> {
        self.source
            .get(..self.at)
            .and_then(|text| text.chars().next_back())
    }

    fn skip_while(&mut self, holds: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !holds(c)).unwrap_or(rest.len());
    }
}
