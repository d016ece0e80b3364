//! The feed of a vault's watches: how far the vault's view has come, and the latest changes, so that many watches at the
//! head of one vault read its log once and not each for itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inferadb_engine::context::Value;
use inferadb_engine::noun::Relationship;
use inferadb_storage::{Change, ChangeKind, Revision};
use tokio::sync::watch;

/// The most changes that are held.
const MAX_CHANGES: usize = 256;
/// The most that they weigh, in bytes. One that weighs more by itself is left to the log.
const MAX_BYTES: usize = 1 << 20;
/// What a relationship weighs beside its ids and its caveat's context, in bytes.
const RELATIONSHIP_BYTES: usize = 192;
/// What a value of a context weighs beside its text, in bytes.
const VALUE_BYTES: usize = 64;

/// What the watches of one vault follow.
pub(super) struct Feed {
    pulse: watch::Sender<Pulse>,
    recent: Mutex<Recent>,
}

/// How far the vault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pulse {
    /// The revision of its published view: what reads of this server show.
    pub(super) revision: Revision,
    /// Whether its actor is going or gone: who goes on needs the next one.
    pub(super) closed: bool,
}

/// The latest changes: all there are after `after`.
struct Recent {
    after: Revision,
    changes: VecDeque<(Arc<Change>, usize)>,
    bytes: usize,
}

impl Feed {
    /// The feed of a vault that is at `revision`.
    pub(super) fn new(revision: Revision) -> Self {
        let pulse = Pulse {
            revision,
            closed: false,
        };
        Self {
            pulse: watch::Sender::new(pulse),
            recent: Mutex::new(Recent {
                after: revision,
                changes: VecDeque::new(),
                bytes: 0,
            }),
        }
    }

    /// Follows the vault from now on.
    pub(super) fn follow(&self) -> watch::Receiver<Pulse> {
        self.pulse.subscribe()
    }

    /// Takes in a change, which comes after all that were taken in before. Who watches sees it once the view shows it.
    pub(super) fn take(&self, change: &Change) {
        let mut recent = self.recent();
        if self.pulse.receiver_count() == 0 {
            recent.start_after(change.revision);
        } else {
            recent.push(change);
        }
    }

    /// Tells the watches that the published view is of `revision`. What the view took in without [`Feed::take`] is
    /// theirs to read from the log.
    pub(super) fn moved(&self, revision: Revision) {
        let mut recent = self.recent();
        if recent.last() != revision {
            recent.start_after(revision);
        }
        drop(recent);
        self.pulse.send_if_modified(|pulse| {
            let moves = pulse.revision != revision;
            pulse.revision = revision;
            moves
        });
    }

    /// Tells the watches that the vault's actor goes.
    pub(super) fn close(&self) {
        self.pulse
            .send_if_modified(|pulse| !std::mem::replace(&mut pulse.closed, true));
    }

    /// The changes after `after` up to `through`, oldest first, at most `limit`; `None` if they are not all held.
    pub(super) fn between(
        &self,
        after: Revision,
        through: Revision,
        limit: usize,
    ) -> Option<Vec<Arc<Change>>> {
        let recent = self.recent();
        if after < recent.after || recent.last() < through {
            return None;
        }
        let start = recent
            .changes
            .partition_point(|(change, _)| change.revision <= after);
        let wanted = recent.changes.iter().skip(start).take(limit);
        Some(
            wanted
                .map(|(change, _)| Arc::clone(change))
                .take_while(|change| change.revision <= through)
                .collect(),
        )
    }

    /// Lets go of the changes: the watches read them from the log. Says whether there were any.
    pub(super) fn clear(&self) -> bool {
        let mut recent = self.recent();
        let (last, had_any) = (recent.last(), recent.bytes > 0);
        recent.start_after(last);
        had_any
    }

    /// What the changes that it holds weigh, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.recent().bytes
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recent {
    fn last(&self) -> Revision {
        self.changes.back().map_or(self.after, |(last, _)| last.revision)
    }

    fn push(&mut self, change: &Change) {
        let weight = weight(change);
        if weight > MAX_BYTES {
            self.start_after(change.revision);
            return;
        }
        self.changes.push_back((Arc::new(change.clone()), weight));
        self.bytes += weight;
        while self.changes.len() > 1 && (self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES) {
            let Some((oldest, weight)) = self.changes.pop_front() else {
                break;
            };
            self.bytes -= weight;
            self.after = oldest.revision;
        }
    }

    fn start_after(&mut self, revision: Revision) {
        self.after = revision;
        self.changes.clear();
        self.bytes = 0;
    }
}

fn weight(change: &Change) -> usize {
    match &change.kind {
        ChangeKind::Relationships(changes) => changes.iter().map(|(_, one)| relationship_bytes(one)).sum(),
        ChangeKind::Schema | ChangeKind::Settings => VALUE_BYTES,
    }
}

/// About what a relationship weighs, in bytes.
pub(crate) fn relationship_bytes(relationship: &Relationship) -> usize {
    let ids = relationship.resource.id.as_str().len() + relationship.subject.id.as_str().len();
    let members = relationship.caveat.iter().flat_map(|caveat| &caveat.context);
    let context: usize = members.map(|(name, value)| name.len() + value_bytes(value)).sum();
    RELATIONSHIP_BYTES + ids + context
}

/// Recurses as deep as a stored context nests, which storage bounds.
fn value_bytes(value: &Value) -> usize {
    VALUE_BYTES
        + match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::Double(_) => 0,
            Value::String(text) => text.len(),
            Value::List(items) => items.iter().map(value_bytes).sum(),
            Value::Map(members) => members
                .iter()
                .map(|(name, value)| name.len() + value_bytes(value))
                .sum(),
        }
}

#[cfg(test)]
mod tests {
    use inferadb_engine::noun::Timestamp;
    use inferadb_storage::ChangeOp;
    use inferadb_storage::kv::Versionstamp;

    use super::*;

    fn revision(version: u64) -> Revision {
        Revision(Versionstamp::new(version, 0))
    }

    fn change(version: u64, relationships: usize) -> Change {
        let one = Relationship {
            resource: inferadb_engine::noun::ObjectRef::parse("document:d").unwrap(),
            relation: inferadb_engine::noun::Name::parse("viewer").unwrap(),
            subject: inferadb_engine::noun::SubjectRef::parse("user:u").unwrap(),
            caveat: None,
            expires_at: None,
        };
        Change {
            revision: revision(version),
            at: Timestamp(0),
            kind: ChangeKind::Relationships(vec![(ChangeOp::Created, one); relationships]),
        }
    }

    fn versions(feed: &Feed, after: u64, through: u64, limit: usize) -> Option<Vec<Revision>> {
        let changes = feed.between(revision(after), revision(through), limit)?;
        Some(changes.iter().map(|change| change.revision).collect())
    }

    #[test]
    fn holds_what_came_while_somebody_followed_and_says_what_it_lacks() {
        let feed = Feed::new(revision(5));
        assert_eq!(versions(&feed, 5, 5, 9), Some(vec![]));
        feed.take(&change(6, 1));
        assert_eq!(versions(&feed, 5, 6, 9), None, "nobody followed");
        let follower = feed.follow();
        for version in [7, 8, 9] {
            feed.take(&change(version, 1));
        }
        feed.moved(revision(9));
        assert_eq!(follower.borrow().revision, revision(9));
        assert_eq!(versions(&feed, 5, 9, 9), None);
        assert_eq!(versions(&feed, 6, 9, 2), Some(vec![revision(7), revision(8)]));
        assert_eq!(versions(&feed, 7, 8, 9), Some(vec![revision(8)]));
        // The view was read anew at 12: what came between is not here.
        feed.moved(revision(12));
        assert_eq!(versions(&feed, 9, 12, 9), None);
        assert_eq!(versions(&feed, 12, 12, 9), Some(vec![]));
        feed.take(&change(13, 1));
        assert_eq!(versions(&feed, 12, 13, 9), Some(vec![revision(13)]));
        feed.close();
        assert!(follower.borrow().closed);
    }

    #[test]
    fn is_bounded_in_changes_and_bytes() {
        let feed = Feed::new(revision(0));
        let _follower = feed.follow();
        for version in 1..=1_000 {
            feed.take(&change(version, 1));
        }
        assert_eq!(feed.recent().changes.len(), MAX_CHANGES);
        for version in 1_001..=1_100 {
            feed.take(&change(version, 1_000));
        }
        feed.take(&change(1_101, 1));
        assert_eq!(versions(&feed, 1_100, 1_101, 9), Some(vec![revision(1_101)]));
        // One that is too large by itself is not held either, and the log has it.
        feed.take(&change(1_102, 100_000));
        assert_eq!(feed.bytes(), 0);
        assert_eq!(versions(&feed, 1_101, 1_102, 9), None);
        feed.take(&change(1_103, 1));
        assert_eq!(versions(&feed, 1_102, 1_103, 9), Some(vec![revision(1_103)]));
        feed.clear();
        assert_eq!(feed.bytes(), 0);
        assert_eq!(versions(&feed, 1_102, 1_103, 9), None);
        assert_eq!(versions(&feed, 1_103, 1_103, 9), Some(vec![]));
        for version in 1_104..=1_200 {
            feed.take(&change(version, 1_000));
        }
        let recent = feed.recent();
        assert!(recent.bytes <= MAX_BYTES);
        assert_eq!(recent.last(), revision(1_200));
        assert_eq!(
            recent.bytes,
            recent.changes.iter().map(|(_, weight)| weight).sum::<usize>()
        );
    }
}
