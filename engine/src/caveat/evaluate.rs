//! Decides a checked expression in three-valued logic, within a budget.
//!
//! A part whose parameters are missing has no value, only their names. `&&`, `||`, `? :`, `all`, `exists` and
//! `orValue` may do without a part's value; every other operation needs all of its parts and names all that they miss.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::budget::Budget;
use super::expression::{Expr, Loop, LoopKind};
use super::function;
use super::operate;
use super::syntax::Operator;
use super::value::{Key, Value};

/// Positions of parameters that lack a value.
pub(super) type Missing = BTreeSet<usize>;

/// Why a part of an expression has no value.
#[derive(Debug, Clone)]
pub(super) enum Stop {
    /// It takes the values of these parameters.
    Missing(Missing),
    /// It cannot have one.
    Failed(String),
    /// It costs too much; nothing around it can make up for that.
    Limit(&'static str),
}

/// What a part of an expression comes to.
pub(super) type Answer = Result<Value, Stop>;

/// One decision under way.
#[derive(Debug)]
pub(super) struct Evaluation {
    /// The values of the parameters, in their declared order.
    pub(super) parameters: Vec<Option<Value>>,
    pub(super) budget: Budget,
    /// The variables of the loops around, outermost first; or what it takes to know one.
    pub(super) locals: Vec<Result<Value, Missing>>,
}

fn failed<T>(message: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Failed(message.into()))
}

impl Evaluation {
    /// Evaluates an expression that must come to a bool.
    pub(super) fn truth(&mut self, expr: &Expr) -> Result<bool, Stop> {
        match self.value(expr)? {
            Value::Bool(value) => Ok(value),
            other => failed(format!(
                "a bool is wanted, a value of type {} was found",
                other.type_name()
            )),
        }
    }

    fn value(&mut self, expr: &Expr) -> Answer {
        self.budget.spend(1)?;
        match expr {
            Expr::Constant(value) => Ok(value.clone()),
            Expr::Parameter(position) => match self.parameters.get(*position) {
                Some(Some(value)) => Ok(value.clone()),
                _ => Err(Stop::Missing(Missing::from([*position]))),
            },
            Expr::Local(position) => match self.locals.get(*position) {
                Some(Ok(value)) => Ok(value.clone()),
                Some(Err(missing)) => {
                    self.budget.spend_items(missing.len())?;
                    Err(Stop::Missing(missing.clone()))
                }
                None => failed("a loop variable is out of reach"),
            },
            Expr::And(terms) => self.connective(terms, false),
            Expr::Or(terms) => self.connective(terms, true),
            Expr::Not(operand) => Ok(Value::Bool(!self.truth(operand)?)),
            Expr::Negate(operand) => operate::negate(&self.value(operand)?),
            Expr::Conditional(parts) => self.conditional(&parts.0, &parts.1, &parts.2),
            Expr::Binary(operator, parts) => {
                let (left, right) = self.both(parts)?;
                self.binary(*operator, &left, &right)
            }
            Expr::Select {
                operand,
                field,
                optional,
            } => {
                let operand = self.value(operand)?;
                self.item(&operand, &Value::String(field.clone()), *optional)
            }
            Expr::Has { operand, field } => {
                let operand = self.value(operand)?;
                self.has(&operand, field)
            }
            Expr::Index { parts, optional } => {
                let (operand, index) = self.both(parts)?;
                self.item(&operand, &index, *optional)
            }
            Expr::List(items) => Ok(Value::List(self.all_of(items)?.into())),
            Expr::Map(entries) => self.map(entries),
            Expr::Call(function, arguments) => {
                let arguments = self.all_of(arguments)?;
                function::call(*function, &arguments, &mut self.budget)
            }
            Expr::Matches(text, pattern) => match self.value(text)? {
                Value::String(text) => pattern.matches(&text, &mut self.budget),
                other => failed(format!(
                    "`matches` takes a string, not a value of type {}",
                    other.type_name()
                )),
            },
            Expr::Otherwise { parts, optional } => self.otherwise(&parts.0, &parts.1, *optional),
            Expr::OptionalMap(parts) => self.optional_map(&parts.0, &parts.1),
            Expr::Loop(looped) => self.looped(looped),
        }
    }

    /// `&&` (decided by a false term) or `||` (decided by a true one), whichever order the terms come in. A deciding
    /// term outweighs failures and missing values; a missing value might yet decide, so it outweighs failures.
    fn connective(&mut self, terms: &[Expr], decisive: bool) -> Answer {
        let mut undecided = Undecided::default();
        for term in terms {
            let truth = self.truth(term);
            if undecided.add(truth)? == Some(decisive) {
                return Ok(Value::Bool(decisive));
            }
        }
        undecided.or(!decisive)
    }

    fn conditional(&mut self, condition: &Expr, yes: &Expr, no: &Expr) -> Answer {
        let mut missing = match self.truth(condition) {
            Ok(true) => return self.value(yes),
            Ok(false) => return self.value(no),
            Err(Stop::Missing(missing)) => missing,
            Err(stop) => return Err(stop),
        };
        // Whatever the condition turns out to be, the answer is known if both branches agree on it.
        let mut values = Vec::with_capacity(2);
        for branch in [yes, no] {
            match self.value(branch) {
                Ok(value) => values.push(value),
                Err(Stop::Missing(more)) => missing.extend(more),
                Err(Stop::Failed(_)) => {}
                Err(limit @ Stop::Limit(_)) => return Err(limit),
            }
        }
        match values.as_slice() {
            // The same number of another type is another value.
            [left, right]
                if left.type_name() == right.type_name() && left.equals(right, &mut self.budget)? =>
            {
                Ok(left.clone())
            }
            _ => Err(Stop::Missing(missing)),
        }
    }

    fn both(&mut self, parts: &(Expr, Expr)) -> Result<(Value, Value), Stop> {
        match (self.value(&parts.0), self.value(&parts.1)) {
            (Ok(left), Ok(right)) => Ok((left, right)),
            (Ok(_), Err(stop)) | (Err(stop), Ok(_)) => Err(stop),
            (Err(left), Err(right)) => Err(both_stop(left, right)),
        }
    }

    /// Evaluates parts that are all needed: a failure of one is a failure of the whole, whatever is missing.
    fn all_of(&mut self, parts: &[Expr]) -> Result<Vec<Value>, Stop> {
        let mut values = Vec::with_capacity(parts.len());
        let mut stopped: Option<Stop> = None;
        for part in parts {
            match self.value(part) {
                Ok(value) => values.push(value),
                Err(stop) => also(&mut stopped, stop),
            }
        }
        stopped.map_or(Ok(values), Err)
    }

    fn map(&mut self, entries: &[(Expr, Expr)]) -> Answer {
        let mut map = BTreeMap::new();
        let mut stopped: Option<Stop> = None;
        for entry in entries {
            let inserted = self
                .both(entry)
                .and_then(|(value_of_key, value)| match Key::of(&value_of_key) {
                    Some(key) if !matches!(value_of_key, Value::Double(_)) => match map.insert(key, value) {
                        None => Ok(()),
                        Some(_) => failed("a key is given twice"),
                    },
                    _ => failed(format!(
                        "a value of type {} cannot be a key",
                        value_of_key.type_name()
                    )),
                });
            if let Err(stop) = inserted {
                also(&mut stopped, stop);
            }
        }
        stopped.map_or(Ok(Value::Map(map.into())), Err)
    }

    fn binary(&mut self, operator: Operator, left: &Value, right: &Value) -> Answer {
        let budget = &mut self.budget;
        let ordering = match operator {
            Operator::Equal => return Ok(Value::Bool(left.equals(right, budget)?)),
            Operator::NotEqual => return Ok(Value::Bool(!left.equals(right, budget)?)),
            Operator::In => return operate::contains(right, left, budget),
            Operator::Add => return operate::add(left, right, budget),
            Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Remainder => {
                return operate::arithmetic(operator, left, right);
            }
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                match left.compare(right, budget)? {
                    Some(ordering) => ordering,
                    None => return operate::no_such_operation(operator, left, right),
                }
            }
        };
        Ok(Value::Bool(match operator {
            Operator::Less => ordering == Some(Ordering::Less),
            Operator::LessOrEqual => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
            Operator::Greater => ordering == Some(Ordering::Greater),
            _ => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
        }))
    }

    /// The item of a list or map, as an optional if asked so or if the container is one.
    fn item(&mut self, container: &Value, index: &Value, optional: bool) -> Answer {
        if let Value::Optional(inner) = container {
            return match inner {
                Some(inner) => self.item(inner, index, true),
                None => Ok(Value::Optional(None)),
            };
        }
        let found = operate::find(container, index, &mut self.budget)?;
        match (found, optional) {
            (Some(value @ Value::Optional(_)), true) => Ok(value),
            (found, true) => Ok(Value::Optional(found.map(Arc::new))),
            (Some(value), false) => Ok(value),
            (None, false) => operate::no_such_item(index),
        }
    }

    fn has(&mut self, container: &Value, field: &Arc<str>) -> Answer {
        match container {
            Value::Optional(Some(inner)) => self.has(inner, field),
            Value::Optional(None) => Ok(Value::Bool(false)),
            Value::Map(entries) => Ok(Value::Bool(entries.contains_key(&Key::String(field.clone())))),
            other => failed(format!("a value of type {} has no fields", other.type_name())),
        }
    }

    fn otherwise(&mut self, target: &Expr, other: &Expr, optional: bool) -> Answer {
        match self.value(target) {
            Ok(Value::Optional(Some(value))) if optional => Ok(Value::Optional(Some(value))),
            Ok(Value::Optional(Some(value))) => Ok((*value).clone()),
            Ok(Value::Optional(None)) => self.value(other),
            Ok(found) => failed(format!(
                "an optional is wanted, a value of type {} was found",
                found.type_name()
            )),
            // What stands in for the optional may be needed too.
            Err(Stop::Missing(mut missing)) => match self.value(other) {
                Err(limit @ Stop::Limit(_)) => Err(limit),
                Err(Stop::Missing(more)) => {
                    missing.extend(more);
                    Err(Stop::Missing(missing))
                }
                Ok(_) | Err(Stop::Failed(_)) => Err(Stop::Missing(missing)),
            },
            Err(stop) => Err(stop),
        }
    }

    fn optional_map(&mut self, target: &Expr, body: &Expr) -> Answer {
        let local = match self.value(target) {
            Ok(Value::Optional(None)) => return Ok(Value::Optional(None)),
            Ok(Value::Optional(Some(value))) => Ok((*value).clone()),
            Ok(found) => {
                return failed(format!(
                    "`optMap` takes an optional, not a value of type {}",
                    found.type_name()
                ));
            }
            Err(Stop::Missing(missing)) => Err(missing),
            Err(stop) => return Err(stop),
        };
        let unknown = local.as_ref().err().cloned();
        let answer = self.with_local(local, |evaluation| evaluation.value(body));
        match (unknown, answer) {
            (_, Err(limit @ Stop::Limit(_))) => Err(limit),
            (Some(mut missing), Err(Stop::Missing(more))) => {
                missing.extend(more);
                Err(Stop::Missing(missing))
            }
            (Some(missing), _) => Err(Stop::Missing(missing)),
            (None, answer) => answer.map(|value| Value::Optional(Some(Arc::new(value)))),
        }
    }

    fn with_local<T>(&mut self, local: Result<Value, Missing>, then: impl FnOnce(&mut Self) -> T) -> T {
        self.locals.push(local);
        let answer = then(self);
        self.locals.pop();
        answer
    }

    fn looped(&mut self, looped: &Loop) -> Answer {
        let items: Arc<[Value]> = match self.value(&looped.range) {
            Ok(Value::List(items)) => items,
            Ok(Value::Map(entries)) => {
                self.budget.spend_items(entries.len())?;
                entries.keys().map(Key::value).collect()
            }
            Ok(other) => {
                return failed(format!(
                    "a value of type {} has no items to go over",
                    other.type_name()
                ));
            }
            Err(Stop::Missing(missing)) => return self.looped_over_missing(looped, missing),
            Err(stop) => return Err(stop),
        };
        match looped.kind {
            LoopKind::All => self.quantified(&items, &looped.body, false),
            LoopKind::Exists => self.quantified(&items, &looped.body, true),
            LoopKind::ExistsOne => {
                let chosen = self.chosen(&items, &looped.body)?;
                Ok(Value::Bool(chosen.len() == 1))
            }
            LoopKind::Filter => Ok(Value::List(self.chosen(&items, &looped.body)?.into())),
            LoopKind::Map => self.mapped(&items, looped),
        }
    }

    /// Nothing of the list is known; the body tells which further values would matter for some item.
    fn looped_over_missing(&mut self, looped: &Loop, mut missing: Missing) -> Answer {
        for part in looped.filter.iter().chain([&looped.body]) {
            match self.with_local(Err(missing.clone()), |evaluation| evaluation.value(part)) {
                Err(limit @ Stop::Limit(_)) => return Err(limit),
                Err(Stop::Missing(more)) => missing.extend(more),
                Ok(_) | Err(Stop::Failed(_)) => {}
            }
        }
        Err(Stop::Missing(missing))
    }

    /// `all` and `exists`: the connectives over a list.
    fn quantified(&mut self, items: &[Value], body: &Expr, decisive: bool) -> Answer {
        let mut undecided = Undecided::default();
        for item in items {
            let truth = self.with_local(Ok(item.clone()), |evaluation| evaluation.truth(body));
            if undecided.add(truth)? == Some(decisive) {
                return Ok(Value::Bool(decisive));
            }
        }
        undecided.or(!decisive)
    }

    /// The items that a condition holds for; it must be known for all.
    fn chosen(&mut self, items: &[Value], condition: &Expr) -> Result<Vec<Value>, Stop> {
        let mut chosen = Vec::new();
        let mut stopped: Option<Stop> = None;
        for item in items {
            match self.with_local(Ok(item.clone()), |evaluation| evaluation.truth(condition)) {
                Ok(true) => chosen.push(item.clone()),
                Ok(false) => {}
                Err(stop) => also(&mut stopped, stop),
            }
        }
        stopped.map_or(Ok(chosen), Err)
    }

    fn mapped(&mut self, items: &[Value], looped: &Loop) -> Answer {
        let mut mapped = Vec::with_capacity(items.len());
        let mut stopped: Option<Stop> = None;
        for item in items {
            let answer = self.with_local(Ok(item.clone()), |evaluation| {
                let taken = match &looped.filter {
                    Some(filter) => evaluation.truth(filter)?,
                    None => true,
                };
                if taken {
                    evaluation.value(&looped.body).map(Some)
                } else {
                    Ok(None)
                }
            });
            match answer {
                Ok(value) => mapped.extend(value),
                Err(stop) => also(&mut stopped, stop),
            }
        }
        stopped.map_or(Ok(Value::List(mapped.into())), Err)
    }
}

/// What two parts that are both needed stop at together: a limit, else a failure, else all that is missing.
fn both_stop(left: Stop, right: Stop) -> Stop {
    match (left, right) {
        (Stop::Limit(limit), _) | (_, Stop::Limit(limit)) => Stop::Limit(limit),
        (Stop::Failed(message), _) | (_, Stop::Failed(message)) => Stop::Failed(message),
        (Stop::Missing(mut left), Stop::Missing(mut right)) => {
            if left.len() < right.len() {
                std::mem::swap(&mut left, &mut right);
            }
            left.extend(right);
            Stop::Missing(left)
        }
    }
}

/// Adds a stop to those met so far.
fn also(stopped: &mut Option<Stop>, stop: Stop) {
    *stopped = Some(match stopped.take() {
        Some(before) => both_stop(before, stop),
        None => stop,
    });
}

/// The terms of a connective that did not decide it.
#[derive(Default)]
struct Undecided {
    missing: Missing,
    failure: Option<String>,
}

impl Undecided {
    /// Takes a term in; answers its truth if it is known.
    fn add(&mut self, truth: Result<bool, Stop>) -> Result<Option<bool>, Stop> {
        match truth {
            Ok(truth) => return Ok(Some(truth)),
            Err(Stop::Missing(missing)) => self.missing.extend(missing),
            Err(Stop::Failed(message)) => self.failure = self.failure.take().or(Some(message)),
            Err(limit @ Stop::Limit(_)) => return Err(limit),
        }
        Ok(None)
    }

    /// The answer when no term decided: `otherwise`, if all were known.
    fn or(self, otherwise: bool) -> Answer {
        match self.failure {
            _ if !self.missing.is_empty() => Err(Stop::Missing(self.missing)),
            Some(message) => Err(Stop::Failed(message)),
            None => Ok(Value::Bool(otherwise)),
        }
    }
}
