//! What each form of a model compiles to, and every error at its place.

use proptest::prelude::*;

use super::compile;
use crate::schema::diagnostic::{DiagnosticCode, MAX_DIAGNOSTICS};
use crate::schema::{Expr, MemberKind, Schema};

const HEADER: &str = "model\n  schema 1.1\ntype user\n";

/// A model that uses everything.
const WHOLE: &str = "# All of it.
model
  schema 1.2

# Somebody.
type user
type team
  relations
    # Those in it.
    define member: [user, team#member, user:*]
type folder/sub-folder
  relations
    define parent: [folder/sub-folder, team]
    define owner: [user with c, user]
    define can.view: ([user, # some
      team#member with c] or owner or can.view from parent) but not (blocked and owner)
    define blocked: [user]

condition c(a: int, b: list<string>, d: map<double>) {
  a < 5 && 'x}' in b # not in the text
    && (d.exists(k, k == \"}\") || {\"x\": 1} == {\"x\": 1})
}
";

fn errors(source: &str) -> Vec<String> {
    match compile(source) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn warnings(source: &str) -> Vec<String> {
    let compiled = compile(source).unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
    compiled.warnings.iter().map(ToString::to_string).collect()
}

/// Everything that a schema decides by, as text.
fn shape(schema: &Schema) -> String {
    let caveats: Vec<_> = schema
        .caveats
        .iter()
        .map(|caveat| (&caveat.name, &caveat.parameters, &caveat.expression))
        .collect();
    let members: Vec<_> = schema
        .members
        .iter()
        .map(|held| {
            (
                &held.name,
                held.object_type,
                held.kind,
                &held.slots,
                &held.expr,
                &held.reads,
            )
        })
        .collect();
    let types: Vec<_> = schema
        .types
        .iter()
        .map(|held| (&held.name, &held.members))
        .collect();
    format!("{types:#?}\n{members:#?}\n{:#?}\n{caveats:#?}", schema.slots)
}

#[track_caller]
fn assert_errors(source: &str, expected: &[&str]) {
    assert_eq!(errors(source), expected, "{source}");
}

#[test]
fn a_model_of_everything_compiles() {
    let compiled = compile(WHOLE).unwrap();
    assert_eq!(compiled.warnings, []);
    let schema = compiled.schema;
    let names: Vec<&str> = schema.members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["member", "parent", "owner", "can.view", "blocked"]);
    assert_eq!(schema.types[0].doc.as_deref(), Some("Somebody."));
    assert_eq!(schema.members[0].doc.as_deref(), Some("Those in it."));
    let view = &schema.members[3];
    assert_eq!(view.kind, MemberKind::Relation);
    assert_eq!(view.slots.len(), 2);
    let Expr::Exclusion(base, _) = &view.expr else {
        panic!("{:?}", view.expr)
    };
    let Expr::Union(operands) = &**base else {
        panic!("{base:?}")
    };
    assert_eq!(operands[0], Expr::This);
    let Expr::Arrow { targets, .. } = &operands[2] else {
        panic!("{operands:?}")
    };
    assert_eq!(targets.len(), 1, "a team has no `can.view`");
    let owner = &schema.slots[schema.members[2].slots[0].index()];
    assert_eq!(owner.allowed.len(), 2, "with the condition and without it");
    assert!(schema.caveats[0].expression.starts_with("a < 5"));
    assert!(!schema.caveats[0].expression.contains("not in the text"));
    assert!(schema.caveats[0].expression.contains("'x}' in b"));
}

#[test]
fn all_forms_of_a_model_are_the_same() {
    let dsl = "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define up: [doc]\n    \
               define v: [user with c, user:*, doc#v] or v from up\n    define w: (v and up) but not v\n\
               condition c(a: int, l: list<string>) {\n  a < 5 || 'é' in l\n}\n";
    let json = r#"{"schema_version":"1.1","type_definitions":[
        {"type":"user"},
        {"type":"doc","relations":{
            "up":{"this":{}},
            "v":{"union":{"child":[{"this":{}},{"tupleToUserset":{"tupleset":{"relation":"up"},"computedUserset":{"relation":"v"}}}]}},
            "w":{"difference":{"base":{"intersection":{"child":[{"computedUserset":{"relation":"v"}},{"computedUserset":{"relation":"up"}}]}},
                 "subtract":{"computedUserset":{"relation":"v"}}}}},
         "metadata":{"relations":{
            "up":{"directly_related_user_types":[{"type":"doc"}]},
            "v":{"directly_related_user_types":[{"type":"user","condition":"c"},{"type":"user","wildcard":{}},{"type":"doc","relation":"v"}]},
            "w":{"directly_related_user_types":[]}}}}],
        "conditions":{"c":{"name":"c","expression":"a < 5 || '\u00e9' in l","parameters":{
            "a":{"type_name":"TYPE_NAME_INT"},"l":{"type_name":"TYPE_NAME_LIST","generic_types":[{"type_name":"TYPE_NAME_STRING"}]}}}}}"#;
    let modules = r#"{"modules":[
        {"name":"b.fga","text":"module b\nextend type doc\n  relations\n    define v: [user with c, user:*, doc#v] or v from up\n    define w: (v and up) but not v"},
        {"name":"a.fga","text":"module a\ntype user\ntype doc\n  relations\n    define up: [doc]\n\ncondition c(a: int, l: list<string>) {\n  a < 5 || 'é' in l\n}"}
        ]}"#;
    let dsl = shape(&compile(dsl).unwrap().schema);
    assert_eq!(shape(&compile(json).unwrap().schema), dsl);
    assert_eq!(shape(&compile(modules).unwrap().schema), dsl);
    let camel = json
        .replace("schema_version", "schemaVersion")
        .replace("type_definitions", "typeDefinitions");
    assert_eq!(shape(&compile(&camel).unwrap().schema), dsl);
    let wrapped = format!(r#"{{"authorization_model": {json}}}"#);
    assert_eq!(shape(&compile(&wrapped).unwrap().schema), dsl);
}

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

#[test]
fn everything_is_bounded() {
    let deep = |levels: usize| {
        format!(
            "{HEADER}type d\n  relations\n    define b: [user]\n    define a: {}b{}\n",
            "(".repeat(levels),
            ")".repeat(levels)
        )
    };
    assert_errors(&deep(50), &[]);
    assert_errors(&deep(51), &["7:65: the relation is nested more than 50 deep"]);
    assert_eq!(compile(&deep(300_000)).unwrap_err().len(), 1);
    let many: String = (0..1000).map(|at| format!("type a//{at}\n")).collect();
    assert_eq!(compile(&many).unwrap_err().len(), MAX_DIAGNOSTICS);
    let json = format!(
        r#"{{"schema_version": "1.1", "type_definitions": [{{"type": "a", "relations": {{"b": {}"#,
        r#"{"union": {"child": ["#.repeat(100_000)
    );
    assert_eq!(
        compile(&json).unwrap_err()[0].code,
        DiagnosticCode::NestingTooDeep
    );
    // A long chain, and an intersection of everything: no step is quadratic.
    let mut wide = format!("{HEADER}type d\n  relations\n    define r0: [user]\n");
    let mut all = "    define all: r0".to_owned();
    for at in 1..20_000 {
        wide.push_str(&format!("    define r{at}: r{} or [user]\n", at - 1).replace(" or [user]", ""));
        all.push_str(&format!(" and r{at}"));
    }
    let compiled = compile(&format!("{wide}{all}\n"));
    // The closure of a chain so long is refused, or it compiles; it does not hang.
    assert!(
        compiled.is_ok() || compiled.is_err_and(|errors| errors[0].code == DiagnosticCode::LimitExceeded)
    );
    let long = format!("{HEADER}type {}", "a".repeat(200));
    assert_eq!(compile(&long).unwrap_err()[0].code, DiagnosticCode::InvalidName);
}

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
