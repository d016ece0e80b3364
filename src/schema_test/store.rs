//! OpenFGA's stores: `model` or `model_file`, `tuples` and `tuple_file`, and `tests` of checks and lists.

use std::collections::BTreeSet;
use std::sync::Arc;

use inferadb_actors::CheckRequest;
use inferadb_engine::context::Context;
use inferadb_engine::noun::{CaveatRef, InvalidNoun, Name, ObjectRef, Relationship, SubjectRef};

use super::flaw::{Flaw, Place, Unfit};
use super::suite::{Expectable, Expectation, Expected, Group, Placed, Suite};
use super::yaml::{Content, Key, Node, context};
use super::{Compile, Files, inline_schema, model_of_files, unknown};

/// The members of a store file.
pub(super) const MEMBERS: [&str; 7] = [
    "model",
    "model_file",
    "tuples",
    "tuple_file",
    "tuple_files",
    "tests",
    "name",
];
const TEST: [&str; 8] = [
    "name",
    "description",
    "tuples",
    "tuple_file",
    "tuple_files",
    "check",
    "list_objects",
    "list_users",
];
const TUPLE: [&str; 4] = ["user", "relation", "object", "condition"];
const CHECK: [&str; 6] = ["user", "users", "object", "objects", "context", "assertions"];
const LIST_OBJECTS: [&str; 4] = ["user", "type", "context", "assertions"];
const LIST_USERS: [&str; 4] = ["object", "user_filter", "context", "assertions"];
/// What the expectations of one file may weigh, in bytes: all users are checked on all objects, so a short file can hold very many.
const MAX_EXPECTATION_BYTES: usize = 64 << 20;
/// What an expectation weighs beside its text, in bytes.
const EXPECTATION_BYTES: usize = 512;

/// Reads the members of a store file.
pub(super) fn read(members: &[(Key, Node)], files: &dyn Files, compile: Compile) -> Result<Suite, Unfit> {
    let mut model = None;
    let mut relationships = Vec::new();
    let mut groups = Vec::new();
    let mut left = MAX_EXPECTATION_BYTES;
    for (key, node) in members {
        match key.text.as_str() {
            name @ ("model" | "model_file") if model.is_some() => {
                return Err(Flaw::at(key.place, format!("`{name}`: there is a model already")).into());
            }
            "model" | "model_file" => model = Some((key, node)),
            "tests" => {
                for test in node.items("tests")? {
                    groups.push(group(test, files, &mut left)?);
                }
            }
            "name" => {}
            name => {
                if !add_tuples(name, node, files, &mut relationships)? {
                    return Err(unknown(key, &MEMBERS).into());
                }
            }
        }
    }
    let Some((key, node)) = model else {
        let place = members
            .first()
            .map_or(Place { line: 1, column: 1 }, |(key, _)| key.place);
        return Err(Flaw::at(place, "the store has neither `model` nor `model_file`").into());
    };
    let (schema, schema_text) = match key.text.as_str() {
        "model" => inline_schema(node, node.text("model")?, compile)?,
        _ => model_of_files(node, "model_file", files, compile)?,
    };
    Ok(Suite {
        schema,
        schema_text,
        relationships,
        groups,
    })
}

/// What a test expects, and how much more the tests of its file may.
struct Expectations<'a> {
    list: Vec<Expectation>,
    left_bytes: &'a mut usize,
}

impl Expectations<'_> {
    fn push(&mut self, expectation: Expectation) -> Result<(), Unfit> {
        let bytes = EXPECTATION_BYTES + expectation.text.len();
        let left = self.left_bytes.checked_sub(bytes);
        *self.left_bytes = left.ok_or_else(|| {
            let place = expectation.place;
            Unfit::TooLarge(format!(
                "the tests expect too much for one file, from line {} on",
                place.line
            ))
        })?;
        self.list.push(expectation);
        Ok(())
    }
}

fn group(test: &Node, files: &dyn Files, left_bytes: &mut usize) -> Result<Group, Unfit> {
    let mut group = Group::default();
    let mut expectations = Expectations {
        list: Vec::new(),
        left_bytes,
    };
    for (key, node) in test.members("tests")? {
        match key.text.as_str() {
            "name" => group.name = Some(node.text("name")?.text.clone()),
            "description" => {}
            "check" => each(node, "check", &mut expectations, checks)?,
            "list_objects" => each(node, "list_objects", &mut expectations, object_lists)?,
            "list_users" => each(node, "list_users", &mut expectations, user_lists)?,
            name => {
                if !add_tuples(name, node, files, &mut group.relationships)? {
                    return Err(unknown(key, &TEST).into());
                }
            }
        }
    }
    group.expectations = expectations.list;
    Ok(group)
}

fn each(
    list: &Node,
    what: &str,
    expectations: &mut Expectations<'_>,
    read: fn(&Fields<'_>, &mut Expectations<'_>) -> Result<(), Unfit>,
) -> Result<(), Unfit> {
    let known: &[&str] = match what {
        "check" => &CHECK,
        "list_objects" => &LIST_OBJECTS,
        _ => &LIST_USERS,
    };
    for item in list.items(what)? {
        read(&Fields::of(item, what, known)?, expectations)?;
    }
    Ok(())
}

/// Adds the tuples of a member of that name; says whether it is one of tuples.
fn add_tuples(
    name: &str,
    node: &Node,
    files: &dyn Files,
    relationships: &mut Vec<Placed<Relationship>>,
) -> Result<bool, Flaw> {
    match name {
        "tuples" => {
            for item in node.items("tuples")? {
                relationships.push(tuple(item)?);
            }
        }
        "tuple_file" => tuples_of_file(node, files, relationships)?,
        "tuple_files" => {
            for item in node.items("tuple_files")? {
                tuples_of_file(item, files, relationships)?;
            }
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Reads a file of tuples: a YAML or JSON list.
fn tuples_of_file(
    node: &Node,
    files: &dyn Files,
    relationships: &mut Vec<Placed<Relationship>>,
) -> Result<(), Flaw> {
    let path = &node.text("tuple_file")?.text;
    if path.trim().ends_with(".csv") || path.trim().ends_with(".jsonl") {
        let message = format!("`tuple_file`: `{path}` must be YAML or JSON");
        return Err(Flaw::at(node.place, message));
    }
    let text = files
        .read(path)
        .map_err(|error| Flaw::at(node.place, format!("`tuple_file`: {error}")))?;
    let file: Arc<str> = path.as_str().into();
    let within = |flaw: Flaw| Flaw {
        file: Some(path.clone()),
        ..flaw
    };
    let Some(root) = Node::parse(&text).map_err(within)? else {
        return Ok(());
    };
    for item in list_of_tuples(&root)
        .unwrap_or(&root)
        .items("tuples")
        .map_err(within)?
    {
        relationships.push(Placed {
            file: Some(Arc::clone(&file)),
            ..tuple(item).map_err(within)?
        });
    }
    Ok(())
}

/// What may be a list of tuples: the whole, or the member of a map that holds one, as exports do.
fn list_of_tuples(root: &Node) -> Option<&Node> {
    match &root.content {
        Content::Map(members) => {
            let found = members.iter().find(|(key, _)| key.text == "tuples");
            found.map(|(_, list)| list)
        }
        _ => Some(root),
    }
}

/// The tuples of a file that is a list of them, or a map with `tuples`; `None` for any other map.
pub(super) fn tuples_alone(root: &Node) -> Result<Option<Vec<Placed<Relationship>>>, Flaw> {
    let Some(list) = list_of_tuples(root) else {
        return Ok(None);
    };
    let tuples = list.items("tuples")?.iter().map(tuple);
    tuples.collect::<Result<_, _>>().map(Some)
}

/// The members of one map, each looked up by its name.
struct Fields<'a> {
    place: Place,
    what: &'a str,
    members: &'a [(Key, Node)],
}

impl<'a> Fields<'a> {
    fn of(node: &'a Node, what: &'a str, known: &[&str]) -> Result<Self, Flaw> {
        let members = node.members(what)?;
        match members
            .iter()
            .find(|(key, _)| !known.contains(&key.text.as_str()))
        {
            Some((key, _)) => Err(unknown(key, known)),
            None => Ok(Self {
                place: node.place,
                what,
                members,
            }),
        }
    }

    fn find(&self, name: &str) -> Option<&'a Node> {
        let found = self.members.iter().find(|(key, _)| key.text == name);
        found.map(|(_, node)| node)
    }

    fn get(&self, name: &str) -> Result<&'a Node, Flaw> {
        self.find(name)
            .ok_or_else(|| Flaw::at(self.place, format!("`{}` has no `{name}`", self.what)))
    }

    /// The one of member `one`, or those of the list `many`.
    fn one_or_many(&self, one: &str, many: &str) -> Result<Vec<&'a Node>, Flaw> {
        match (self.find(one), self.find(many)) {
            (Some(one), None) => Ok(vec![one]),
            (None, Some(list)) => Ok(list.items(many)?.iter().collect()),
            _ => Err(Flaw::at(
                self.place,
                format!("`{}` must have either `{one}` or `{many}`", self.what),
            )),
        }
    }

    fn context(&self) -> Result<Arc<Context>, Flaw> {
        match self.find("context") {
            Some(node) => Ok(Arc::new(context(node.members("context")?))),
            None => Ok(Arc::default()),
        }
    }

    /// The relations that something is asserted of.
    fn assertions(&self) -> Result<&'a [(Key, Node)], Flaw> {
        self.get("assertions")?.members("assertions")
    }
}

/// A noun that a node names.
fn noun<T>(node: &Node, what: &str, parse: fn(&str) -> Result<T, InvalidNoun>) -> Result<T, Flaw> {
    let text = &node.text(what)?.text;
    parse(text).map_err(|error| Flaw::at(node.place, format!("`{what}`: {error}")))
}

fn relation(key: &Key) -> Result<Name, Flaw> {
    Name::parse(&key.text).map_err(|error| Flaw::at(key.place, error.to_string()))
}

fn tuple(item: &Node) -> Result<Placed<Relationship>, Flaw> {
    let fields = Fields::of(item, "tuples", &TUPLE)?;
    let caveat = match fields.find("condition").filter(|node| !node.is_null()) {
        None => None,
        Some(node) => {
            let condition = Fields::of(node, "condition", &["name", "context"])?;
            Some(CaveatRef {
                name: noun(condition.get("name")?, "name", Name::parse)?,
                context: Arc::unwrap_or_clone(condition.context()?),
            })
        }
    };
    Ok(Placed {
        value: Relationship {
            resource: noun(fields.get("object")?, "object", ObjectRef::parse)?,
            relation: noun(fields.get("relation")?, "relation", Name::parse)?,
            subject: noun(fields.get("user")?, "user", SubjectRef::parse)?,
            caveat,
            expires_at: None,
        },
        file: None,
        place: item.place,
    })
}

fn checks(fields: &Fields<'_>, expectations: &mut Expectations<'_>) -> Result<(), Unfit> {
    let context = fields.context()?;
    let users = fields.one_or_many("user", "users")?.into_iter();
    let users = users.map(|user| noun(user, "user", SubjectRef::parse));
    let objects = fields.one_or_many("object", "objects")?.into_iter();
    let objects = objects.map(|object| noun(object, "object", ObjectRef::parse));
    let (users, objects): (Vec<_>, Vec<_>) = (
        users.collect::<Result<_, Flaw>>()?,
        objects.collect::<Result<_, Flaw>>()?,
    );
    let assertions = fields.assertions()?;
    if assertions.is_empty() {
        return Ok(());
    }
    for subject in &users {
        for resource in &objects {
            for (key, wanted) in assertions {
                let permission = relation(key)?;
                let expected = match wanted.truth(&key.text)? {
                    true => Expectable::Allow,
                    false => Expectable::Deny,
                };
                let check = CheckRequest {
                    subject: subject.clone(),
                    resource: resource.clone(),
                    permission,
                    context: Arc::clone(&context),
                    contextual: Arc::default(),
                    trace: false,
                };
                expectations.push(Expectation {
                    text: format!("{resource}#{}@{subject}", key.text),
                    place: key.place,
                    kind: Expected::Decision(check, expected),
                })?;
            }
        }
    }
    Ok(())
}

fn object_lists(fields: &Fields<'_>, expectations: &mut Expectations<'_>) -> Result<(), Unfit> {
    let context = fields.context()?;
    let subject = noun(fields.get("user")?, "user", SubjectRef::parse)?;
    let object_type = noun(fields.get("type")?, "type", Name::parse)?;
    for (key, wanted) in fields.assertions()? {
        let objects = wanted.items(&key.text)?.iter();
        let objects = objects.map(|item| noun(item, "object", ObjectRef::parse));
        expectations.push(Expectation {
            text: format!("{object_type} objects with {}@{subject}", key.text),
            place: key.place,
            kind: Expected::Objects {
                subject: subject.clone(),
                permission: relation(key)?,
                object_type: object_type.clone(),
                context: Arc::clone(&context),
                objects: objects.collect::<Result<_, _>>()?,
            },
        })?;
    }
    Ok(())
}

fn user_lists(fields: &Fields<'_>, expectations: &mut Expectations<'_>) -> Result<(), Unfit> {
    let context = fields.context()?;
    let resource = noun(fields.get("object")?, "object", ObjectRef::parse)?;
    let mut kinds = BTreeSet::new();
    for item in fields.get("user_filter")?.items("user_filter")? {
        let kind = Fields::of(item, "user_filter", &["type", "relation"])?;
        let of = noun(kind.get("type")?, "type", Name::parse)?;
        let member = kind
            .find("relation")
            .map(|node| noun(node, "relation", Name::parse));
        kinds.insert((of, member.transpose()?));
    }
    let kinds: Arc<[_]> = kinds.into_iter().collect();
    for (key, wanted) in fields.assertions()? {
        let wanted = Fields::of(wanted, &key.text, &["users"])?;
        let users = wanted.get("users")?.items("users")?.iter();
        let users = users.map(|item| noun(item, "users", SubjectRef::parse));
        expectations.push(Expectation {
            text: format!("users of {resource}#{}", key.text),
            place: key.place,
            kind: Expected::Users {
                resource: resource.clone(),
                permission: relation(key)?,
                kinds: Arc::clone(&kinds),
                context: Arc::clone(&context),
                users: users.collect::<Result<_, _>>()?,
            },
        })?;
    }
    Ok(())
}
