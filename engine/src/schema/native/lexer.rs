//! Cuts the text of a native schema into tokens, with the automatic `;` at the ends of lines.

use crate::pause;
use crate::schema::diagnostic::Span;

/// What a token is. Words are told apart as keywords or names by the parser, since `use` lines change which are which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Word,
    /// A quoted string that ends on its line; `false` if it does not end.
    Text(bool),
    LeftBrace,
    RightBrace,
    LeftParenthesis,
    RightParenthesis,
    Less,
    Greater,
    Pipe,
    Plus,
    Minus,
    Ampersand,
    Slash,
    Equals,
    Colon,
    Comma,
    Hash,
    Star,
    Period,
    Ellipsis,
    Arrow,
    Semicolon,
    /// The end of a line that also ends a statement.
    LineEnd,
    /// A run of characters that mean nothing here.
    Unknown,
    /// A `/*` that nothing closes; it runs to the end.
    OpenComment,
    /// The end of the text.
    End,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) span: Span,
}

/// Hands out tokens one by one; comments before a token are kept beside it.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    source: &'a str,
    at: usize,
    /// Whether a line end here would end a statement: so after a word, `}`, `)` and `*`.
    line_end_counts: bool,
    comments: Vec<Span>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(source: &'a str) -> Self {
        // A byte order mark is not text.
        let at = if source.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Self {
            source,
            at,
            line_end_counts: false,
            comments: Vec::new(),
        }
    }

    /// The comments that stood between the last token and the one before it.
    pub(super) fn comments(&self) -> &[Span] {
        &self.comments
    }

    /// The next token; [`TokenKind::End`] for ever once the text is used up.
    pub(super) fn next(&mut self) -> Token {
        self.comments.clear();
        loop {
            pause::at_piece();
            let start = self.at;
            let Some(c) = self.bump() else {
                return self.token(TokenKind::End, start);
            };
            let kind = match c {
                ' ' | '\t' => continue,
                '\n' | '\r' if self.line_end_counts => TokenKind::LineEnd,
                '\n' | '\r' => continue,
                '/' if self.take('/') => {
                    self.take_while(|c| c != '\n' && c != '\r');
                    self.comments.push(Span::new(start, self.at));
                    continue;
                }
                '/' if self.take('*') => match self.rest().find("*/") {
                    Some(length) => {
                        self.at += length + "*/".len();
                        self.comments.push(Span::new(start, self.at));
                        continue;
                    }
                    None => {
                        self.at = self.source.len();
                        TokenKind::OpenComment
                    }
                },
                '{' => TokenKind::LeftBrace,
                '}' => TokenKind::RightBrace,
                '(' => TokenKind::LeftParenthesis,
                ')' => TokenKind::RightParenthesis,
                '<' => TokenKind::Less,
                '>' => TokenKind::Greater,
                '|' => TokenKind::Pipe,
                '+' => TokenKind::Plus,
                '-' if self.take('>') => TokenKind::Arrow,
                '-' => TokenKind::Minus,
                '&' => TokenKind::Ampersand,
                '/' => TokenKind::Slash,
                '=' => TokenKind::Equals,
                ':' => TokenKind::Colon,
                ';' => TokenKind::Semicolon,
                ',' => TokenKind::Comma,
                '#' => TokenKind::Hash,
                '*' => TokenKind::Star,
                '.' if self.rest().starts_with("..") => {
                    self.at += "..".len();
                    TokenKind::Ellipsis
                }
                '.' => TokenKind::Period,
                '"' | '\'' => {
                    self.take_while(|next| next != c && next != '\n' && next != '\r');
                    TokenKind::Text(self.take(c))
                }
                c if is_word(c) => {
                    self.take_while(is_word);
                    TokenKind::Word
                }
                _ => {
                    self.take_while(is_unknown);
                    TokenKind::Unknown
                }
            };
            return self.token(kind, start);
        }
    }

    /// Skips a caveat's body, the opening brace being the last token, and returns what stands between the braces
    /// and the closing brace. `None` if nothing closes it; then all text is used up.
    ///
    /// Braces in strings and comments do not count. The strings are those of CEL: `'…'`, `"…"`, each also tripled,
    /// with backslash escapes unless an `r` stands before them.
    pub(super) fn caveat_body(&mut self) -> Option<(Span, Token)> {
        let start = self.at;
        let mut depth = 0_usize;
        loop {
            let at = self.at;
            match self.bump()? {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    let closing = self.token(TokenKind::RightBrace, at);
                    return Some((Span::new(start, at), closing));
                }
                '}' => depth -= 1,
                '/' if self.take('/') => self.take_while(|c| c != '\n' && c != '\r'),
                '/' if self.take('*') => match self.rest().find("*/") {
                    Some(length) => self.at += length + "*/".len(),
                    None => self.at = self.source.len(),
                },
                quote @ ('"' | '\'') => self.cel_string(quote, false),
                c if is_word(c) => {
                    self.take_while(is_word);
                    let word = Span::new(at, self.at).text(self.source);
                    let raw = matches!(
                        word,
                        "r" | "R" | "br" | "bR" | "Br" | "BR" | "rb" | "rB" | "Rb" | "RB"
                    );
                    if raw && let Some(quote @ ('"' | '\'')) = self.rest().chars().next() {
                        self.bump();
                        self.cel_string(quote, true);
                    }
                }
                _ => {}
            }
        }
    }

    /// Skips the rest of a CEL string whose first quote is past. One that does not end stops at the end of its line
    /// (tripled: of the text); the expression's own compiler has the words for it.
    fn cel_string(&mut self, quote: char, raw: bool) {
        let doubled = if quote == '"' { "\"\"" } else { "''" };
        let tripled = self.rest().starts_with(doubled);
        if tripled {
            self.at += doubled.len();
        }
        while let Some(c) = self.bump() {
            match c {
                '\\' if !raw => {
                    self.bump();
                }
                '\n' | '\r' if !tripled => return,
                c if c == quote && !tripled => return,
                c if c == quote && self.rest().starts_with(doubled) => {
                    self.at += doubled.len();
                    return;
                }
                _ => {}
            }
        }
    }

    fn token(&mut self, kind: TokenKind, start: usize) -> Token {
        self.line_end_counts = match kind {
            TokenKind::Unknown => self.line_end_counts,
            kind => matches!(
                kind,
                TokenKind::Word | TokenKind::RightBrace | TokenKind::RightParenthesis | TokenKind::Star
            ),
        };
        Token {
            kind,
            span: Span::new(start, self.at),
        }
    }

    fn rest(&self) -> &'a str {
        self.source.get(self.at..).unwrap_or_default()
    }

    fn bump(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) {
        let rest = self.rest();
        self.at += rest.find(|c| !wanted(c)).unwrap_or(rest.len());
    }
}

fn is_word(c: char) -> bool {
    // Words take in letters of every alphabet, so that one message can name the whole word that is no name.
    c == '_' || c.is_alphanumeric()
}

fn is_unknown(c: char) -> bool {
    !is_word(c) && !" \t\r\n/{}()<>|+-&=:;,#*.\"'".contains(c)
}

#[cfg(test)]
mod tests {
    use super::TokenKind::*;
    use super::*;

    fn kinds(source: &str) -> Vec<TokenKind> {
        let mut lexer = Lexer::new(source);
        let tokens = std::iter::from_fn(|| Some(lexer.next().kind));
        tokens.take_while(|kind| *kind != End).collect()
    }

    #[test]
    fn a_line_end_is_a_terminator_after_words_closers_and_stars_only() {
        assert_eq!(kinds("a\n\nb"), [Word, LineEnd, Word]);
        assert_eq!(
            kinds("a +\n\nb)\r\n"),
            [Word, Plus, Word, RightParenthesis, LineEnd]
        );
        assert_eq!(
            kinds("}\n*\n{\n...\n"),
            [RightBrace, LineEnd, Star, LineEnd, LeftBrace, Ellipsis]
        );
        assert_eq!(kinds("a // b\n c /* d\n */ e"), [Word, LineEnd, Word, Word]);
        assert_eq!(kinds("a $\n"), [Word, Unknown, LineEnd]);
    }

    #[test]
    fn tokens_are_as_long_as_they_can_be() {
        assert_eq!(kinds("a->b-c"), [Word, Arrow, Word, Minus, Word]);
        assert_eq!(kinds("....#"), [Ellipsis, Period, Hash]);
        assert_eq!(kinds("\u{feff}\"x\" 'y"), [Text(true), Text(false)]);
        assert_eq!(kinds("/* open"), [OpenComment]);
    }

    #[test]
    fn a_caveat_body_ends_at_its_own_brace() {
        let bodies = [
            "a == {'}': 1}['}']",
            r#"a == "\"}" && b == r"\" && c == '''it's }''' "#,
            "a // }\n + b",
            "\"\"\"}\"\"\" == a || 'x\\'}' == b",
        ];
        for body in bodies {
            let source = format!("{{{body}}} after");
            let mut lexer = Lexer::new(&source);
            assert_eq!(lexer.next().kind, LeftBrace);
            let (span, _) = lexer.caveat_body().unwrap();
            assert_eq!(span.text(&source), body);
            assert_eq!(lexer.next().kind, Word);
        }
        let mut lexer = Lexer::new("{ a '''}''' { }");
        lexer.next();
        assert_eq!(lexer.caveat_body(), None);
    }
}
