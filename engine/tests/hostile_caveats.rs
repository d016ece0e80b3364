//! Caveats from hostile hands: expressions made of the language's own pieces, mutated, under contexts of any shape. None
//! panics or goes on without end, and what is missing is what was not given.

use inferadb_engine::caveat::{Outcome, compile};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::schema::CaveatType;
use proptest::prelude::*;
use proptest::sample::select;

/// One parameter of each type, and a name that is none.
const NAMES: [&str; 13] = ["a", "b", "s", "i", "u", "d", "y", "t", "e", "p", "l", "m", "zz"];

const PIECES: &[&str] = &[
    "&&",
    "||",
    "!",
    "==",
    "!=",
    "<",
    ">=",
    "+",
    "-",
    "*",
    "/",
    "%",
    "?",
    ":",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ".",
    " in ",
    "true",
    "false",
    "null",
    "0",
    "1",
    "-9223372036854775808",
    "9223372036854775807",
    "1u",
    "1e308",
    "0.1",
    "'x'",
    "\"\\u0041\"",
    "b'\\xff'",
    "r'\\'",
    "[]",
    "[1, 'a']",
    "{}",
    "{'k': 1}",
    ".all(v, v > 0)",
    ".exists(v, v == 1)",
    ".exists_one(v, true)",
    ".map(v, [v, v])",
    ".filter(v, v != v)",
    "size(",
    ".size()",
    "has(m.k)",
    "m.k",
    "m['k']",
    "int(",
    "uint(",
    "double(",
    "string(",
    "bytes(",
    "duration('1h')",
    "timestamp('2030-01-01T00:00:00Z')",
    "type(",
    "dyn(",
    ".startsWith('a')",
    ".contains(s)",
    ".matches('(a|b)*c')",
    ".matches(s)",
    ".in_cidr('10.0.0.0/8')",
    ".isSubtreeOf(m)",
    ".getHours()",
    ".getFullYear('Europe/Zurich')",
    "v",
    "\u{e9}",
    "\u{1f600}",
    "//",
];

fn parameters() -> Vec<(String, CaveatType)> {
    let types = [
        CaveatType::Any,
        CaveatType::Bool,
        CaveatType::String,
        CaveatType::Int,
        CaveatType::Uint,
        CaveatType::Double,
        CaveatType::Bytes,
        CaveatType::Timestamp,
        CaveatType::Duration,
        CaveatType::IpAddress,
        CaveatType::List(Box::new(CaveatType::Int)),
        CaveatType::Map(Box::new(CaveatType::Any)),
    ];
    NAMES.iter().map(|name| (*name).to_owned()).zip(types).collect()
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::Uint),
        any::<f64>().prop_map(Value::Double),
        "\\PC{0,12}".prop_map(Value::String),
        select(vec![
            "2030-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "-0001-01-01T00:00:00Z",
            "1h30m",
            "-9223372036s",
            "1e400",
            "10.1.2.3",
            "::ffff:10.0.0.1%eth0",
            "AAECAw==",
            "18446744073709551615",
        ])
        .prop_map(|text| Value::String(text.to_owned())),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map("[a-k]", inner, 0..4).prop_map(Value::Map),
        ]
    })
}

fn context() -> impl Strategy<Value = Context> {
    prop::collection::btree_map(select(&NAMES[..]).prop_map(str::to_owned), value(), 0..8)
}

fn expression() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => select(PIECES).prop_map(str::to_owned),
        2 => select(&NAMES[..]).prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat())
}

/// Expressions that compile, of which the mutations of many still do.
const SOUND: &[&str] = &[
    "i > 1 && l.exists(v, v == i) || size(s) < 3",
    "t + e > timestamp('2029-01-01T00:00:00Z') && e < duration('2h')",
    "p.in_cidr('10.0.0.0/8') ? m.k == a : has(m.k)",
    "l.map(v, v * 2).filter(v, v % 3 == 0).all(v, v / i > 0)",
    "string(u) + s != 'x' && int(d) == i && y == bytes(s)",
    "m.isSubtreeOf(m) && a in ['x', 1, null] && !(b)",
    "t.getHours('Europe/Zurich') < 12 && s.matches('^[a-z]+$')",
];

fn mutated() -> impl Strategy<Value = String> {
    (
        select(SOUND),
        any::<prop::sample::Index>(),
        0..6_usize,
        select(PIECES),
    )
        .prop_map(|(sound, at, cut, piece)| {
            let chars: Vec<char> = sound.chars().collect();
            let at = at.index(chars.len());
            let before: String = chars.iter().take(at).collect();
            let after: String = chars.iter().skip(at + cut).collect();
            format!("{before}{piece}{after}")
        })
}

fn decide(source: &str, stored: &Context, request: &Context) -> Result<(), TestCaseError> {
    let Ok(program) = compile(&parameters(), source) else {
        return Ok(());
    };
    let _ = program.accepts(stored);
    if let Ok(Outcome::Missing(names)) = program.evaluate(stored, request) {
        prop_assert!(!names.is_empty());
        for name in names {
            prop_assert!(
                !stored.contains_key(&name) && !request.contains_key(&name),
                "{}",
                name
            );
        }
    }
    let mut both = request.clone();
    both.extend(stored.clone());
    prop_assert_eq!(
        program.evaluate(stored, request),
        program.evaluate(&Context::new(), &both)
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pieces_in_any_order_are_decided_or_refused(source in expression(), stored in context(), request in context()) {
        decide(&source, &stored, &request)?;
    }

    #[test]
    fn a_mutated_expression_is_decided_or_refused(source in mutated(), stored in context(), request in context()) {
        decide(&source, &stored, &request)?;
    }

    #[test]
    fn any_text_is_decided_or_refused(source in "\\PC{0,60}", stored in context()) {
        decide(&source, &stored, &Context::new())?;
    }
}

#[test]
fn the_sound_ones_are_sound() {
    for source in SOUND {
        compile(&parameters(), source).unwrap();
    }
}
