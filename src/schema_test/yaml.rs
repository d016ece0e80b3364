//! YAML with places: a tree in which every node knows its line and column, so that errors can name them.
//!
//! JSON is YAML, so this reads both. Aliases, tags that are not of the core schema, and a second document are refused;
//! depth and size are bounded.

use std::collections::{BTreeMap, HashSet};

use inferadb_actors::background;
use inferadb_engine::context::Value;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle};

use super::flaw::{Flaw, Place};

/// How deeply lists and maps may lie in one another.
const MAX_DEPTH: usize = 64;
/// How many nodes a text may have.
const MAX_NODES: usize = 1_000_000;

/// A node and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content {
    /// A text, number, truth value or null.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order in which it was written.
    Map(Vec<(Key, Node)>),
}

/// The key of a map's member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) place: Place,
}

/// A scalar as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Whether it is written without quotes, and so may be other than a text.
    plain: bool,
    /// Whether it is a block (`|`): its lines are those of the file, and it begins where the first of them that is not
    /// blank does.
    block: bool,
}

impl Node {
    /// Reads a text; nothing but white space and comments is `None`.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, Flaw> {
        // A byte order mark is no part of the text.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Reader::default().document(text)
    }

    /// The text of a scalar that is not null.
    pub(super) fn text(&self, what: &str) -> Result<&Scalar, Flaw> {
        match &self.content {
            Content::Scalar(scalar) if !scalar.is_null() => Ok(scalar),
            _ => Err(self.unlike(what, "a text")),
        }
    }

    /// A truth value.
    pub(super) fn truth(&self, what: &str) -> Result<bool, Flaw> {
        match &self.content {
            Content::Scalar(scalar) if scalar.plain => match scalar.text.as_str() {
                "true" | "True" | "TRUE" => Ok(true),
                "false" | "False" | "FALSE" => Ok(false),
                _ => Err(self.unlike(what, "`true` or `false`")),
            },
            _ => Err(self.unlike(what, "`true` or `false`")),
        }
    }

    /// The items of a list; none where there is nothing.
    pub(super) fn items(&self, what: &str) -> Result<&[Self], Flaw> {
        match &self.content {
            Content::List(items) => Ok(items),
            Content::Scalar(scalar) if scalar.is_null() => Ok(&[]),
            _ => Err(self.unlike(what, "a list")),
        }
    }

    /// The members of a map; none where there is nothing.
    pub(super) fn members(&self, what: &str) -> Result<&[(Key, Self)], Flaw> {
        match &self.content {
            Content::Map(members) => Ok(members),
            Content::Scalar(scalar) if scalar.is_null() => Ok(&[]),
            _ => Err(self.unlike(what, "a map")),
        }
    }

    /// Whether there is nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(scalar) if scalar.is_null())
    }

    /// The node as a value of a context.
    pub(super) fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(scalar) => scalar.value(),
            Content::List(items) => Value::List(items.iter().map(Self::value).collect()),
            Content::Map(members) => Value::Map(context(members)),
        }
    }

    /// An error about this node: it is not what it should be.
    fn unlike(&self, what: &str, wanted: &str) -> Flaw {
        let found = match &self.content {
            Content::Scalar(scalar) if scalar.is_null() => "nothing".to_owned(),
            Content::Scalar(scalar) => format!("`{}`", shortened(&scalar.text)),
            Content::List(_) => "a list".to_owned(),
            Content::Map(_) => "a map".to_owned(),
        };
        Flaw::at(self.place, format!("`{what}` must be {wanted}, and not {found}"))
    }
}

/// The members of a map as a context.
pub(super) fn context(members: &[(Key, Node)]) -> BTreeMap<String, Value> {
    members
        .iter()
        .map(|(key, node)| (key.text.clone(), node.value()))
        .collect()
}

impl Scalar {
    /// Where in the file a place within the text is, both counted from 1; `start` is where the scalar begins. `None`
    /// where the text is not written line for line.
    pub(super) fn place_of(&self, start: Place, line: u32, column: u32) -> Option<Place> {
        if self.block {
            let blank = self.text.bytes().take_while(|byte| *byte == b'\n').count();
            let blank = u32::try_from(blank).unwrap_or(u32::MAX);
            return Some(Place {
                line: start.line.saturating_sub(blank) + line - 1,
                column: start.column + column - 1,
            });
        }
        (self.plain && line == 1).then_some(Place {
            line: start.line,
            column: start.column + column - 1,
        })
    }

    fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The value, by YAML's core schema.
    fn value(&self) -> Value {
        let text = self.text.as_str();
        if !self.plain {
            return Value::String(text.to_owned());
        }
        match text {
            _ if self.is_null() => return Value::Null,
            "true" | "True" | "TRUE" => return Value::Bool(true),
            "false" | "False" | "FALSE" => return Value::Bool(false),
            _ => {}
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.starts_with(|next: char| next.is_ascii_digit() || next == '.') {
            if let Ok(number) = text.parse::<i64>() {
                return Value::Int(number);
            }
            if let Ok(number) = text.parse::<u64>() {
                return Value::Uint(number);
            }
            if let Some(number) = text.parse::<f64>().ok().filter(|number| number.is_finite()) {
                return Value::Double(number);
            }
        }
        Value::String(text.to_owned())
    }
}

/// A list or map that is not complete yet.
enum Open {
    List(Place, Vec<Node>),
    Map {
        place: Place,
        members: Vec<(Key, Node)>,
        seen: HashSet<String>,
        key: Option<Key>,
    },
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    root: Option<Node>,
    nodes: usize,
}

impl Reader {
    fn document(mut self, source: &str) -> Result<Option<Node>, Flaw> {
        let mut documents = 0;
        for event in Parser::new_from_str(source) {
            background::breathe();
            let (event, span) =
                event.map_err(|error| Flaw::at(place_of(error.marker()), error.info().to_owned()))?;
            let place = place_of(&span.start);
            match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Flaw::at(place, "the file holds a second document"));
                    }
                }
                Event::Alias(_) => return Err(Flaw::at(place, "aliases are not read here")),
                Event::Scalar(text, style, _, tag) => {
                    if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
                        return Err(Flaw::at(place, "tags are not read here"));
                    }
                    let scalar = Scalar {
                        text: text.into_owned(),
                        plain: style == ScalarStyle::Plain,
                        block: style == ScalarStyle::Literal,
                    };
                    self.scalar(place, scalar)?;
                }
                Event::SequenceStart(..) => self.open(place, Open::List(place, Vec::new()))?,
                Event::MappingStart(..) => {
                    let map = Open::Map {
                        place,
                        members: Vec::new(),
                        seen: HashSet::new(),
                        key: None,
                    };
                    self.open(place, map)?;
                }
                Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                    Some(Open::List(place, items)) => self.add(place, Content::List(items))?,
                    Some(Open::Map { place, members, .. }) => self.add(place, Content::Map(members))?,
                    None => {}
                },
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            }
        }
        Ok(self.root)
    }

    fn open(&mut self, place: Place, open: Open) -> Result<(), Flaw> {
        if self.open.len() >= MAX_DEPTH {
            return Err(Flaw::at(
                place,
                format!("nested more than {MAX_DEPTH} levels deep"),
            ));
        }
        if matches!(self.open.last(), Some(Open::Map { key: None, .. })) {
            return Err(Flaw::at(place, "a list or map cannot be a key here"));
        }
        self.open.push(open);
        Ok(())
    }

    /// Adds a scalar: the key of the map that is open, or a value.
    fn scalar(&mut self, place: Place, scalar: Scalar) -> Result<(), Flaw> {
        if let Some(Open::Map {
            key: key @ None,
            seen,
            ..
        }) = self.open.last_mut()
        {
            let text = scalar.text;
            if !seen.insert(text.clone()) {
                return Err(Flaw::at(place, format!("`{}` is given twice", shortened(&text))));
            }
            *key = Some(Key { text, place });
            return Ok(());
        }
        self.add(place, Content::Scalar(scalar))
    }

    fn add(&mut self, place: Place, content: Content) -> Result<(), Flaw> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(Flaw::at(
                place,
                format!("the file has more than {MAX_NODES} values"),
            ));
        }
        let node = Node { place, content };
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List(_, items)) => items.push(node),
            Some(Open::Map { members, key, .. }) => members.extend(key.take().map(|key| (key, node))),
        }
        Ok(())
    }
}

fn place_of(marker: &Marker) -> Place {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place {
        line: number(marker.line()),
        column: number(marker.col()).saturating_add(1),
    }
}

/// A text as an error may repeat it.
pub(super) fn shortened(text: &str) -> String {
    let mut shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        shown.push('…');
    }
    shown
}
