//! What does not compile, and where it says so.

use super::{compile_errors, program};

/// Parameters, expression, line, column, and what the first error says.
const ERRORS: &[(&str, &str, u32, u32, &str)] = &[
    ("", "", 1, 1, "expected a value, found the end"),
    ("a int", "a +", 1, 4, "expected a value, found the end"),
    ("", "hiya", 1, 1, "undeclared reference to `hiya`"),
    ("a bool", "a &&\n  'é' == b", 2, 10, "undeclared reference to `b`"),
    (
        "a int",
        "a",
        1,
        1,
        "a caveat must answer a bool, this answers int",
    ),
    (
        "a int, b int",
        "a + b",
        1,
        3,
        "a caveat must answer a bool, this answers int",
    ),
    (
        "a uint, b bool",
        "a + b == 1",
        1,
        3,
        "`+` does not take uint and bool",
    ),
    ("a uint", "a[0] == 1", 1, 2, "uint is not indexed by int"),
    (
        "a list<uint>",
        "a['hi'] == 1",
        1,
        2,
        "list<uint> is not indexed by string",
    ),
    (
        "a map<uint>",
        "a[42] == 1",
        1,
        2,
        "map<uint> is not indexed by int",
    ),
    (
        "a bytes",
        "a == 'abc'",
        1,
        3,
        "`==` does not take bytes and string",
    ),
    (
        "a double",
        "a == true",
        1,
        3,
        "`==` does not take double and bool",
    ),
    (
        "a duration",
        "a > '1h3m'",
        1,
        3,
        "`>` does not take duration and string",
    ),
    (
        "a timestamp",
        "a == '1972-01-01T10:00:20Z'",
        1,
        3,
        "`==` does not take timestamp and string",
    ),
    (
        "a ipaddress",
        "a.in_cidr(1)",
        1,
        3,
        "`ipaddress.in_cidr(int)` is no function",
    ),
    (
        "a string",
        "a.in_cidr('::/0')",
        1,
        3,
        "`string.in_cidr(string)` is no function",
    ),
    (
        "a string",
        "a.reverse() == ''",
        1,
        3,
        "undeclared function `reverse`",
    ),
    (
        "",
        "contains('a', 'b')",
        1,
        1,
        "`contains(string, string)` is no function",
    ),
    ("", "now() == 1", 1, 1, "undeclared function `now`"),
    ("a int", "!a", 1, 2, "`!` takes bools, this is int"),
    ("a int", "true && a", 1, 9, "`&&` takes bools, this is int"),
    (
        "",
        "-'a' == 'a'",
        1,
        1,
        "`-` takes an int or a double, this is string",
    ),
    ("", "1u % 1.0 == 1u", 1, 4, "`%` does not take uint and double"),
    (
        "",
        "1.0 % 1.0 == 1.0",
        1,
        5,
        "`%` does not take double and double",
    ),
    (
        "",
        "true ? 1 : 'a'",
        1,
        6,
        "the branches of `? :` differ: int and string",
    ),
    ("", "1 ? true : false", 1, 1, "`?` takes bools, this is int"),
    ("a int", "a.b", 1, 1, "int has no fields such as `b`"),
    (
        "a int",
        "has(a)",
        1,
        1,
        "`has` takes one field, as in `has(map.key)`",
    ),
    ("a int", "has(a.b)", 1, 1, "int has no fields such as `b`"),
    (
        "a int",
        "a.all(x, true)",
        1,
        3,
        "`all` goes over a list or a map, this is int",
    ),
    (
        "a list<int>",
        "a.all(1, true)",
        1,
        7,
        "the variable of a loop is a simple name",
    ),
    (
        "a list<int>",
        "a.all(x, x)",
        1,
        10,
        "`all` takes bools, this is int",
    ),
    (
        "a list<int>",
        "a.all(x, x > 1) && x == 1",
        1,
        20,
        "undeclared reference to `x`",
    ),
    (
        "",
        "{1.5: 1} == {}",
        1,
        2,
        "a map has keys of type bool, int, uint or string, this is double",
    ),
    ("", "'a", 1, 1, "the string does not end"),
    ("", "'a\n'", 1, 1, "the string does not end on its line"),
    ("", "true && '\\q' == ''", 1, 10, "unknown escape in a string"),
    (
        "",
        "'\\ud800' == ''",
        1,
        1,
        "an escape in the string is no Unicode code point",
    ),
    ("", "'\\x4' == ''", 1, 2, "unknown escape in a string"),
    ("", "'\\x41 \\' == ''", 1, 14, "the string does not end"),
    ("", "b'\\u0041' == b''", 1, 1, "unknown escape in a string"),
    ("", "true && r'\\", 1, 10, "the string does not end"),
    (
        "",
        "9223372036854775808 > 0",
        1,
        1,
        "the integer does not fit 64 bits; unsigned ones end in `u`",
    ),
    (
        "",
        "99999999999999999999 > 0",
        1,
        1,
        "the integer does not fit 64 bits",
    ),
    ("", "1e999 > 0.0", 1, 1, "the number does not fit a double"),
    (
        "",
        "18446744073709551616u > 0u",
        1,
        1,
        "the integer does not fit 64 bits",
    ),
    (
        "",
        "1abc == 1",
        1,
        2,
        "a number is followed by a letter or digit that does not belong to it",
    ),
    ("", "true # no", 1, 6, "unexpected character `#`"),
    ("", "a = 1", 1, 3, "unexpected character `=`"),
    ("", "(true", 1, 6, "expected `)`, found the end"),
    (
        "",
        "true true",
        1,
        6,
        "expected the end of the expression, found `true`",
    ),
    ("", "[1, 2 == []", 1, 12, "expected `]` or `,`, found the end"),
    ("", "size(1,) == 1", 1, 8, "expected a value, found `)`"),
    ("", "for == 1", 1, 1, "`for` is a reserved word"),
    ("", "true && for(1)", 1, 9, "`for` is a reserved word"),
    (
        "",
        "'\u{1f600}' == 'é' && // é\r\n\t'é' == \u{e9}",
        2,
        9,
        "unexpected character `\\u{e9}`",
    ),
    ("a map<any>", "a.in == 1", 1, 3, "`in` is not expected here"),
    ("a int", "a ? 1", 1, 6, "expected `:`, found the end"),
    ("", "{1: 2", 1, 6, "expected `}` or `,`, found the end"),
    ("", "{1}", 1, 3, "expected `:`, found `}`"),
    ("", "....", 1, 2, "`.` is not expected here"),
    ("", "(true && false).b", 1, 7, "bool has no fields such as `b`"),
    ("a int", "a.?\tb", 1, 1, "int has no fields such as `b`"),
    ("", "\u{0}", 1, 1, "unexpected character `\\u{0}`"),
    (
        "a map<any>",
        "a.`b c\nd` == 1",
        1,
        3,
        "a name between backticks has letters, digits, `_`, `.`, `-`, `/` and spaces",
    ),
    (
        "a map<any>",
        "a.`b`() == 1",
        1,
        6,
        "expected the end of the expression, found `(`",
    ),
    (
        "a map<any>",
        "`a` == 1",
        1,
        1,
        "expected a value, found a name between backticks",
    ),
    (
        "a list<int>",
        "a.all(.x, true)",
        1,
        8,
        "the variable of a loop is a simple name",
    ),
    (
        "a list<int>",
        "a.all(x, .x > 0)",
        1,
        11,
        "undeclared reference to `x`",
    ),
    (
        "a int",
        "a . reverse () == ''",
        1,
        5,
        "undeclared function `reverse`",
    ),
    (
        "a int",
        "(a && true) . ? b",
        1,
        2,
        "`&&` takes bools, this is int",
    ),
    (
        "",
        "Foo{a: 1} == 1",
        1,
        4,
        "messages are not supported; a map is written `{\"key\": value}`",
    ),
    (
        "",
        "{1: 1, ?2: 2} == {}",
        1,
        1,
        "optional elements of list and map literals are not supported",
    ),
    (
        "",
        "[?1] == []",
        1,
        1,
        "optional elements of list and map literals are not supported",
    ),
    (
        "",
        "optional.maybe(1) == 1",
        1,
        10,
        "undeclared function `optional.maybe`",
    ),
];

#[test]
fn first_error_and_its_place() {
    let mut wrong = Vec::new();
    for (declared, expression, line, column, message) in ERRORS {
        let errors = compile_errors(declared, expression);
        let first = errors.first().unwrap();
        let said = (first.line, first.column, first.message.as_str());
        if said != (*line, *column, *message) {
            wrong.push(format!("{expression:?}: {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_undeclared_name_is_reported() {
    let errors = compile_errors("c int", "a + b == c");
    let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
    assert_eq!(
        messages,
        ["undeclared reference to `a`", "undeclared reference to `b`"]
    );
    assert_eq!(compile_errors("", &vec!["x"; 100].join(" || ")).len(), 20);
}

/// Well typed, though a stricter reading of one type or another would refuse them.
#[test]
fn well_typed() {
    for (declared, expression) in [
        ("a any", "a == true"),
        ("a any", "a"),
        ("a any", "a.b.c[0] > 1"),
        ("a uint", "a + 1 > 2"),
        ("a uint", "a + 1u > 2u"),
        ("a map<any>", "a.isSubtreeOf({'x': 1})"),
        ("a map<list<int>>", "a.k.all(x, x > 1)"),
        ("a list<map<string>>", "a[0].k == 'v'"),
        ("a bytes", "a == b\"abc\""),
        ("a string", "a == null || a != null"),
        ("size int, type string", "size == 1 && type == 'x'"),
        ("int string", "int == 'x'"),
        ("optional map<int>", "optional.of == 1"),
        ("a bool", "[a, 1, 'x'].size() == 3"),
    ] {
        program(declared, expression);
    }
}
