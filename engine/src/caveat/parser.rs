//! The grammar of caveat expressions (CEL): tokens in, a syntax tree of bounded size and depth out.

use super::CompileError;
use super::lexer::{Token, TokenKind, tokens};
use super::limits::{MAX_DEPTH, MAX_NODES};
use super::syntax::{Node, NodeKind, Operator};
use super::value::Value;

/// Words that CEL keeps for itself: not names of anything, though fields may be called so.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Parses an expression; stops at the first error.
pub(super) fn parse(source: &str) -> Result<Node, CompileError> {
    let mut parser = Parser {
        source,
        tokens: tokens(source)?,
        next: 0,
        depth: 0,
        nodes: 0,
    };
    let node = parser.expression()?;
    match parser.kind() {
        TokenKind::End => Ok(node),
        _ => parser.unexpected("the end of the expression"),
    }
}

struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Token>,
    next: usize,
    /// Calls of [`Parser::expression`] that are under way.
    depth: usize,
    nodes: usize,
}

type Parsed<T> = Result<T, CompileError>;

impl Parser<'_> {
    fn kind(&self) -> &TokenKind {
        self.tokens
            .get(self.next)
            .map_or(&TokenKind::End, |token| &token.kind)
    }

    fn offset(&self) -> usize {
        self.tokens
            .get(self.next)
            .map_or(self.source.len(), |token| token.offset)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.kind(), TokenKind::Symbol(found) if *found == symbol)
    }

    fn accept(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.accept(symbol) {
            return Ok(());
        }
        self.unexpected(&format!("`{symbol}`"))
    }

    fn error<T>(&self, offset: usize, message: impl Into<String>) -> Parsed<T> {
        Err(CompileError::at(self.source, offset, message))
    }

    fn unexpected<T>(&self, wanted: &str) -> Parsed<T> {
        let found = match self.kind() {
            TokenKind::Word(word) => format!("`{word}`"),
            TokenKind::Quoted(word) => format!("`{word}` between backticks"),
            TokenKind::Int(_) | TokenKind::Uint(_) | TokenKind::Double(_) => "a number".to_owned(),
            TokenKind::String(_) | TokenKind::Bytes(_) => "a string".to_owned(),
            TokenKind::Symbol(symbol) => format!("`{symbol}`"),
            TokenKind::End => "the end".to_owned(),
        };
        self.error(self.offset(), format!("expected {wanted}, found {found}"))
    }

    fn node(&mut self, offset: usize, kind: NodeKind) -> Parsed<Node> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.error(offset, format!("the expression has more than {MAX_NODES} parts"));
        }
        let depth = kind.depth_beneath() + 1;
        if depth > MAX_DEPTH {
            return self.too_deep(offset);
        }
        Ok(Node { kind, offset, depth })
    }

    fn too_deep<T>(&self, offset: usize) -> Parsed<T> {
        self.error(
            offset,
            format!("the expression nests deeper than {MAX_DEPTH} levels"),
        )
    }

    /// `or [? or : expression]`
    fn expression(&mut self) -> Parsed<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.too_deep(self.offset());
        }
        let condition = self.or()?;
        let offset = self.offset();
        let node = if self.accept("?") {
            let yes = self.or()?;
            self.expect(":")?;
            let no = self.expression()?;
            self.node(
                offset,
                NodeKind::Conditional(Box::new(condition), Box::new(yes), Box::new(no)),
            )?
        } else {
            condition
        };
        self.depth -= 1;
        Ok(node)
    }

    fn or(&mut self) -> Parsed<Node> {
        self.chain("||", Self::and, NodeKind::Or)
    }

    fn and(&mut self) -> Parsed<Node> {
        self.chain("&&", |parser| parser.binary(1), NodeKind::And)
    }

    /// A chain of one operator becomes one node, so that its length is not depth.
    fn chain(
        &mut self,
        symbol: &str,
        part: impl Fn(&mut Self) -> Parsed<Node>,
        kind: fn(Vec<Node>) -> NodeKind,
    ) -> Parsed<Node> {
        let first = part(self)?;
        let offset = self.offset();
        if !self.is(symbol) {
            return Ok(first);
        }
        let mut terms = vec![first];
        while self.accept(symbol) {
            terms.push(part(self)?);
        }
        self.node(offset, kind(terms))
    }

    fn binary(&mut self, strength: u8) -> Parsed<Node> {
        if strength > 3 {
            return self.unary();
        }
        let mut left = self.binary(strength + 1)?;
        while let Some(operator) = self.operator().filter(|operator| operator.strength() == strength) {
            let offset = self.offset();
            self.next += 1;
            let right = self.binary(strength + 1)?;
            let (left_side, right) = (Box::new(left), Box::new(right));
            left = self.node(
                offset,
                NodeKind::Binary {
                    operator,
                    left: left_side,
                    right,
                },
            )?;
        }
        Ok(left)
    }

    fn operator(&self) -> Option<Operator> {
        Some(match self.kind() {
            TokenKind::Word(word) if word == "in" => Operator::In,
            TokenKind::Symbol("==") => Operator::Equal,
            TokenKind::Symbol("!=") => Operator::NotEqual,
            TokenKind::Symbol("<") => Operator::Less,
            TokenKind::Symbol("<=") => Operator::LessOrEqual,
            TokenKind::Symbol(">") => Operator::Greater,
            TokenKind::Symbol(">=") => Operator::GreaterOrEqual,
            TokenKind::Symbol("+") => Operator::Add,
            TokenKind::Symbol("-") => Operator::Subtract,
            TokenKind::Symbol("*") => Operator::Multiply,
            TokenKind::Symbol("/") => Operator::Divide,
            TokenKind::Symbol("%") => Operator::Remainder,
            _ => return None,
        })
    }

    /// Any number of `!`, or any number of `-`, before a member. A minus right before a number is part of the
    /// number: the smallest integer has no positive counterpart.
    fn unary(&mut self) -> Parsed<Node> {
        let start = self.next;
        let symbol = if self.is("!") { "!" } else { "-" };
        while self.accept(symbol) {}
        let mut count = self.next - start;
        let number = matches!(self.kind(), TokenKind::Int(_) | TokenKind::Double(_));
        let negative = symbol == "-" && number && count > 0;
        count -= usize::from(negative);
        let mut node = self.member(negative)?;
        for position in (start..start + count).rev() {
            let offset = self.tokens.get(position).map_or(0, |token| token.offset);
            let operand = Box::new(node);
            let kind = if symbol == "!" {
                NodeKind::Not(operand)
            } else {
                NodeKind::Negate(operand)
            };
            node = self.node(offset, kind)?;
        }
        Ok(node)
    }

    /// A primary followed by fields, indexes and calls.
    fn member(&mut self, negative: bool) -> Parsed<Node> {
        let mut node = self.primary(negative)?;
        loop {
            let offset = self.offset();
            if self.accept(".") {
                let optional = self.accept("?");
                let offset = self.offset();
                let field = self.field()?;
                let operand = Box::new(node);
                let kind = if !optional && self.accept("(") {
                    let arguments = self.items(")", Self::expression)?;
                    NodeKind::Call {
                        target: Some(operand),
                        name: field,
                        arguments,
                    }
                } else {
                    NodeKind::Select {
                        operand,
                        field,
                        optional,
                    }
                };
                node = self.node(offset, kind)?;
            } else if self.accept("[") {
                let optional = self.accept("?");
                let index = Box::new(self.expression()?);
                self.expect("]")?;
                node = self.node(
                    offset,
                    NodeKind::Index {
                        operand: Box::new(node),
                        index,
                        optional,
                    },
                )?;
            } else if self.is("{") && matches!(node.kind, NodeKind::Name(_) | NodeKind::Select { .. }) {
                return self.error(
                    offset,
                    "messages are not supported; a map is written `{\"key\": value}`",
                );
            } else {
                return Ok(node);
            }
        }
    }

    fn field(&mut self) -> Parsed<String> {
        match self.kind() {
            TokenKind::Word(word) | TokenKind::Quoted(word) if word != "in" => {
                let word = word.clone();
                self.next += 1;
                Ok(word)
            }
            _ => self.unexpected("the name of a field or function"),
        }
    }

    fn primary(&mut self, negative: bool) -> Parsed<Node> {
        let offset = self.offset();
        let kind = self.kind().clone();
        self.next += 1;
        let literal = match kind {
            TokenKind::Int(magnitude) => match signed(magnitude, negative) {
                Some(number) => Value::Int(number),
                None => {
                    return self.error(
                        offset,
                        "the integer does not fit 64 bits; unsigned ones end in `u`",
                    );
                }
            },
            TokenKind::Double(number) => Value::Double(if negative { -number } else { number }),
            TokenKind::Uint(number) => Value::Uint(number),
            TokenKind::String(text) => Value::String(text.into()),
            TokenKind::Bytes(bytes) => Value::Bytes(bytes.into()),
            TokenKind::Word(word) => match word.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "null" => Value::Null,
                "in" => {
                    self.next -= 1;
                    return self.unexpected("a value");
                }
                _ => return self.name(offset, word),
            },
            TokenKind::Symbol("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            TokenKind::Symbol(".") => match self.kind().clone() {
                TokenKind::Word(word) => {
                    self.next += 1;
                    return self.name(offset, word);
                }
                _ => return self.unexpected("a name"),
            },
            TokenKind::Symbol("[") => {
                let items = self.items("]", Self::element)?;
                return self.node(offset, NodeKind::List(items));
            }
            TokenKind::Symbol("{") => {
                let entries = self.items("}", Self::entry)?;
                return self.node(offset, NodeKind::Map(entries));
            }
            TokenKind::Symbol(_) | TokenKind::Quoted(_) | TokenKind::End => {
                self.next -= 1;
                return self.unexpected("a value");
            }
        };
        self.node(offset, NodeKind::Literal(literal))
    }

    fn name(&mut self, offset: usize, word: String) -> Parsed<Node> {
        if RESERVED.contains(&word.as_str()) {
            return self.error(offset, format!("`{word}` is a reserved word"));
        }
        if self.accept("(") {
            let arguments = self.items(")", Self::expression)?;
            return self.node(
                offset,
                NodeKind::Call {
                    target: None,
                    name: word,
                    arguments,
                },
            );
        }
        self.node(offset, NodeKind::Name(word))
    }

    fn element(&mut self) -> Parsed<Node> {
        self.no_optional()?;
        self.expression()
    }

    fn entry(&mut self) -> Parsed<(Node, Node)> {
        self.no_optional()?;
        let key = self.expression()?;
        self.expect(":")?;
        Ok((key, self.expression()?))
    }

    fn no_optional(&self) -> Parsed<()> {
        if self.is("?") {
            return self.error(
                self.offset(),
                "optional elements of list and map literals are not supported",
            );
        }
        Ok(())
    }

    /// What stands between an opening mark, already read, and the closing one. A trailing comma is fine in lists
    /// and maps, not in calls.
    fn items<T>(&mut self, close: &str, item: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.accept(close) {
            if !items.is_empty() {
                self.expect(",")?;
                if close != ")" && self.accept(close) {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }
}

fn signed(magnitude: u64, negative: bool) -> Option<i64> {
    let number = i128::from(magnitude);
    i64::try_from(if negative { -number } else { number }).ok()
}
