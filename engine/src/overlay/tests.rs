//! Overlays: what they change in rows, entries and reverse rows, and what they leave alone.

use super::*;
use crate::context::Context;
use crate::noun::{CaveatRef, Name, ObjectRef, SubjectRef, Timestamp};
use crate::schema::compile;

const SCHEMA: &str = "use expiration
caveat c(x int) {
    x > 1
}
definition user {}
definition group {
    relation member: user | group#member
}
definition doc {
    relation viewer: user | user:* | group#member | user with c | user with expiration
    permission view = viewer
}";

fn schema() -> Schema {
    compile(SCHEMA).unwrap().schema
}

fn id(text: &str) -> ObjectId {
    ObjectId::parse(text).unwrap()
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn relationship(text: &str) -> Relationship {
    let (resource, rest) = text.split_once('#').unwrap();
    let (relation, subject) = rest.split_once('@').unwrap();
    Relationship {
        resource: ObjectRef::parse(resource).unwrap(),
        relation: name(relation),
        subject: SubjectRef::parse(subject).unwrap(),
        caveat: None,
        expires_at: None,
    }
}

fn overlay(added: &[&str], removed: &[&str]) -> (Schema, Overlay) {
    let schema = schema();
    let mut overlay = Overlay::new();
    for text in added {
        overlay.add(&schema, &relationship(text)).unwrap();
    }
    for text in removed {
        overlay.remove(&schema, &relationship(text).key());
    }
    (schema, overlay)
}

fn row_of(schema: &Schema, text: &str) -> RowKey {
    let key = relationship(text).key();
    RowKey {
        slot: slot_of(schema, &key).unwrap(),
        object: key.resource.id,
    }
}

fn ids<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Vec<&'e str> {
    entries.into_iter().map(|entry| entry.subject.as_str()).collect()
}

/// One row at hand, all others unknown. It counts how often it was read.
struct One(RowKey, Row, std::cell::Cell<u32>);

impl Rows for One {
    fn row(&self, key: &RowKey) -> Found<'_> {
        if *key != self.0 {
            return Found::Unknown;
        }
        self.2.set(self.2.get() + 1);
        Found::Row(&self.1)
    }
}

fn stored(schema: &Schema, text: &str, subjects: &[&str]) -> One {
    let entry = |subject: &&str| Entry {
        subject: id(subject),
        terms: None,
    };
    let row = Row::new(subjects.iter().map(entry).collect());
    One(row_of(schema, text), row, std::cell::Cell::new(0))
}

fn found(found: Found<'_>) -> Option<Vec<&str>> {
    match found {
        Found::Row(row) => Some(ids(row.entries())),
        Found::Empty => Some(Vec::new()),
        Found::Unknown => None,
    }
}

#[test]
fn a_touched_row_is_merged_once_and_others_pass_through() {
    let (schema, overlay) = overlay(
        &[
            "doc:d#viewer@user:b",
            "doc:d#viewer@user:z",
            "doc:e#viewer@user:b",
        ],
        &["doc:d#viewer@user:a", "doc:d#viewer@user:never"],
    );
    let base = stored(&schema, "doc:d#viewer@user:x", &["a", "b", "c"]);
    let laid = overlay.over(&base);
    assert_eq!(found(laid.row(&base.0)), Some(vec!["b", "c", "z"]));
    assert_eq!(found(laid.row(&base.0)), Some(vec!["b", "c", "z"]));
    assert_eq!(base.2.get(), 1, "merged more than once");
    assert_eq!(found(laid.row(&row_of(&schema, "doc:e#viewer@user:x"))), None);
    let other = stored(&schema, "group:g#member@user:x", &["a"]);
    let laid = overlay.over(&other);
    let Found::Row(row) = laid.row(&other.0) else {
        unreachable!("the row is at hand")
    };
    assert!(std::ptr::eq(row, &raw const other.1), "copied for nothing");
}

#[test]
fn an_entry_needs_no_merging() {
    let (schema, overlay) = overlay(&["doc:d#viewer@user:b"], &["doc:d#viewer@user:a"]);
    let base = stored(&schema, "doc:d#viewer@user:x", &["a", "c"]);
    let laid = overlay.over(&base);
    let entry = |key: &RowKey, subject: &str| match laid.entry(key, &id(subject)) {
        FoundEntry::Entry(entry) => {
            assert_eq!(entry.subject.as_str(), subject);
            Some(true)
        }
        FoundEntry::Absent => Some(false),
        FoundEntry::Unknown => None,
    };
    for (subject, expected) in [("a", false), ("b", true), ("c", true), ("d", false)] {
        assert_eq!(entry(&base.0, subject), Some(expected), "{subject}");
    }
    assert!(laid.merged.values().all(|merged| merged.get().is_none()));
    assert!(laid.is_contextual(&base.0, &id("b")) && !laid.is_contextual(&base.0, &id("c")));
    // What is known of a row that is not at hand: the changes, and no more.
    let elsewhere = One(
        row_of(&schema, "doc:e#viewer@user:x"),
        Row::default(),
        Default::default(),
    );
    let laid = overlay.over(&elsewhere);
    let known = |subject: &str| laid.entry(&base.0, &id(subject));
    assert!(matches!(known("a"), FoundEntry::Absent));
    assert!(matches!(known("b"), FoundEntry::Entry(_)));
    assert!(matches!(known("c"), FoundEntry::Unknown));
}

#[test]
fn what_storage_supplies_is_changed_on_its_way() {
    let (schema, overlay) = overlay(&["doc:d#viewer@user:b"], &["doc:d#viewer@user:a"]);
    let nothing = One(
        row_of(&schema, "doc:e#viewer@user:x"),
        Row::default(),
        Default::default(),
    );
    let laid = overlay.over(&nothing);
    let base = stored(&schema, "doc:d#viewer@user:x", &["a", "c"]);
    let probe = |subject: &str| {
        let demand = Demand::Probe(base.0.clone(), id(subject));
        let supply = Supply::Entry(base.1.find(&id(subject)).cloned());
        let Supply::Entry(entry) = laid.lay(&demand, supply) else {
            unreachable!("an entry stays an entry")
        };
        entry.is_some()
    };
    assert_eq!(
        [probe("a"), probe("b"), probe("c"), probe("d")],
        [false, true, true, false]
    );
    let scan = Demand::Scan(base.0.clone());
    let supply = || Supply::Row(Arc::new(base.1.clone()));
    let (Supply::Row(first), Supply::Row(second)) = (laid.lay(&scan, supply()), laid.lay(&scan, supply()))
    else {
        unreachable!("a row stays a row")
    };
    assert_eq!(ids(first.entries()), ["b", "c"]);
    assert!(Arc::ptr_eq(&first, &second), "merged more than once");
    let other = Demand::Scan(row_of(&schema, "doc:e#viewer@user:x"));
    let Supply::Row(row) = laid.lay(&other, supply()) else {
        unreachable!("a row stays a row")
    };
    assert_eq!(ids(row.entries()), ["a", "c"]);
}

#[test]
fn the_later_change_of_one_relationship_counts() {
    let schema = schema();
    let mut overlay = Overlay::new();
    assert!(overlay.is_empty());
    let plain = relationship("doc:d#viewer@user:a");
    let mut expiring = plain.clone();
    expiring.expires_at = Some(Timestamp(7));
    overlay.add(&schema, &plain).unwrap();
    overlay.add(&schema, &expiring).unwrap();
    assert_eq!(overlay.added(), 1);
    let key = row_of(&schema, "doc:d#viewer@user:a");
    let terms = overlay.row(&key).unwrap().added()[0].terms.clone();
    assert_eq!(terms.unwrap().expires_at, Some(Timestamp(7)));
    overlay.remove(&schema, &plain.key());
    let patch = overlay.row(&key).unwrap();
    assert_eq!((patch.added(), patch.removed()), (&[][..], &[id("a")][..]));
    assert_eq!(overlay.added(), 0);
    overlay.add(&schema, &plain).unwrap();
    let patch = overlay.row(&key).unwrap();
    assert_eq!((ids(patch.added()), patch.removed()), (vec!["a"], &[][..]));
    assert_eq!(overlay.added(), 1);
}

#[test]
fn reverse_rows_say_the_same_from_the_other_end() {
    let (schema, overlay) = overlay(
        &[
            "doc:z#viewer@user:a",
            "doc:d#viewer@user:a",
            "doc:e#viewer@group:a#member",
            "doc:d#viewer@user:*",
        ],
        &[
            "doc:c#viewer@user:a",
            "doc:b#viewer@user:a",
            "doc:z#nothing@user:a",
        ],
    );
    let slot = |text: &str| row_of(&schema, text).slot;
    let reverse = |text: &str, subject: &str| {
        let subject = match subject {
            "*" => ObjectId::wildcard(),
            subject => id(subject),
        };
        let patch = overlay.reverse(slot(text), &subject)?;
        let removed = patch.removed().iter().map(ObjectId::as_str).collect::<Vec<_>>();
        Some((ids(patch.added()), removed))
    };
    assert_eq!(
        reverse("doc:x#viewer@user:a", "a"),
        Some((vec!["d", "z"], vec!["b", "c"]))
    );
    assert_eq!(
        reverse("doc:x#viewer@group:a#member", "a"),
        Some((vec!["e"], vec![]))
    );
    assert_eq!(reverse("doc:x#viewer@user:*", "*"), Some((vec!["d"], vec![])));
    assert_eq!(reverse("doc:x#viewer@user:a", "b"), None);
    assert_eq!(overlay.reversed().count(), 3);
    let stored: Vec<Entry> = ["a", "b", "d"]
        .map(|resource| Entry {
            subject: id(resource),
            terms: None,
        })
        .into();
    let patch = overlay.reverse(slot("doc:x#viewer@user:a"), &id("a")).unwrap();
    assert_eq!(ids(patch.apply(&Row::new(stored)).entries()), ["a", "d", "z"]);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_no_trace() {
    let schema = schema();
    let mut overlay = Overlay::new();
    let mut caveated = relationship("doc:d#viewer@user:a");
    caveated.caveat = Some(CaveatRef {
        name: name("other"),
        context: Context::new(),
    });
    for bad in [
        relationship("doc:d#view@user:a"),
        relationship("doc:d#viewer@doc:e"),
        relationship("dog:d#viewer@user:a"),
        caveated,
    ] {
        assert_eq!(
            overlay.add(&schema, &bad).err(),
            schema.fits(&bad).err(),
            "{bad:?}"
        );
        assert!(overlay.is_empty() && overlay.reversed().count() == 0);
    }
    overlay.remove(&schema, &relationship("dog:d#viewer@user:a").key());
    assert!(overlay.is_empty());
}
