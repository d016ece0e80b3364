//! Reads vault files as their bytes come: what stands before the relationships, pages of them, and whether the file is whole.

use std::borrow::Cow;
use std::fmt;
use std::mem::take;

use actix_web::http::StatusCode;
use inferadb_actors::MAX_TRANSFER_PAGE as MAX_PAGE;
use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::Format;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::checksum::{Checksum, line_of};
use super::split::{Bounds, Piece, Place, Splitter};
use super::{CHECKSUM_KIND, FORMAT, Layout, VERSION};
use crate::http::body;
use crate::http::problem::Problem;
use crate::http::schema::refuse_long;
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
    /// The members that were met.
    met: Vec<String>,
    schema: Option<Schema>,
    schema_format: Option<Format>,
    limits: Option<Map<String, Value>>,
    count: Option<u64>,
    checksum: Option<String>,
    head: Option<Head>,
    /// Whether the relationships have begun.
    begun: bool,
    /// In a file of lines: whether there was a first line that is no relationship, and a last one.
    prefaced: bool,
    ended: bool,
    page: Page,
    read: u64,
    sum: Checksum,
}

struct Schema {
    text: String,
    /// What it says of its own language.
    format: Option<Format>,
}

/// A schema as `{"format","text"}`, or an OpenFGA model.
#[derive(Deserialize)]
struct SchemaObject<'a> {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(borrow, default)]
    type_definitions: Option<&'a RawValue>,
}

/// What is taken from the vault's own record: the rest is for people.
#[derive(Deserialize)]
struct VaultBody {
    #[serde(default)]
    limits: Option<Map<String, Value>>,
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
                met: Vec::new(),
                schema: None,
                schema_format: None,
                limits: None,
                count: None,
                checksum: None,
                head: None,
                begun: false,
                prefaced: false,
                ended: false,
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

    /// The vault's own limits, as far as they have come.
    pub fn limits(&mut self) -> Option<Map<String, Value>> {
        self.parts.limits.clone()
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
                self.meet("relationships", place)?;
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
            .parse(&field, self.bounds.context)
            .map_err(|problem| place.of(problem))?;
        self.sum.add(&relationship, &line_of(&relationship));
        self.page.relationships.push(relationship);
        self.page.places.push(place);
        self.page.bytes += bytes.len();
        self.read += 1;
        Ok(())
    }

    fn meet(&mut self, name: &str, place: Place) -> Result<(), Problem> {
        if self.met.iter().any(|met| met == name) {
            let detail = format!("the member `{}` is given twice", name.escape_debug());
            return Err(place.of(Problem::invalid("invalid_value", name, detail)));
        }
        self.met.push(name.to_owned());
        Ok(())
    }

    /// Takes in a member of the file; where it is one of the few that are known.
    fn member(&mut self, name: &str, value: &[u8], place: Place) -> Result<(), Problem> {
        let wrong = |problem: Problem| Problem {
            field: Some(match &problem.field {
                Some(inner) => format!("{name}.{inner}"),
                None => name.to_owned(),
            }),
            ..within(place, problem)
        };
        let refused = |code, detail: String| place.of(Problem::invalid(code, name, detail));
        match name {
            "format" => {
                let format: String = body::json(value).map_err(wrong)?;
                if format != FORMAT {
                    let detail = format!("`format` is `{FORMAT}`, this is `{}`", format.escape_debug());
                    return Err(refused("unknown_format", detail));
                }
            }
            "version" => {
                let version: u64 = body::json(value).map_err(wrong)?;
                if version != VERSION {
                    let detail =
                        format!("this server reads version {VERSION} of vault files, this is {version}");
                    return Err(refused("unsupported_version", detail));
                }
            }
            "exported_at" | "revision" => {
                let _: Option<String> = body::json(value).map_err(wrong)?;
            }
            "vault" if value.starts_with(b"[") => {
                return Err(refused("invalid_value", "`vault` is a JSON object".to_owned()));
            }
            "vault" => {
                let vault: Option<VaultBody> = body::json(value).map_err(wrong)?;
                self.limits = vault.and_then(|vault| vault.limits);
            }
            "schema" | "schema_format" if self.begun => {
                let detail =
                    format!("`{name}` must stand before the relationships: they are read as they come");
                return Err(refused("invalid_value", detail));
            }
            "schema" => self.schema = self.schema(value).map_err(wrong)?,
            "schema_format" => {
                let format: Option<String> = body::json(value).map_err(wrong)?;
                self.schema_format = format.as_deref().map(language).transpose().map_err(wrong)?;
            }
            "relationship_count" => self.count = Some(body::json(value).map_err(wrong)?),
            "checksum" => {
                let checksum: String = body::json(value).map_err(wrong)?;
                let digest = checksum.strip_prefix(CHECKSUM_KIND);
                if digest.is_none_or(|digest| digest.len() != 64) {
                    let detail = format!("`checksum` must be `{CHECKSUM_KIND}` and 64 hexadecimal digits");
                    return Err(refused("invalid_value", detail));
                }
                self.checksum = Some(checksum.to_ascii_lowercase());
            }
            other => {
                let detail = format!("a vault file has no member `{}`", other.escape_debug());
                return Err(refused("unknown_field", detail));
            }
        }
        self.meet(name, place)
    }

    /// A schema's text as it is, as `{"format","text"}`, or the JSON of an OpenFGA model.
    fn schema(&self, value: &[u8]) -> Result<Option<Schema>, Problem> {
        let schema = match value.first() {
            Some(b'{') => {
                let object: SchemaObject<'_> = body::json(value)?;
                let format = object.format.as_deref().map(language).transpose()?;
                match (object.text, object.type_definitions) {
                    (Some(text), None) => Schema { text, format },
                    (None, Some(_)) => Schema {
                        text: String::from_utf8_lossy(value).into_owned(),
                        format: Some(Format::OpenFga),
                    },
                    _ => {
                        let detail = "a schema is a text, `{\"format\",\"text\"}`, or an OpenFGA model";
                        return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_value", detail));
                    }
                }
            }
            _ => match body::json::<Option<String>>(value)? {
                Some(text) => Schema { text, format: None },
                None => return Ok(None),
            },
        };
        refuse_long(&schema.text, self.bounds.schema)?;
        Ok(Some(schema))
    }

    /// The relationships begin: what a file says of its schema it has said.
    fn begin(&mut self, place: Place) -> Result<(), Problem> {
        self.begun = true;
        let said = self.schema.as_ref().and_then(|schema| schema.format);
        let format = match (said, self.schema_format) {
            (Some(said), Some(beside)) if said != beside => {
                let detail = "`schema_format` and the schema name different languages";
                return Err(place.of(Problem::invalid("invalid_value", "schema_format", detail)));
            }
            (said, beside) => said.or(beside).unwrap_or(Format::Native),
        };
        self.schema_format = self.schema.as_ref().map(|_| format);
        let schema = self.schema.as_ref().map(|schema| (format, schema.text.clone()));
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
        if self.prefaced && !self.ended {
            let detail = "the file has no last line with its `relationship_count`: it was cut";
            return Err(place.problem("truncated", detail));
        }
        if let Some(count) = self.count.filter(|count| *count != self.read) {
            let detail = format!(
                "the file is said to have {count} relationships, and has {}",
                self.read
            );
            return Err(place.of(Problem::invalid("count_mismatch", "relationship_count", detail)));
        }
        let sum = std::mem::replace(&mut self.sum, Checksum::new());
        let schema = take(&mut self.schema).map(|schema| schema.text);
        let format = self.schema_format.map(Format::name);
        let limits = self.limits.clone().unwrap_or_default();
        let sum = sum.finish(schema.as_deref(), format, &limits);
        if self.checksum.as_ref().is_some_and(|checksum| *checksum != sum) {
            let detail = "the file's checksum is not that of its contents: it was damaged, or changed without taking \
                          `checksum` out";
            return Err(place.of(Problem::invalid("checksum_mismatch", "checksum", detail)));
        }
        Ok(Totals {
            relationships: self.read,
            is_checked: self.checksum.is_some(),
        })
    }
}

/// A problem with a part of the file that begins at `place`: where that knows its position, it is one within the part.
fn within(place: Place, problem: Problem) -> Problem {
    let place = match problem.position {
        Some((line, column)) => place.within(line, column),
        None => place,
    };
    Problem {
        detail: problem.detail.replacen("the request's body: ", "", 1),
        ..place.of(problem)
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

fn language(name: &str) -> Result<Format, Problem> {
    Format::named(name).ok_or_else(|| {
        let detail = format!(
            "a schema's language is `native` or `openfga`, this is `{}`",
            name.escape_debug()
        );
        Problem::new(StatusCode::BAD_REQUEST, "invalid_value", detail)
    })
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
