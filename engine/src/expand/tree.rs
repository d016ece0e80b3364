//! The tree of an expansion: a flat list of nodes, so that nothing about it is as deep as the data.

use std::sync::Arc;

use crate::noun::ObjectId;
use crate::row::Terms;
use crate::schema::{ArrowMode, MemberId, SlotId, TypeId};

/// A node's position in its tree.
pub type NodeId = u32;

/// Who has a member of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandTree {
    pub(super) nodes: Vec<ExpandNode>,
    /// Whether anything was left out: the nodes that are [cut](ExpandNode::cut) for another reason than that they are shown
    /// elsewhere say where.
    pub truncated: bool,
}

/// One part of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandNode {
    /// What it is.
    pub kind: ExpandKind,
    /// What it is made of, in the order of the schema, and of subjects' ids.
    pub children: Vec<NodeId>,
    /// Why some or all of its children are not shown, if so.
    pub cut: Option<ExpandCut>,
    pub(super) parent: NodeId,
    pub(super) depth: u32,
}

/// What a part of the tree is.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpandKind {
    /// A relation or permission of an object. Its child is how it is decided.
    Member {
        /// The relation or permission.
        member: MemberId,
        /// The object's id; its type is the member's.
        object: ObjectId,
    },
    /// Whoever is in one of the children.
    Union,
    /// Whoever is in all of them.
    Intersection,
    /// Whoever is in the first and not in the second.
    Exclusion,
    /// Nobody.
    Nil,
    /// The object itself.
    Itself {
        /// Its type.
        object_type: TypeId,
        /// Its id.
        object: ObjectId,
    },
    /// The relationships of a relation; the children are their subjects.
    This,
    /// An arrow; the children are the subjects that it follows.
    Arrow {
        /// The relation that is followed.
        relation: MemberId,
        /// Whether one of them is enough, or all must agree.
        mode: ArrowMode,
        /// What it leads to on one of the types that has it; it has the same name on all of them.
        target: Option<MemberId>,
    },
    /// The subject of a relationship that has not expired. A userset's or an arrow's child is what lies behind it.
    Subject {
        /// The relation and the class of subjects.
        slot: SlotId,
        /// The subject's id.
        subject: ObjectId,
        /// The relationship's terms.
        terms: Option<Arc<Terms>>,
        /// Whether it is not stored but counts for this request alone.
        contextual: bool,
    },
}

/// Why something is not shown below a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpandCut {
    /// It lies within itself: whoever is in it is in it.
    Recursion,
    /// It is shown in full elsewhere in the tree.
    Elsewhere,
    /// It lies deeper than [`ExpandLimits::max_depth`](super::ExpandLimits::max_depth) steps.
    Depth,
    /// The tree may not grow any more. Some children may be there.
    Size,
}

impl ExpandTree {
    /// The node of the resource and permission that were asked about.
    pub fn root(&self) -> Option<&ExpandNode> {
        self.nodes.first()
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&ExpandNode> {
        self.nodes.get(id as usize)
    }

    /// How many nodes it has.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}
