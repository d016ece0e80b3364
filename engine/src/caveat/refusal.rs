//! Says what is wrong with an expression that the library refuses, in words of ours and at the library's place.

use cel::ParseError;

use super::CompileError;
use super::limits::MAX_DEPTH;

/// What the library says last when it gives up, however good the reason that it gave before.
const GAVE_UP: &str = "error recovery attempt limit exceeded";

/// The first of the errors that has a reason.
pub(super) fn refusal(source: &str, errors: &[ParseError]) -> CompileError {
    let reason = |error: &&ParseError| !error.msg.contains(GAVE_UP);
    let Some(error) = errors.iter().find(reason).or(errors.first()) else {
        return CompileError::at(source, 0, "the expression is malformed");
    };
    let offset = offset_of(source, error.pos);
    let rest = source.get(offset..).unwrap_or_default();
    let message = match error.msg.strip_prefix("Syntax error: ") {
        Some(said) => return of_syntax(source, offset, said),
        None => of_literal(rest, &error.msg),
    };
    CompileError::at(source, offset, message)
}

/// The byte at a line and column from 1, in characters.
fn offset_of(source: &str, (line, column): (isize, isize)) -> usize {
    let before = |number: isize| usize::try_from(number - 1).unwrap_or_default();
    let mut lines = source.split_inclusive('\n');
    let start: usize = lines.by_ref().take(before(line)).map(str::len).sum();
    let line = lines.next().unwrap_or_default();
    let within = line.char_indices().nth(before(column));
    start + within.map_or(line.len(), |(offset, _)| offset)
}

/// What the grammar or the lexer refuses.
fn of_syntax(source: &str, offset: usize, said: &str) -> CompileError {
    let (before, rest) = source.split_at_checked(offset).unwrap_or((source, ""));
    let error = |message: String| CompileError::at(source, offset, message);
    if said.contains("Recursion limit") {
        return error(format!("the expression nests deeper than {MAX_DEPTH} levels"));
    }
    if let Some(text) = said.strip_prefix("token recognition error at: '") {
        let text = text.strip_suffix('\'').unwrap_or(text);
        return unrecognised(source, offset, text);
    }
    let is_of_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    if rest.starts_with(is_of_word) && before.ends_with(|character: char| character.is_ascii_digit()) {
        return error("a number is followed by a letter or digit that does not belong to it".to_owned());
    }
    let found = found(rest);
    match said.split_once(" expecting ").map(|(_, expected)| expected) {
        Some(expected) => error(format!("expected {}, found {found}", wanted(expected))),
        // "missing `)` at …"
        None => match said
            .strip_prefix("missing ")
            .and_then(|said| said.split_once(" at "))
        {
            Some((expected, _)) => error(format!("expected {}, found {found}", wanted(expected))),
            None => error(format!("{found} is not expected here")),
        },
    }
}

/// What is no token: `text` is what was read of it.
fn unrecognised(source: &str, offset: usize, text: &str) -> CompileError {
    let rest = source.get(offset..).unwrap_or_default();
    if rest.starts_with('`') {
        let message = "a name between backticks has letters, digits, `_`, `.`, `-`, `/` and spaces";
        return CompileError::at(source, offset, message);
    }
    if !starts_string(rest) {
        let first = rest.chars().next().unwrap_or_default();
        let message = format!("unexpected character `{}`", first.escape_default());
        return CompileError::at(source, offset, message);
    }
    if text.ends_with(['\n', '\r']) {
        return CompileError::at(source, offset, "the string does not end on its line");
    }
    // What follows the last backslash is why the string was not read on.
    let escape = text.rfind('\\').filter(|_| text.len() < rest.len());
    match escape {
        Some(escape) => CompileError::at(source, offset + escape, "unknown escape in a string"),
        None => CompileError::at(source, offset, "the string does not end"),
    }
}

/// What is read well, but cannot be had.
fn of_literal(rest: &str, said: &str) -> String {
    let word = |text: &str| -> String {
        let is_of_word = |next: &char| next.is_ascii_alphanumeric() || *next == '_';
        text.chars().take_while(is_of_word).collect()
    };
    if said.starts_with("reserved identifier") {
        return format!("`{}` is a reserved word", word(rest));
    }
    if said.starts_with("invalid int literal") {
        return if word(rest).parse::<u64>().is_ok() {
            "the integer does not fit 64 bits; unsigned ones end in `u`".to_owned()
        } else {
            "the integer does not fit 64 bits".to_owned()
        };
    }
    if said.starts_with("invalid uint literal") {
        return "the integer does not fit 64 bits".to_owned();
    }
    if said.starts_with("invalid double literal") {
        return "the number does not fit a double".to_owned();
    }
    if said.contains("literal: InvalidUnicode") {
        return "an escape in the string is no Unicode code point".to_owned();
    }
    if said.contains("literal: InvalidEscape") {
        return "unknown escape in a string".to_owned();
    }
    "the expression is malformed here".to_owned()
}

/// Whether a string or bytes start here, with their prefix.
fn starts_string(rest: &str) -> bool {
    let rest = rest.strip_prefix(['b', 'B']).unwrap_or(rest);
    let rest = rest.strip_prefix(['r', 'R']).unwrap_or(rest);
    rest.starts_with(['"', '\''])
}

/// What is expected: a set of the grammar's tokens, `{<EOF>, '==', IDENTIFIER, …}`, or one of them.
fn wanted(expected: &str) -> String {
    let has = |token: &str| {
        let set = expected.trim_start_matches('{').trim_end_matches('}');
        set == token || set.split(", ").any(|part| part == token)
    };
    if has("NUM_INT") {
        return "a value".to_owned();
    }
    if has("IDENTIFIER") {
        return "the name of a field or function".to_owned();
    }
    if has("<EOF>") {
        return "the end of the expression".to_owned();
    }
    // A comma cannot be split off by commas.
    let closing = ["')'", "']'", "':'"].into_iter().filter(|token| has(token));
    let mut closing: Vec<String> = closing.map(|token| token.replace('\'', "`")).collect();
    if expected.contains("'}'") {
        closing.push("`}`".to_owned());
    }
    if expected.contains("','") {
        closing.push("`,`".to_owned());
    }
    match closing.is_empty() {
        true => "something else".to_owned(),
        false => closing.join(" or "),
    }
}

/// What stands here, as a person would call it.
fn found(rest: &str) -> String {
    let is_of_word = |next: &char| next.is_ascii_alphanumeric() || *next == '_';
    let Some(first) = rest.chars().next() else {
        return "the end".to_owned();
    };
    if starts_string(rest) {
        return "a string".to_owned();
    }
    if first.is_ascii_digit() {
        return "a number".to_owned();
    }
    if is_of_word(&first) {
        let word: String = rest.chars().take_while(is_of_word).collect();
        return format!("`{word}`");
    }
    let pairs = ["&&", "||", "==", "!=", "<=", ">="];
    match pairs.iter().find(|pair| rest.starts_with(**pair)) {
        Some(pair) => format!("`{pair}`"),
        None if first == '`' => "a name between backticks".to_owned(),
        None => format!("`{}`", first.escape_default()),
    }
}
