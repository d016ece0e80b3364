//! Makes a syntax tree of ours of the library's: bounded in size and depth, chains of `&&` and `||` flat, each part with its place.

use cel::IdedExpr;
use cel::common::ast::{
    CallExpr, EntryExpr, Expr, IdedEntryExpr, ListExpr, LiteralValue, SelectExpr, SourceInfo, operators,
};

use super::CompileError;
use super::limits::{MAX_DEPTH, MAX_NODES};
use super::syntax::{Literal, Node, NodeKind, Operator};
use super::value::Value;

type Bridged<T> = Result<T, CompileError>;

/// The same expression as a tree of ours. `places` are those of the library's `tree` of the `source`.
pub(super) fn bridged(source: &str, places: &SourceInfo, tree: IdedExpr) -> Bridged<Node> {
    let mut bridge = Bridge {
        source,
        places,
        parts: 0,
    };
    bridge.node(tree, 1)
}

struct Bridge<'a> {
    source: &'a str,
    places: &'a SourceInfo,
    /// Nodes made so far.
    parts: usize,
}

impl Bridge<'_> {
    fn error<T>(&self, offset: usize, message: impl Into<String>) -> Bridged<T> {
        Err(CompileError::at(self.source, offset, message))
    }

    /// The byte at which the library saw a part's operator, name or literal.
    fn place(&self, id: u64) -> usize {
        self.places
            .offset_for(id)
            .and_then(|(start, _)| usize::try_from(start).ok())
            .unwrap_or_default()
    }

    fn node(&mut self, tree: IdedExpr, level: u16) -> Bridged<Node> {
        let offset = self.place(tree.id);
        self.parts += 1;
        if self.parts > MAX_NODES {
            return self.error(offset, format!("the expression has more than {MAX_NODES} parts"));
        }
        if level > MAX_DEPTH {
            return self.error(
                offset,
                format!("the expression nests deeper than {MAX_DEPTH} levels"),
            );
        }
        let kind = match tree.expr {
            Expr::Literal(value) => NodeKind::Literal(literal(value)),
            Expr::Ident(name) => NodeKind::Name(name),
            Expr::Select(SelectExpr {
                operand,
                field,
                test: false,
            }) => {
                let offset = self.field_after(offset, &field);
                let kind = NodeKind::Select {
                    operand: Box::new(self.node(*operand, level + 1)?),
                    field,
                    optional: false,
                };
                return Ok(Node { kind, offset });
            }
            Expr::Call(call) => return self.call(offset, call, level),
            Expr::List(list) => NodeKind::List(self.list(offset, list, level + 1)?),
            Expr::Map(map) => NodeKind::Map(self.map(offset, map.entries, level + 1)?),
            Expr::Struct(_) => {
                return self.error(
                    offset,
                    "messages are not supported; a map is written `{\"key\": value}`",
                );
            }
            // Macros are not expanded, and what is not specified was refused.
            Expr::Select(_) | Expr::Comprehension(_) | Expr::Unspecified => {
                return self.error(offset, "this part of the expression is not supported");
            }
        };
        Ok(Node { kind, offset })
    }

    fn nodes(&mut self, trees: Vec<IdedExpr>, level: u16) -> Bridged<Vec<Node>> {
        trees.into_iter().map(|tree| self.node(tree, level)).collect()
    }

    fn list(&mut self, offset: usize, list: ListExpr, level: u16) -> Bridged<Vec<Node>> {
        if !list.optional_indices.is_empty() {
            return self.no_optional(offset);
        }
        self.nodes(list.elements, level)
    }

    fn map(&mut self, offset: usize, entries: Vec<IdedEntryExpr>, level: u16) -> Bridged<Vec<(Node, Node)>> {
        let mut nodes = Vec::with_capacity(entries.len());
        for entry in entries {
            match entry.expr {
                EntryExpr::MapEntry(entry) if !entry.optional => {
                    nodes.push((self.node(entry.key, level)?, self.node(entry.value, level)?));
                }
                _ => return self.no_optional(offset),
            }
        }
        Ok(nodes)
    }

    fn no_optional<T>(&self, offset: usize) -> Bridged<T> {
        self.error(
            offset,
            "optional elements of list and map literals are not supported",
        )
    }

    /// A call, or one of the operators: the library calls those by names that nobody can write.
    fn call(&mut self, offset: usize, call: CallExpr, level: u16) -> Bridged<Node> {
        let CallExpr {
            func_name: name,
            target,
            args,
        } = call;
        if let Some(target) = target {
            let offset = self.name_before(offset, &name);
            let target = Some(Box::new(self.node(*target, level + 1)?));
            let arguments = self.nodes(args, level + 1)?;
            let kind = NodeKind::Call {
                target,
                name,
                arguments,
            };
            return Ok(Node { kind, offset });
        }
        match name.as_str() {
            operators::LOGICAL_AND => {
                let kind = NodeKind::And(self.chain(&name, args, level + 1)?);
                return Ok(Node { kind, offset });
            }
            operators::LOGICAL_OR => {
                let kind = NodeKind::Or(self.chain(&name, args, level + 1)?);
                return Ok(Node { kind, offset });
            }
            _ => {}
        }
        let arguments = self.nodes(args, level + 1)?;
        if !is_operator(&name) {
            // A leading dot says that the name is no one's but the root's: so are those of all functions.
            let name = name.strip_prefix('.').map_or(name.clone(), str::to_owned);
            let offset = self.name_before(offset, &name);
            let kind = NodeKind::Call {
                target: None,
                name,
                arguments,
            };
            return Ok(Node { kind, offset });
        }
        self.operation(offset, &name, arguments)
    }

    fn operation(&self, offset: usize, name: &str, operands: Vec<Node>) -> Bridged<Node> {
        let mut operands = operands.into_iter().map(Box::new);
        let (first, second, third) = (operands.next(), operands.next(), operands.next());
        let kind = match (name, first, second, third) {
            (operators::CONDITIONAL, Some(condition), Some(yes), Some(no)) => {
                NodeKind::Conditional(condition, yes, no)
            }
            (operators::LOGICAL_NOT, Some(operand), None, None) => NodeKind::Not(operand),
            (operators::NEGATE, Some(operand), None, None) => NodeKind::Negate(operand),
            (operators::INDEX | operators::OPT_INDEX, Some(operand), Some(index), None) => NodeKind::Index {
                operand,
                index,
                optional: name == operators::OPT_INDEX,
            },
            (operators::OPT_SELECT, Some(operand), Some(field), None) => match field.kind {
                NodeKind::Literal(Literal(Value::String(field))) => {
                    let offset = self.field_after(offset, &field);
                    let kind = NodeKind::Select {
                        operand,
                        field: field.as_ref().to_owned(),
                        optional: true,
                    };
                    return Ok(Node { kind, offset });
                }
                _ => return self.error(offset, "the name of a field is wanted"),
            },
            (_, Some(left), Some(right), None) => match operator(name) {
                Some(operator) => NodeKind::Binary {
                    operator,
                    left,
                    right,
                },
                None => return self.error(offset, "the operator is not supported"),
            },
            _ => return self.error(offset, "the operator is not supported"),
        };
        Ok(Node { kind, offset })
    }

    /// The terms of a chain of one connective, which the library makes a tree of; so are those within parentheses, which does not matter.
    fn chain(&mut self, name: &str, operands: Vec<IdedExpr>, level: u16) -> Bridged<Vec<Node>> {
        let mut terms = Vec::new();
        // The next on top.
        let mut left: Vec<IdedExpr> = operands.into_iter().rev().collect();
        while let Some(IdedExpr { id, expr }) = left.pop() {
            match expr {
                Expr::Call(call) if call.target.is_none() && call.func_name == name => {
                    left.extend(call.args.into_iter().rev());
                }
                expr => terms.push(self.node(IdedExpr { id, expr }, level)?),
            }
        }
        Ok(terms)
    }

    /// Where the name stands that is called by the parenthesis at `offset`; there, if a comment is between the two.
    fn name_before(&self, offset: usize, name: &str) -> usize {
        self.source
            .get(..offset)
            .and_then(|before| before.trim_end().strip_suffix(name))
            .map_or(offset, str::len)
    }

    /// Where the field stands that is selected by the dot at `offset`; there, if a comment is between the two.
    fn field_after(&self, offset: usize, field: &str) -> usize {
        let Some(after) = self.source.get(offset + 1..) else {
            return offset;
        };
        let after = after.trim_start();
        let after = after.strip_prefix('?').unwrap_or(after).trim_start();
        if after.strip_prefix('`').unwrap_or(after).starts_with(field) {
            self.source.len() - after.len()
        } else {
            offset
        }
    }
}

fn literal(value: LiteralValue) -> Literal {
    Literal(match value {
        LiteralValue::Null => Value::Null,
        LiteralValue::Boolean(value) => Value::Bool(value.into_inner()),
        LiteralValue::Int(value) => Value::Int(value.into_inner()),
        LiteralValue::UInt(value) => Value::Uint(value.into_inner()),
        LiteralValue::Double(value) => Value::Double(value.into_inner()),
        LiteralValue::String(value) => Value::String(value.into_inner().into()),
        LiteralValue::Bytes(value) => Value::Bytes(value.into_inner().into()),
    })
}

fn is_operator(name: &str) -> bool {
    let unary = [operators::LOGICAL_NOT, operators::NEGATE];
    let other = [
        operators::CONDITIONAL,
        operators::INDEX,
        operators::OPT_INDEX,
        operators::OPT_SELECT,
    ];
    unary.contains(&name) || other.contains(&name) || operator(name).is_some()
}

/// The operators of two operands that need both.
fn operator(name: &str) -> Option<Operator> {
    Some(match name {
        operators::EQUALS => Operator::Equal,
        operators::NOT_EQUALS => Operator::NotEqual,
        operators::LESS => Operator::Less,
        operators::LESS_EQUALS => Operator::LessOrEqual,
        operators::GREATER => Operator::Greater,
        operators::GREATER_EQUALS => Operator::GreaterOrEqual,
        operators::IN => Operator::In,
        operators::ADD => Operator::Add,
        operators::SUBSTRACT => Operator::Subtract,
        operators::MULTIPLY => Operator::Multiply,
        operators::DIVIDE => Operator::Divide,
        operators::MODULO => Operator::Remainder,
        _ => return None,
    })
}
