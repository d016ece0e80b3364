//! The tokens of a caveat expression: names, literals with their escapes undone, and symbols.

use super::CompileError;
use super::limits::MAX_SOURCE_BYTES;

/// A token and the byte at which it starts.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) offset: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    /// A name or keyword.
    Word(String),
    /// A name between backticks, only good as a field.
    Quoted(String),
    /// The magnitude of an integer; a minus before it is a token of its own.
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "!", "-", "+", "*",
    "/", "%", "<", ">",
];

/// Splits an expression into tokens; the last one is always [`TokenKind::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, CompileError> {
    if source.len() > MAX_SOURCE_BYTES {
        let message = format!("the expression is longer than {MAX_SOURCE_BYTES} bytes");
        return Err(CompileError::at(source, 0, message));
    }
    let mut lexer = Lexer { source, offset: 0 };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let end = token.kind == TokenKind::End;
        tokens.push(token);
        if end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    offset: usize,
}

impl Lexer<'_> {
    fn next(&mut self) -> Result<Token, CompileError> {
        self.skip_blanks();
        let offset = self.offset;
        let kind = match self.peek() {
            None => TokenKind::End,
            Some('0'..='9') => self.number()?,
            Some('.') if self.peek_after(1).is_some_and(|next| next.is_ascii_digit()) => self.number()?,
            Some('`') => self.quoted()?,
            Some(_) => match self.string_prefix() {
                Some((bytes, raw, length)) => {
                    self.offset += length;
                    self.string(bytes, raw)?
                }
                None => self.word_or_symbol()?,
            },
        };
        Ok(Token { kind, offset })
    }

    fn rest(&self) -> &str {
        self.source.get(self.offset..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_after(&self, characters: usize) -> Option<char> {
        self.rest().chars().nth(characters)
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.offset += next.len_utf8();
        Some(next)
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &str {
        let start = self.offset;
        while self.peek().is_some_and(&accept) {
            self.bump();
        }
        self.source.get(start..self.offset).unwrap_or_default()
    }

    fn error<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, CompileError> {
        Err(CompileError::at(self.source, offset, message))
    }

    fn skip_blanks(&mut self) {
        loop {
            self.take_while(|next| matches!(next, ' ' | '\t' | '\r' | '\n' | '\u{c}'));
            if !self.rest().starts_with("//") {
                return;
            }
            self.take_while(|next| next != '\n');
        }
    }

    fn word_or_symbol(&mut self) -> Result<TokenKind, CompileError> {
        if self
            .peek()
            .is_some_and(|next| next.is_ascii_alphabetic() || next == '_')
        {
            let word = self.take_while(|next| next.is_ascii_alphanumeric() || next == '_');
            return Ok(TokenKind::Word(word.to_owned()));
        }
        for symbol in SYMBOLS {
            if self.rest().starts_with(symbol) {
                self.offset += symbol.len();
                return Ok(TokenKind::Symbol(symbol));
            }
        }
        let found = self.peek().unwrap_or_default();
        self.error(
            self.offset,
            format!("unexpected character `{}`", found.escape_default()),
        )
    }

    fn quoted(&mut self) -> Result<TokenKind, CompileError> {
        let start = self.offset;
        self.bump();
        let allowed =
            |next: char| next.is_ascii_alphanumeric() || matches!(next, '_' | '.' | '-' | '/' | ' ');
        let name = self.take_while(allowed).to_owned();
        if name.is_empty() || self.bump() != Some('`') {
            return self.error(
                start,
                "a name between backticks has letters, digits, `_`, `.`, `-`, `/` and spaces",
            );
        }
        Ok(TokenKind::Quoted(name))
    }

    fn number(&mut self) -> Result<TokenKind, CompileError> {
        let start = self.offset;
        let hexadecimal = self.rest().starts_with("0x") || self.rest().starts_with("0X");
        if hexadecimal {
            self.offset += 2;
            let digits = self.take_while(|next| next.is_ascii_hexdigit()).to_owned();
            return self.integer(start, &digits, 16);
        }
        let digits = self.take_while(|next| next.is_ascii_digit()).to_owned();
        let mut double = false;
        if self.peek() == Some('.') && self.peek_after(1).is_some_and(|next| next.is_ascii_digit()) {
            double = true;
            self.bump();
            self.take_while(|next| next.is_ascii_digit());
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            let signed = matches!(self.peek_after(1), Some('+' | '-'));
            if self
                .peek_after(if signed { 2 } else { 1 })
                .is_some_and(|next| next.is_ascii_digit())
            {
                double = true;
                self.offset += if signed { 2 } else { 1 };
                self.take_while(|next| next.is_ascii_digit());
            }
        }
        if !double {
            return self.integer(start, &digits, 10);
        }
        let text = self.source.get(start..self.offset).unwrap_or_default();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.end_of_number(start)?;
                Ok(TokenKind::Double(number))
            }
            _ => self.error(start, format!("`{text}` is not a number that fits a double")),
        }
    }

    fn integer(&mut self, start: usize, digits: &str, radix: u32) -> Result<TokenKind, CompileError> {
        let Ok(number) = u64::from_str_radix(digits, radix) else {
            return self.error(start, "the integer does not fit 64 bits");
        };
        let unsigned = matches!(self.peek(), Some('u' | 'U'));
        if unsigned {
            self.bump();
        }
        self.end_of_number(start)?;
        Ok(if unsigned {
            TokenKind::Uint(number)
        } else {
            TokenKind::Int(number)
        })
    }

    /// `1abc` is a slip, not a number beside a name.
    fn end_of_number(&self, start: usize) -> Result<(), CompileError> {
        if self
            .peek()
            .is_some_and(|next| next.is_ascii_alphanumeric() || next == '_')
        {
            return self.error(
                start,
                "a number is followed by a letter or digit that does not belong to it",
            );
        }
        Ok(())
    }

    /// Whether a string starts here: as bytes or not, raw or not, and how long its prefix is.
    fn string_prefix(&self) -> Option<(bool, bool, usize)> {
        let (mut bytes, mut raw) = (false, false);
        for (length, next) in self.rest().chars().take(3).enumerate() {
            match next {
                '"' | '\'' => return Some((bytes, raw, length)),
                'b' | 'B' if !bytes && !raw => bytes = true,
                'r' | 'R' if !raw => raw = true,
                _ => return None,
            }
        }
        None
    }

    fn string(&mut self, bytes: bool, raw: bool) -> Result<TokenKind, CompileError> {
        let start = self.offset;
        let quote = if self.rest().starts_with('"') { '"' } else { '\'' };
        let triple = if quote == '"' { "\"\"\"" } else { "'''" };
        let long = self.rest().starts_with(triple);
        self.offset += if long { 3 } else { 1 };
        let mut text = Vec::new();
        loop {
            let at = self.offset;
            if long && self.rest().starts_with(triple) {
                self.offset += 3;
                break;
            }
            match self.bump() {
                None => return self.error(start, "the string does not end"),
                Some(next) if next == quote && !long => break,
                Some('\n' | '\r') if !long => {
                    return self.error(start, "the string does not end on its line");
                }
                Some('\\') if !raw => self.escape(at, bytes, &mut text)?,
                Some(next) => push(&mut text, next),
            }
        }
        if bytes {
            return Ok(TokenKind::Bytes(text));
        }
        match String::from_utf8(text) {
            Ok(text) => Ok(TokenKind::String(text)),
            Err(_) => self.error(start, "the string is not Unicode"),
        }
    }

    /// Reads what follows a backslash. In bytes `\x` and octal escapes are bytes, in text they are code points.
    fn escape(&mut self, start: usize, bytes: bool, text: &mut Vec<u8>) -> Result<(), CompileError> {
        let simple = match self.bump() {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0b,
            Some('\\') => b'\\',
            Some('?') => b'?',
            Some('"') => b'"',
            Some('\'') => b'\'',
            Some('`') => b'`',
            Some('x' | 'X') => return self.code(start, 2, 16, bytes, text),
            Some('u') if !bytes => return self.code(start, 4, 16, false, text),
            Some('U') if !bytes => return self.code(start, 8, 16, false, text),
            Some('0'..='3') => {
                self.offset -= 1;
                return self.code(start, 3, 8, bytes, text);
            }
            _ => return self.error(start, "unknown escape in a string"),
        };
        text.push(simple);
        Ok(())
    }

    fn code(
        &mut self,
        start: usize,
        digits: usize,
        radix: u32,
        bytes: bool,
        text: &mut Vec<u8>,
    ) -> Result<(), CompileError> {
        let mut number = 0_u32;
        for _ in 0..digits {
            let Some(digit) = self.bump().and_then(|next| next.to_digit(radix)) else {
                return self.error(start, format!("the escape needs {digits} digits"));
            };
            // Eight hexadecimal digits fill the 32 bits exactly.
            number = number.wrapping_mul(radix) | digit;
        }
        match (bytes, u8::try_from(number), char::from_u32(number)) {
            (true, Ok(byte), _) => text.push(byte),
            (false, _, Some(character)) => push(text, character),
            _ => return self.error(start, "the escape is not a Unicode code point"),
        }
        Ok(())
    }
}

fn push(text: &mut Vec<u8>, character: char) {
    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
}
