//! Texts from hostile hands: relationships, questions and test files, mutated. None panics; what is refused is refused
//! at a place that lies within the text; what is read is read again as the same.

use inferadb::notation::{parse_check, parse_relationship};
use inferadb::schema_test::{NoFiles, Unfit, parse};
use proptest::prelude::*;
use proptest::sample::{Index, select};

const SOUND: &[&str] = &[
    "document:1#viewer@user:alice[office:{\"hour\": 9, \"days\": [\"mon\"]}][expiration:2030-01-01T00:00:00Z]",
    "document:a@b:c#viewer@group:eng#member",
    "document:1#view@user:* with {\"hour\": 9}",
];

const FILES: &[&str] = &[
    "schema: |\n  definition user {}\n  definition d {\n    relation r: user\n  }\nrelationships: |-\n  d:1#r@user:a\n\n  // b\nassertions:\n  assertTrue:\n    - 'd:1#r@user:a with {\"x\": 1}'\n  assertFalse: [d:1#r@user:b]\nvalidation:\n  d:1#r:\n    - '[user:* - {user:b, user:c[...]}] is <d:1#r>/<d:2#r>'\n",
    "name: x\nmodel: |\n  model\n    schema 1.1\ntuples:\n  - {user: 'user:a', relation: r, object: 'd:1', condition: {name: c, context: {x: 1.5e3, y: [~, true]}}}\ntests:\n  - name: t\n    check:\n      - users: [user:a]\n        objects: [d:1]\n        context: {x: 1}\n        assertions: {r: true}\n    list_objects:\n      - {user: user:a, type: d, assertions: {r: [d:1]}}\n    list_users:\n      - object: d:1\n        user_filter: [{type: group, relation: member}]\n        assertions: {r: {users: ['user:*']}}\n",
    "{\"schema\": \"definition user {}\\n\", \"relationships\": [\"a:b#c@d:e\"], \"assertions\": null}",
];

const PIECES: &[&str] = &[
    "",
    "#",
    "@",
    ":",
    "*",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\n",
    "\r\n",
    "\t",
    "  ",
    "- ",
    ": ",
    "|",
    ">-",
    "|2+",
    "&a ",
    "*a",
    "!!str ",
    "!x ",
    "---\n",
    "...\n",
    "? ",
    "%YAML 1.1\n",
    "//",
    " with ",
    "\u{0}",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "é",
    "[expiration:",
    "[c:{\"a\":1,\"a\":2}]",
    "\\u0000",
    "null",
    "<<: ",
];

fn mutated(sound: &'static [&'static str]) -> impl Strategy<Value = String> {
    let change = (any::<Index>(), 0..4_usize, select(PIECES));
    (select(sound), prop::collection::vec(change, 1..4)).prop_map(|(text, changes)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, cut, piece) in changes {
            let at = at.index(chars.len() + 1);
            let end = (at + cut).min(chars.len());
            chars.splice(at..end, piece.chars());
        }
        chars.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_relationship_is_read_or_refused(text in prop_oneof![mutated(SOUND), "\\PC{0,40}".boxed()]) {
        if let Ok(relationship) = parse_relationship(&text) {
            let key = relationship.key();
            // An id that ends with a bracket reads as one with terms.
            if !key.subject.id.as_str().ends_with(']') {
                prop_assert_eq!(parse_relationship(&key.to_string()).map(|again| again.key()), Ok(key));
            }
        }
        if let Ok(check) = parse_check(&text) {
            let written = format!("{}#{}@{}", check.resource, check.permission, check.subject);
            let again = parse_check(&written).map(|again| (again.resource, again.subject));
            prop_assert_eq!(again, Ok((check.resource, check.subject)));
        }
    }

    #[test]
    fn a_mutated_test_file_is_read_or_refused_at_a_place_within_it(
        text in prop_oneof![mutated(FILES), "\\PC{0,80}".boxed()],
    ) {
        if let Err(Unfit::Malformed(flaw)) = parse(&text, None, &NoFiles) {
            // White space of other alphabets may count as a line's end to one and not to the other.
            let lines = text.split(['\n', '\r', '\u{85}', '\u{2028}']).count() as u32 + 1;
            prop_assert!((1..=lines).contains(&flaw.place.line), "{:?} in {:?}", flaw, text);
        }
    }
}
