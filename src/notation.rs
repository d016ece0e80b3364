//! Relationships and questions as text: `document:1#viewer@user:alice[office:{"hour": 9}][expiration:2030-01-01T00:00:00Z]`.
//!
//! It is the notation of SpiceDB's validation files and tools.

use std::sync::Arc;

use inferadb_actors::CheckRequest;
use inferadb_engine::context::Context;
use inferadb_engine::noun::{CaveatRef, InvalidNoun, Name, ObjectRef, Relationship, SubjectRef, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Why a text is no relationship, or no question.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidText(pub String);

impl From<InvalidNoun> for InvalidText {
    fn from(invalid: InvalidNoun) -> Self {
        Self(invalid.0)
    }
}

/// Reads `type:id#relation@type:id`, `…@type:id#relation` or `…@type:*`, then perhaps `[caveat]` or `[caveat:{…}]`, then
/// perhaps `[expiration:2030-01-01T00:00:00Z]`.
pub fn parse_relationship(text: &str) -> Result<Relationship, InvalidText> {
    let (resource, relation, rest) = parse_resource(text.trim())?;
    let (subject, terms) = split_terms(rest);
    let (caveat, expires_at) = parse_terms(terms)?;
    Ok(Relationship {
        resource,
        relation,
        subject: SubjectRef::parse(subject)?,
        caveat,
        expires_at,
    })
}

/// Reads `type:id#permission@subject`, then perhaps ` with {…}`: the request's context.
pub fn parse_check(text: &str) -> Result<CheckRequest, InvalidText> {
    // No id holds white space.
    let (question, context) = match text.trim().split_once(" with ") {
        Some((question, json)) => (question, parse_context(json)?),
        None => (text.trim(), Context::new()),
    };
    let (resource, permission, subject) = parse_resource(question.trim())?;
    Ok(CheckRequest {
        subject: SubjectRef::parse(subject)?,
        resource,
        permission,
        context: context.into(),
        contextual: Arc::default(),
        trace: false,
    })
}

/// Reads `type:id#permission`.
pub fn parse_object_and_permission(text: &str) -> Result<(ObjectRef, Name), InvalidText> {
    let (object, permission) = text.trim().split_once('#').ok_or_else(|| missing('#'))?;
    Ok((ObjectRef::parse(object)?, Name::parse(permission)?))
}

fn parse_resource(text: &str) -> Result<(ObjectRef, Name, &str), InvalidText> {
    let (resource, rest) = text.split_once('#').ok_or_else(|| missing('#'))?;
    let (member, rest) = rest.split_once('@').ok_or_else(|| missing('@'))?;
    Ok((ObjectRef::parse(resource)?, Name::parse(member)?, rest))
}

/// The subject, and the terms in brackets behind it. An id may hold brackets: terms are what a closing one ends the
/// text with.
fn split_terms(text: &str) -> (&str, &str) {
    if text.ends_with(']') {
        text.split_at(text.find('[').unwrap_or(text.len()))
    } else {
        (text, "")
    }
}

fn parse_terms(mut terms: &str) -> Result<(Option<CaveatRef>, Option<Timestamp>), InvalidText> {
    let (mut caveat, mut expires_at) = (None, None);
    while let Some(inner) = terms.strip_prefix('[') {
        if let Some(text) = inner.strip_prefix("expiration:") {
            let (moment, rest) = text.split_once(']').ok_or_else(|| missing(']'))?;
            if expires_at.replace(parse_time(moment)?).is_some() {
                return Err(InvalidText("there are two expirations".into()));
            }
            terms = rest;
            continue;
        }
        if expires_at.is_some() {
            return Err(InvalidText("the caveat stands before the expiration".into()));
        }
        let end = inner.find([':', ']']).ok_or_else(|| missing(']'))?;
        let (name, rest) = inner.split_at(end);
        let (context, rest) = match rest.strip_prefix(':') {
            Some(json) => crate::context::parse_prefix(json).map_err(not_a_context)?,
            None => (Context::new(), rest),
        };
        let found = CaveatRef {
            name: Name::parse(name)?,
            context,
        };
        if caveat.replace(found).is_some() {
            return Err(InvalidText("there are two caveats".into()));
        }
        terms = rest.trim_start().strip_prefix(']').ok_or_else(|| missing(']'))?;
    }
    match terms {
        "" => Ok((caveat, expires_at)),
        more => Err(InvalidText(format!("`{}` is too much", more.escape_debug()))),
    }
}

fn parse_context(json: &str) -> Result<Context, InvalidText> {
    crate::context::parse(json).map_err(not_a_context)
}

fn parse_time(text: &str) -> Result<Timestamp, InvalidText> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok();
    let micros = moment.and_then(|moment| i64::try_from(moment.unix_timestamp_nanos() / 1_000).ok());
    micros.map(Timestamp).ok_or_else(|| {
        InvalidText(format!(
            "`{}` is not an RFC 3339 time such as `2030-01-31T12:00:00Z`",
            text.escape_debug()
        ))
    })
}

fn missing(what: char) -> InvalidText {
    InvalidText(format!("`{what}` is missing"))
}

fn not_a_context(error: serde_json::Error) -> InvalidText {
    // The position is one within the context, which says nothing of the text around it.
    let text = error.to_string();
    let message = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(message, _)| message);
    InvalidText(format!("the context: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relationships_are_read_with_their_terms() {
        let plain = parse_relationship(" doc:a@b:c#viewer@group:eng#member ").unwrap();
        assert_eq!(plain.key().to_string(), "doc:a@b:c#viewer@group:eng#member");
        assert_eq!(
            parse_relationship("doc:1#viewer@user:a[b")
                .unwrap()
                .subject
                .to_string(),
            "user:a[b"
        );
        let full =
            parse_relationship(r#"doc:1#viewer@user:*[c/d:{"x": "]["} ][expiration:1970-01-01T00:00:01Z]"#)
                .unwrap();
        assert!(full.subject.id.is_wildcard());
        assert_eq!(full.expires_at, Some(Timestamp(1_000_000)));
        let caveat = full.caveat.unwrap();
        assert_eq!((caveat.name.as_str(), caveat.context.len()), ("c/d", 1));
        assert!(
            parse_relationship("doc:1#viewer@user:a[c]")
                .unwrap()
                .caveat
                .is_some()
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("doc:1", "`#` is missing"),
            ("doc:1#viewer", "`@` is missing"),
            ("doc#viewer@user:a", "no `:`"),
            ("doc:1#viewer@user:a[]", "a name must not be empty"),
            ("doc:1#viewer@user:a[c:{]", "the context: "),
            ("doc:1#viewer@user:a[c:{\"a\":1,\"a\":2}]", "`a` is given twice"),
            ("doc:1#viewer@user:a[c][d]", "two caveats"),
            ("doc:1#viewer@user:a[c]d]", "`d]` is too much"),
            (
                "doc:1#viewer@user:a[expiration:tomorrow]",
                "`tomorrow` is not an RFC 3339 time",
            ),
            (
                "doc:1#viewer@user:a[expiration:2030-01-01T00:00:00Z][c]",
                "before the expiration",
            ),
        ] {
            let error = parse_relationship(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn questions_may_bring_context() {
        let question = parse_check(r#"doc:1#view@user:a with {"x": 1}"#).unwrap();
        assert_eq!(question.context.len(), 1);
        assert!(parse_check("doc:1#view@user:a with x").is_err());
        assert!(
            parse_check("doc:1#view@user:a[c]").is_ok(),
            "an id may hold brackets"
        );
    }
}
