//! Every error at its place.

use super::{HEADER, assert_errors, errors, warnings};

#[test]
fn headers_are_asked_for() {
    assert_errors(
        "",
        &["1:1: expected `model` or `module`, found the end of the model"],
    );
    assert_errors(
        "type user\n",
        &["1:1: expected `model` or `module`, found `type`"],
    );
    assert_errors(
        "model\ntype user",
        &["2:1: expected `schema` and its version, found `type`"],
    );
    assert_errors(
        "model\n  schema",
        &["2:9: expected the version of the schema, found the end of the model"],
    );
    assert_errors(
        "model\n  schema 1.0\n",
        &["2:10: schema version `1.0` is not supported; there are 1.1 and 1.2"],
    );
    assert_errors(
        "model\n  schema 1.1 x\n",
        &["2:14: expected the end of the line, found `x`"],
    );
    assert_errors("model\n  schema 1.1\n", &[]);
    assert_errors("\u{feff}model\n  schema 1.1\n", &[]);
    assert_errors("model\r\n  schema 1.1\r\ntype user\r\n", &[]);
    assert_errors("module core\ntype user\n", &[]);
    assert_errors("module core\ntype user\nmodule more\ntype doc\n", &[]);
    assert_errors(
        &format!("{HEADER}module more\n"),
        &["4:1: expected `type` or `condition`, found `module`"],
    );
    assert_errors(
        "module\ntype user\n",
        &["1:7: expected the name of the module, found the end of the line"],
    );
}

#[test]
fn errors_of_syntax_stand_at_their_places() {
    for (text, expected) in [
        (
            "typ doc",
            &["4:1: expected `type` or `condition`, found `typ`"][..],
        ),
        (
            "type",
            &["4:5: expected the name of a type, found the end of the model"],
        ),
        (
            "type a//b",
            &["4:6: `a//b` is not a name: `/` and `.` stand singly between letters, digits, `_` and `-`"],
        ),
        (
            "type d\n  define a: [user]",
            &["5:3: expected `relations` on a line of its own before the first `define`, found `define`"],
        ),
        (
            "type d\n  relations\ntype e",
            &["6:1: expected `define` and a relation, found `type`"],
        ),
        (
            "type d\n  relations\n    defne a: [user]",
            &["6:5: expected `define` and a relation, found `defne`"],
        ),
        (
            "type d\n  relations\n    define a [user]",
            &["6:14: expected `:` after the name of the relation, found `[`"],
        ),
        (
            "type d\n  relations\n    define a:\n    define b: [user]",
            &["6:14: expected `[`, `(` or the name of a relation, found the end of the line"],
        ),
        (
            "type d\n  relations\n    define a: []",
            &["6:16: expected the name of a type, found `]`"],
        ),
        (
            "type d\n  relations\n    define a: [user",
            &["6:20: expected `,`, `with` or `]`, found the end of the model"],
        ),
        (
            "type d\n  relations\n    define a: [user:x]",
            &["6:21: expected `*` after `:`, found `x`"],
        ),
        (
            "type d\n  relations\n    define a: [user:*#b]",
            &["6:22: expected `,`, `with` or `]`, found `#`"],
        ),
        (
            "type d\n  relations\n    define a: [user with]",
            &["6:25: expected the name of a condition after `with`, found `]`"],
        ),
        (
            "type d\n  relations\n    define b: [user]\n    define a: b or [user]",
            &["7:20: `[…]` can only be the first operand of a relation"],
        ),
        (
            "type d\n  relations\n    define b: [user]\n    define a: b or b and b",
            &["7:22: `or` and `and` cannot stand side by side: one of them needs parentheses"],
        ),
        (
            "type d\n  relations\n    define b: [user]\n    define a: b but not b but not b",
            &["7:27: a second `but not` needs parentheses around one of the two"],
        ),
        (
            "type d\n  relations\n    define b: [user]\n    define a: b but b",
            &["7:21: expected `not` after `but`, found `b`"],
        ),
        (
            "type d\n  relations\n    define b: [user]\n    define a: (b or b",
            &["7:22: expected `or`, `and`, `but not` or `)`, found the end of the model"],
        ),
        (
            "type d\n  relations\n    define b: [user]\n    define a: b from",
            &["7:21: expected the name of a relation after `from`, found the end of the model"],
        ),
        (
            "type d\n  relations\n    define b: [user] $",
            &["6:22: expected the end of the line, found `$`"],
        ),
        (
            "extend type user",
            &["4:1: `extend` is for modules: only a file that begins with `module` can hold it"],
        ),
        (
            "condition c() { true }",
            &["4:13: expected the name of a parameter, found `)`"],
        ),
        (
            "condition c(a int) { true }",
            &["4:15: expected `:` and the parameter's type, found `int`"],
        ),
        (
            "condition c(a: number) { true }",
            &[
                "4:16: there is no parameter type `number`; there are any, bool, string, int, uint, double, \
          duration, timestamp, ipaddress, list<…> and map<…>",
            ],
        ),
        (
            "condition c(a: list) { true }",
            &["4:20: expected `<` and the type of the elements, found `)`"],
        ),
        (
            "condition c(a: int)\n",
            &["5:1: expected `{` and the condition's expression, found the end of the model"],
        ),
        (
            "condition c(a: int) { a > 0",
            &["4:21: the `{` of this condition is never closed"],
        ),
        (
            "condition c(a: int) { 'b' == a }\n",
            &["4:27: in the expression of condition `c`: `==` does not take string and int"],
        ),
        (
            "condition c(a: int) {\n  é\n  && b }\n",
            &["5:3: in the expression of condition `c`: unexpected character `\\u{e9}`"],
        ),
    ] {
        assert_errors(&format!("{HEADER}{text}"), expected);
    }
}

#[test]
fn each_line_with_an_error_is_reported() {
    let source = format!(
        "{HEADER}type doc\n  relations\n    define a: [user\n    define b: [nobody]\n    define c: a or\n    define d: nothing\n\
         type\ntype e\n  relations\n    define x: [doc#a] or y\n"
    );
    assert_errors(
        &source,
        &[
            "7:5: expected `,`, `with` or `]`, found `define`",
            "8:19: expected `(` or the name of a relation, found the end of the line",
            "9:15: type `doc` has no relation `nothing`",
            "10:5: expected the name of a type, found the end of the line",
            "13:26: type `e` has no relation `y`",
        ],
    );
}

#[test]
fn errors_of_meaning_stand_at_their_places() {
    for (text, expected) in [
        ("type user", &["4:6: there is another type `user`"][..]),
        (
            "type self",
            &["4:6: `self` is a reserved word: a type cannot be called so"],
        ),
        (
            "type d\n  relations\n    define this: [user]",
            &["6:12: `this` is a reserved word: a relation cannot be called so"],
        ),
        (
            "type d\n  relations\n    define a: [user]\n    define a: [user]",
            &["7:12: type `d` already has a relation `a`"],
        ),
        (
            "type d\n  relations\n    define a: [dog]",
            &["6:16: there is no type `dog`"],
        ),
        (
            "type d\n  relations\n    define a: [user#b]",
            &["6:21: type `user` has no relation `b`"],
        ),
        (
            "type d\n  relations\n    define a: [user with c]",
            &["6:26: there is no condition `c`"],
        ),
        (
            "type d\n  relations\n    define a: b",
            &["6:15: type `d` has no relation `b`"],
        ),
        (
            "type d\n  relations\n    define a: [user] or b from c",
            &["6:32: type `d` has no relation `c`"],
        ),
        (
            "type d\n  relations\n    define p: [d]\n    define a: [user] or b from p",
            &["7:25: none of the types that `p` can hold has a relation `b`"],
        ),
        (
            "type d\n  relations\n    define p: [d] or q\n    define q: [d]\n    define a: [user] or a from p",
            &[
                "8:32: `p` is computed: only a relation that holds plain objects, and nothing else, can stand after `from`",
            ],
        ),
        (
            "type d\n  relations\n    define p: [d, d:*]\n    define a: [user] or a from p",
            &[
                "7:32: `p` can hold usersets or wildcards: only a relation that holds plain objects, and nothing else, can stand after `from`",
            ],
        ),
        (
            "type d\n  relations\n    define p: [d#p, d]\n    define a: [user] or a from p",
            &[
                "7:32: `p` can hold usersets or wildcards: only a relation that holds plain objects, and nothing else, can stand after `from`",
            ],
        ),
        (
            "type d\n  relations\n    define a: a",
            &["6:12: `a` is defined by itself, directly or by way of other relations"],
        ),
        (
            "type d\n  relations\n    define a: [user] or b\n    define b: [user] but not a",
            &[
                "6:12: `a` is defined by itself, directly or by way of other relations",
                "7:12: `b` is defined by itself, directly or by way of other relations",
            ],
        ),
        (
            "type d\n  relations\n    define a: [d#a]",
            &["6:12: nobody can ever have `a`: no relationship that can be written leads to it"],
        ),
        (
            "type d\n  relations\n    define p: [d]\n    define a: a from p",
            &["7:12: nobody can ever have `a`: no relationship that can be written leads to it"],
        ),
        (
            "type d\n  relations\n    define b: [user]\n    define a: [d#a] and b",
            &["7:12: nobody can ever have `a`: no relationship that can be written leads to it"],
        ),
        (
            "type d\n  relations\n    define b: [user]\n    define a: b but not c\n    define c: [d#c]",
            &[
                "7:12: nobody can ever have `a`: no relationship that can be written leads to it",
                "8:12: nobody can ever have `c`: no relationship that can be written leads to it",
            ],
        ),
        (
            "type d\n  relations\n    define a: [d#a] or b\n    define b: [user]",
            &[],
        ),
        (
            "condition c(a: int, a: int) { a > 0 }",
            &["4:21: the condition already has a parameter `a`"],
        ),
        (
            "condition c(a: int) { a > 0 }\ncondition c(a: int) { a > 0 }",
            &["5:11: there is another condition `c`"],
        ),
        (
            "condition c(a: int) { a + 1 }",
            &["4:25: in the expression of condition `c`: a caveat must answer a bool, this answers int"],
        ),
    ] {
        assert_errors(&format!("{HEADER}{text}"), expected);
    }
}

#[test]
fn doubts_are_warnings() {
    let source = format!(
        "{HEADER}type d\n  relations\n    define a: [user, user with c, user]\n\
         condition c(a: int) {{ a > 0 }}\ncondition e(a: int) {{ a > 0 }}\n"
    );
    assert_eq!(
        warnings(&source),
        [
            "6:35: `a` lists this kind of subject twice",
            "8:11: condition `e` is not used"
        ]
    );
}

#[test]
fn errors_of_json_stand_at_their_places() {
    let model = |types: &str| {
        format!("{{\"schema_version\": \"1.1\", \"type_definitions\": [{{\"type\": \"user\"}},\n{types}]}}")
    };
    for (source, expected) in [
        ("{", "1:2: expected a name in quotes, found the end of the text".to_owned()),
        ("{}", "1:1: the member `schema_version` is missing; it is 1.1 or 1.2".to_owned()),
        (r#"{"schema_version": 1}"#, "1:20: expected a string, found a number".to_owned()),
        (r#"{"schema_version": "2"}"#, "1:20: schema version `2` is not supported; there are 1.1 and 1.2".to_owned()),
        ("{\"schema_version\": \"1.1\",\n \"types\": []}", "2:2: there is no member `types` here; there are `schema_version`, `type_definitions`, \
          `conditions`, `id`, `schemaVersion`, `typeDefinitions`".to_owned()),
        (&model("7"), "2:1: expected an object, found a number".to_owned()),
        (&model("{}"), "2:1: the member `type` is missing".to_owned()),
        (&model(r#"{"type": "a b"}"#), "2:10: `a b` is not a name: it must start with a letter or `_` and hold only letters, digits, `_`, `/`, `-` and `.`".to_owned()),
        (&model(r#"{"type": "d", "relations": {"a": {"these": {}}}}"#), "2:35: expected `this`, `computedUserset`, `tupleToUserset`, `union`, `intersection` or `difference`, found `these`".to_owned()),
        (&model(r#"{"type": "d", "relations": {"a": {}}}"#), "2:34: expected exactly one of `this`, `computedUserset`, `tupleToUserset`, `union`, `intersection` or `difference`".to_owned()),
        (&model(r#"{"type": "d", "relations": {"a": {"this": {}}}}"#), "2:29: `a` can be assigned directly, but lists no types of subjects".to_owned()),
        (&model(r#"{"type": "d", "relations": {"b": {"this": {}}, "a": {"computedUserset": {"relation": "b"}}}, "metadata": {"relations": {"b": {"directly_related_user_types": [{"type": "user"}]}, "a": {"directly_related_user_types": [{"type": "user"}]}}}}"#), "2:217: `a` lists types of subjects, but its rewrite has no `this` to hold them".to_owned()),
        (&model(r#"{"type": "d", "relations": {"a": {"union": {"child": [{"this": {}}]}}}}"#), "2:54: `union` takes two operands or more".to_owned()),
        (&model(r#"{"type": "d", "relations": {"a": {"difference": {"base": {"this": {}}}}}}"#), "2:49: the member `subtract` is missing".to_owned()),
        (&model(r#"{"type": "d", "metadata": {"relations": {"a": {}}}}"#), "2:42: there is metadata for the relation `a`, but no such relation".to_owned()),
        (&model(r#"{"type": "d", "relations": {"a": {"computedUserset": {"relation": "b"}}}}"#), "2:67: type `d` has no relation `b`".to_owned()),
        (r#"{"schema_version": "1.1", "conditions": {"c": {"name": "d", "expression": "true"}}}"#, "1:56: the condition stands under the name `c` and calls itself `d`".to_owned()),
        (r#"{"schema_version": "1.1", "conditions": {"c": {"expression": "\"\\u00e9\" == \n b"}}}"#, "1:81: in the expression of condition `c`: undeclared reference to `b`".to_owned()),
        (r#"{"schema_version": "1.1", "conditions": {"c": {"parameters": {"a": {"type_name": "TYPE_NAME_LIST"}}, "expression": "true"}}}"#, "1:82: `TYPE_NAME_LIST` takes 1 types in `generic_types`, found 0".to_owned()),
    ] {
        assert_eq!(errors(source).first(), Some(&expected), "{source}");
    }
}

#[test]
fn errors_of_modules_name_their_file() {
    let modules = |first: &str, second: &str| {
        let quote = |text: &str| text.replace('\n', "\\n");
        format!(
            r#"{{"modules": [{{"name": "a.fga", "text": "{}"}}, {{"name": "dir/b.fga", "text": "{}"}}]}}"#,
            quote(first),
            quote(second)
        )
    };
    assert_errors(
        &modules(
            "module a\ntype user\ntype\n",
            "\nmodule b\ntype doc\n  relations\n    define a [user]",
        ),
        &[
            "a.fga:3:5: expected the name of a type, found the end of the model",
            "dir/b.fga:5:14: expected `:` after the name of the relation, found `[`",
        ],
    );
    assert_errors(
        &modules(
            "module a\ntype user",
            "module b\ntype user\nextend type dog\n  relations\n    define a: [user]",
        ),
        &[
            "dir/b.fga:2:6: there is another type `user`",
            "dir/b.fga:3:13: there is no type `dog`",
        ],
    );
    assert_errors(
        &modules(
            "module a\ntype user\ntype d\n  relations\n    define a: [user]",
            "module b\nextend type d\n  relations\n    define a: [user]",
        ),
        &["dir/b.fga:4:12: type `d` already has a relation `a`"],
    );
    assert_errors(
        &modules("module a\ntype user", "model\n  schema 1.1\ntype doc"),
        &["dir/b.fga:1:1: this is not a module: expected `module` and its name, found `model`"],
    );
    assert_errors(
        r#"{"modules": []}"#,
        &["1:13: a model has 1 to 1000 modules, this one has 0"],
    );
    assert_errors(
        r#"{"modules": [{"name": "a"}]}"#,
        &["1:14: a module has the members `name` and `text`"],
    );
    assert_errors(
        r#"{"modules": [{"name": "a", "text": "module a"}, {"name": "a", "text": "module a"}]}"#,
        &["1:58: there are two modules of the name `a`"],
    );
}
