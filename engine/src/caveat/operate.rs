//! What the operators do with values.

use super::budget::Budget;
use super::evaluate::{Answer, Stop};
use super::function::shown;
use super::syntax::Operator;
use super::time;
use super::value::{Key, Value, whole};

fn failed<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(message.into()))
}

/// The failure of an operator that does not take such values.
pub(super) fn no_such_operation(operator: Operator, left: &Value, right: &Value) -> Answer {
    failed(format!(
        "`{}` does not take {} and {}",
        operator.symbol(),
        left.type_name(),
        right.type_name()
    ))
}

/// The failure of looking for what a list or map does not hold.
pub(super) fn no_such_item(index: &Value) -> Answer {
    match index {
        Value::String(key) => failed(format!("no such key `{}`", shown(key))),
        Value::Int(index) => failed(format!("nothing is at {index}")),
        Value::Uint(index) => failed(format!("nothing is at {index}")),
        _ => failed("no such key"),
    }
}

/// `-value`
pub(super) fn negate(value: &Value) -> Answer {
    match value {
        Value::Int(number) => number
            .checked_neg()
            .map_or_else(|| failed("integer overflow"), |n| Ok(Value::Int(n))),
        Value::Double(number) => Ok(Value::Double(-number)),
        other => failed(format!("`-` does not take a value of type {}", other.type_name())),
    }
}

/// `left + right`
pub(super) fn add(left: &Value, right: &Value, budget: &mut Budget) -> Answer {
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            budget.spend_bytes(left.len() + right.len())?;
            Ok(Value::String([&**left, &**right].concat().into()))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            budget.spend_bytes(left.len() + right.len())?;
            Ok(Value::Bytes([&**left, &**right].concat().into()))
        }
        (Value::List(left), Value::List(right)) => {
            budget.spend_items(left.len() + right.len())?;
            Ok(Value::List([&**left, &**right].concat().into()))
        }
        (Value::Timestamp(moment), Value::Duration(span))
        | (Value::Duration(span), Value::Timestamp(moment)) => {
            in_range(time::timestamp(moment + i128::from(*span)).map(Value::Timestamp))
        }
        _ => arithmetic(Operator::Add, left, right),
    }
}

/// Sums, differences, products, quotients and remainders of numbers; differences in time.
pub(super) fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Answer {
    match (left, right) {
        (Value::Double(left), Value::Double(right)) => {
            let number = match operator {
                Operator::Add => left + right,
                Operator::Subtract => left - right,
                Operator::Multiply => left * right,
                Operator::Divide => left / right,
                _ => return failed("`%` does not take doubles"),
            };
            Ok(Value::Double(number))
        }
        (Value::Uint(left), Value::Uint(right)) => {
            let number = integer(operator, (*left).into(), (*right).into())?;
            in_range(
                number
                    .and_then(|number| u64::try_from(number).ok())
                    .map(Value::Uint),
            )
        }
        (Value::Int(_) | Value::Uint(_), Value::Int(_) | Value::Uint(_)) => {
            // A `uint` parameter beside an int: the answer is an int.
            let number = integer(operator, wide(left), wide(right))?;
            in_range(
                number
                    .and_then(|number| i64::try_from(number).ok())
                    .map(Value::Int),
            )
        }
        (Value::Duration(left), Value::Duration(right)) => {
            let span = match operator {
                Operator::Add => left.checked_add(*right),
                Operator::Subtract => left.checked_sub(*right),
                _ => return no_such_operation(operator, &Value::Duration(*left), &Value::Duration(*right)),
            };
            in_range(span.map(Value::Duration))
        }
        (Value::Timestamp(left), Value::Timestamp(right)) if operator == Operator::Subtract => {
            in_range(i64::try_from(left - right).ok().map(Value::Duration))
        }
        (Value::Timestamp(moment), Value::Duration(span)) if operator == Operator::Subtract => {
            in_range(time::timestamp(moment - i128::from(*span)).map(Value::Timestamp))
        }
        _ => no_such_operation(operator, left, right),
    }
}

fn wide(value: &Value) -> i128 {
    match value {
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        _ => 0,
    }
}

fn in_range(value: Option<Value>) -> Answer {
    value.map_or_else(|| failed("the result is out of range"), Ok)
}

fn integer(operator: Operator, left: i128, right: i128) -> Result<Option<i128>, Stop> {
    Ok(match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        _ if right == 0 => return failed("division by zero"),
        Operator::Divide => left.checked_div(right),
        // The remainder of an overflowing division overflows with it.
        _ if left == i128::from(i64::MIN) && right == -1 => None,
        _ => left.checked_rem(right),
    })
}

/// The item of a list at an index, or of a map under a key; `None` if there is none.
pub(super) fn find(container: &Value, index: &Value, budget: &mut Budget) -> Result<Option<Value>, Stop> {
    match container {
        Value::List(items) => {
            let position = match index {
                Value::Int(position) => Some(i128::from(*position)),
                Value::Uint(position) => Some(i128::from(*position)),
                Value::Double(position) => whole(*position),
                _ => None,
            };
            match position {
                Some(position) => Ok(usize::try_from(position)
                    .ok()
                    .and_then(|at| items.get(at))
                    .cloned()),
                None => failed(format!(
                    "a list is not indexed by a value of type {}",
                    index.type_name()
                )),
            }
        }
        Value::Map(entries) => {
            if let Value::String(key) = index {
                budget.spend_bytes(key.len())?;
            }
            Ok(Key::of(index).and_then(|key| entries.get(&key)).cloned())
        }
        other => failed(format!("a value of type {} has no items", other.type_name())),
    }
}

/// `value in container`
pub(super) fn contains(container: &Value, value: &Value, budget: &mut Budget) -> Answer {
    match container {
        Value::List(items) => {
            for item in items.iter() {
                if item.equals(value, budget)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        Value::Map(_) => Ok(Value::Bool(find(container, value, budget)?.is_some())),
        _ => no_such_operation(Operator::In, value, container),
    }
}
