//! Random subjects, contexts, writes and filters that suit a state.

use std::collections::BTreeSet;

use inferadb_actors::{RelationshipFilter, WriteRequest};
use inferadb_engine::noun::Name;

use super::past::{State, key, relationship};
use super::world::{self, Class, Dice, OBJECTS, Who};

pub fn random_subject(dice: &mut Dice, state: &State) -> Who {
    let of = dice.below(state.types.len());
    let class = match dice.below(10) {
        0 => Class::Wildcard(of),
        1..4 => {
            let names: Vec<String> = state.types[of].names().into_iter().collect();
            Class::Userset(of, names[dice.below(names.len())].clone())
        }
        _ => Class::Object(of),
    };
    let object = match class {
        Class::Wildcard(_) => 0,
        _ => dice.below(OBJECTS),
    };
    Who { class, object }
}

pub fn random_request(dice: &mut Dice) -> [Option<bool>; world::CAVEATS] {
    std::array::from_fn(|_| dice.chance(25).then(|| dice.chance(50)))
}

/// A random write that fits the state's schema.
pub fn random_write(dice: &mut Dice, state: &State) -> WriteRequest {
    let mut request = WriteRequest::default();
    let mut seen = BTreeSet::new();
    let fresh = state.related(dice);
    for _ in 0..1 + dice.below(6) {
        let stored = state.stored.len();
        if stored > 0 && dice.chance(45) {
            let edge = state.stored.values().nth(dice.below(stored)).unwrap();
            if seen.insert(key(edge)) {
                request.delete.push(relationship(edge).key());
            }
        } else if !fresh.is_empty() {
            let edge = &fresh[dice.below(fresh.len())];
            if seen.insert(key(edge)) {
                match dice.chance(30) && !state.stored.contains_key(&key(edge)) {
                    true => request.create.push(relationship(edge)),
                    false => request.touch.push(relationship(edge)),
                }
            }
        }
    }
    request
}

pub fn random_filter(dice: &mut Dice, state: &State) -> RelationshipFilter {
    let of = dice.below(state.types.len());
    let name = |text: &str| Name::parse(text).unwrap();
    let id = |dice: &mut Dice| world::object_id(dice.below(OBJECTS));
    RelationshipFilter {
        resource_type: Some(name(&format!("t{of}"))),
        relation: dice.chance(70).then(|| name(&format!("r{}", dice.below(3)))),
        resource_id: dice.chance(70).then(|| id(dice)),
        subject_id: dice.chance(40).then(|| id(dice)),
        ..RelationshipFilter::default()
    }
}
