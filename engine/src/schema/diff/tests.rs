//! What each kind of change is told as.

use super::{ChangeKind, SchemaDiff};
use crate::schema::{Schema, compile};

const BASE: &str = "use expiration\n\
    caveat hours(hour int, note string) {\n  hour > 9\n}\n\
    definition user {}\n\
    definition group {\n  relation member: user\n}\n\
    definition folder {\n  relation viewer: user\n  permission view = viewer\n}\n\
    definition document {\n\
      relation parent: folder\n\
      relation viewer: user | group#member\n\
      relation guest: user with hours\n\
      permission view = viewer + parent->view\n\
      permission greet = guest\n\
      permission all = view & viewer\n\
    }\n";

fn schema(text: &str) -> Schema {
    compile(text).unwrap().schema
}

/// The difference between [`BASE`] and it with `from` replaced by `to`.
fn edited(from: &str, to: &str) -> SchemaDiff {
    assert!(BASE.contains(from), "{from}");
    SchemaDiff::between(&schema(BASE), &schema(&BASE.replace(from, to)))
}

fn told(diff: &SchemaDiff) -> Vec<String> {
    diff.changes.iter().map(ToString::to_string).collect()
}

#[test]
fn the_order_of_operands_is_no_difference() {
    let with = |expression: &str| {
        schema(&format!(
            "definition user {{}}\ndefinition d {{\n  relation a: user\n  relation b: user\n  relation c: user\n  permission p = {expression}\n}}"
        ))
    };
    let same = |one: &str, other: &str| SchemaDiff::between(&with(one), &with(other)).is_empty();
    for (one, other) in [
        ("a + b + c", "c + (b + a)"),
        ("a & (b & c)", "c & a & b"),
        ("a + a", "a"),
        ("(a + b) - c", "(b + a) - c"),
        ("(a & b) + c", "c + (b & a)"),
    ] {
        assert!(same(one, other), "{one} and {other}");
    }
    for (one, other) in [
        ("a - b", "b - a"),
        ("(a - b) - c", "a - (b - c)"),
        ("(a & b) + c", "a & (b + c)"),
        ("a + b", "a & b"),
        ("a + b", "a"),
    ] {
        assert!(!same(one, other), "{one} and {other}");
    }
}

#[test]
fn caveats_are_compared_by_their_tokens() {
    let with = |expression: &str| schema(&format!("caveat c(s string) {{ {expression} }}"));
    let same = |one: &str, other: &str| SchemaDiff::between(&with(one), &with(other)).is_empty();
    assert!(same("s == 'a  b'", "s==\n  'a  b' // so it is\n"));
    assert!(!same("s == 'a  b'", "s == 'a b'"));
    assert!(!same("s == 'a'", "s != 'a'"));
}

#[test]
fn the_same_schema_written_otherwise_is_the_same() {
    let other = "use expiration\n\
        definition document {\n\
          // a comment\n\
          relation guest: user with hours\n\
          relation viewer: group#member | user\n\
          relation parent: folder\n\
          permission all = (view & viewer)\n\
          permission greet = guest\n\
          permission view = viewer + parent.any(view)\n\
        }\n\
        definition folder {\n  relation viewer: user\n  permission view = viewer\n}\n\
        definition group {\n  relation member: user\n}\n\
        definition user {}\n\
        caveat hours(note string, hour int) {\n  hour   >   9\n}\n";
    let diff = SchemaDiff::between(&schema(BASE), &schema(other));
    assert_eq!(diff, SchemaDiff::default());
    assert!(diff.is_empty());
}

/// What of [`BASE`] is replaced by what; the changes, affected permissions and orphaned shapes that it brings about.
type Case = (
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

#[test]
fn each_change_is_named_with_what_it_affects() {
    let nothing: &'static [&'static str] = &[];
    let cases: &[Case] = &[
        (
            "relation viewer: user | group#member",
            "relation viewer: user | user:*",
            &[
                "document#viewer: subjects now allowed: `user:*`",
                "document#viewer: subjects no longer allowed: `group#member`",
            ],
            &["document#all", "document#view"],
            &["document#viewer@group#member"],
        ),
        (
            "permission view = viewer\n",
            "permission view = nil\n",
            &["folder#view: expression changed: `viewer` is now `nil`"],
            &["document#all", "document#view", "folder#view"],
            nothing,
        ),
        (
            "viewer + parent->view",
            "viewer - parent.all(view)",
            &[
                "document#view: expression changed: `viewer + parent->view` is now `viewer - parent.all(view)`",
            ],
            &["document#all", "document#view"],
            nothing,
        ),
        (
            "hour > 9",
            "hour > 10",
            &["hours: caveat expression changed: `hour > 9` is now `hour > 10`"],
            &["document#greet"],
            nothing,
        ),
        (
            "hour int, note string",
            "hour double, more bool",
            &[
                "hours(hour): parameter has another type: `int` is now `double`",
                "hours(more): parameter added: `bool`",
                "hours(note): parameter removed: `string`",
            ],
            &["document#greet"],
            nothing,
        ),
        (
            "guest: user with hours",
            "guest: user with hours and expiration",
            &[
                "document#guest: subjects now allowed: `user with hours and expiration`",
                "document#guest: subjects no longer allowed: `user with hours`",
            ],
            &["document#greet"],
            &["document#guest@user with hours"],
        ),
        (
            "permission greet = guest\n",
            "",
            &["document#greet: permission removed"],
            nothing,
            nothing,
        ),
        (
            "definition user {}\n",
            "definition user {}\ndefinition robot {\n  relation maker: user\n}\n",
            &["robot: type added", "robot#maker: relation added"],
            nothing,
            nothing,
        ),
        (
            "definition folder {\n  relation viewer: user\n",
            "definition folder {\n  permission viewer = nil\n",
            &[
                "folder#viewer: relation became a permission",
                "folder#viewer: subjects no longer allowed: `user`",
            ],
            &["document#all", "document#view", "folder#view", "folder#viewer"],
            &["folder#viewer@user"],
        ),
    ];
    for (from, to, changes, affected, orphaned) in cases {
        let diff = edited(from, to);
        let mut found = told(&diff);
        let mut wanted: Vec<String> = changes.iter().map(|text| (*text).to_owned()).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{to}");
        assert_eq!(diff.affected, *affected, "{to}");
        assert_eq!(diff.orphaned, *orphaned, "{to}");
    }
}

#[test]
fn what_is_gone_with_its_type_is_told() {
    let smaller = "use expiration\ncaveat hours(hour int, note string) {\n  hour > 9\n}\n\
        definition user {}\ndefinition group {\n  relation member: user\n}\n\
        definition document {\n  relation viewer: user | group#member\n  relation guest: user with hours\n\
        permission view = viewer\n  permission greet = guest\n  permission all = view & viewer\n}\n";
    let diff = SchemaDiff::between(&schema(BASE), &schema(smaller));
    let kinds: Vec<(ChangeKind, &str)> = diff
        .changes
        .iter()
        .map(|change| (change.kind, change.at.as_str()))
        .collect();
    assert_eq!(
        kinds,
        [
            (ChangeKind::RelationRemoved, "document#parent"),
            (ChangeKind::ExpressionChanged, "document#view"),
            (ChangeKind::TypeRemoved, "folder"),
            (ChangeKind::PermissionRemoved, "folder#view"),
            (ChangeKind::RelationRemoved, "folder#viewer"),
        ]
    );
    assert_eq!(diff.orphaned, ["document#parent@folder", "folder#viewer@user"]);
    assert_eq!(diff.affected, ["document#all", "document#view"]);
}

#[test]
fn there_and_back_are_opposites() {
    let to = BASE.replace("viewer: user | group#member", "viewer: user | user:*");
    let (there, back) = (
        SchemaDiff::between(&schema(BASE), &schema(&to)),
        SchemaDiff::between(&schema(&to), &schema(BASE)),
    );
    assert_eq!(there.affected, back.affected);
    assert_eq!(back.orphaned, ["document#viewer@user:*"]);
}
