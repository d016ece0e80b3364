//! The schema: its compiled form, and the native language that is compiled to it.

mod compiled;

pub use compiled::{
    Allowed, ArrowMode, Caveat, CaveatId, CaveatType, Expr, Member, MemberId, MemberKind, Schema, Slot,
    SlotId, SlotSubject, Type, TypeId,
};
