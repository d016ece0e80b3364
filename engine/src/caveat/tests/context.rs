//! Context values: how they convert, whose win, and which are refused.

use super::{Outcome, context, decide, list, map, parameters, program, text};
use crate::caveat::{CaveatError, compile};
use crate::context::{Context, Value};

fn holds(declared: &str, value: Value, expression: &str) {
    let outcome = decide(
        &format!("a {declared}"),
        expression,
        &context([("a", value.clone())]),
    );
    assert_eq!(outcome, Ok(Outcome::True), "{declared} {value:?}: {expression}");
}

#[test]
fn values_convert_to_their_types() {
    let many: &[(&str, Value, &str)] = &[
        ("bool", Value::Bool(true), "a"),
        ("string", text("x"), "a == 'x'"),
        ("int", Value::Int(-42), "a == -42 && type(a) == int"),
        ("int", Value::Double(42.0), "a == 42 && type(a) == int"),
        ("int", text("-42"), "a == -42"),
        ("int", text("42.0"), "a == 42"),
        ("int", text("4.2e1"), "a == 42"),
        ("int", text("0.000e7"), "a == 0"),
        ("int", text("9223372036854775807"), "a == 9223372036854775807"),
        ("uint", Value::Int(42), "a == 42u && type(a) == uint"),
        ("uint", Value::Uint(u64::MAX), "a == 18446744073709551615u"),
        ("uint", text("18446744073709551615"), "a == 18446744073709551615u"),
        ("uint", Value::Double(42.0), "a == 42u && a > 41 && a + 1 == 43"),
        ("double", Value::Double(1.5), "a == 1.5"),
        ("double", Value::Int(2), "a == 2.0 && type(a) == double"),
        ("double", text("42.5"), "a == 42.5"),
        ("bytes", text("AQIDKg=="), "a == b'\\x01\\x02\\x03\\x2a'"),
        ("bytes", text(""), "size(a) == 0"),
        ("duration", text("1h30m"), "a == duration('90m')"),
        (
            "timestamp",
            text("2023-01-22T01:13:00Z"),
            "a.getFullYear() == 2023",
        ),
        (
            "timestamp",
            text("2023-01-22t01:13:00.5+01:00"),
            "a == timestamp('2023-01-22T00:13:00.5Z')",
        ),
        ("ipaddress", text("192.168.10.10"), "a.in_cidr('192.168.0.0/16')"),
        ("ipaddress", text("::ffff:10.1.2.3"), "a.in_cidr('10.0.0.0/8')"),
        ("list<uint>", list([Value::Int(1), text("2")]), "a == [1u, 2u]"),
        (
            "map<int>",
            map([("k", text("1"))]),
            "a.k == 1 && has(a.k) && !has(a.l)",
        ),
        (
            "map<list<ipaddress>>",
            map([("k", list([text("::1")]))]),
            "a.k[0].in_cidr('::/0')",
        ),
        (
            "map<any>",
            map([("k", map([("l", Value::Int(1))]))]),
            "a.isSubtreeOf({'k': {'l': 1, 'm': 2}})",
        ),
        ("any", Value::Null, "a == null"),
        (
            "any",
            Value::Int(1),
            "type(a) == double && a == 1 && a + 1.5 == 2.5",
        ),
        ("any", Value::Int(i64::MAX), "a == 9223372036854775807"),
        ("any", Value::Uint(u64::MAX), "a == 18446744073709551615u"),
        (
            "any",
            list([text("x"), Value::Bool(true)]),
            "a == ['x', true] && a[0] == 'x'",
        ),
        (
            "any",
            map([("k", text("v"))]),
            "a.k == 'v' && a['k'] == 'v' && 'k' in a",
        ),
    ];
    for (declared, value, expression) in many {
        holds(declared, value.clone(), expression);
    }
}

#[test]
fn values_that_do_not_fit_are_refused() {
    let many: &[(&str, Value, &str)] = &[
        ("bool", text("true"), "a bool is wanted, \"true\" was given"),
        ("bool", Value::Null, "a bool is wanted, null was given"),
        ("string", Value::Int(42), "a string is wanted, `42` was given"),
        (
            "int",
            Value::Double(42.1),
            "an int (a whole number of 64 bits, or its decimal text) is wanted, `42.1` was given",
        ),
        (
            "int",
            Value::Uint(u64::MAX),
            "an int (a whole number of 64 bits, or its decimal text) is wanted, `18446744073709551615` was given",
        ),
        (
            "int",
            text("9223372036854775808"),
            "an int (a whole number of 64 bits, or its decimal text) is wanted, \"9223372036854775808\" was given",
        ),
        (
            "int",
            text("1e999999999"),
            "an int (a whole number of 64 bits, or its decimal text) is wanted, \"1e999999999\" was given",
        ),
        (
            "int",
            text(""),
            "an int (a whole number of 64 bits, or its decimal text) is wanted, \"\" was given",
        ),
        (
            "uint",
            Value::Int(-1),
            "a uint (a whole number of 64 bits that is not negative, or its decimal text) is wanted, `-1` was given",
        ),
        (
            "double",
            text("x"),
            "a double (a number, or its decimal text) is wanted, \"x\" was given",
        ),
        (
            "double",
            text("inf"),
            "a double (a number, or its decimal text) is wanted, \"inf\" was given",
        ),
        (
            "bytes",
            text("testing123"),
            "bytes (as base64 text) is wanted, \"testing123\" was given",
        ),
        (
            "duration",
            text("10hm"),
            "a duration (such as `1h30m`) is wanted, \"10hm\" was given",
        ),
        (
            "duration",
            text("2562048h"),
            "a duration (such as `1h30m`) is wanted, \"2562048h\" was given",
        ),
        (
            "duration",
            Value::Int(5),
            "a duration (such as `1h30m`) is wanted, `5` was given",
        ),
        (
            "timestamp",
            text("2023-0122"),
            "a timestamp (RFC 3339, such as `2030-01-31T08:00:00Z`) is wanted, \"2023-0122\" was given",
        ),
        (
            "timestamp",
            text("2023-01-22T01:13:00"),
            "a timestamp (RFC 3339, such as `2030-01-31T08:00:00Z`) is wanted, \"2023-01-22T01:13:00\" was given",
        ),
        (
            "timestamp",
            text("0000-01-22T01:13:00Z"),
            "a timestamp (RFC 3339, such as `2030-01-31T08:00:00Z`) is wanted, \"0000-01-22T01:13:00Z\" was given",
        ),
        (
            "ipaddress",
            text("1...23.4"),
            "an ipaddress (such as `192.0.2.1`) is wanted, \"1...23.4\" was given",
        ),
        ("list<int>", text("x"), "a list is wanted, \"x\" was given"),
        (
            "list<bool>",
            list([Value::Bool(true), text("x")]),
            "item 1: a bool is wanted, \"x\" was given",
        ),
        (
            "map<list<bool>>",
            map([("k", list([text("x")]))]),
            "key `k`: item 0: a bool is wanted, \"x\" was given",
        ),
    ];
    for (declared, value, message) in many {
        // The expression does not need the value: it is refused all the same.
        let outcome = decide(&format!("a {declared}"), "true", &context([("a", value.clone())]));
        let wanted = CaveatError::Parameter {
            parameter: "a".to_owned(),
            message: (*message).to_owned(),
        };
        assert_eq!(outcome, Err(wanted), "{declared} {value:?}");
    }
}

#[test]
fn stored_values_win() {
    let caveat = program("a int, b int", "a == 1 && b == 2");
    let stored = context([("a", Value::Int(1))]);
    let request = context([
        ("a", text("not read")),
        ("b", Value::Int(2)),
        ("other", Value::Null),
    ]);
    assert_eq!(caveat.evaluate(&stored, &request), Ok(Outcome::True));
    let stored = context([("a", Value::Int(9))]);
    let request = context([("a", Value::Int(1)), ("b", Value::Int(2))]);
    assert_eq!(caveat.evaluate(&stored, &request), Ok(Outcome::False));
}

#[test]
fn programs_cross_threads() {
    let caveat = compile(&parameters("a bool"), "a").unwrap();
    let request = context([("a", Value::Bool(true))]);
    let outcome =
        std::thread::scope(|scope| scope.spawn(|| caveat.evaluate(&Context::new(), &request)).join());
    assert_eq!(outcome.unwrap(), Ok(Outcome::True));
}
