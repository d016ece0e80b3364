//! Random closed expressions come to what the library's own interpreter says, which shares the grammar and nothing else.
//!
//! Left out is what the two are known to differ in: durations, timestamps and regular expressions (the interpreter is built without them),
//! addresses and other functions that CEL does not have, numbers made texts, and `dyn`.

use cel::Value;

use super::{CaveatError, Outcome, compile_errors, program};
use crate::context::Context;

/// Chooses by a number of its own, so that an expression is one number.
struct Choice(u64);

impl Choice {
    fn of(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }

    fn pick(&mut self, items: &[&str]) -> String {
        items[self.of(items.len())].to_owned()
    }

    fn bool(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&["true", "false", "1 < 2", "'a' == 'b'", "has({'a': 1}.a)"]);
        }
        let below = depth - 1;
        match self.of(15) {
            0 => format!("!{}", self.in_parentheses(Self::bool, below)),
            1 => format!("({} && {})", self.bool(below), self.bool(below)),
            2 => format!("({} || {})", self.bool(below), self.bool(below)),
            3 => format!(
                "({} ? {} : {})",
                self.bool(below),
                self.bool(below),
                self.bool(below)
            ),
            4 | 5 => {
                let operator = self.pick(&["==", "!=", "<", "<=", ">", ">="]);
                format!("({} {operator} {})", self.int(below), self.int(below))
            }
            6 => {
                let operator = self.pick(&["==", "!=", "<", "<=", ">", ">="]);
                format!("({} {operator} {})", self.string(below), self.string(below))
            }
            7 => {
                let operator = self.pick(&["==", "!="]);
                format!("({} {operator} {})", self.list(below), self.list(below))
            }
            8 => format!("({} in {})", self.int(below), self.list(below)),
            9 => {
                let of_strings = self.pick(&["contains", "startsWith", "endsWith"]);
                format!("{}.{of_strings}({})", self.string(below), self.string(below))
            }
            10 | 11 => {
                let quantifier = self.pick(&["all", "exists", "exists_one"]);
                let body = self.with_variable(below);
                format!("{}.{quantifier}(x, {body})", self.list(below))
            }
            12 => {
                let operator = self.pick(&["==", "<", ">="]);
                let number = self.pick(&["1u", "1.5", "-0.5", "1.0", "7u", "9007199254740993.0"]);
                format!("({} {operator} {number})", self.int(below))
            }
            13 => format!("('a' in {})", self.map(below)),
            _ => format!("({} == {})", self.map(below), self.map(below)),
        }
    }

    fn int(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&[
                "0",
                "1",
                "2",
                "-1",
                "7",
                "9223372036854775807",
                "-9223372036854775808",
                "0x1f",
            ]);
        }
        let below = depth - 1;
        match self.of(9) {
            0..=2 => {
                let operator = self.pick(&["+", "-", "*", "/", "%"]);
                format!("({} {operator} {})", self.int(below), self.int(below))
            }
            3 => format!("-{}", self.in_parentheses(Self::int, below)),
            4 => format!("size({})", self.list(below)),
            5 => format!("{}.size()", self.string(below)),
            6 => format!("{}[{}]", self.list(below), self.int(below)),
            7 => format!("{}.a", self.map(below)),
            _ => format!(
                "({} ? {} : {})",
                self.bool(below),
                self.int(below),
                self.int(below)
            ),
        }
    }

    fn string(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&[
                "'a'",
                "\"b\"",
                "''",
                "'\u{e9}\\n'",
                "r'\\n'",
                "'''a'b'''",
                "'\\u0061'",
                "'ab'",
            ]);
        }
        format!("({} + {})", self.string(depth - 1), self.string(depth - 1))
    }

    fn list(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.pick(&["[]", "[1]", "[1, 2]", "[0, -1, 7]", "[2, 2,]"]);
        }
        let below = depth - 1;
        match self.of(6) {
            0 | 1 => format!("[{}, {}]", self.int(below), self.int(below)),
            2 => format!("({} + {})", self.list(below), self.list(below)),
            3 => format!("{}.filter(x, {})", self.list(below), self.with_variable(below)),
            4 => format!("{}.map(x, x * {})", self.list(below), self.int(below)),
            _ => format!("{}.map(x, {}, x)", self.list(below), self.with_variable(below)),
        }
    }

    fn map(&mut self, depth: usize) -> String {
        let key = self.pick(&["'a'", "'b'", "'a' + 'b'"]);
        format!("{{{key}: {}, 'c': {}}}", self.int(depth), self.int(depth))
    }

    /// A bool that asks of `x`, an int.
    fn with_variable(&mut self, depth: usize) -> String {
        let operator = self.pick(&["==", "<", ">=", "!="]);
        let connective = self.pick(&["&&", "||"]);
        format!(
            "x {operator} {} {connective} {}",
            self.int(depth),
            self.bool(depth)
        )
    }

    fn in_parentheses(&mut self, of: fn(&mut Self, usize) -> String, depth: usize) -> String {
        format!("({})", of(self, depth))
    }
}

#[test]
fn closed_expressions_come_to_the_same() {
    let (mut holds, mut does_not, mut fails) = (0, 0, 0);
    for number in 1..=3_000_u64 {
        let source = Choice(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).bool(number as usize % 5);
        let ours = program("", &source).evaluate(&Context::new(), &Context::new());
        let theirs = cel::Program::compile(&source)
            .unwrap()
            .execute(&cel::Context::default());
        match (&ours, &theirs) {
            (Ok(Outcome::True), Ok(Value::Bool(true))) => holds += 1,
            (Ok(Outcome::False), Ok(Value::Bool(false))) => does_not += 1,
            (Err(CaveatError::Expression(_)), Err(_)) => fails += 1,
            _ => panic!("{source}: {ours:?}, not {theirs:?}"),
        }
    }
    let least = [holds, does_not, fails].into_iter().min();
    assert!(least > Some(200), "{holds} hold, {does_not} do not, {fails} fail");
}

/// What is no expression to the library is none here: with the macros expanded or not.
#[test]
fn the_grammar_is_the_librarys() {
    for source in [
        "0X1F == 31",
        "{'true': 1}.true == 1",
        "{'a': 1}.`a`() == 1",
        "true &",
        "1 == == 1",
    ] {
        assert!(cel::Program::compile(source).is_err(), "{source}");
        compile_errors("", source);
    }
}
