//! Request bodies: JSON whatever the content type says, with errors that name the member, line and column at fault.

use actix_web::HttpRequest;
use inferadb_actors::Turn;
use inferadb_engine::context::{Context, Value};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::problem::Problem;

/// A larger body is read once, whatever is wrong with it: line and column tell where.
const EXPLAINED_BYTES: usize = 64 << 10;
/// So much is read at once.
const LIGHT_BYTES: usize = 4 << 10;
/// Reading so much is part of what every request is charged for.
const CHARGED_BYTES: usize = 1 << 10;
/// So many bytes of JSON are read in the time of a unit of the work of evaluations.
const BYTES_READ: u64 = 32;
/// So many bytes are written in that time, or made into nouns.
const BYTES_MADE: u64 = 64;

/// Parses a JSON body.
pub fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body) {
        Ok(parsed) => Ok(parsed),
        Err(error) => Err(explain::<T>(body, &error)),
    }
}

/// Parses the JSON body of a request inside a vault, as part of its work: in one piece, and again where it is to be found what is
/// wrong with it. A large one waits for a turn.
pub async fn json_of<'a, T: Deserialize<'a>>(turn: &mut Turn<'_>, body: &'a [u8]) -> Result<T, Problem> {
    turn_for(turn, body).await;
    json_now(turn, body)
}

/// To be awaited before something is done in one piece with all of a body: a large one waits for a turn.
pub async fn turn_for(turn: &mut Turn<'_>, body: &[u8]) {
    if body.len() > LIGHT_BYTES {
        turn.take().await;
    }
}

/// As [`json_of`], where there is a turn for it.
pub fn json_now<'a, T: Deserialize<'a>>(turn: &mut Turn<'_>, body: &'a [u8]) -> Result<T, Problem> {
    let parsed = json(body);
    let times = match parsed {
        Err(_) if body.len() <= EXPLAINED_BYTES => 3,
        _ => 1,
    };
    turn.count(times * body.len().saturating_sub(CHARGED_BYTES) as u64 / BYTES_READ);
    parsed
}

/// What it is worth to write so many bytes of an answer, or to make nouns of them, beside the work of evaluations.
pub const fn work_of(bytes: usize) -> u64 {
    bytes as u64 / BYTES_MADE
}

/// What it was worth to make a context of its JSON. Recurses as deep as that nests, which its parser bounds.
pub fn work_of_context(context: &Context) -> u64 {
    let members = context.iter();
    members
        .map(|(name, value)| 1 + work_of(name.len()) + work_of_value(value))
        .sum()
}

fn work_of_value(value: &Value) -> u64 {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => 1,
        Value::String(text) => 1 + work_of(text.len()),
        Value::List(items) => 1 + items.iter().map(work_of_value).sum::<u64>(),
        Value::Map(members) => 1 + work_of_context(members),
    }
}

/// Reads a member that need not be there: `null` says as much as its absence.
///
/// # Errors
///
/// What is wrong with it.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Has types with `#[serde(remote = "Self")]` read from JSON objects alone. Otherwise serde would also take a list of their
/// members' values without the names, and which member is which would hang on the order in which they stand in the code.
macro_rules! objects {
    ($($name:ident $(<$lifetime:lifetime>)?),+ $(,)?) => {$(
        impl<'de $(: $lifetime, $lifetime)?> serde::Deserialize<'de> for $name $(<$lifetime>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Object;

                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = $crate::http::body::objects!(@ $name $($lifetime)?);

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a JSON object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                        inferadb_actors::background::breathe();
                        $name::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }

                deserializer.deserialize_map(Object)
            }
        }
    )+};
    (@ $name:ident) => { $name };
    (@ $name:ident $lifetime:lifetime) => { $name<'de> };
}
pub(crate) use objects;

/// Parses a query string.
pub fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    serde_urlencoded::from_str(request.query_string())
        .map_err(|error| Problem::invalid("invalid_query", "query", format!("the query string: {error}")))
}

/// Reads the body once more to find where it is wrong: what is fast on good bodies need not know. One that is large is not read again.
fn explain<'a, T: Deserialize<'a>>(body: &'a [u8], error: &serde_json::Error) -> Problem {
    let is_large = body.len() > EXPLAINED_BYTES;
    let path = match is_large {
        true => ".".to_owned(),
        false => path_of::<T>(body),
    };
    let message = error.to_string();
    // serde_json ends its messages with the position, which has members of its own here.
    let message = message
        .rsplit_once(" at line ")
        .map_or(message.as_str(), |(message, _)| message);
    let code = match error.classify() {
        serde_json::error::Category::Data if message.starts_with("unknown field") => "unknown_field",
        serde_json::error::Category::Data if message.starts_with("missing field") => "missing_field",
        serde_json::error::Category::Data => "invalid_value",
        // An enum that meets a `null` reports it as an error of syntax, though the JSON is sound.
        _ if !is_large && is_json(body) => "invalid_value",
        _ => "malformed_json",
    };
    let message = told(message);
    let named = match code {
        "unknown_field" | "missing_field" => message.split('`').nth(1),
        _ => None,
    };
    let field = match (path.as_str(), named) {
        // What is no JSON has no members: line and column say where.
        _ if code == "malformed_json" => None,
        (".", Some(name)) => Some(name.to_owned()),
        (".", None) => None,
        // The path of an unknown member ends with it already.
        (path, Some(name)) if code == "missing_field" => Some(format!("{path}.{name}")),
        (path, _) => Some(path.to_owned()),
    };
    let position = u32::try_from(error.line())
        .ok()
        .zip(u32::try_from(error.column()).ok());
    let position = position.filter(|(line, _)| *line > 0);
    let mut problem = Problem::invalid(code, "", format!("the request's body: {message}"));
    problem.field = field;
    problem.position = position;
    problem
}

/// The member at which reading fails.
fn path_of<'a, T: Deserialize<'a>>(body: &'a [u8]) -> String {
    let mut reader = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => error.path().to_string(),
        Ok(_) => ".".to_owned(),
    }
}

/// A message of the parser in the words of JSON rather than of the code behind it.
fn told(message: &str) -> String {
    const WORDS: [(&str, &str); 8] = [
        ("expected usize", "expected a whole number from 0 on"),
        ("expected u64", "expected a whole number from 0 on"),
        ("expected u32", "expected a whole number from 0 on"),
        ("expected i64", "expected a whole number"),
        ("expected a boolean", "expected `true` or `false`"),
        ("expected a sequence", "expected a list"),
        ("invalid type: sequence", "invalid type: list"),
        ("invalid type: map", "invalid type: object"),
    ];
    let mut told = message.to_owned();
    // Text of the caller's stands in backticks or quotes, and in neither case before these words.
    for (word, meaning) in WORDS {
        if told.ends_with(word) || told.starts_with(word) {
            told = told.replace(word, meaning);
        }
    }
    told
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok() && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::time::Duration;

    use inferadb_actors::VaultId;
    use prometheus::IntCounter;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(remote = "Self", deny_unknown_fields)]
    struct Outer {
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(remote = "Self", deny_unknown_fields)]
    struct Inner {
        number: u8,
    }

    objects!(Outer, Inner);

    /// What it costs to read a body, in nanoseconds, and what is wrong with it.
    fn cost_of(body: &str) -> (u64, Option<Problem>) {
        let (used, inside) = (AtomicU64::new(0), AtomicUsize::new(0));
        let turns = IntCounter::new("turns", "turns").unwrap();
        let mut turn = Turn::new(VaultId(Uuid::nil()), Duration::ZERO, (&used, &inside), &turns);
        let read = json_now::<Outer>(&mut turn, body.as_bytes());
        drop(turn);
        (used.into_inner(), read.err())
    }

    #[test]
    fn reading_is_charged_as_often_as_it_is_done() {
        let of_size = |count: usize, last: &str| {
            let all = vec![r#"{"number":1}"#; count].join(",");
            format!(r#"{{"inner":[{all},{last}]}}"#)
        };
        assert_eq!(cost_of(r#"{"inner":[]}"#).0, 0, "within what every request costs");
        let (sound, problem) = cost_of(&of_size(4_000, "{\"number\":1}"));
        assert!(sound > 0 && problem.is_none());
        let (broken, problem) = cost_of(&of_size(4_000, "{\"number\":[]}"));
        assert!((2 * sound..4 * sound).contains(&broken), "{broken} and {sound}");
        let problem = problem.unwrap();
        assert_eq!(problem.field.as_deref(), Some("inner[4000].number"));
        // One that is large is read once: the place is known all the same.
        let (sound, _) = cost_of(&of_size(40_000, "{\"number\":1}"));
        let (broken, problem) = cost_of(&of_size(40_000, "{\"number\":[]}"));
        assert!(broken <= sound + 1_000, "{broken} and {sound}");
        let problem = problem.unwrap();
        assert_eq!((problem.code, problem.field), ("invalid_value", None));
        assert!(
            problem
                .position
                .is_some_and(|(line, column)| line == 1 && column > 500_000)
        );
    }

    #[test]
    fn errors_name_the_member_and_the_place() {
        for (body, code, field, position) in [
            (
                r#"{"inner":[{"number":1,"x":2}]}"#,
                "unknown_field",
                Some("inner[0].x"),
                Some((1, 25)),
            ),
            (
                r#"{"inner":[{}]}"#,
                "missing_field",
                Some("inner[0].number"),
                Some((1, 12)),
            ),
            (
                r#"{"inner":[{"number":"a"}]}"#,
                "invalid_value",
                Some("inner[0].number"),
                Some((1, 23)),
            ),
            (r#"{"other":1}"#, "unknown_field", Some("other"), Some((1, 8))),
            ("{}", "missing_field", Some("inner"), Some((1, 2))),
            ("{", "malformed_json", None, Some((1, 1))),
            // A list of the members' values is not the object.
            (r#"[[]]"#, "invalid_value", None, Some((1, 0))),
            (
                r#"{"inner":[[1]]}"#,
                "invalid_value",
                Some("inner[0]"),
                Some((1, 10)),
            ),
        ] {
            let problem = json::<Outer>(body.as_bytes()).unwrap_err();
            assert_eq!(
                (problem.code, problem.field.as_deref(), problem.position),
                (code, field, position),
                "{body}: {problem}"
            );
        }
    }
}
