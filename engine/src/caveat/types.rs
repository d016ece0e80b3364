//! The types that checking gives to the parts of an expression, and what operators make of them.

use std::fmt;

use super::syntax::Operator;
use crate::schema::CaveatType;

/// A type as far as it is known before evaluation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    /// Known at evaluation only.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    /// A parameter declared `uint`: schemas use those with both kinds of integer literals.
    Whole,
    Double,
    String,
    Bytes,
    Duration,
    Timestamp,
    Address,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Optional(Box<Type>),
    /// What `type(x)` answers.
    Meta,
}

impl From<&CaveatType> for Type {
    fn from(declared: &CaveatType) -> Self {
        match declared {
            CaveatType::Any => Self::Dyn,
            CaveatType::Bool => Self::Bool,
            CaveatType::String => Self::String,
            CaveatType::Int => Self::Int,
            CaveatType::Uint => Self::Whole,
            CaveatType::Double => Self::Double,
            CaveatType::Bytes => Self::Bytes,
            CaveatType::Duration => Self::Duration,
            CaveatType::Timestamp => Self::Timestamp,
            CaveatType::IpAddress => Self::Address,
            CaveatType::List(item) => Self::List(Box::new(Self::from(&**item))),
            CaveatType::Map(item) => Self::Map(Box::new(Self::String), Box::new(Self::from(&**item))),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Dyn => "any",
            Self::Null => "null",
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint | Self::Whole => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::Address => "ipaddress",
            Self::Meta => "type",
            Self::List(item) => return write!(formatter, "list<{item}>"),
            Self::Map(_, item) => return write!(formatter, "map<{item}>"),
            Self::Optional(item) => return write!(formatter, "optional<{item}>"),
        })
    }
}

impl Type {
    pub(super) const fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Whole | Self::Double)
    }

    /// Whether a value of this type may stand where `wanted` is.
    pub(super) fn fits(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Dyn, _) | (_, Self::Dyn) => true,
            (Self::Whole, Self::Int | Self::Uint) => true,
            (Self::List(left), Self::List(right)) | (Self::Optional(left), Self::Optional(right)) => {
                left.fits(right)
            }
            (Self::Map(left_key, left), Self::Map(right_key, right)) => {
                left_key.fits(right_key) && left.fits(right)
            }
            _ => self == wanted,
        }
    }

    /// Whether values of the two types can be equal at all.
    pub(super) fn is_comparable(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::List(left), Self::List(right)) | (Self::Optional(left), Self::Optional(right)) => {
                left.is_comparable(right)
            }
            (Self::Map(left_key, left), Self::Map(right_key, right)) => {
                left_key.is_comparable(right_key) && left.is_comparable(right)
            }
            // Lists, maps and optionals may hold null; and `x == null` is a fair question of any value.
            (Self::Null, _) | (_, Self::Null) => true,
            _ => (self.is_number() && other.is_number()) || self.fits(other) || other.fits(self),
        }
    }

    /// The type of what is either of the two, if they belong together.
    pub(super) fn join(self, other: Self) -> Option<Self> {
        Some(match (self, other) {
            (left, right) if left == right => left,
            (Self::Dyn | Self::Null, _) | (_, Self::Dyn | Self::Null) => Self::Dyn,
            (Self::Whole, Self::Int | Self::Uint) | (Self::Int | Self::Uint, Self::Whole) => Self::Whole,
            (Self::List(left), Self::List(right)) => Self::List(Box::new(left.join(*right)?)),
            (Self::Optional(left), Self::Optional(right)) => Self::Optional(Box::new(left.join(*right)?)),
            (Self::Map(left_key, left), Self::Map(right_key, right)) => {
                Self::Map(Box::new(left_key.join(*right_key)?), Box::new(left.join(*right)?))
            }
            _ => return None,
        })
    }
}

/// The type of a binary operation; `None` if the operator does not take such operands.
pub(super) fn of_operation(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Type::{Bool, Bytes, Double, Duration, Dyn, List, Map, String, Timestamp};
    match operator {
        Operator::Equal | Operator::NotEqual => left.is_comparable(right).then_some(Bool),
        Operator::In => match right {
            Dyn => Some(Bool),
            List(item) => left.is_comparable(item).then_some(Bool),
            Map(key, _) => left.is_comparable(key).then_some(Bool),
            _ => None,
        },
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let ordered = |side: &Type| {
                side.is_number() || matches!(side, Dyn | Bool | String | Bytes | Duration | Timestamp)
            };
            let same = (left.is_number() && right.is_number()) || left.fits(right);
            (ordered(left) && ordered(right) && same).then_some(Bool)
        }
        Operator::Add => match (left, right) {
            (String, String) => Some(String),
            (Bytes, Bytes) => Some(Bytes),
            (Duration, Duration) => Some(Duration),
            (Timestamp, Duration) | (Duration, Timestamp) => Some(Timestamp),
            (List(left), List(right)) => Some(List(Box::new(
                (**left).clone().join((**right).clone()).unwrap_or(Dyn),
            ))),
            (Dyn, String | Bytes | Duration | Timestamp | List(_))
            | (String | Bytes | Duration | Timestamp | List(_), Dyn) => Some(Dyn),
            _ => of_arithmetic(left, right),
        },
        Operator::Subtract => match (left, right) {
            (Duration, Duration) | (Timestamp, Timestamp) => Some(Duration),
            (Timestamp, Duration) => Some(Timestamp),
            (Dyn, Duration | Timestamp) | (Duration | Timestamp, Dyn) => Some(Dyn),
            _ => of_arithmetic(left, right),
        },
        Operator::Multiply | Operator::Divide => of_arithmetic(left, right),
        Operator::Remainder => of_arithmetic(left, right).filter(|result| *result != Double),
    }
}

fn of_arithmetic(left: &Type, right: &Type) -> Option<Type> {
    Some(match (left, right) {
        (Type::Dyn, Type::Dyn) => Type::Dyn,
        (Type::Dyn, other) | (other, Type::Dyn) if other.is_number() => Type::Dyn,
        (left, right) if left == right && left.is_number() => left.clone(),
        (Type::Whole, Type::Int | Type::Uint) | (Type::Int | Type::Uint, Type::Whole) => Type::Whole,
        _ => return None,
    })
}
