//! Reads the statements of a definition: relations, permissions and spreads.

use super::{MAX_DEPTH, Parsed, Parser, Reported};
use crate::schema::MemberKind;
use crate::schema::diagnostic::DiagnosticCode;
use crate::schema::native::lexer::TokenKind;
use crate::schema::native::syntax::{Identifier, Item, Member, MemberBody, Subject, SubjectType};

impl Parser<'_> {
    /// `...partial`
    pub(super) fn spread(&mut self) -> Parsed<Item> {
        self.advance();
        Ok(Item::Spread(self.path("the name of a partial after `...`")?))
    }

    /// `relation …` or `permission …`. One whose name is known is kept even where the rest is broken, so that what
    /// refers to it draws no further error.
    pub(super) fn member(&mut self) -> Parsed<Item> {
        let comment = self.comment();
        let start = self.current.span;
        let kind = match self.text() {
            "relation" => MemberKind::Relation,
            _ => MemberKind::Permission,
        };
        self.advance();
        let (name, body) = match kind {
            MemberKind::Relation => {
                let name = self.name("a name for the relation")?;
                (name, self.subject_types())
            }
            MemberKind::Permission => {
                let name = self.name("a name for the permission")?;
                (name, self.permission())
            }
        };
        let body = body.unwrap_or(MemberBody::Broken(kind));
        let span = start.to(self.previous.span);
        Ok(Item::Member(Member {
            name,
            body,
            comment,
            span,
        }))
    }

    /// `: type | type | …`
    fn subject_types(&mut self) -> Parsed<MemberBody> {
        self.expect(TokenKind::Colon, "`:` and the types of the relation's subjects")?;
        let mut types = vec![self.subject_type()?];
        while self.take(TokenKind::Pipe) {
            types.push(self.subject_type()?);
        }
        Ok(MemberBody::Relation(types))
    }

    /// `type`, `type:*`, `type#relation` or `type#...`, each perhaps followed by `with …`
    fn subject_type(&mut self) -> Parsed<SubjectType> {
        let type_name = self.path("the name of a type")?;
        let subject = if self.take(TokenKind::Colon) {
            self.expect(TokenKind::Star, "`*` after `:`")?;
            Subject::Wildcard
        } else if self.take(TokenKind::Hash) {
            match self.take(TokenKind::Ellipsis) {
                true => Subject::Object,
                false => Subject::Userset(self.name("a relation, a permission or `...` after `#`")?),
            }
        } else {
            Subject::Object
        };
        let (caveat, expiration) = match self.take_word("with") {
            true => self.terms()?,
            false => (None, false),
        };
        let span = type_name.span.to(self.previous.span);
        Ok(SubjectType {
            type_name,
            subject,
            caveat,
            expiration,
            span,
        })
    }

    /// `caveat`, `expiration` or `caveat and expiration`; the first word of each is at hand.
    fn terms(&mut self) -> Parsed<(Option<Identifier>, bool)> {
        let has_expiration = self.enabled.contains(&"expiration");
        if has_expiration && self.take_word("expiration") {
            if self.at_word("and") {
                let message = "the caveat must come before the expiration: `with the_caveat and expiration`";
                self.findings
                    .push(DiagnosticCode::UnexpectedToken, self.current.span, message);
                return Err(Reported);
            }
            return Ok((None, true));
        }
        let caveat = self.path(match has_expiration {
            true => "the name of a caveat or `expiration` after `with`",
            false => "the name of a caveat after `with`",
        })?;
        if !self.at_word("and") {
            return Ok((Some(caveat), false));
        }
        if !has_expiration {
            let message =
                "`and expiration` must be enabled by a line `use expiration` at the top of the schema";
            self.findings
                .push(DiagnosticCode::MisplacedUse, self.current.span, message);
            return Err(Reported);
        }
        self.advance();
        match self.take_word("expiration") {
            true => Ok((Some(caveat), true)),
            false => Err(self.unexpected("`expiration` after `and`")),
        }
    }

    /// `: type | type = expression`, the annotation being optional
    fn permission(&mut self) -> Parsed<MemberBody> {
        let mut annotation = Vec::new();
        if self.take(TokenKind::Colon) {
            annotation.push(self.path("the name of a type")?);
            while self.take(TokenKind::Pipe) {
                annotation.push(self.path("the name of a type after `|`")?);
            }
        }
        let expected = match annotation.is_empty() {
            true => "`=` and an expression, or `:` and a type annotation",
            false => "`=` and an expression",
        };
        self.expect(TokenKind::Equals, expected)?;
        let expression = self.expression(0)?;
        if expression.depth() > MAX_DEPTH {
            let message = format!("the expression is nested more than {MAX_DEPTH} deep");
            self.findings
                .push(DiagnosticCode::NestingTooDeep, expression.span, message);
            return Ok(MemberBody::Broken(MemberKind::Permission));
        }
        Ok(MemberBody::Permission {
            annotation,
            expression,
        })
    }
}
