//! Memory caps under random work: the sum never passes its bound by more than what came in at once, and answers stay right.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferadb_actors::{
    AccountId, Backend, CheckRequest, Consistency, Pass, Platform, SchemaWrite, Settings, Vault, VaultId,
    WriteRequest, now,
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
        let mut ids = Vec::new();
        for _ in 0..vaults {
            let id = platform.create_vault(account, "small").await.unwrap().id;
            let (vault, _pass) = platform.enter(id, account).await.unwrap();
            let schema = SchemaWrite {
                text: SCHEMA.into(),
                format: Format::Native,
                force: false,
            };
            vault.put_schema(schema).await.unwrap();
            ids.push(id);
        }
        Self {
            platform,
            account,
            stored: ids.iter().map(|id| (*id, BTreeSet::new())).collect(),
            ids,
        }
    }

    async fn enter(&self, id: VaultId) -> (Arc<Vault>, Pass) {
        self.platform.enter(id, self.account).await.unwrap()
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
    /// The most that one write and the rows it touches can add before anybody notices.
    const AT_ONCE: usize = 64 << 10;
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
            assert!(
                most <= total + AT_ONCE,
                "seed {seed}: {most} bytes held of {total}"
            );
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
    for id in &world.ids {
        world.check(&mut Random(5), *id).await;
    }
}
