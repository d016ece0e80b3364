//! SpiceDB's validation files: `schema` or `schemaFile`, `relationships`, `assertions` and `validation`.

use std::collections::BTreeSet;

use inferadb_engine::noun::{Relationship, SubjectRef};

use super::flaw::{Flaw, Place, Unfit};
use super::store::tuples_alone;
use super::suite::{Expectable, Expectation, Expected, ExpectedSubject, Group, Placed, Suite};
use super::yaml::{Content, Key, Node, Scalar};
use super::{Compile, Files, inline_schema, schema_of_file, unknown};
use crate::notation::{InvalidText, parse_check, parse_object_and_permission, parse_relationship};

const MEMBERS: [&str; 5] = [
    "schema",
    "schemaFile",
    "relationships",
    "assertions",
    "validation",
];
/// The members of `assertions`, and what they expect.
const ASSERTIONS: [(&str, Expectable); 3] = [
    ("assertTrue", Expectable::Allow),
    ("assertFalse", Expectable::Deny),
    ("assertCaveated", Expectable::Conditional),
];

/// Reads the members of a validation file that begins at `start`.
pub(super) fn read(
    start: Place,
    members: &[(Key, Node)],
    files: &dyn Files,
    compile: Compile,
) -> Result<Suite, Unfit> {
    let mut schema = None;
    let mut relationships = Vec::new();
    let mut group = Group::default();
    for (key, node) in members {
        match key.text.as_str() {
            name @ ("schema" | "schemaFile") if schema.is_some() => {
                let message = format!("`{name}`: there is a schema already");
                return Err(Flaw::at(key.place, message).into());
            }
            "schema" => schema = Some(inline_schema(node, node.text("schema")?, compile)?),
            "schemaFile" => schema = Some(schema_of_file(node, "schemaFile", files, compile)?),
            "relationships" => relationships = all_relationships(node)?,
            "assertions" => assertions(node, &mut group.expectations)?,
            "validation" => validation(node, &mut group.expectations)?,
            _ => return Err(unknown(key, &MEMBERS).into()),
        }
    }
    let Some((schema, schema_text)) = schema else {
        return Err(Flaw::at(start, "the file has neither `schema` nor `schemaFile`").into());
    };
    Ok(Suite {
        schema,
        schema_text,
        relationships,
        groups: vec![group],
    })
}

/// Reads relationships alone: one a line, or the member `relationships` of a validation file, or an OpenFGA store's `tuples`, as a
/// member or a list of their own.
pub fn relationships(text: &str, is_yaml: bool) -> Result<Vec<Placed<Relationship>>, Flaw> {
    if is_yaml {
        let Some(root) = Node::parse(text)? else {
            return Ok(Vec::new());
        };
        if let Some(tuples) = tuples_alone(&root)? {
            return Ok(tuples);
        }
        let members = root.members("relationships")?.iter();
        let mut found = members.filter(|(key, _)| key.text == "relationships");
        return found
            .next()
            .map_or(Ok(Vec::new()), |(_, node)| all_relationships(node));
    }
    let place = |number, line: &str| Place {
        line: number,
        column: column_of(line),
    };
    lines_of(text)
        .map(|(number, line)| parsed(line, place(number, line), parse_relationship(line)))
        .collect()
}

/// The lines that hold relationships, with their numbers.
fn lines_of(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1_u32..).zip(text.lines()).filter(|(_, line)| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with("//")
    })
}

/// The column of a line's first character that is no white space, from 1.
fn column_of(line: &str) -> u32 {
    let indent = line.chars().take_while(|next| next.is_whitespace()).count();
    u32::try_from(indent).map_or(1, |indent| indent + 1)
}

/// Relationships one a line, or one an item of a list.
fn all_relationships(node: &Node) -> Result<Vec<Placed<Relationship>>, Flaw> {
    if let Content::List(items) = &node.content {
        let item = |item: &Node| {
            let text = &item.text("relationships")?.text;
            parsed(text, item.place, parse_relationship(text))
        };
        return items.iter().map(item).collect();
    }
    if node.is_null() {
        return Ok(Vec::new());
    }
    let scalar = node.text("relationships")?;
    lines_of(&scalar.text)
        .map(|(number, line)| {
            let place = place_of(node, scalar, number, line);
            parsed(line, place, parse_relationship(line))
        })
        .collect()
}

/// Where a line of a text stands in the file; where the text is not written line for line, the text's own place.
fn place_of(node: &Node, scalar: &Scalar, number: u32, line: &str) -> Place {
    scalar
        .place_of(node.place, number, column_of(line))
        .unwrap_or(node.place)
}

fn parsed(
    text: &str,
    place: Place,
    outcome: Result<Relationship, InvalidText>,
) -> Result<Placed<Relationship>, Flaw> {
    match outcome {
        Ok(value) => Ok(Placed {
            value,
            file: None,
            place,
        }),
        Err(error) => Err(refused(text, place, &error)),
    }
}

fn refused(text: &str, place: Place, error: &InvalidText) -> Flaw {
    Flaw::at(
        place,
        format!("`{}`: {error}", super::yaml::shortened(text.trim())),
    )
}

fn assertions(node: &Node, expectations: &mut Vec<Expectation>) -> Result<(), Flaw> {
    for (key, list) in node.members("assertions")? {
        let found = ASSERTIONS.iter().find(|(name, _)| *name == key.text);
        let Some((name, expected)) = found else {
            return Err(unknown(key, &ASSERTIONS.map(|(name, _)| name)));
        };
        for item in list.items(name)? {
            let text = &item.text(name)?.text;
            let check = parse_check(text).map_err(|error| refused(text, item.place, &error))?;
            expectations.push(Expectation {
                text: text.trim().to_owned(),
                place: item.place,
                kind: Expected::Decision(check, *expected),
            });
        }
    }
    Ok(())
}

fn validation(node: &Node, expectations: &mut Vec<Expectation>) -> Result<(), Flaw> {
    for (key, list) in node.members("validation")? {
        let (resource, permission) =
            parse_object_and_permission(&key.text).map_err(|error| refused(&key.text, key.place, &error))?;
        let mut subjects: Vec<ExpectedSubject> = Vec::new();
        let mut named = BTreeSet::new();
        for item in list.items(&key.text)? {
            let text = &item.text("validation")?.text;
            let subject = expected_subject(text).map_err(|error| refused(text, item.place, &error))?;
            if !named.insert(subject.subject.clone()) {
                let message = format!("`{}` is expected twice", subject.subject);
                return Err(Flaw::at(item.place, message));
            }
            subjects.push(subject);
        }
        expectations.push(Expectation {
            text: format!("subjects of {}", key.text),
            place: key.place,
            kind: Expected::Subjects {
                resource,
                permission,
                subjects,
            },
        });
    }
    Ok(())
}

/// Reads `[user:a] is <document:1#viewer>/<document:1#owner>`, where the brackets may hold `user:a[...]` (it depends on a
/// caveat) or `user:* - {user:b, user:c[...]}`.
fn expected_subject(text: &str) -> Result<ExpectedSubject, InvalidText> {
    let invalid = || InvalidText("expected `[subject] is <resource#relation>`".to_owned());
    let rest = text.trim().strip_prefix('[').ok_or_else(invalid)?;
    let end = match rest.find("] is ") {
        Some(end) => end,
        None => rest.strip_suffix(']').ok_or_else(invalid)?.len(),
    };
    let inner = rest.get(..end).unwrap_or_default().trim();
    let through = places(rest.get(end..).unwrap_or_default())?;
    let (subject, except) = match inner.split_once(" - {") {
        Some((subject, except)) => (subject.trim(), except.strip_suffix('}').ok_or_else(invalid)?),
        None => (inner, ""),
    };
    let (subject, conditional) = marked(subject)?;
    let except: Vec<&str> = except
        .split(',')
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .collect();
    if !except.is_empty() && !subject.id.is_wildcard() {
        return Err(InvalidText("only a wildcard can have exceptions".to_owned()));
    }
    Ok(ExpectedSubject {
        subject,
        conditional,
        except: except.into_iter().map(marked).collect::<Result<_, _>>()?,
        through,
    })
}

/// Reads `<document:1#viewer>/<document:1#owner>`. Whatever stands between the pointed brackets is left alone, as in SpiceDB.
fn places(mut text: &str) -> Result<BTreeSet<String>, InvalidText> {
    let mut places = BTreeSet::new();
    while let Some((_, rest)) = text.split_once('<') {
        let (place, rest) = rest
            .split_once('>')
            .ok_or_else(|| InvalidText("a `<` without its `>`".to_owned()))?;
        let (object, member) = parse_object_and_permission(place)?;
        places.insert(format!("{object}#{member}"));
        text = rest;
    }
    Ok(places)
}

/// A subject, and whether `[...]` follows it.
fn marked(text: &str) -> Result<(SubjectRef, bool), InvalidText> {
    let (subject, conditional) = match text.strip_suffix("[...]") {
        Some(subject) => (subject, true),
        None => (text, false),
    };
    Ok((SubjectRef::parse(subject)?, conditional))
}
