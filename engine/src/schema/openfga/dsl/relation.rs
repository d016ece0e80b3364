//! Reads relations: `define name: rewrite`.

use super::doc_before;
use super::lexer::TokenKind;
use super::parser::{Parsed, Parser, Reported};
use crate::schema::diagnostic::{DiagnosticCode, Span};
use crate::schema::openfga::model::{MAX_DEPTH, Relation, Restriction, Rewrite, RewriteKind, Subject};

impl Parser<'_> {
    /// `define name: rewrite`; one that is broken is kept for its name.
    pub(super) fn relation(&mut self, relations: &mut Vec<Relation>) -> Parsed<()> {
        let keyword = self.current.span;
        let doc = doc_before(self.source, self.start, keyword.start as usize);
        self.advance();
        let name = self.name("the name of a relation")?;
        let mut restrictions = Vec::new();
        let rewrite = self.definition(&mut restrictions);
        let failed = rewrite.is_err();
        relations.push(Relation {
            name,
            restrictions,
            rewrite: rewrite.unwrap_or(Rewrite {
                kind: RewriteKind::Broken,
                span: keyword,
            }),
            doc,
        });
        match failed {
            true => Err(Reported),
            false => Ok(()),
        }
    }

    fn definition(&mut self, restrictions: &mut Vec<Restriction>) -> Parsed<Rewrite> {
        self.expect(TokenKind::Colon, "`:` after the name of the relation")?;
        let rewrite = self.rewrite(restrictions, true, 0)?;
        self.line_end()?;
        Ok(rewrite)
    }

    /// Operands joined by one operator, inside of `depth` parentheses. `first`: whether `[…]` can stand here.
    fn rewrite(&mut self, restrictions: &mut Vec<Restriction>, first: bool, depth: usize) -> Parsed<Rewrite> {
        let operand = self.operand(restrictions, first, depth)?;
        let start = operand.span;
        let mut operands = vec![operand];
        let operator = match self.operator() {
            Some(operator) => operator,
            None => return operands.pop().ok_or(Reported),
        };
        while self.operator() == Some(operator) {
            self.advance();
            if operator == "but" && !self.take_word("not") {
                return Err(self.unexpected("`not` after `but`"));
            }
            operands.push(self.operand(restrictions, false, depth)?);
            if operator == "but" {
                break;
            }
        }
        if let Some(other) = self.operator() {
            let message = match (operator, other) {
                ("but", "but") => "a second `but not` needs parentheses around one of the two".to_owned(),
                _ => format!(
                    "`{}` and `{}` cannot stand side by side: one of them needs parentheses",
                    spelled(operator),
                    spelled(other)
                ),
            };
            self.findings
                .push(DiagnosticCode::UnexpectedToken, self.current.span, message);
            return Err(Reported);
        }
        let span = start.to(self.previous.span);
        let kind = match operator {
            "or" => RewriteKind::Union(operands),
            "and" => RewriteKind::Intersection(operands),
            _ => match (operands.pop(), operands.pop()) {
                (Some(subtracted), Some(base)) => {
                    RewriteKind::Exclusion(Box::new(base), Box::new(subtracted))
                }
                _ => return Err(Reported),
            },
        };
        Ok(Rewrite { kind, span })
    }

    /// The operator at hand, by its first word.
    fn operator(&self) -> Option<&'static str> {
        if self.current.first && self.open == 0 {
            return None;
        }
        ["or", "and", "but"].into_iter().find(|word| *word == self.text())
    }

    fn operand(&mut self, restrictions: &mut Vec<Restriction>, first: bool, depth: usize) -> Parsed<Rewrite> {
        let start = self.current.span;
        let is_here = !self.current.first || self.open > 0;
        match self.current.kind {
            TokenKind::LeftBracket if is_here && first => {
                self.restrictions(restrictions)?;
                Ok(Rewrite {
                    kind: RewriteKind::This,
                    span: start.to(self.previous.span),
                })
            }
            TokenKind::LeftBracket if is_here => {
                let message = "`[…]` can only be the first operand of a relation";
                self.findings
                    .push(DiagnosticCode::UnexpectedToken, start, message);
                Err(Reported)
            }
            TokenKind::LeftParenthesis if is_here => self.parentheses(restrictions, first, depth),
            _ => {
                let relation = self.name(match first {
                    true => "`[`, `(` or the name of a relation",
                    false => "`(` or the name of a relation",
                })?;
                let is_from = self.text() == "from" && (!self.current.first || self.open > 0);
                if !is_from {
                    let span = relation.span;
                    return Ok(Rewrite {
                        kind: RewriteKind::Computed(relation),
                        span,
                    });
                }
                self.advance();
                let tupleset = self.name("the name of a relation after `from`")?;
                let span = relation.span.to(tupleset.span);
                Ok(Rewrite {
                    kind: RewriteKind::From { relation, tupleset },
                    span,
                })
            }
        }
    }

    fn parentheses(
        &mut self,
        restrictions: &mut Vec<Restriction>,
        first: bool,
        depth: usize,
    ) -> Parsed<Rewrite> {
        let start = self.current.span;
        if depth >= MAX_DEPTH {
            let message = format!("the relation is nested more than {MAX_DEPTH} deep");
            self.findings.push(DiagnosticCode::NestingTooDeep, start, message);
            return Err(Reported);
        }
        self.open += 1;
        self.advance();
        let inner = self.rewrite(restrictions, first, depth + 1)?;
        self.expect(TokenKind::RightParenthesis, "`or`, `and`, `but not` or `)`")?;
        self.open -= 1;
        Ok(Rewrite {
            span: start.to(self.previous.span),
            ..inner
        })
    }

    /// `[user, user:*, group#member with condition]`
    fn restrictions(&mut self, restrictions: &mut Vec<Restriction>) -> Parsed<()> {
        self.open += 1;
        self.advance();
        loop {
            let restriction = self.restriction()?;
            restrictions.push(restriction);
            if !self.take(TokenKind::Comma) {
                break;
            }
        }
        self.expect(TokenKind::RightBracket, "`,`, `with` or `]`")?;
        self.open -= 1;
        Ok(())
    }

    fn restriction(&mut self) -> Parsed<Restriction> {
        let type_name = self.name("the name of a type")?;
        let start = type_name.span;
        let subject = match self.current.kind {
            TokenKind::Colon => {
                self.advance();
                self.expect(TokenKind::Star, "`*` after `:`")?;
                Subject::Wildcard
            }
            TokenKind::Hash => {
                self.advance();
                Subject::Userset(self.name("the name of a relation after `#`")?)
            }
            _ => Subject::Object,
        };
        let condition = match self.take_word("with") {
            true => Some(self.name("the name of a condition after `with`")?),
            false => None,
        };
        Ok(Restriction {
            type_name,
            subject,
            condition,
            span: Span::to(start, self.previous.span),
        })
    }
}

fn spelled(operator: &str) -> &str {
    match operator {
        "but" => "but not",
        other => other,
    }
}
