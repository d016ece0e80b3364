//! Reads vault files as their bytes come: what stands before the relationships, pages of them, and whether the file is whole.

mod said;

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use inferadb_actors::MAX_TRANSFER_PAGE as MAX_PAGE;
use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::Format;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use self::said::{Said, within};
use super::Layout;
use super::checksum::{Checksum, line_of};
use super::split::{Bounds, Piece, Place, Splitter};
use crate::http::body;
use crate::http::contexts::Contexts;
use crate::http::problem::Problem;
use crate::http::wire::RelationshipBody;

/// From how many bytes on a page is full, whatever it has of relationships.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// A file that is being read.
pub struct Reader {
    splitter: Splitter,
    parts: Parts,
}

/// What stands before the relationships.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The schema and its language, if the file has one.
    pub schema: Option<(Format, String)>,
}

/// Relationships in the order of the file.
#[derive(Debug, Default)]
pub struct Page {
    /// The relationships.
    pub relationships: Vec<Relationship>,
    /// The place of the first in the file, from 0.
    pub first: u64,
    /// Where each begins.
    pub places: Vec<Place>,
    /// How long they are in the file, in bytes, or shorter than that.
    bytes: usize,
}

/// What a whole file came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Totals {
    /// How many relationships it has.
    pub relationships: u64,
    /// Whether it had a checksum, which was right.
    pub is_checked: bool,
}

/// What is known of the file so far.
struct Parts {
    layout: Layout,
    bounds: Bounds,
    said: Said,
    head: Option<Head>,
    /// Whether the limits were handed on.
    limits_taken: bool,
    /// Whether the relationships have begun.
    begun: bool,
    /// In a file of lines: whether there was a first line that is no relationship, and a last one.
    prefaced: bool,
    ended: bool,
    /// Whether that first line says no more than a revision, as the one line of a read that found nothing.
    only_revision: bool,
    page: Page,
    read: u64,
    sum: Checksum,
}

/// The members of an object in their order, whatever they are.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// Whether an object has a member that only relationships have.
#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    resource: Option<IgnoredAny>,
    #[serde(default)]
    relation: Option<IgnoredAny>,
    #[serde(default)]
    subject: Option<IgnoredAny>,
}

impl Reader {
    /// Reads a file that is laid out so.
    pub fn new(layout: Layout, bounds: Bounds) -> Self {
        Self {
            splitter: Splitter::new(layout, bounds),
            parts: Parts {
                layout,
                bounds,
                said: Said::default(),
                head: None,
                limits_taken: false,
                begun: false,
                prefaced: false,
                ended: false,
                only_revision: false,
                page: Page::default(),
                read: 0,
                sum: Checksum::new(),
            },
        }
    }

    /// Takes further bytes.
    ///
    /// # Errors
    ///
    /// What is wrong with them, with line and column; then there is nothing more to be had from the file.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.splitter
            .push(bytes, |piece, place| self.parts.take(piece, place))
    }

    /// What stands before the relationships, once that is known; once.
    pub fn head(&mut self) -> Option<Head> {
        self.parts.head.take()
    }

    /// Relationships that came, once they fill a page.
    pub fn full_page(&mut self) -> Option<Page> {
        let page = &self.parts.page;
        let is_full = page.relationships.len() >= MAX_PAGE || page.bytes >= MAX_PAGE_BYTES;
        if is_full { self.page() } else { None }
    }

    /// Relationships that came, a page of them at most.
    pub fn page(&mut self) -> Option<Page> {
        let page = &mut self.parts.page;
        let most = page.relationships.len().min(MAX_PAGE);
        if most == 0 {
            return None;
        }
        let mut rest = Page {
            relationships: page.relationships.split_off(most),
            places: page.places.split_off(most),
            ..Page::default()
        };
        rest.first = page.first + most as u64;
        Some(std::mem::replace(page, rest))
    }

    /// The vault's own limits, once they have come; once.
    pub fn limits(&mut self) -> Option<Map<String, Value>> {
        let limits = self.parts.said.limits()?;
        let was_taken = std::mem::replace(&mut self.parts.limits_taken, true);
        (!was_taken).then(|| limits.clone())
    }

    /// How many relationships have come.
    pub const fn count(&self) -> u64 {
        self.parts.read
    }

    /// Ends the file. What it still holds, a head or relationships, can be had afterwards.
    ///
    /// # Errors
    ///
    /// That it is not whole, or not what its count and checksum say.
    pub fn end(&mut self) -> Result<Totals, Problem> {
        self.splitter.end(|piece, place| self.parts.take(piece, place))?;
        self.parts.end(self.splitter.place())
    }
}

impl Page {
    /// Says of a problem with a relationship of this page where in the file that stands: it names it as `relationships[index]`.
    pub fn located(&self, problem: Problem) -> Problem {
        let index = problem.field.as_deref().and_then(|field| {
            let (index, rest) = field.strip_prefix("relationships[")?.split_once(']')?;
            Some((index.parse::<usize>().ok()?, rest.to_owned()))
        });
        let Some((index, rest)) = index else {
            return problem;
        };
        let Some(place) = self.places.get(index) else {
            return problem;
        };
        let here = format!("relationships[{index}]");
        let there = format!("relationships[{}]", self.first + index as u64);
        let detail = problem.detail.replace(&here, &there);
        place.of(Problem {
            field: Some(format!("{there}{rest}")),
            detail,
            ..problem
        })
    }
}

impl Parts {
    fn take(&mut self, piece: Piece<'_>, place: Place) -> Result<(), Problem> {
        match piece {
            Piece::Member(name, value) => self.member(name, value, place),
            Piece::Relationships => {
                self.said.meet("relationships", place)?;
                self.begin(place)
            }
            Piece::Relationship(bytes) => self.relationship(bytes, place),
            Piece::Line(bytes) => self.line(bytes, place),
        }
    }

    fn line(&mut self, bytes: &[u8], place: Place) -> Result<(), Problem> {
        if self.ended {
            return Err(place.problem("malformed_json", "there are lines behind the last one"));
        }
        if is_relationship(bytes) {
            if !self.begun {
                self.begin(place)?;
            }
            return self.relationship(bytes, place);
        }
        let members: Members<'_> = body::json(bytes).map_err(|problem| within(place, problem))?;
        let is_first = !self.begun;
        if is_first {
            self.prefaced = true;
            self.only_revision = matches!(&members.0[..], [(name, _)] if name == "revision");
        } else {
            self.ended = true;
        }
        for (name, value) in members.0 {
            if name == "relationships" {
                let detail =
                    "`relationships` do not stand within a line: this is a file of JSON, not of lines";
                return Err(place.problem("malformed_json", detail));
            }
            self.member(&name, value.get().as_bytes(), place)?;
        }
        if is_first { self.begin(place) } else { Ok(()) }
    }

    fn relationship(&mut self, bytes: &[u8], place: Place) -> Result<(), Problem> {
        let index = self.read;
        let field = format!("relationships[{index}]");
        let inside = |problem: Problem| Problem {
            field: Some(match &problem.field {
                Some(inner) => format!("{field}.{inner}"),
                None => field.clone(),
            }),
            ..within(place, problem)
        };
        // The members without their names, as a list, are not offered anywhere.
        if !bytes.starts_with(b"{") {
            let problem =
                Problem::invalid("invalid_value", field.as_str(), "a relationship is a JSON object");
            return Err(place.of(problem));
        }
        let body: RelationshipBody<'_> = body::json(bytes).map_err(inside)?;
        let relationship = body
            .parse(&field, &mut Contexts::with_most(0, self.bounds.context))
            .map_err(|problem| place.of(problem))?;
        self.sum.add(&relationship, &line_of(&relationship));
        self.page.relationships.push(relationship);
        self.page.places.push(place);
        self.page.bytes += bytes.len();
        self.read += 1;
        Ok(())
    }

    /// Takes in a member of the file that is not the relationships.
    fn member(&mut self, name: &str, value: &[u8], place: Place) -> Result<(), Problem> {
        if self.begun && matches!(name, "schema" | "schema_format") {
            let detail = format!("`{name}` must stand before the relationships: they are read as they come");
            return Err(place.of(Problem::invalid("invalid_value", name, detail)));
        }
        self.said.member(name, value, place, self.bounds.schema)
    }

    /// The relationships begin: what a file says of its schema it has said.
    fn begin(&mut self, place: Place) -> Result<(), Problem> {
        self.begun = true;
        let schema = self.said.schema(place)?;
        self.head = Some(Head { schema });
        Ok(())
    }

    fn end(&mut self, place: Place) -> Result<Totals, Problem> {
        if !self.begun {
            let problem = match self.layout {
                Layout::Json => {
                    let detail = "a vault file must have a list of `relationships`, which may be empty";
                    Problem::invalid("missing_field", "relationships", detail)
                }
                Layout::Lines => Problem::new(StatusCode::BAD_REQUEST, "malformed_json", "the file is empty"),
            };
            return Err(place.of(problem));
        }
        let is_empty_read = self.only_revision && self.read == 0;
        if self.prefaced && !self.ended && !is_empty_read {
            let detail = "the file has no last line with its `relationship_count`: it was cut";
            return Err(place.problem("truncated", detail));
        }
        let sum = std::mem::replace(&mut self.sum, Checksum::new());
        let is_checked = self.said.compare(self.read, sum, place)?;
        Ok(Totals {
            relationships: self.read,
            is_checked,
        })
    }
}

/// Whether a line is a relationship. Where it is no JSON the reason is best told of what most lines are.
fn is_relationship(line: &[u8]) -> bool {
    if line.starts_with(b"{\"resource\"") {
        return true;
    }
    match serde_json::from_slice::<Kind>(line) {
        Ok(kind) if line.starts_with(b"{") => {
            kind.resource.is_some() || kind.relation.is_some() || kind.subject.is_some()
        }
        _ => false,
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a relationship, or a JSON object with what else a vault file says")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                /// More are not known.
                const MOST: usize = 20;
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    if members.len() == MOST {
                        return Err(A::Error::custom("too many members"));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests;
