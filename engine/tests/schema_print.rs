//! What the printer prints is read back as what it was, for native schemas; and for OpenFGA models it means the same,
//! which `tests/openfga.rs` of the whole shows with decisions.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

#[allow(dead_code, reason = "the test of evaluation uses the rest")]
#[path = "evaluate_random/world.rs"]
mod world;

use std::path::PathBuf;

use inferadb_engine::schema::{Expr, Format, Schema, compile, print};

use world::{Dice, World};

/// Everything that a schema decides by, and its documentation, as text.
fn shape(schema: &Schema) -> String {
    let types: Vec<_> = schema
        .types()
        .iter()
        .map(|held| (&held.name, &held.members, &held.doc))
        .collect();
    let members: Vec<_> = schema
        .members()
        .iter()
        .map(|held| {
            let expr = simple(&held.expr);
            (
                &held.name,
                held.object_type,
                held.kind,
                &held.slots,
                expr,
                &held.doc,
            )
        })
        .collect();
    let caveats: Vec<_> = schema
        .caveats()
        .iter()
        .map(|held| (&held.name, &held.parameters, &held.expression, &held.doc))
        .collect();
    format!("{types:#?}\n{members:#?}\n{:#?}\n{caveats:#?}", schema.slots())
}

/// The expression with `nil` for arrows that lead nowhere: the compiled form does not know their targets' name.
fn simple(expr: &Expr) -> Expr {
    let all = |operands: &[Expr]| operands.iter().map(simple).collect();
    match expr {
        Expr::Arrow { targets, .. } if targets.is_empty() => Expr::Nil,
        Expr::Union(operands) => Expr::Union(all(operands)),
        Expr::Intersection(operands) => Expr::Intersection(all(operands)),
        Expr::Exclusion(base, excluded) => {
            Expr::Exclusion(Box::new(simple(base)), Box::new(simple(excluded)))
        }
        other => other.clone(),
    }
}

#[track_caller]
fn verify(source: &str) {
    let schema = compile(source).unwrap().schema;
    let printed = print(&schema).unwrap_or_else(|errors| panic!("{source}: {errors:?}"));
    assert_eq!(printed.splits, [], "{source}");
    let again = compile(&printed.text).unwrap_or_else(|errors| panic!("{}: {errors:?}", printed.text));
    assert_eq!(
        shape(&again.schema),
        shape(&schema),
        "{source}\nwas printed as\n{}",
        printed.text
    );
    assert_eq!(print(&again.schema).unwrap().text, printed.text);
}

#[test]
fn native_schemas_are_read_back_as_they_were() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/corpus/schemas");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let source = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        if compile(&source).is_ok() {
            verify(&source);
            count += 1;
        }
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn random_schemas_are_read_back_as_they_were() {
    for seed in 0..500 {
        verify(&World::random(&mut Dice(seed)).text());
    }
}

#[test]
fn what_a_model_splits_is_told() {
    let model = "model\n  schema 1.1\ntype user\ntype group\n  relations\n    define member: [user, user:*]\n    \
                 define direct_admin: [user]\n    define admin: [user] but not direct_admin\ntype doc\n  relations\n    \
                 define viewer: [group#member, group#admin]\n";
    let schema = Format::OpenFga.compile(model).unwrap().schema;
    let printed = print(&schema).unwrap();
    let splits: Vec<String> = printed
        .splits
        .iter()
        .map(|split| format!("{}#{} {}", split.object_type, split.member, split.relation))
        .collect();
    // A wildcard that another type would take in through a userset must stand behind a permission.
    assert_eq!(
        splits,
        ["group#member direct_member", "group#admin direct_admin_"]
    );
    assert!(
        printed.text.contains("    permission member = direct_member\n"),
        "{}",
        printed.text
    );
    assert!(
        printed
            .text
            .contains("    permission admin = direct_admin_ - direct_admin\n"),
        "{}",
        printed.text
    );
    assert!(
        printed
            .text
            .contains("    relation viewer: group#member | group#admin\n"),
        "{}",
        printed.text
    );
}

#[test]
fn what_has_no_equivalent_is_told() {
    let model = "model\n  schema 1.1\ntype user\ntype my-doc\n  relations\n    define can.see: [user with c]\n    \
                 define nil: [user]\ncondition c(with: int) { with > 1 }\n";
    let schema = Format::OpenFga.compile(model);
    // `with` cannot be a parameter of the DSL either.
    assert!(schema.is_err());
    let schema = Format::OpenFga.compile(
        &model
            .replace("with: int", "relation: int")
            .replace("with > 1", "relation > 1"),
    );
    let unprintable = print(&schema.unwrap().schema).unwrap_err();
    let told: Vec<&str> = unprintable.iter().map(|part| part.what.as_str()).collect();
    assert_eq!(
        told,
        [
            "caveat parameter `c.relation`",
            "type `my-doc`",
            "relation `my-doc#can.see`",
            "relation `my-doc#nil`"
        ]
    );
}
