//! Caveats: an expression over parameters of every type, decided under a context. The input is the context as JSON on
//! its first line, and the expression below.
#![no_main]

use inferadb_engine::caveat::{Outcome, compile};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::schema::CaveatType;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (first, expression) = input.split_once('\n').unwrap_or(("", input));
    let Ok(program) = compile(&parameters(), expression) else {
        return;
    };
    let context = match serde_json::from_str(first).map(value) {
        Ok(Value::Map(members)) => members,
        _ => Context::new(),
    };
    let nothing = Context::new();
    let stored = program.evaluate(&context, &nothing);
    assert_eq!(stored, program.evaluate(&nothing, &context), "where a value comes from does not matter");
    if let Ok(Outcome::Missing(names)) = stored {
        assert!(!names.is_empty());
        assert!(names.iter().all(|name| !context.contains_key(name)), "{names:?}");
    }
    let _ = program.evaluate(&nothing, &nothing);
    let _ = program.accepts(&context);
});

/// One parameter of each type.
fn parameters() -> Vec<(String, CaveatType)> {
    let list = |item| CaveatType::List(Box::new(item));
    let map = |item| CaveatType::Map(Box::new(item));
    [
        ("a", CaveatType::Any),
        ("b", CaveatType::Bool),
        ("s", CaveatType::String),
        ("i", CaveatType::Int),
        ("u", CaveatType::Uint),
        ("d", CaveatType::Double),
        ("y", CaveatType::Bytes),
        ("t", CaveatType::Timestamp),
        ("e", CaveatType::Duration),
        ("p", CaveatType::IpAddress),
        ("l", list(CaveatType::Int)),
        ("k", list(CaveatType::String)),
        ("m", map(CaveatType::Any)),
        ("n", map(list(CaveatType::Int))),
    ]
    .map(|(name, declared)| (name.to_owned(), declared))
    .into()
}

fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(held) => Value::Bool(held),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            (None, None) => Value::Double(number.as_f64().unwrap_or(0.0)),
        },
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(value).collect()),
        serde_json::Value::Object(members) => Value::Map(
            members
                .into_iter()
                .map(|(name, held)| (name, value(held)))
                .collect(),
        ),
    }
}
