//! Memory caps under random work: the sum never passes its bound, and answers stay right.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferadb_actors::{
    AccountId, Backend, CacheSettings, CheckRequest, Consistency, Pass, Platform, Reach, SchemaWrite,
    Settings, Vault, VaultError, VaultId, Watch, WriteRequest, now,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, RelationshipKey, SubjectRef};
use inferadb_engine::schema::Format;

const SCHEMA: &str = "
definition user {}
definition document {
    relation viewer: user
    relation banned: user
    permission view = viewer - banned
}
";

/// A small generator of numbers (SplitMix64) that repeats from the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

fn relationship(document: usize, relation: &str, user: usize) -> Relationship {
    Relationship {
        resource: ObjectRef::parse(&format!("document:d{document}")).unwrap(),
        relation: Name::parse(relation).unwrap(),
        subject: SubjectRef::parse(&format!("user:u{user}")).unwrap(),
        caveat: None,
        expires_at: None,
    }
}

struct World {
    platform: Platform,
    account: AccountId,
    /// What each vault stores: document, relation, user.
    stored: HashMap<VaultId, BTreeSet<(usize, &'static str, usize)>>,
    ids: Vec<VaultId>,
}

impl World {
    async fn new(settings: Settings, vaults: usize) -> Self {
        let metrics = prometheus::Registry::new();
        let platform = Platform::start(Backend::Memory, settings, &metrics)
            .await
            .unwrap();
        let account = platform.create_account("memory").await.unwrap().id;
        let mut world = Self {
            platform,
            account,
            stored: HashMap::new(),
            ids: Vec::new(),
        };
        for _ in 0..vaults {
            world.add().await;
        }
        world
    }

    /// Creates one more vault, which is active then.
    async fn add(&mut self) -> VaultId {
        let id = self.platform.create_vault(self.account, "small").await;
        let id = id.unwrap().id;
        let (vault, _pass) = self.enter(id).await;
        let schema = SchemaWrite {
            text: SCHEMA.into(),
            format: Format::Native,
            force: false,
        };
        vault.put_schema(schema).await.unwrap();
        self.stored.insert(id, BTreeSet::new());
        self.ids.push(id);
        id
    }

    /// Lets a user view documents.
    async fn share(&self, id: VaultId, pairs: impl Iterator<Item = (usize, usize)>) {
        let (vault, _pass) = self.enter(id).await;
        let request = WriteRequest {
            touch: pairs
                .map(|(document, user)| relationship(document, "viewer", user))
                .collect(),
            ..WriteRequest::default()
        };
        vault.write(request).await.unwrap();
    }

    async fn enter(&self, id: VaultId) -> (Arc<Vault>, Pass) {
        self.platform.enter(id, self.account).await.unwrap()
    }

    async fn watch(&self, id: VaultId) -> Watch {
        let (vault, _pass) = self.enter(id).await;
        self.platform.watch(vault, None).await.unwrap()
    }

    async fn write(&mut self, random: &mut Random, id: VaultId) {
        let (vault, _pass) = self.enter(id).await;
        let stored = self.stored.get_mut(&id).unwrap();
        let mut touch = Vec::new();
        let mut delete: Vec<RelationshipKey> = Vec::new();
        let mut seen = BTreeSet::new();
        for _ in 0..=random.below(40) {
            let relation = ["viewer", "banned"][usize::from(random.below(4) == 0)];
            let one = (random.below(60), relation, random.below(40));
            if !seen.insert(one) {
                continue;
            }
            let relationship = relationship(one.0, one.1, one.2);
            if random.below(3) > 0 {
                stored.insert(one);
                touch.push(relationship);
            } else {
                stored.remove(&one);
                delete.push(relationship.key());
            }
        }
        let request = WriteRequest {
            touch,
            delete,
            ..WriteRequest::default()
        };
        vault.write(request).await.unwrap();
    }

    async fn check(&self, random: &mut Random, id: VaultId) {
        let (vault, _pass) = self.enter(id).await;
        let stored = &self.stored[&id];
        for _ in 0..=random.below(20) {
            let (document, user) = (random.below(62), random.below(42));
            let request = CheckRequest {
                subject: SubjectRef::parse(&format!("user:u{user}")).unwrap(),
                resource: ObjectRef::parse(&format!("document:d{document}")).unwrap(),
                permission: Name::parse("view").unwrap(),
                context: Arc::default(),
                contextual: Arc::default(),
                trace: false,
            };
            let answer = vault.check(&request, Consistency::MinimizeLatency, now()).await;
            let allowed =
                stored.contains(&(document, "viewer", user)) && !stored.contains(&(document, "banned", user));
            assert_eq!(
                answer.unwrap().decision == Decision::Allow,
                allowed,
                "{id} d{document} u{user}"
            );
        }
    }
}

#[actix::test]
async fn answers_stay_right_and_the_sum_within_its_bound() {
    for (seed, vaults, total, budget) in [
        (1, 40, 300_000, 1 << 20),
        (2, 12, 150_000, 20_000),
        (3, 60, 450_000, 4_000),
    ] {
        let settings = Settings {
            total_memory_bytes: total,
            memory_budget_bytes: budget,
            idle_timeout: None,
            ..Settings::default()
        };
        let mut world = World::new(settings, vaults).await;
        let mut random = Random(seed);
        // Some are pinned all the while, as by a watch: their actors stay, their rows need not.
        let mut pinned = Vec::new();
        for at in 0..4 {
            pinned.push(world.enter(world.ids[at]).await);
        }
        let mut most = 0;
        for _ in 0..1_500 {
            let id = world.ids[random.below(vaults)];
            match random.below(3) {
                0 => world.write(&mut random, id).await,
                _ => world.check(&mut random, id).await,
            }
            most = most.max(world.platform.held_bytes());
            assert!(most <= total, "seed {seed}: {most} bytes held of {total}");
        }
        let began = Instant::now();
        while world.platform.held_bytes() > total {
            assert!(began.elapsed() < Duration::from_secs(20), "stays over its bound");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(pinned.iter().all(|(vault, _)| vault.is_open()));
        drop(pinned);
        world.platform.stop(Duration::from_secs(10)).await;
        let began = Instant::now();
        while world.platform.held_bytes() > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "seed {seed}: something is left charged"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[actix::test]
async fn where_vaults_in_use_take_all_memory_a_further_one_is_refused_and_not_answered_wrongly() {
    let settings = Settings {
        total_memory_bytes: 40_000,
        idle_timeout: None,
        ..Settings::default()
    };
    let world = World::new(settings, 8).await;
    let mut inside = Vec::new();
    let mut refused = 0;
    for id in &world.ids {
        match world.platform.enter(*id, world.account).await {
            Ok(entered) => inside.push(entered),
            Err(error) => {
                assert!(error.to_string().contains("memory"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && !inside.is_empty(), "{refused} refused");
    inside.clear();
    // That there was no room is remembered for a moment.
    let began = Instant::now();
    while world.platform.enter(world.ids[7], world.account).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::task::yield_now().await;
    }
    for id in &world.ids {
        world.check(&mut Random(5), *id).await;
    }
}

#[actix::test]
async fn cold_vaults_make_room_for_a_row_of_a_hot_one_though_no_more_is_held_than_may_be() {
    const TOTAL: usize = 400_000;
    let settings = Settings {
        total_memory_bytes: TOTAL,
        memory_budget_bytes: 60_000,
        idle_timeout: None,
        // So that every check asks for the rows.
        cache: CacheSettings {
            enabled: false,
            ..Settings::default().cache
        },
        ..Settings::default()
    };
    let mut world = World::new(settings, 1).await;
    let hot = world.ids[0];
    // More than it may hold, so that rows come one by one.
    for document in 0..8 {
        world.share(hot, (0..200).map(|user| (document, user))).await;
    }
    world.platform.deactivate(hot, Reach::Everything).await.unwrap();
    // What a vault holds goes with its actor, shortly after it was evicted.
    let began = Instant::now();
    while world.platform.held_bytes() > 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.add().await;
    let each = world.platform.held_bytes();
    while world.platform.held_bytes() + 2 * each <= TOTAL {
        world.add().await;
    }
    let (vault, _pass) = world.enter(hot).await;
    assert_eq!((vault.stats().rows, world.platform.evictions()), (0, 1));
    let left = TOTAL - world.platform.held_bytes();
    let mut question = CheckRequest {
        subject: SubjectRef::parse("user:u7").unwrap(),
        resource: ObjectRef::parse("document:d0").unwrap(),
        permission: Name::parse("view").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    };
    let began = Instant::now();
    // A sweep also finds that the cold ones share more of their schema than they knew: some more than is left.
    for document in (0..8).cycle() {
        if vault.stats().row_bytes > left + 2 * each {
            break;
        }
        question.resource = ObjectRef::parse(&format!("document:d{document}")).unwrap();
        let answer = vault.check(&question, Consistency::MinimizeLatency, now());
        assert_eq!(answer.await.unwrap().decision, Decision::Allow);
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "no room for a row: {} bytes of rows, {left} left",
            vault.stats().row_bytes
        );
        tokio::task::yield_now().await;
    }
    assert!(world.platform.evictions() > 1);
}

#[actix::test]
async fn where_memory_stays_short_the_largest_that_nobody_watches_takes_no_requests() {
    const TOTAL: usize = 60_000;
    let settings = Settings {
        total_memory_bytes: TOTAL,
        // No rows: what is held is the vaults themselves, and their schemas, which nobody can take back.
        memory_budget_bytes: 1,
        idle_timeout: None,
        // Memory is looked after however late the threads may be.
        overload_lag: None,
        ..Settings::default()
    };
    let world = World::new(settings, 2).await;
    let (watched, other) = (world.ids[0], world.ids[1]);
    let _inside = [world.enter(watched).await, world.enter(other).await];
    let watch = world.watch(watched).await;
    for (id, relations) in [(watched, 800), (other, 400)] {
        let relations = (0..relations).map(|at| format!("relation r{at}: user\n"));
        let text = format!(
            "definition user {{}}\ndefinition d{{\n{}}}",
            relations.collect::<String>()
        );
        let (vault, _pass) = world.enter(id).await;
        let schema = SchemaWrite {
            text,
            format: Format::Native,
            force: true,
        };
        vault.put_schema(schema).await.unwrap();
    }
    assert!(world.platform.held_bytes() > TOTAL);
    let began = Instant::now();
    loop {
        let largest = world.platform.enter(watched, world.account).await;
        assert!(largest.is_ok(), "it could not be evicted though nobody came in");
        match world.platform.enter(other, world.account).await {
            Err(VaultError::RateLimited { limit, .. }) => break assert_eq!(limit, "fair_share"),
            Err(error) => panic!("{error}"),
            Ok(_) => {}
        }
        assert!(began.elapsed() < Duration::from_secs(20), "nobody is held");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(watch);
}

#[actix::test]
async fn where_memory_is_short_what_a_watch_may_want_is_left_to_the_log() {
    const TOTAL: usize = 60_000;
    const WRITES: usize = 250;
    let settings = Settings {
        total_memory_bytes: TOTAL,
        // No rows: what is held is the vaults themselves, and the changes that a watch may want.
        memory_budget_bytes: 1,
        idle_timeout: None,
        overload_lag: None,
        ..Settings::default()
    };
    let world = World::new(settings, 2).await;
    let (watched, other) = (world.ids[0], world.ids[1]);
    let mut watch = world.watch(watched).await;
    for document in 0..WRITES {
        world.share(watched, (0..5).map(|user| (document, user))).await;
    }
    let began = Instant::now();
    while world.platform.held_bytes() > TOTAL {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "a watch pins what nothing takes back"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for id in [watched, other] {
        world.enter(id).await;
    }
    let mut seen = 0;
    while seen < WRITES {
        seen += watch.next().await.unwrap().len();
    }
    assert_eq!(
        (seen, watch.position()),
        (WRITES, world.enter(watched).await.0.view_revision())
    );
}

#[actix::test]
async fn a_vault_that_is_to_let_go_lets_go_of_so_much_whatever_it_holds() {
    let settings = Settings {
        idle_timeout: None,
        ..Settings::default()
    };
    let world = World::new(settings, 1).await;
    let id = world.ids[0];
    world.share(id, (0..300).map(|document| (document, 1))).await;
    let (vault, _pass) = world.enter(id).await;
    decide(&vault, 300).await;
    let (before, asked) = (vault.bytes(), vault.stats().decision_bytes);
    assert!(asked > 0);
    let began = Instant::now();
    // A message that comes too late is sent again.
    while vault.bytes() + asked > before {
        assert!(began.elapsed() < Duration::from_secs(20), "it keeps what it has");
        vault.slim(asked).await;
    }
}

#[actix::test]
async fn decisions_and_rows_together_are_held_to_the_budget() {
    const BUDGET: usize = 60_000;
    let settings = Settings {
        memory_budget_bytes: BUDGET,
        idle_timeout: None,
        ..Settings::default()
    };
    let world = World::new(settings, 1).await;
    let id = world.ids[0];
    world.share(id, (0..400).map(|document| (document, 1))).await;
    let (vault, _pass) = world.enter(id).await;
    assert!(vault.stats().row_bytes > BUDGET / 2);
    decide(&vault, 400).await;
    vault.report_size();
    let stats = vault.stats();
    assert!(stats.row_bytes + stats.decision_bytes <= BUDGET, "{stats:?}");
}

/// Has the vault decide about so many documents.
async fn decide(vault: &Vault, documents: usize) {
    for document in 0..documents {
        let request = CheckRequest {
            subject: SubjectRef::parse("user:u1").unwrap(),
            resource: ObjectRef::parse(&format!("document:d{document}")).unwrap(),
            permission: Name::parse("view").unwrap(),
            context: Arc::default(),
            contextual: Arc::default(),
            trace: false,
        };
        let answer = vault.check(&request, Consistency::MinimizeLatency, now()).await;
        assert_eq!(answer.unwrap().decision, Decision::Allow);
    }
}

#[actix::test]
async fn a_vault_that_had_to_let_go_of_rows_is_loaded_again_once_there_is_room() {
    let settings = Settings {
        // Short, so that its actor looks often; somebody is inside all the while.
        idle_timeout: Some(Duration::from_millis(20)),
        ..Settings::default()
    };
    let world = World::new(settings, 1).await;
    let id = world.ids[0];
    let (vault, _pass) = world.enter(id).await;
    world.share(id, (0..300).map(|document| (document, 1))).await;
    assert!(vault.stats().resident);
    let began = Instant::now();
    // It may be loaded again before anybody looks.
    let mut went = false;
    while !went || !vault.stats().resident {
        assert!(began.elapsed() < Duration::from_secs(20), "it stays partial");
        if !went {
            vault.slim(1_000).await;
            went = !vault.stats().resident;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(vault.stats().rows, 300);
}
