//! What a view says of rows that it does not hold.

use inferadb_engine::schema::compile;
use inferadb_storage::kv::Versionstamp;

use super::*;

fn view() -> View {
    let text = "definition user {}\ndefinition document {\n    relation reader: user\n}";
    let schema = VaultSchema::new(compile(text).unwrap().schema, text.to_owned(), None);
    View::new(Revision(Versionstamp::new(1, 0)), Arc::new(schema), 3)
}

fn key(document: &str) -> RowKey {
    RowKey {
        slot: SlotId(0),
        object: ObjectId::parse(document).unwrap(),
    }
}

fn entries() -> Vec<Entry> {
    let subject = ObjectId::parse("ann").unwrap();
    vec![Entry { subject, terms: None }]
}

/// Whether `ann` is in the row; `None`: the view cannot tell.
fn says(view: &View, document: &str) -> Option<bool> {
    match view.row(&key(document)) {
        Found::Row(_) => Some(true),
        Found::Empty => Some(false),
        Found::Unknown => None,
    }
}

#[test]
fn a_view_completed_with_a_whole_vault_knows_what_is_not_there() {
    let (mut published, mut loaded) = (view(), view());
    loaded.assume_complete();
    loaded.put_all(key("plan"), entries());
    published.complete_with(loaded);
    assert!(published.is_complete());
    assert_eq!(says(&published, "plan"), Some(true));
    assert_eq!(says(&published, "draft"), Some(false));
}

#[test]
fn a_view_completed_with_one_that_lost_a_row_to_another_of_its_hash_denies_nothing() {
    let (mut published, mut loaded) = (view(), view());
    loaded.assume_complete();
    loaded.put_all(key("displaced"), entries());
    loaded.rows.collide(&key("displaced"), &key("plan"));
    loaded.put_all(key("plan"), entries());
    // From here on nothing new is taken in.
    loaded.put_all(key("draft"), entries());
    published.complete_with(loaded);
    assert_eq!(says(&published, "plan"), Some(true));
    assert_eq!(says(&published, "displaced"), None);
    assert_eq!(says(&published, "draft"), None);
    assert!(!published.is_complete());
}
