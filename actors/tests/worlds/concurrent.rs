//! Many tasks at once on several threads and one or two servers: writers, schema changes, evictions and checks; judged afterwards by the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Arbiter;
use inferadb_actors::{
    AccountId, Answer, Consistency, Pass, Platform, Reach, Revision, SchemaWrite, StoreError, Vault,
    VaultError, VaultId, now,
};
use inferadb_engine::schema::Format;
use inferadb_storage::{ChangeKind, Store, Write};

use crate::past::{Past, Question, State, agrees, base, is_undefined};
use crate::support::Stage;
use crate::world::{CAVEATS, Dice, NOW, Type, World};
use crate::{random_request, random_subject, random_write, settings};

const THREADS: usize = 3;
const WRITERS: usize = 3;
const CHECKERS: usize = 4;
const WRITES: usize = 10;
const CHECKS: usize = 90;

/// An answer, and between which revisions it was given.
struct Heard {
    question: Question,
    least: Revision,
    most: Revision,
    found: Result<Answer, VaultError>,
}

/// What the tasks of one world share.
#[derive(Clone)]
struct Scene {
    seed: u64,
    /// Over the same stored data.
    servers: Vec<Platform>,
    store: Store,
    vault: VaultId,
    account: AccountId,
    /// The schemas by the revision they were stored at.
    schemas: Arc<Mutex<BTreeMap<Revision, Vec<Type>>>>,
    /// The latest revision that a write through each server was answered with.
    acknowledged: Arc<Mutex<Vec<Revision>>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    questions: Arc<Vec<(crate::world::Who, [Option<bool>; CAVEATS])>>,
}

impl Scene {
    fn acknowledge(&self, server: usize, revision: Revision) {
        let held = &mut self.acknowledged.lock().unwrap()[server];
        *held = revision.max(*held);
    }

    /// What reads of `server` show at least: what was written through it.
    fn own(&self, server: usize) -> Revision {
        self.acknowledged.lock().unwrap()[server]
    }

    /// What reads show that ask for all that was acknowledged, by whichever server.
    fn latest(&self) -> Revision {
        let held = self.acknowledged.lock().unwrap();
        held.iter().copied().max().unwrap()
    }

    async fn enter(&self, server: usize) -> (Arc<Vault>, Pass) {
        self.servers[server]
            .enter(self.vault, self.account)
            .await
            .unwrap()
    }

    fn schema(&self) -> (Revision, Vec<Type>) {
        let schemas = self.schemas.lock().unwrap();
        let (revision, types) = schemas.last_key_value().unwrap();
        (*revision, types.clone())
    }

    async fn write(self, task: u64) {
        let mut dice = Dice(self.seed * 1_000 + task);
        // What this task believes is stored, for something to delete.
        let mut believed = State::default();
        for _ in 0..WRITES {
            let (schema_revision, types) = self.schema();
            believed.types = types;
            let request = random_write(&mut dice, &believed);
            believed.apply(&request);
            if dice.chance(30) {
                let write = Write {
                    touch: request.touch,
                    create: request.create,
                    delete: request.delete,
                    preconditions: Vec::new(),
                    schema_revision: Some(schema_revision),
                    now: now(),
                };
                match self.store.write(self.vault, &write).await {
                    Ok(_) | Err(StoreError::AlreadyExists { .. } | StoreError::SchemaMoved) => {}
                    Err(error) => panic!("seed {}: {error}", self.seed),
                }
            } else {
                let server = dice.below(self.servers.len());
                let (vault, _pass) = self.enter(server).await;
                match vault.write(request).await {
                    Ok(revision) => self.acknowledge(server, revision),
                    // Made for a schema that is no more, or created by another task.
                    Err(VaultError::Misfit { .. } | VaultError::AlreadyExists(_)) => {}
                    Err(error) => panic!("seed {}: {error}", self.seed),
                }
            }
        }
    }

    async fn change_schema(self) {
        let mut dice = Dice(self.seed * 1_000 + 500);
        for _ in 0..2 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let world = World::random(&mut dice);
            let server = dice.below(self.servers.len());
            let (vault, _pass) = self.enter(server).await;
            let schema = SchemaWrite {
                text: world.text(),
                format: Format::Native,
                force: true,
            };
            let (revision, _) = vault.put_schema(schema).await.unwrap();
            self.schemas.lock().unwrap().insert(revision, world.types);
            self.acknowledge(server, revision);
        }
    }

    async fn evict(self) {
        for turn in 0..6 {
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            self.servers[turn % self.servers.len()]
                .deactivate(self.vault, Reach::Everything)
                .await
                .unwrap();
        }
    }

    async fn check(self, task: u64) {
        let mut dice = Dice(self.seed * 1_000 + 100 + task);
        for _ in 0..CHECKS {
            let (who, request) = self.questions[dice.below(self.questions.len())].clone();
            let (_, types) = self.schema();
            let nodes = State::of(&types).nodes();
            let node = nodes[dice.below(nodes.len())].clone();
            let question = Question {
                node,
                who,
                request,
                now: NOW,
            };
            let server = dice.below(self.servers.len());
            let (own, latest) = (self.own(server), self.latest());
            let (consistency, least) = match dice.below(4) {
                0 => (Consistency::FullyConsistent, latest),
                1 => (Consistency::AtLeast(latest), latest),
                _ => (Consistency::MinimizeLatency, own),
            };
            let (vault, _pass) = self.enter(server).await;
            if dice.chance(15) {
                let questions: Vec<Question> = nodes
                    .into_iter()
                    .map(|node| Question {
                        node,
                        ..question.clone()
                    })
                    .collect();
                let checks: Vec<_> = questions.iter().map(Question::check).collect();
                let batch = vault.check_batch(&checks, consistency, base(NOW)).await.unwrap();
                assert!(batch.revision >= least, "seed {}: a batch from before", self.seed);
                let heard = questions
                    .into_iter()
                    .zip(batch.results)
                    .map(|(question, found)| Heard {
                        question,
                        least: batch.revision,
                        most: batch.revision,
                        found,
                    });
                self.heard.lock().unwrap().extend(heard);
            } else {
                let found = vault.check(&question.check(), consistency, base(NOW)).await;
                let (least, most) = match &found {
                    Ok(answer) => {
                        assert!(
                            answer.revision >= least,
                            "seed {}: an answer from before",
                            self.seed
                        );
                        (answer.revision, answer.revision)
                    }
                    Err(_) => (least, self.store.snapshot(self.vault).await.unwrap().revision()),
                };
                self.heard.lock().unwrap().push(Heard {
                    question,
                    least,
                    most,
                    found,
                });
            }
        }
    }

    /// Every state there was, by the vault's own log.
    async fn past(&self) -> Past {
        let mut past = Past::default();
        let mut state = State::default();
        let mut after = Revision(inferadb_storage::kv::Versionstamp::default());
        let schemas = self.schemas.lock().unwrap().clone();
        loop {
            let changes = self.store.changes(self.vault, after, 100).await.unwrap();
            let Some(last) = changes.last() else {
                return past;
            };
            after = last.revision;
            for change in changes {
                match change.kind {
                    ChangeKind::Schema => state.types.clone_from(&schemas[&change.revision]),
                    ChangeKind::Settings => {}
                    ChangeKind::Relationships(changed) => {
                        for (op, relationship) in changed {
                            state.apply_change(op, &relationship);
                        }
                    }
                }
                past.note(change.revision, state.clone());
            }
        }
    }
}

/// Tries the world of a seed on so many servers; the answer is how many checks were judged.
pub async fn try_world(seed: u64, servers: usize) -> u64 {
    let mut dice = Dice(seed);
    let world = World::random(&mut dice);
    let stage = Stage::over(settings(seed), servers > 1 || seed.is_multiple_of(2)).await;
    let mut platforms = vec![stage.platform.clone()];
    while platforms.len() < servers {
        platforms.push(stage.neighbour(settings(seed + 1)).await);
    }
    let id = stage.vault().await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let schema = SchemaWrite {
        text: world.text(),
        format: Format::Native,
        force: false,
    };
    let (revision, _) = vault.put_schema(schema).await.unwrap();
    drop((vault, pass));
    let state = State::of(&world.types);
    let questions = (0..3).map(|_| (random_subject(&mut dice, &state), random_request(&mut dice)));
    let scene = Scene {
        seed,
        servers: platforms,
        store: stage.store.clone(),
        vault: id,
        account: stage.account,
        schemas: Arc::new(Mutex::new(BTreeMap::from([(revision, world.types.clone())]))),
        acknowledged: Arc::new(Mutex::new(vec![revision; servers])),
        heard: Arc::default(),
        questions: Arc::new(questions.collect()),
    };
    let threads: Vec<Arbiter> = (0..THREADS).map(|_| Arbiter::new()).collect();
    let (done, mut waiting) = tokio::sync::mpsc::channel::<()>(1);
    let mut count = 0;
    let mut spawn = |task: futures_util::future::BoxFuture<'static, ()>| {
        let done = done.clone();
        threads[count % THREADS].spawn(async move {
            task.await;
            // Not reached where the task panicked.
            let _ = done.send(()).await;
        });
        count += 1;
    };
    (0..WRITERS as u64).for_each(|task| spawn(Box::pin(scene.clone().write(task))));
    (0..CHECKERS as u64).for_each(|task| spawn(Box::pin(scene.clone().check(task))));
    spawn(Box::pin(scene.clone().evict()));
    if seed.is_multiple_of(3) {
        spawn(Box::pin(scene.clone().change_schema()));
    }
    drop(done);
    let mut ended = 0;
    while waiting.recv().await.is_some() {
        ended += 1;
    }
    assert_eq!(ended, count, "seed {seed}: a task panicked");
    let past = scene.past().await;
    let heard = std::mem::take(&mut *scene.heard.lock().unwrap());
    for Heard {
        question,
        least,
        most,
        found,
    } in &heard
    {
        let fits = |revision: Revision| match (past.answer(revision, question), found) {
            (Some(expected), _) => agrees(found, &expected),
            (None, Err(VaultError::Invalid { .. })) => true,
            (None, _) => false,
        };
        let right = match found {
            Ok(answer) => fits(answer.revision),
            Err(error) if is_undefined(error) || matches!(error, VaultError::Invalid { .. }) => {
                past.between(*least, *most).any(fits)
            }
            Err(_) => false,
        };
        if !right {
            let expected = past.answer(*most, question);
            panic!(
                "seed {seed}: {question:?} from {least:?} to {most:?}\nexpected {expected:?}\nfound {found:?}\n{}",
                past.at(*most).describe()
            );
        }
    }
    for thread in &threads {
        thread.stop();
    }
    for server in &scene.servers {
        server.stop(Duration::from_secs(30)).await;
    }
    heard.len() as u64
}
