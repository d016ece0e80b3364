//! One log line: a flat JSON object or readable text, bounded in length, written field by field.

use std::time::SystemTime;

use tracing::Level;

use super::clock::{push_number, push_padded, push_timestamp};
use crate::config::LogFormat;

/// No line is longer than this, its newline included.
pub(super) const MAX_LINE_BYTES: usize = 16 * 1024;
/// No value of a field is longer than this as written.
const MAX_FIELD_BYTES: usize = 4 * 1024;
/// The message may be longer than other values: it can hold another library's whole error.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;
/// What stands where a value was cut.
const CUT: &str = "…[cut]";
/// What the end of a line that lacks fields says.
const JSON_TRUNCATED: &[u8] = b",\"truncated\":true";
const TEXT_TRUNCATED: &[u8] = b" truncated=true";
/// Kept free for the end of the line: the mark, the brace, the newline.
const END_BYTES: usize = JSON_TRUNCATED.len() + 2;

/// A line under construction. Nothing of it is valid before [`Line::end`].
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    format: LogFormat,
    truncated: bool,
}

impl<'a> Line<'a> {
    /// Clears `out` and begins a line in it.
    pub fn begin(
        out: &'a mut Vec<u8>,
        format: LogFormat,
        time: SystemTime,
        level: Level,
        target: &str,
        message: &str,
    ) -> Self {
        out.clear();
        let mut line = Line {
            out,
            format,
            truncated: false,
        };
        match format {
            LogFormat::Json => {
                line.out.extend_from_slice(b"{\"timestamp\":\"");
                push_timestamp(line.out, time);
                line.out.extend_from_slice(b"\",\"level\":\"");
                line.out.extend_from_slice(level.as_str().as_bytes());
                line.out.extend_from_slice(b"\",\"message\":\"");
                push_escaped(line.out, message, MAX_MESSAGE_BYTES);
                line.out.push(b'"');
                line.text("target", target);
            }
            LogFormat::Text => {
                push_timestamp(line.out, time);
                line.out.push(b' ');
                line.out.extend_from_slice(level.as_str().as_bytes());
                line.out
                    .extend_from_slice(if level.as_str().len() == 4 { b"  " } else { b" " });
                push_escaped(line.out, target, MAX_FIELD_BYTES);
                line.out.extend_from_slice(b": ");
                push_plain(line.out, message, MAX_MESSAGE_BYTES);
            }
        }
        line
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, value: &str) {
        let Some(room) = self.name(name) else { return };
        match self.format {
            LogFormat::Json => {
                self.out.push(b'"');
                push_escaped(self.out, value, room);
                self.out.push(b'"');
            }
            LogFormat::Text if needs_quotes(value) => {
                self.out.push(b'"');
                push_escaped(self.out, value, room);
                self.out.push(b'"');
            }
            LogFormat::Text => push_escaped(self.out, value, room),
        }
    }

    /// Adds a whole number.
    pub fn number(&mut self, name: &str, value: u64) {
        if self.name(name).is_some() {
            push_number(self.out, value);
        }
    }

    /// Adds a whole number that may be negative.
    pub fn signed(&mut self, name: &str, value: i64) {
        if self.name(name).is_some() {
            if value < 0 {
                self.out.push(b'-');
            }
            push_number(self.out, value.unsigned_abs());
        }
    }

    /// Adds a number; what JSON cannot write is `null`.
    pub fn float(&mut self, name: &str, value: f64) {
        if self.name(name).is_some() {
            let text = if value.is_finite() {
                value.to_string()
            } else {
                "null".to_owned()
            };
            self.out.extend_from_slice(text.as_bytes());
        }
    }

    /// Adds milliseconds with three decimals.
    pub fn milliseconds(&mut self, name: &str, value: f64) {
        if self.name(name).is_some() {
            // Negative and absurd values saturate; NaN is 0.
            let micros = (value * 1000.0).round() as u64;
            push_number(self.out, micros / 1000);
            self.out.push(b'.');
            push_padded(self.out, micros % 1000, 3);
        }
    }

    /// Adds a truth value.
    pub fn flag(&mut self, name: &str, value: bool) {
        if self.name(name).is_some() {
            self.out.extend_from_slice(if value { b"true" } else { b"false" });
        }
    }

    /// Ends the line, newline included.
    pub fn end(self) {
        match self.format {
            LogFormat::Json => {
                if self.truncated {
                    self.out.extend_from_slice(JSON_TRUNCATED);
                }
                self.out.extend_from_slice(b"}\n");
            }
            LogFormat::Text => {
                if self.truncated {
                    self.out.extend_from_slice(TEXT_TRUNCATED);
                }
                self.out.push(b'\n');
            }
        }
    }

    /// Writes what stands before a value and answers how many bytes the value may have, or leaves the field off.
    fn name(&mut self, name: &str) -> Option<usize> {
        // A name is written in code, not by a user; doubling it covers what escaping could add to any sane one.
        let frame = 2 * name.len() + 8;
        let free = MAX_LINE_BYTES.saturating_sub(self.out.len() + frame + END_BYTES);
        if free < 64 {
            self.truncated = true;
            return None;
        }
        match self.format {
            LogFormat::Json => {
                self.out.extend_from_slice(b",\"");
                push_escaped(self.out, name, 2 * name.len());
                self.out.extend_from_slice(b"\":");
            }
            LogFormat::Text => {
                self.out.push(b' ');
                push_escaped(self.out, name, 2 * name.len());
                self.out.push(b'=');
            }
        }
        Some(free.min(MAX_FIELD_BYTES))
    }
}

/// Appends `text` as the inside of a JSON string, in `room` bytes at most; the end is cut off with a mark if need be.
pub(super) fn push_escaped(out: &mut Vec<u8>, text: &str, room: usize) {
    let bytes = text.as_bytes();
    if bytes.len() <= room && plain_prefix(bytes) == bytes.len() {
        out.extend_from_slice(bytes); // nearly always
    } else if bytes.iter().map(|byte| escaped_len(*byte)).sum::<usize>() <= room {
        push_escaped_bytes(out, bytes);
    } else {
        let room = room.saturating_sub(CUT.len());
        let mut used = 0;
        let fits = |character: &char| {
            let mut utf8 = [0; 4];
            used += character
                .encode_utf8(&mut utf8)
                .bytes()
                .map(escaped_len)
                .sum::<usize>();
            used <= room
        };
        let end: usize = text.chars().take_while(fits).map(char::len_utf8).sum();
        push_escaped_bytes(out, bytes.get(..end).unwrap_or_default());
        out.extend_from_slice(CUT.as_bytes());
    }
}

fn push_escaped_bytes(out: &mut Vec<u8>, mut bytes: &[u8]) {
    while let Some((plain, rest)) = bytes.split_at_checked(plain_prefix(bytes)) {
        out.extend_from_slice(plain);
        let Some((escape, rest)) = rest.split_first() else {
            break;
        };
        push_escape(out, *escape);
        bytes = rest;
    }
}

/// How many bytes from the start need no escape. Looks at eight at a time: this is most of what a line costs.
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // Not zero if and only if one of the eight bytes is below `bound`, which is 128 at most: taking `bound` away
    // borrows into the high bit of such a byte, and of no other before it.
    let any_below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word & HIGHS;
    let any_equal = |word: u64, byte: u8| any_below(word ^ (ONES * u64::from(byte)), 1);
    let plain_words = bytes.as_chunks::<8>().0.iter().take_while(|chunk| {
        let word = u64::from_le_bytes(**chunk);
        any_below(word, 0x20) | any_equal(word, b'"') | any_equal(word, b'\\') == 0
    });
    let start = 8 * plain_words.count();
    let rest = bytes.get(start..).unwrap_or_default();
    start
        + rest
            .iter()
            .position(|byte| escaped_len(*byte) != 1)
            .unwrap_or(rest.len())
}

/// Appends `text` as it is, but for control characters: a line of text stays one line, and a terminal is not steered.
fn push_plain(out: &mut Vec<u8>, text: &str, room: usize) {
    let start = out.len();
    for character in text.chars() {
        if out.len() - start + 10 + CUT.len() > room {
            out.extend_from_slice(CUT.as_bytes());
            return;
        }
        if character.is_control() {
            out.extend(character.escape_default().map(|c| c as u8));
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// How many bytes `byte` becomes.
fn escaped_len(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => {
            let digit = |nibble: u8| {
                if nibble < 10 {
                    b'0' + nibble
                } else {
                    b'a' + nibble - 10
                }
            };
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty()
        || value
            .bytes()
            .any(|b| b <= b' ' || matches!(b, b'"' | b'\\' | b'=' | 0x7f))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_escaped_wherever_it_stands() {
        for byte in 0..128u8 {
            for place in 0..20 {
                let mut text = "ä".repeat(2) + &"x".repeat(20);
                text.replace_range(4 + place..5 + place, char::from(byte).encode_utf8(&mut [0; 4]));
                let mut out = Vec::new();
                push_escaped(&mut out, &text, usize::MAX);
                assert_eq!(
                    format!("\"{}\"", String::from_utf8(out).unwrap()),
                    serde_json::to_string(&text).unwrap()
                );
            }
        }
    }
}
