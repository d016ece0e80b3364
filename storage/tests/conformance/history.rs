//! Random transactions, one after another and many at once, against a `BTreeMap`.

use std::collections::BTreeMap;

use inferadb_storage::kv::{KvError, RangeOptions, Transaction, Versionstamp};

use super::{Serializable, Snapshot, Space};

/// By the key's bytes: a versionstamp is not text, and the order of keys is what is looked at.
type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A small random number generator with a seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn name(&mut self) -> String {
        format!("k{}", self.below(12))
    }
}

/// A write of a random transaction.
#[derive(Clone, Debug)]
enum Op {
    Set(String, Vec<u8>),
    Add(String, i64),
    Clear(String),
    ClearRange(String, String),
    StampedValue(String, Vec<u8>),
    StampedKey(String, Vec<u8>),
}

impl Op {
    fn random(random: &mut Random) -> Self {
        match random.below(8) {
            0..=2 => Self::Set(random.name(), random.below(1000).to_le_bytes().to_vec()),
            3 => Self::Add(random.name(), random.below(100) as i64 - 50),
            4 | 5 => Self::Clear(random.name()),
            6 => Self::ClearRange(random.name(), random.name()),
            _ if random.below(2) == 0 => Self::StampedValue(random.name(), b"rest".to_vec()),
            _ => Self::StampedKey(random.name(), vec![1]),
        }
    }

    fn is_stamped(&self) -> bool {
        matches!(self, Self::StampedKey(..) | Self::StampedValue(..))
    }

    fn apply(&self, space: &Space, transaction: &mut dyn Transaction) {
        match self {
            Self::Set(key, value) => transaction.set(&space.key(key), value),
            Self::Add(key, delta) => transaction.add(&space.key(key), *delta),
            Self::Clear(key) => transaction.clear(&space.key(key)),
            Self::ClearRange(start, end) => transaction.clear_range(space.range(start, end)),
            Self::StampedValue(key, rest) => transaction.set_versionstamped_value(&space.key(key), rest),
            Self::StampedKey(prefix, value) => {
                transaction.set_versionstamped_key(&space.key(&format!("{prefix}/")), b"!", value);
            }
        }
    }

    fn apply_to_model(&self, model: &mut Model, stamp: Versionstamp) {
        match self {
            Self::Set(key, value) => drop(model.insert(key.clone().into_bytes(), value.clone())),
            Self::Add(key, delta) => {
                let mut held = model.get(key.as_bytes()).cloned().unwrap_or_default();
                held.resize(8, 0);
                let sum = i64::from_le_bytes(held.try_into().unwrap()).wrapping_add(*delta);
                model.insert(key.clone().into_bytes(), sum.to_le_bytes().to_vec());
            }
            Self::Clear(key) => drop(model.remove(key.as_bytes())),
            Self::ClearRange(start, end) => {
                model.retain(|key, _| key.as_slice() < start.as_bytes() || key.as_slice() >= end.as_bytes());
            }
            Self::StampedValue(key, rest) => {
                model.insert(key.clone().into_bytes(), [stamp.0.as_slice(), rest].concat());
            }
            Self::StampedKey(prefix, value) => {
                let key = [format!("{prefix}/").as_bytes(), &stamp.0, b"!"].concat();
                model.insert(key, value.clone());
            }
        }
    }
}

/// A range read: what was asked and found.
#[derive(Debug)]
struct Read {
    start: String,
    end: String,
    limit: usize,
    reverse: bool,
    found: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Read {
    async fn random(
        random: &mut Random,
        space: &Space,
        transaction: &dyn Transaction,
    ) -> Result<Self, KvError> {
        let (start, end) = (random.name(), random.name());
        let (limit, reverse) = (random.below(6) as usize, random.below(2) == 0);
        let isolation = if random.below(2) == 0 && limit == 0 {
            Snapshot
        } else {
            Serializable
        };
        let options = RangeOptions {
            limit,
            reverse,
            isolation,
        };
        let pairs = transaction.range(space.range(&start, &end), options).await?;
        let found = pairs
            .iter()
            .map(|(key, value)| (space.bytes(key), value.to_vec()))
            .collect();
        Ok(Self {
            start,
            end,
            limit,
            reverse,
            found,
        })
    }

    fn check(&self, model: &Model) {
        let mut inside: Vec<(Vec<u8>, Vec<u8>)> = model
            .iter()
            .filter(|(key, _)| {
                key.as_slice() >= self.start.as_bytes() && key.as_slice() < self.end.as_bytes()
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        if self.reverse {
            inside.reverse();
        }
        inside.truncate(self.limit);
        assert_eq!(self.found, inside, "{self:?}");
    }
}

/// Each transaction reads what a map would hold, its own writes included.
pub async fn as_a_map(space: Space) {
    let mut random = Random(7);
    let mut model = Model::new();
    for _ in 0..300 {
        let mut transaction = space.begin().await;
        let mut inside = model.clone();
        let mut ops = Vec::new();
        for _ in 0..random.below(10) {
            let op = Op::random(&mut random);
            // Stamped keys are tried by themselves: nothing is read after them.
            if !op.is_stamped() {
                op.apply(&space, &mut *transaction);
                op.apply_to_model(&mut inside, Versionstamp::default());
                ops.push(op);
            }
            let read = Read::random(&mut random, &space, &*transaction).await.unwrap();
            read.check(&inside);
            let name = random.name();
            let value = transaction.get(&space.key(&name), Serializable).await.unwrap();
            assert_eq!(
                value.map(|value| value.to_vec()),
                inside.get(name.as_bytes()).cloned()
            );
        }
        if random.below(4) > 0 {
            let stamp = transaction.commit().await.unwrap();
            ops.iter().for_each(|op| op.apply_to_model(&mut model, stamp));
        }
    }
    check_all(&space, &model).await;
}

/// Done one after another in the order of their stamps, all transactions that committed would have read the same.
pub async fn serial_order(space: Space) {
    let tasks: Vec<_> = (0..8)
        .map(|seed| {
            let space = space.clone();
            tokio::spawn(async move { run(space, Random(seed)).await })
        })
        .collect();
    let mut history = Vec::new();
    let mut conflicts = 0;
    for task in tasks {
        let (done, failed) = task.await.unwrap();
        history.extend(done);
        conflicts += failed;
    }
    assert!(
        conflicts > 0 && history.len() > 100,
        "{conflicts} conflicts, {} commits",
        history.len()
    );
    history.sort_by_key(|(stamp, ..)| *stamp);
    let mut model = Model::new();
    for (stamp, reads, ops) in &history {
        reads.iter().for_each(|read| read.check(&model));
        ops.iter().for_each(|op| op.apply_to_model(&mut model, *stamp));
    }
    check_all(&space, &model).await;
}

type Done = (Versionstamp, Vec<Read>, Vec<Op>);

async fn run(space: Space, mut random: Random) -> (Vec<Done>, usize) {
    let (mut done, mut conflicts) = (Vec::new(), 0);
    for _ in 0..60 {
        let mut transaction = space.begin().await;
        let mut reads = Vec::new();
        for _ in 0..random.below(3) {
            reads.push(Read::random(&mut random, &space, &*transaction).await.unwrap());
            tokio::task::yield_now().await;
        }
        // With a stamp of its own, a transaction has a place in the order that no other has.
        let mut ops = vec![Op::StampedValue("~".into(), Vec::new())];
        for _ in 0..random.below(3) {
            ops.push(Op::random(&mut random));
        }
        for op in &ops {
            op.apply(&space, &mut *transaction);
        }
        match transaction.commit().await {
            Ok(stamp) => done.push((stamp, reads, ops)),
            Err(KvError::Conflict) => conflicts += 1,
            Err(error) => assert_eq!(error, KvError::Conflict),
        }
    }
    (done, conflicts)
}

async fn check_all(space: &Space, model: &Model) {
    let options = RangeOptions {
        limit: 10_000,
        reverse: false,
        isolation: Snapshot,
    };
    let pairs = space.begin().await.range(space.all(), options).await.unwrap();
    let held: Model = pairs
        .iter()
        .map(|(key, value)| (space.bytes(key), value.to_vec()))
        .collect();
    assert_eq!(held, *model);
}
