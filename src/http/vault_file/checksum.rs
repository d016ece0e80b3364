//! The checksum of a vault file: over what it says, not over how it is spaced, so that a file may be reformatted.

use std::fmt::Write;

use aws_lc_rs::digest::{Context as Digest, SHA256};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::noun::{CaveatRef, Relationship};
use serde_json::Map;

use super::CHECKSUM_KIND;
use crate::http::wire::RelationshipView;

/// 2^63 and 2^64, which a double holds exactly.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

/// A checksum in the making.
pub struct Checksum(Digest);

impl Checksum {
    /// Of nothing so far.
    pub fn new() -> Self {
        Self(Digest::new(&SHA256))
    }

    /// Adds a relationship; `line` is what [`line_of`] made of it.
    pub fn add(&mut self, relationship: &Relationship, line: &[u8]) {
        match canonical(relationship) {
            Some(canonical) => self.0.update(&line_of(&canonical)),
            None => self.0.update(line),
        }
        self.0.update(b"\n");
    }

    /// Adds what is not a relationship, and ends.
    pub fn finish(
        mut self,
        schema: Option<&str>,
        format: Option<&str>,
        limits: &Map<String, serde_json::Value>,
    ) -> String {
        let rest = serde_json::json!({ "limits": limits, "schema": schema, "schema_format": format });
        self.0.update(rest.to_string().as_bytes());
        self.0.update(b"\n");
        let mut text = CHECKSUM_KIND.to_owned();
        for byte in self.0.finish().as_ref() {
            // A string takes everything.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }
}

/// A relationship as one line of JSON, without the line's end.
pub fn line_of(relationship: &Relationship) -> Vec<u8> {
    // Text, numbers, and lists and maps of them are always JSON.
    serde_json::to_vec(&RelationshipView::from(relationship)).unwrap_or_default()
}

/// The relationship with every whole number in the one form that it has for the checksum, if any has another: there are tools
/// that write `1.0` as `1`, and `1e3` as `1000`.
fn canonical(relationship: &Relationship) -> Option<Relationship> {
    let caveat = relationship.caveat.as_ref()?;
    if !caveat.context.values().any(has_whole) {
        return None;
    }
    let members = caveat.context.iter();
    let context: Context = members
        .map(|(name, value)| (name.clone(), plain(value)))
        .collect();
    let caveat = CaveatRef {
        name: caveat.name.clone(),
        context,
    };
    Some(Relationship {
        caveat: Some(caveat),
        ..relationship.clone()
    })
}

fn has_whole(value: &Value) -> bool {
    match value {
        Value::Double(number) => whole(*number).is_some(),
        Value::List(items) => items.iter().any(has_whole),
        Value::Map(members) => members.values().any(has_whole),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_) => false,
    }
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Double(number) => whole(*number).unwrap_or_else(|| value.clone()),
        Value::List(items) => Value::List(items.iter().map(plain).collect()),
        Value::Map(members) => {
            let members = members.iter();
            Value::Map(
                members
                    .map(|(name, value)| (name.clone(), plain(value)))
                    .collect(),
            )
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_) => value.clone(),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is whole and within the range"
)]
fn whole(number: f64) -> Option<Value> {
    if number.fract() != 0.0 {
        return None;
    }
    if (-TWO_TO_63..TWO_TO_63).contains(&number) {
        return Some(Value::Int(number as i64));
    }
    (0.0..TWO_TO_64)
        .contains(&number)
        .then_some(Value::Uint(number as u64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::body;
    use crate::http::contexts::Contexts;
    use crate::http::wire::RelationshipBody;
    use crate::notation::parse_relationship;

    fn sum(relationships: &[&str], schema: Option<&str>) -> String {
        let mut checksum = Checksum::new();
        for text in relationships {
            let relationship = parse_relationship(text).unwrap();
            checksum.add(&relationship, &line_of(&relationship));
        }
        checksum.finish(schema, schema.map(|_| "native"), &Map::new())
    }

    #[test]
    fn it_is_over_what_is_said() {
        let one = "document:1#viewer@user:a";
        let all = [
            sum(&[], None),
            sum(&[one], None),
            sum(&[one], Some("definition user {}")),
            sum(&[one, one], None),
            sum(&["document:1#viewer@user:b"], None),
            sum(&["document:1#viewer@user:a[c]"], None),
            sum(&["document:1#viewer@user:a[c:{\"x\":1}]"], None),
            sum(&["document:1#viewer@user:a[c:{\"x\":1.5}]"], None),
            sum(
                &["document:1#viewer@user:a[expiration:2030-01-01T00:00:00Z]"],
                None,
            ),
        ];
        for (at, sum) in all.iter().enumerate() {
            assert!(sum.starts_with("sha256:") && sum.len() == 71, "{sum}");
            assert_eq!(all.iter().position(|other| other == sum), Some(at));
        }
    }

    #[test]
    fn spellings_of_one_number_are_one() {
        let with = |number: &str| {
            let text = format!("document:1#viewer@user:a[c:{{\"x\":[{{\"y\":{number}}}]}}]");
            sum(&[text.as_str()], None)
        };
        for (one, other) in [
            ("1", "1.0"),
            ("1000", "1e3"),
            ("0", "-0"),
            ("-9223372036854775808", "-9223372036854775808.0"),
            ("10000000000000000000", "1e19"),
            ("100000000000000000000", "1e20"),
        ] {
            assert_eq!(with(one), with(other), "{one} and {other}");
        }
        assert_ne!(with("9007199254740993"), with("9007199254740992"));
        assert_ne!(with("0.1"), with("0.10000000000000002"));
    }

    proptest! {
        #[test]
        fn every_number_is_stored_as_it_came_and_read_as_it_was_written(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            prop_assume!(number.is_finite());
            for sent in [format!("{number:e}"), format!("{number:?}")] {
                let text = format!("document:1#viewer@user:a[c:{{\"x\":{sent}}}]");
                let stored = parse_relationship(&text).unwrap();
                prop_assert_eq!(bits_of(&stored), Some(bits), "{}", sent);
                let line = line_of(&stored);
                let body: RelationshipBody<'_> = body::json(&line).unwrap();
                let read = body.parse("line", &mut Contexts::with_most(0, usize::MAX)).unwrap();
                prop_assert_eq!(bits_of(&read), Some(bits), "{}", sent);
                prop_assert_eq!(line_of(&read), line);
            }
        }
    }

    fn bits_of(relationship: &Relationship) -> Option<u64> {
        match relationship.caveat.as_ref()?.context.get("x")? {
            Value::Double(number) => Some(number.to_bits()),
            _ => None,
        }
    }

    /// Pinned: what was exported once must be accepted for ever. The lines, with a line's end behind each, are
    /// `{"resource":"document:1","relation":"viewer","subject":"user:a"}` and
    /// `{"limits":{},"schema":"definition user {}","schema_format":"native"}`.
    #[test]
    fn it_stays_what_it_is() {
        assert_eq!(
            sum(&["document:1#viewer@user:a"], Some("definition user {}")),
            "sha256:9035b1c91c17d5ddb39f96ecceebc0ae0c767a15349821c8bbafc331bfa19df7"
        );
    }
}
