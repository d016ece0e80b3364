//! Random worlds in vaults of one cluster that two server processes serve: whatever is written through either and whichever
//! is asked, each answer is that of the slow reference at the revision it names, and no older than it must be.
//!
//! Runs where `INFERADB_TEST_FDB_CLUSTER_FILE` names a cluster. `WORLDS_SEED=n` runs the one world of that seed; `WORLDS=n` sets how
//! many are tried.

#[path = "../../actors/tests/worlds/past.rs"]
#[allow(dead_code, reason = "the worlds of the actors use the rest")]
mod past;
#[path = "../../actors/tests/worlds/random.rs"]
#[allow(dead_code, reason = "the worlds of the actors use the rest")]
mod random;
#[path = "../../engine/tests/evaluate_random/reference.rs"]
#[allow(dead_code, reason = "the engine's own test uses the rest")]
mod reference;
#[path = "../../engine/tests/evaluate_random/world.rs"]
#[allow(dead_code, reason = "the engine's own test uses the rest")]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use inferadb_actors::{Revision, VaultId, WriteRequest};
use inferadb_engine::context;
use inferadb_engine::noun::{Relationship, RelationshipKey};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::past::{Past, Question, State};
use self::random::{random_request, random_subject, random_write};
use self::world::{CAVEATS, Dice, NOW, Type, Who, World};
use crate::harness::{ALL_SCOPES, Answer, Server, Stream, Tenant};

const WORLDS: u64 = 12;
const WRITERS: u64 = 3;
const READERS: u64 = 4;
const WRITES: usize = 16;
const READS: usize = 100;
/// Before anything of a world expires: a server asks the clock, which nobody sets, and is long before all of it.
const MOMENT: i64 = NOW - 21;

/// What was committed, at which revision.
enum Committed {
    Schema(Vec<Type>),
    Write(WriteRequest),
}

/// What was asked.
enum Asked {
    Check(Question),
    Batch(Vec<Question>),
    Stored,
}

/// What a server answered, and between which revisions the question was asked and answered.
struct Heard {
    asked: Asked,
    least: Revision,
    most: Revision,
    answer: Answer,
}

/// What the threads of one world share.
struct Scene<'a> {
    seed: u64,
    /// One vault, through each server.
    tenants: [Tenant<&'a Server>; 2],
    vault: VaultId,
    committed: Mutex<Vec<(Revision, Committed)>>,
    /// The latest revision that each server answered a write with.
    acknowledged: Mutex<[Revision; 2]>,
    heard: Mutex<Vec<Heard>>,
    questions: Vec<(Who, [Option<bool>; CAVEATS])>,
    /// How many writers are not done.
    writing: AtomicUsize,
}

/// What was compared, by kind.
#[derive(Debug, Default)]
struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    fn decided(&mut self, found: &Value) {
        self.count(match (found["decision"].as_str(), found["code"].as_str()) {
            (Some("allow"), _) => "allow",
            (Some("deny"), _) => "deny",
            (Some(_), _) => "conditional",
            (None, Some("recursive_exclusion")) => "undefined",
            (None, _) => "unknown",
        });
    }
}

fn key(key: &RelationshipKey) -> Value {
    let (resource, subject) = (key.resource.to_string(), key.subject.to_string());
    json!({ "resource": resource, "relation": key.relation.as_str(), "subject": subject })
}

/// The values that a context of a world may have.
fn values(value: impl Fn(&str) -> Option<bool>) -> Value {
    let names = (0..CAVEATS).map(|at| format!("v{at}"));
    names
        .filter_map(|name| Some((name.clone(), Value::Bool(value(&name)?))))
        .collect()
}

fn relationship(relationship: &Relationship) -> Value {
    let mut body = key(&relationship.key());
    if let Some(caveat) = &relationship.caveat {
        let context = values(|name| match caveat.context.get(name)? {
            context::Value::Bool(value) => Some(*value),
            other => panic!("no world has this: {other:?}"),
        });
        body["caveat"] = json!({ "name": caveat.name.as_str(), "context": context });
    }
    if let Some(expires_at) = relationship.expires_at {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(expires_at.0) * 1_000).unwrap();
        body["expires_at"] = json!(at.format(&Rfc3339).unwrap());
    }
    body
}

/// A relationship in JSON, however its moment and an empty context are spelled.
fn canonical(mut relationship: Value) -> String {
    if let Some(caveat) = relationship.get_mut("caveat") {
        let context = caveat.get("context").cloned().unwrap_or(json!({}));
        caveat["context"] = context;
    }
    if let Some(at) = relationship.get("expires_at") {
        let at = OffsetDateTime::parse(at.as_str().unwrap(), &Rfc3339).unwrap();
        relationship["expires_at"] = json!(at.unix_timestamp_nanos().to_string());
    }
    relationship.to_string()
}

fn body(request: &WriteRequest) -> Value {
    let all = |held: &[Relationship]| held.iter().map(relationship).collect::<Vec<_>>();
    let deleted: Vec<Value> = request.delete.iter().map(key).collect();
    json!({ "touch": all(&request.touch), "create": all(&request.create), "delete": deleted })
}

fn question(question: &Question) -> Value {
    let check = question.check();
    json!({
        "subject": check.subject.to_string(),
        "resource": check.resource.to_string(),
        "permission": check.permission.as_str(),
        "context": values(|name| question.request[name[1..].parse::<usize>().unwrap()]),
    })
}

/// Whether an answer, or what a batch has in its place, is the reference's.
fn agrees(found: &Value, expected: Option<&reference::Answer>) -> bool {
    let code = found.get("code").and_then(Value::as_str);
    let missing = || {
        let names = found["missing_context"].as_array().into_iter().flatten();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect::<BTreeSet<_>>()
    };
    match expected {
        Some(reference::Answer::Allow) => found["decision"] == "allow",
        Some(reference::Answer::Deny) => found["decision"] == "deny",
        Some(reference::Answer::Conditional(names)) => {
            found["decision"] == "conditional" && missing() == *names
        }
        Some(reference::Answer::Undefined) => code == Some("recursive_exclusion"),
        // The schema of that revision does not know the names.
        None => code.is_some_and(|code| code.starts_with("unknown_")),
    }
}

impl<'a> Scene<'a> {
    fn new(seed: u64, servers: [&'a Server; 2]) -> Self {
        let mut dice = Dice(seed);
        let world = World::random(&mut dice);
        let first = Tenant::new(servers[0], "two servers");
        let second = Tenant::of(servers[1], first.account.clone(), first.vault.clone());
        let vault: VaultId = first.vault.parse().unwrap();
        let body = first.put_schema(&world.text());
        let revision = Revision::decode(vault, body["revision"].as_str().unwrap()).unwrap();
        let state = State::of(&world.types);
        let questions = (0..3).map(|_| (random_subject(&mut dice, &state), random_request(&mut dice)));
        let questions = questions.collect();
        Self {
            seed,
            tenants: [first, second],
            vault,
            committed: Mutex::new(vec![(revision, Committed::Schema(world.types))]),
            acknowledged: Mutex::new([revision, Revision(Default::default())]),
            heard: Mutex::default(),
            questions,
            writing: AtomicUsize::new(0),
        }
    }

    fn revision(&self, body: &Value) -> Revision {
        Revision::decode(self.vault, body["revision"].as_str().unwrap()).unwrap()
    }

    fn acknowledge(&self, server: usize, revision: Revision, committed: Committed) {
        self.committed.lock().unwrap().push((revision, committed));
        let held = &mut self.acknowledged.lock().unwrap()[server];
        *held = revision.max(*held);
    }

    fn types(&self) -> Vec<Type> {
        let committed = self.committed.lock().unwrap();
        let schemas = committed
            .iter()
            .filter_map(|(revision, committed)| match committed {
                Committed::Schema(types) => Some((revision, types)),
                Committed::Write(_) => None,
            });
        schemas.max_by_key(|(revision, _)| **revision).unwrap().1.clone()
    }

    /// The newest state, as the cluster has it.
    fn head(&self) -> Revision {
        let body = json!({ "limit": 1, "consistency": "fully_consistent" });
        let answer = self.tenants[0].post("/v1/relationships/read", body);
        self.revision(&answer.expect(200))
    }

    fn write(&self, task: u64) {
        let mut dice = Dice(self.seed * 1_000 + task);
        // What this thread believes is stored, for something to delete.
        let mut believed = State::default();
        for _ in 0..WRITES {
            believed.types = self.types();
            let request = random_write(&mut dice, &believed);
            believed.apply(&request);
            let server = dice.below(2);
            let answer = self.tenants[server].write(body(&request));
            if answer.status == 200 {
                let revision = self.revision(&answer.json());
                self.acknowledge(server, revision, Committed::Write(request));
            } else if answer.status == 409 {
                // Another thread made it.
                answer.problem(409, "already_exists");
            } else {
                // Made for a schema that is no more.
                answer.problem(422, "relationship_does_not_fit_schema");
            }
        }
        self.writing.fetch_sub(1, Ordering::SeqCst);
    }

    fn change_schema(&self) {
        let mut dice = Dice(self.seed * 1_000 + 500);
        for turn in 0..3 {
            // Between the others' writes: a third of them, and two thirds.
            let threshold = (turn + 1) * WRITERS as usize * WRITES / 5;
            while self.writing.load(Ordering::SeqCst) > 0 && self.committed.lock().unwrap().len() < threshold
            {
                thread::yield_now();
            }
            let world = World::random(&mut dice);
            let server = dice.below(2);
            let path = "/v1/schema?force=true";
            let answer = self.tenants[server].put_schema_as(path, "text/plain", &world.text());
            let revision = self.revision(&answer.expect(200));
            self.acknowledge(server, revision, Committed::Schema(world.types));
        }
    }

    fn evict(&self) {
        for turn in 0.. {
            if self.writing.load(Ordering::SeqCst) == 0 {
                return;
            }
            let tenant = &self.tenants[turn % 2];
            let path = format!("/v1/vaults/{}/deactivate", tenant.vault);
            tenant.server.admin("POST", &path, None).expect(200);
            thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    fn read(&self, task: u64) {
        let mut dice = Dice(self.seed * 1_000 + 100 + task);
        for _ in 0..READS {
            let (who, request) = self.questions[dice.below(self.questions.len())].clone();
            let nodes = State::of(&self.types()).nodes();
            let node = nodes[dice.below(nodes.len())].clone();
            let one = Question {
                node,
                who,
                request,
                now: MOMENT,
            };
            let server = dice.below(2);
            let held = *self.acknowledged.lock().unwrap();
            let latest = held[0].max(held[1]);
            let (consistency, least) = match dice.below(4) {
                0 => (json!("fully_consistent"), latest),
                1 => (json!({ "at_least_as_fresh": latest.encode(self.vault) }), latest),
                _ => (json!("minimize_latency"), held[server]),
            };
            let (path, asked, mut body) = match dice.below(100) {
                0..12 => {
                    let all = nodes.into_iter().map(|node| Question { node, ..one.clone() });
                    let all: Vec<Question> = all.collect();
                    let checks: Vec<Value> = all.iter().map(question).collect();
                    ("/v1/check/batch", Asked::Batch(all), json!({ "checks": checks }))
                }
                12..22 => ("/v1/relationships/read", Asked::Stored, json!({ "limit": 1_000 })),
                _ => ("/v1/check", Asked::Check(one.clone()), question(&one)),
            };
            body["consistency"] = consistency;
            let answer = self.tenants[server].post(path, body);
            let most = match answer.status {
                200 => self.revision(&answer.json()),
                // Which state a refusal was about is not said.
                _ => self.head(),
            };
            let heard = Heard {
                asked,
                least,
                most,
                answer,
            };
            self.heard.lock().unwrap().push(heard);
        }
    }

    /// Every state there was, by what was acknowledged.
    fn past(&self) -> Past {
        let (mut past, mut state) = (Past::default(), State::default());
        let mut committed = self.committed.lock().unwrap();
        committed.sort_by_key(|(revision, _)| *revision);
        // A write that changes nothing has the revision of what it found.
        for at_once in committed.chunk_by(|one, other| one.0 == other.0) {
            for (_, committed) in at_once {
                match committed {
                    Committed::Schema(types) => state.types.clone_from(types),
                    Committed::Write(request) => state.apply(request),
                }
            }
            past.note(at_once[0].0, state.clone());
        }
        past
    }

    fn judge(&self, heard: &Heard, past: &Past, tally: &mut Tally) {
        let Heard {
            asked,
            least,
            most,
            answer,
        } = heard;
        let seed = self.seed;
        let body = answer.json();
        let wrong = |what: &dyn std::fmt::Debug| -> ! {
            let state = past.at(*most).describe();
            panic!("seed {seed}: {what:?} from {least:?} to {most:?}\nfound {answer:?}\n{state}")
        };
        if answer.status == 200 {
            assert!(
                most >= least,
                "seed {seed}: an answer from before {least:?}: {answer:?}"
            );
        }
        match asked {
            Asked::Check(question) => {
                let fits = |revision| agrees(&body, past.answer(revision, question).as_ref());
                let right = match answer.status {
                    200 => fits(*most),
                    400 | 422 => past.between(*least, *most).any(fits),
                    _ => false,
                };
                if !right {
                    wrong(&(question, past.answer(*most, question)));
                }
                tally.count("checked");
                tally.decided(&body);
            }
            Asked::Batch(questions) => {
                let results = body["results"].as_array().unwrap();
                assert_eq!((answer.status, results.len()), (200, questions.len()));
                for (question, found) in questions.iter().zip(results) {
                    let expected = past.answer(*most, question);
                    let found = found.get("error").unwrap_or(found);
                    if !agrees(found, expected.as_ref()) {
                        wrong(&(question, expected));
                    }
                    tally.count("batched");
                    tally.decided(found);
                }
            }
            Asked::Stored => {
                let found = body["relationships"].as_array().unwrap().iter().cloned();
                let found: BTreeSet<String> = found.map(canonical).collect();
                if found != expected(past.at(*most)) {
                    wrong(&"what is stored");
                }
                tally.count("read");
            }
        }
    }

    /// What both servers have and tell when all is over.
    fn judge_end(&self, past: &Past, tally: &mut Tally) {
        let committed = self.committed.lock().unwrap();
        let (first, last) = (committed[0].0, committed[committed.len() - 1].0);
        let revisions: Vec<Revision> = past.between(first, last).collect();
        for tenant in &self.tenants {
            let body = json!({ "limit": 1_000, "consistency": "fully_consistent" });
            let body = tenant.post("/v1/relationships/read", body).expect(200);
            assert_eq!(self.revision(&body), last, "seed {}", self.seed);
            let found = body["relationships"].as_array().unwrap().iter().cloned();
            let found: BTreeSet<String> = found.map(canonical).collect();
            assert_eq!(found, expected(past.at(last)), "seed {}", self.seed);
            let path = format!("/v1/watch?since={}", first.encode(self.vault));
            let token = tenant.token(ALL_SCOPES);
            let mut watch = Stream::open(tenant.server, &token, "GET", &path, &[], "");
            assert_eq!(watch.status, 200, "{}", watch.headers);
            assert_eq!(watch.event().unwrap().kind, "ready");
            for revision in &revisions[1..] {
                let event = watch.news().unwrap();
                let told = Revision::decode(self.vault, &event.id.clone().unwrap()).unwrap();
                assert_eq!(told, *revision, "seed {}: {event:?}", self.seed);
                tally.count("watched");
            }
        }
    }
}

fn expected(state: &State) -> BTreeSet<String> {
    let stored = state.stored.values().map(past::relationship);
    stored.map(|stored| canonical(relationship(&stored))).collect()
}

fn try_world(seed: u64, servers: [&Server; 2], tally: &mut Tally) {
    let scene = Scene::new(seed, servers);
    scene.writing.store(WRITERS as usize, Ordering::SeqCst);
    thread::scope(|scope| {
        let scene = &scene;
        (0..WRITERS).for_each(|task| drop(scope.spawn(move || scene.write(task))));
        (0..READERS).for_each(|task| drop(scope.spawn(move || scene.read(task))));
        scope.spawn(|| scene.evict());
        if seed.is_multiple_of(2) {
            scope.spawn(|| scene.change_schema());
        }
    });
    let past = scene.past();
    for heard in scene.heard.lock().unwrap().iter() {
        scene.judge(heard, &past, tally);
    }
    scene.judge_end(&past, tally);
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn answers_of_two_servers_among_writes_through_both_are_the_references() {
    let Ok(cluster_file) = std::env::var("INFERADB_TEST_FDB_CLUSTER_FILE") else {
        eprintln!("not run: no cluster is named");
        return;
    };
    let id = uuid::Uuid::new_v4();
    let server = |cache: Value| {
        let storage = json!({ "backend": "foundationdb", "cluster_file": cluster_file, "key_prefix": format!("test/two/{id}") });
        Server::with(json!({ "storage": storage, "cache": cache }))
    };
    // One that keeps what it decided, and one that soon forgets it.
    let (first, second) = (server(json!({})), server(json!({ "max_entries": 9 })));
    let seeds = match setting("WORLDS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + setting("WORLDS").unwrap_or(WORLDS),
    };
    let all = seeds.clone().count();
    let mut tally = Tally::default();
    for seed in seeds {
        eprintln!("seed {seed}");
        let servers = if seed % 4 < 2 {
            [&first, &second]
        } else {
            [&second, &first]
        };
        try_world(seed, servers, &mut tally);
    }
    eprintln!("{:?}", tally.0);
    if all >= 12 {
        for what in [
            "checked",
            "batched",
            "read",
            "watched",
            "allow",
            "deny",
            "conditional",
            "unknown",
        ] {
            assert!(tally.0.contains_key(what), "too plain: {:?}", tally.0);
        }
    }
}
