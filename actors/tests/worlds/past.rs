//! What a vault held at each of its revisions, and what the reference says of it.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use inferadb_actors::{
    Answer, ChangeOp, CheckRequest, RelationshipFilter, Revision, VaultError, WriteRequest,
};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::evaluate::{Decision, EvaluationError};
use inferadb_engine::noun::{
    CaveatRef, Name, ObjectRef, Relationship, RelationshipKey, SubjectRef, Timestamp,
};

use super::reference::{self, Node, Reference};
use super::world::{self, CAVEATS, Class, Dice, Edge, OBJECTS, Type, Who, World};

/// The worlds' moments are so many microseconds later here: far from the clock, by which creating asks what has expired.
const BASE: i64 = 4_000_000_000_000_000;

/// A moment of a world as a moment of the vault.
pub fn base(moment: i64) -> Timestamp {
    Timestamp(BASE + moment)
}

/// What tells an edge from others, as the store does: not its terms.
pub type EdgeKey = (usize, usize, String, Who);

pub fn key(edge: &Edge) -> EdgeKey {
    (
        edge.object_type,
        edge.object,
        edge.relation.clone(),
        edge.who.clone(),
    )
}

/// What a vault holds: a schema, and relationships, whether they fit it or not.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub types: Vec<Type>,
    /// Whether the schema is an OpenFGA model: nothing of it expires.
    pub is_model: bool,
    pub stored: BTreeMap<EdgeKey, Edge>,
}

/// One check.
#[derive(Debug, Clone)]
pub struct Question {
    pub node: Node,
    pub who: Who,
    pub request: [Option<bool>; CAVEATS],
    pub now: i64,
}

type Asked = (Revision, Who, [Option<bool>; CAVEATS], i64);

/// The states by revision. What the reference said is kept: one question answers for every node.
#[derive(Default)]
pub struct Past {
    states: BTreeMap<Revision, State>,
    answers: RefCell<HashMap<Asked, BTreeMap<Node, reference::Answer>>>,
}

impl State {
    pub fn of(types: &[Type]) -> Self {
        Self {
            types: types.to_vec(),
            is_model: false,
            stored: BTreeMap::new(),
        }
    }

    /// Random relationships that fit the schema.
    pub fn related(&self, dice: &mut Dice) -> Vec<Edge> {
        let mut edges = World::related(dice, &self.types);
        edges.iter_mut().for_each(|edge| {
            edge.expires_at = edge.expires_at.filter(|_| !self.is_model);
        });
        edges
    }

    /// Every member of every object.
    pub fn nodes(&self) -> Vec<Node> {
        let types = self.types.iter().enumerate();
        let members = types.flat_map(|(at, held)| held.names().into_iter().map(move |name| (at, name)));
        members
            .flat_map(|(at, name)| (0..OBJECTS).map(move |object| (at, name.clone(), object)))
            .collect()
    }

    pub fn apply(&mut self, request: &WriteRequest) {
        for written in request.touch.iter().chain(&request.create) {
            self.put(written);
        }
        for deleted in &request.delete {
            self.stored.remove(&parse_key(deleted));
        }
    }

    pub fn apply_change(&mut self, op: ChangeOp, relationship: &Relationship) {
        let known = self.stored.contains_key(&parse_key(&relationship.key()));
        assert_eq!(known, op != ChangeOp::Created, "{op:?} {relationship:?}");
        match op {
            ChangeOp::Created | ChangeOp::Updated => self.put(relationship),
            ChangeOp::Deleted => {
                self.stored.remove(&parse_key(&relationship.key()));
            }
        }
    }

    fn put(&mut self, written: &Relationship) {
        let edge = parse(written);
        self.stored.insert(key(&edge), edge);
    }

    /// Removes what matches; says how many did.
    pub fn delete(&mut self, filter: &RelationshipFilter) -> usize {
        let before = self.stored.len();
        self.stored.retain(|_, edge| {
            let stored = relationship(edge);
            let misses = [
                filter
                    .resource_type
                    .as_ref()
                    .is_some_and(|name| *name != stored.resource.object_type),
                filter
                    .resource_id
                    .as_ref()
                    .is_some_and(|id| *id != stored.resource.id),
                filter
                    .relation
                    .as_ref()
                    .is_some_and(|name| *name != stored.relation),
                filter
                    .subject_id
                    .as_ref()
                    .is_some_and(|id| *id != stored.subject.id),
            ];
            misses.contains(&true)
        });
        before - self.stored.len()
    }

    /// The world of what fits the schema.
    fn world(&self, request: [Option<bool>; CAVEATS]) -> World {
        World {
            types: self.types.clone(),
            edges: self
                .stored
                .values()
                .filter(|edge| self.fits(edge))
                .cloned()
                .collect(),
            request,
        }
    }

    fn fits(&self, edge: &Edge) -> bool {
        let held = self.types.get(edge.object_type);
        let relation = held.and_then(|held| held.relations.get(&edge.relation));
        let terms_fit = !self.is_model || edge.expires_at.is_none();
        terms_fit && relation.is_some_and(|classes| classes.contains(&edge.who.class))
    }

    /// How many of these fit the schema.
    pub fn fitting<'e>(&self, edges: impl Iterator<Item = &'e Edge>) -> usize {
        edges.filter(|edge| self.fits(edge)).count()
    }

    /// What the reference says of every node, for the question's subject; nothing where the schema does not know that.
    pub fn answers(&self, question: &Question) -> BTreeMap<Node, reference::Answer> {
        if !self.knows_subject(question) {
            return BTreeMap::new();
        }
        let world = self.world(question.request);
        let mut answers = Reference::answers(&world, &question.who, question.now);
        answers.retain(|node, _| self.has(node.0, &node.1));
        answers
    }

    fn has(&self, at: usize, name: &String) -> bool {
        self.types.get(at).is_some_and(|held| held.names().contains(name))
    }

    /// Whether the schema knows what a question names.
    pub fn knows(&self, question: &Question) -> bool {
        self.knows_subject(question) && self.has(question.node.0, &question.node.1)
    }

    fn knows_subject(&self, question: &Question) -> bool {
        match &question.who.class {
            Class::Userset(of, name) => self.has(*of, name),
            class => class.of() < self.types.len(),
        }
    }

    pub fn describe(&self) -> String {
        let world = self.world([None; CAVEATS]);
        format!("{}{:#?}", world.text(), self.stored.values())
    }
}

impl Past {
    pub fn note(&mut self, revision: Revision, state: State) {
        if let Some(known) = self.states.get(&revision) {
            assert!(
                known.stored.keys().eq(state.stored.keys()),
                "two states of one revision"
            );
        }
        self.states.insert(revision, state);
    }

    pub fn at(&self, revision: Revision) -> &State {
        self.states
            .get(&revision)
            .unwrap_or_else(|| panic!("{revision:?} is no revision of the vault"))
    }

    /// What the reference says; `None` where the schema of the time does not know the question's names.
    pub fn answer(&self, revision: Revision, question: &Question) -> Option<reference::Answer> {
        let state = self.at(revision);
        if !state.knows(question) {
            return None;
        }
        let asked = (revision, question.who.clone(), question.request, question.now);
        let mut answers = self.answers.borrow_mut();
        let known = answers.entry(asked).or_insert_with(|| {
            Reference::answers(&state.world(question.request), &question.who, question.now)
        });
        Some(known[&question.node].clone())
    }

    /// The states from one revision to another.
    pub fn between(&self, first: Revision, last: Revision) -> impl Iterator<Item = Revision> {
        self.states.range(first..=last).map(|(revision, _)| *revision)
    }
}

impl Question {
    pub fn check(&self) -> CheckRequest {
        CheckRequest {
            subject: subject(&self.who),
            resource: object(self.node.0, self.node.2),
            permission: Name::parse(&self.node.1).unwrap(),
            context: context(self.request).into(),
            contextual: Default::default(),
            trace: false,
        }
    }
}

/// A request's values.
pub fn context(request: [Option<bool>; CAVEATS]) -> Context {
    let values = request.iter().enumerate();
    values
        .filter_map(|(at, value)| Some((format!("v{at}"), Value::Bool((*value)?))))
        .collect()
}

pub fn agrees(found: &Result<Answer, VaultError>, expected: &reference::Answer) -> bool {
    decided(found.as_ref().map(|answer| &answer.decision), expected)
}

pub fn decided(found: Result<&Decision, &VaultError>, expected: &reference::Answer) -> bool {
    match (found, expected) {
        (Ok(decision), reference::Answer::Allow) => *decision == Decision::Allow,
        (Ok(decision), reference::Answer::Deny) => *decision == Decision::Deny,
        (Ok(decision), reference::Answer::Conditional(names)) => {
            let missing = names.iter().cloned().collect();
            *decision == Decision::Conditional { missing }
        }
        (Err(error), reference::Answer::Undefined) => is_undefined(error),
        _ => false,
    }
}

pub fn is_undefined(error: &VaultError) -> bool {
    matches!(
        error,
        VaultError::Evaluation(EvaluationError::RecursiveExclusion { .. })
    )
}

pub fn object(of: usize, at: usize) -> ObjectRef {
    ObjectRef {
        object_type: Name::parse(&format!("t{of}")).unwrap(),
        id: world::object_id(at),
    }
}

pub fn subject(who: &Who) -> SubjectRef {
    SubjectRef {
        object_type: Name::parse(&format!("t{}", who.class.of())).unwrap(),
        id: who.id(),
        relation: match &who.class {
            Class::Userset(_, name) => Some(Name::parse(name).unwrap()),
            _ => None,
        },
    }
}

pub fn relationship(edge: &Edge) -> Relationship {
    let caveat = edge.caveat.map(|(caveat, stored)| CaveatRef {
        name: Name::parse(&format!("c{caveat}")).unwrap(),
        context: stored
            .into_iter()
            .map(|value| (format!("v{caveat}"), Value::Bool(value)))
            .collect(),
    });
    Relationship {
        resource: object(edge.object_type, edge.object),
        relation: Name::parse(&edge.relation).unwrap(),
        subject: subject(&edge.who),
        caveat,
        expires_at: edge.expires_at.map(base),
    }
}

fn number(text: &str) -> usize {
    text[1..].parse().unwrap()
}

fn parse_key(key: &RelationshipKey) -> EdgeKey {
    let of = number(key.subject.object_type.as_str());
    let is_wildcard = key.subject.id.is_wildcard();
    let class = match &key.subject.relation {
        Some(name) => Class::Userset(of, name.as_str().to_owned()),
        None if is_wildcard => Class::Wildcard(of),
        None => Class::Object(of),
    };
    let object = if is_wildcard {
        0
    } else {
        number(key.subject.id.as_str())
    };
    let resource = &key.resource;
    (
        number(resource.object_type.as_str()),
        number(resource.id.as_str()),
        key.relation.as_str().to_owned(),
        Who { class, object },
    )
}

fn parse(stored: &Relationship) -> Edge {
    let (object_type, object, relation, who) = parse_key(&stored.key());
    let caveat = stored.caveat.as_ref().map(|caveat| {
        let at = number(caveat.name.as_str());
        let value = caveat.context.get(&format!("v{at}"));
        (at, value.map(|value| *value == Value::Bool(true)))
    });
    Edge {
        object_type,
        object,
        relation,
        who,
        caveat,
        expires_at: stored.expires_at.map(|at| at.0 - BASE),
    }
}
