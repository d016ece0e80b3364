//! Test files are read with their places, run, and told.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

use actix_web::rt::System;
use inferadb_actors::now;
use inferadb_engine::evaluate::Limits;

use super::yaml::Content;
use super::*;

const SCHEMA: &str = "\
schema: |
  caveat open(hour int) {
    hour > 8
  }
  definition user {}
  definition group {
    relation member: user | group#member
  }
  definition doc {
    relation viewer: user | user:* | group#member | user with open
    relation banned: user | user with open
    permission view = viewer - banned
  }
";

struct Named(HashMap<&'static str, &'static str>);

impl Files for Named {
    fn read(&self, path: &str) -> Result<String, String> {
        let found = self.0.get(path).map(|text| (*text).to_owned());
        found.ok_or_else(|| format!("there is no `{path}`"))
    }
}

fn bounds() -> Bounds {
    Bounds {
        limits: Limits::default(),
        max_relationships: 1_000,
        max_checks: 10_000,
    }
}

fn outcome_of(suite: &Suite, bounds: &Bounds) -> Result<Report, Unfit> {
    System::new().block_on(run(suite, bounds, now(), &AtomicUsize::new(0), true))
}

fn report(text: &str) -> Report {
    let suite = parse(text, None, &NoFiles).unwrap_or_else(|unfit| panic!("{unfit:?}\n{text}"));
    outcome_of(&suite, &bounds()).unwrap()
}

/// Runs a store whose model is written in the native language.
fn store_report(text: &str, files: &dyn Files) -> Result<Report, Unfit> {
    let root = Node::parse(text)?.unwrap();
    let Content::Map(members) = &root.content else {
        panic!()
    };
    outcome_of(&store::read(members, files, compile_native)?, &bounds())
}

fn flaw(text: &str) -> Flaw {
    match parse(text, None, &NoFiles) {
        Err(Unfit::Malformed(flaw)) => flaw,
        other => panic!("{other:?}"),
    }
}

#[test]
fn assertions_hold_or_not_each_at_its_place() {
    let text = format!(
        "{SCHEMA}relationships: |-
  // who may
  doc:1#viewer@user:a

  doc:1#viewer@user:b[open]
assertions:
  assertTrue:
    - doc:1#view@user:a
    - 'doc:1#view@user:b with {{\"hour\": 9}}'
    - doc:1#view@user:b
  assertFalse:
    - doc:1#view@user:a
    - doc:1#vew@user:a
  assertCaveated:
    - doc:1#view@user:b
"
    );
    let report = report(&text);
    assert_eq!((report.passed(), report.failed()), (3, 3));
    let failed: Vec<&Outcome> = report.outcomes.iter().filter(|outcome| !outcome.passed).collect();
    let places: Vec<(u32, u32)> = failed
        .iter()
        .map(|outcome| (outcome.place.line, outcome.place.column))
        .collect();
    assert_eq!(places, [(23, 7), (25, 7), (26, 7)]);
    assert_eq!(failed[0].actual, Told::Word("conditional"));
    assert_eq!(failed[0].missing_context, ["hour"]);
    let explanation = failed[1].explanation.as_deref().unwrap();
    assert!(
        explanation.contains("doc:1#viewer@user:a: allow"),
        "{explanation}"
    );
    assert_eq!(failed[2].actual, Told::Word("error"));
    assert!(failed[2].error.as_deref().unwrap().contains("`vew`"));
    let text = report.to_text("x.yaml");
    assert!(
        text.contains("x.yaml:25:7: failed: doc:1#view@user:a\n  expected deny\n  found    allow\n"),
        "{text}"
    );
    assert!(text.ends_with("x.yaml: 3 passed, 3 failed\n"), "{text}");
}

#[test]
fn validation_blocks_compare_subjects_as_sets() {
    let world = format!(
        "{SCHEMA}relationships: |
  doc:1#viewer@user:a
  doc:1#viewer@group:g#member
  group:g#member@user:m
  group:g#member@group:h#member
  group:h#member@user:n
  doc:1#banned@user:m
  doc:2#viewer@user:*
  doc:2#viewer@user:a
  doc:2#banned@user:m
  doc:2#banned@user:n[open]
  doc:3#viewer@user:c[open]
validation:
"
    );
    let good = "  doc:1#view:
  - '[user:a] is <doc:1#viewer>'
  - \"[user:n] is <group:h#member>\"
  - '[group:g#member] is <doc:1#viewer>'
  - '[group:h#member] is <group:g#member>'
  doc:2#view:
  - '[user:* - {user:n[...], user:m}] is <doc:2#viewer>'
  - '[user:a] is <doc:2#viewer>'
  doc:3#view: ['[user:c[...]] is <doc:3#viewer>']
  doc:4#view: []
";
    let passed = report(&format!("{world}{good}"));
    assert_eq!(passed.failed(), 0, "{}", passed.to_text("good"));
    assert_eq!(passed.passed(), 4);
    for (from, to) in [
        // One too few, one too many, the wrong terms.
        ("  - '[user:a] is <doc:1#viewer>'\n", ""),
        ("[user:n] is", "[user:m] is"),
        (
            "- '[group:h#member] is <group:g#member>'\n",
            "- '[group:x#member] is <group:g#member>'\n",
        ),
        ("{user:n[...], user:m}", "{user:m}"),
        ("{user:n[...], user:m}", "{user:n, user:m}"),
        (" - {user:n[...], user:m}", ""),
        ("  - '[user:a] is <doc:2#viewer>'\n", ""),
        ("user:c[...]", "user:c"),
        ("doc:4#view: []", "doc:4#view: ['[user:a] is <doc:4#viewer>']"),
        // Other ways.
        ("<group:h#member>", "<group:h#member>/<doc:1#viewer>"),
        ("[user:a] is <doc:1#viewer>", "[user:a] is <doc:1#banned>"),
        ("[user:a] is <doc:1#viewer>", "[user:a]"),
        // Whom the wildcard alone lets in.
        (
            "- '[user:a] is <doc:2#viewer>'",
            "- '[user:a] is <doc:2#viewer>'\n  - '[user:z] is <doc:2#viewer>'",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let failed = report(&format!("{world}{}", good.replacen(from, to, 1)));
        assert_eq!(failed.failed(), 1, "{from} -> {to}: {}", failed.to_text("bad"));
    }
    let wrong = good
        .replace("[user:a] is <doc:1#viewer>", "[user:b] is <doc:1#viewer>")
        .replace("<group:h#member>", "<doc:1#viewer>")
        .replace("user:c[...]", "user:c");
    let failed = report(&format!("{world}{wrong}"));
    let differences: Vec<&String> = failed
        .outcomes
        .iter()
        .flat_map(|outcome| &outcome.differences)
        .collect();
    assert_eq!(
        differences,
        [
            "`user:b` is expected and not found",
            "`user:n` is found through <group:h#member>, expected through <doc:1#viewer>",
            "`[user:a] is <doc:1#viewer>` is found and not expected",
            "`user:c` depends on a caveat, `[...]` is not expected",
        ]
    );
    assert!(
        failed
            .to_text("x")
            .contains("\n  `user:b` is expected and not found\n")
    );
}

#[test]
fn validation_blocks_tell_the_ways_that_lead_to_each_subject() {
    let world = "\
schema: |
  caveat open(hour int) {
    hour > 8
  }
  definition user {}
  definition group {
    relation member: user | group#member | group#member with open
  }
  definition folder {
    relation viewer: user | user with open | group#member
    relation parent: folder
    permission view = viewer + parent->view
  }
  definition doc {
    relation folder: folder | folder with open
    relation owner: user | user:* | user with open
    relation viewer: user | user:* | group#member | user with open
    permission view = owner + viewer + folder->view
    permission both = owner & viewer
    permission but = viewer - owner
    permission every = folder.all(view)
  }
relationships: |
  doc:1#owner@user:a
  doc:1#viewer@user:a
  doc:1#viewer@group:x#member
  group:x#member@group:y#member
  group:y#member@group:x#member
  group:y#member@user:b
  doc:1#folder@folder:f[open:{\"hour\": 9}]
  folder:f#viewer@user:c
  folder:f#viewer@user:a
  doc:2#folder@folder:f
  doc:2#folder@folder:g
  folder:g#viewer@user:a[open]
  folder:g#parent@folder:h
  folder:h#viewer@user:c
  doc:3#owner@user:*
  doc:3#owner@user:d[open]
  doc:3#viewer@user:d
  doc:3#viewer@user:e
  doc:4#viewer@user:*
  doc:4#viewer@user:d
  doc:4#owner@user:d[open]
  doc:4#owner@user:e
validation:
";
    let good = "  doc:1#view:
  - '[user:a] is <doc:1#owner>/<doc:1#viewer>/<folder:f#viewer>'
  - '[group:x#member] is <doc:1#viewer>/<group:y#member>'
  - '[group:y#member] is <group:x#member>'
  - '[user:b] is <group:y#member>'
  - '[user:c[...]] is <folder:f#viewer>'
  doc:1#both:
  - '[user:a] is <doc:1#viewer>/<doc:1#owner>'
  doc:2#every:
  - '[user:a[...]] is <folder:f#viewer>/<folder:g#viewer>'
  - '[user:c] is <folder:f#viewer>/<folder:h#viewer>'
  doc:3#both:
  - '[user:d] is <doc:3#owner>/<doc:3#viewer>'
  - '[user:e] is <doc:3#viewer>'
  doc:3#view:
  - '[user:*] is <doc:3#owner>'
  - '[user:d] is <doc:3#owner> and <doc:3#viewer>'
  - '[user:e] is <doc:3#viewer>'
  doc:4#but:
  - '[user:* - {user:d[...], user:e}] is <doc:4#viewer>'
  - '[user:d[...]] is <doc:4#viewer>/<doc:4#owner>'
";
    let passed = report(&format!("{world}{good}"));
    assert_eq!(passed.failed(), 0, "{}", passed.to_text("good"));
    let unknown = report(&format!("{world}  doc:1#fly: []\n  cat:1#view: []\n"));
    let errors: Vec<&str> = unknown
        .outcomes
        .iter()
        .flat_map(|outcome| outcome.error.as_deref())
        .collect();
    assert_eq!(
        errors,
        [
            "the type `doc` has no relation or permission `fly`",
            "the schema has no type `cat`"
        ]
    );
}

#[test]
fn stores_are_run_with_their_lists() {
    let text = SCHEMA.replacen("schema:", "model:", 1)
        + "name: a store
tuples:
  - {user: 'user:a', relation: viewer, object: 'doc:1'}
  - {user: 'group:g#member', relation: viewer, object: 'doc:2'}
  - {user: 'user:m', relation: member, object: 'group:g'}
tuple_file: more.yaml
tests:
  - name: common
    check:
      - user: user:a
        object: doc:1
        assertions: {view: true, banned: false}
      - users: [user:m, user:a]
        objects: [doc:2]
        context: {hour: 9}
        assertions: {view: true}
      - user: user:late
        object: doc:1
        context: {hour: 3}
        assertions: {view: false}
    list_objects:
      - user: user:m
        type: doc
        assertions: {view: [doc:2, doc:9]}
      - user: user:late
        type: doc
        context: {hour: 23}
        assertions: {view: ['doc:9', 'doc:1']}
    list_users:
      - object: doc:2
        user_filter: [{type: user}]
        assertions: {view: {users: ['user:m']}}
      - object: doc:2
        user_filter: [{type: group, relation: member}]
        assertions: {view: {users: ['group:g#member']}}
      - object: doc:9
        user_filter: [{type: user}]
        assertions: {view: {users: ['user:*']}}
  - name: own tuples
    tuples:
      - {user: 'user:a', relation: banned, object: 'doc:1'}
    check:
      - user: user:a
        object: doc:1
        assertions: {view: false}
";
    let more = "- user: user:late\n  relation: viewer\n  object: doc:1\n  condition: {name: open, context: {}}\n\
        - user: user:*\n  relation: viewer\n  object: doc:9\n";
    let json = r#"{"tuples": [{"user": "user:late", "relation": "viewer", "object": "doc:1", "condition": {"name": "open"}},
        {"user": "user:*", "relation": "viewer", "object": "doc:9"}]}"#;
    for more in [more, json] {
        let report = store_report(&text, &Named(HashMap::from([("more.yaml", more)]))).unwrap();
        let failed: Vec<String> = report
            .outcomes
            .iter()
            .filter(|outcome| !outcome.passed)
            .map(|outcome| outcome.assertion.clone())
            .collect();
        assert_eq!(failed, ["doc:2#view@user:a"], "{}", report.to_text("store"));
        assert_eq!(report.outcomes.len(), 11);
        assert_eq!(report.outcomes[10].test.as_deref(), Some("own tuples"));
    }
    let bad = "- user: user:late\n  relation: viewer\n  object: dog:1\n";
    match store_report(&text, &Named(HashMap::from([("more.yaml", bad)]))) {
        Err(Unfit::Misfit { flaw, .. }) => {
            assert_eq!((flaw.file.as_deref(), flaw.place.line), (Some("more.yaml"), 1));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_place() {
    let schema = SCHEMA;
    for (text, line, column, words) in [
        ("", 1, 1, "empty"),
        ("# nothing", 1, 1, "empty"),
        ("- a", 1, 1, "a test file is a map"),
        ("schema: a\nschema: b", 2, 1, "`schema` is given twice"),
        ("a: [1, 2", 1, 9, ""),
        ("relationships: ''", 1, 1, "neither `schema` nor `schemaFile`"),
        ("schemaFile: a.zed", 1, 13, "cannot refer to files"),
        ("schema: [a]", 1, 9, "`schema` must be a text"),
        ("schema: &x a\nrelationships: *x", 2, 16, "aliases"),
        ("schema: ''\nasertions: {}", 2, 1, "unknown member `asertions`"),
        (
            "schema: ''\nassertions: {assertTru: []}",
            2,
            14,
            "unknown member `assertTru`",
        ),
        ("schema: ''\nassertions: {assertTrue: 1}", 2, 26, "must be a list"),
        (
            "schema: ''\nassertions: {assertTrue: [x]}",
            2,
            27,
            "`x`: `#` is missing",
        ),
        (
            "schema: ''\nrelationships: |\n  a:b#c@d:e\n\n    a:b\n",
            5,
            5,
            "`a:b`: `#` is missing",
        ),
        (
            "schema: ''\nrelationships: |\n\n\n  a:b\n",
            5,
            3,
            "`#` is missing",
        ),
        ("schema: ''\nrelationships: |2\n   a:b\n", 3, 4, "`#` is missing"),
        (
            "schema: ''\nvalidation: {'a:b#c': ['user:a']}",
            2,
            24,
            "expected `[subject] is",
        ),
        ("schema: ''\nvalidation: {'a:b': []}", 2, 14, "`#` is missing"),
        (
            "schema: ''\nvalidation: {'a:b#c': ['[user:a]', '[user:a]']}",
            2,
            36,
            "expected twice",
        ),
        ("schema: ''\n---\nschema: ''", 2, 1, "second document"),
        ("tests: []", 1, 1, "neither `model` nor `model_file`"),
    ] {
        let flaw = flaw(text);
        assert!(flaw.message.contains(words), "{text}: {flaw:?}");
        if !words.is_empty() {
            assert_eq!(
                (flaw.place.line, flaw.place.column),
                (line, column),
                "{text}: {flaw:?}"
            );
        }
    }
    // A schema's errors are told where they stand in the file.
    let broken = format!("# a comment\n{}", schema.replace("group#member\n", "nobody\n"));
    match parse(&broken, None, &NoFiles) {
        Err(Unfit::Schema { errors, in_file, .. }) => {
            assert!(in_file);
            assert_eq!((errors[0].line, errors[0].column), (8, 29), "{errors:?}");
        }
        other => panic!("{other:?}"),
    }
    match parse("{\"schema\": \"definition a {\\n\"}", None, &NoFiles) {
        Err(Unfit::Schema { in_file: false, .. }) => {}
        other => panic!("{other:?}"),
    }
    match parse(
        "model: |\n  model\n    schema 1.1\n  type user\n  type user\n",
        None,
        &NoFiles,
    ) {
        Err(Unfit::Schema { errors, .. }) => assert_eq!(errors[0].line, 5, "{errors:?}"),
        other => panic!("{other:?}"),
    }
    match store_report(
        "model: ''\ntests:\n- check:\n  - user: user:a\n    objet: x\n",
        &NoFiles,
    ) {
        Err(Unfit::Malformed(flaw)) => assert_eq!((flaw.place.line, flaw.place.column), (5, 5)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_is_bounded() {
    let text = format!(
        "{SCHEMA}relationships: |\n  doc:1#viewer@user:a\n  doc:1#viewer@user:b\nvalidation:\n  doc:1#view: ['[user:a] is <doc:1#viewer>', '[user:b] is <doc:1#viewer>']\n"
    );
    let suite = parse(&text, None, &NoFiles).unwrap();
    assert_eq!(outcome_of(&suite, &bounds()).unwrap().failed(), 0);
    for tight in [
        Bounds {
            max_checks: 2,
            ..bounds()
        },
        Bounds {
            max_relationships: 1,
            ..bounds()
        },
    ] {
        assert!(
            matches!(outcome_of(&suite, &tight), Err(Unfit::TooLarge(_))),
            "{tight:?}"
        );
    }
    for deep in [
        "[".repeat(100_000),
        "a: ".repeat(1_000),
        "- ".repeat(100_000),
        "{a: ".repeat(100_000),
    ] {
        assert!(matches!(parse(&deep, None, &NoFiles), Err(Unfit::Malformed(_))));
    }
}

/// Runs a text with so many checks at most; says whether that was enough.
fn is_within(text: &str, max_checks: usize) -> bool {
    let suite = parse(text, None, &NoFiles).unwrap();
    let bounds = Bounds {
        max_checks,
        ..bounds()
    };
    match outcome_of(&suite, &bounds) {
        Ok(_) => true,
        Err(Unfit::TooLarge(_)) => false,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_asks_nothing_is_counted_too() {
    let model = "model: |
  model
    schema 1.1
  type user
  type empty
    relations
      define r: [user]
  type doc
    relations
      define r: [user]
tuples:
";
    let tuples: String = (0..500)
        .map(|at| format!("  - {{user: 'user:{at}', relation: r, object: 'doc:1'}}\n"))
        .collect();
    let lists = |what: &str| -> String { format!("{model}{tuples}tests:\n- {what}\n") };
    // Nobody is asked about where there are no objects of the type.
    let objects = ["{user: 'user:1', type: empty, assertions: {r: []}}"; 20].join(", ");
    let objects = lists(&format!("list_objects: [{objects}]"));
    assert!(is_within(&objects, 20) && !is_within(&objects, 19));
    // An error ends a list at its first question, but not before everybody was gathered who is to be asked about.
    let users = ["{object: 'doc:1', user_filter: [{type: user}], assertions: {gone: {users: []}}}"; 20];
    let users = lists(&format!("list_users: [{}]", users.join(", ")));
    assert!(is_within(&users, 20 * (500 / 16 + 3)) && !is_within(&users, 20 * (500 / 16)));
    let expected: Vec<String> = (0..1_600).map(|at| format!("'[user:{at}]'")).collect();
    let differing = format!(
        "{SCHEMA}relationships: ''\nvalidation: {{'doc:1#banned': [{}]}}\n",
        expected.join(", ")
    );
    assert!(is_within(&differing, 110) && !is_within(&differing, 100));
}

#[test]
fn all_users_on_all_objects_are_bounded_while_the_file_is_read() {
    let numbered = |name: &str| -> String {
        let all: Vec<String> = (0..1_000).map(|at| format!("'{name}:{at}'")).collect();
        all.join(", ")
    };
    let store = |assertions: &str| {
        let (users, objects) = (numbered("user"), numbered("doc"));
        format!(
            "model: |\n  model\n    schema 1.1\n  type user\n\
             tests:\n- check:\n  - {{users: [{users}], objects: [{objects}], assertions: {{{assertions}}}}}\n"
        )
    };
    let refused = parse(&store("r: true"), None, &NoFiles);
    assert!(matches!(refused, Err(Unfit::TooLarge(_))));
    let none = parse(&store(""), None, &NoFiles).unwrap();
    assert!(none.groups.iter().all(|group| group.expectations.is_empty()));
}

#[test]
fn files_beside_a_test_do_not_lead_out_of_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("below")).unwrap();
    std::fs::write(directory.path().join("a.zed"), "definition user {}").unwrap();
    std::fs::write(directory.path().join("below/b.zed"), "definition user {}").unwrap();
    let files = Beside::new(&directory.path().join("test.yaml"));
    for good in ["a.zed", "./a.zed", "below/b.zed"] {
        assert!(files.read(good).is_ok(), "{good}");
    }
    let absolute = directory.path().join("a.zed").display().to_string();
    for bad in ["../a.zed", "below/../../a.zed", &absolute, "absent.zed", "below"] {
        assert!(files.read(bad).is_err(), "{bad}");
    }
}
