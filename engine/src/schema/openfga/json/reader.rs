//! Reads JSON (RFC 8259) and keeps the place of every value.
//!
//! A reader of our own, because the ones that keep places read more than JSON (comments, loose names), and recurse
//! as deep as their input says. This one refuses names that are given twice: which of the two counts is nobody's to guess.

use std::collections::HashSet;

use super::tree::{Json, Kind, Member};
use crate::pause;
use crate::schema::diagnostic::{DiagnosticCode, Span};

/// How deeply lists and objects nest at most. A rewrite takes three levels for each of its own.
const MAX_DEPTH: usize = 200;

/// What is wrong, and where.
pub(in crate::schema::openfga) type Fault = (DiagnosticCode, Span, String);

/// Reads the one value that `source` is.
pub(in crate::schema::openfga) fn parse(source: &str) -> Result<Json, Fault> {
    let mut reader = Reader { source, at: 0 };
    let value = reader.value(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(value),
        Some(_) => Err(reader.unexpected("the end of the text")),
    }
}

struct Reader<'a> {
    source: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn value(&mut self, depth: usize) -> Result<Json, Fault> {
        pause::at_piece();
        self.skip_space();
        let start = self.at;
        let kind = match self.peek() {
            Some('{' | '[') if depth >= MAX_DEPTH => {
                let message = format!("lists and objects are nested more than {MAX_DEPTH} deep");
                let span = Span::new(start, start + 1);
                return Err((DiagnosticCode::NestingTooDeep, span, message));
            }
            Some('{') => self.object(depth)?,
            Some('[') => self.list(depth)?,
            Some('"') => Kind::Text(self.string()?),
            Some('-' | '0'..='9') => self.number()?,
            Some('t') if self.take("true") => Kind::Bool,
            Some('f') if self.take("false") => Kind::Bool,
            Some('n') if self.take("null") => Kind::Null,
            _ => return Err(self.unexpected("a value")),
        };
        Ok(Json {
            kind,
            span: Span::new(start, self.at),
        })
    }

    fn object(&mut self, depth: usize) -> Result<Kind, Fault> {
        let mut members: Vec<Member> = Vec::new();
        let mut names = HashSet::new();
        self.at += 1;
        self.skip_space();
        if self.take("}") {
            return Ok(Kind::Object(members));
        }
        loop {
            self.skip_space();
            let start = self.at;
            if self.peek() != Some('"') {
                return Err(self.unexpected("a name in quotes"));
            }
            let name = self.string()?;
            let name_span = Span::new(start, self.at);
            if !names.insert(name.clone()) {
                let message = format!("the name `{}` is given twice", name.escape_debug());
                return Err((DiagnosticCode::DuplicateName, name_span, message));
            }
            self.skip_space();
            if !self.take(":") {
                return Err(self.unexpected("`:`"));
            }
            let value = self.value(depth + 1)?;
            members.push(Member {
                name,
                name_span,
                value,
            });
            self.skip_space();
            if self.take("}") {
                return Ok(Kind::Object(members));
            }
            if !self.take(",") {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Fault> {
        let mut items = Vec::new();
        self.at += 1;
        self.skip_space();
        if self.take("]") {
            return Ok(Kind::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.take("]") {
                return Ok(Kind::List(items));
            }
            if !self.take(",") {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
    }

    /// A string and its quotes; answers what it means.
    fn string(&mut self) -> Result<String, Fault> {
        let opening = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            let start = self.at;
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some('\\') => {
                    let rest = self.source.get(start..).unwrap_or_default();
                    let Some((c, length)) = unescape(rest) else {
                        let message = "this is no escape that JSON knows".to_owned();
                        let span = Span::new(start, start + 1);
                        return Err((DiagnosticCode::UnexpectedCharacter, span, message));
                    };
                    text.push(c);
                    self.at += length;
                }
                Some(c) if c >= ' ' => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
                Some(_) => return Err(self.unexpected("no control character within a string")),
                None => {
                    let message = "this string is never closed".to_owned();
                    let span = Span::new(opening, opening + 1);
                    return Err((DiagnosticCode::Unterminated, span, message));
                }
            }
        }
    }

    /// A number. No model holds one, so that its value is not asked for.
    fn number(&mut self) -> Result<Kind, Fault> {
        let start = self.at;
        let rest = self.source.get(start..).unwrap_or_default();
        let length = rest
            .find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let text = rest.get(..length).unwrap_or_default();
        let digits = text.strip_prefix('-').unwrap_or(text);
        let leading_zero = digits.starts_with('0') && {
            let mut after = digits.chars().skip(1);
            after.next().is_some_and(|c| c.is_ascii_digit())
        };
        let sound = digits.starts_with(|c: char| c.is_ascii_digit())
            && text.ends_with(|c: char| c.is_ascii_digit())
            && !leading_zero
            && text.parse::<f64>().is_ok();
        if !sound {
            return Err(self.unexpected("a number"));
        }
        self.at += length;
        Ok(Kind::Number)
    }

    fn skip_space(&mut self) {
        let rest = self.source.as_bytes().get(self.at..).unwrap_or_default();
        let space = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += space.count();
    }

    fn peek(&self) -> Option<char> {
        self.source.get(self.at..)?.chars().next()
    }

    fn take(&mut self, text: &str) -> bool {
        let rest = self.source.get(self.at..).unwrap_or_default();
        let found = rest.starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn unexpected(&self, expected: &str) -> Fault {
        let (found, length) = match self.peek() {
            Some(c) => (format!("`{}`", c.escape_debug()), c.len_utf8()),
            None => ("the end of the text".to_owned(), 0),
        };
        let message = format!("expected {expected}, found {found}");
        (
            DiagnosticCode::UnexpectedToken,
            Span::new(self.at, self.at + length),
            message,
        )
    }
}

/// The character that an escape at the start of `text` means, and how long the escape is.
fn unescape(text: &str) -> Option<(char, usize)> {
    let c = match text.as_bytes().get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = hexadecimal(text, 2)?;
            if let Some(c) = char::from_u32(first) {
                return Some((c, 6));
            }
            // The first of a pair of surrogates; the other must follow.
            if !(0xd800..0xdc00).contains(&first) || text.get(6..8)? != "\\u" {
                return None;
            }
            let second = hexadecimal(text, 8)?
                .checked_sub(0xdc00)
                .filter(|low| *low < 0x400)?;
            let c = char::from_u32(0x10000 + ((first - 0xd800) << 10) + second)?;
            return Some((c, 12));
        }
        _ => return None,
    };
    Some((c, 2))
}

fn hexadecimal(text: &str, at: usize) -> Option<u32> {
    let digits = text.get(at..at + 4)?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(digits, 16).ok()).flatten()
}

/// Where, in the inside of a string as it is written, the byte `offset` of its meaning stands.
pub(in crate::schema::openfga) fn decoded_offset(written: &str, offset: usize) -> usize {
    let (mut at, mut meant) = (0, 0);
    while meant < offset {
        let rest = written.get(at..).unwrap_or_default();
        let Some(next) = rest.chars().next() else {
            break;
        };
        let (c, length) = match next {
            '\\' => unescape(rest).unwrap_or(('\\', 1)),
            c => (c, c.len_utf8()),
        };
        meant += c.len_utf8();
        at += length;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_is_is_read() {
        for text in [
            "null",
            " {} ",
            r#"{"a": [1, -0.5e+3, true, false, null, "é\u00e9\n\ud83d\ude00"], "b": {}}"#,
            "[[[]]]",
            "0",
            "10",
        ] {
            assert!(parse(text).is_ok(), "{text}");
        }
        let Kind::Text(text) = parse(r#""a\u00e9\ud83d\ude00\/""#).unwrap().kind else {
            panic!()
        };
        assert_eq!(text, "aé😀/");
    }

    #[test]
    fn what_it_is_not_is_refused_at_its_place() {
        for (text, at, message) in [
            ("", 0, "expected a value, found the end of the text"),
            ("{} x", 3, "expected the end of the text, found `x`"),
            ("{a: 1}", 1, "expected a name in quotes, found `a`"),
            (r#"{"a" 1}"#, 5, "expected `:`, found `1`"),
            (r#"{"a": 1,}"#, 8, "expected a name in quotes, found `}`"),
            ("[1,]", 3, "expected a value, found `]`"),
            ("[1 2]", 3, "expected `,` or `]`, found `2`"),
            ("01", 0, "expected a number, found `0`"),
            ("1.", 0, "expected a number, found `1`"),
            ("-", 0, "expected a number, found `-`"),
            ("tru", 0, "expected a value, found `t`"),
            ("// c\n1", 0, "expected a value, found `/`"),
            (r#""\x""#, 1, "this is no escape that JSON knows"),
            (r#""\ud800x""#, 1, "this is no escape that JSON knows"),
            (
                "\"a\nb\"",
                2,
                "expected no control character within a string, found `\\n`",
            ),
            ("\"a", 0, "this string is never closed"),
            (r#"{"a": 1, "a": 2}"#, 9, "the name `a` is given twice"),
        ] {
            let (_, span, found) = parse(text).unwrap_err();
            assert_eq!((span.start, found.as_str()), (at, message), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(
            parse(&nested(MAX_DEPTH + 1)).unwrap_err().0,
            DiagnosticCode::NestingTooDeep
        );
        assert!(parse(&"[{\"a\":".repeat(500_000)).is_err());
    }

    #[test]
    fn places_within_strings_are_found_again() {
        let written = r"a\né\u00e9b";
        assert_eq!(decoded_offset(written, 0), 0);
        assert_eq!(decoded_offset(written, 2), 3);
        assert_eq!(&written[decoded_offset(written, "a\néé".len())..], "b");
        assert_eq!(decoded_offset(written, 99), written.len());
    }
}
