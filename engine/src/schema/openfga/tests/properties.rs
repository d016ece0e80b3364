//! Properties: no text makes the compiler panic, and every place is one of the text.

use proptest::prelude::*;

use super::WHOLE;
use crate::schema::diagnostic::MAX_DIAGNOSTICS;
use crate::schema::openfga::compile;

/// Pieces that models are made of, and some that they are not.
const PIECES: &[&str] = &[
    "model",
    "schema ",
    "1.1",
    "1.2",
    "module ",
    "extend ",
    "type ",
    "relations",
    "define ",
    "condition ",
    "user",
    "doc",
    "a",
    "b",
    "with ",
    "from ",
    " or ",
    " and ",
    " but not ",
    ":",
    ",",
    "#",
    " #",
    "*",
    "[",
    "]",
    "(",
    ")",
    "{",
    "}",
    "<",
    ">",
    "\n",
    "\r\n",
    "  ",
    "\"",
    "'",
    "\"\"\"",
    "r'",
    "\\",
    "//",
    "é",
    "\u{feff}",
    "\0",
    "$",
    "int",
    "list<",
    "define a: [user]\n",
    "define b: a or b from a\n",
    "type doc\n  relations\n",
    "condition c(a: int) {\n a > 1\n}\n",
    "model\n  schema 1.1\n",
    "{\"schema_version\":\"1.1\"",
    "\"type_definitions\":[",
    "{\"this\":{}}",
    "null",
    "\\u00e9",
];

/// Whatever comes out must be well formed.
fn check(source: &str) -> Result<(), TestCaseError> {
    let (diagnostics, failed) = match compile(source) {
        Ok(compiled) => (compiled.warnings, false),
        Err(errors) => (errors, true),
    };
    prop_assert!(!failed || !diagnostics.is_empty());
    prop_assert!(diagnostics.len() <= MAX_DIAGNOSTICS);
    let lines: Vec<&str> = source.split('\n').collect();
    for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.file.is_none()) {
        let line = lines[diagnostic.line as usize - 1];
        prop_assert!(
            diagnostic.column as usize <= line.chars().count() + 1,
            "{diagnostic:?}"
        );
        let (start, end) = (
            (diagnostic.line, diagnostic.column),
            (diagnostic.end_line, diagnostic.end_column),
        );
        prop_assert!(start <= end, "{diagnostic:?}");
    }
    Ok(())
}

fn mutated(text: &str, changes: Vec<(prop::sample::Index, usize, &str)>) -> String {
    let mut source: Vec<char> = text.chars().collect();
    for (at, removed, inserted) in changes {
        let at = at.index(source.len() + 1);
        let end = (at + removed).min(source.len());
        source.splice(at..end, inserted.chars());
    }
    source.into_iter().collect()
}

fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, &'static str)>> {
    prop::collection::vec(
        (
            any::<prop::sample::Index>(),
            0_usize..12,
            prop::sample::select(PIECES),
        ),
        1..6,
    )
}

const JSON: &str = r#"{"schema_version":"1.1","type_definitions":[{"type":"user"},{"type":"doc","relations":{
    "up":{"this":{}},"v":{"union":{"child":[{"this":{}},{"tupleToUserset":{"tupleset":{"relation":"up"},"computedUserset":{"relation":"v"}}}]}}},
    "metadata":{"relations":{"up":{"directly_related_user_types":[{"type":"doc"}]},"v":{"directly_related_user_types":[{"type":"user","condition":"c"}]}}}}],
    "conditions":{"c":{"name":"c","expression":"a < 5","parameters":{"a":{"type_name":"TYPE_NAME_INT"}}}}}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn token_soup_never_panics(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..80)) {
        check(&pieces.concat())?;
    }

    #[test]
    fn any_text_never_panics(source in any::<String>()) {
        check(&source)?;
    }

    #[test]
    fn a_mutated_model_never_panics(changes in changes()) {
        check(&mutated(WHOLE, changes))?;
    }

    #[test]
    fn a_mutated_json_model_never_panics(changes in changes()) {
        check(&mutated(JSON, changes))?;
    }

    #[test]
    fn mutated_modules_never_panic(changes in changes()) {
        let text = mutated(&WHOLE.replace("model\n  schema 1.2", "module a"), changes);
        let quoted: String = text.chars().map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c < ' ' => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        }).collect();
        let source = format!("{{\"modules\": [{{\"name\": \"a.fga\", \"text\": \"{quoted}\"}}, \
            {{\"name\": \"b.fga\", \"text\": \"{quoted}\"}}]}}");
        check(&source)?;
    }
}
