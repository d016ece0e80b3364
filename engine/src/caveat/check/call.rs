//! Calls: functions, macros and the loops they stand for.

use super::{Checked, Checker, field_type};
use crate::caveat::expression::{Expr, Loop, LoopKind};
use crate::caveat::function::{Function, answer_type, resolve};
use crate::caveat::limits::MAX_LOOPS;
use crate::caveat::pattern::PatternError;
use crate::caveat::syntax::{Node, NodeKind};
use crate::caveat::types::Type;
use crate::caveat::value::Value;

impl Checker<'_> {
    pub(super) fn global_call(&mut self, offset: usize, name: &str, arguments: Vec<Node>) -> Checked {
        if name == "has" {
            return self.has(offset, arguments);
        }
        let (arguments, types): (Vec<Expr>, Vec<Type>) =
            arguments.into_iter().map(|argument| self.expr(argument)).unzip();
        self.call(offset, name, false, arguments, &types)
    }

    fn has(&mut self, offset: usize, arguments: Vec<Node>) -> Checked {
        let mut arguments = arguments.into_iter();
        match (arguments.next().map(|argument| argument.kind), arguments.next()) {
            (
                Some(NodeKind::Select {
                    operand,
                    field,
                    optional: false,
                }),
                None,
            ) => {
                let (operand, operand_type) = self.expr(*operand);
                if field_type(&operand_type).is_none() {
                    return self.error(offset, format!("{operand_type} has no fields such as `{field}`"));
                }
                (
                    Expr::Has {
                        operand: Box::new(operand),
                        field: field.into(),
                    },
                    Type::Bool,
                )
            }
            _ => self.error(offset, "`has` takes one field, as in `has(map.key)`"),
        }
    }

    pub(super) fn member_call(
        &mut self,
        offset: usize,
        target: Node,
        name: &str,
        arguments: Vec<Node>,
    ) -> Checked {
        if self.is_optional_namespace(&target) {
            return self.optional_call(offset, name, arguments);
        }
        let kind = match (name, arguments.len()) {
            ("all", 2) => Some(LoopKind::All),
            ("exists", 2) => Some(LoopKind::Exists),
            ("exists_one" | "existsOne", 2) => Some(LoopKind::ExistsOne),
            ("map", 2 | 3) => Some(LoopKind::Map),
            ("filter", 2) => Some(LoopKind::Filter),
            _ => None,
        };
        if let Some(kind) = kind {
            return self.loop_over(offset, target, kind, name, arguments);
        }
        match (name, arguments.len()) {
            ("optMap", 2) => return self.optional_map(offset, target, arguments),
            ("or" | "orValue", 1) => return self.otherwise(offset, target, name, arguments),
            _ => {}
        }
        let all = std::iter::once(target).chain(arguments);
        let (arguments, types): (Vec<Expr>, Vec<Type>) = all.map(|argument| self.expr(argument)).unzip();
        self.call(offset, name, true, arguments, &types)
    }

    fn call(
        &mut self,
        offset: usize,
        name: &str,
        member: bool,
        mut arguments: Vec<Expr>,
        types: &[Type],
    ) -> Checked {
        let (function, answer) = match resolve(name, member, types) {
            Ok(resolved) => resolved,
            Err(message) => return self.error(offset, message),
        };
        if function == Function::Matches
            && let [_, Expr::Constant(Value::String(source))] = arguments.as_slice()
        {
            match self.patterns.compile(source) {
                Ok(pattern) => {
                    let text = Box::new(arguments.swap_remove(0));
                    return (Expr::Matches(text, Box::new(pattern)), answer);
                }
                // It fails when it is evaluated, and only then.
                Err(PatternError::Unfit) => {}
                Err(PatternError::Exhausted) => {
                    let message = "the regular expressions of the schema's caveats are too large together";
                    return self.error(offset, message);
                }
            }
        }
        (Expr::Call(function, arguments), answer)
    }

    /// `optional.of(x)`, `optional.ofNonZeroValue(x)`, `optional.none()`, unless something else is called `optional`.
    fn is_optional_namespace(&self, target: &Node) -> bool {
        let is_taken =
            self.locals.iter().any(|(name, _)| name == "optional") || self.positions.contains_key("optional");
        matches!(&target.kind, NodeKind::Name(name) if name == "optional") && !is_taken
    }

    fn optional_call(&mut self, offset: usize, name: &str, arguments: Vec<Node>) -> Checked {
        let function = match name {
            "of" => Function::OptionalOf,
            "ofNonZeroValue" => Function::OptionalOfNonZero,
            "none" => Function::OptionalNone,
            _ => return self.error(offset, format!("undeclared function `optional.{name}`")),
        };
        let (arguments, types): (Vec<Expr>, Vec<Type>) =
            arguments.into_iter().map(|argument| self.expr(argument)).unzip();
        match answer_type(function, &types) {
            Some(answer) => (Expr::Call(function, arguments), answer),
            None => self.error(
                offset,
                format!("`optional.{name}` does not take {} arguments", types.len()),
            ),
        }
    }

    fn otherwise(&mut self, offset: usize, target: Node, name: &str, arguments: Vec<Node>) -> Checked {
        let (target, target_type) = self.expr(target);
        let Some((other, other_type)) = arguments.into_iter().next().map(|other| self.expr(other)) else {
            return self.error(offset, format!("`{name}` takes one argument"));
        };
        let optional = name == "or";
        let message = format!("`{name}` does not take {target_type} and {other_type}");
        let answer = match (target_type, other_type) {
            (Type::Dyn, _) => Some(Type::Dyn),
            (Type::Optional(item), other) if optional => Type::Optional(item).join(other),
            (Type::Optional(item), other) => item.join(other),
            _ => None,
        };
        match answer {
            Some(answer) => (
                Expr::Otherwise {
                    parts: Box::new((target, other)),
                    optional,
                },
                answer,
            ),
            None => self.error(offset, message),
        }
    }

    fn optional_map(&mut self, offset: usize, target: Node, arguments: Vec<Node>) -> Checked {
        let (target, target_type) = self.expr(target);
        let item = match target_type {
            Type::Optional(item) => *item,
            Type::Dyn => Type::Dyn,
            other => return self.error(offset, format!("`optMap` takes an optional, this is {other}")),
        };
        let mut arguments = arguments.into_iter();
        let (Some(name), Some(body)) = (arguments.next(), arguments.next()) else {
            return self.error(offset, "`optMap` takes a name and a body");
        };
        if !self.enter(&name, item) {
            return (Expr::Constant(Value::Null), Type::Dyn);
        }
        let (body, body_type) = self.expr(body);
        self.locals.pop();
        (
            Expr::OptionalMap(Box::new((target, body))),
            Type::Optional(Box::new(body_type)),
        )
    }

    fn loop_over(
        &mut self,
        offset: usize,
        target: Node,
        kind: LoopKind,
        name: &str,
        arguments: Vec<Node>,
    ) -> Checked {
        let (range, range_type) = self.expr(target);
        let item = match &range_type {
            Type::List(item) => (**item).clone(),
            Type::Map(key, _) => (**key).clone(),
            Type::Dyn => Type::Dyn,
            _ => {
                return self.error(
                    offset,
                    format!("`{name}` goes over a list or a map, this is {range_type}"),
                );
            }
        };
        let mut arguments = arguments.into_iter();
        let (Some(variable), Some(second)) = (arguments.next(), arguments.next()) else {
            return self.error(offset, format!("`{name}` takes a name and a condition"));
        };
        if !self.enter(&variable, item) {
            return (Expr::Constant(Value::Null), Type::Dyn);
        }
        let (filter, body, body_type) = match arguments.next() {
            Some(third) => {
                let filter = self.truth(name, second);
                let (body, body_type) = self.expr(third);
                (Some(filter), body, body_type)
            }
            None if kind == LoopKind::Map => {
                let (body, body_type) = self.expr(second);
                (None, body, body_type)
            }
            None => (None, self.truth(name, second), Type::Bool),
        };
        let item = self.locals.pop().map_or(Type::Dyn, |(_, item)| item);
        let answer = match kind {
            LoopKind::Map => Type::List(Box::new(body_type)),
            LoopKind::Filter => Type::List(Box::new(item)),
            LoopKind::All | LoopKind::Exists | LoopKind::ExistsOne => Type::Bool,
        };
        (
            Expr::Loop(Box::new(Loop {
                kind,
                range,
                filter,
                body,
            })),
            answer,
        )
    }

    /// Declares the variable of a loop. Whoever enters leaves by taking it off `locals`.
    fn enter(&mut self, variable: &Node, item: Type) -> bool {
        let name = match &variable.kind {
            NodeKind::Name(name) if !name.starts_with('.') => name,
            _ => {
                self.error(variable.offset, "the variable of a loop is a simple name");
                return false;
            }
        };
        if self.locals.len() >= MAX_LOOPS {
            self.error(
                variable.offset,
                format!("loops nest deeper than {MAX_LOOPS} levels"),
            );
            return false;
        }
        self.locals.push((name.clone(), item));
        true
    }
}
