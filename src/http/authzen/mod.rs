//! OpenID AuthZEN Authorization API 1.0: the same checks and lists in the words of that standard.
//!
//! An entity `{"type", "id"}` is the object `type:id`, an action a permission. What `properties` say goes into the context of caveats,
//! as `subject`, `action` and `resource`. Members that are not known are ignored, as the standard asks.

pub mod evaluation;
pub mod metadata;
pub mod search;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use inferadb_engine::context::{Context, Value};
use inferadb_engine::noun::{Name, ObjectId, ObjectRef, SubjectRef};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::body;
use super::contexts::Contexts;
use super::problem::Problem;
use super::wire::at;

/// A subject or a resource.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Entity<'a> {
    #[serde(borrow, rename = "type")]
    object_type: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    properties: Option<&'a RawValue>,
}

/// A subject or a resource that is searched for: whatever its `id` is, it is not looked at.
#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Sought<'a> {
    #[serde(borrow, rename = "type")]
    object_type: Cow<'a, str>,
    #[serde(borrow, default)]
    properties: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(remote = "Self")]
struct Action<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    properties: Option<&'a RawValue>,
}

body::objects!(Entity<'a>, Sought<'a>, Action<'a>);

impl Entity<'_> {
    fn subject(&self) -> Result<SubjectRef, Problem> {
        let id = match &*self.id {
            // Everybody of the type, as a search of subjects finds it.
            "*" => ObjectId::wildcard(),
            id => at("subject.id", ObjectId::parse(id))?,
        };
        Ok(SubjectRef {
            object_type: at("subject.type", Name::parse(&self.object_type))?,
            id,
            relation: None,
        })
    }

    fn resource(&self) -> Result<ObjectRef, Problem> {
        Ok(ObjectRef {
            object_type: at("resource.type", Name::parse(&self.object_type))?,
            id: at("resource.id", ObjectId::parse(&self.id))?,
        })
    }

    /// As the log has it.
    fn text(&self) -> String {
        format!("{}:{}", self.object_type, self.id)
    }
}

impl Action<'_> {
    fn permission(&self) -> Result<Name, Problem> {
        at("action.name", Name::parse(&self.name))
    }
}

/// The parts of a request that caveats are asked with.
#[derive(Clone, Copy)]
struct Parts<'b> {
    context: Option<&'b RawValue>,
    subject: Option<&'b RawValue>,
    action: Option<&'b RawValue>,
    resource: Option<&'b RawValue>,
}

impl<'b> Parts<'b> {
    /// The context, and the properties of the subject, the action and the resource.
    const fn new(
        context: Option<&'b RawValue>,
        [subject, action, resource]: [Option<&'b RawValue>; 3],
    ) -> Self {
        Self {
            context,
            subject,
            action,
            resource,
        }
    }

    /// The request's context, and in it the properties of its entities. An entity without properties is an empty object there, unless the
    /// context has something by its name.
    fn read(&self, contexts: &mut Contexts) -> Result<Context, Problem> {
        let mut all = contexts.read("context", self.context)?;
        for (name, field, properties) in [
            ("subject", "subject.properties", self.subject),
            ("action", "action.properties", self.action),
            ("resource", "resource.properties", self.resource),
        ] {
            if properties.is_some() {
                let properties = contexts.read(field, properties)?;
                all.insert(name.to_owned(), Value::Map(properties));
            } else if !all.contains_key(name) {
                all.insert(name.to_owned(), Value::Map(Context::new()));
            }
        }
        Ok(all)
    }

    /// How long they are, in bytes of JSON.
    fn bytes(&self) -> usize {
        let parts = [self.context, self.subject, self.action, self.resource];
        parts.iter().flatten().map(|part| part.get().len()).sum()
    }

    /// Where in the body they stand: what stands in one place need not be read twice.
    fn places(&self) -> [usize; 4] {
        [self.context, self.subject, self.action, self.resource]
            .map(|part| part.map_or(0, |part| part.get().as_ptr() as usize))
    }
}

/// What the evaluations of a request were asked with so far. Most of them share it.
struct Shared {
    contexts: Contexts,
    read: HashMap<[usize; 4], Arc<Context>>,
}

impl Shared {
    fn new(contexts: Contexts) -> Self {
        Self {
            contexts,
            read: HashMap::new(),
        }
    }

    /// What caveats are asked with, and how many bytes had to be read for it.
    fn read(&mut self, parts: Parts<'_>) -> Result<(Arc<Context>, usize), Problem> {
        if let Some(context) = self.read.get(&parts.places()) {
            return Ok((Arc::clone(context), 0));
        }
        let context = Arc::new(parts.read(&mut self.contexts)?);
        self.read.insert(parts.places(), Arc::clone(&context));
        Ok((context, parts.bytes()))
    }
}

/// Refuses a body that says it is something else than JSON, which the standard has every request say.
fn require_json(request: &HttpRequest) -> Result<(), Problem> {
    let is_json = |given: &[u8]| {
        let essence = given.split(|byte| *byte == b';').next().unwrap_or_default();
        essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
    };
    let mut given = request.headers().get_all(CONTENT_TYPE);
    match given.all(|value| is_json(value.as_bytes())) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_content_type",
            "the request's `Content-Type` must be `application/json`",
        )),
    }
}

/// A problem with the member at fault named as the standard names it.
fn in_its_words(problem: Problem) -> Problem {
    let field = match (problem.code, problem.field.as_deref()) {
        ("unknown_permission", _) => Some("action.name"),
        ("unknown_type", Some("resource" | "resource_type")) => Some("resource.type"),
        ("unknown_type", _) => Some("subject.type"),
        ("invalid_cursor", _) => Some("page.token"),
        _ => return problem,
    };
    Problem {
        field: field.map(str::to_owned),
        ..problem
    }
}
