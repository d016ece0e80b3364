//! A random world's schema as an OpenFGA model, as far as that language can say it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use inferadb_engine::schema::Format;

use crate::random_world;
use crate::world::{CAVEATS, Class, Dice, Expr, Type};

/// A random schema that a model can say, and the model; `None` where what came out is none (a relation that nobody can have, or
/// one defined by itself).
pub fn random(dice: &mut Dice) -> Option<(Vec<Type>, String)> {
    let world = random_world(dice);
    let known = world.types.clone();
    let mut types = world.types;
    for held in &mut types {
        let relations = held.relations.clone();
        for (name, expr) in &mut held.permissions {
            *expr = sayable(expr, name, &relations, &known);
        }
    }
    let text = text(&types);
    Format::OpenFga.compile(&text).is_ok().then_some((types, text))
}

/// An expression that comes close: models know no `nil`, `self` and `all`, and their `from` looks at plain objects alone.
fn sayable(expr: &Expr, of: &str, relations: &BTreeMap<String, Vec<Class>>, types: &[Type]) -> Expr {
    let go = |expr: &Expr| sayable(expr, of, relations, types);
    let first = || Expr::Member(relations.keys().next().cloned().unwrap_or_default());
    match expr {
        Expr::Nil | Expr::Itself => first(),
        // In one direction only: most of what goes in a circle is refused.
        Expr::Member(name) if !relations.contains_key(name) && name.as_str() <= of => first(),
        Expr::Member(name) => Expr::Member(name.clone()),
        Expr::Union(operands) => Expr::Union(operands.iter().map(go).collect()),
        Expr::Intersection(operands) => Expr::Intersection(operands.iter().map(go).collect()),
        Expr::Exclusion(left, right) => Expr::Exclusion(Box::new(go(left)), Box::new(go(right))),
        Expr::Any(left, right) | Expr::All(left, right) => {
            let classes = relations.get(left).map_or(&[][..], Vec::as_slice);
            let plain = classes.iter().all(|class| matches!(class, Class::Object(_)));
            let leads = classes.iter().any(|class| {
                types
                    .get(class.of())
                    .is_some_and(|held| held.names().contains(right))
            });
            match plain && leads {
                true => Expr::Any(left.clone(), right.clone()),
                false => Expr::Member(left.clone()),
            }
        }
    }
}

fn text(types: &[Type]) -> String {
    let mut text = String::from("model\n  schema 1.1\n");
    for (at, held) in types.iter().enumerate() {
        writeln!(text, "\ntype t{at}\n  relations").unwrap();
        for (name, classes) in &held.relations {
            let classes: Vec<String> = classes.iter().flat_map(restrictions).collect();
            writeln!(text, "    define {name}: [{}]", classes.join(", ")).unwrap();
        }
        for (name, expr) in &held.permissions {
            writeln!(text, "    define {name}: {}", said(expr)).unwrap();
        }
    }
    for at in 0..CAVEATS {
        write!(text, "\ncondition c{at}(v{at}: bool) {{\n  v{at}\n}}\n").unwrap();
    }
    text
}

/// The class alone and under every condition; nothing expires in a model.
fn restrictions(class: &Class) -> Vec<String> {
    let plain = match class {
        Class::Object(of) => format!("t{of}"),
        Class::Wildcard(of) => format!("t{of}:*"),
        Class::Userset(of, name) => format!("t{of}#{name}"),
    };
    let under = (0..CAVEATS).map(|at| format!("{plain} with c{at}"));
    std::iter::once(plain.clone()).chain(under).collect()
}

fn said(expr: &Expr) -> String {
    let join = |operands: &[Expr], sign: &str| {
        let operands: Vec<String> = operands.iter().map(said).collect();
        format!("({})", operands.join(sign))
    };
    match expr {
        Expr::Member(name) => name.clone(),
        Expr::Union(operands) => join(operands, " or "),
        Expr::Intersection(operands) => join(operands, " and "),
        Expr::Exclusion(left, right) => format!("({} but not {})", said(left), said(right)),
        Expr::Any(left, right) => format!("{right} from {left}"),
        Expr::Nil | Expr::Itself | Expr::All(..) => unreachable!("models cannot say it"),
    }
}
