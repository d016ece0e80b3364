//! Checks the type annotations of permissions, where `use typechecking` asks for it.

use super::resolve::Resolver;
use super::syntax::MemberBody;
use crate::schema::SlotSubject;
use crate::schema::diagnostic::DiagnosticCode;
use crate::schema::reach::Closures;

/// How many types a message names at most.
const MOST_NAMED: usize = 5;

impl Resolver<'_> {
    /// An annotated permission must reach no other types of subjects than its annotation names: through everything
    /// its expression mentions, what it excludes among it. `self` does not count, as with SpiceDB.
    pub(super) fn annotations(&mut self) {
        if !self.file.typechecking {
            return;
        }
        let edges = self.schema.dependencies(false);
        let own = |member: usize, found: &mut Vec<u32>| {
            let slots = self
                .schema
                .members
                .get(member)
                .into_iter()
                .flat_map(|member| &member.slots);
            for slot in slots.filter_map(|slot| self.schema.slots.get(slot.index())) {
                if !matches!(slot.subject, SlotSubject::Userset(_)) {
                    found.push(slot.subject_type.0);
                }
            }
        };
        let closures = match Closures::new(&edges, own) {
            Ok(closures) => closures,
            Err(error) => {
                self.findings.push(
                    DiagnosticCode::LimitExceeded,
                    Default::default(),
                    error.to_string(),
                );
                return;
            }
        };
        for (position, written) in self.written.clone().into_iter().enumerate() {
            let MemberBody::Permission { annotation, .. } = &written.body else {
                continue;
            };
            let (Some(first), Some(last)) = (annotation.first(), annotation.last()) else {
                continue;
            };
            let mut named: Vec<u32> = annotation
                .iter()
                .filter_map(|name| self.types.get(name.text.as_str()))
                .map(|id| id.0)
                .collect();
            named.sort_unstable();
            let missing = closures
                .of(position)
                .iter()
                .filter(|reached| named.binary_search(reached).is_err());
            let mut missing: Vec<String> = missing
                .take(MOST_NAMED + 1)
                .map(|id| format!("`{}`", self.type_name(crate::schema::TypeId(*id))))
                .collect();
            if missing.is_empty() {
                continue;
            }
            if missing.len() > MOST_NAMED {
                missing.truncate(MOST_NAMED);
                missing.push("others".into());
            }
            let message = format!(
                "permission `{}` can reach subjects of {}, which its type annotation does not name",
                written.name.text,
                missing.join(", ")
            );
            self.findings.push(
                DiagnosticCode::AnnotationMismatch,
                first.span.to(last.span),
                message,
            );
        }
    }
}
