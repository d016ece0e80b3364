//! The InferaDB server.
fn main() {}
