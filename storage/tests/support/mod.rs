//! Short ways to say relationships, writes and filters.
#![allow(dead_code, reason = "each test file uses some of it")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code: a failure is to panic"
)]

use std::sync::Arc;

use inferadb_engine::context::Value;
use inferadb_engine::noun::{
    CaveatRef, Name, ObjectId, ObjectRef, Relationship, RelationshipKey, SubjectRef, Timestamp,
};
use inferadb_storage::engine::MemoryEngine;
use inferadb_storage::kv::Engine;
use inferadb_storage::{
    AccountRecord, FitCheck, LogSize, PutSchema, RelationshipFilter, Revision, SchemaPut, Shape, Store,
    VaultId, Write,
};

pub fn at(micros: i64) -> Timestamp {
    Timestamp(micros)
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn id(text: &str) -> ObjectId {
    if text == "*" {
        ObjectId::wildcard()
    } else {
        ObjectId::parse(text).unwrap()
    }
}

/// `resource#relation@subject`, optionally followed by ` caveat` and ` until:micros`.
pub fn relationship(text: &str) -> Relationship {
    let mut words = text.split(' ');
    let (resource, rest) = words.next().unwrap().split_once('#').unwrap();
    let (relation, subject) = rest.split_once('@').unwrap();
    let mut relationship = Relationship {
        resource: ObjectRef::parse(resource).unwrap(),
        relation: name(relation),
        subject: SubjectRef::parse(subject).unwrap(),
        caveat: None,
        expires_at: None,
    };
    for word in words {
        match word.strip_prefix("until:") {
            Some(micros) => relationship.expires_at = Some(at(micros.parse().unwrap())),
            None => {
                let context = [("limit".to_owned(), Value::Int(7))].into();
                relationship.caveat = Some(CaveatRef {
                    name: name(word),
                    context,
                });
            }
        }
    }
    relationship
}

pub fn key(text: &str) -> RelationshipKey {
    relationship(text).key()
}

pub fn empty_write(now: i64) -> Write {
    Write {
        touch: vec![],
        create: vec![],
        delete: vec![],
        preconditions: vec![],
        schema_revision: None,
        now: at(now),
    }
}

pub fn touch(texts: &[&str]) -> Write {
    Write {
        touch: texts.iter().map(|text| relationship(text)).collect(),
        ..empty_write(1)
    }
}

pub fn create(texts: &[&str]) -> Write {
    Write {
        create: texts.iter().map(|text| relationship(text)).collect(),
        ..empty_write(1)
    }
}

pub fn delete(texts: &[&str]) -> Write {
    Write {
        delete: texts.iter().map(|text| key(text)).collect(),
        ..empty_write(1)
    }
}

/// A filter of `resource_type resource_id id_prefix relation subject_type subject_id`, each `-` if it is not given.
pub fn filter(text: &str) -> RelationshipFilter {
    let words: Vec<Option<&str>> = text
        .split(' ')
        .map(|word| (word != "-").then_some(word))
        .collect();
    let [
        resource_type,
        resource_id,
        prefix,
        relation,
        subject_type,
        subject_id,
    ] = words.try_into().unwrap();
    RelationshipFilter {
        resource_type: resource_type.map(name),
        resource_id: resource_id.map(id),
        resource_id_prefix: prefix.map(str::to_owned),
        relation: relation.map(name),
        subject_type: subject_type.map(name),
        subject_id: subject_id.map(id),
        subject_relation: None,
    }
}

/// So many records of a log, whatever their size.
pub fn kept(records: u64) -> LogSize {
    LogSize {
        records,
        bytes: u64::MAX,
    }
}

/// An engine with nothing in it: in memory, or a part of its own of the cluster that `INFERADB_TEST_FDB_CLUSTER_FILE` names.
pub async fn engine() -> Arc<dyn Engine> {
    #[cfg(feature = "foundationdb")]
    if let Ok(file) = std::env::var("INFERADB_TEST_FDB_CLUSTER_FILE") {
        use inferadb_storage::engine::FoundationDbEngine;
        let prefix = format!("test/{}/", uuid::Uuid::new_v4());
        let engine = FoundationDbEngine::open(file.as_ref(), prefix.as_bytes()).await;
        return Arc::new(engine.unwrap());
    }
    Arc::new(MemoryEngine::new().unwrap())
}

/// An empty store over such an engine.
pub async fn memory() -> Store {
    Store::with_engine(engine().await).await.unwrap()
}

pub async fn vault_of(store: &Store) -> (AccountRecord, VaultId) {
    let account = store.create_account("acme", at(1)).await.unwrap();
    let vault = store.create_vault(account.id, "main", at(2)).await.unwrap();
    (account, vault.id)
}

pub async fn put_schema(store: &Store, vault: VaultId, text: &str) -> SchemaPut {
    let fits: &FitCheck<'_> = &|_: &[Shape]| Ok(());
    store
        .put_schema(
            vault,
            &PutSchema {
                text,
                format: 1,
                force: false,
                now: at(5),
            },
            fits,
        )
        .await
        .unwrap()
}

/// Everything stored, as text.
pub async fn stored(store: &Store, vault: VaultId) -> Vec<String> {
    let snapshot = store.snapshot(vault).await.unwrap();
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = snapshot.scan_all(after.as_deref(), 3).await.unwrap();
        found.extend(
            page.items
                .iter()
                .map(|relationship| relationship.key().to_string()),
        );
        after = match page.next {
            None => return found,
            next => next,
        };
    }
}

pub async fn revision(store: &Store, vault: VaultId) -> Revision {
    match store.head(vault).await.unwrap() {
        Some(head) => head.revision,
        None => panic!("the vault has no head"),
    }
}
