//! JSON read strictly: a repeated member, deep nesting or anything behind the value makes the whole text invalid.
//!
//! Two readers that disagree about which of two equal members counts are how a forged claim gets past a check
//! (RFC 8725, 2.4), so here neither counts.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How deep arrays and objects may nest. Providers' tokens stay below six.
const MAX_DEPTH: usize = 16;

/// The members of an object, under their names as they read after unescaping.
pub(super) type Object = BTreeMap<String, Json>;

/// A JSON value. Numbers are doubles, which hold every second up to the year 9999 and its fractions.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Json>),
    Object(Object),
}

impl Json {
    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads one JSON object and nothing else.
///
/// # Errors
///
/// On anything that is not exactly one JSON object in UTF-8, on a repeated member at any depth and on nesting beyond
/// 16 levels. The error says where, never what: the text may be a secret.
pub(super) fn object(text: &[u8]) -> Result<Object, NotAnObject> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Value {
        depth_left: MAX_DEPTH,
    }
    .deserialize(&mut reader)
    .map_err(|_| NotAnObject)?;
    reader.end().map_err(|_| NotAnObject)?;
    match value {
        Json::Object(members) => Ok(members),
        _ => Err(NotAnObject),
    }
}

/// The text is not one well-formed JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotAnObject;

/// Reads one value that may hold `depth_left` further levels.
#[derive(Clone, Copy)]
struct Value {
    depth_left: usize,
}

impl Value {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth_left = self
            .depth_left
            .checked_sub(1)
            .ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Json;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Number(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            array.push(item);
        }
        Ok(Json::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Json, A::Error> {
        let inner = self.inner()?;
        let mut object = Object::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is repeated"));
            }
        }
        Ok(Json::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_well_formed() {
        let members = object(br#"{"a":[1,-2.5,"x",null,true,{}]}"#).unwrap();
        let expected = Json::Array(vec![
            Json::Number(1.0),
            Json::Number(-2.5),
            Json::String("x".to_owned()),
            Json::Null,
            Json::Bool(true),
            Json::Object(Object::new()),
        ]);
        assert_eq!(members["a"], expected);
        assert_eq!(object(b" {} \n"), Ok(Object::new()));
    }

    #[test]
    fn refuses_what_is_not() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(object(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        let deep = nested(MAX_DEPTH);
        let abyss = nested(100_000);
        let cases: [&[u8]; 13] = [
            b"",
            b"[]",
            b"\"x\"",
            b"1",
            b"null",
            b"{} {}",
            br#"{"a":1,"a":1}"#,
            br#"{"a":1,"\u0061":2}"#,
            br#"{"a":{"b":1,"b":2}}"#,
            b"{\"a\":NaN}",
            b"{\"a\":\"\xff\"}",
            deep.as_bytes(),
            abyss.as_bytes(),
        ];
        for case in cases {
            assert_eq!(
                object(case),
                Err(NotAnObject),
                "{}",
                String::from_utf8_lossy(&case[..case.len().min(60)])
            );
        }
    }
}
