//! Request bodies: JSON whatever the content type says, with errors that name the member, line and column at fault.

use actix_web::HttpRequest;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::problem::Problem;

/// Parses a JSON body.
pub fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    match serde_json::from_slice(body) {
        Ok(parsed) => Ok(parsed),
        Err(error) => Err(explain::<T>(body, &error)),
    }
}

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

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok() && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        number: u8,
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
