//! Takes a vault file apart as its bytes come: finds where each member, relationship or line ends, and holds no more than one.
//!
//! It only looks for the ends. Whether what lies between is JSON is found out by whoever parses it.

mod scan;

use actix_web::http::StatusCode;

use self::scan::Scan;
use super::Layout;
use crate::http::problem::Problem;

/// The longest name of a member, in bytes with its quotes.
const MAX_NAME_BYTES: usize = 256;
/// The most white space between two things, in bytes.
const MAX_BLANK_BYTES: usize = 64 << 10;
/// The longest value of a member other than those that have bounds of their own, in bytes.
pub const MAX_MEMBER_BYTES: usize = 64 << 10;
/// The member that is taken apart further.
const RELATIONSHIPS: &str = "relationships";
/// The member that may be large.
pub const SCHEMA: &str = "schema";

/// How large the parts of a file may be, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// One relationship.
    pub relationship: usize,
    /// The schema as a member, or one line without a relationship.
    pub member: usize,
    /// The schema's text.
    pub schema: usize,
    /// The context of one relationship.
    pub context: usize,
}

/// Where something stands in a file, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in bytes.
    pub column: u32,
}

/// A part of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A member of the file's one object: its name and its value.
    Member(&'a str, &'a [u8]),
    /// The relationships begin.
    Relationships,
    /// One of them.
    Relationship(&'a [u8]),
    /// A line that is not blank.
    Line(&'a [u8]),
}

/// Takes a file apart.
pub struct Splitter {
    bounds: Bounds,
    state: State,
    /// What has come of the part that has not ended.
    held: Vec<u8>,
    /// Where that began.
    start: Place,
    /// Where the next byte stands.
    place: Place,
    /// The member that is being read.
    name: String,
    /// How much white space has come since the last thing that was none.
    blank: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the object.
    Start,
    /// Before a member's name; or, if it is the first, the object's end.
    Name {
        first: bool,
    },
    /// Within a member's name.
    InName {
        escaped: bool,
    },
    Colon,
    /// Before a member's value.
    Value,
    InValue(Scan),
    AfterValue,
    /// Before a relationship; or, if it is the first, the end of the list.
    Item {
        first: bool,
    },
    InItem(Scan),
    AfterItem,
    /// Behind the object.
    End,
    /// In a file of lines.
    Line,
}

impl Place {
    const START: Self = Self { line: 1, column: 1 };

    fn advance(&mut self, bytes: &[u8]) {
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if at > 0 {
                self.line = self.line.saturating_add(1);
                self.column = 1;
            }
            self.column = self.column.saturating_add(count(line.len()));
        }
    }

    /// The place `line` and `column`, from 1, of a text that begins here.
    pub fn within(self, line: u32, column: u32) -> Self {
        match line {
            0 | 1 => Self {
                line: self.line,
                column: self.column.saturating_add(column.max(1) - 1),
            },
            _ => Self {
                line: self.line.saturating_add(line - 1),
                column,
            },
        }
    }

    /// A problem with what stands here.
    pub fn problem(self, code: &'static str, detail: impl Into<String>) -> Problem {
        self.of(Problem::new(StatusCode::BAD_REQUEST, code, detail))
    }

    /// The same problem, of what stands here.
    pub fn of(self, problem: Problem) -> Problem {
        Problem {
            position: Some((self.line, self.column)),
            ..problem
        }
    }
}

impl Splitter {
    pub fn new(layout: Layout, bounds: Bounds) -> Self {
        Self {
            bounds,
            state: match layout {
                Layout::Json => State::Start,
                Layout::Lines => State::Line,
            },
            held: Vec::new(),
            start: Place::START,
            place: Place::START,
            name: String::new(),
            blank: 0,
        }
    }

    /// Where the next byte stands.
    pub const fn place(&self) -> Place {
        self.place
    }

    /// Takes further bytes and hands on every part that ends in them.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        mut take: impl FnMut(Piece<'_>, Place) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        while let Some(&byte) = bytes.first() {
            let taken = match self.state {
                State::Line => self.line(bytes, &mut take)?,
                State::InName { escaped } => self.within_name(bytes, escaped)?,
                State::InValue(scan) | State::InItem(scan) => self.within_value(bytes, scan, &mut take)?,
                _ => self.between(byte, &mut take)?,
            };
            let (taken, rest) = bytes.split_at(taken);
            self.place.advance(taken);
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the file; refuses one that is not whole.
    pub fn end(
        &mut self,
        mut take: impl FnMut(Piece<'_>, Place) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        match self.state {
            State::End => Ok(()),
            State::Line => self.line_ends(&mut take),
            State::Start => Err(self.place.problem("malformed_json", "the file is empty")),
            _ => {
                let detail = "the file ends before its end: it was cut";
                Err(self.place.problem("truncated", detail))
            }
        }
    }

    /// A byte outside of names and values. Answers how many bytes it took: none of a value's first.
    fn between(
        &mut self,
        byte: u8,
        take: &mut impl FnMut(Piece<'_>, Place) -> Result<(), Problem>,
    ) -> Result<usize, Problem> {
        if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
            self.add_blank(1)?;
            return Ok(1);
        }
        self.blank = 0;
        self.state = match (self.state, byte) {
            (State::Start, b'{') => State::Name { first: true },
            (State::Name { first: true } | State::AfterValue, b'}') => State::End,
            (State::Name { .. }, b'"') => {
                self.hold(&[byte], MAX_NAME_BYTES)?;
                State::InName { escaped: false }
            }
            (State::Colon, b':') => State::Value,
            (State::Value, b'[') if self.name == RELATIONSHIPS => {
                take(Piece::Relationships, self.place)?;
                State::Item { first: true }
            }
            (State::Value, _) if self.name == RELATIONSHIPS => {
                let mut problem = self
                    .place
                    .problem("invalid_value", "`relationships` must be a list");
                problem.field = Some(RELATIONSHIPS.to_owned());
                return Err(problem);
            }
            (State::AfterValue, b',') => State::Name { first: false },
            (State::Item { first: true } | State::AfterItem, b']') => State::AfterValue,
            (State::AfterItem, b',') => State::Item { first: false },
            (State::Value, byte) if begins_value(byte) => {
                self.start = self.place;
                self.state = State::InValue(Scan::START);
                return Ok(0);
            }
            (State::Item { .. }, byte) if begins_value(byte) => {
                self.start = self.place;
                self.state = State::InItem(Scan::START);
                return Ok(0);
            }
            (state, byte) => {
                let (expected, found) = (expected(state), char::from(byte).escape_debug());
                let detail = match byte.is_ascii() {
                    true => format!("expected {expected}, found `{found}`"),
                    false => format!("expected {expected}"),
                };
                return Err(self.place.problem("malformed_json", detail));
            }
        };
        Ok(1)
    }

    fn within_name(&mut self, bytes: &[u8], mut escaped: bool) -> Result<usize, Problem> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'"' if !escaped => {
                    self.hold(bytes.get(..=at).unwrap_or_default(), MAX_NAME_BYTES)?;
                    self.name = serde_json::from_slice(&self.held).map_err(|_| {
                        self.start
                            .problem("malformed_json", "the name of a member is not JSON")
                    })?;
                    self.held.clear();
                    self.state = State::Colon;
                    return Ok(at + 1);
                }
                b'\\' if !escaped => escaped = true,
                _ => escaped = false,
            }
        }
        self.hold(bytes, MAX_NAME_BYTES)?;
        self.state = State::InName { escaped };
        Ok(bytes.len())
    }

    fn within_value(
        &mut self,
        bytes: &[u8],
        mut scan: Scan,
        take: &mut impl FnMut(Piece<'_>, Place) -> Result<(), Problem>,
    ) -> Result<usize, Problem> {
        let is_item = matches!(self.state, State::InItem(_));
        let most = match (is_item, self.name.as_str()) {
            (true, _) => self.bounds.relationship,
            (false, SCHEMA) => self.bounds.member,
            (false, _) => self.bounds.member.min(MAX_MEMBER_BYTES),
        };
        let end = scan.end(bytes, !self.held.is_empty());
        let taken = end.unwrap_or(bytes.len());
        self.hold(bytes.get(..taken).unwrap_or_default(), most)?;
        if end.is_none() {
            self.state = if is_item {
                State::InItem(scan)
            } else {
                State::InValue(scan)
            };
            return Ok(taken);
        }
        if is_item {
            take(Piece::Relationship(&self.held), self.start)?;
            self.state = State::AfterItem;
        } else {
            take(Piece::Member(&self.name, &self.held), self.start)?;
            self.state = State::AfterValue;
        }
        self.held.clear();
        // A large one is the exception.
        self.held.shrink_to(MAX_BLANK_BYTES);
        Ok(taken)
    }

    fn line(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(Piece<'_>, Place) -> Result<(), Problem>,
    ) -> Result<usize, Problem> {
        if self.held.is_empty() {
            self.start = self.place;
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |at| at + 1);
        let most = self.bounds.member.max(self.bounds.relationship);
        self.hold(bytes.get(..taken).unwrap_or_default(), most)?;
        if end.is_some() {
            self.line_ends(take)?;
        }
        Ok(taken)
    }

    fn line_ends(
        &mut self,
        take: &mut impl FnMut(Piece<'_>, Place) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let line = self.held.trim_ascii();
        if line.is_empty() {
            self.add_blank(self.held.len())?;
        } else {
            let before = self.held.len() - self.held.trim_ascii_start().len();
            let start = self
                .start
                .within(1, u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1));
            take(Piece::Line(line), start)?;
            self.blank = 0;
        }
        self.held.clear();
        self.held.shrink_to(MAX_BLANK_BYTES);
        Ok(())
    }

    fn hold(&mut self, bytes: &[u8], most: usize) -> Result<(), Problem> {
        if matches!(self.state, State::Name { .. }) {
            self.start = self.place;
        }
        if self.held.len() + bytes.len() > most {
            let (code, what) = match self.state {
                State::InItem(_) => ("too_large", "a relationship"),
                State::Line => ("too_large", "a line"),
                State::InValue(_) => ("too_large", "a member"),
                _ => ("malformed_json", "the name of a member"),
            };
            let status = match code {
                "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
                _ => StatusCode::BAD_REQUEST,
            };
            let detail = format!("{what} is at most {most} bytes long");
            return Err(self.start.of(Problem::new(status, code, detail)));
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn add_blank(&mut self, bytes: usize) -> Result<(), Problem> {
        self.blank += bytes;
        if self.blank <= MAX_BLANK_BYTES {
            return Ok(());
        }
        let detail = format!("more than {MAX_BLANK_BYTES} bytes of white space");
        Err(self.place.problem("malformed_json", detail))
    }
}

const fn begins_value(byte: u8) -> bool {
    !matches!(byte, b',' | b'}' | b']' | b':')
}

const fn expected(state: State) -> &'static str {
    match state {
        State::Start => "`{`",
        State::Name { first: true } => "the name of a member or `}`",
        State::Name { .. } => "the name of a member",
        State::Colon => "`:`",
        State::Value => "a value",
        State::AfterValue => "`,` or `}`",
        State::Item { first: true } => "a relationship or `]`",
        State::Item { .. } => "a relationship",
        State::AfterItem => "`,` or `]`",
        State::End => "nothing more",
        State::InName { .. } | State::InValue(_) | State::InItem(_) | State::Line => "more",
    }
}

#[cfg(test)]
mod tests;
