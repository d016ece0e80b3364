//! States that never were: contextual relationships and simulations, against the reference of the state they imagine.

use std::collections::BTreeMap;
use std::sync::Arc;

use inferadb_actors::{CheckRequest, Consistency, SimulateRequest, Vault, VaultError, WriteRequest};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::Format;

use crate::Trial;
use crate::model;
use crate::past::{self, Question, State, base, decided, relationship};
use crate::reference::{Answer, Node};
use crate::world::{CAVEATS, Dice, Who, World};

/// What is asked of one imagined state.
const CHECKS: usize = 24;

/// Random relationships that fit the state's schema, each once.
fn related(dice: &mut Dice, state: &State, most: usize) -> Vec<Relationship> {
    let fresh = state.related(dice);
    let mut seen = std::collections::BTreeSet::new();
    let some = (0..most).filter_map(|_| {
        let edge = fresh.get(dice.below(fresh.len().max(1)))?;
        seen.insert(past::key(edge)).then(|| relationship(edge))
    });
    some.collect()
}

/// A state that is only imagined, and what the reference says of it for the subject that is asked about.
struct Imagined {
    state: State,
    answers: BTreeMap<Node, Answer>,
}

impl Imagined {
    /// `state` with relationships touched.
    fn of(state: &State, touch: &[Relationship], questions: &[Question]) -> Self {
        let mut state = state.clone();
        state.apply(&WriteRequest {
            touch: touch.to_vec(),
            ..WriteRequest::default()
        });
        let answers = state.answers(&questions[0]);
        Self { state, answers }
    }

    /// Whether what was found is what the reference says; a name that the schema does not know is an error.
    fn holds(&self, found: Result<&Decision, &VaultError>, question: &Question) -> bool {
        match self.answers.get(&question.node) {
            Some(expected) => decided(found, expected),
            None => {
                let unknown = ["unknown_type", "unknown_permission"];
                matches!(found, Err(VaultError::Invalid { code, .. }) if unknown.contains(code))
            }
        }
    }
}

impl Trial {
    /// Asks with relationships of the request's own, and simulates changes and schemas; what is stored stays as it is.
    pub async fn imagine(
        &mut self,
        vault: &std::sync::Arc<Vault>,
        who: &Who,
        request: [Option<bool>; CAVEATS],
    ) {
        let state = self.state();
        let shared = related(&mut self.dice, &state, 3);
        let own = related(&mut self.dice, &state, 3);
        let simulated = self.simulation(&state);
        let mut nodes = state.nodes();
        nodes.extend(simulated.0.nodes());
        let questions: Vec<Question> = (0..CHECKS).map(|_| self.question(&nodes, who, request)).collect();
        self.ask_contextual(vault, &state, &questions, &shared, &own)
            .await;
        self.ask_simulated(vault, &state, &questions, &own, simulated)
            .await;
    }

    fn question(&mut self, nodes: &[Node], who: &Who, request: [Option<bool>; CAVEATS]) -> Question {
        Question {
            node: nodes[self.dice.below(nodes.len())].clone(),
            who: who.clone(),
            request,
            now: self.now,
        }
    }

    async fn ask_contextual(
        &mut self,
        vault: &std::sync::Arc<Vault>,
        state: &State,
        questions: &[Question],
        shared: &[Relationship],
        own: &[Relationship],
    ) {
        let stored = Imagined::of(state, &[], questions);
        let with_own = Imagined::of(state, own, questions);
        let with_shared = Imagined::of(state, shared, questions);
        let with_both = Imagined::of(&with_shared.state, own, questions);
        let now = base(self.now);
        let checks: Vec<CheckRequest> = questions
            .iter()
            .enumerate()
            .map(|(at, question)| CheckRequest {
                contextual: if at % 2 == 0 { own.into() } else { Arc::default() },
                trace: at % 5 == 0,
                ..question.check()
            })
            .collect();
        for (check, question) in checks.iter().zip(questions).step_by(2) {
            let found = vault.check(check, Consistency::FullyConsistent, now).await;
            let decision = found.as_ref().map(|answer| &answer.decision);
            assert!(
                with_own.holds(decision, question),
                "seed {}: {question:?} with {own:#?}\nfound {found:?}\n{}",
                self.seed,
                state.describe()
            );
            self.note(&stored, &with_own, question);
        }
        let batch = vault
            .check_batch_with(&checks, shared, Consistency::FullyConsistent, now)
            .await;
        for (at, (found, question)) in batch.unwrap().results.iter().zip(questions).enumerate() {
            let imagined = if at % 2 == 0 { &with_both } else { &with_shared };
            let decision = found.as_ref().map(|answer| &answer.decision);
            assert!(
                imagined.holds(decision, question),
                "seed {}: {question:?} in a batch with {shared:#?}, check {at} {own:#?}\nfound {found:?}\n{}",
                self.seed,
                state.describe()
            );
            // Only what rests on nothing but stored relationships may be remembered.
            let plain = shared.is_empty() && (at % 2 == 1 || own.is_empty());
            assert!(plain || !found.as_ref().is_ok_and(|answer| answer.cached));
            self.note(&stored, imagined, question);
        }
    }

    /// The state after a random simulation, and the simulation.
    fn simulation(&mut self, state: &State) -> (State, SimulateRequest) {
        let mut after = state.clone();
        let schema = self.dice.chance(40).then(|| {
            let model = match self.dice.chance(40) {
                true => model::random(&mut self.dice),
                false => None,
            };
            after.is_model = model.is_some();
            let (types, text) = model.unwrap_or_else(|| {
                let world = World::random(&mut self.dice);
                (world.types.clone(), world.text())
            });
            after.types = types;
            text
        });
        let mut changes = WriteRequest {
            touch: related(&mut self.dice, &after, 4),
            ..WriteRequest::default()
        };
        let touched: Vec<_> = changes.touch.iter().map(Relationship::key).collect();
        for edge in state.stored.values() {
            let key = relationship(edge).key();
            if self.dice.chance(15) && !touched.contains(&key) {
                changes.delete.push(key);
            }
        }
        after.apply(&changes);
        let request = SimulateRequest {
            touch: changes.touch,
            delete: changes.delete,
            schema,
            schema_format: match after.is_model {
                true => Format::OpenFga,
                false => Format::Native,
            },
            checks: Vec::new(),
        };
        (after, request)
    }

    async fn ask_simulated(
        &mut self,
        vault: &std::sync::Arc<Vault>,
        state: &State,
        questions: &[Question],
        own: &[Relationship],
        (after, mut request): (State, SimulateRequest),
    ) {
        let same_schema = request.schema.is_none();
        let has_own = |at: usize| same_schema && at.is_multiple_of(4);
        let checks = questions.iter().enumerate().map(|(at, question)| CheckRequest {
            contextual: if has_own(at) { own.into() } else { Arc::default() },
            ..question.check()
        });
        request.checks = checks.collect();
        let told = request.clone();
        let now = base(self.now);
        let simulation = vault.simulate(request, Consistency::FullyConsistent, now).await;
        let simulation = simulation.unwrap();
        assert_eq!(simulation.revision, self.head);
        let stored = Imagined::of(state, &[], questions);
        let plain = [
            Imagined::of(state, &[], questions),
            Imagined::of(&after, &[], questions),
        ];
        let contextual = [
            Imagined::of(state, own, questions),
            Imagined::of(&after, own, questions),
        ];
        let misfits = state.stored.len() - after.fitting(state.stored.values());
        let ignored: u64 = simulation.ignored.iter().map(|(_, count)| count).sum();
        if !same_schema {
            assert_eq!(
                ignored, misfits as u64,
                "seed {}: {:?}",
                self.seed, simulation.ignored
            );
        }
        for (at, (found, question)) in simulation.results.iter().zip(questions).enumerate() {
            let sides = if has_own(at) { &contextual } else { &plain };
            for (side, found) in sides.iter().zip([&found.before, &found.after]) {
                assert!(
                    side.holds(found.as_ref(), question),
                    "seed {}: {question:?} simulated, {told:#?}\nfound {found:?}\n{}",
                    self.seed,
                    state.describe()
                );
                self.note(&stored, side, question);
            }
        }
    }

    fn note(&mut self, stored: &Imagined, imagined: &Imagined, question: &Question) {
        self.tally.imagined += 1;
        let changed = stored.answers.get(&question.node) != imagined.answers.get(&question.node);
        self.tally.different += u64::from(changed);
    }
}
