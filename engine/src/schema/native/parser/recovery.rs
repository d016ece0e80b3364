//! Where the parser goes on after an error.

use super::Parser;
use crate::schema::native::lexer::TokenKind;

impl Parser<'_> {
    /// Goes to the next line end, closing brace or line that begins a statement.
    pub(super) fn skip_statement(&mut self) {
        self.skipping = true;
        let mut depth = 0_usize;
        loop {
            match self.current.kind {
                TokenKind::End => return,
                TokenKind::Word if self.at_line_start() && self.at_statement() => return,
                TokenKind::Ellipsis if self.at_line_start() && depth == 0 => return,
                TokenKind::Semicolon | TokenKind::LineEnd if depth == 0 => return self.advance(),
                TokenKind::RightBrace if depth == 0 => return,
                TokenKind::RightBrace => depth -= 1,
                TokenKind::LeftBrace => depth += 1,
                _ => {}
            }
            self.advance();
        }
    }

    pub(super) fn at_statement(&self) -> bool {
        matches!(self.text(), "relation" | "permission" | "definition" | "caveat")
    }

    /// Goes to the next line that begins a declaration.
    pub(super) fn skip_to_declaration(&mut self) {
        self.skipping = true;
        self.file.incomplete = true;
        loop {
            self.advance();
            match self.current.kind {
                TokenKind::End => return,
                TokenKind::Word if self.at_line_start() && self.at_declaration() => return,
                _ => {}
            }
        }
    }

    /// Goes past the `{` that begins a body after a broken header, unless another declaration comes first; says
    /// whether it did.
    pub(super) fn skip_to_brace(&mut self) -> bool {
        loop {
            match self.current.kind {
                TokenKind::LeftBrace => {
                    self.advance();
                    return true;
                }
                TokenKind::End => return false,
                TokenKind::Word if self.at_line_start() && (self.at_statement() || self.at_declaration()) => {
                    return false;
                }
                _ => self.advance(),
            }
        }
    }
}
