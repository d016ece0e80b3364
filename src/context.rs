//! Caveat contexts from JSON. A name that is given twice is refused: which of the two would count is nobody's to guess.

use std::collections::BTreeMap;
use std::fmt;

use inferadb_engine::context::{Context, Value};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Reads a JSON object, or `null`, which is the empty context.
///
/// # Errors
///
/// What is wrong, with line and column. Nesting beyond 128 levels is refused.
pub fn parse(json: &str) -> Result<Context, serde_json::Error> {
    let parsed: Option<Members> = serde_json::from_str(json)?;
    Ok(parsed.unwrap_or_default().0)
}

/// Reads the JSON object that `text` starts with; answers what follows it, too.
///
/// # Errors
///
/// As [`parse`]; also where `text` starts with something else.
pub fn parse_prefix(text: &str) -> Result<(Context, &str), serde_json::Error> {
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<Members>();
    let found = objects.next();
    let rest = text.get(objects.byte_offset()..).unwrap_or_default();
    match found {
        Some(members) => Ok((members?.0, rest)),
        None => Err(serde_json::Error::custom("a JSON object is missing")),
    }
}

/// The members of an object.
#[derive(Default)]
struct Members(Context);

/// Any value.
struct Any(Value);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Members, A::Error> {
                members(map).map(Members)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Everything;

        impl<'de> Visitor<'de> for Everything {
            type Value = Any;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E: Error>(self) -> Result<Any, E> {
                Ok(Any(Value::Null))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Any, E> {
                Ok(Any(Value::Bool(value)))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Any, E> {
                Ok(Any(Value::Int(value)))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Any, E> {
                Ok(Any(i64::try_from(value).map_or(Value::Uint(value), Value::Int)))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Any, E> {
                Ok(Any(Value::Double(value)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Any, E> {
                Ok(Any(Value::String(value.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Any, A::Error> {
                let mut list = Vec::new();
                while let Some(Any(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(Any(Value::List(list)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Any, A::Error> {
                Ok(Any(Value::Map(members(map)?)))
            }
        }

        deserializer.deserialize_any(Everything)
    }
}

fn members<'de, A: MapAccess<'de>>(mut map: A) -> Result<BTreeMap<String, Value>, A::Error> {
    let mut members = BTreeMap::new();
    while let Some(name) = map.next_key::<String>()? {
        if members.contains_key(&name) {
            return Err(A::Error::custom(format_args!(
                "the name `{}` is given twice",
                name.escape_debug()
            )));
        }
        let Any(value) = map.next_value()?;
        members.insert(name, value);
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_kind() {
        let context =
            parse(r#"{"i": -1, "u": 18446744073709551615, "d": 1.0, "l": [null, true], "m": {"s": "x"}}"#)
                .unwrap();
        let expected = [
            ("d", Value::Double(1.0)),
            ("i", Value::Int(-1)),
            ("l", Value::List(vec![Value::Null, Value::Bool(true)])),
            (
                "m",
                Value::Map(BTreeMap::from([("s".to_owned(), Value::String("x".to_owned()))])),
            ),
            ("u", Value::Uint(u64::MAX)),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(context, Context::from(expected));
        assert_eq!(parse("null").unwrap(), Context::new());
    }

    #[test]
    fn a_name_given_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a": 1, "b": 2, "a": 3}"#,
            r#"{"x": [{"a": 1, "\u0061": 1}]}"#,
            r#"{"x": {"a": {}, "a": {}}}"#,
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with("the name `a` is given twice"), "{error}");
        }
        assert!(parse(r#"{"a": {"a": {"a": 1}}}"#).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "[]", "1", "{", "{} {}", &"{\"a\":".repeat(10_000)] {
            assert!(parse(text).is_err(), "{text:.40}");
        }
        assert_eq!(parse_prefix("{\"a\":1}] x").unwrap().1, "] x");
        for text in ["", "]", "1 {}"] {
            assert!(parse_prefix(text).is_err(), "{text}");
        }
    }
}
