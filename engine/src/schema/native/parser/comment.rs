//! Doc comments, and comments that switch warnings off.

use std::collections::HashSet;

use super::Parser;
use crate::schema::diagnostic::Span;
use crate::schema::native::lexer::TokenKind;
use crate::schema::native::syntax::Comment;

impl Parser<'_> {
    /// The comment right above the current token: no blank line between, and not the end of the line before.
    pub(super) fn comment(&self) -> Comment {
        let mut first = self.lexer.comments().len();
        let mut below = self.current.span;
        for (position, span) in self.lexer.comments().iter().enumerate().rev() {
            let gap = Span {
                start: span.end,
                end: below.start,
            }
            .text(self.source);
            if gap.bytes().filter(|byte| *byte == b'\n').count() > 1 {
                break;
            }
            let before = Span {
                start: self.previous.span.end,
                end: span.start,
            }
            .text(self.source);
            let trails = position == 0
                && !matches!(self.previous.kind, TokenKind::LineEnd | TokenKind::End)
                && !before.contains(['\n', '\r']);
            if trails {
                break;
            }
            first = position;
            below = *span;
        }
        let comments = self.lexer.comments().get(first..).unwrap_or_default();
        comment_of(comments.iter().map(|span| span.text(self.source)))
    }
}

/// Strips comment marks, and picks out the lines that switch warnings off.
fn comment_of<'a>(comments: impl Iterator<Item = &'a str>) -> Comment {
    let mut lines = Vec::new();
    let mut ignored_warnings = HashSet::new();
    for comment in comments {
        if let Some(line) = comment.strip_prefix("//") {
            // More slashes may open a line; those at its end are text, such as an address.
            let line = line.trim_start_matches('/').trim();
            match line
                .strip_prefix("spicedb-ignore-warning:")
                .or(line.strip_prefix("ignore-warning:"))
            {
                // SpiceDB writes the codes of its warnings with hyphens.
                Some(code) => {
                    ignored_warnings.insert(code.trim().replace('-', "_"));
                }
                None => lines.push(line),
            }
        } else {
            let text = comment
                .trim_start_matches('/')
                .trim_end_matches('/')
                .trim_matches('*');
            lines.extend(
                text.trim()
                    .lines()
                    .map(|line| line.trim().trim_start_matches('*').trim_start()),
            );
        }
    }
    let doc = lines.join("\n");
    let doc = doc.trim();
    Comment {
        doc: (!doc.is_empty()).then(|| doc.into()),
        ignored_warnings,
    }
}
