//! Hostile sources and contexts: every one ends in an error that names what was exceeded.

use super::{compile_errors, context, decide, list, program, text};
use crate::caveat::limits::MAX_SOURCE_BYTES;
use crate::caveat::{CaveatError, Compiler, Outcome, compile};
use crate::context::{Context, Value};

fn nested(open: &str, middle: &str, close: &str, times: usize) -> String {
    format!("{}{middle}{}", open.repeat(times), close.repeat(times))
}

/// What is repeated before, what once in the middle, and what is repeated after.
const DEEP: &[(&str, &str, &str)] = &[
    ("(", "true", ")"),
    ("[", "1", "]"),
    ("{1:", "1", "}"),
    ("-(", "a", ")"),
    ("!(", "true", ")"),
    ("true ? true : ", "true", ""),
    ("true ? (", "true", ") : true"),
    ("", "a", ".b"),
    ("", "a", ".?b"),
    ("", "a", "[0]"),
    ("", "a", "[?0]"),
    ("", "a", ".f()"),
    ("", "a", ".all(x, true)"),
    ("f(", "1", ")"),
    ("a.b(", "1", ")"),
    ("1 + ", "1", ""),
    ("1+", "1", ""),
    ("-1+", "1", ""),
    ("1*", "1", ""),
    ("1*1+", "1", ""),
    ("1 == ", "1", ""),
    ("1<1*", "1", ""),
    ("1 in ", "[]", ""),
    ("a[", "0", "]"),
    ("a[-1[", "0", "]]"),
    ("(1 + (", "1", "))"),
    ("[1].all(x, ", "true", ")"),
    ("[a,[", "1", "]]"),
];

#[test]
fn deep_sources_do_not_compile() {
    for (open, middle, close) in DEEP {
        // Once more than the limit, and as often as the length allows.
        let longest = (MAX_SOURCE_BYTES - middle.len()) / (open.len() + close.len());
        for times in [101, longest] {
            let source = nested(open, middle, close, times);
            let message = compile_errors("a any", &source).remove(0).message;
            let known = [
                "the expression nests deeper than 100 levels",
                "the expression has more than 10000 parts",
                "loops nest deeper than 4 levels",
            ];
            assert!(
                known.contains(&message.as_str()),
                "{open} {close} {times}: {message}"
            );
        }
    }
    for (open, middle, close) in [("(", "true", ")"), ("!(!", "true", ")"), ("!", "true", "")] {
        let source = nested(open, middle, close, 90);
        assert_eq!(
            decide("", &source, &Context::new()),
            Ok(Outcome::True),
            "{source}"
        );
    }
    // Signs that cancel one another out are no levels.
    let source = nested("!", "true", "", 10_000);
    assert_eq!(decide("", &source, &Context::new()), Ok(Outcome::True));
}

#[test]
fn long_sources() {
    // Chains of the connectives may be long, for they are not deep.
    for connective in ["&&", "||"] {
        let chain = vec!["true"; 2_700].join(connective);
        assert_eq!(decide("", &chain, &Context::new()), Ok(Outcome::True));
    }
    let list = |item: &str, times| format!("[{}] != []", vec![item; times].join(","));
    assert_eq!(decide("", &list("1", 8_000), &Context::new()), Ok(Outcome::True));
    let message = compile_errors("", &list("1+1+1", 2_700)).remove(0).message;
    assert_eq!(message, "the expression has more than 10000 parts");
    for source in [list("1", 8_190), " ".repeat(16_385), "\u{e9}".repeat(8_193)] {
        let message = compile_errors("", &source).remove(0).message;
        assert_eq!(message, "the expression is longer than 16384 bytes");
    }
}

/// What is no expression is refused for its first fault, however much of it there is.
#[test]
fn long_garbage() {
    for (piece, line, column, message) in [
        ("#", 1, 1, "unexpected character `#`"),
        ("\n#", 2, 1, "unexpected character `#`"),
        ("'\n", 1, 1, "the string does not end on its line"),
        ("'\\q'", 1, 2, "unknown escape in a string"),
        (")", 1, 1, "expected a value, found `)`"),
        ("a ", 1, 3, "expected the end of the expression, found `a`"),
        ("99999999999999999999+", 1, 1, "the integer does not fit 64 bits"),
        ("for+", 1, 1, "`for` is a reserved word"),
        ("-1[", 1, 0, "the expression nests deeper than 100 levels"),
        ("\u{e9}", 1, 1, "unexpected character `\\u{e9}`"),
    ] {
        let source = piece.repeat(MAX_SOURCE_BYTES / piece.len() - 1);
        let errors = compile_errors("", &format!("{source}1"));
        let [first] = errors.as_slice() else {
            panic!("{piece:?}: {errors:?}");
        };
        assert_eq!((first.line, first.message.as_str()), (line, message), "{piece:?}");
        assert!(column == 0 || first.column == column, "{piece:?}: {first:?}");
    }
}

/// The bound on one expression is none on a hundred of them.
#[test]
fn the_expressions_of_a_schema_are_bounded_together() {
    for (piece, times) in [("true ", 8), ("true// -", 2)] {
        let mut compiler = Compiler::default();
        let long = format!(
            "{piece}{}",
            piece[4..].repeat((MAX_SOURCE_BYTES - 4) / (piece.len() - 4) - 1)
        );
        for _ in 0..times {
            assert!(compiler.compile(&[], &long).is_ok());
        }
        let errors = compiler.compile(&[], &long).unwrap_err();
        assert_eq!(
            errors[0].message,
            "the expressions of the schema's caveats are too large together"
        );
    }
}

#[test]
fn costly_evaluations_stop() {
    let dozen = "[1,2,3,4,5,6,7,8,9,10,11,12]";
    let four = format!("{dozen}.all(a, {dozen}.all(b, {dozen}.all(c, {dozen}.all(d, a + b + c + d > 0))))");
    let many = vec!["1"; 60].join(",");
    let three = format!("[{many}].all(a, [{many}].all(b, [{many}].all(c, a + b + c > 0)))");
    let doubling = format!("'{}'", "x".repeat(1_000));
    let doubling = (0..30).fold(doubling, |text, _| format!("[{text}].map(x, x + x)[0]"));
    let lists = (0..30).fold("[1, 2]".to_owned(), |list, _| {
        format!("[{list}].map(x, x + x)[0]")
    });
    let steps = Err(CaveatError::Limit {
        limit: "evaluation steps",
    });
    assert_eq!(decide("", &four, &Context::new()), steps);
    assert_eq!(decide("", &format!("{doubling} == ''"), &Context::new()), steps);
    assert_eq!(decide("", &format!("{lists} == []"), &Context::new()), steps);
    // A limit is not something that `||` and the like can make up for.
    for expression in [
        format!("{four} || true"),
        format!("false && {four} || {four} || true"),
        format!("[1].exists(x, {three} || true)"),
    ] {
        assert_eq!(decide("", &expression, &Context::new()), steps, "{expression}");
    }
    let shared = format!("{doubling} == '' ? true : true");
    assert_eq!(decide("", &shared, &Context::new()), steps);
}

#[test]
fn costly_regular_expressions_stop() {
    let request = context([("t", text(&"a".repeat(200_000))), ("p", text("(a{100}){100}"))]);
    let size = Err(CaveatError::Limit {
        limit: "regular expression size",
    });
    assert_eq!(decide("t string, p string", "'x'.matches(p)", &request), size);
    assert_eq!(
        decide("t string", "'x'.matches('(a{100}){100}')", &Context::new()),
        size
    );
    let steps = Err(CaveatError::Limit {
        limit: "evaluation steps",
    });
    let request = context([("t", text(&"a".repeat(1_000_000)))]);
    assert_eq!(decide("t string", "t.matches('(a|aa){50}b$')", &request), steps);
    let request = context([("t", text(&"a".repeat(60_000)))]);
    assert_eq!(
        decide("t string", "t.matches('(a|aa)+b$')", &request),
        Ok(Outcome::False)
    );
    let many = vec!["'x'.matches('a' + 'b')"; 60].join(" || ");
    assert_eq!(decide("", &many, &Context::new()), steps);
}

#[test]
fn large_contexts_stop() {
    let size = Err(CaveatError::Limit {
        limit: "context size",
    });
    let many = Value::List(vec![Value::Int(1); 100_001]);
    assert_eq!(decide("a list<int>", "true", &context([("a", many)])), size);
    let long = text(&"x".repeat(2_000_000));
    assert_eq!(decide("a string", "true", &context([("a", long)])), size);
    let mut deep = Value::Int(1);
    for _ in 0..80 {
        deep = list([deep]);
    }
    let nesting = Err(CaveatError::Limit {
        limit: "context nesting",
    });
    assert_eq!(decide("a any", "true", &context([("a", deep)])), nesting);
}

#[test]
fn whole_programs_fit_a_small_stack() {
    let sources = [
        nested("(", "true", ")", 90),
        nested("!(", "true", ")", 48) + " && " + &nested("!", "true", "", 98),
        nested("(true ? ", "true", " : false)", 90),
        format!("{} > 0", vec!["a"; 97].join(" + ")),
        format!("[{}] != []", nested("[", "1", "]", 90)),
    ];
    let run = move || {
        for source in sources {
            let outcome =
                program("a int", &source).evaluate(&Context::new(), &context([("a", Value::Int(1))]));
            assert_eq!(outcome, Ok(Outcome::True), "{source}");
        }
    };
    std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2_000))]

    /// Nothing that is typed makes the compiler or the evaluation panic.
    #[test]
    fn no_source_panics(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..24)) {
        let source = pieces.concat();
        if let Ok(program) = compile(&super::parameters("a any, l list<int>, m map<any>, t timestamp"), &source) {
            let request = context([("a", Value::Int(1)), ("l", list([Value::Int(0), Value::Int(7)]))]);
            // Whatever it answers, it answers.
            drop(program.evaluate(&Context::new(), &request));
        }
    }

    #[test]
    fn no_text_panics(source in ".{0,60}") {
        drop(compile(&[], &source));
    }
}

const PIECES: &[&str] = &[
    "a",
    "l",
    "m",
    "t",
    "x",
    "1",
    "0",
    "-1",
    "2u",
    "1.5",
    "'s'",
    "b'b'",
    "true",
    "false",
    "null",
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    ".",
    ",",
    "?",
    ":",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "<",
    "<=",
    "==",
    "!=",
    " in ",
    "&&",
    "||",
    ".all(x,",
    ".exists(x,",
    ".map(x,",
    "has(",
    "size(",
    "int(",
    "string(",
    "timestamp(",
    "duration('1s')",
    ".getHours()",
    ".b",
    "[0]",
    "[?0]",
    ".orValue(",
];
