//! The compact encodings of stored values: a relationship's terms, change records, and markers.

use std::collections::BTreeMap;

use inferadb_engine::context::{Context, Value};
use inferadb_engine::noun::{CaveatRef, Name, Timestamp};

/// The deepest caveat context that can be stored.
pub const MAX_CONTEXT_DEPTH: usize = 128;

const TERMS_FORMAT: u8 = 1;
const HAS_CAVEAT: u8 = 1;
const HAS_EXPIRY: u8 = 2;

/// A caveat's context is nested deeper than [`MAX_CONTEXT_DEPTH`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooDeep;

/// What a relationship carries besides its key.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct StoredTerms {
    pub(crate) caveat: Option<CaveatRef>,
    pub(crate) expires_at: Option<Timestamp>,
}

impl StoredTerms {
    /// Whether the relationship no longer counts at `now`.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, TooDeep> {
        let mut flags = 0;
        if self.caveat.is_some() {
            flags |= HAS_CAVEAT;
        }
        if self.expires_at.is_some() {
            flags |= HAS_EXPIRY;
        }
        let mut bytes = vec![TERMS_FORMAT, flags];
        if let Some(at) = self.expires_at {
            bytes.extend_from_slice(&at.0.to_be_bytes());
        }
        if let Some(caveat) = &self.caveat {
            put_text(&mut bytes, caveat.name.as_str());
            put_map(&mut bytes, &caveat.context, 1)?;
        }
        Ok(bytes)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let [format, flags] = reader.array()?;
        if format != TERMS_FORMAT || flags & !(HAS_CAVEAT | HAS_EXPIRY) != 0 {
            return None;
        }
        let expires_at = match flags & HAS_EXPIRY {
            0 => None,
            _ => Some(Timestamp(i64::from_be_bytes(reader.array()?))),
        };
        let caveat = match flags & HAS_CAVEAT {
            0 => None,
            _ => Some(CaveatRef {
                name: Name::parse(reader.text()?).ok()?,
                context: reader.map(1)?,
            }),
        };
        reader.is_empty().then_some(Self { caveat, expires_at })
    }
}

pub(crate) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    // Everything that is stored is far below 4 GiB.
    bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn put_map(bytes: &mut Vec<u8>, map: &BTreeMap<String, Value>, depth: usize) -> Result<(), TooDeep> {
    bytes.extend_from_slice(&(map.len() as u32).to_be_bytes());
    for (name, value) in map {
        put_text(bytes, name);
        put_value(bytes, value, depth)?;
    }
    Ok(())
}

fn put_value(bytes: &mut Vec<u8>, value: &Value, depth: usize) -> Result<(), TooDeep> {
    if depth > MAX_CONTEXT_DEPTH {
        return Err(TooDeep);
    }
    match value {
        Value::Null => bytes.push(0),
        Value::Bool(false) => bytes.push(1),
        Value::Bool(true) => bytes.push(2),
        Value::Int(number) => {
            bytes.push(3);
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        Value::Uint(number) => {
            bytes.push(4);
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        Value::Double(number) => {
            bytes.push(5);
            bytes.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        Value::String(text) => {
            bytes.push(6);
            put_text(bytes, text);
        }
        Value::List(values) => {
            bytes.push(7);
            bytes.extend_from_slice(&(values.len() as u32).to_be_bytes());
            for value in values {
                put_value(bytes, value, depth + 1)?;
            }
        }
        Value::Map(map) => {
            bytes.push(8);
            put_map(bytes, map, depth + 1)?;
        }
    }
    Ok(())
}

/// Reads values one after another; `None` once something does not make sense.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.array()?) as usize;
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn map(&mut self, depth: usize) -> Option<Context> {
        let count = u32::from_be_bytes(self.array()?);
        let mut map = Context::new();
        for _ in 0..count {
            map.insert(self.text()?.to_owned(), self.value(depth)?);
        }
        Some(map)
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_CONTEXT_DEPTH {
            return None;
        }
        let [tag] = self.array()?;
        Some(match tag {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Int(i64::from_be_bytes(self.array()?)),
            4 => Value::Uint(u64::from_be_bytes(self.array()?)),
            5 => Value::Double(f64::from_bits(u64::from_be_bytes(self.array()?))),
            6 => Value::String(self.text()?.to_owned()),
            7 => {
                let count = u32::from_be_bytes(self.array()?);
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(self.value(depth + 1)?);
                }
                Value::List(values)
            }
            8 => Value::Map(self.map(depth + 1)?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            ((i64::MAX as u64 + 1)..).prop_map(Value::Uint),
            proptest::num::f64::NORMAL.prop_map(Value::Double),
            ".{0,12}".prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map(".{0,6}", inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn terms_survive_exactly(
            context in prop::collection::btree_map(".{0,6}", value(), 0..4),
            expires_at in any::<Option<i64>>(),
        ) {
            let caveat = CaveatRef { name: Name::parse("ns/within").unwrap(), context };
            let terms = StoredTerms { caveat: Some(caveat), expires_at: expires_at.map(Timestamp) };
            prop_assert_eq!(StoredTerms::decode(&terms.encode().unwrap()), Some(terms));
        }

        #[test]
        fn hostile_bytes_are_refused_and_nothing_more(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            StoredTerms::decode(&[&[1, 3][..], &bytes].concat());
        }
    }

    #[test]
    fn depth_is_bounded_both_ways() {
        let nest = |depth| {
            let mut value = Value::Null;
            for _ in 0..depth {
                value = Value::List(vec![value]);
            }
            let caveat = CaveatRef {
                name: Name::parse("c").unwrap(),
                context: [("x".into(), value)].into(),
            };
            StoredTerms {
                caveat: Some(caveat),
                expires_at: None,
            }
        };
        let deepest = nest(MAX_CONTEXT_DEPTH - 1);
        assert_eq!(StoredTerms::decode(&deepest.encode().unwrap()), Some(deepest));
        assert_eq!(nest(MAX_CONTEXT_DEPTH).encode(), Err(TooDeep));
    }
}
