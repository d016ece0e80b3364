//! The schema: its compiled form, the native language that is compiled to it, and what relationships fit it.

mod compiled;
mod diagnostic;
mod diff;
mod fit;
mod misfit;
mod native;
mod reach;

pub use compiled::{
    Allowed, ArrowMode, Caveat, CaveatId, CaveatType, Expr, Member, MemberId, MemberKind, Schema, Slot,
    SlotId, SlotSubject, Type, TypeId,
};
pub use diagnostic::{Diagnostic, DiagnosticCode, MAX_DIAGNOSTICS};
pub use diff::{Change, ChangeKind, SchemaDiff};
pub use misfit::Misfit;
pub use native::{Compiled, MAX_SOURCE_BYTES, compile};
