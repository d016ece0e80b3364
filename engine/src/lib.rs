//! The schema language and the evaluation of permissions: text and rows go in; decisions, lists, and demands for
//! more rows, come out. Nothing here waits, reads a clock or touches I/O.

pub mod caveat;
pub mod context;
pub mod evaluate;
pub mod expand;
pub mod list;
pub mod noun;
pub mod overlay;
pub mod pause;
pub mod row;
pub mod schema;
pub mod tree;
