//! JSON values with the places they were written at, and the questions that models ask of them.

use crate::schema::diagnostic::{DiagnosticCode, Findings, Span};

/// A value.
#[derive(Debug, Clone)]
pub(in crate::schema::openfga) struct Json {
    pub(in crate::schema::openfga) kind: Kind,
    /// Where it stands; of a string, its quotes included.
    pub(in crate::schema::openfga) span: Span,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(in crate::schema::openfga) enum Kind {
    Null,
    Bool,
    Number,
    Text(String),
    List(Vec<Json>),
    Object(Vec<Member>),
}

/// A member of an object. No object has two of one name.
#[derive(Debug, Clone)]
pub(in crate::schema::openfga) struct Member {
    pub(in crate::schema::openfga) name: String,
    pub(in crate::schema::openfga) name_span: Span,
    pub(in crate::schema::openfga) value: Json,
}

impl Json {
    /// The value of the member that has one of these names, unless it is `null`.
    pub(in crate::schema::openfga) fn get(&self, names: &[&str]) -> Option<&Json> {
        let Kind::Object(members) = &self.kind else {
            return None;
        };
        let member = members
            .iter()
            .find(|member| names.contains(&member.name.as_str()))?;
        match member.value.kind {
            Kind::Null => None,
            _ => Some(&member.value),
        }
    }

    /// The members; reports it if it is no object.
    pub(in crate::schema::openfga) fn members(&self, findings: &mut Findings) -> &[Member] {
        match &self.kind {
            Kind::Object(members) => members,
            Kind::Null => &[],
            _ => {
                self.expected("an object", findings);
                &[]
            }
        }
    }

    /// The items; reports it if it is no list.
    pub(in crate::schema::openfga) fn items(&self, findings: &mut Findings) -> &[Json] {
        match &self.kind {
            Kind::List(items) => items,
            Kind::Null => &[],
            _ => {
                self.expected("a list", findings);
                &[]
            }
        }
    }

    /// The string; reports it if it is none.
    pub(in crate::schema::openfga) fn text(&self, findings: &mut Findings) -> Option<&str> {
        match &self.kind {
            Kind::Text(text) => Some(text),
            _ => {
                self.expected("a string", findings);
                None
            }
        }
    }

    /// Reports every member that has none of these names, and whether this is an object at all.
    pub(in crate::schema::openfga) fn only(&self, known: &[&str], findings: &mut Findings) {
        for member in self.members(findings) {
            if !known.contains(&member.name.as_str()) {
                let message = format!(
                    "there is no member `{}` here; there are {}",
                    member.name.escape_debug(),
                    known
                        .iter()
                        .map(|name| format!("`{name}`"))
                        .collect::<Vec<_>>()
                        .join(", ")
                );
                findings.push(DiagnosticCode::UnknownField, member.name_span, message);
            }
        }
    }

    /// Reports that this is not what was expected.
    pub(in crate::schema::openfga) fn expected(&self, what: &str, findings: &mut Findings) {
        let found = match &self.kind {
            Kind::Null => "`null`",
            Kind::Bool => "a boolean",
            Kind::Number => "a number",
            Kind::Text(_) => "a string",
            Kind::List(_) => "a list",
            Kind::Object(_) => "an object",
        };
        // Of what spans many lines, its beginning is enough.
        let start = self.span.start;
        let span = match self.kind {
            Kind::List(_) | Kind::Object(_) => Span {
                start,
                end: start + 1,
            },
            _ => self.span,
        };
        findings.push(
            DiagnosticCode::UnexpectedToken,
            span,
            format!("expected {what}, found {found}"),
        );
    }
}
