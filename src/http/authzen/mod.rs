//! OpenID AuthZEN Authorization API 1.0: the same checks and lists in the words of that standard.
//!
//! An entity `{"type", "id"}` is the object `type:id`, an action a permission. What `properties` say goes into the context of caveats,
//! as `subject`, `action` and `resource`. Members that are not known are ignored, as the standard asks.

pub mod evaluation;
pub mod metadata;
pub mod search;

use std::borrow::Cow;
use std::fmt::Display;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use inferadb_engine::context::{Context, Value};
use inferadb_engine::noun::{InvalidNoun, Name, ObjectId, ObjectRef, SubjectRef};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::body;
use super::problem::Problem;
use super::wire::{at, parse_context};

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
    fn object(&self) -> Result<ObjectRef, InvalidNoun> {
        Ok(ObjectRef {
            object_type: Name::parse(&self.object_type)?,
            id: ObjectId::parse(&self.id)?,
        })
    }

    /// The subject, in the request's member `subject`.
    fn subject(&self) -> Result<SubjectRef, Problem> {
        let ObjectRef { object_type, id } = at("subject", self.object())?;
        Ok(SubjectRef {
            object_type,
            id,
            relation: None,
        })
    }

    /// The resource, in the request's member `resource`.
    fn resource(&self) -> Result<ObjectRef, Problem> {
        at("resource", self.object())
    }

    /// As logs and other answers have it.
    fn text(&self) -> String {
        format!("{}:{}", self.object_type, self.id)
    }
}

impl Action<'_> {
    fn permission(&self) -> Result<Name, Problem> {
        at("action.name", Name::parse(&self.name))
    }
}

/// What caveats are asked with: the request's context, and in it the properties of its entities. An entity without properties is an
/// empty object there, unless the context has something by its name.
fn context_of(
    context: Option<&RawValue>,
    entities: [(&str, Option<&RawValue>); 3],
    max_bytes: usize,
) -> Result<Context, Problem> {
    let mut all = parse_context("context", context, max_bytes)?;
    for (name, properties) in entities {
        let Some(properties) = properties else {
            all.entry(name.to_owned())
                .or_insert_with(|| Value::Map(Context::new()));
            continue;
        };
        let parsed = parse_context(&format!("{name}.properties"), Some(properties), max_bytes)?;
        all.insert(name.to_owned(), Value::Map(parsed));
    }
    Ok(all)
}

/// Refuses a body that says it is something else than JSON, which the standard has every request say.
fn require_json(request: &HttpRequest) -> Result<(), Problem> {
    let Some(given) = request.headers().get(CONTENT_TYPE) else {
        return Ok(());
    };
    let essence = given.to_str().unwrap_or_default().split(';').next();
    match essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json")) {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_content_type",
            "the request's `Content-Type` must be `application/json`",
        )),
    }
}

fn missing(member: impl Display) -> Problem {
    let detail = format!("the request's body: missing field `{member}`");
    Problem::invalid("missing_field", member.to_string(), detail)
}
