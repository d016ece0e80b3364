//! What came of a run: for a person, and as JSON.

use serde_json::{Map, Value, json};

use super::flaw::Place;

/// The outcome of every expectation, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The outcomes.
    pub outcomes: Vec<Outcome>,
}

/// What came of one expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The test that it is part of, if that has a name.
    pub test: Option<String>,
    /// The expectation as it is told.
    pub assertion: String,
    /// Where it is written.
    pub place: Place,
    /// What is expected.
    pub expected: Told,
    /// What was found; `error` if there is no decision.
    pub actual: Told,
    /// Whether the two are the same.
    pub passed: bool,
    /// What a conditional decision lacks.
    pub missing_context: Vec<String>,
    /// Of a list: what it differs in from the one expected, a sentence each.
    pub differences: Vec<String>,
    /// Why there is no decision.
    pub error: Option<String>,
    /// How the decision came about, as a tree in text.
    pub explanation: Option<String>,
}

/// A decision, or a list, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// `allow`, `deny`, `conditional` or `error`.
    Word(&'static str),
    /// A list, sorted, each item once.
    List(Vec<String>),
}

impl Told {
    /// A list of items in any order.
    pub(super) fn list(items: impl Iterator<Item = String>) -> Self {
        let mut items: Vec<String> = items.collect();
        items.sort();
        items.dedup();
        Self::List(items)
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Word(word) => (*word).into(),
            Self::List(items) => items.clone().into(),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Word(word) => (*word).to_owned(),
            Self::List(items) if items.is_empty() => "nobody and nothing".to_owned(),
            Self::List(items) => items.join(", "),
        }
    }
}

impl Report {
    /// How many passed.
    pub fn passed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.passed).count()
    }

    /// How many failed.
    pub fn failed(&self) -> usize {
        self.outcomes.len() - self.passed()
    }

    /// `{"assertions":[…],"passed":n,"failed":n}`
    pub fn to_value(&self) -> Value {
        let assertions: Vec<Value> = self.outcomes.iter().map(Outcome::to_value).collect();
        json!({ "assertions": assertions, "passed": self.passed(), "failed": self.failed() })
    }

    /// One line that sums up, before it each failure with its place.
    pub fn to_text(&self, file: &str) -> String {
        let mut text = String::new();
        for outcome in self.outcomes.iter().filter(|outcome| !outcome.passed) {
            text.push_str(&outcome.to_text(file));
        }
        text.push_str(&format!(
            "{file}: {} passed, {} failed\n",
            self.passed(),
            self.failed()
        ));
        text
    }
}

impl Outcome {
    fn to_value(&self) -> Value {
        let mut members = Map::new();
        let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
        if let Some(test) = &self.test {
            put("test", test.as_str().into());
        }
        put("assertion", self.assertion.as_str().into());
        put("expected", self.expected.to_value());
        put("actual", self.actual.to_value());
        put("passed", self.passed.into());
        put("line", self.place.line.into());
        put("column", self.place.column.into());
        if !self.missing_context.is_empty() {
            put("missing_context", self.missing_context.clone().into());
        }
        if !self.differences.is_empty() {
            put("differences", self.differences.clone().into());
        }
        if let Some(error) = &self.error {
            put("error", error.as_str().into());
        }
        if let Some(explanation) = &self.explanation {
            put("explanation", explanation.as_str().into());
        }
        Value::Object(members)
    }

    fn to_text(&self, file: &str) -> String {
        let mut text = format!("{file}:{}: failed: {}", self.place, self.assertion);
        if let Some(test) = &self.test {
            text.push_str(&format!(" ({test})"));
        }
        text.push_str(&format!("\n  expected {}", self.expected.text()));
        match &self.error {
            Some(error) => text.push_str(&format!("\n  error: {error}\n")),
            None => text.push_str(&format!("\n  found    {}\n", self.actual.text())),
        }
        if !self.missing_context.is_empty() {
            text.push_str(&format!("  missing: {}\n", self.missing_context.join(", ")));
        }
        for difference in &self.differences {
            text.push_str(&format!("  {difference}\n"));
        }
        for line in self.explanation.iter().flat_map(|tree| tree.lines()) {
            text.push_str(&format!("  | {line}\n"));
        }
        text
    }
}
