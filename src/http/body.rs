//! Request bodies: JSON whatever the content type says, with errors that name the member, line and column at fault.

use actix_web::HttpRequest;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::problem::Problem;

/// Parses a JSON body.
pub fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body) {
        Ok(parsed) => Ok(parsed),
        Err(error) => Err(explain::<T>(body, &error)),
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

/// Reads the body once more to find where it is wrong: what is fast on good bodies need not know.
fn explain<'a, T: Deserialize<'a>>(body: &'a [u8], error: &serde_json::Error) -> Problem {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let path = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => error.path().to_string(),
        Ok(_) => ".".to_owned(),
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
        _ if is_json(body) => "invalid_value",
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
