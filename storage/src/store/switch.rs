//! The switch: one transaction after which a staged state is the one that counts, for every reader and every writer.

use bytes::Bytes;
use futures_util::future::try_join3;
use inferadb_engine::noun::Timestamp;
use serde_json::{Map, Value};

use super::accounts::read_account;
use super::change::start_history_anew;
use super::lease::{Lease, Stage};
use super::retry::{Marker, Retry};
use super::schema::{read_schema, set_schema};
use super::shape::stored_shapes;
use super::snapshot::require_head;
use super::staging::Staging;
use super::vaults::{read_vault, require_vault};
use super::{MAX_SCHEMA_BYTES, SchemaRecord, StoreError, VaultRecord};
use crate::codec::Reader;
use crate::id::{AccountId, Revision};
use crate::keys::{self, Keyspace};
use crate::kv::{Isolation, Transaction, prefix_range};

/// What comes with a staged state.
#[derive(Debug, Clone, PartialEq)]
pub struct Switch {
    /// The schema, and which language it is in. `None`: the vault keeps its schema.
    pub schema: Option<(String, u8)>,
    /// Where the vault keeps its schema: the revision of the one that the relationships were validated against, `None` if there was none.
    pub validated_against: Option<Revision>,
    /// The vault's own limits; `None`: it keeps those it has.
    pub limits: Option<Option<Map<String, Value>>>,
    /// The time.
    pub now: Timestamp,
}

/// A vault has been switched over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switched {
    /// The new state.
    pub revision: Revision,
    /// How many relationships the vault held before.
    pub held: u64,
    /// Whether it has another schema now.
    pub schema_changed: bool,
}

/// What must not have changed for a switch to happen.
#[derive(Debug, Clone, Copy)]
pub(super) enum Basis {
    /// Nothing: what is there goes.
    None,
    /// What was merged: this generation, at this revision.
    State(Keyspace, Revision),
}

impl Switch {
    fn check(&self) -> Result<(), StoreError> {
        match &self.schema {
            Some((text, _)) if text.len() > MAX_SCHEMA_BYTES => Err(StoreError::TooLarge(format!(
                "a schema is at most {MAX_SCHEMA_BYTES} bytes long, this one has {}",
                text.len()
            ))),
            _ => Ok(()),
        }
    }
}

impl Staging {
    /// Makes this the vault's state. What it held before goes, with its history.
    ///
    /// # Errors
    ///
    /// [`StoreError::SchemaMoved`] if the schema that was to stay is another one by now; [`StoreError::ImportGone`],
    /// [`StoreError::VaultNotFound`], [`StoreError::VaultArchived`].
    pub async fn replace(mut self, switch: &Switch) -> Result<Switched, StoreError> {
        switch.check()?;
        self.write_counts().await?;
        match self.switch_over(switch, Basis::None).await? {
            Some(switched) => Ok(switched),
            // Without a basis nothing can have moved.
            None => Err(StoreError::Contended),
        }
    }

    /// Makes this the state of a new vault in `account`, which exists from now on.
    ///
    /// # Errors
    ///
    /// [`StoreError::AccountNotFound`], [`StoreError::ImportGone`].
    pub async fn create(
        mut self,
        account: AccountId,
        name: &str,
        schema: Option<&SchemaRecord>,
        limits: Option<Map<String, Value>>,
        now: Timestamp,
    ) -> Result<VaultRecord, StoreError> {
        self.write_counts().await?;
        let record = VaultRecord {
            limits,
            ..VaultRecord::new(self.space.vault, account, name, now)
        };
        let mut retry = Retry::default();
        while let Err(error) = self.try_create(&record, schema, now).await {
            retry.pause(error).await?;
        }
        self.is_settled = true;
        Ok(record)
    }

    async fn try_create(
        &self,
        record: &VaultRecord,
        schema: Option<&SchemaRecord>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut transaction = self.store.engine().begin().await?;
        // Nobody else knows the id: if it is there, an earlier attempt was committed after all.
        let held = read_vault(&*transaction, record.id, Isolation::Serializable).await?;
        if held.is_some() {
            return Ok(());
        }
        let account = read_account(&*transaction, record.account, Isolation::Serializable).await?;
        if account.is_none() {
            return Err(StoreError::AccountNotFound);
        }
        self.claim(&*transaction).await?;
        if let Some(schema) = schema {
            set_schema(&mut *transaction, record.id, &schema.text, schema.format);
        }
        record.put(&mut *transaction, now)?;
        transaction.clear(&keys::staging(self.space));
        transaction.commit().await?;
        Ok(())
    }

    /// Switches over; `None` if the basis has moved.
    pub(super) async fn switch_over(
        &mut self,
        switch: &Switch,
        basis: Basis,
    ) -> Result<Option<Switched>, StoreError> {
        let store = self.store.clone();
        let marker = store.markers().take();
        let mut retry = Retry::default();
        loop {
            match self.try_switch(switch, basis, &marker).await {
                Err(error) => retry.pause(error).await?,
                Ok(None) => return Ok(None),
                Ok(switched) => {
                    self.is_settled = true;
                    store.inner.sweeper.wake();
                    return Ok(switched);
                }
            }
        }
    }

    async fn try_switch(
        &self,
        switch: &Switch,
        basis: Basis,
        marker: &Marker<'_>,
    ) -> Result<Option<Switched>, StoreError> {
        let (space, vault) = (self.space, self.space.vault);
        let mut transaction = self.store.engine().begin().await?;
        let (done, record, schema) = try_join3(
            marker.outcome(&*transaction),
            require_vault(&*transaction, vault, Isolation::Serializable),
            read_schema(&*transaction, vault, Isolation::Serializable),
        )
        .await?;
        if let Some((revision, answer)) = done {
            return decode_answer(revision, &answer).map(Some);
        }
        if record.archived {
            return Err(StoreError::VaultArchived);
        }
        self.claim(&*transaction).await?;
        if let Basis::State(merged, through) = basis {
            if record.space() != merged {
                return Err(StoreError::Replaced);
            }
            // Whoever writes to the vault moves its head.
            transaction
                .get(&keys::head(vault), Isolation::Serializable)
                .await?;
            if require_head(&*transaction, vault).await?.revision != through {
                return Ok(None);
            }
        }
        let schema_changed = match (&switch.schema, &schema) {
            (None, held) => {
                if held.as_ref().map(|held| held.revision) != switch.validated_against {
                    return Err(StoreError::SchemaMoved);
                }
                false
            }
            (Some((text, format)), Some(held)) => held.text != *text || held.format != *format,
            (Some(_), None) => true,
        };
        let old = record.space();
        // Read as others may change it: how many there were is told, and decides nothing.
        let shapes = stored_shapes(&*transaction, old).await?;
        let held = shapes.iter().map(|shape| shape.count).sum();
        if let (true, Some((text, format))) = (schema_changed, &switch.schema) {
            set_schema(&mut *transaction, vault, text, *format);
        }
        let mut record = VaultRecord {
            generation: space.generation,
            hold: None,
            ..record
        };
        if let Some(limits) = &switch.limits
            && record.limits != *limits
        {
            record.limits.clone_from(limits);
            record.updated_at = switch.now;
        }
        // Writers read the record: whoever wrote to what was there conflicts, and is tried again on what is there now.
        record.put_silently(&mut *transaction)?;
        start_history_anew(&mut *transaction, vault, switch.now);
        self.give_back(&mut *transaction, old, basis);
        marker.set(&mut *transaction, &encode_answer(held, schema_changed));
        let revision = Revision(transaction.commit().await?);
        Ok(Some(Switched {
            revision,
            held,
            schema_changed,
        }))
    }

    /// Clears what no longer counts, or has it cleared in the background.
    fn give_back(&self, transaction: &mut dyn Transaction, old: Keyspace, basis: Basis) {
        let merged = matches!(basis, Basis::State(..));
        if self.store.engine().clears_ranges_at_once() {
            transaction.clear_range(old.range());
            transaction.clear(&keys::staging(self.space));
            if merged {
                transaction.clear_range(prefix_range(&keys::input(self.space)));
            }
            return;
        }
        transaction.set(&keys::staging(old), &Lease::to_be(Stage::Doomed));
        if merged {
            transaction.set(&keys::staging(self.space), &Lease::to_be(Stage::Merged));
        } else {
            transaction.clear(&keys::staging(self.space));
        }
    }
}

fn encode_answer(held: u64, schema_changed: bool) -> Vec<u8> {
    let mut answer = held.to_be_bytes().to_vec();
    answer.push(u8::from(schema_changed));
    answer
}

fn decode_answer(revision: Revision, answer: &Bytes) -> Result<Switched, StoreError> {
    let mut reader = Reader(answer);
    let mut decode = || {
        Some(Switched {
            revision,
            held: u64::from_be_bytes(reader.array()?),
            schema_changed: reader.array::<1>()? == [1],
        })
    };
    decode().ok_or_else(|| StoreError::unreadable("marker"))
}
