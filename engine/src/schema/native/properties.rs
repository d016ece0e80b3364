//! Properties: no text makes the compiler panic, and what is printed is read back as it was.

use proptest::prelude::*;

use super::compile;
use super::parser::parse;
use super::syntax::{Expression, ExpressionKind, Identifier, Item, MemberBody, Operator};
use crate::schema::ArrowMode;
use crate::schema::diagnostic::{Findings, MAX_DIAGNOSTICS, Span};

/// Pieces that schemas are made of, and some that they are not.
const PIECES: &[&str] = &[
    "use ",
    "expiration",
    "self",
    "typechecking",
    "partial ",
    "import ",
    "definition ",
    "caveat ",
    "relation ",
    "permission ",
    "nil",
    "with ",
    "and ",
    "any",
    "all",
    "user",
    "doc",
    "a",
    "b",
    "c",
    "p",
    "int",
    "list",
    "map",
    "{",
    "}",
    "(",
    ")",
    "<",
    ">",
    "|",
    "+",
    "-",
    "&",
    "=",
    ":",
    "*",
    "#",
    ".",
    "...",
    "->",
    ",",
    ";",
    "/",
    "//",
    "/*",
    "*/",
    "\"",
    "'",
    "'''",
    "r\"",
    "\\",
    "\n",
    "\r\n",
    " ",
    "\t",
    "$",
    "é",
    "\u{feff}",
    "\0",
    "1",
    "definition user {}\n",
    "relation a: user\n",
    "permission b = a\n",
    "definition doc {\n",
    "}\n",
    "caveat c(a int) {\n a == 1 \n}\n",
    "partial p {\n",
    "...p\n",
];

const VALID: &str = include_str!("../../../../tests/corpus/schemas/accepted.zed");

/// Whatever comes out must be well formed.
fn check(source: &str) -> Result<(), TestCaseError> {
    let (diagnostics, failed) = match compile(source) {
        Ok(compiled) => (compiled.warnings, false),
        Err(errors) => (errors, true),
    };
    prop_assert!(!failed || !diagnostics.is_empty());
    prop_assert!(diagnostics.len() <= MAX_DIAGNOSTICS);
    let lines: Vec<&str> = source.split('\n').collect();
    for diagnostic in diagnostics {
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

/// An expression without its places and parentheses.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Nil,
    Itself,
    Member(String),
    Arrow(String, bool, String),
    Operation(char, Vec<Shape>),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let name = "[a-c]{1,2}";
    let leaf = prop_oneof![
        Just(Shape::Nil),
        Just(Shape::Itself),
        name.prop_map(Shape::Member),
        (name, any::<bool>(), name).prop_map(|(relation, all, target)| Shape::Arrow(relation, all, target)),
    ];
    leaf.prop_recursive(6, 60, 5, |inner| {
        (
            prop_oneof![Just('+'), Just('&'), Just('-')],
            prop::collection::vec(inner, 2..5),
        )
            .prop_map(|(symbol, operands)| Shape::Operation(symbol, operands))
    })
}

fn identifier(text: &str) -> Identifier {
    Identifier {
        text: text.into(),
        span: Span::default(),
    }
}

fn expression(shape: &Shape) -> Expression {
    let kind = match shape {
        Shape::Nil => ExpressionKind::Nil,
        Shape::Itself => ExpressionKind::Itself,
        Shape::Member(name) => ExpressionKind::Member(name.into()),
        Shape::Arrow(relation, all, target) => ExpressionKind::Arrow {
            relation: identifier(relation),
            mode: if *all { ArrowMode::All } else { ArrowMode::Any },
            target: identifier(target),
        },
        Shape::Operation(symbol, operands) => {
            let operators = [Operator::Exclusion, Operator::Intersection, Operator::Union];
            let operator = operators
                .into_iter()
                .find(|operator| operator.symbol() == *symbol)
                .unwrap();
            ExpressionKind::Operation(operator, operands.iter().map(expression).collect())
        }
    };
    Expression {
        kind,
        parenthesized: false,
        span: Span::default(),
    }
}

fn shape(expression: &Expression) -> Shape {
    match &expression.kind {
        ExpressionKind::Nil => Shape::Nil,
        ExpressionKind::Itself => Shape::Itself,
        ExpressionKind::Member(name) => Shape::Member(name.to_string()),
        ExpressionKind::Arrow {
            relation,
            mode,
            target,
        } => Shape::Arrow(
            relation.text.to_string(),
            *mode == ArrowMode::All,
            target.text.to_string(),
        ),
        ExpressionKind::Operation(operator, operands) => {
            Shape::Operation(operator.symbol(), operands.iter().map(shape).collect())
        }
    }
}

/// The shape with the fewest parentheses that the precedence of the operators allows.
fn terse(shape: &Shape, loosest: usize) -> String {
    let level = |symbol: char| "-&+".find(symbol).unwrap();
    match shape {
        Shape::Operation(symbol, operands) => {
            let operands: Vec<String> = operands
                .iter()
                .map(|operand| terse(operand, level(*symbol) + 1))
                .collect();
            let joined = operands.join(&format!(" {symbol} "));
            if level(*symbol) < loosest {
                format!("({joined})")
            } else {
                joined
            }
        }
        leaf => expression(leaf).to_string(),
    }
}

fn read(text: &str) -> Shape {
    let mut findings = Findings::default();
    let source = format!("use self\ndefinition d {{\npermission p = {text}\n}}");
    let file = parse(&source, &mut findings);
    assert!(findings.is_empty(), "{source}: {:?}", findings.finish(&source));
    match &file.definitions[0].items[0] {
        Item::Member(member) => match &member.body {
            MemberBody::Permission { expression, .. } => shape(expression),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

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
    fn a_mutated_schema_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut source: Vec<char> = VALID.chars().collect();
        for (at, removed, inserted) in changes {
            let at = at.index(source.len() + 1);
            let end = (at + removed).min(source.len());
            source.splice(at..end, inserted.chars());
        }
        check(&source.iter().collect::<String>())?;
    }

    #[test]
    fn a_printed_expression_is_read_back(wanted in shapes()) {
        prop_assert_eq!(&read(&expression(&wanted).to_string()), &wanted);
        prop_assert_eq!(&read(&terse(&wanted, 0)), &wanted);
    }
}
