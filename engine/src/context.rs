//! Caveat context: the values that a relationship stores and a request brings.

use std::collections::BTreeMap;

/// Named values for a caveat's parameters.
pub type Context = BTreeMap<String, Value>;

/// A JSON-shaped value. Numbers keep their kind, so that 64-bit integers stay exact.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer that fits 64 bits, signed.
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    /// Any other number.
    Double(f64),
    /// Text.
    String(String),
    /// An ordered list.
    List(Vec<Value>),
    /// Named values.
    Map(BTreeMap<String, Value>),
}
