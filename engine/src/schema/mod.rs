//! The schema: its compiled form, the languages that are compiled to it, and what relationships fit it.

mod compiled;
mod diagnostic;
mod diff;
mod fit;
mod format;
mod misfit;
mod native;
mod openfga;
mod print;
mod reach;

pub use compiled::{
    Allowed, ArrowMode, Caveat, CaveatId, CaveatType, Expr, Member, MemberId, MemberKind, Schema, Slot,
    SlotId, SlotSubject, Type, TypeId,
};
pub use diagnostic::{Diagnostic, DiagnosticCode, MAX_DIAGNOSTICS};
pub use diff::{Change, ChangeKind, SchemaDiff};
pub use format::Format;
pub use misfit::Misfit;
pub use native::{Compiled, MAX_SOURCE_BYTES, compile};
pub use print::{Printed, Split, Unprintable, print};
