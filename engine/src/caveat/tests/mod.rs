//! What caveats promise, table by table.

mod context;
mod errors;
mod language;
mod limits;
mod missing;
mod reference;

use super::{CaveatError, CompileError, Outcome, Program, compile};
use crate::context::{Context, Value};
use crate::schema::CaveatType;

/// Parameters from `name type` pairs, separated by commas: `a int, l list<string>`.
fn parameters(text: &str) -> Vec<(String, CaveatType)> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, declared) = pair.split_once(' ').unwrap();
            (name.to_owned(), declared_type(declared))
        })
        .collect()
}

fn declared_type(text: &str) -> CaveatType {
    let inner = |prefix: &str| text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('>'));
    if let Some(item) = inner("list<") {
        return CaveatType::List(Box::new(declared_type(item)));
    }
    if let Some(item) = inner("map<") {
        return CaveatType::Map(Box::new(declared_type(item)));
    }
    match text {
        "any" => CaveatType::Any,
        "bool" => CaveatType::Bool,
        "string" => CaveatType::String,
        "int" => CaveatType::Int,
        "uint" => CaveatType::Uint,
        "double" => CaveatType::Double,
        "bytes" => CaveatType::Bytes,
        "duration" => CaveatType::Duration,
        "timestamp" => CaveatType::Timestamp,
        "ipaddress" => CaveatType::IpAddress,
        other => panic!("no type `{other}`"),
    }
}

fn context<const N: usize>(values: [(&str, Value); N]) -> Context {
    values
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn list<const N: usize>(values: [Value; N]) -> Value {
    Value::List(values.into())
}

fn map<const N: usize>(values: [(&str, Value); N]) -> Value {
    Value::Map(context(values))
}

fn program(declared: &str, expression: &str) -> Program {
    compile(&parameters(declared), expression).unwrap_or_else(|errors| panic!("{expression}: {errors:?}"))
}

fn decide(declared: &str, expression: &str, request: &Context) -> Result<Outcome, CaveatError> {
    program(declared, expression).evaluate(&Context::new(), request)
}

fn compile_errors(declared: &str, expression: &str) -> Vec<CompileError> {
    match compile(&parameters(declared), expression) {
        Ok(_) => panic!("`{expression}` compiles"),
        Err(errors) => errors,
    }
}

fn missing<const N: usize>(names: [&str; N]) -> Result<Outcome, CaveatError> {
    Ok(Outcome::Missing(names.map(str::to_owned).into()))
}
