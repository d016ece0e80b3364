//! Parses expressions by way of the library `cel`, within bounds that it does not have itself.
//!
//! The library bounds how deep brackets nest, but not how long a chain such as `a + a + …` or `a.b.b.…` is, and it recurses once for
//! each of its links: when it walks what it parsed, and when that is dropped. All of this happens on a stack that is large enough
//! for the longest expression. What leaves it is a tree of ours, of bounded size and depth.

use cel::Env;
use cel::parser::Parser;

use super::CompileError;
use super::bridge::bridged;
use super::limits::{MAX_DEPTH, MAX_SOURCE_BYTES, STACK_BYTES, STACK_BYTES_PER_BYTE};
use super::refusal::refusal;
use super::stack::{StackError, on_own_stack};
use super::syntax::Node;

/// Parses an expression; stops at the first error.
pub(super) fn parse(source: &str) -> Result<Node, CompileError> {
    if source.len() > MAX_SOURCE_BYTES {
        let message = format!("the expression is longer than {MAX_SOURCE_BYTES} bytes");
        return Err(CompileError::at(source, 0, message));
    }
    let stack_bytes = STACK_BYTES + STACK_BYTES_PER_BYTE * source.len();
    on_own_stack(stack_bytes, || parse_here(source)).unwrap_or_else(|error| {
        let message = match error {
            StackError::Refused => "the system has no thread for parsing the expression",
            StackError::Panicked => "the parser failed on the expression",
        };
        Err(CompileError::at(source, 0, message))
    })
}

/// Parses on the stack at hand, and leaves nothing of the library's behind.
fn parse_here(source: &str) -> Result<Node, CompileError> {
    match parser().parse_with_source_info(source) {
        Ok((tree, places)) => bridged(source, &places, tree),
        Err(errors) => Err(refusal(source, &errors.errors)),
    }
}

/// The library's parser without its macros: `all`, `map` and the like stay the calls that they are written as. It gives up at the second error.
fn parser() -> Parser {
    Env::default()
        .with_optional_support(true)
        .parser()
        .enable_ident_escape_syntax(true)
        .max_recursion_depth(MAX_DEPTH)
        .error_recovery_limit(1)
}
