//! What native schemas compile to.

use std::fmt::Write;

use super::*;
use crate::noun::Name;
use crate::schema::{ArrowMode, CaveatType, Expr, MemberId, SlotSubject};

fn schema(source: &str) -> Schema {
    match compile(source) {
        Ok(compiled) => compiled.schema,
        Err(errors) => panic!(
            "{}",
            errors
                .iter()
                .map(|error| format!("{error}\n"))
                .collect::<String>()
        ),
    }
}

fn codes(source: &str) -> Vec<&'static str> {
    compile(source)
        .unwrap_err()
        .iter()
        .map(|error| error.code.as_str())
        .collect()
}

fn member(schema: &Schema, path: &str) -> MemberId {
    let (object_type, name) = path.split_once('#').unwrap();
    let object_type = schema.type_named(&Name::parse(object_type).unwrap()).unwrap();
    schema
        .member_named(object_type, &Name::parse(name).unwrap())
        .unwrap()
}

/// The expression with names for ids.
fn shown(schema: &Schema, expr: &Expr) -> String {
    let name = |id: MemberId| schema.members[id.index()].name.to_string();
    let joined = |operands: &[Expr], symbol: &str| {
        let operands: Vec<String> = operands.iter().map(|operand| shown(schema, operand)).collect();
        format!("({})", operands.join(symbol))
    };
    match expr {
        Expr::This => "this".into(),
        Expr::Nil => "nil".into(),
        Expr::Itself => "self".into(),
        Expr::Member(id) => name(*id),
        Expr::Union(operands) => joined(operands, " + "),
        Expr::Intersection(operands) => joined(operands, " & "),
        Expr::Exclusion(base, excluded) => {
            format!("({} - {})", shown(schema, base), shown(schema, excluded))
        }
        Expr::Arrow {
            relation,
            mode,
            targets,
        } => {
            let targets: Vec<String> = targets
                .iter()
                .map(|(id, target)| format!("{}#{}", schema.types[id.index()].name, name(*target)))
                .collect();
            let mode = if *mode == ArrowMode::Any { "any" } else { "all" };
            format!("{}.{mode}[{}]", name(*relation), targets.join(" "))
        }
    }
}

#[test]
fn operators_bind_as_in_spicedb() {
    let cases = [
        ("a + b & c", "((a + b) & c)"),
        ("a & b + c", "(a & (b + c))"),
        ("a - b + c", "(a - (b + c))"),
        ("a & b - c & d", "((a & b) - (c & d))"),
        ("a - b - c", "((a - b) - c)"),
        ("a - (b - c)", "(a - (b - c))"),
        ("a + (b + c) + d", "(a + b + c + d)"),
        ("(a & b) & (c & d)", "(a & b & c & d)"),
        ("((a))", "a"),
        ("a + nil - self", "((a + nil) - self)"),
    ];
    for (source, expected) in cases {
        let source = format!(
            "use self\ndefinition user {{}}\ndefinition d {{\nrelation a: user\nrelation b: user\nrelation c: user\n\
             relation d: user\npermission p = {source}\n}}"
        );
        let schema = schema(&source);
        assert_eq!(
            shown(&schema, &schema.members[member(&schema, "d#p").index()].expr),
            expected
        );
    }
}

#[test]
fn arrows_follow_the_objects_of_all_kinds_of_subjects() {
    let schema = schema(
        "definition user {}\ndefinition group { relation member: user | group#member\n permission view = member\n }\n\
         definition bare {}\ndefinition doc {\nrelation parent: group#member | doc | doc#view | bare | user\n\
         permission view = parent->view + parent.all(view)\n}",
    );
    let view = &schema.members[member(&schema, "doc#view").index()];
    assert_eq!(
        shown(&schema, &view.expr),
        "(parent.any[group#view doc#view] + parent.all[group#view doc#view])"
    );
}

#[test]
fn slots_gather_the_terms_of_one_class() {
    let schema = schema(
        "use expiration\ndefinition user {}\ncaveat c(x int) { x > 1 }\ndefinition doc {\n\
         relation r: user | user with c | user:* with expiration | user#... with c and expiration | doc#r\n}",
    );
    let relation = member(&schema, "doc#r");
    let slots = &schema.members[relation.index()].slots;
    let classes: Vec<_> = slots
        .iter()
        .map(|slot| {
            let slot = &schema.slots[slot.index()];
            let terms: Vec<_> = slot
                .allowed
                .iter()
                .map(|a| (a.caveat.is_some(), a.expiration))
                .collect();
            (slot.subject, terms)
        })
        .collect();
    assert_eq!(
        classes,
        [
            (
                SlotSubject::Object,
                vec![(false, false), (true, false), (true, true)]
            ),
            (SlotSubject::Wildcard, vec![(false, true)]),
            (SlotSubject::Userset(relation), vec![(false, false)]),
        ]
    );
}

#[test]
fn reads_go_through_usersets_arrows_and_cycles() {
    let schema = schema(
        "definition user {}\ndefinition group {\nrelation member: user | group#all\nrelation extra: user\n\
         permission all = member + extra\n}\ndefinition doc {\nrelation parent: doc\nrelation viewer: user | group#all\n\
         relation unused: user\npermission view = viewer + parent->view\npermission a = b\npermission b = a + nil\n}",
    );
    let reads = |path: &str| {
        let reads = &schema.members[member(&schema, path).index()].reads;
        assert!(reads.is_sorted());
        reads
            .iter()
            .map(|id| schema.members[id.index()].name.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(reads("doc#view"), ["member", "extra", "parent", "viewer"]);
    assert_eq!(reads("doc#viewer"), ["member", "extra", "viewer"]);
    assert_eq!(reads("group#member"), ["member", "extra"]);
    assert_eq!(reads("doc#unused"), ["unused"]);
    assert!(reads("doc#a").is_empty());
}

#[test]
fn partials_are_spread_in_their_places() {
    let schema = schema(
        "use partial\ndefinition doc {\nrelation first: doc\n...p\npermission last = inner\n}\n\
         partial p {\npermission view = first\n...q\n}\npartial q {\n// of q\nrelation inner: doc\n}",
    );
    let members: Vec<_> = schema.types[0]
        .members
        .iter()
        .map(|id| &schema.members[id.index()])
        .collect();
    let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
    assert_eq!(names, ["first", "view", "inner", "last"]);
    assert_eq!(members[2].doc.as_deref(), Some("of q"));
}

#[test]
fn doc_comments_are_those_right_above() {
    let schema = schema(
        "// licence\n\n// a person,\n// or more\ndefinition user { // trails\n  relation a: user // trails too\n\
         \n  /**\n   * First.\n   *\n   * Second.\n   */\n  // ignore-warning: x\n  permission b = a\n}\n\
         /* about c */\ncaveat c(x list<map<int>>) {\n x == x }",
    );
    assert_eq!(schema.types[0].doc.as_deref(), Some("a person,\nor more"));
    assert_eq!(schema.members[0].doc, None);
    assert_eq!(schema.members[1].doc.as_deref(), Some("First.\n\nSecond."));
    assert_eq!(schema.caveats[0].doc.as_deref(), Some("about c"));
    assert_eq!(schema.caveats[0].expression, "x == x");
    let nested = CaveatType::List(Box::new(CaveatType::Map(Box::new(CaveatType::Int))));
    assert_eq!(schema.caveats[0].parameters, [("x".to_owned(), nested)]);
}

#[test]
fn nothing_compiles_to_the_empty_schema() {
    for source in ["", "\n\n", "// x", "use expiration", "\u{feff};\n;"] {
        let schema = schema(source);
        assert!(schema.types.is_empty() && schema.caveats.is_empty());
    }
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow() {
    let deep = |open: &str, middle: &str, close: &str, times: usize| {
        format!("{}{middle}{}", open.repeat(times), close.repeat(times))
    };
    let permission =
        |expression: &str| format!("definition d {{\nrelation a: d\npermission p = {expression}\n}}");
    assert!(compile(&permission(&deep("(", "a", ")", 200))).is_ok());
    assert_eq!(
        codes(&permission(&deep("(", "a", ")", 201))),
        ["nesting_too_deep"]
    );
    assert_eq!(
        codes(&permission(&deep("(", "a", ")", 100_000))),
        ["nesting_too_deep"]
    );
    assert_eq!(codes(&permission(&"(".repeat(100_000))), ["nesting_too_deep"]);
    assert_eq!(
        codes(&permission(&deep("(", "a", " - a - a)", 150))),
        ["nesting_too_deep"]
    );
    assert_eq!(
        codes(&permission(&format!("a{}", " - a".repeat(100_000)))),
        ["nesting_too_deep"]
    );
    assert!(compile(&permission(&format!("a{}", " - a".repeat(150)))).is_ok());
    assert!(compile(&permission(&format!("a{}", " + a".repeat(100_000)))).is_ok());
    let caveat = |parameter: &str| format!("caveat c(x {parameter}) {{ x == x }}");
    assert_eq!(
        codes(&caveat(&deep("list<", "int", ">", 100_000))),
        ["nesting_too_deep"]
    );
}

#[test]
fn hostile_schemas_are_refused_or_compiled() {
    let mut chain = String::from("definition d {\nrelation r0: d\npermission p0 = r0\n");
    let mut wide = String::from("definition d {\nrelation r: d");
    let mut spreads = String::from("use partial\npartial p {\n");
    for n in 1..8_000 {
        write!(chain, "relation r{n}: d\npermission p{n} = p{} + r{n}\n", n - 1).unwrap();
        write!(wide, " | t{n}").unwrap();
        writeln!(spreads, "relation r{n}: d").unwrap();
    }
    chain.push('}');
    wide.push('\n');
    spreads.push_str("}\ndefinition d {}\n");
    for n in 1..8_000 {
        writeln!(wide, "permission p{n} = r->x").unwrap();
        writeln!(spreads, "definition d{n} {{ ...p\n}}").unwrap();
    }
    wide.push_str("}\n");
    for n in 1..8_000 {
        writeln!(wide, "definition t{n} {{}}").unwrap();
    }
    assert_eq!(codes(&chain), ["limit_exceeded"]);
    assert_eq!(codes(&wide), ["limit_exceeded"]);
    assert_eq!(codes(&spreads), ["limit_exceeded"]);
    assert_eq!(codes(&" ".repeat(MAX_SOURCE_BYTES + 1)), ["limit_exceeded"]);
    let braces = "definition { ".repeat(100_000);
    assert_eq!(codes(&braces).len(), crate::schema::MAX_DIAGNOSTICS);
}

#[test]
fn thousands_of_members_are_no_matter() {
    let mut source = String::from("definition user {}\n");
    for n in 0..1_000 {
        let parent = n.max(1) - 1;
        writeln!(
            source,
            "definition t{n} {{\nrelation parent: t{parent}\nrelation viewer: user | t{n}#view\n\
             permission view = viewer + parent->view\npermission edit = view & viewer\n}}"
        )
        .unwrap();
    }
    let schema = schema(&source);
    assert_eq!(schema.members.len(), 4_000);
    assert_eq!(
        schema.members[member(&schema, "t999#edit").index()].reads.len(),
        2_000
    );
}
