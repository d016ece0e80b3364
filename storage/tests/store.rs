//! What the layer above the engines does, over the memory and the embedded engine.
#![allow(missing_docs)]

mod support;

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use inferadb_engine::context::Value;
use inferadb_engine::noun::{Name, Relationship};
use inferadb_storage::engine::EmbeddedEngine;
use inferadb_storage::kv::{Engine, Isolation, RangeOptions, prefix_range};
use inferadb_storage::{
    AccountId, Archived, Backend, ChangeKind, ChangeOp, Precondition, PutSchema, Revision, RowLimit,
    SchemaFit, SchemaRecord, Shape, StorageConfig, Store, StoreError, StretchOf, SubjectClass, VaultId,
    VaultPatch, Write,
};
use support::*;

#[tokio::test]
async fn accounts_are_kept_listed_and_deleted() {
    let store = memory().await;
    let mut made = Vec::new();
    for n in 0..7 {
        made.push(
            store
                .create_account(&format!("account {n}"), at(n))
                .await
                .unwrap(),
        );
    }
    assert_eq!(store.account(made[3].id).await.unwrap(), Some(made[3].clone()));
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.accounts(after.as_deref(), 3).await.unwrap();
        listed.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, made);
    assert_eq!(
        store.accounts(Some(b"short"), 3).await,
        Err(StoreError::BadPosition)
    );

    let renamed = store.rename_account(made[0].id, "new", at(50)).await.unwrap();
    assert_eq!(
        (renamed.name.as_str(), renamed.created_at, renamed.updated_at),
        ("new", at(0), at(50))
    );
    let vault = store.create_vault(made[1].id, "v", at(60)).await.unwrap();
    assert_eq!(
        store.delete_account(made[1].id, at(61)).await,
        Err(StoreError::AccountOwnsVaults)
    );
    store.delete_vault(vault.id, at(62)).await.unwrap();
    assert_eq!(store.delete_account(made[1].id, at(62)).await, Ok(()));
    assert_eq!(store.account(made[1].id).await, Ok(None));
    assert_eq!(store.vault(vault.id).await, Ok(None));
    assert_eq!(
        store.create_vault(made[1].id, "v", at(63)).await,
        Err(StoreError::AccountNotFound)
    );
    assert_eq!(
        store.rename_account(made[1].id, "x", at(64)).await,
        Err(StoreError::AccountNotFound)
    );
    assert_eq!(
        store.delete_account(AccountId::generate(), at(65)).await,
        Err(StoreError::AccountNotFound)
    );
}

#[tokio::test]
async fn vaults_are_patched_archived_and_listed() {
    let store = memory().await;
    let (account, first) = vault_of(&store).await;
    let second = store.create_vault(account.id, "second", at(3)).await.unwrap();
    let before = revision(&store, first).await;
    let limits = serde_json::json!({"checks_per_second": 5}).as_object().cloned();
    let patch = VaultPatch {
        archived: Some(true),
        archived_at: Some(Some(at(9))),
        limits: Some(limits.clone()),
        ..VaultPatch::default()
    };
    let patched = store.update_vault(first, &patch, at(10)).await.unwrap();
    assert!(patched.archived && patched.archived_at == Some(at(9)) && patched.limits == limits);
    assert_eq!(store.vault(first).await.unwrap(), Some(patched));
    let changes = store.changes(first, before, 10).await.unwrap();
    assert!(
        matches!(changes.as_slice(), [change] if change.kind == ChangeKind::Settings && change.at == at(10))
    );

    let ids = |archived| {
        let store = &store;
        async move {
            let page = store.vaults(account.id, archived, None, 10).await.unwrap();
            page.items.into_iter().map(|vault| vault.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(ids(Archived::With).await, [first, second.id]);
    assert_eq!(ids(Archived::Without).await, [second.id]);
    assert_eq!(ids(Archived::Only).await, [first]);
    let cleared = VaultPatch {
        archived_at: Some(None),
        limits: Some(None),
        ..VaultPatch::default()
    };
    let patched = store.update_vault(first, &cleared, at(11)).await.unwrap();
    assert!(patched.archived && patched.archived_at.is_none() && patched.limits.is_none());
    let missing = VaultId::generate();
    assert_eq!(
        store.update_vault(missing, &cleared, at(12)).await,
        Err(StoreError::VaultNotFound)
    );
}

#[tokio::test]
async fn a_deleted_vault_is_gone_for_ever_and_its_space_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let config = StorageConfig {
        backend: Backend::Embedded {
            path: directory.path().into(),
        },
    };
    let store = Store::open(config.clone()).await.unwrap();
    let (account, vault) = vault_of(&store).await;
    let (_, other) = vault_of(&store).await;
    let texts: Vec<String> = (0..900).map(|n| format!("doc:{n}#viewer@user:u")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for vault in [vault, other] {
        for _ in 0..2 {
            store.write(vault, &touch(&texts)).await.unwrap();
        }
    }
    store.delete_vault(vault, at(9)).await.unwrap();
    assert_eq!(store.snapshot(vault).await.err(), Some(StoreError::VaultNotFound));
    assert_eq!(store.head(vault).await, Ok(None));
    assert_eq!(
        store.write(vault, &touch(&["doc:a#viewer@user:u"])).await,
        Err(StoreError::VaultNotFound)
    );
    assert_eq!(
        store.delete_vault(vault, at(9)).await,
        Err(StoreError::VaultNotFound)
    );
    // Closed in the middle of the chore; the next opening goes on.
    store.close().await;
    let store = Store::open(config.clone()).await.unwrap();
    let defaults = store
        .ensure_defaults(Some(account.id), Some(vault), at(10))
        .await
        .unwrap();
    assert!(defaults.vault.is_none() && !defaults.vault_created);
    assert_eq!(stored(&store, other).await.len(), 900);
    store.close().await;

    let engine = Arc::new(EmbeddedEngine::open(directory.path()).unwrap());
    let store = Store::with_engine(engine.clone()).await.unwrap();
    let read = async |prefix: &[u8], limit| {
        let options = RangeOptions {
            limit,
            reverse: false,
            isolation: Isolation::Snapshot,
        };
        engine
            .begin()
            .await
            .unwrap()
            .range(prefix_range(prefix), options)
            .await
            .unwrap()
    };
    // The list of vaults that are being cleared empties; then only the other vault's data is left.
    while !read(&[0x07], 1).await.is_empty() {
        tokio::task::yield_now().await;
    }
    let left = read(&[0x10], 100_000).await;
    assert!(!left.is_empty() && left.iter().all(|(key, _)| &key[1..17] == other.0.as_bytes()));
    store.close().await;
}

#[tokio::test]
async fn defaults_are_made_once_and_never_resurrected() {
    let store = memory().await;
    let first = store.ensure_defaults(None, None, at(1)).await.unwrap();
    assert!(first.account_created && first.vault_created);
    let again = store.ensure_defaults(None, None, at(2)).await.unwrap();
    assert!(!again.account_created && !again.vault_created);
    assert_eq!((&again.account, &again.vault), (&first.account, &first.vault));
    let (account, vault) = (first.account.unwrap(), first.vault.unwrap());
    assert_eq!(
        (account.name.as_str(), vault.name.as_str()),
        ("Default Account", "Default Vault")
    );

    let configured = (AccountId::generate(), VaultId::generate());
    let made = store
        .ensure_defaults(Some(configured.0), Some(configured.1), at(3))
        .await
        .unwrap();
    assert!(made.account_created && made.vault_created && made.vault.unwrap().id == configured.1);
    let elsewhere = store
        .ensure_defaults(Some(configured.0), Some(vault.id), at(4))
        .await;
    assert_eq!(
        elsewhere,
        Err(StoreError::DefaultVaultElsewhere {
            vault: vault.id,
            owner: account.id
        })
    );

    store.delete_vault(vault.id, at(5)).await.unwrap();
    store.delete_account(account.id, at(5)).await.unwrap();
    let gone = store.ensure_defaults(None, None, at(6)).await.unwrap();
    assert_eq!((gone.account, gone.vault), (None, None));
    store.delete_vault(configured.1, at(7)).await.unwrap();
    let gone = store
        .ensure_defaults(Some(configured.0), Some(configured.1), at(8))
        .await
        .unwrap();
    assert!(gone.account.is_some() && gone.vault.is_none());
}

#[tokio::test]
async fn writes_create_touch_and_delete() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let start = revision(&store, vault).await;
    let one = store
        .write(
            vault,
            &create(&["doc:a#viewer@user:u", "doc:a#viewer@group:g#member"]),
        )
        .await
        .unwrap();
    assert_eq!((one.created, one.updated, one.deleted), (2, 0, 0));
    assert!(one.revision > start && one.revision == revision(&store, vault).await);
    let exists = store
        .write(vault, &create(&["doc:b#viewer@user:u", "doc:a#viewer@user:u"]))
        .await;
    assert_eq!(
        exists,
        Err(StoreError::AlreadyExists {
            key: Box::new(key("doc:a#viewer@user:u"))
        })
    );
    let same = store
        .write(vault, &touch(&["doc:a#viewer@user:u"]))
        .await
        .unwrap();
    assert_eq!(
        (same.revision, same.created + same.updated + same.deleted),
        (one.revision, 0)
    );
    let two = store
        .write(vault, &touch(&["doc:a#viewer@user:u busy until:77"]))
        .await
        .unwrap();
    assert_eq!((two.created, two.updated, two.deleted), (0, 1, 0));
    let three = store
        .write(
            vault,
            &delete(&["doc:a#viewer@group:g#member", "doc:a#viewer@user:x"]),
        )
        .await
        .unwrap();
    assert_eq!((three.created, three.updated, three.deleted), (0, 0, 1));
    assert_eq!(stored(&store, vault).await, ["doc:a#viewer@user:u"]);

    let changes = store.changes(vault, start, 10).await.unwrap();
    let told: Vec<_> = changes
        .iter()
        .map(|change| (change.revision, change.kind.clone()))
        .collect();
    let relationships = |changes: &[(ChangeOp, &str)]| {
        ChangeKind::Relationships(
            changes
                .iter()
                .map(|(op, text)| (*op, relationship(text)))
                .collect(),
        )
    };
    use ChangeOp::{Created, Deleted, Updated};
    assert_eq!(
        told,
        [
            (
                one.revision,
                relationships(&[
                    (Created, "doc:a#viewer@user:u"),
                    (Created, "doc:a#viewer@group:g#member")
                ])
            ),
            (
                two.revision,
                relationships(&[(Updated, "doc:a#viewer@user:u busy until:77")])
            ),
            (
                three.revision,
                relationships(&[(Deleted, "doc:a#viewer@group:g#member")])
            ),
        ]
    );
    assert_eq!(store.changes(vault, one.revision, 1).await.unwrap().len(), 1);
    assert_eq!(store.changes(vault, three.revision, 9).await.unwrap(), []);
    let twice = Write {
        delete: vec![key("doc:a#viewer@user:u")],
        ..touch(&["doc:a#viewer@user:u"])
    };
    assert!(matches!(
        store.write(vault, &twice).await,
        Err(StoreError::Duplicate { .. })
    ));
}

#[tokio::test]
async fn expired_relationships_count_as_absent_for_writes_and_lists() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    store
        .write(vault, &create(&["doc:a#viewer@user:u until:10"]))
        .await
        .unwrap();
    let live = |now| Write {
        now: at(now),
        ..create(&["doc:a#viewer@user:u until:30"])
    };
    assert!(matches!(
        store.write(vault, &live(9)).await,
        Err(StoreError::AlreadyExists { .. })
    ));
    let snapshot = store.snapshot(vault).await.unwrap();
    let all = filter("- - - - - -");
    assert_eq!(
        snapshot
            .relationships(&all, None, 9, at(9))
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    assert_eq!(
        snapshot
            .relationships(&all, None, 9, at(10))
            .await
            .unwrap()
            .items
            .len(),
        0
    );
    assert_eq!(snapshot.scan_all(None, 9).await.unwrap().items.len(), 1);
    assert_eq!(store.write(vault, &live(10)).await.unwrap().created, 1);
    let gone = Write {
        now: at(30),
        ..delete(&["doc:a#viewer@user:u"])
    };
    assert_eq!(store.write(vault, &gone).await.unwrap().deleted, 0);
    assert_eq!(stored(&store, vault).await, Vec::<String>::new());
    assert_eq!(store.snapshot(vault).await.unwrap().shapes().await.unwrap(), []);
}

#[tokio::test]
async fn preconditions_decide_over_a_write() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    store
        .write(
            vault,
            &create(&["doc:a#owner@user:u", "doc:b#owner@user:v until:50"]),
        )
        .await
        .unwrap();
    let guarded = |must_exist, text: &str, now| Write {
        preconditions: vec![
            Precondition {
                must_exist: true,
                filter: filter("doc a - - - -"),
            },
            Precondition {
                must_exist,
                filter: filter(text),
            },
        ],
        now: at(now),
        ..touch(&["doc:c#owner@user:u"])
    };
    let failed = Err(StoreError::PreconditionFailed { index: 1 });
    assert_eq!(
        store.write(vault, &guarded(false, "- - - - user u", 1)).await,
        failed
    );
    assert_eq!(
        store.write(vault, &guarded(true, "doc - b owner - -", 50)).await,
        failed
    );
    assert_eq!(
        store.write(vault, &guarded(true, "folder - - - - -", 1)).await,
        failed
    );
    store
        .write(vault, &guarded(true, "doc - b owner - -", 49))
        .await
        .unwrap();
    store
        .write(vault, &guarded(false, "- - - viewer - -", 1))
        .await
        .unwrap();
}

#[tokio::test]
async fn filters_find_the_same_whichever_index_serves_them() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let (_, other) = vault_of(&store).await;
    let mut texts = Vec::new();
    for object in ["a", "ab", "b", "b:c"] {
        for kind in ["doc", "docs"] {
            for relation in ["owner", "viewer"] {
                for subject in ["user:u", "user:*", "group:g#member", "group:g", "users:u"] {
                    texts.push(format!("{kind}:{object}#{relation}@{subject}"));
                }
            }
        }
    }
    let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
    store.write(vault, &create(&refs)).await.unwrap();
    store
        .write(other, &create(&["doc:a#owner@user:foreign"]))
        .await
        .unwrap();
    let snapshot = store.snapshot(vault).await.unwrap();
    for text in [
        "- - - - - -",
        "doc - - - - -",
        "doc a - - - -",
        "doc a - viewer - -",
        "doc a - - user -",
        "- a - - - -",
        "doc - a - - -",
        "- - a - - -",
        "- - - viewer - -",
        "- - - - user u",
        "doc - - - user u",
        "- - - owner group g",
        "- - - - user -",
        "doc b - viewer user *",
        "doc - b owner users u",
        "- b:c - - group -",
        "nothing - - - - -",
    ] {
        let filter = filter(text);
        let mut expected: Vec<&str> = refs
            .iter()
            .copied()
            .filter(|text| filter.matches(&key(text)))
            .collect();
        expected.sort_unstable();
        for limit in [1, 7, 1_000] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let page = snapshot
                    .relationships(&filter, after.as_deref(), limit, at(1))
                    .await
                    .unwrap();
                assert!(page.items.len() <= limit);
                found.extend(
                    page.items
                        .iter()
                        .map(|relationship| relationship.key().to_string()),
                );
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            found.sort_unstable();
            assert_eq!(found, expected, "{text} by {limit}");
        }
    }
    let position = snapshot
        .relationships(&filter("- - - - user u"), None, 1, at(1))
        .await
        .unwrap()
        .next;
    for foreign in [position.as_deref().unwrap(), b"", b"\x02", b"\xff\xff"] {
        let page = snapshot
            .relationships(&filter("doc a - - - -"), Some(foreign), 1, at(1))
            .await;
        assert_eq!(page, Err(StoreError::BadPosition));
    }
}

#[tokio::test]
async fn rows_hold_one_class_of_subjects() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let texts = [
        "doc:a#viewer@user:u busy",
        "doc:a#viewer@user:!",
        "doc:a#viewer@user:*",
        "doc:a#viewer@user:z until:9",
        "doc:a#viewer@user:g#member",
        "doc:a#viewer@group:g#member",
        "doc:ab#viewer@user:u",
        "doc:a#viewer2@user:u",
    ];
    store.write(vault, &create(&texts)).await.unwrap();
    let snapshot = store.snapshot(vault).await.unwrap();
    let row = |subject_type: &'static str, class: SubjectClass, limit| {
        let snapshot = &snapshot;
        async move {
            let (doc, viewer) = (name("doc"), name("viewer"));
            let row = snapshot
                .row(&doc, &id("a"), &viewer, &name(subject_type), &class, limit)
                .await
                .unwrap();
            (
                row.entries
                    .iter()
                    .map(|entry| entry.subject.to_string())
                    .collect::<Vec<_>>(),
                row.complete,
            )
        }
    };
    let all = |subjects: &[&str], complete| {
        (
            subjects.iter().map(|s| s.to_string()).collect::<Vec<_>>(),
            complete,
        )
    };
    assert_eq!(
        row("user", SubjectClass::Object, 9).await,
        all(&["!", "u", "z"], true)
    );
    assert_eq!(
        row("user", SubjectClass::Object, 3).await,
        all(&["!", "u", "z"], true)
    );
    assert_eq!(
        row("user", SubjectClass::Object, 2).await,
        all(&["!", "u"], false)
    );
    assert_eq!(row("user", SubjectClass::Object, 1).await, all(&["!"], false));
    assert_eq!(row("user", SubjectClass::Wildcard, 9).await, all(&["*"], true));
    assert_eq!(row("group", SubjectClass::Wildcard, 9).await, all(&[], true));
    assert_eq!(
        row("user", SubjectClass::Userset(name("member")), 9).await,
        all(&["g"], true)
    );
    assert_eq!(row("group", SubjectClass::Object, 9).await, all(&[], true));
    let entry = snapshot
        .entry(&key("doc:a#viewer@user:u"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(entry.caveat, relationship("doc:a#viewer@user:u busy").caveat);
    assert_eq!(snapshot.entry(&key("doc:a#viewer@user:nobody")).await, Ok(None));
}

#[tokio::test]
async fn deleting_by_filter_takes_all_in_bounded_steps() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    for chunk in 0..3 {
        let texts: Vec<String> = (0..900)
            .map(|n| format!("doc:{chunk}-{n}#viewer@user:u"))
            .collect();
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        store.write(vault, &create(&refs)).await.unwrap();
    }
    store
        .write(
            vault,
            &create(&["doc:x#viewer@user:v", "doc:y#viewer@user:u until:3"]),
        )
        .await
        .unwrap();
    let start = revision(&store, vault).await;
    let users = filter("- - - - user u");
    let some = store
        .delete_matching(vault, &users, Some(10), &[], at(5))
        .await
        .unwrap();
    assert_eq!((some.deleted, some.complete), (10, false));
    let must = [Precondition {
        must_exist: true,
        filter: filter("folder - - - - -"),
    }];
    let failed = store.delete_matching(vault, &users, None, &must, at(5)).await;
    assert_eq!(failed, Err(StoreError::PreconditionFailed { index: 0 }));
    let rest = store
        .delete_matching(vault, &users, None, &[], at(5))
        .await
        .unwrap();
    assert_eq!(
        (rest.deleted, rest.complete),
        (2_690, true),
        "the expired one goes without being counted"
    );
    assert_eq!(stored(&store, vault).await, ["doc:x#viewer@user:v"]);
    let changes = store.changes(vault, start, 100).await.unwrap();
    assert_eq!(changes.last().unwrap().revision, rest.revision);
    let told = changes.iter().map(|change| match &change.kind {
        ChangeKind::Relationships(changes) => changes.len(),
        _ => 0,
    });
    assert_eq!(told.sum::<usize>(), 2_701);
    let shapes = store.snapshot(vault).await.unwrap().shapes().await.unwrap();
    assert_eq!(shapes.iter().map(|shape| shape.count).collect::<Vec<_>>(), [1]);
    let nothing = store
        .delete_matching(vault, &users, None, &[], at(5))
        .await
        .unwrap();
    assert_eq!(
        (nothing.deleted, nothing.complete, nothing.revision),
        (0, true, rest.revision)
    );
}

#[tokio::test]
async fn deleting_by_filter_gets_through_however_large_what_goes_is() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    for chunk in 0..5 {
        let touch = (0..100).map(|n| {
            let mut one = relationship(&format!("doc:{chunk}-{n}#viewer@user:u busy"));
            let long = Value::String("x".repeat(25_000));
            one.caveat.as_mut().unwrap().context = [("long".to_owned(), long)].into();
            one
        });
        let write = Write {
            touch: touch.collect(),
            ..empty_write(1)
        };
        store.write(vault, &write).await.unwrap();
    }
    let users = filter("- - - - user u");
    let all = store
        .delete_matching(vault, &users, None, &[], at(5))
        .await
        .unwrap();
    assert_eq!((all.deleted, all.complete), (500, true));
    assert!(stored(&store, vault).await.is_empty());
}

#[tokio::test]
async fn a_schema_is_stored_with_the_proof_that_it_fits() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    assert_eq!(store.snapshot(vault).await.unwrap().schema().await, Ok(None));
    let long = format!("definition user {{}} // {}", "ä".repeat(120_000));
    let put = put_schema(&store, vault, &long).await;
    assert!(put.changed && put.revision == revision(&store, vault).await);
    let held = store
        .snapshot(vault)
        .await
        .unwrap()
        .schema()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (held.text, held.revision, held.format),
        (long.clone(), put.revision, 1)
    );
    let same = put_schema(&store, vault, &long).await;
    assert_eq!((same.changed, same.revision), (false, put.revision));

    let texts = [
        "doc:a#viewer@user:u",
        "doc:a#viewer@user:*",
        "doc:b#viewer@user:u busy",
    ];
    assert_eq!(
        store.write(vault, &create(&texts)).await,
        Err(StoreError::SchemaMoved)
    );
    let write = Write {
        schema_revision: Some(put.revision),
        ..create(&texts)
    };
    store.write(vault, &write).await.unwrap();
    let seen = |shapes: &[Shape]| {
        assert!(shapes.iter().all(|shape| shape.count == 1) && shapes.len() == 3);
        Err(shapes
            .iter()
            .filter(|shape| shape.caveat.is_some())
            .cloned()
            .collect())
    };
    let schema = |force| PutSchema {
        text: "definition x {}",
        format: 1,
        force,
        now: at(9),
    };
    match store.put_schema(vault, &schema(false), &seen).await {
        Err(StoreError::Misfits { shapes, examples }) => {
            assert_eq!(shapes[0].caveat.as_ref().map(Name::as_str), Some("busy"));
            assert_eq!(examples, [key("doc:b#viewer@user:u")]);
        }
        other => panic!("{other:?}"),
    }
    let forced = store.put_schema(vault, &schema(true), &seen).await.unwrap();
    assert_eq!(
        store
            .snapshot(vault)
            .await
            .unwrap()
            .schema()
            .await
            .unwrap()
            .unwrap()
            .text,
        "definition x {}"
    );
    // A deletion needs no schema; a shape that is gone is no longer asked about.
    store.write(vault, &delete(&texts)).await.unwrap();
    let none = |shapes: &[Shape]| {
        if shapes.is_empty() {
            Ok(())
        } else {
            Err(shapes.to_vec())
        }
    };
    let schema = PutSchema {
        text: "definition y {}",
        format: 1,
        force: false,
        now: at(9),
    };
    assert!(store.put_schema(vault, &schema, &none).await.unwrap().revision > forced.revision);
}

#[tokio::test]
async fn a_shape_that_comes_up_during_the_check_of_a_schema_is_checked_too() {
    for stored_before in [false, true] {
        let store = memory().await;
        let (_, vault) = vault_of(&store).await;
        if stored_before {
            store
                .write(vault, &create(&["doc:bad#banned@user:u"]))
                .await
                .unwrap();
            store
                .write(vault, &delete(&["doc:bad#banned@user:u"]))
                .await
                .unwrap();
        }
        let calls = AtomicUsize::new(0);
        let fits = |shapes: &[Shape]| {
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                assert_eq!(shapes, []);
                // Between the reading of the shapes and the commit of the schema, somebody stores one.
                std::thread::scope(|scope| {
                    let write = || {
                        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                        let write = create(&["doc:bad#banned@user:u"]);
                        runtime.unwrap().block_on(store.write(vault, &write)).unwrap()
                    };
                    scope.spawn(write).join().unwrap()
                });
            }
            if shapes.is_empty() {
                Ok(())
            } else {
                Err(shapes.to_vec())
            }
        };
        let schema = PutSchema {
            text: "definition user {}",
            format: 1,
            force: false,
            now: at(9),
        };
        let outcome = store.put_schema(vault, &schema, &fits).await;
        assert!(
            matches!(outcome, Err(StoreError::Misfits { .. })),
            "{stored_before} {outcome:?}"
        );
        assert_eq!(calls.into_inner(), 2);
    }
}

/// Doubts every shape, and takes relationships of all subjects but `user:bad`.
struct Doubtful<'a> {
    store: &'a Store,
    vault: VaultId,
    /// What somebody stores after the relationships were first read.
    late: std::sync::Mutex<Option<&'static str>>,
}

impl SchemaFit for Doubtful<'_> {
    fn shapes(&self, _stored: &[Shape]) -> Result<(), Vec<Shape>> {
        Ok(())
    }

    fn doubtful(&self, stored: &[Shape], _held: Option<&SchemaRecord>) -> Result<Vec<Shape>, StoreError> {
        Ok(stored.to_vec())
    }

    #[expect(clippy::unwrap_used, reason = "a test may fail")]
    fn relationship(&self, stored: &Relationship) -> bool {
        if let Some(late) = self.late.lock().unwrap().take() {
            std::thread::scope(|scope| {
                let write = || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let write = create(&[late]);
                    runtime
                        .unwrap()
                        .block_on(self.store.write(self.vault, &write))
                        .unwrap()
                };
                scope.spawn(write).join().unwrap()
            });
        }
        stored.subject.id.as_str() != "bad"
    }
}

#[tokio::test]
async fn relationships_of_doubtful_shapes_are_read_and_none_slips_past() {
    for (first, late, misfits) in [
        (&["doc:a#viewer@user:u"][..], None, None),
        (
            &["doc:a#viewer@user:u", "doc:b#viewer@user:bad"],
            None,
            Some("doc:b#viewer@user:bad"),
        ),
        // Stored between the reading and the commit, under a shape that was there already.
        (
            &["doc:a#viewer@user:u"],
            Some("doc:c#viewer@user:bad"),
            Some("doc:c#viewer@user:bad"),
        ),
        (&["doc:a#viewer@user:u"], Some("doc:c#viewer@user:v"), None),
    ] {
        let store = memory().await;
        let (_, vault) = vault_of(&store).await;
        store.write(vault, &create(first)).await.unwrap();
        let fit = Doubtful {
            store: &store,
            vault,
            late: late.into(),
        };
        let schema = PutSchema {
            text: "definition user {}",
            format: 1,
            force: false,
            now: at(9),
        };
        let outcome = store.put_schema(vault, &schema, &fit).await;
        match (misfits, outcome) {
            (None, Ok(_)) => {}
            (Some(misfit), Err(StoreError::Misfits { shapes, examples })) => {
                assert_eq!(examples, [key(misfit)]);
                assert_eq!(shapes.len(), 1);
            }
            (_, outcome) => panic!("{first:?} {late:?}: {outcome:?}"),
        }
        let forced = PutSchema {
            force: true,
            ..schema
        };
        store.put_schema(vault, &forced, &fit).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_relationship_of_a_new_shape_slips_past_a_schema_change_under_load() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let mut put = put_schema(&store, vault, "0").await;
    for round in 1..30 {
        // Writers of a shape that fits go on all the time; one writer tries a shape that the new schema forbids.
        let old = put.revision;
        let busy: Vec<_> = (0..4)
            .map(|writer| {
                let store = store.clone();
                let text = format!("doc:{round}-{writer}#viewer@user:u");
                let write = Write {
                    schema_revision: Some(old),
                    ..touch(&[&text])
                };
                tokio::spawn(async move { store.write(vault, &write).await })
            })
            .collect();
        let write = Write {
            schema_revision: Some(old),
            ..create(&["doc:bad#banned@user:u"])
        };
        let bad = tokio::spawn({
            let store = store.clone();
            async move { store.write(vault, &write).await }
        });
        let text = round.to_string();
        let schema = PutSchema {
            text: &text,
            format: 1,
            force: false,
            now: at(9),
        };
        let fits = |shapes: &[Shape]| match shapes.iter().find(|shape| shape.relation.as_str() == "banned") {
            None => Ok(()),
            Some(shape) => Err(vec![shape.clone()]),
        };
        let outcome = store.put_schema(vault, &schema, &fits).await;
        let bad = bad.await.unwrap();
        for task in busy {
            let done = task.await.unwrap();
            assert!(matches!(done, Ok(_) | Err(StoreError::SchemaMoved)), "{done:?}");
        }
        match (&outcome, &bad) {
            (Ok(_), Err(StoreError::SchemaMoved)) | (Err(StoreError::Misfits { .. }), Ok(_)) => {}
            other => panic!("{other:?}"),
        }
        if let Ok(done) = outcome {
            put = done;
        }
        store
            .write(vault, &delete(&["doc:bad#banned@user:u"]))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn large_changes_are_told_whole_and_trimmed_history_is_known_to_be_gone() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let start = revision(&store, vault).await;
    let long = "x".repeat(900);
    let mut revisions = Vec::new();
    for n in 0..5 {
        let texts: Vec<String> = (0..150)
            .map(|m| format!("doc:{long}{n}-{m}#viewer@user:{long}"))
            .collect();
        let refs: Vec<&str> = texts.iter().map(String::as_str).collect();
        revisions.push(store.write(vault, &create(&refs)).await.unwrap().revision);
    }
    let mut after = start;
    let mut seen = Vec::new();
    loop {
        let changes = store.changes(vault, after, 2).await.unwrap();
        let Some(last) = changes.last() else { break };
        after = last.revision;
        for change in changes {
            assert!(matches!(&change.kind, ChangeKind::Relationships(changes) if changes.len() == 150));
            seen.push(change.revision);
        }
    }
    assert_eq!(seen, revisions);
    assert_eq!(
        store.trim_changes(vault, kept(2)).await.unwrap().removed,
        4,
        "three writes and the vault's making"
    );
    assert_eq!(store.trim_changes(vault, kept(2)).await.unwrap().removed, 0);
    assert_eq!(store.changes(vault, start, 9).await, Err(StoreError::HistoryGone));
    assert_eq!(
        store.changes(vault, revisions[1], 9).await,
        Err(StoreError::HistoryGone)
    );
    assert_eq!(store.changes(vault, revisions[2], 9).await.unwrap().len(), 2);
    assert_eq!(
        store.changes(VaultId::generate(), start, 9).await,
        Err(StoreError::VaultNotFound)
    );
}

#[tokio::test]
async fn a_bounded_read_of_the_log_goes_on_where_it_stopped() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let start = revision(&store, vault).await;
    let long = "x".repeat(900);
    let mut expected = Vec::new();
    for round in 0..12 {
        // In turn records of many pieces, which no bound cuts, and small ones.
        let count = if round % 2 == 0 { 300 } else { 1 };
        let texts: Vec<String> = (0..count)
            .map(|at| format!("doc:{long}{round}-{at}#viewer@user:u"))
            .collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        expected.push(store.write(vault, &touch(&texts)).await.unwrap().revision);
    }
    let whole = store.changes(vault, start, 99).await.unwrap();
    for max_bytes in [0, 1, 100_000, 500_000, 2_000_000] {
        for limit in [1, 2, 99] {
            let mut after = start;
            let mut seen = Vec::new();
            loop {
                let some = store
                    .changes_of_size(vault, after, limit, max_bytes)
                    .await
                    .unwrap();
                let Some(last) = some.last() else { break };
                assert!(some.len() <= limit);
                after = last.revision;
                seen.extend(some);
            }
            assert_eq!(seen, whole, "{max_bytes} {limit}");
        }
    }
    assert_eq!(
        whole.iter().map(|change| change.revision).collect::<Vec<_>>(),
        expected
    );
    let some = store.changes_of_size(vault, start, 99, 1).await.unwrap();
    assert!(some.len() < whole.len());
}

#[tokio::test]
async fn the_head_can_be_watched() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let watch = store.watch_head(vault).await.unwrap();
    let written = store
        .write(vault, &touch(&["doc:a#viewer@user:u"]))
        .await
        .unwrap();
    watch.await.unwrap();
    assert_eq!(revision(&store, vault).await, written.revision);
    let watch = store.watch_head(vault).await.unwrap();
    store.delete_vault(vault, at(3)).await.unwrap();
    watch.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn only_one_of_many_creates_wins_and_counters_stay_true() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    for round in 0..10 {
        let text = format!("doc:{round}#viewer@user:u");
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (store, write) = (store.clone(), create(&[&text]));
                tokio::spawn(async move { store.write(vault, &write).await.is_ok() })
            })
            .collect();
        let mut won = 0;
        for task in tasks {
            won += usize::from(task.await.unwrap());
        }
        assert_eq!(won, 1);
    }
    let shapes = store.snapshot(vault).await.unwrap().shapes().await.unwrap();
    assert_eq!(shapes.iter().map(|shape| shape.count).collect::<Vec<_>>(), [10]);
    let revisions: Vec<Revision> = store
        .changes(vault, Revision(Default::default()), 99)
        .await
        .unwrap()
        .iter()
        .map(|c| c.revision)
        .collect();
    assert!(revisions.len() == 11 && revisions.is_sorted());
}

#[cfg(not(feature = "foundationdb"))]
#[tokio::test]
async fn a_missing_backend_is_named() {
    let backend = Backend::FoundationDb {
        cluster_file: "/etc/foundationdb/fdb.cluster".into(),
        key_prefix: inferadb_storage::KeyPrefix::default(),
    };
    assert_eq!(
        Store::open(StorageConfig { backend }).await.err(),
        Some(StoreError::BackendMissing)
    );
}

#[tokio::test]
async fn stretches_hold_one_side_of_one_class_in_order() {
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    let stored = [
        "doc:a#viewer@user:u",
        "doc:a!#viewer@user:u",
        "doc:b#viewer@user:u office until:5",
        "doc:c#viewer@user:u",
        "doc:d#owner@user:u",
        "file:a#viewer@user:u",
        "doc:e#viewer@user:u2",
        "doc:f#viewer@user:*",
        "doc:g#viewer@group:u#member",
        "doc:z#viewer@user:!early",
        "doc:z#viewer@user:*",
        "doc:z#viewer@user:a",
        "doc:z#viewer@user:b",
    ];
    store.write(vault, &touch(&stored)).await.unwrap();
    let snapshot = store.snapshot(vault).await.unwrap();
    let names = |of: &str| -> [Name; 3] {
        let mut words = of.split(' ');
        [(); 3].map(|()| name(words.next().unwrap()))
    };
    let (object, wildcard, members) = (
        SubjectClass::Object,
        SubjectClass::Wildcard,
        SubjectClass::Userset(name("member")),
    );
    for limit in 1..6 {
        for (is_reverse, row, class, of, expected) in [
            (true, "doc viewer user", &object, "u", "a a! b c"),
            (true, "doc owner user", &object, "u", "d"),
            (true, "file viewer user", &object, "u", "a"),
            (true, "doc viewer user", &wildcard, "*", "f z"),
            (true, "doc viewer group", &members, "u", "g"),
            (true, "doc viewer user", &object, "nobody", ""),
            (false, "doc viewer user", &object, "z", "!early a b"),
            (false, "doc viewer user", &wildcard, "z", "*"),
            (false, "doc viewer group", &members, "g", "u"),
        ] {
            let [resource_type, relation, subject_type] = names(row);
            let stretch = StretchOf {
                resource_type: &resource_type,
                relation: &relation,
                subject_type: &subject_type,
                subject_class: class,
            };
            let (mut found, mut start): (Vec<String>, _) = (Vec::new(), Bound::Unbounded);
            loop {
                let read = match is_reverse {
                    true => {
                        snapshot
                            .resources_of(stretch, &id(of), start.as_ref(), limit)
                            .await
                    }
                    false => {
                        snapshot
                            .subjects_of(stretch, &id(of), start.as_ref(), limit)
                            .await
                    }
                };
                let read = read.unwrap();
                assert!(read.entries.len() <= limit);
                for entry in &read.entries {
                    let is_under_terms = is_reverse && entry.id.as_str() == "b";
                    assert_eq!(entry.expires_at, is_under_terms.then_some(at(5)));
                    assert_eq!(entry.caveat.is_some(), is_under_terms);
                    found.push(entry.id.to_string());
                }
                if read.is_last {
                    break;
                }
                let last = read.entries.last().unwrap();
                start = Bound::Excluded(last.id.clone());
            }
            assert_eq!(
                found.join(" "),
                expected,
                "{row} {class:?} {of}, {limit} at a time"
            );
        }
    }
}

/// A relationship under a caveat whose context is of so many bytes.
fn heavy(text: &str, bytes: usize) -> Relationship {
    let mut heavy = relationship(&format!("{text} busy"));
    if let Some(caveat) = &mut heavy.caveat {
        caveat.context = [("text".to_owned(), Value::String("x".repeat(bytes)))].into();
    }
    heavy
}

/// Counts alone do not bound what is read: large contexts end pages, rows and stretches before.
#[tokio::test]
async fn what_is_read_at_once_is_bounded_in_bytes() {
    const COUNT: usize = 250;
    let store = memory().await;
    let (_, vault) = vault_of(&store).await;
    for chunk in 0..COUNT / 25 {
        let some = (0..25).map(|at| heavy(&format!("doc:a#viewer@user:u{chunk}-{at:02}"), 90_000));
        let write = Write {
            touch: some.collect(),
            ..create(&[])
        };
        store.write(vault, &write).await.unwrap();
    }
    let snapshot = store.snapshot(vault).await.unwrap();
    let (mut after, mut found) = (None, 0);
    loop {
        let page = snapshot
            .relationships(&filter("doc - - - - -"), after.as_deref(), 1_000, at(1))
            .await
            .unwrap();
        assert!((1..=60).contains(&page.items.len()), "{}", page.items.len());
        found += page.items.len();
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, COUNT);
    let (doc, viewer, user, a) = (name("doc"), name("viewer"), name("user"), id("a"));
    let row = snapshot
        .row(&doc, &a, &viewer, &user, &SubjectClass::Object, 1_000)
        .await;
    let row = row.unwrap();
    assert!(!row.complete && row.entries.len() < 210, "{}", row.entries.len());
    let limit = RowLimit {
        entries: 1_000,
        max_bytes: 64 << 10,
    };
    let narrow = snapshot.row_of_size(&doc, &a, &viewer, &user, &SubjectClass::Object, limit);
    let narrow = narrow.await.unwrap();
    assert!(!narrow.complete && narrow.entries.len() <= 2);
    let of = StretchOf {
        resource_type: &doc,
        relation: &viewer,
        subject_type: &user,
        subject_class: &SubjectClass::Object,
    };
    let stretch = snapshot
        .subjects_of(of, &a, std::ops::Bound::Unbounded, 1_000)
        .await
        .unwrap();
    assert!(!stretch.is_last && (1..=4).contains(&stretch.entries.len()));
}
