//! Caveats: CEL expressions over typed parameters, compiled with the schema, decided in three-valued logic.
//!
//! The language is the Common Expression Language with the types and functions that SpiceDB and OpenFGA add. Its grammar
//! is that of the library `cel`, which parses ([`parse`], [`bridge`]). What is parsed is checked and evaluated here, for two reasons: every
//! evaluation has a budget, and missing parameters must be told by name. What is not there: messages, `cel.bind`,
//! optional elements of literals, and the extension libraries of CEL.

mod address;
mod bridge;
mod budget;
mod check;
mod convert;
mod evaluate;
mod expression;
mod function;
mod limits;
mod operate;
mod parse;
mod pattern;
mod refusal;
mod stack;
mod syntax;
#[cfg(test)]
mod tests;
mod time;
mod types;
mod value;

use self::budget::Budget;
use self::evaluate::{Evaluation, Stop};
use self::expression::Expr;
use self::limits::{MAX_PARAMETERS, MAX_SOURCE_BYTES, MAX_SOURCES_BYTES, MINUS_BYTES};
use self::pattern::Patterns;
use crate::context::Context;
use crate::schema::CaveatType;

/// A compiled caveat expression.
#[derive(Debug, Clone)]
pub struct Program {
    parameters: Vec<(String, CaveatType)>,
    expr: Expr,
}

/// Why an expression did not compile, and where within it (line and column from 1, in characters).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileError {
    /// What is wrong.
    pub message: String,
    /// Line within the expression, from 1.
    pub line: u32,
    /// Column within that line, from 1.
    pub column: u32,
}

/// What a caveat says of one relationship in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It would take the values of these parameters to know; sorted, each once.
    Missing(Vec<String>),
}

/// A caveat that could not be decided: never an allow or a deny.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaveatError {
    /// A context value does not fit its parameter's type.
    #[error("caveat parameter `{parameter}`: {message}")]
    Parameter {
        /// The parameter.
        parameter: String,
        /// What is wrong with its value.
        message: String,
    },
    /// The expression failed (division by zero, no such key, no such overload).
    #[error("caveat expression failed: {0}")]
    Expression(String),
    /// The expression was too costly.
    #[error("caveat expression exceeds the limit of {limit}")]
    Limit {
        /// Which limit.
        limit: &'static str,
    },
}

/// Compiles a caveat's expression.
///
/// Syntax, names and types are checked; what is typed `any` is checked when it is evaluated. Expressions longer than
/// 16 KiB, of more than 10,000 parts, or nested deeper than 100 levels do not compile, nor do those of more than 1,000
/// parameters or with too much of regular expressions. It takes some 3 to 10 microseconds for each byte, and up to 30 for those made to be
/// slow.
pub fn compile(parameters: &[(String, CaveatType)], expression: &str) -> Result<Program, Vec<CompileError>> {
    Compiler::default().compile(parameters, expression)
}

/// Compiles the caveats of one schema, within bounds that hold for all of them together.
#[derive(Debug)]
pub(crate) struct Compiler {
    patterns: Patterns,
    /// What further expressions may weigh.
    bytes_left: usize,
}

impl Default for Compiler {
    fn default() -> Self {
        Self {
            patterns: Patterns::default(),
            bytes_left: MAX_SOURCES_BYTES,
        }
    }
}

impl Compiler {
    /// Compiles one of them, as [`compile`] does.
    pub(crate) fn compile(
        &mut self,
        parameters: &[(String, CaveatType)],
        expression: &str,
    ) -> Result<Program, Vec<CompileError>> {
        let error = |message: String| Err(vec![CompileError::at(expression, 0, message)]);
        if parameters.len() > MAX_PARAMETERS {
            let count = parameters.len();
            return error(format!(
                "there are {count} parameters; at most {MAX_PARAMETERS} are allowed"
            ));
        }
        match self.bytes_left.checked_sub(weight(expression)) {
            Some(left) => self.bytes_left = left,
            None => {
                return error("the expressions of the schema's caveats are too large together".to_owned());
            }
        }
        let node = parse::parse(expression).map_err(|error| vec![error])?;
        let expr = check::check(expression, parameters, node, &mut self.patterns)?;
        Ok(Program {
            parameters: parameters.to_vec(),
            expr,
        })
    }
}

/// What an expression weighs: how long it takes to parse, in bytes of an ordinary one.
fn weight(expression: &str) -> usize {
    // What is longer than it may be is refused unread.
    if expression.len() > MAX_SOURCE_BYTES {
        return 0;
    }
    let minuses = expression.bytes().filter(|byte| *byte == b'-').count();
    expression.len() + MINUS_BYTES * minuses
}

/// Whether two expressions are the same but for white space, comments, parentheses that change nothing and the spelling of literals. What is
/// no expression at all is the same as nothing else.
pub(crate) fn same_expression(one: &str, other: &str) -> bool {
    one == other || parse::parse(one).is_ok_and(|one| parse::parse(other).is_ok_and(|other| one == other))
}

impl Program {
    /// Decides the caveat; `stored` values win over those of the `request`, and names that are no parameters are
    /// ignored. The work is bounded, some 100,000 steps: passing that is [`CaveatError::Limit`].
    pub fn evaluate(&self, stored: &Context, request: &Context) -> Result<Outcome, CaveatError> {
        // Reading the context has a budget of its own, so that a large context does not starve the expression.
        let mut budget = Budget::new();
        let mut parameters = Vec::with_capacity(self.parameters.len());
        for (name, declared) in &self.parameters {
            let given = stored.get(name).or_else(|| request.get(name));
            let value = given
                .map(|value| convert::convert(name, declared, value, &mut budget))
                .transpose()?;
            parameters.push(value);
        }
        let mut evaluation = Evaluation {
            parameters,
            budget: Budget::new(),
            locals: Vec::new(),
        };
        match evaluation.truth(&self.expr) {
            Ok(true) => Ok(Outcome::True),
            Ok(false) => Ok(Outcome::False),
            Err(Stop::Missing(positions)) => Ok(Outcome::Missing(self.names(positions))),
            Err(Stop::Failed(message)) => Err(CaveatError::Expression(message)),
            Err(Stop::Limit(limit)) => Err(CaveatError::Limit { limit }),
        }
    }

    /// Whether `stored` may be kept with a relationship: each of its names is a parameter, and each value fits the
    /// parameter's type.
    ///
    /// # Errors
    ///
    /// [`CaveatError::Parameter`] for the first that is not, [`CaveatError::Limit`] for a context that is too large.
    pub fn accepts(&self, stored: &Context) -> Result<(), CaveatError> {
        let mut budget = Budget::new();
        for (name, value) in stored {
            let declared = self.parameters.iter().find(|(parameter, _)| parameter == name);
            let Some((_, declared)) = declared else {
                return Err(CaveatError::Parameter {
                    parameter: name.clone(),
                    message: "the caveat has no such parameter".to_owned(),
                });
            };
            convert::convert(name, declared, value, &mut budget)?;
        }
        Ok(())
    }

    fn names(&self, positions: evaluate::Missing) -> Vec<String> {
        let names = positions
            .into_iter()
            .filter_map(|position| self.parameters.get(position));
        let mut names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl CompileError {
    /// An error at a byte of the source.
    fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = source.get(..offset).unwrap_or(source);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        Self {
            message: message.into(),
            line: number(before.matches('\n').count()),
            column: number(before.get(line_start..).unwrap_or_default().chars().count()),
        }
    }
}
