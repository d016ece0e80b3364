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

/// What is touched by a thousand writes of one relation is what one of them touches.
#[test]
fn a_relation_tells_its_readers_once_a_revision() {
    let mut text = "definition user {}\ndefinition document {\n    relation reader: user\n".to_owned();
    for at in 0..1_000 {
        text.push_str(&format!("permission p{at} = reader\n"));
    }
    text.push('}');
    let schema = Arc::new(VaultSchema::new(
        compile(&text).unwrap().schema,
        text.clone(),
        None,
    ));
    let mut view = View::new(Revision(Versionstamp::new(1, 0)), schema, 0);
    for second in 2..4 {
        let revision = Revision(Versionstamp::new(second, 0));
        let mut touched = Touched::default();
        for _ in 0..1_000 {
            view.touch_relation(SlotId(0), revision, &mut touched);
        }
        assert_eq!(touched.readers, 1_001);
        assert!((0..1_001).all(|member| view.changed_at(MemberId(member)) == revision));
    }
}
