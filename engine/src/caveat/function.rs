//! The functions that expressions can call: what they take, and what they answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::address::Address;
use super::budget::Budget;
use super::evaluate::{Answer, Stop};
use super::pattern;
use super::time::{self, Part};
use super::types::Type;
use super::value::{Key, Value};

/// A function, whichever of its overloads is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    Address,
    Dyn,
    Type,
    InCidr,
    IsSubtreeOf,
    Part(Part),
    OptionalOf,
    OptionalOfNonZero,
    OptionalNone,
    HasValue,
    OptionalValue,
}

/// How a function is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `size(x)`
    Global,
    /// `x.size()`
    Member,
    /// Either.
    Both,
}

/// The function called so with arguments of these types (that of a member call's target first), and the type of its
/// answer. The error is what to tell the author.
pub(super) fn resolve(name: &str, member: bool, arguments: &[Type]) -> Result<(Function, Type), String> {
    let mut known = false;
    for (candidate, form, function) in FUNCTIONS {
        if *candidate != name {
            continue;
        }
        known = true;
        let form_fits = *form == Form::Both || (*form == Form::Member) == member;
        if let Some(answer) = form_fits.then(|| answer_type(*function, arguments)).flatten() {
            return Ok((*function, answer));
        }
    }
    if !known {
        return Err(format!("undeclared function `{name}`"));
    }
    let types: Vec<String> = arguments.iter().map(Type::to_string).collect();
    Err(match types.split_first() {
        Some((target, rest)) if member => format!("`{target}.{name}({})` is no function", rest.join(", ")),
        _ => format!("`{name}({})` is no function", types.join(", ")),
    })
}

const FUNCTIONS: &[(&str, Form, Function)] = &[
    ("size", Form::Both, Function::Size),
    ("contains", Form::Member, Function::Contains),
    ("startsWith", Form::Member, Function::StartsWith),
    ("endsWith", Form::Member, Function::EndsWith),
    ("matches", Form::Both, Function::Matches),
    ("bool", Form::Global, Function::Bool),
    ("int", Form::Global, Function::Int),
    ("uint", Form::Global, Function::Uint),
    ("double", Form::Global, Function::Double),
    ("string", Form::Global, Function::String),
    ("bytes", Form::Global, Function::Bytes),
    ("duration", Form::Global, Function::Duration),
    ("timestamp", Form::Global, Function::Timestamp),
    ("ipaddress", Form::Global, Function::Address),
    ("dyn", Form::Global, Function::Dyn),
    ("type", Form::Global, Function::Type),
    ("in_cidr", Form::Member, Function::InCidr),
    ("isSubtreeOf", Form::Member, Function::IsSubtreeOf),
    ("getFullYear", Form::Member, Function::Part(Part::FullYear)),
    ("getMonth", Form::Member, Function::Part(Part::Month)),
    ("getDate", Form::Member, Function::Part(Part::Date)),
    ("getDayOfMonth", Form::Member, Function::Part(Part::DayOfMonth)),
    ("getDayOfWeek", Form::Member, Function::Part(Part::DayOfWeek)),
    ("getDayOfYear", Form::Member, Function::Part(Part::DayOfYear)),
    ("getHours", Form::Member, Function::Part(Part::Hours)),
    ("getMinutes", Form::Member, Function::Part(Part::Minutes)),
    ("getSeconds", Form::Member, Function::Part(Part::Seconds)),
    (
        "getMilliseconds",
        Form::Member,
        Function::Part(Part::Milliseconds),
    ),
    ("hasValue", Form::Member, Function::HasValue),
    ("value", Form::Member, Function::OptionalValue),
];

/// The type of a function's answer for arguments of these types, if it takes them.
pub(super) fn answer_type(function: Function, arguments: &[Type]) -> Option<Type> {
    let all_fit = |wanted: &[Type]| {
        arguments.len() == wanted.len()
            && arguments
                .iter()
                .zip(wanted)
                .all(|(argument, wanted)| argument.fits(wanted))
    };
    let one_of = |wanted: &[Type]| match arguments {
        [only] => wanted.iter().any(|wanted| only.fits(wanted)),
        _ => false,
    };
    let scalars = [Type::Int, Type::Uint, Type::Double, Type::String];
    let (fits, answer) = match function {
        Function::Size => {
            let sized = matches!(
                arguments,
                [Type::String | Type::Bytes | Type::List(_) | Type::Map(..) | Type::Dyn]
            );
            (sized, Type::Int)
        }
        Function::Contains | Function::StartsWith | Function::EndsWith | Function::Matches => {
            (all_fit(&[Type::String, Type::String]), Type::Bool)
        }
        Function::Bool => (one_of(&[Type::Bool, Type::String]), Type::Bool),
        Function::Int => (
            one_of(&scalars) || one_of(&[Type::Timestamp, Type::Duration]),
            Type::Int,
        ),
        Function::Uint => (one_of(&scalars), Type::Uint),
        Function::Double => (one_of(&scalars), Type::Double),
        Function::String => {
            let others = [
                Type::Bool,
                Type::Bytes,
                Type::Timestamp,
                Type::Duration,
                Type::Address,
            ];
            (one_of(&scalars) || one_of(&others), Type::String)
        }
        Function::Bytes => (one_of(&[Type::Bytes, Type::String]), Type::Bytes),
        Function::Duration => (one_of(&[Type::Duration, Type::String, Type::Int]), Type::Duration),
        Function::Timestamp => (
            one_of(&[Type::Timestamp, Type::String, Type::Int]),
            Type::Timestamp,
        ),
        Function::Address => (one_of(&[Type::Address, Type::String]), Type::Address),
        Function::Dyn => (arguments.len() == 1, Type::Dyn),
        Function::Type => (arguments.len() == 1, Type::Meta),
        Function::InCidr => (all_fit(&[Type::Address, Type::String]), Type::Bool),
        Function::IsSubtreeOf => {
            let tree = Type::Map(Box::new(Type::String), Box::new(Type::Dyn));
            (all_fit(&[tree.clone(), tree]), Type::Bool)
        }
        Function::Part(part) => {
            let of_duration = time::part_of_duration(part, 0).is_some() && one_of(&[Type::Duration]);
            let of_timestamp = one_of(&[Type::Timestamp]) || all_fit(&[Type::Timestamp, Type::String]);
            (of_duration || of_timestamp, Type::Int)
        }
        Function::OptionalOf | Function::OptionalOfNonZero => match arguments {
            [only] => (true, Type::Optional(Box::new(only.clone()))),
            _ => (false, Type::Dyn),
        },
        Function::OptionalNone => (arguments.is_empty(), Type::Optional(Box::new(Type::Dyn))),
        Function::HasValue => (all_fit(&[Type::Optional(Box::new(Type::Dyn))]), Type::Bool),
        Function::OptionalValue => match arguments {
            [Type::Optional(item)] => (true, (**item).clone()),
            [Type::Dyn] => (true, Type::Dyn),
            _ => (false, Type::Dyn),
        },
    };
    fits.then_some(answer)
}

fn failed<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(message.into()))
}

/// Calls a function. Checking saw that types fit as far as it could; what it could not see ends here as a failure.
pub(super) fn call(function: Function, arguments: &[Value], budget: &mut Budget) -> Answer {
    match (function, arguments) {
        (Function::Size, [value]) => size(value, budget),
        (Function::Contains, [Value::String(text), Value::String(part)]) => {
            budget.spend_bytes(text.len() + part.len())?;
            Ok(Value::Bool(text.contains(&**part)))
        }
        (Function::StartsWith, [Value::String(text), Value::String(part)]) => {
            budget.spend_bytes(part.len())?;
            Ok(Value::Bool(text.starts_with(&**part)))
        }
        (Function::EndsWith, [Value::String(text), Value::String(part)]) => {
            budget.spend_bytes(part.len())?;
            Ok(Value::Bool(text.ends_with(&**part)))
        }
        (Function::Matches, [Value::String(text), Value::String(source)]) => {
            pattern::Pattern::compile_at_evaluation(source, budget)?.matches(text, budget)
        }
        (Function::Dyn, [value]) => Ok(value.clone()),
        (Function::Type, [value]) => Ok(Value::Type(value.type_name())),
        (Function::InCidr, [Value::Address(address), Value::String(network)]) => match address.is_in(network)
        {
            Some(inside) => Ok(Value::Bool(inside)),
            None => failed(format!("`{}` is no network in CIDR notation", shown(network))),
        },
        (Function::IsSubtreeOf, [Value::Map(left), Value::Map(right)]) => {
            Ok(Value::Bool(is_subtree(left, right, budget)?))
        }
        (Function::Part(part), [Value::Duration(value)]) => match time::part_of_duration(part, *value) {
            Some(number) => Ok(Value::Int(number)),
            None => failed("a duration has no such part"),
        },
        (Function::Part(part), [Value::Timestamp(value)]) => part_in_zone(part, *value, "", budget),
        (Function::Part(part), [Value::Timestamp(value), Value::String(zone)]) => {
            part_in_zone(part, *value, zone, budget)
        }
        (Function::OptionalOf, [value]) => Ok(Value::Optional(Some(Arc::new(value.clone())))),
        (Function::OptionalOfNonZero, [value]) => Ok(Value::Optional(
            (!is_zero(value)).then(|| Arc::new(value.clone())),
        )),
        (Function::OptionalNone, []) => Ok(Value::Optional(None)),
        (Function::HasValue, [Value::Optional(value)]) => Ok(Value::Bool(value.is_some())),
        (Function::OptionalValue, [Value::Optional(value)]) => match value {
            Some(value) => Ok((**value).clone()),
            None => failed("the optional has no value"),
        },
        (_, [value]) => convert(function, value, budget),
        _ => failed("a function was called with arguments it does not take"),
    }
}

fn part_in_zone(part: Part, value: i128, zone: &str, budget: &mut Budget) -> Answer {
    // A named zone is looked up each time.
    budget.spend(if zone.is_empty() { 1 } else { 20 })?;
    match time::part_of_timestamp(part, value, zone) {
        Some(number) => Ok(Value::Int(number)),
        None => failed(format!("`{}` is no time zone", shown(zone))),
    }
}

fn size(value: &Value, budget: &mut Budget) -> Answer {
    let size = match value {
        Value::String(text) => {
            budget.spend_bytes(text.len())?;
            text.chars().count()
        }
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        other => return failed(format!("a value of type {} has no size", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

/// Whether every key of one map is in the other with the same value, through nested maps.
fn is_subtree(
    left: &BTreeMap<Key, Value>,
    right: &BTreeMap<Key, Value>,
    budget: &mut Budget,
) -> Result<bool, Stop> {
    for (key, left) in left {
        budget.spend(1)?;
        let same = match (left, right.get(key)) {
            (_, None) => false,
            (Value::Map(left), Some(Value::Map(right))) => is_subtree(left, right, budget)?,
            (left, Some(right)) => left.equals(right, budget)?,
        };
        if !same {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(number) => *number == 0,
        Value::Uint(number) => *number == 0,
        Value::Double(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::Duration(nanoseconds) => *nanoseconds == 0,
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
        Value::Optional(value) => value.is_none(),
        Value::Timestamp(_) | Value::Address(_) | Value::Type(_) => false,
    }
}

/// The conversions between types: `int("42")`, `string(1.5)` and so on.
fn convert(function: Function, value: &Value, budget: &mut Budget) -> Answer {
    if let Value::String(text) = value {
        budget.spend_bytes(text.len())?;
    }
    let converted = match function {
        Function::Bool => to_bool(value),
        Function::Int => to_int(value),
        Function::Uint => to_uint(value),
        Function::Double => to_double(value),
        Function::String => return to_string(value, budget),
        Function::Bytes => match value {
            Value::Bytes(_) => Some(value.clone()),
            Value::String(text) => Some(Value::Bytes(text.as_bytes().into())),
            _ => None,
        },
        Function::Duration => match value {
            Value::Duration(_) => Some(value.clone()),
            Value::Int(nanoseconds) => Some(Value::Duration(*nanoseconds)),
            Value::String(text) => time::parse_duration(text).map(Value::Duration),
            _ => None,
        },
        Function::Timestamp => match value {
            Value::Timestamp(_) => Some(value.clone()),
            Value::Int(seconds) => time::timestamp_of_seconds(*seconds).map(Value::Timestamp),
            Value::String(text) => time::parse_timestamp(text).map(Value::Timestamp),
            _ => None,
        },
        Function::Address => match value {
            Value::Address(_) => Some(value.clone()),
            Value::String(text) => Address::parse(text).map(Value::Address),
            _ => None,
        },
        _ => None,
    };
    let target = FUNCTIONS
        .iter()
        .find(|(.., candidate)| *candidate == function)
        .map_or("", |(name, ..)| name);
    converted.map_or_else(
        || failed(format!("{} does not convert to {target}", described(value))),
        Ok,
    )
}

fn to_bool(value: &Value) -> Option<Value> {
    match value {
        Value::Bool(_) => Some(value.clone()),
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Value::Bool(false)),
            _ => None,
        },
        _ => None,
    }
}

fn to_int(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        // Exclusive: -2^63 itself may be the rounding of something smaller.
        Value::Double(number) if number.abs() < 9_223_372_036_854_775_808.0 => Some(*number as i64),
        Value::String(text) => text.parse().ok(),
        Value::Timestamp(nanoseconds) => Some(time::seconds_of_timestamp(*nanoseconds)),
        Value::Duration(nanoseconds) => Some(*nanoseconds),
        _ => None,
    };
    number.map(Value::Int)
}

fn to_uint(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Uint(number) => Some(*number),
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::Double(number) if *number > -1.0 && *number < 18_446_744_073_709_551_616.0 => {
            Some(*number as u64)
        }
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.map(Value::Uint)
}

fn to_double(value: &Value) -> Option<Value> {
    let number = match value {
        Value::Double(number) => Some(*number),
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.map(Value::Double)
}

fn to_string(value: &Value, budget: &mut Budget) -> Answer {
    let text = match value {
        Value::String(_) => return Ok(value.clone()),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => write_double(*number),
        Value::Bytes(bytes) => {
            budget.spend_bytes(bytes.len())?;
            match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => return failed("the bytes are not UTF-8 text"),
            }
        }
        Value::Duration(nanoseconds) => time::write_duration(*nanoseconds),
        Value::Timestamp(nanoseconds) => match time::write_timestamp(*nanoseconds) {
            Some(text) => text,
            None => return failed("the timestamp is out of range"),
        },
        Value::Address(address) => address.to_string(),
        other => return failed(format!("{} does not convert to string", described(other))),
    };
    Ok(Value::String(text.into()))
}

/// Writes a double as CEL does: the fewest digits that read back the same, with an exponent below 10^-4 and from 10^6.
fn write_double(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>().unwrap_or_default() {
        exponent if number != 0.0 && !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => number.to_string(),
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::String(text) => format!("the string \"{}\"", shown(text)),
        Value::Int(number) => format!("the int {number}"),
        Value::Uint(number) => format!("the uint {number}"),
        Value::Double(number) => format!("the double {number}"),
        other => format!("a value of type {}", other.type_name()),
    }
}

/// User text as an error shows it: escaped, and not at length.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}
