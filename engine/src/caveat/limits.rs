//! The bounds of caveats: what an expression may be, and what deciding it may cost.
//!
//! Expressions come from tenants and contexts from their users, so every recursion and every loop is bounded by
//! one of these. Passing one is an error that names it, never a decision.

/// Longest expression, in bytes.
pub(super) const MAX_SOURCE_BYTES: usize = 16 * 1024;

/// What the expressions of one schema's caveats may weigh together, in bytes: parsing them takes somewhat more than a second where every
/// one is as costly as it can be, some hundreds of milliseconds where they are written by people.
pub(super) const MAX_SOURCES_BYTES: usize = 128 * 1024;

/// The bytes that a `-` weighs besides its own: whether it belongs to the number after it takes the parser as long as ten other bytes.
pub(super) const MINUS_BYTES: usize = 8;

/// The stack that an expression is parsed on, in bytes: this, and so much for each of its bytes. What nests as deep as it may takes
/// some 400 KB, and each byte of the costliest chain (`a.b.b.…`) 256 bytes.
pub(super) const STACK_BYTES: usize = 4 << 20;

/// See [`STACK_BYTES`].
pub(super) const STACK_BYTES_PER_BYTE: usize = 2 << 10;

/// Most parts (operators, calls, names, literals) of an expression.
pub(super) const MAX_NODES: usize = 10_000;

/// Most parameters of one caveat.
pub(super) const MAX_PARAMETERS: usize = 1_000;

/// Deepest nesting of an expression. Long chains of `&&` and of `||` are one level.
pub(super) const MAX_DEPTH: u16 = 100;

/// Deepest nesting of `all`, `exists`, `map` and the like inside one another.
pub(super) const MAX_LOOPS: usize = 4;

/// Most errors that one compilation reports.
pub(super) const MAX_ERRORS: usize = 20;

/// Steps that one decision may take. A step is one part of the expression evaluated, one value of the context
/// read, or some tens of bytes compared, copied or searched; all of them take a few milliseconds.
pub(super) const MAX_STEPS: u64 = 100_000;

/// Bytes that one step compares or copies.
pub(super) const BYTES_PER_STEP: usize = 16;

/// Deepest nesting of lists and maps in a context value.
pub(super) const MAX_CONTEXT_DEPTH: usize = 64;

/// Longest regular expression, in bytes: before its compiled size is known, every `\w` of it takes some kilobytes.
pub(super) const MAX_PATTERN_SOURCE_BYTES: usize = 4 * 1024;

/// Largest compiled regular expression, in bytes.
pub(super) const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// Bytes of regular expressions that the caveats of one schema may compile to, those given up as too large among them: some
/// hundreds of milliseconds, where every expression is as costly as it can be.
pub(super) const MAX_PATTERNS_BYTES: usize = 16 << 20;

/// Bytes of a regular expression that are compiled in one step of a decision.
pub(super) const PATTERN_BYTES_PER_STEP: usize = 8;
