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

/// Plans are kept by what they weigh: each of these is of a chain as long as its number.
#[test]
fn plans_are_kept_within_their_weight() {
    let mut text = "definition user {}\ndefinition document {\n    relation p0: user\n".to_owned();
    for at in 1..5_000 {
        text.push_str(&format!("permission p{at} = p{}\n", at - 1));
    }
    text.push('}');
    let schema = VaultSchema::new(compile(&text).unwrap().schema, text.clone(), None);
    let class = Class {
        object_type: schema.compiled.type_named(&Name::parse("user").unwrap()).unwrap(),
        relation: None,
    };
    let is_kept = |at: u32| !schema.is_heavy_to_plan(MemberId(at), class, Breadth::Selected);
    let mut most = 0;
    for at in (0..5_000).step_by(100) {
        let plan = schema.plan(MemberId(at), class, Breadth::Selected);
        assert_eq!(is_kept(at), Plans::weight(&plan) <= MAX_PLAN_BYTES, "{at}");
        // A member with its ways to and fro takes more than a hundred bytes.
        assert!(plan.bytes() > at as usize * 100, "{at}: {}", plan.bytes());
        most = most.max(schema.plans.bytes());
    }
    assert!(is_kept(0) || is_kept(100) || most > MAX_PLANS_BYTES / 2, "{most}");
    assert!(most <= MAX_PLANS_BYTES, "{most}");
    assert!(!is_kept(4_900), "the heaviest");
}
