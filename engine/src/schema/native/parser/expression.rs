//! Reads the expressions of permissions: `+` binds tightest, then `&`, then `-`, each to the left.

use super::{MAX_DEPTH, Parsed, Parser, Reported};
use crate::schema::ArrowMode;
use crate::schema::diagnostic::DiagnosticCode;
use crate::schema::native::lexer::TokenKind;
use crate::schema::native::syntax::{Expression, ExpressionKind, Identifier, Operator};

impl Parser<'_> {
    /// An expression inside of `depth` parentheses.
    pub(super) fn expression(&mut self, depth: usize) -> Parsed<Expression> {
        self.operation(Operator::Exclusion, depth)
    }

    /// Operands of the next tighter level, joined by `operator`; or just one.
    fn operation(&mut self, operator: Operator, depth: usize) -> Parsed<Expression> {
        let (kind, tighter) = match operator {
            Operator::Exclusion => (TokenKind::Minus, Some(Operator::Intersection)),
            Operator::Intersection => (TokenKind::Ampersand, Some(Operator::Union)),
            Operator::Union => (TokenKind::Plus, None),
        };
        let operand = |parser: &mut Self| match tighter {
            Some(tighter) => parser.operation(tighter, depth),
            None => parser.atom(depth),
        };
        let first = operand(self)?;
        if self.current.kind != kind {
            return Ok(first);
        }
        let start = first.span;
        let mut operands = vec![first];
        while self.take(kind) {
            operands.push(operand(self)?);
        }
        let span = start.to(self.previous.span);
        Ok(Expression {
            kind: ExpressionKind::Operation(operator, operands),
            parenthesized: false,
            span,
        })
    }

    fn atom(&mut self, depth: usize) -> Parsed<Expression> {
        let start = self.current.span;
        if self.current.kind == TokenKind::LeftParenthesis {
            return self.parentheses(depth);
        }
        let kind = if self.take_word("nil") {
            ExpressionKind::Nil
        } else if self.enabled.contains(&"self") && self.take_word("self") {
            ExpressionKind::Itself
        } else {
            let name = self.name("a relation, a permission or `(`")?;
            match self.current.kind {
                TokenKind::Arrow | TokenKind::Period => self.arrow(name)?,
                _ => ExpressionKind::Member(name.text),
            }
        };
        let span = start.to(self.previous.span);
        if matches!(self.current.kind, TokenKind::Arrow | TokenKind::Period) {
            return Err(self.misplaced_arrow(&kind));
        }
        Ok(Expression {
            kind,
            parenthesized: false,
            span,
        })
    }

    /// `( expression )`
    fn parentheses(&mut self, depth: usize) -> Parsed<Expression> {
        let start = self.current.span;
        if depth >= MAX_DEPTH {
            let message = format!("the expression is nested more than {MAX_DEPTH} deep");
            self.findings.push(DiagnosticCode::NestingTooDeep, start, message);
            return Err(Reported);
        }
        self.advance();
        let inner = self.expression(depth + 1)?;
        self.expect(TokenKind::RightParenthesis, "an operator or `)`")?;
        let span = start.to(self.previous.span);
        if matches!(self.current.kind, TokenKind::Arrow | TokenKind::Period) {
            return Err(self.misplaced_arrow(&inner.kind));
        }
        Ok(Expression {
            parenthesized: true,
            span,
            ..inner
        })
    }

    /// `->target`, `.any(target)` or `.all(target)` after `relation`
    fn arrow(&mut self, relation: Identifier) -> Parsed<ExpressionKind> {
        if self.take(TokenKind::Arrow) {
            let target = self.name("a relation or permission after `->`")?;
            return Ok(ExpressionKind::Arrow {
                relation,
                mode: ArrowMode::Any,
                target,
            });
        }
        self.advance();
        let mode = if self.take_word("any") {
            ArrowMode::Any
        } else if self.take_word("all") {
            ArrowMode::All
        } else {
            return Err(self.unexpected("`any` or `all` after `.`"));
        };
        self.expect(TokenKind::LeftParenthesis, "`(` and a relation or permission")?;
        let target = self.name("a relation or permission")?;
        self.expect(TokenKind::RightParenthesis, "`)`")?;
        Ok(ExpressionKind::Arrow {
            relation,
            mode,
            target,
        })
    }

    /// Reports an arrow that follows something else than a relation's name.
    fn misplaced_arrow(&mut self, left: &ExpressionKind) -> Reported {
        let symbol = self.excerpt();
        let (code, message) = match left {
            ExpressionKind::Arrow { relation, target, .. } => {
                let (relation, target) = (&relation.text, &target.text);
                let message = format!(
                    "arrows cannot be chained: give the subjects of `{relation}` a permission for what follows \
                     `{target}`, and point the arrow at that"
                );
                (DiagnosticCode::NestedArrow, message)
            }
            _ => {
                let message = format!("only the name of a relation can stand before `{symbol}`");
                (DiagnosticCode::UnexpectedToken, message)
            }
        };
        self.findings.push(code, self.current.span, message);
        Reported
    }
}

impl Expression {
    /// How deep the expression is nested, each `-` of a chain counting as one level. The parser bounds the depth of
    /// the tree itself by its bound on parentheses.
    pub(in crate::schema::native) fn depth(&self) -> usize {
        let ExpressionKind::Operation(operator, operands) = &self.kind else {
            return 1;
        };
        let mut depths = operands.iter().map(Expression::depth);
        match operator {
            Operator::Exclusion => {
                let first = depths.next().unwrap_or(0);
                depths.fold(first, |depth, operand| depth.max(operand) + 1)
            }
            Operator::Intersection | Operator::Union => depths.max().unwrap_or(0) + 1,
        }
    }
}
