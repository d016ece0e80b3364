//! The values that caveat expressions compute with: their equality, order and keys, as CEL defines them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::address::Address;
use super::budget::Budget;
use super::evaluate::Stop;

/// A value. Copies are cheap: what is large is shared.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    /// Nanoseconds.
    Duration(i64),
    /// Nanoseconds since 1970, between the years 1 and 9999.
    Timestamp(i128),
    Address(Address),
    List(Arc<[Value]>),
    Map(Arc<BTreeMap<Key, Value>>),
    Optional(Option<Arc<Value>>),
    /// A type, by its name: what `type(x)` answers.
    Type(&'static str),
}

/// A key of a map. Integers of the same number are the same key, signed or not.
#[derive(Debug, Clone)]
pub(super) enum Key {
    Bool(bool),
    Int(i64),
    Uint(u64),
    String(Arc<str>),
}

impl Key {
    /// The key that a value is, if it can be one.
    pub(super) fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Int(value) => Some(Self::Int(*value)),
            Value::Uint(value) => Some(Self::Uint(*value)),
            Value::String(value) => Some(Self::String(value.clone())),
            // A double finds the integer that it equals.
            Value::Double(value) => match whole(*value) {
                Some(number) => match i64::try_from(number) {
                    Ok(number) => Some(Self::Int(number)),
                    Err(_) => u64::try_from(number).ok().map(Self::Uint),
                },
                None => None,
            },
            _ => None,
        }
    }

    /// The value that the key is.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::Int(*value),
            Self::Uint(value) => Value::Uint(*value),
            Self::String(value) => Value::String(value.clone()),
        }
    }

    fn number(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(i128::from(*value)),
            Self::Uint(value) => Some(i128::from(*value)),
            _ => None,
        }
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::String(left), Self::String(right)) => left.cmp(right),
            (Self::Bool(_), _) | (_, Self::String(_)) => Ordering::Less,
            (_, Self::Bool(_)) | (Self::String(_), _) => Ordering::Greater,
            _ => self.number().cmp(&other.number()),
        }
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key {}

impl Value {
    /// The name of the value's type.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Duration(_) => "duration",
            Self::Timestamp(_) => "timestamp",
            Self::Address(_) => "ipaddress",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Type(_) => "type",
        }
    }

    /// Whether two values are equal: numbers by what they count, whatever their types; otherwise values of
    /// different types differ.
    pub(super) fn equals(&self, other: &Self, budget: &mut Budget) -> Result<bool, Stop> {
        budget.spend(1)?;
        Ok(match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(left), Self::Bool(right)) => left == right,
            (Self::String(left), Self::String(right)) => {
                budget.spend_bytes(left.len().min(right.len()))?;
                left == right
            }
            (Self::Bytes(left), Self::Bytes(right)) => {
                budget.spend_bytes(left.len().min(right.len()))?;
                left == right
            }
            (Self::Duration(left), Self::Duration(right)) => left == right,
            (Self::Timestamp(left), Self::Timestamp(right)) => left == right,
            (Self::Address(left), Self::Address(right)) => left == right,
            (Self::Type(left), Self::Type(right)) => left == right,
            (Self::Optional(None), Self::Optional(None)) => true,
            (Self::Optional(Some(left)), Self::Optional(Some(right))) => left.equals(right, budget)?,
            (Self::List(left), Self::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (left, right) in left.iter().zip(right.iter()) {
                    if !left.equals(right, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Map(left), Self::Map(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (key, left) in left.iter() {
                    match right.get(key) {
                        Some(right) if left.equals(right, budget)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            _ => compare_numbers(self, other) == Some(Ordering::Equal),
        })
    }

    /// How two values are ordered, or that they are not comparable: the outer `None`. The inner one is for NaN.
    pub(super) fn compare(
        &self,
        other: &Self,
        budget: &mut Budget,
    ) -> Result<Option<Option<Ordering>>, Stop> {
        Ok(Some(Some(match (self, other) {
            (Self::Bool(left), Self::Bool(right)) => left.cmp(right),
            (Self::String(left), Self::String(right)) => {
                budget.spend_bytes(left.len().min(right.len()))?;
                left.cmp(right)
            }
            (Self::Bytes(left), Self::Bytes(right)) => {
                budget.spend_bytes(left.len().min(right.len()))?;
                left.cmp(right)
            }
            (Self::Duration(left), Self::Duration(right)) => left.cmp(right),
            (Self::Timestamp(left), Self::Timestamp(right)) => left.cmp(right),
            _ if self.is_number() && other.is_number() => return Ok(Some(compare_numbers(self, other))),
            _ => return Ok(None),
        })))
    }

    const fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }
}

/// The integer that a double is, if it is one and fits 64 bits, signed or not.
pub(super) fn whole(number: f64) -> Option<i128> {
    // 2^64 is exact as a double, and the cast below is exact within these bounds.
    let bound = 18_446_744_073_709_551_616.0;
    (number.fract() == 0.0 && number.abs() < bound).then_some(number as i128)
}

/// Compares numbers exactly, without rounding a large integer to a double. `None` for NaN and for what is no number.
fn compare_numbers(left: &Value, right: &Value) -> Option<Ordering> {
    let integer = |value: &Value| match value {
        Value::Int(number) => Some(i128::from(*number)),
        Value::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    match (left, right) {
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Double(left), right) => integer(right)
            .and_then(|right| compare_with_double(right, *left))
            .map(Ordering::reverse),
        (left, Value::Double(right)) => integer(left).and_then(|left| compare_with_double(left, *right)),
        (left, right) => Some(integer(left)?.cmp(&integer(right)?)),
    }
}

fn compare_with_double(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    // The cast saturates far outside 64 bits, which orders infinities rightly.
    let floor = double.floor();
    Some(match integer.cmp(&(floor as i128)) {
        Ordering::Equal if double > floor => Ordering::Less,
        ordering => ordering,
    })
}
