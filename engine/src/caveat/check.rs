//! Checks a syntax tree against the declared parameters and makes an expression of it.

mod call;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::CompileError;
use super::expression::Expr;
use super::limits::MAX_ERRORS;
use super::pattern::Patterns;
use super::syntax::{Literal, Node, NodeKind, Operator};
use super::types::{Type, of_operation};
use super::value::{Key, Value};
use crate::schema::CaveatType;

/// Checks an expression that must answer a bool. Reports every error it finds, within a bound.
pub(super) fn check(
    source: &str,
    parameters: &[(String, CaveatType)],
    node: Node,
    patterns: &mut Patterns,
) -> Result<Expr, Vec<CompileError>> {
    // Of two parameters of one name, which callers refuse, the first counts.
    let positions = parameters.iter().enumerate().rev();
    let positions = positions
        .map(|(position, (name, _))| (name.as_str(), position))
        .collect();
    let mut checker = Checker {
        source,
        parameters,
        positions,
        patterns,
        locals: Vec::new(),
        errors: Vec::new(),
    };
    let offset = node.offset;
    let (expr, answer) = checker.expr(node);
    if !answer.fits(&Type::Bool) {
        checker.error(
            offset,
            format!("a caveat must answer a bool, this answers {answer}"),
        );
    }
    if checker.errors.is_empty() {
        Ok(expr)
    } else {
        Err(checker.errors)
    }
}

struct Checker<'a> {
    source: &'a str,
    parameters: &'a [(String, CaveatType)],
    /// Where each parameter stands among them.
    positions: FxHashMap<&'a str, usize>,
    patterns: &'a mut Patterns,
    /// The variables of the loops around, outermost first.
    locals: Vec<(String, Type)>,
    errors: Vec<CompileError>,
}

type Checked = (Expr, Type);

impl Checker<'_> {
    fn error(&mut self, offset: usize, message: impl Into<String>) -> Checked {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(CompileError::at(self.source, offset, message));
        }
        // `Dyn` fits everywhere, so that one error does not bring others.
        (Expr::Constant(Value::Null), Type::Dyn)
    }

    fn expr(&mut self, node: Node) -> Checked {
        let offset = node.offset;
        match node.kind {
            NodeKind::Literal(Literal(value)) => {
                let literal_type = type_of_literal(&value);
                (Expr::Constant(value), literal_type)
            }
            NodeKind::Name(name) => self.name(offset, &name),
            NodeKind::Select {
                operand,
                field,
                optional,
            } => self.select(*operand, &field, optional),
            NodeKind::Index {
                operand,
                index,
                optional,
            } => self.index(offset, *operand, *index, optional),
            NodeKind::Call {
                target,
                name,
                arguments,
            } => match target {
                Some(target) => self.member_call(offset, *target, &name, arguments),
                None => self.global_call(offset, &name, arguments),
            },
            NodeKind::List(items) => self.list(items),
            NodeKind::Map(entries) => self.map(entries),
            NodeKind::Not(operand) => (Expr::Not(Box::new(self.truth("!", *operand))), Type::Bool),
            NodeKind::Negate(operand) => self.negate(offset, *operand),
            NodeKind::Binary {
                operator,
                left,
                right,
            } => self.binary(offset, operator, *left, *right),
            NodeKind::And(terms) => (Expr::And(self.truths("&&", terms)), Type::Bool),
            NodeKind::Or(terms) => (Expr::Or(self.truths("||", terms)), Type::Bool),
            NodeKind::Conditional(condition, yes, no) => {
                let condition = self.truth("?", *condition);
                let (yes, yes_type) = self.expr(*yes);
                let (no, no_type) = self.expr(*no);
                let message = format!("the branches of `? :` differ: {yes_type} and {no_type}");
                match yes_type.join(no_type) {
                    Some(either) => (Expr::Conditional(Box::new((condition, yes, no))), either),
                    None => self.error(offset, message),
                }
            }
        }
    }

    fn name(&mut self, offset: usize, name: &str) -> Checked {
        // A leading dot says that no variable of a loop is meant.
        let root = name.strip_prefix('.');
        let local = match root {
            Some(_) => None,
            None => self.locals.iter().rposition(|(local, _)| local == name),
        };
        let name = root.unwrap_or(name);
        if let Some(position) = local {
            let local_type = self
                .locals
                .get(position)
                .map_or(Type::Dyn, |(_, local_type)| local_type.clone());
            return (Expr::Local(position), local_type);
        }
        if let Some(position) = self.positions.get(name).copied() {
            let declared = self
                .parameters
                .get(position)
                .map_or(Type::Dyn, |(_, declared)| Type::from(declared));
            return (Expr::Parameter(position), declared);
        }
        match TYPE_NAMES.iter().find(|type_name| **type_name == name) {
            Some(type_name) => (Expr::Constant(Value::Type(type_name)), Type::Meta),
            None => self.error(offset, format!("undeclared reference to `{name}`")),
        }
    }

    fn truth(&mut self, operator: &str, node: Node) -> Expr {
        let offset = node.offset;
        let (expr, answer) = self.expr(node);
        if !answer.fits(&Type::Bool) {
            self.error(offset, format!("`{operator}` takes bools, this is {answer}"));
        }
        expr
    }

    fn truths(&mut self, operator: &str, nodes: Vec<Node>) -> Vec<Expr> {
        nodes.into_iter().map(|node| self.truth(operator, node)).collect()
    }

    fn negate(&mut self, offset: usize, operand: Node) -> Checked {
        let (expr, operand_type) = self.expr(operand);
        if matches!(operand_type, Type::Int | Type::Double | Type::Dyn) {
            return (Expr::Negate(Box::new(expr)), operand_type);
        }
        self.error(
            offset,
            format!("`-` takes an int or a double, this is {operand_type}"),
        )
    }

    fn binary(&mut self, offset: usize, operator: Operator, left: Node, right: Node) -> Checked {
        let (left, left_type) = self.expr(left);
        let (right, right_type) = self.expr(right);
        match of_operation(operator, &left_type, &right_type) {
            Some(answer) => (Expr::Binary(operator, Box::new((left, right))), answer),
            None => {
                let symbol = operator.symbol();
                self.error(
                    offset,
                    format!("`{symbol}` does not take {left_type} and {right_type}"),
                )
            }
        }
    }

    fn select(&mut self, operand: Node, field: &str, optional: bool) -> Checked {
        let offset = operand.offset;
        let (operand, operand_type) = self.expr(operand);
        let Some(answer) = field_type(&operand_type) else {
            return self.error(offset, format!("{operand_type} has no fields such as `{field}`"));
        };
        let operand = Box::new(operand);
        (
            Expr::Select {
                operand,
                field: field.into(),
                optional,
            },
            optional_if(optional, answer),
        )
    }

    fn index(&mut self, offset: usize, operand: Node, index: Node, optional: bool) -> Checked {
        let (operand, operand_type) = self.expr(operand);
        let (index, index_type) = self.expr(index);
        match item_type(&operand_type, &index_type) {
            Some(answer) => (
                Expr::Index {
                    parts: Box::new((operand, index)),
                    optional,
                },
                optional_if(optional, answer),
            ),
            None => self.error(offset, format!("{operand_type} is not indexed by {index_type}")),
        }
    }

    fn list(&mut self, nodes: Vec<Node>) -> Checked {
        let mut items = Vec::with_capacity(nodes.len());
        let mut item_type = None;
        for node in nodes {
            let (item, found) = self.expr(node);
            item_type = Some(joined(item_type, found));
            items.push(item);
        }
        let list_type = Type::List(Box::new(item_type.unwrap_or(Type::Dyn)));
        // A list of constants is made once.
        let constants: Option<Vec<Value>> = items.iter().map(constant).collect();
        match constants {
            Some(values) => (Expr::Constant(Value::List(values.into())), list_type),
            None => (Expr::List(items), list_type),
        }
    }

    fn map(&mut self, nodes: Vec<(Node, Node)>) -> Checked {
        let mut entries = Vec::with_capacity(nodes.len());
        let (mut key_type, mut value_type) = (None, None);
        for (key, value) in nodes {
            let offset = key.offset;
            let (key, found) = self.expr(key);
            if !matches!(
                found,
                Type::Bool | Type::Int | Type::Uint | Type::Whole | Type::String | Type::Dyn
            ) {
                self.error(
                    offset,
                    format!("a map has keys of type bool, int, uint or string, this is {found}"),
                );
            }
            key_type = Some(joined(key_type, found));
            let (value, found) = self.expr(value);
            value_type = Some(joined(value_type, found));
            entries.push((key, value));
        }
        let (key_type, value_type) = (key_type.unwrap_or(Type::Dyn), value_type.unwrap_or(Type::Dyn));
        let map_type = Type::Map(Box::new(key_type), Box::new(value_type));
        let constants = entries
            .iter()
            .map(|(key, value)| Some((Key::of(&constant(key)?)?, constant(value)?)));
        match constants.collect::<Option<BTreeMap<Key, Value>>>() {
            // A key given twice is left to fail when it is evaluated.
            Some(values) if values.len() == entries.len() => {
                (Expr::Constant(Value::Map(values.into())), map_type)
            }
            _ => (Expr::Map(entries), map_type),
        }
    }
}

/// Types that have a name in expressions, for `type(x) == int`.
const TYPE_NAMES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

fn type_of_literal(value: &Value) -> Type {
    match value {
        Value::Null => Type::Null,
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        _ => Type::Dyn,
    }
}

fn constant(expr: &Expr) -> Option<Value> {
    match expr {
        Expr::Constant(value) => Some(value.clone()),
        _ => None,
    }
}

/// Items of different types make a list of any.
fn joined(before: Option<Type>, found: Type) -> Type {
    match before {
        Some(before) => before.join(found).unwrap_or(Type::Dyn),
        None => found,
    }
}

fn optional_if(optional: bool, answer: Type) -> Type {
    match answer {
        // What is optional already stays so, once.
        Type::Optional(_) => answer,
        answer if optional => Type::Optional(Box::new(answer)),
        answer => answer,
    }
}

fn field_type(operand: &Type) -> Option<Type> {
    match operand {
        Type::Dyn => Some(Type::Dyn),
        Type::Map(key, item) => Type::String.fits(key).then(|| (**item).clone()),
        Type::Optional(item) => Some(Type::Optional(Box::new(field_type(item)?))),
        _ => None,
    }
}

fn item_type(operand: &Type, index: &Type) -> Option<Type> {
    match operand {
        Type::Dyn => Some(Type::Dyn),
        Type::List(item) => (index.is_number() || *index == Type::Dyn).then(|| (**item).clone()),
        Type::Map(key, item) => index.is_comparable(key).then(|| (**item).clone()),
        Type::Optional(item) => Some(Type::Optional(Box::new(item_type(item, index)?))),
        _ => None,
    }
}
