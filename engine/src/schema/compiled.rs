//! The compiled schema: everything resolved to small numbers, so that evaluation compares no names.
//!
//! Native schemas and OpenFGA models compile to this one form. In it a *member* is a relation or a permission
//! of a type; a *slot* is one class of subjects (`user`, `user:*`, `group#member`) that one relation can hold.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::caveat::Program;
use crate::noun::Name;

macro_rules! small_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The position in the schema's list of its kind.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }
    };
}

small_id!(
    /// A type (`definition`).
    TypeId
);
small_id!(
    /// A relation or permission of one type; unique over the whole schema.
    MemberId
);
small_id!(
    /// A class of subjects of one relation; unique over the whole schema.
    SlotId
);
small_id!(
    /// A caveat.
    CaveatId
);

/// A compiled schema. Immutable; lists are indexed by their ids.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    pub(crate) types: Vec<Type>,
    pub(crate) members: Vec<Member>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) caveats: Vec<Caveat>,
    pub(crate) types_by_name: FxHashMap<Name, TypeId>,
    pub(crate) members_by_name: FxHashMap<(TypeId, Name), MemberId>,
    pub(crate) caveats_by_name: FxHashMap<Name, CaveatId>,
    /// The slots of relations of many: those of the others are found by looking through them.
    pub(crate) slots_by_class: FxHashMap<(MemberId, TypeId, SlotSubject), SlotId>,
    /// Whether a decision that rests on an exclusion of itself is the least there is, as OpenFGA has it, and no error.
    pub(crate) denies_paradoxes: bool,
}

/// A type with its members, in the order they were written.
#[derive(Debug, Clone)]
pub struct Type {
    /// Its name.
    pub name: Name,
    /// Its relations and permissions.
    pub members: Vec<MemberId>,
    /// Its doc comment, without comment marks.
    pub doc: Option<String>,
}

/// A relation or permission.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its name.
    pub name: Name,
    /// The type it belongs to.
    pub object_type: TypeId,
    /// Which of the two it is.
    pub kind: MemberKind,
    /// The classes of subjects that relationships may store under it; empty for a native permission.
    pub slots: Vec<SlotId>,
    /// How it is decided. [`Expr::This`] for a plain relation; one of an OpenFGA model can have more beside it.
    pub expr: Expr,
    /// Every relation whose rows a check of this member can read, itself included if it is one; sorted.
    pub reads: Vec<MemberId>,
    /// Its doc comment, without comment marks.
    pub doc: Option<String>,
}

/// Whether a member stores relationships or is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// Holds relationships.
    Relation,
    /// Is computed.
    Permission,
}

/// One class of subjects of one relation.
#[derive(Debug, Clone)]
pub struct Slot {
    /// The relation.
    pub relation: MemberId,
    /// The type of the subjects.
    pub subject_type: TypeId,
    /// Which subjects of that type.
    pub subject: SlotSubject,
    /// The terms under which a relationship of this class may be stored; any one of them is enough.
    pub allowed: Vec<Allowed>,
}

/// Which subjects of a type a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotSubject {
    /// Plain objects: `user:alice`.
    Object,
    /// The wildcard: `user:*`. The row has at most one entry, whose id is `*`.
    Wildcard,
    /// Usersets: `group:eng#member`; the member is of the slot's subject type.
    Userset(MemberId),
}

/// One way a relationship may be stored: with exactly this caveat (or none), and with an expiry or without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The caveat it must be under; `None` for no caveat.
    pub caveat: Option<CaveatId>,
    /// Whether it must carry an expiry (`with expiration`) or must not.
    pub expiration: bool,
}

/// How a member is decided.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// The relationships stored under the member itself.
    This,
    /// Nobody.
    Nil,
    /// The object itself is the subject (`self`).
    Itself,
    /// Another member of the same type.
    Member(MemberId),
    /// `a + b + …`
    Union(Vec<Expr>),
    /// `a & b & …`
    Intersection(Vec<Expr>),
    /// `a - b`
    Exclusion(Box<Expr>, Box<Expr>),
    /// `relation->target`, `relation.any(target)`, `relation.all(target)`.
    Arrow {
        /// The relation whose subjects are followed.
        relation: MemberId,
        /// Whether one of them is enough or all must agree (none at all is never enough).
        mode: ArrowMode,
        /// For each type the relation's subjects can have and that has the target: the target there. Sorted by type.
        targets: Vec<(TypeId, MemberId)>,
    },
}

/// How an arrow combines what it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrowMode {
    /// One is enough.
    Any,
    /// All must agree, and there must be one.
    All,
}

/// A caveat: parameters and a CEL expression over them.
#[derive(Debug, Clone)]
pub struct Caveat {
    /// Its name.
    pub name: Name,
    /// Its parameters in the order they were written.
    pub parameters: Vec<(String, CaveatType)>,
    /// The source of its expression.
    pub expression: String,
    /// The compiled expression.
    pub program: Arc<Program>,
    /// Its doc comment, without comment marks.
    pub doc: Option<String>,
}

/// The type of a caveat's parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CaveatType {
    Any,
    Bool,
    String,
    Int,
    Uint,
    Double,
    Bytes,
    Duration,
    Timestamp,
    IpAddress,
    List(Box<CaveatType>),
    Map(Box<CaveatType>),
}

impl Schema {
    /// All types.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// All members of all types.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All slots of all relations.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// All caveats.
    pub fn caveats(&self) -> &[Caveat] {
        &self.caveats
    }

    /// The type called `name`.
    pub fn type_named(&self, name: &Name) -> Option<TypeId> {
        self.types_by_name.get(name).copied()
    }

    /// The relation or permission `name` of a type.
    pub fn member_named(&self, object_type: TypeId, name: &Name) -> Option<MemberId> {
        self.members_by_name.get(&(object_type, name.clone())).copied()
    }

    /// The caveat called `name`.
    pub fn caveat_named(&self, name: &Name) -> Option<CaveatId> {
        self.caveats_by_name.get(name).copied()
    }
}
