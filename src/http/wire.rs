//! The wire's shapes and how they become the engine's nouns. Bad input ends here, with the member that is at fault.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::sync::Arc;

use inferadb_actors::{
    Consistency, MAX_CONTEXTUAL_RELATIONSHIPS, Precondition, RelationshipFilter, Revision, SubjectRelation,
    VaultId,
};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::noun::{
    CaveatRef, InvalidNoun, Name, ObjectId, ObjectRef, Relationship, RelationshipKey, SubjectRef, Timestamp,
};
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::body;
use super::contexts::Contexts;
use super::problem::Problem;

/// A relationship in JSON.
#[derive(Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct RelationshipBody<'a> {
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    relation: Cow<'a, str>,
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow, default)]
    caveat: Option<CaveatBody<'a>>,
    #[serde(borrow, default)]
    expires_at: Option<Cow<'a, str>>,
}

/// A caveat on a relationship in JSON.
#[derive(Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct CaveatBody<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, default)]
    context: Option<&'a RawValue>,
}

/// A filter in JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields, default)]
pub struct FilterBody {
    resource_type: Option<String>,
    resource_id: Option<String>,
    resource_id_prefix: Option<String>,
    relation: Option<String>,
    subject_type: Option<String>,
    subject_id: Option<String>,
    subject_relation: Option<String>,
}

body::objects!(RelationshipBody<'a>, CaveatBody<'a>, FilterBody, PreconditionBody);

/// A precondition in JSON: one of the two.
#[derive(Debug, Deserialize)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct PreconditionBody {
    /// Something must match.
    #[serde(default)]
    must_exist: Option<FilterBody>,
    /// Nothing may match.
    #[serde(default)]
    must_not_exist: Option<FilterBody>,
}

/// A consistency in JSON.
#[derive(Debug, Default)]
pub enum ConsistencyBody {
    /// Whatever can be answered at once.
    #[default]
    MinimizeLatency,
    /// Everything committed before the request.
    FullyConsistent,
    /// At least what this revision shows.
    AtLeastAsFresh(String),
}

impl<'de> Deserialize<'de> for ConsistencyBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Mode;

        impl<'de> Visitor<'de> for Mode {
            type Value = ConsistencyBody;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "`minimize_latency`, `fully_consistent` or an object with a revision as `at_least_as_fresh`",
                )
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ConsistencyBody, E> {
                match text {
                    "minimize_latency" => Ok(ConsistencyBody::MinimizeLatency),
                    "fully_consistent" => Ok(ConsistencyBody::FullyConsistent),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ConsistencyBody, A::Error> {
                let wrong = || A::Error::invalid_value(Unexpected::Map, &self);
                if map.next_key::<Cow<'de, str>>()?.ok_or_else(wrong)? != "at_least_as_fresh" {
                    return Err(wrong());
                }
                let token = map.next_value()?;
                match map.next_key::<Cow<'de, str>>()? {
                    Some(_) => Err(wrong()),
                    None => Ok(ConsistencyBody::AtLeastAsFresh(token)),
                }
            }
        }

        deserializer.deserialize_any(Mode)
    }
}

impl ConsistencyBody {
    /// The consistency, for a vault whose revision tokens are accepted.
    pub fn parse(&self, vault: VaultId) -> Result<Consistency, Problem> {
        Ok(match self {
            Self::MinimizeLatency => Consistency::MinimizeLatency,
            Self::FullyConsistent => Consistency::FullyConsistent,
            Self::AtLeastAsFresh(token) => {
                Consistency::AtLeast(Revision::decode(vault, token).map_err(|error| {
                    Problem::invalid(
                        "invalid_revision",
                        "consistency.at_least_as_fresh",
                        error.to_string(),
                    )
                })?)
            }
        })
    }
}

/// Names the member that a noun came from; its name is only put together where it is told.
pub fn at<T>(field: impl Display, noun: Result<T, InvalidNoun>) -> Result<T, Problem> {
    noun.map_err(|invalid| {
        let detail = format!("{field}: {invalid}");
        Problem::invalid("invalid_value", field.to_string(), detail)
    })
}

impl RelationshipBody<'_> {
    /// The relationship; `field` names where in the request it stands.
    pub fn parse(&self, field: impl Display, contexts: &mut Contexts) -> Result<Relationship, Problem> {
        let RelationshipKey {
            resource,
            relation,
            subject,
        } = self.parse_key(&field)?;
        let caveat = match &self.caveat {
            Some(caveat) => Some(caveat.parse(&format!("{field}.caveat"), contexts)?),
            None => None,
        };
        let expires_at = match &self.expires_at {
            Some(text) => Some(parse_time(&format!("{field}.expires_at"), text)?),
            None => None,
        };
        Ok(Relationship {
            resource,
            relation,
            subject,
            caveat,
            expires_at,
        })
    }

    /// What identifies it, whatever its caveat and expiry.
    pub fn parse_key(&self, field: impl Display) -> Result<RelationshipKey, Problem> {
        Ok(RelationshipKey {
            resource: at(format_args!("{field}.resource"), ObjectRef::parse(&self.resource))?,
            relation: at(format_args!("{field}.relation"), Name::parse(&self.relation))?,
            subject: at(format_args!("{field}.subject"), SubjectRef::parse(&self.subject))?,
        })
    }
}

impl CaveatBody<'_> {
    fn parse(&self, field: &str, contexts: &mut Contexts) -> Result<CaveatRef, Problem> {
        let name = at(format_args!("{field}.name"), Name::parse(&self.name))?;
        let context = contexts.read_stored(&format!("{field}.context"), self.context)?;
        Ok(CaveatRef { name, context })
    }
}

impl FilterBody {
    /// The filter; `field` names where in the request it stands.
    pub fn parse(&self, field: &str) -> Result<RelationshipFilter, Problem> {
        if self.resource_id.is_some() && self.resource_id_prefix.is_some() {
            let field = format!("{field}.resource_id_prefix");
            let detail = "`resource_id` and `resource_id_prefix` exclude each other";
            return Err(Problem::invalid("invalid_value", field, detail));
        }
        let name = |member: &str, text: &Option<String>| match text {
            Some(text) => at(format_args!("{field}.{member}"), Name::parse(text)).map(Some),
            None => Ok(None),
        };
        let id = |member: &str, text: &Option<String>| match text.as_deref() {
            Some("*") if member == "subject_id" => Ok(Some(ObjectId::wildcard())),
            Some(text) => at(format_args!("{field}.{member}"), ObjectId::parse(text)).map(Some),
            None => Ok(None),
        };
        let prefix = match self.resource_id_prefix.as_deref() {
            // Whatever can start an id is an id itself, but for the lone `*`.
            Some("") | None => None,
            Some(text) => Some(
                at(format_args!("{field}.resource_id_prefix"), ObjectId::parse(text))?
                    .as_str()
                    .to_owned(),
            ),
        };
        let subject_relation = match self.subject_relation.as_deref() {
            None => None,
            Some("" | "...") => Some(SubjectRelation::Plain),
            Some(text) => Some(SubjectRelation::Userset(at(
                format_args!("{field}.subject_relation"),
                Name::parse(text),
            )?)),
        };
        Ok(RelationshipFilter {
            resource_type: name("resource_type", &self.resource_type)?,
            resource_id: id("resource_id", &self.resource_id)?,
            resource_id_prefix: prefix,
            relation: name("relation", &self.relation)?,
            subject_type: name("subject_type", &self.subject_type)?,
            subject_id: id("subject_id", &self.subject_id)?,
            subject_relation,
        })
    }
}

/// The relationships of a request's member `field`.
pub fn parse_relationships(
    field: impl Display,
    bodies: &[RelationshipBody<'_>],
    contexts: &mut Contexts,
) -> Result<Vec<Relationship>, Problem> {
    let parse = |(index, body): (usize, &RelationshipBody<'_>)| {
        body.parse(format_args!("{field}[{index}]"), contexts)
    };
    bodies.iter().enumerate().map(parse).collect()
}

/// The keys of the relationships of a request's member `field`; their caveats and expiries are not looked at.
pub fn parse_keys(field: &str, bodies: &[RelationshipBody<'_>]) -> Result<Vec<RelationshipKey>, Problem> {
    let parse =
        |(index, body): (usize, &RelationshipBody<'_>)| body.parse_key(format_args!("{field}[{index}]"));
    bodies.iter().enumerate().map(parse).collect()
}

/// The relationships that count for a request, or a check of a batch, alone.
pub fn parse_contextual(
    field: impl Display,
    bodies: &[RelationshipBody<'_>],
    contexts: &mut Contexts,
) -> Result<Arc<[Relationship]>, Problem> {
    let (count, most) = (bodies.len(), MAX_CONTEXTUAL_RELATIONSHIPS);
    if count > most {
        let detail = format!("at most {most} contextual relationships in `{field}`, this one has {count}");
        return Err(Problem::invalid("too_many", field.to_string(), detail));
    }
    Ok(parse_relationships(field, bodies, contexts)?.into())
}

/// The preconditions of a request.
pub fn parse_preconditions(bodies: &[PreconditionBody]) -> Result<Vec<Precondition>, Problem> {
    let parse = |(index, body): (usize, &PreconditionBody)| {
        let (must_exist, filter, member) = match (&body.must_exist, &body.must_not_exist) {
            (Some(filter), None) => (true, filter, "must_exist"),
            (None, Some(filter)) => (false, filter, "must_not_exist"),
            _ => {
                let detail = "a precondition has one of `must_exist` and `must_not_exist`";
                return Err(Problem::invalid(
                    "invalid_value",
                    format!("preconditions[{index}]"),
                    detail,
                ));
            }
        };
        let field = format!("preconditions[{index}].{member}");
        let filter = filter.parse(&field)?;
        if filter == RelationshipFilter::default() {
            return Err(Problem::invalid(
                "empty_filter",
                field,
                "a precondition's filter must have at least one member",
            ));
        }
        Ok(Precondition { must_exist, filter })
    };
    bodies.iter().enumerate().map(parse).collect()
}

/// A value of a caveat's context in JSON.
fn context_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Uint(value) => (*value).into(),
        Value::Double(value) => (*value).into(),
        Value::String(value) => value.as_str().into(),
        Value::List(items) => items.iter().map(context_json).collect::<Vec<_>>().into(),
        Value::Map(members) => members
            .iter()
            .map(|(name, value)| (name.clone(), context_json(value)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
    }
}

/// A caveat context in JSON.
fn format_context(context: &Context) -> serde_json::Value {
    let members = context
        .iter()
        .map(|(name, value)| (name.clone(), context_json(value)));
    serde_json::Value::Object(members.collect())
}

/// How many bytes of stored contexts one answer may still show: each may be large, and there may be thousands.
#[derive(Debug)]
pub struct ContextRoom(Cell<usize>);

impl ContextRoom {
    /// Room for `bytes`.
    pub const fn new(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }

    /// Adds a stored context to the members of its caveat, or says that it is left out for want of room.
    pub fn show(&self, members: &mut serde_json::Map<String, serde_json::Value>, context: &Context) {
        if self.0.get() > 0 {
            let value = format_context(context);
            self.0.set(self.0.get().saturating_sub(value.to_string().len()));
            members.insert("context".into(), value);
        } else {
            members.insert("context_omitted".into(), true.into());
        }
    }
}

/// The years that RFC 3339 can say, 0 to 9999 in UTC, in microseconds since 1970.
const SAYABLE: RangeInclusive<i128> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// An RFC 3339 time. One whose year is another in UTC, such that it could not be written again, is refused.
pub fn parse_time(field: &str, text: &str) -> Result<Timestamp, Problem> {
    let invalid = || {
        let detail = format!("`{field}` must be an RFC 3339 time such as `2030-01-31T12:00:00Z`");
        Problem::invalid("invalid_value", field, detail)
    };
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| invalid())?;
    let micros = moment.unix_timestamp_nanos().div_euclid(1_000);
    let sayable = SAYABLE.contains(&micros).then_some(micros);
    sayable
        .and_then(|micros| i64::try_from(micros).ok())
        .map(Timestamp)
        .ok_or_else(invalid)
}

/// A moment as an RFC 3339 UTC time.
pub fn format_time(moment: Timestamp) -> String {
    let nanos = i128::from(moment.0) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        // Beyond year 9999, which RFC 3339 cannot say: such an expiry is never accepted in the first place.
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// A stored relationship on the wire.
#[derive(Debug, Serialize)]
pub struct RelationshipView {
    resource: String,
    relation: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    caveat: Option<serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

impl From<&Relationship> for RelationshipView {
    fn from(relationship: &Relationship) -> Self {
        let caveat = relationship.caveat.as_ref().map(|caveat| {
            serde_json::json!({ "name": caveat.name.as_str(), "context": format_context(&caveat.context) })
        });
        Self {
            resource: relationship.resource.to_string(),
            relation: relationship.relation.to_string(),
            subject: relationship.subject.to_string(),
            caveat,
            expires_at: relationship.expires_at.map(format_time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_it_was_read_or_is_refused() {
        for (text, told) in [
            ("2030-01-31T12:00:00Z", Some("2030-01-31T12:00:00Z")),
            (
                "2030-01-31T12:00:00.1234567+01:30",
                Some("2030-01-31T10:30:00.123456Z"),
            ),
            ("9999-12-31T23:59:59.999999Z", Some("9999-12-31T23:59:59.999999Z")),
            ("9999-12-31T23:59:59+00:01", Some("9999-12-31T23:58:59Z")),
            ("9999-12-31T23:59:59-00:01", None),
            ("9999-12-31T00:00:00-23:59", Some("9999-12-31T23:59:00Z")),
            ("0000-01-01T00:00:00Z", Some("0000-01-01T00:00:00Z")),
            ("0000-01-01T00:00:00+00:01", None),
            ("0000-01-01T00:00:00-00:01", Some("0000-01-01T00:01:00Z")),
            (
                "1969-12-31T23:59:59.9999999Z",
                Some("1969-12-31T23:59:59.999999Z"),
            ),
            ("soon", None),
        ] {
            let parsed = parse_time("expires_at", text);
            let written = parsed.as_ref().ok().map(|moment| format_time(*moment));
            assert_eq!(written.as_deref(), told, "{text}");
            if let Err(problem) = parsed {
                assert_eq!((problem.status.as_u16(), problem.code), (400, "invalid_value"));
            }
        }
    }
}
