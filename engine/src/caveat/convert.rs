//! Context values as the types that caveats declare.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::CaveatError;
use super::address::Address;
use super::budget::Budget;
use super::evaluate::Stop;
use super::limits::MAX_CONTEXT_DEPTH;
use super::time;
use super::value::{Key, Value, whole};
use crate::context;
use crate::schema::CaveatType;

/// Why a value did not convert.
enum Refusal {
    /// It does not fit its type.
    Value(String),
    /// It is too large.
    Limit(&'static str),
}

impl From<Stop> for Refusal {
    fn from(_: Stop) -> Self {
        Self::Limit("context size")
    }
}

/// Converts the value of a parameter to its declared type.
pub(super) fn convert(
    parameter: &str,
    declared: &CaveatType,
    value: &context::Value,
    budget: &mut Budget,
) -> Result<Value, CaveatError> {
    converted(declared, value, 0, budget).map_err(|refusal| match refusal {
        Refusal::Value(message) => CaveatError::Parameter {
            parameter: parameter.to_owned(),
            message,
        },
        Refusal::Limit(limit) => CaveatError::Limit { limit },
    })
}

fn converted(
    declared: &CaveatType,
    value: &context::Value,
    depth: usize,
    budget: &mut Budget,
) -> Result<Value, Refusal> {
    use context::Value as Given;
    if depth > MAX_CONTEXT_DEPTH {
        return Err(Refusal::Limit("context nesting"));
    }
    budget.spend(1)?;
    if let Given::String(text) = value {
        budget.spend_bytes(text.len())?;
    }
    let fits = match (declared, value) {
        (CaveatType::Any, _) => Some(any(value, depth, budget)?),
        (CaveatType::Bool, Given::Bool(value)) => Some(Value::Bool(*value)),
        (CaveatType::String, Given::String(text)) => Some(Value::String(text.as_str().into())),
        (CaveatType::Int, _) => integer(value)
            .and_then(|number| i64::try_from(number).ok())
            .map(Value::Int),
        (CaveatType::Uint, _) => integer(value)
            .and_then(|number| u64::try_from(number).ok())
            .map(Value::Uint),
        (CaveatType::Double, _) => double(value).map(Value::Double),
        (CaveatType::Bytes, Given::String(text)) => {
            STANDARD.decode(text).ok().map(|bytes| Value::Bytes(bytes.into()))
        }
        (CaveatType::Duration, Given::String(text)) => time::parse_duration(text).map(Value::Duration),
        (CaveatType::Timestamp, Given::String(text)) => time::parse_timestamp(text).map(Value::Timestamp),
        (CaveatType::IpAddress, Given::String(text)) => Address::parse(text).map(Value::Address),
        (CaveatType::List(item), Given::List(values)) => {
            let mut list = Vec::with_capacity(values.len());
            for (index, value) in values.iter().enumerate() {
                list.push(
                    converted(item, value, depth + 1, budget)
                        .map_err(|refusal| within(refusal, format_args!("item {index}")))?,
                );
            }
            Some(Value::List(list.into()))
        }
        (CaveatType::Map(item), Given::Map(values)) => {
            let mut map = BTreeMap::new();
            for (key, value) in values {
                budget.spend_bytes(key.len())?;
                let value = converted(item, value, depth + 1, budget)
                    .map_err(|refusal| within(refusal, format_args!("key `{key}`")))?;
                map.insert(Key::String(key.as_str().into()), value);
            }
            Some(Value::Map(map.into()))
        }
        _ => None,
    };
    fits.ok_or_else(|| {
        Refusal::Value(format!(
            "{} is wanted, {} was given",
            wanted(declared),
            given(value)
        ))
    })
}

/// A value of no declared type. Numbers are doubles, as they are in JSON, save the integers that no double holds.
fn any(value: &context::Value, depth: usize, budget: &mut Budget) -> Result<Value, Refusal> {
    use context::Value as Given;
    Ok(match value {
        Given::Null => Value::Null,
        Given::Bool(value) => Value::Bool(*value),
        Given::Int(number) => {
            let double = *number as f64;
            if whole(double) == Some(i128::from(*number)) {
                Value::Double(double)
            } else {
                Value::Int(*number)
            }
        }
        Given::Uint(number) => {
            let double = *number as f64;
            if whole(double) == Some(i128::from(*number)) {
                Value::Double(double)
            } else {
                Value::Uint(*number)
            }
        }
        Given::Double(number) => Value::Double(*number),
        Given::String(text) => Value::String(text.as_str().into()),
        Given::List(_) => converted(&CaveatType::List(Box::new(CaveatType::Any)), value, depth, budget)?,
        Given::Map(_) => converted(&CaveatType::Map(Box::new(CaveatType::Any)), value, depth, budget)?,
    })
}

fn within(refusal: Refusal, place: std::fmt::Arguments<'_>) -> Refusal {
    match refusal {
        Refusal::Value(message) => Refusal::Value(format!("{place}: {message}")),
        limit => limit,
    }
}

/// The integer that a number, or a string of a decimal number, is.
fn integer(value: &context::Value) -> Option<i128> {
    match value {
        context::Value::Int(number) => Some(i128::from(*number)),
        context::Value::Uint(number) => Some(i128::from(*number)),
        context::Value::Double(number) => whole(*number),
        context::Value::String(text) => integer_of_decimal(text),
        _ => None,
    }
}

/// Reads `42`, `-42`, `42.0` and `4.2e1`, without rounding.
fn integer_of_decimal(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (before, after) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [before, after].concat();
    if digits.is_empty() || !digits.bytes().all(|next| next.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    let dropped = i32::try_from(digits.len() - significant.len()).ok()?;
    let scale = exponent
        .checked_sub(i32::try_from(after.len()).ok()?)?
        .checked_add(dropped)?;
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let number = significant
        .parse::<i128>()
        .ok()?
        .checked_mul(10_i128.checked_pow(u32::try_from(scale).ok()?)?)?;
    Some(if negative { -number } else { number })
}

fn double(value: &context::Value) -> Option<f64> {
    match value {
        context::Value::Int(number) => Some(*number as f64),
        context::Value::Uint(number) => Some(*number as f64),
        context::Value::Double(number) => Some(*number),
        context::Value::String(text) => text.parse::<f64>().ok().filter(|number| number.is_finite()),
        _ => None,
    }
}

fn wanted(declared: &CaveatType) -> &'static str {
    match declared {
        CaveatType::Any => "any value",
        CaveatType::Bool => "a bool",
        CaveatType::String => "a string",
        CaveatType::Int => "an int (a whole number of 64 bits, or its decimal text)",
        CaveatType::Uint => "a uint (a whole number of 64 bits that is not negative, or its decimal text)",
        CaveatType::Double => "a double (a number, or its decimal text)",
        CaveatType::Bytes => "bytes (as base64 text)",
        CaveatType::Duration => "a duration (such as `1h30m`)",
        CaveatType::Timestamp => "a timestamp (RFC 3339, such as `2030-01-31T08:00:00Z`)",
        CaveatType::IpAddress => "an ipaddress (such as `192.0.2.1`)",
        CaveatType::List(_) => "a list",
        CaveatType::Map(_) => "a map",
    }
}

fn given(value: &context::Value) -> String {
    match value {
        context::Value::Null => "null".to_owned(),
        context::Value::Bool(value) => format!("`{value}`"),
        context::Value::Int(number) => format!("`{number}`"),
        context::Value::Uint(number) => format!("`{number}`"),
        context::Value::Double(number) => format!("`{number}`"),
        context::Value::String(text) if text.chars().count() <= 64 => format!("\"{}\"", text.escape_debug()),
        context::Value::String(_) => "a long string".to_owned(),
        context::Value::List(_) => "a list".to_owned(),
        context::Value::Map(_) => "a map".to_owned(),
    }
}
