//! What each form of a model compiles to, and that everything about it is bounded.

mod errors;
mod properties;

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
    let together = "module b\nextend type doc\n  relations\n    define v: [user with c, user:*, doc#v] or v from up\n    \
                    define w: (v and up) but not v\n\nmodule a\ntype user\ntype doc\n  relations\n    define up: [doc]\n\n\
                    condition c(a: int, l: list<string>) {\n  a < 5 || 'é' in l\n}\n";
    let dsl = shape(&compile(dsl).unwrap().schema);
    assert_eq!(shape(&compile(together).unwrap().schema), dsl);
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
    let unclosed = "condition c(a: int) { a > 1\n".repeat(20_000);
    assert_errors(
        &format!("{HEADER}{unclosed}"),
        &["4:21: the `{` of this condition is never closed"],
    );
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
