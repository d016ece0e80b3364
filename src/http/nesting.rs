//! Deep trees on the wire: many parsers of JSON refuse what nests more than about 128 levels, so that a deeper tree is sent in
//! parts.

use std::collections::VecDeque;
use std::io::{self, BufWriter, Write};

use inferadb_actors::background;
use serde::Serialize;
use serde_json::Value;

/// How many nodes lie within each other in one part. Each takes two levels of JSON; some are left for what is around and
/// within the nodes.
pub const MAX_NESTING: usize = 54;

/// So much is written between two looks at whether others want the core.
const PIECE_BYTES: usize = 4 << 10;

/// Writes a tree, which can be large.
pub fn tree_bytes(tree: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = BufWriter::with_capacity(PIECE_BYTES, Breathing(&mut bytes));
    // It has no keys that JSON cannot have, and memory does not fail.
    let _ = serde_json::to_writer(&mut writer, tree);
    let _ = writer.flush();
    drop(writer);
    bytes
}

struct Breathing<'b>(&'b mut Vec<u8>);

impl Write for Breathing<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        background::breathe();
        self.0.write(piece)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What was left to later parts, while one is made.
#[derive(Debug)]
pub struct Left<N> {
    nodes: VecDeque<N>,
    /// How many were left so far, in all parts.
    count: usize,
}

impl<N> Left<N> {
    /// Leaves a node to a later part; says which, from 0 for the first after the root's.
    pub fn leave(&mut self, node: N) -> usize {
        self.nodes.push_back(node);
        self.count += 1;
        self.count - 1
    }
}

/// The parts of a tree: the root's first, then those that were left, in the order in which they were.
pub struct Parts<N, F> {
    left: Left<N>,
    make: F,
}

impl<N, F: FnMut(N, &mut Left<N>) -> Value> Parts<N, F> {
    /// The parts of the tree of `root`; `make` turns a node into JSON and leaves what lies too deep.
    pub fn new(root: N, make: F) -> Self {
        let left = Left {
            nodes: VecDeque::from([root]),
            count: 0,
        };
        Self { left, make }
    }
}

impl<N, F: FnMut(N, &mut Left<N>) -> Value> Iterator for Parts<N, F> {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        let node = self.left.nodes.pop_front()?;
        Some((self.make)(node, &mut self.left))
    }
}
