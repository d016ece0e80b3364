//! Schemas from hostile hands: large ones, made to multiply. Each compiles or is refused in a time that goes with its
//! length: what grew with the square of it took minutes, and the run with it.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::fmt::Write;

use inferadb_engine::list::{Breadth, Class, Plan};
use inferadb_engine::noun::Name;
use inferadb_engine::schema::{DiagnosticCode, Format, MemberId, Schema, SlotSubject, TypeId};

/// The length of each schema, in bytes, about: MAX_SOURCE_BYTES is seven times that.
const BYTES: usize = 600_000;
/// `text` with numbered pieces, until it has so many bytes; how many there are.
fn fill(text: &mut String, bytes: usize, mut piece: impl FnMut(&mut String, usize)) -> usize {
    let mut count = 0;
    while text.len() < bytes {
        piece(text, count);
        count += 1;
    }
    count
}

fn outcome(format: Format, source: &str) -> &'static str {
    let compiled = format.compile(source);
    match compiled {
        Ok(_) => "ok",
        Err(errors) => errors.first().unwrap().code.as_str(),
    }
}

/// One relation of `[…]` over many types, and one that follows it as often as there is room.
fn repeated_from(operands_in_one: bool) -> String {
    let mut text = "model\n schema 1.1".to_owned();
    let types = fill(&mut text, BYTES / 3, |text, n| {
        write!(text, "\ntype t{n}\n relations\n define a:[t{n}]").unwrap();
    });
    text.push_str("\ntype u\n relations\n define p:[t0");
    for n in 1..types {
        write!(text, ",t{n}").unwrap();
    }
    text.push_str("]\n define x:a from p");
    fill(&mut text, BYTES, |text, n| match operands_in_one {
        true => text.push_str(" or a from p"),
        false => write!(text, "\n define x{n}:a from p").unwrap(),
    });
    text
}

#[test]
fn from_over_many_types_is_refused() {
    for operands_in_one in [true, false] {
        let text = repeated_from(operands_in_one);
        assert_eq!(outcome(Format::OpenFga, &text), "limit_exceeded");
    }
    // One type listed often is one slot, and each listing was looked at for every `from`.
    let mut text = "model\n schema 1.1\ntype t\n relations\n define a:[t]\n define p:[t".to_owned();
    fill(&mut text, BYTES / 2, |text, _| text.push_str(",t"));
    text.push(']');
    fill(&mut text, BYTES, |text, n| {
        write!(text, "\n define b{n}:a from p").unwrap();
    });
    assert_eq!(outcome(Format::OpenFga, &text), "limit_exceeded");
}

#[test]
fn what_is_stored_named_over_and_over_is_refused() {
    let mut text = r#"{"schema_version":"1.1","type_definitions":[{"type":"t","relations":{"x":{"union":{"child":[{"this":{}}"#.to_owned();
    fill(&mut text, BYTES / 3, |text, _| text.push_str(r#",{"this":{}}"#));
    text.push_str("]}}");
    let relations = fill(&mut text, BYTES * 2 / 3, |text, n| {
        write!(text, r#","r{n}":{{"computedUserset":{{"relation":"x"}}}}"#).unwrap();
    });
    text.push_str(r#"},"metadata":{"relations":{"x":{"directly_related_user_types":[{"type":"t"}"#);
    for n in 0..relations {
        write!(text, r#",{{"type":"t","relation":"r{n}"}}"#).unwrap();
    }
    text.push_str("]}}}}]}");
    assert_eq!(outcome(Format::OpenFga, &text), "limit_exceeded");
}

#[test]
fn arrows_over_many_types_in_one_permission_are_refused() {
    let mut text = String::new();
    let types = fill(&mut text, BYTES / 3, |text, n| {
        writeln!(text, "definition t{n} {{\nrelation a: t{n}\n}}").unwrap();
    });
    text.push_str("definition u {\nrelation p: t0");
    for n in 1..types {
        write!(text, "|t{n}").unwrap();
    }
    text.push_str("\npermission x = p->a");
    fill(&mut text, BYTES, |text, _| text.push_str("+p->a"));
    text.push_str("\n}");
    assert_eq!(outcome(Format::Native, &text), "limit_exceeded");
}

#[test]
fn a_partial_of_spreads_is_spread_over_and_over() {
    let mut text = "use partial\npartial r {}\npartial q {\n".to_owned();
    fill(&mut text, BYTES / 2, |text, _| text.push_str("...r\n"));
    text.push_str("}\ndefinition d {\n");
    fill(&mut text, BYTES, |text, _| text.push_str("...q\n"));
    text.push('}');
    assert_eq!(outcome(Format::Native, &text), "ok");
}

#[test]
fn many_warnings_are_switched_off_in_many_ways() {
    let mut text = "definition user {}\n".to_owned();
    fill(&mut text, BYTES / 2, |text, n| {
        writeln!(text, "// ignore-warning: w{n}").unwrap();
    });
    text.push_str("// ignore-warning: relation-name-references-parent\ndefinition t {\n");
    fill(&mut text, BYTES, |text, n| {
        writeln!(text, "relation a{n}_t: user").unwrap();
    });
    text.push('}');
    assert_eq!(outcome(Format::Native, &text), "ok");
}

#[test]
fn a_comment_belongs_to_what_follows_it_alone() {
    for end in ["\n", "\r", "\r\n"] {
        let lines = [
            "model",
            " schema 1.1",
            "type user",
            "# One",
            "#  two ",
            "type t",
            " relations",
            "  define a: [user]",
            "  # Three.",
            "  define b: a",
            "  define c: b",
            "",
        ];
        let compiled = Format::OpenFga.compile(&lines.join(end)).unwrap();
        let types = compiled.schema.types().iter().map(|held| held.doc.as_deref());
        assert_eq!(types.collect::<Vec<_>>(), [None, Some("One\ntwo")], "{end:?}");
        let members = compiled.schema.members().iter().map(|held| held.doc.as_deref());
        assert_eq!(
            members.collect::<Vec<_>>(),
            [None, Some("Three."), None],
            "{end:?}"
        );
    }
    // Every relation held a copy of the comment, where lines end with returns: gigabytes.
    let mut text = "model\n schema 1.1\ntype user\n".to_owned();
    fill(&mut text, BYTES / 2, |text, _| {
        text.push_str("# words, words, words\n")
    });
    text.push_str("type t\r relations");
    fill(&mut text, BYTES, |text, n| {
        write!(text, "\rdefine a{n}:[user]").unwrap()
    });
    let compiled = Format::OpenFga
        .compile(&text)
        .unwrap_or_else(|errors| panic!("{errors:?}"));
    assert!(
        compiled
            .schema
            .members()
            .iter()
            .all(|member| member.doc.is_none())
    );
}

#[test]
fn chains_and_layers_are_decided_upon_soon() {
    let mut chain = "model\n schema 1.1\ntype user\n".to_owned();
    fill(&mut chain, BYTES, |text, n| {
        let next = n + 1;
        write!(
            text,
            "type t{n}\n relations\n define p:[t{next}]\n define v:[user] or v from p\n"
        )
        .unwrap();
    });
    let last = chain.matches("type t").count();
    write!(chain, "type t{last}\n relations\n define v:[user]\n").unwrap();
    assert_eq!(outcome(Format::OpenFga, &chain), "limit_exceeded");
    // Each relation names all before it: few members, and very many ways between them.
    let mut layers = "definition user {}\ndefinition t {\nrelation r0: user\n".to_owned();
    fill(&mut layers, BYTES, |text, n| {
        let all: Vec<String> = (0..=n).map(|m| format!("r{m}")).collect();
        writeln!(text, "permission r{} = {}", n + 1, all.join("+")).unwrap();
    });
    layers.push('}');
    assert_eq!(outcome(Format::Native, &layers), "ok");
}

#[test]
fn regular_expressions_are_bounded_over_the_whole_schema() {
    let caveats = |patterns: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for n in 0..2_000 {
            writeln!(text, "caveat c{n}(s string) {{ s.matches(\"{}\") }}", patterns(n)).unwrap();
        }
        text
    };
    // The same one is compiled once.
    assert_eq!(outcome(Format::Native, &caveats(&|_| r"\\w{9}".to_owned())), "ok");
    let different = caveats(&|n| format!(r"\\w{{9}}{n}"));
    assert_eq!(outcome(Format::Native, &different), "invalid_expression");
    let model: String = different.replace("caveat ", "condition ").replace("(s ", "(s: ");
    let model = format!("model\n schema 1.1\ntype user\n{model}");
    assert_eq!(outcome(Format::OpenFga, &model), "invalid_expression");
}

#[test]
fn a_caveat_has_a_bounded_number_of_parameters() {
    let with = |count: usize| {
        let parameters: Vec<String> = (0..count).map(|n| format!("p{n} int")).collect();
        format!("caveat c({}) {{ p0 == p{} }}", parameters.join(", "), count - 1)
    };
    assert_eq!(outcome(Format::Native, &with(1_000)), "ok");
    let too_many = Format::Native.compile(&with(1_001)).unwrap_err();
    let found: Vec<_> = too_many
        .iter()
        .map(|error| (error.code, error.message.as_str()))
        .collect();
    let message = "in the expression of caveat `c`: there are 1001 parameters; at most 1000 are allowed";
    assert_eq!(found, [(DiagnosticCode::InvalidExpression, message)]);
}

#[test]
fn an_address_at_the_end_of_a_comment_keeps_its_slash() {
    let text = "/// see https://example.com/\n//////\ndefinition user {}\n";
    let compiled = Format::Native.compile(text).unwrap();
    let doc = compiled.schema.types().first().unwrap().doc.as_deref();
    assert_eq!(doc, Some("see https://example.com/"));
}

fn compiled(source: &str) -> Schema {
    Format::Native.compile(source).unwrap().schema
}

fn type_of(schema: &Schema, name: &str) -> TypeId {
    schema.type_named(&Name::parse(name).unwrap()).unwrap()
}

fn member_of(schema: &Schema, of: &str, name: &str) -> MemberId {
    let of = type_of(schema, of);
    schema.member_named(of, &Name::parse(name).unwrap()).unwrap()
}

/// Plans of lists of `t#p`, of every kind.
fn plans(schema: &Schema) -> Vec<Plan> {
    let class = Class {
        object_type: type_of(schema, "user"),
        relation: None,
    };
    let target = member_of(schema, "t", "p");
    let breadths = [Breadth::Selected, Breadth::Everything].into_iter();
    breadths
        .map(|breadth| Plan::new(schema, target, class, breadth))
        .collect()
}

/// The cost of an operand was that of all ways through it: here a hundred to the power of six.
#[test]
fn plans_look_at_what_is_named_in_many_ways_once() {
    let mut text = "definition user {}\ndefinition t {\nrelation r0: user\nrelation s: user\n".to_owned();
    for layer in 1..=10 {
        let operands = vec![format!("r{}", layer - 1); 100].join("+");
        writeln!(text, "permission r{layer} = {operands}").unwrap();
    }
    text.push_str("permission p = r10 & s\n}");
    plans(&compiled(&text));
}

/// Whether a permission can be had was asked again for each of the types that its arrow leads to, and all of them were gone
/// through for each of them.
#[test]
fn plans_of_arrows_over_many_types_take_no_square_of_them() {
    let mut text = "definition user {}\n".to_owned();
    let types = fill(&mut text, BYTES / 2, |text, n| {
        writeln!(text, "definition t{n} {{\nrelation x: user\n}}").unwrap();
    });
    text.push_str("definition t {\nrelation never: t0\nrelation r: t0");
    for n in 1..types {
        write!(text, "|t{n}").unwrap();
    }
    text.push_str("\npermission p = r->x & never\n}");
    plans(&compiled(&text));
}

/// A plan was made of every operand that is searched in vain.
#[test]
fn few_operands_of_an_intersection_are_tried() {
    let mut text =
        "definition user {}\ndefinition g {\nrelation m: user\n}\ndefinition t {\nrelation r0: g\n"
            .to_owned();
    text.push_str("permission q0 = r0->m\n");
    let members = fill(&mut text, BYTES / 2, |text, n| {
        writeln!(text, "permission q{} = q{n}", n + 1).unwrap();
    });
    write!(text, "permission p = q{members}").unwrap();
    fill(&mut text, BYTES, |text, _| write!(text, "&q{members}").unwrap());
    text.push_str("\n}");
    plans(&compiled(&text));
}

/// Every relationship that was written or loaded went through all classes of subjects before its own.
#[test]
fn the_slot_of_a_relation_of_many_types_is_found_at_once() {
    let mut text = String::new();
    let types = fill(&mut text, BYTES / 2, |text, n| {
        writeln!(text, "definition t{n} {{}}").unwrap();
    });
    text.push_str("definition t {\nrelation r: t0");
    for n in 1..types {
        write!(text, "|t{n}|t{n}:*").unwrap();
    }
    text.push_str("\n}");
    let schema = compiled(&text);
    let relation = member_of(&schema, "t", "r");
    for round in 0..20 {
        for n in 1..types {
            let of = type_of(&schema, &format!("t{n}"));
            for subject in [SlotSubject::Object, SlotSubject::Wildcard] {
                let slot = schema.slot_for(relation, of, subject).unwrap();
                let slot = &schema.slots()[slot.index()];
                assert_eq!((slot.subject_type, slot.subject), (of, subject), "{round}");
            }
        }
    }
    let own = type_of(&schema, "t");
    assert_eq!(schema.slot_for(relation, own, SlotSubject::Object), None);
}
