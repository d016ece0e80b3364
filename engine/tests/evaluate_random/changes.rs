//! Random overlays: the changes that lead to a random world from one before it.

use inferadb_engine::context::Value;
use inferadb_engine::noun::{CaveatRef, Name, ObjectRef, Relationship, SubjectRef, Timestamp};
use inferadb_engine::overlay::Overlay;
use inferadb_engine::schema::Schema;

use super::world::{self, CAVEATS, Class, Dice, Edge, NOW, World};

fn relationship(edge: &Edge) -> Relationship {
    let name = |text: String| Name::parse(&text).unwrap();
    Relationship {
        resource: ObjectRef {
            object_type: name(format!("t{}", edge.object_type)),
            id: world::object_id(edge.object),
        },
        relation: name(edge.relation.clone()),
        subject: SubjectRef {
            object_type: name(format!("t{}", edge.who.class.of())),
            id: edge.who.id(),
            relation: match &edge.who.class {
                Class::Userset(_, relation) => Some(name(relation.clone())),
                _ => None,
            },
        },
        caveat: edge.caveat.map(|(caveat, stored)| CaveatRef {
            name: name(format!("c{caveat}")),
            context: stored
                .map(|value| (format!("v{caveat}"), Value::Bool(value)))
                .into_iter()
                .collect(),
        }),
        expires_at: edge.expires_at.map(Timestamp),
    }
}

fn same_key(a: &Edge, b: &Edge) -> bool {
    (a.object_type, a.object, &a.relation, &a.who) == (b.object_type, b.object, &b.relation, &b.who)
}

/// The world before the overlay's changes: some relationships of `after` are not there yet, some have other terms, and
/// some are there that will not be. And the overlay of these changes.
pub fn before(dice: &mut Dice, after: &World, schema: &Schema) -> (World, Overlay) {
    let mut base = after.clone();
    let mut overlay = Overlay::new();
    base.edges.clear();
    for edge in &after.edges {
        let mut held = edge.clone();
        match dice.below(10) {
            0..5 => base.edges.push(held),
            5..8 => overlay.add(schema, &relationship(edge)).unwrap(),
            8 => {
                held.caveat = dice
                    .chance(50)
                    .then(|| (dice.below(CAVEATS), dice.chance(50).then(|| dice.chance(50))));
                held.expires_at = dice.chance(50).then(|| NOW - 20 + dice.below(60) as i64);
                base.edges.push(held);
                overlay.add(schema, &relationship(edge)).unwrap();
            }
            // Added though it is stored just so; or removed and added again.
            _ => {
                base.edges.push(held);
                overlay.remove(schema, &relationship(edge).key());
                overlay.add(schema, &relationship(edge)).unwrap();
            }
        }
    }
    for edge in World::related(dice, &after.types) {
        if after.edges.iter().any(|held| same_key(held, &edge)) {
            continue;
        }
        match dice.below(4) {
            0 | 1 => {
                overlay.remove(schema, &relationship(&edge).key());
                base.edges.push(edge);
            }
            // Removed though it is not stored; or added and removed again.
            2 => overlay.remove(schema, &relationship(&edge).key()),
            _ => {
                overlay.add(schema, &relationship(&edge)).unwrap();
                overlay.remove(schema, &relationship(&edge).key());
            }
        }
    }
    (base, overlay)
}
