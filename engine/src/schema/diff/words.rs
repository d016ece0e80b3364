//! The parts of a schema in words, by names alone, so that those of two schemas can be compared.

use crate::schema::{Allowed, ArrowMode, CaveatType, Expr, MemberId, Schema, Slot, SlotSubject};

/// `type#member`
pub(super) fn member_name(schema: &Schema, id: MemberId) -> String {
    let Some(member) = schema.members().get(id.index()) else {
        return String::new();
    };
    let object_type = schema.types().get(member.object_type.index());
    format!(
        "{}#{}",
        object_type.map_or("", |held| held.name.as_str()),
        member.name
    )
}

fn short_name(schema: &Schema, id: MemberId) -> &str {
    schema
        .members()
        .get(id.index())
        .map_or("", |member| member.name.as_str())
}

pub(super) fn subjects_of(schema: &Schema, slot: &Slot, allowed: Allowed) -> String {
    let subject_type = schema.types().get(slot.subject_type.index());
    let mut text = subject_type.map_or_else(String::new, |held| held.name.to_string());
    match slot.subject {
        SlotSubject::Object => {}
        SlotSubject::Wildcard => text.push_str(":*"),
        SlotSubject::Userset(member) => {
            text.push('#');
            text.push_str(short_name(schema, member));
        }
    }
    let caveat = allowed.caveat.and_then(|id| schema.caveats().get(id.index()));
    match (caveat, allowed.expiration) {
        (Some(caveat), expires) => {
            text.push_str(" with ");
            text.push_str(caveat.name.as_str());
            text.push_str(if expires { " and expiration" } else { "" });
        }
        (None, true) => text.push_str(" with expiration"),
        (None, false) => {}
    }
    text
}

/// An expression in words, with every operation within another in parentheses.
pub(super) fn expression(schema: &Schema, expr: &Expr) -> String {
    let mut text = String::new();
    write_expression(schema, expr, true, &mut text);
    text
}

/// Expressions are never deep: the compilers bound them.
fn write_expression(schema: &Schema, expr: &Expr, outermost: bool, text: &mut String) {
    let joined = |operands: &[&Expr], operator: &str, text: &mut String| {
        if !outermost {
            text.push('(');
        }
        for (at, operand) in operands.iter().enumerate() {
            if at > 0 {
                text.push_str(operator);
            }
            write_expression(schema, operand, false, text);
        }
        if !outermost {
            text.push(')');
        }
    };
    match expr {
        Expr::This => text.push_str("[stored]"),
        Expr::Nil => text.push_str("nil"),
        Expr::Itself => text.push_str("self"),
        Expr::Member(member) => text.push_str(short_name(schema, *member)),
        Expr::Union(operands) => joined(&operands.iter().collect::<Vec<_>>(), " + ", text),
        Expr::Intersection(operands) => joined(&operands.iter().collect::<Vec<_>>(), " & ", text),
        Expr::Exclusion(base, excluded) => joined(&[base, excluded], " - ", text),
        Expr::Arrow {
            relation,
            mode,
            targets,
        } => {
            text.push_str(short_name(schema, *relation));
            // An arrow without a target in any type has no name to show for it.
            let target = targets
                .first()
                .map_or("", |(_, target)| short_name(schema, *target));
            text.push_str(&match mode {
                ArrowMode::Any => format!("->{target}"),
                ArrowMode::All => format!(".all({target})"),
            });
        }
    }
}

/// An expression as a text that does not depend on how it is written: operands of unions and intersections are in one order,
/// each once, and those of a nested one of the same kind are among them.
pub(super) fn canonical(schema: &Schema, expr: &Expr) -> String {
    let (operator, operands) = match expr {
        Expr::Union(_) => (" + ", flattened(expr)),
        Expr::Intersection(_) => (" & ", flattened(expr)),
        Expr::Exclusion(base, excluded) => {
            return format!("({} - {})", canonical(schema, base), canonical(schema, excluded));
        }
        _ => return expression(schema, expr),
    };
    let operands = operands.into_iter();
    let mut operands: Vec<String> = operands.map(|operand| canonical(schema, operand)).collect();
    operands.sort();
    operands.dedup();
    match operands.as_slice() {
        [one] => one.clone(),
        _ => format!("({})", operands.join(operator)),
    }
}

/// The operands of a union or intersection, with those of its own kind taken apart.
fn flattened(expr: &Expr) -> Vec<&Expr> {
    let mut flat = Vec::new();
    let mut left = vec![expr];
    while let Some(next) = left.pop() {
        match (expr, next) {
            (Expr::Union(_), Expr::Union(operands))
            | (Expr::Intersection(_), Expr::Intersection(operands)) => {
                left.extend(operands);
            }
            _ => flat.push(next),
        }
    }
    flat
}

/// The type of a parameter as it is written.
pub(super) fn type_name(declared: &CaveatType) -> String {
    let simple = match declared {
        CaveatType::Any => "any",
        CaveatType::Bool => "bool",
        CaveatType::String => "string",
        CaveatType::Int => "int",
        CaveatType::Uint => "uint",
        CaveatType::Double => "double",
        CaveatType::Bytes => "bytes",
        CaveatType::Duration => "duration",
        CaveatType::Timestamp => "timestamp",
        CaveatType::IpAddress => "ipaddress",
        CaveatType::List(item) => return format!("list<{}>", type_name(item)),
        CaveatType::Map(item) => return format!("map<{}>", type_name(item)),
    };
    simple.to_owned()
}

/// A caveat's expression on one line. White space is kept as it is where it may stand in a string.
pub(super) fn on_one_line(expression: &str) -> String {
    if expression.contains(['"', '\'']) {
        return expression.trim().to_owned();
    }
    expression.split_whitespace().collect::<Vec<_>>().join(" ")
}
