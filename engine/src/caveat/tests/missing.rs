//! Missing parameters: what is decided without them, and which are named otherwise.

use proptest::prelude::*;

use super::{Outcome, context, decide, list, map, missing, program, text};
use crate::caveat::{CaveatError, compile};
use crate::context::{Context, Value};
use crate::schema::CaveatType;

const DECLARED: &str =
    "a bool, b bool, c bool, n int, k int, l list<int>, m map<any>, s string, t timestamp, o any";

#[test]
fn decided_without_what_is_missing() {
    let request = context([("a", Value::Bool(true)), ("n", Value::Int(1))]);
    for (expression, outcome) in [
        ("a || b", Outcome::True),
        ("b || a", Outcome::True),
        ("!a && b", Outcome::False),
        ("b && !a", Outcome::False),
        ("n == 1 || k == 1", Outcome::True),
        ("k + n == 2 && n == 2", Outcome::False),
        ("a ? a : b", Outcome::True),
        ("!a ? b : a", Outcome::True),
        ("b ? a : n == 1", Outcome::True),
        ("b ? !a : n != 1", Outcome::False),
        ("b ? (a || c) : a", Outcome::True),
        ("[1, 2].exists(x, x == n || x == k)", Outcome::True),
        ("[1, 2].all(x, x == n && x == k)", Outcome::False),
        ("1 / 0 == k || a", Outcome::True),
        ("s.matches('x') && !a", Outcome::False),
        ("has(m.x) || a", Outcome::True),
        ("optional.of(a).orValue(b)", Outcome::True),
        ("l.all(x, x > 0) || a", Outcome::True),
    ] {
        assert_eq!(
            decide(DECLARED, expression, &request),
            Ok(outcome),
            "{expression}"
        );
    }
}

#[test]
fn exactly_what_matters_is_named() {
    let request = context([("a", Value::Bool(true)), ("n", Value::Int(1))]);
    let many: &[(&str, &[&str])] = &[
        ("b", &["b"]),
        ("a && b", &["b"]),
        ("!a || b", &["b"]),
        ("b || c", &["b", "c"]),
        ("c && b", &["b", "c"]),
        ("(b && !a) || c", &["c"]),
        ("(b || a) && c", &["c"]),
        ("k == 2", &["k"]),
        ("n + k == 2", &["k"]),
        ("k + size(s) == n", &["k", "s"]),
        ("a ? b : c", &["b"]),
        ("b ? a : !a", &["b"]),
        ("b ? c : a", &["b", "c"]),
        ("[k, n] == [1, 2]", &["k"]),
        ("{'x': k, s: 1} == {}", &["k", "s"]),
        ("m.x.y == 1", &["m"]),
        ("m[s] == 1", &["m", "s"]),
        ("{'x': true}[s]", &["s"]),
        ("has(m.x)", &["m"]),
        ("m.?x.orValue(a)", &["m"]),
        ("m.?x.orValue(b)", &["b", "m"]),
        ("optional.of(k).optMap(x, x + size(s)).value() == 1", &["k", "s"]),
        ("l.all(x, x > 0)", &["l"]),
        ("l.all(x, x > k)", &["k", "l"]),
        ("l.exists(x, x == k && !a)", &["l"]),
        ("[1, 2].all(x, x != k)", &["k"]),
        ("[1, 2].all(x, x > n || b)", &["b"]),
        ("[1, 2].exists_one(x, x == k)", &["k"]),
        ("[1, 2].map(x, x * k) == []", &["k"]),
        ("[1, 2].map(x, x > k, size(s)) == []", &["k"]),
        ("[1, 2].filter(x, b) == []", &["b"]),
        ("t.getHours() > 8 && b", &["b", "t"]),
        ("b || 1 / 0 == 1", &["b"]),
        ("1 / 0 == 1 && b", &["b"]),
        ("o == 1 || o.x == 2", &["o"]),
        ("!(b && c)", &["b", "c"]),
        ("b == b", &["b"]),
    ];
    for (expression, names) in many {
        let wanted = Ok(Outcome::Missing(
            names.iter().map(|name| (*name).to_owned()).collect(),
        ));
        assert_eq!(decide(DECLARED, expression, &request), wanted, "{expression}");
    }
}

#[test]
fn a_certain_failure_is_a_failure_whatever_is_missing() {
    let wanted = Err(CaveatError::Expression("division by zero".to_owned()));
    for expression in [
        "1 / 0 == k",
        "k + 1 / 0 == 1",
        "[k, 1 / 0] == []",
        "1 / 0 == 1 ? b : c",
        "[1, 0].map(x, k / x) == []",
    ] {
        let outcome = decide(DECLARED, expression, &Context::new());
        match expression {
            // Here the failing operation itself lacks a value: it may fail or not.
            "[1, 0].map(x, k / x) == []" => assert_eq!(outcome, missing(["k"])),
            _ => assert_eq!(outcome, wanted, "{expression}"),
        }
    }
}

#[test]
fn values_of_every_kind_may_be_missing_or_not() {
    let request = context([
        ("l", list([Value::Int(1), Value::Int(2)])),
        ("m", map([("x", Value::Int(1))])),
        ("s", text("x")),
    ]);
    assert_eq!(
        decide(DECLARED, "l.exists(x, x == k) || m[s] == 2", &request),
        missing(["k"])
    );
    assert_eq!(
        decide(DECLARED, "l.exists(x, x == k) || m[s] == 1", &request),
        Ok(Outcome::True)
    );
}

/// A boolean expression over parameters `p0` to `p4`.
#[derive(Debug, Clone)]
enum Formula {
    Parameter(usize),
    Constant(bool),
    Not(Box<Formula>),
    And(Box<Formula>, Box<Formula>),
    Or(Box<Formula>, Box<Formula>),
    If(Box<Formula>, Box<Formula>, Box<Formula>),
    Equal(Box<Formula>, Box<Formula>),
}

const PARAMETERS: usize = 5;

fn formulas() -> impl Strategy<Value = Formula> {
    let leaf = prop_oneof![
        8 => (0..PARAMETERS).prop_map(Formula::Parameter),
        1 => any::<bool>().prop_map(Formula::Constant),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed().prop_map(Formula::Not),
            (boxed(), boxed()).prop_map(|(left, right)| Formula::And(left, right)),
            (boxed(), boxed()).prop_map(|(left, right)| Formula::Or(left, right)),
            (boxed(), boxed(), boxed()).prop_map(|(test, yes, no)| Formula::If(test, yes, no)),
            (boxed(), boxed()).prop_map(|(left, right)| Formula::Equal(left, right)),
        ]
    })
}

impl Formula {
    fn source(&self) -> String {
        match self {
            Self::Parameter(number) => format!("p{number}"),
            Self::Constant(value) => value.to_string(),
            Self::Not(inner) => format!("!{}", inner.source()),
            Self::And(left, right) => format!("({} && {})", left.source(), right.source()),
            Self::Or(left, right) => format!("({} || {})", left.source(), right.source()),
            Self::If(test, yes, no) => format!("({} ? {} : {})", test.source(), yes.source(), no.source()),
            Self::Equal(left, right) => format!("({} == {})", left.source(), right.source()),
        }
    }

    /// Kleene's logic, with `None` for unknown.
    fn kleene(&self, values: &[Option<bool>]) -> Option<bool> {
        match self {
            Self::Parameter(number) => values[*number],
            Self::Constant(value) => Some(*value),
            Self::Not(inner) => inner.kleene(values).map(|value| !value),
            Self::And(left, right) => match (left.kleene(values), right.kleene(values)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Self::Or(left, right) => match (left.kleene(values), right.kleene(values)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Self::If(test, yes, no) => match (test.kleene(values), yes.kleene(values), no.kleene(values)) {
                (Some(true), yes, _) => yes,
                (Some(false), _, no) => no,
                (None, Some(yes), Some(no)) if yes == no => Some(yes),
                _ => None,
            },
            Self::Equal(left, right) => Some(left.kleene(values)? == right.kleene(values)?),
        }
    }
}

fn given(values: &[Option<bool>]) -> Context {
    let known = values
        .iter()
        .enumerate()
        .filter_map(|(number, value)| Some((number, (*value)?)));
    known
        .map(|(number, value)| (format!("p{number}"), Value::Bool(value)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn decisions_hold_for_every_completion(
        formula in formulas(),
        values in proptest::collection::vec(any::<Option<bool>>(), PARAMETERS),
    ) {
        let declared: Vec<_> = (0..PARAMETERS).map(|number| (format!("p{number}"), CaveatType::Bool)).collect();
        let program = compile(&declared, &formula.source()).unwrap();
        let outcome = program.evaluate(&Context::new(), &given(&values)).unwrap();
        match (formula.kleene(&values), &outcome) {
            (Some(true), Outcome::True) | (Some(false), Outcome::False) | (None, Outcome::Missing(_)) => {}
            (kleene, outcome) => prop_assert!(false, "{}: {kleene:?} and {outcome:?}", formula.source()),
        }
        let unknown: Vec<usize> = (0..PARAMETERS).filter(|number| values[*number].is_none()).collect();
        let names = match &outcome {
            Outcome::Missing(names) => names.clone(),
            _ => Vec::new(),
        };
        let named_are_unknown = names.iter().all(|name| unknown.iter().any(|number| *name == format!("p{number}")));
        prop_assert!(named_are_unknown, "{:?}", names);
        for bits in 0..1_u32 << unknown.len() {
            let mut complete = values.clone();
            for (bit, number) in unknown.iter().enumerate() {
                complete[*number] = Some(bits >> bit & 1 == 1);
            }
            let decided = program.evaluate(&Context::new(), &given(&complete)).unwrap();
            prop_assert!(!matches!(decided, Outcome::Missing(_)));
            if !matches!(outcome, Outcome::Missing(_)) {
                prop_assert_eq!(&decided, &outcome);
            }
            // What is named is enough: the values of the others change nothing.
            let mut named = values.clone();
            for number in unknown.iter().filter(|number| names.contains(&format!("p{number}"))) {
                named[*number] = complete[*number];
            }
            prop_assert_eq!(program.evaluate(&Context::new(), &given(&named)).unwrap(), decided);
        }
    }
}

#[test]
fn names_are_sorted_and_told_once() {
    let caveat = program("z bool, y bool, x bool", "z && y && x && z && y");
    assert_eq!(
        caveat.evaluate(&Context::new(), &Context::new()),
        missing(["x", "y", "z"])
    );
}
