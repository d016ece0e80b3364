//! Staging: a generation of a vault's relationships that is built beside the one that counts, in small transactions, and that
//! nobody sees until a switch makes it the one that counts, or that is swept away.
//!
//! A key beside the vault says that a generation is being built, and by whom: each transaction that adds to it reads that key, so that
//! nothing is added to what has been given up, and whoever builds it renews this [lease](super::lease) as it goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use inferadb_engine::noun::{Relationship, RelationshipKey};

use super::lease::{Lease, Stage};
use super::past::{decode_key, decode_terms, segments};
use super::retry::Retry;
use super::shape::ShapeCounts;
use super::vaults::require_vault;
use super::write::remove;
use super::{Breath, PIECE, Store, StoreError, VALUES_AT_ONCE};
use crate::codec::StoredTerms;
use crate::id::VaultId;
use crate::keys::{self, Keyspace, Order};
use crate::kv::{Isolation, RangeOptions, Transaction};

/// How old a lease is when it is renewed though nothing is added.
const RENEWED: Duration = Duration::from_secs(5 * 60);
/// The most generations of one vault that are built at a time.
const MAX_STAGINGS: usize = 4;
/// The most relationships, and about the most bytes, that one transaction stores: other writers wait that long.
const CHUNK: usize = 1_000;
const CHUNK_BYTES: usize = 1 << 20;

/// A state of a vault that is being built. Dropped before a switch it is swept away.
pub struct Staging {
    pub(super) store: Store,
    pub(super) space: Keyspace,
    renewals: u64,
    renewed_at: Instant,
    /// The highest key so far: what is above it cannot be there yet.
    highest: Option<Vec<u8>>,
    pub(super) counts: ShapeCounts,
    relationships: u64,
    /// Whether it was switched to, or is known to be gone.
    pub(super) is_settled: bool,
}

/// One change to what is being built.
pub(super) enum Staged {
    Put(RelationshipKey, Bytes),
    Remove(RelationshipKey),
    /// A relationship to be merged, under the segments of its key.
    Input(Vec<u8>, Bytes),
}

impl Store {
    /// Begins to build another state of `vault`.
    ///
    /// # Errors
    ///
    /// [`StoreError::VaultNotFound`], [`StoreError::TooManyImports`].
    pub async fn stage(&self, vault: VaultId) -> Result<Staging, StoreError> {
        let store = self.clone();
        see_through(async move {
            let mut retry = Retry::default();
            loop {
                match store.try_stage(vault).await {
                    Err(error) => retry.pause(error).await?,
                    done => return done,
                }
            }
        })
        .await
    }

    /// Begins to build the first state of a vault that does not exist yet.
    pub async fn stage_new(&self) -> Result<Staging, StoreError> {
        let store = self.clone();
        see_through(async move {
            let space = Keyspace {
                vault: VaultId::generate(),
                generation: 0,
            };
            let mut retry = Retry::default();
            loop {
                let mut transaction = store.engine().begin().await?;
                let lease = store.lease(0);
                transaction.set(&keys::staging(space), &lease.encode());
                match transaction.commit().await {
                    Ok(_) => return Ok(Staging::new(&store, space)),
                    Err(error) => retry.pause(error.into()).await?,
                }
            }
        })
        .await
    }

    async fn try_stage(&self, vault: VaultId) -> Result<Staging, StoreError> {
        let mut transaction = self.engine().begin().await?;
        let record = require_vault(&*transaction, vault, Isolation::Serializable).await?;
        let options = RangeOptions {
            limit: 1_000,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        let stagings = transaction.range(keys::stagings_of(vault), options).await?;
        // With those whose importer is gone, until a server has found that out and clears them.
        let is_built = |value: &Bytes| Lease::decode(value).is_ok_and(|lease| lease.stage == Stage::Building);
        if stagings.iter().filter(|(_, value)| is_built(value)).count() >= MAX_STAGINGS {
            return Err(StoreError::TooManyImports);
        }
        let counter = keys::last_generation(vault);
        let last = match transaction.get(&counter, Isolation::Serializable).await? {
            None => 0,
            Some(held) => {
                let held = held.as_ref().try_into();
                u32::from_be_bytes(held.map_err(|_| StoreError::unreadable("generation"))?)
            }
        };
        let generation = last.max(record.generation).checked_add(1);
        let generation =
            generation.ok_or_else(|| StoreError::TooLarge("more than 4,294,967,295 imports".into()))?;
        let space = Keyspace { vault, generation };
        let lease = self.lease(0);
        transaction.set(&counter, &generation.to_be_bytes());
        transaction.set(&keys::staging(space), &lease.encode());
        transaction.commit().await?;
        Ok(Staging::new(self, space))
    }

    fn lease(&self, renewals: u64) -> Lease {
        Lease {
            stage: Stage::Building,
            process: self.markers().process(),
            renewals,
        }
    }
}

impl Staging {
    fn new(store: &Store, space: Keyspace) -> Self {
        Self {
            store: store.clone(),
            space,
            renewals: 0,
            renewed_at: Instant::now(),
            highest: None,
            counts: ShapeCounts::default(),
            relationships: 0,
            is_settled: false,
        }
    }

    /// The vault that it is a state of.
    pub fn vault(&self) -> VaultId {
        self.space.vault
    }

    /// How many relationships have been added to it.
    pub fn relationships(&self) -> u64 {
        self.relationships
    }

    /// Adds relationships to the state. Of several with one key the last counts.
    ///
    /// # Errors
    ///
    /// [`StoreError::ImportGone`] if too much time has passed since the last call, [`StoreError::VaultNotFound`] if the vault was
    /// deleted; [`StoreError::TooLarge`] for one relationship that is, or more than [`MAX_SHAPES`](super::MAX_SHAPES) kinds of them.
    pub async fn add(&mut self, page: &[Relationship]) -> Result<(), StoreError> {
        let mut breath = Breath::default();
        let mut rows: BTreeMap<Vec<u8>, &Relationship> = BTreeMap::new();
        for relationship in page {
            breath.after(0).await;
            rows.insert(segments(&relationship.key()), relationship);
        }
        self.uncount(&rows).await?;
        let mut staged = Vec::with_capacity(rows.len());
        for relationship in rows.values() {
            let (key, terms) = (relationship.key(), StoredTerms::from(*relationship));
            self.relationships += 1;
            self.counts.stored(&key, &terms)?;
            let terms = terms.encode()?;
            breath.after(terms.len()).await;
            staged.push(Staged::Put(key, terms.into()));
        }
        self.write(staged).await?;
        self.highest = self.highest.take().max(rows.into_keys().next_back());
        Ok(())
    }

    /// Hands in relationships that [`Staging::merge`] is to merge. Of several with one key the last counts.
    ///
    /// # Errors
    ///
    /// As [`Staging::add`].
    pub async fn hand_in(&mut self, page: &[Relationship]) -> Result<(), StoreError> {
        let mut breath = Breath::default();
        let mut staged = Vec::with_capacity(page.len());
        for relationship in page {
            let terms = StoredTerms::from(relationship).encode()?;
            breath.after(terms.len()).await;
            staged.push(Staged::Input(segments(&relationship.key()), terms.into()));
        }
        self.write(staged).await
    }

    /// Takes back the counts of those of these keys that have been added before. Only what is not above all earlier ones is looked
    /// for: pages in the order of keys cost no reads.
    async fn uncount(&mut self, rows: &BTreeMap<Vec<u8>, &Relationship>) -> Result<(), StoreError> {
        let Some(highest) = &self.highest else {
            return Ok(());
        };
        let doubtful: Vec<&Vec<u8>> = rows.keys().take_while(|key| *key <= highest).collect();
        let prefix = keys::relationships(self.space, Order::Forward);
        let mut breath = Breath::default();
        for some in doubtful.chunks(VALUES_AT_ONCE) {
            let values = self.values(&prefix, some).await?;
            for (key, value) in some.iter().zip(values) {
                let bytes = value.as_ref().map_or(0, Bytes::len);
                if let Some(value) = value {
                    self.relationships -= 1;
                    self.counts.removed(&decode_key(key)?, &decode_terms(&value)?);
                }
                breath.after(bytes).await;
            }
        }
        Ok(())
    }

    /// What stands behind `prefix` under keys of what is being built, to which nobody else adds. They are to be few: each value may be as
    /// large as a value can be.
    pub(super) async fn values(
        &self,
        prefix: &[u8],
        keys: &[&Vec<u8>],
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut retry = Retry::default();
        loop {
            match self.try_values(prefix, keys).await {
                Err(error) => retry.pause(error).await?,
                values => return values,
            }
        }
    }

    async fn try_values(&self, prefix: &[u8], keys: &[&Vec<u8>]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let transaction = self.store.engine().begin().await?;
        let read = async |key: &&Vec<u8>| {
            let whole = [prefix, key.as_slice()].concat();
            transaction.get(&whole, Isolation::Snapshot).await
        };
        Ok(try_join_all(keys.iter().map(read)).await?)
    }

    /// Stores changes, in order, in as many transactions as it takes.
    pub(super) async fn write(&mut self, staged: Vec<Staged>) -> Result<(), StoreError> {
        let mut rest = staged.as_slice();
        // An empty page renews the lease too.
        loop {
            let mut bytes = 0;
            let fits = |staged: &&Staged| {
                bytes += staged.bytes();
                bytes <= CHUNK_BYTES
            };
            let most = rest.iter().take(CHUNK).take_while(fits).count().max(1);
            let (chunk, later) = rest.split_at(most.min(rest.len()));
            let fill = |transaction: &mut dyn Transaction, space, piece: usize| {
                let mut pieces = chunk.chunks(PIECE).skip(piece);
                for staged in pieces.next().unwrap_or_default() {
                    staged.apply(transaction, space);
                }
                pieces.next().is_some()
            };
            self.commit_chunk(&fill, chunk.is_empty()).await?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    /// Commits what `fill` writes, so long as this is still being built. It is called for one piece after the other, as long as it says that there
    /// is another; all of them may be called for again.
    pub(super) async fn commit_chunk(
        &mut self,
        fill: &(dyn Fn(&mut dyn Transaction, Keyspace, usize) -> bool + Send + Sync),
        is_empty: bool,
    ) -> Result<(), StoreError> {
        if is_empty && self.renewed_at.elapsed() < RENEWED {
            return Ok(());
        }
        self.renewals += 1;
        let lease = self.store.lease(self.renewals);
        let mut retry = Retry::default();
        while let Err(error) = self.try_chunk(fill, lease).await {
            retry.pause(error).await?;
        }
        self.renewed_at = Instant::now();
        Ok(())
    }

    async fn try_chunk(
        &self,
        fill: &(dyn Fn(&mut dyn Transaction, Keyspace, usize) -> bool + Send + Sync),
        lease: Lease,
    ) -> Result<(), StoreError> {
        let mut transaction = self.store.engine().begin().await?;
        self.claim(&*transaction).await?;
        let mut piece = 0;
        while fill(&mut *transaction, self.space, piece) {
            piece += 1;
            tokio::task::yield_now().await;
        }
        // Read and set by each: an attempt of unknown outcome that is committed late conflicts with the one that was made in
        // its stead, and cannot undo what came after.
        transaction.set(&keys::staging(self.space), &lease.encode());
        transaction.commit().await?;
        Ok(())
    }

    /// Makes sure that this is still being built, now and when the transaction is committed.
    pub(super) async fn claim(&self, transaction: &dyn Transaction) -> Result<(), StoreError> {
        let held = transaction
            .get(&keys::staging(self.space), Isolation::Serializable)
            .await?;
        match held {
            Some(value) if Lease::decode(&value)?.stage == Stage::Building => Ok(()),
            // The first state of a vault is built before there is a vault.
            _ if self.space.generation == 0 => Err(StoreError::ImportGone),
            _ => {
                require_vault(transaction, self.space.vault, Isolation::Snapshot).await?;
                Err(StoreError::ImportGone)
            }
        }
    }

    /// Stores how many relationships of each shape there are.
    pub(super) async fn write_counts(&mut self) -> Result<(), StoreError> {
        let counts: Vec<(Vec<u8>, i64)> = self
            .counts
            .iter()
            .map(|(shape, count)| (shape.to_vec(), count))
            .collect();
        for chunk in counts.chunks(CHUNK) {
            let fill = |transaction: &mut dyn Transaction, space, piece: usize| {
                let mut pieces = chunk.chunks(PIECE).skip(piece);
                for (shape, count) in pieces.next().unwrap_or_default() {
                    let [counter, known] = keys::shape_keys(space, shape);
                    transaction.set(&counter, &count.to_le_bytes());
                    transaction.set(&known, &[]);
                }
                pieces.next().is_some()
            };
            self.commit_chunk(&fill, false).await?;
        }
        Ok(())
    }
}

/// Does to its end what must not be left half done. If whoever waits goes away what it comes to is dropped, and with that given up.
async fn see_through(
    work: impl Future<Output = Result<Staging, StoreError>> + Send + 'static,
) -> Result<Staging, StoreError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.is_settled {
            self.store.inner.sweeper.abandon(self.space);
        }
    }
}

impl Staged {
    fn apply(&self, transaction: &mut dyn Transaction, space: Keyspace) {
        match self {
            Self::Put(key, terms) => {
                for order in [Order::Forward, Order::Reverse] {
                    transaction.set_unread(&keys::relationship(space, order, key), terms);
                }
            }
            Self::Remove(key) => remove(transaction, space, key),
            Self::Input(key, terms) => {
                let mut whole = keys::input(space);
                whole.extend_from_slice(key);
                transaction.set_unread(&whole, terms);
            }
        }
    }

    /// About how much it adds to a transaction.
    fn bytes(&self) -> usize {
        let key_bytes = |key: &RelationshipKey| {
            let ids = key.resource.id.as_str().len() + key.subject.id.as_str().len();
            let names = key.resource.object_type.as_str().len() + key.subject.object_type.as_str().len();
            let relations = key.relation.as_str().len()
                + key
                    .subject
                    .relation
                    .as_ref()
                    .map_or(0, |relation| relation.as_str().len());
            ids + names + relations + 32
        };
        match self {
            Self::Put(key, terms) => 2 * (key_bytes(key) + terms.len()),
            Self::Remove(key) => 2 * key_bytes(key),
            Self::Input(key, terms) => key.len() + terms.len() + 32,
        }
    }
}

impl std::fmt::Debug for Staging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staging")
            .field("space", &self.space)
            .field("relationships", &self.relationships)
            .finish_non_exhaustive()
    }
}
