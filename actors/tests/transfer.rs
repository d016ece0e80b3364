//! Export, import and clone below the surface: what readers, watches and other servers see of them.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use inferadb_actors::{
    Backend, CheckRequest, Consistency, Import, ImportMode, Imported, ListRequest, Paging, Platform, Reach,
    RelationshipFilter, ResourcesRequest, Revision, SchemaWrite, Settings, VaultChange, VaultError, VaultId,
    WriteRequest, now,
};
use inferadb_engine::context::Value;
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{CaveatRef, Name, ObjectRef, Relationship, SubjectRef};
use inferadb_engine::schema::Format;
use inferadb_storage::StoreError;
use support::{Fault, Stage, relationship};

/// Nobody has `both` in any state of these tests: whoever sees it has seen two states at once.
const SCHEMA: &str = "
definition user {}

definition document {
    relation left: user
    relation right: user
    permission both = left & right
    permission any = left + right
}
";
/// Long enough for whatever should happen at all; nothing waits so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(memory_budget_bytes: usize) -> Settings {
    Settings {
        memory_budget_bytes,
        poll_interval: Duration::from_millis(50),
        ..Settings::default()
    }
}

async fn write(platform: &Platform, stage: &Stage, id: VaultId, texts: &[&str]) -> Revision {
    let (vault, _pass) = platform.enter(id, stage.account).await.unwrap();
    let touch = texts.iter().map(|text| relationship(text)).collect();
    let request = WriteRequest {
        touch,
        ..WriteRequest::default()
    };
    vault.write(request).await.unwrap()
}

async fn put_schema(stage: &Stage, id: VaultId, text: &str) -> Revision {
    let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let schema = SchemaWrite {
        text: text.into(),
        format: Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap().0
}

async fn begin(platform: &Platform, id: VaultId, mode: ImportMode) -> Import {
    platform.import(id, Reach::Everything, mode).await.unwrap()
}

async fn import(platform: &Platform, id: VaultId, mode: ImportMode, rows: &[Relationship]) -> Imported {
    let mut import = begin(platform, id, mode).await;
    for page in rows.chunks(700) {
        import.add(page.to_vec()).await.unwrap();
    }
    import.finish().await.unwrap()
}

/// So many documents, each with one user on the side.
fn side(side: &str, count: usize) -> Vec<Relationship> {
    (0..count)
        .map(|at| relationship(&format!("document:d{at}#{side}@user:ann")))
        .collect()
}

fn check(document: &str, permission: &str) -> CheckRequest {
    CheckRequest {
        subject: SubjectRef::parse("user:ann").unwrap(),
        resource: ObjectRef::parse(document).unwrap(),
        permission: Name::parse(permission).unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    }
}

async fn decide(
    platform: &Platform,
    stage: &Stage,
    id: VaultId,
    document: &str,
    permission: &str,
) -> Decision {
    let (vault, _pass) = platform.enter(id, stage.account).await.unwrap();
    let answer = vault
        .check(&check(document, permission), Consistency::default(), now())
        .await;
    answer.unwrap().decision
}

async fn exported(platform: &Platform, id: VaultId) -> BTreeSet<String> {
    let mut export = platform.export(id, Reach::Everything).await.unwrap();
    let counted = export.relationships().unwrap();
    let mut all = Vec::new();
    while let Some(page) = export.next().await.unwrap() {
        assert!(!page.is_empty() && page.len() <= 1_000);
        all.extend(page.iter().map(|one| one.key().to_string()));
    }
    assert!(all.len() as u64 == counted);
    let sorted: BTreeSet<String> = all.iter().cloned().collect();
    assert_eq!(sorted.len(), all.len());
    sorted
}

fn keys(rows: &[Relationship]) -> BTreeSet<String> {
    rows.iter().map(|one| one.key().to_string()).collect()
}

#[actix::test]
async fn reads_after_the_answer_show_the_import() {
    for budget in [0, 64 << 20] {
        let stage = Stage::new(settings(budget)).await;
        let id = stage.vault().await;
        put_schema(&stage, id, SCHEMA).await;
        write(&stage.platform, &stage, id, &["document:old#left@user:ann"]).await;
        assert_eq!(
            decide(&stage.platform, &stage, id, "document:old", "any").await,
            Decision::Allow
        );
        let rows = side("right", 2_500);
        let done = import(&stage.platform, id, ImportMode::Replace, &rows).await;
        assert_eq!(
            (done.relationships, done.created, done.updated, done.removed),
            (2_500, 2_500, 0, Some(1))
        );
        assert_eq!(
            decide(&stage.platform, &stage, id, "document:old", "any").await,
            Decision::Deny
        );
        assert_eq!(
            decide(&stage.platform, &stage, id, "document:d7", "any").await,
            Decision::Allow
        );
        let stats = stage.platform.stats(id, Reach::Everything).await.unwrap();
        assert_eq!((stats.relationships, stats.revision), (2_500, done.revision));
        assert_eq!(stage.metric("inferadb_vault_relationships_total"), 2_500.0);
        assert_eq!(exported(&stage.platform, id).await, keys(&rows));
        // A merge too large for one write, with some of what is there.
        let mut more = side("left", 2_000);
        more.extend(side("right", 100));
        let merged = import(&stage.platform, id, ImportMode::Merge, &more).await;
        assert_eq!(
            (
                merged.relationships,
                merged.created,
                merged.updated,
                merged.removed
            ),
            (2_100, 2_000, 0, None)
        );
        assert_eq!(
            decide(&stage.platform, &stage, id, "document:d7", "both").await,
            Decision::Allow
        );
        let stats = stage.platform.stats(id, Reach::Everything).await.unwrap();
        assert_eq!((stats.relationships, stats.revision), (4_500, merged.revision));
        // While it is not active, too.
        stage.platform.deactivate(id, Reach::Everything).await.unwrap();
        let none = import(&stage.platform, id, ImportMode::Replace, &[]).await;
        assert_eq!((none.relationships, none.removed), (0, Some(4_500)));
        assert_eq!(
            decide(&stage.platform, &stage, id, "document:d7", "any").await,
            Decision::Deny
        );
        assert_eq!(exported(&stage.platform, id).await, BTreeSet::new());
    }
}

#[actix::test]
async fn no_answer_is_of_two_states() {
    for budget in [0, 64 << 20] {
        let stage = Stage::over(settings(budget), true).await;
        let other = stage.neighbour(settings(budget)).await;
        let id = stage.vault().await;
        put_schema(&stage, id, SCHEMA).await;
        let ended = Cell::new(false);
        let asking = async |platform: &Platform, at: usize| {
            let mut asked = 0;
            while !ended.get() {
                let document = format!("document:d{}", (asked * 7 + at) % 1_200);
                let (vault, _pass) = platform.enter(id, stage.account).await.unwrap();
                let checks = [check(&document, "both"), check(&document, "any")];
                let batch = vault.check_batch(&checks, Consistency::default(), now()).await;
                let batch = match batch {
                    Ok(batch) => batch,
                    // The states change faster than a whole batch can be read without rows in memory.
                    Err(VaultError::Overloaded(_)) => continue,
                    Err(error) => panic!("{error:?}"),
                };
                assert_eq!(batch.results[0].as_ref().unwrap().decision, Decision::Deny);
                let request = ResourcesRequest {
                    subject: SubjectRef::parse("user:ann").unwrap(),
                    permission: Name::parse("both").unwrap(),
                    resource_type: Name::parse("document").unwrap(),
                    context: Arc::default(),
                    contextual: Arc::default(),
                };
                let paging = Paging {
                    limit: 50,
                    cursor: None,
                    consistency: Consistency::default(),
                    now: now(),
                };
                match vault.list(&ListRequest::Resources(request), &paging).await {
                    Ok(page) => assert!(page.items.is_empty(), "{page:?}"),
                    Err(VaultError::Overloaded(_)) => continue,
                    Err(error) => panic!("{error:?}"),
                }
                asked += 1;
                tokio::task::yield_now().await;
            }
            asked
        };
        let importing = async {
            let mut latest = None;
            for round in 0..12 {
                let rows = side(if round % 2 == 0 { "left" } else { "right" }, 1_200);
                let done = import(&stage.platform, id, ImportMode::Replace, &rows).await;
                // Another server shows it to whoever carries the revision there.
                let (vault, _pass) = other.enter(id, stage.account).await.unwrap();
                let answer = vault
                    .check(
                        &check("document:d1", if round % 2 == 0 { "left" } else { "right" }),
                        Consistency::AtLeast(done.revision),
                        now(),
                    )
                    .await;
                assert_eq!(answer.unwrap().decision, Decision::Allow);
                latest = Some(done.revision);
            }
            ended.set(true);
            latest.unwrap()
        };
        let all = async { tokio::join!(importing, asking(&stage.platform, 0), asking(&other, 3)) };
        let (latest, here, there) = tokio::time::timeout(PATIENCE, all).await.unwrap();
        assert!(here > 0 && there > 0);
        let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
        assert_eq!(vault.view_revision(), latest);
    }
}

#[actix::test]
async fn watches_are_told_what_they_can_be_told() {
    let stage = Stage::new(settings(64 << 20)).await;
    let id = stage.vault().await;
    let start = put_schema(&stage, id, SCHEMA).await;
    let mut watch = stage.watch(&stage.platform, id, None).await.unwrap();
    // A small merge is a write like any other.
    let small = import(&stage.platform, id, ImportMode::Merge, &side("left", 900)).await;
    let changes = watch.next().await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(watch.position(), small.revision);
    for mode in [ImportMode::Merge, ImportMode::Replace] {
        let before = watch.position();
        let done = import(&stage.platform, id, mode, &side("right", 1_800)).await;
        let end = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
        assert!(matches!(end, Err(VaultError::HistoryGone)), "{end:?}");
        for since in [start, before] {
            let resumed = stage.watch(&stage.platform, id, Some(since)).await;
            assert!(matches!(resumed.err(), Some(VaultError::HistoryGone)));
        }
        watch = stage
            .watch(&stage.platform, id, Some(done.revision))
            .await
            .unwrap();
        let written = write(&stage.platform, &stage, id, &["document:new#left@user:bob"]).await;
        let changes = watch.next().await.unwrap();
        assert_eq!((changes.len(), watch.position()), (1, written));
    }
}

#[actix::test]
async fn a_page_read_goes_on_after_a_replacement() {
    let stage = Stage::new(settings(64 << 20)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    import(&stage.platform, id, ImportMode::Replace, &side("left", 50)).await;
    let read = async |cursor: Option<&str>| {
        let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
        let all = RelationshipFilter::default();
        vault
            .read(&all, cursor, 30, Consistency::default(), now())
            .await
            .unwrap()
    };
    let first = read(None).await;
    import(&stage.platform, id, ImportMode::Replace, &side("left", 50)).await;
    let second = read(first.cursor.as_deref()).await;
    assert_eq!((first.relationships.len(), second.relationships.len()), (30, 20));
    let both = [first.relationships, second.relationships].concat();
    assert_eq!(keys(&both), keys(&side("left", 50)));
}

#[actix::test]
async fn a_vault_that_is_archived_meanwhile_takes_no_import() {
    let stage = Stage::new(settings(0)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    let rows = side("left", 5);
    let mut under_way = Vec::new();
    for (mode, rows) in [
        (ImportMode::Replace, rows.clone()),
        (ImportMode::Merge, rows.clone()),
        (ImportMode::Merge, side("right", 1_000)),
    ] {
        let mut import = begin(&stage.platform, id, mode).await;
        import.add(rows).await.unwrap();
        under_way.push(import);
    }
    under_way[2].add(rows).await.unwrap();
    let change = VaultChange {
        archived: Some(true),
        ..VaultChange::default()
    };
    let updated = stage.platform.update_vault(id, Reach::Everything, change).await;
    assert!(updated.unwrap().archived);
    let refused = |error: VaultError| {
        assert!(
            matches!(
                error,
                VaultError::Conflict {
                    code: "vault_archived",
                    ..
                }
            ),
            "{error:?}"
        );
    };
    for import in under_way {
        refused(import.finish().await.unwrap_err());
    }
    let begun = stage
        .platform
        .import(id, Reach::Everything, ImportMode::Merge)
        .await;
    refused(begun.err().unwrap());
    assert_eq!(exported(&stage.platform, id).await, BTreeSet::new());
}

#[actix::test]
async fn a_few_small_relationships_may_replace_large_ones() {
    let stage = Stage::new(settings(0)).await;
    let id = stage.vault().await;
    let schema = "
        definition user {}
        caveat known(word string) { word != \"\" }
        definition document {
            relation left: user | user with known
        }
    ";
    put_schema(&stage, id, schema).await;
    let small = side("left", 500);
    let large: Vec<Relationship> = small
        .iter()
        .map(|one| Relationship {
            caveat: Some(CaveatRef {
                name: Name::parse("known").unwrap(),
                context: [("word".to_owned(), Value::String("x".repeat(25_000)))].into(),
            }),
            ..one.clone()
        })
        .collect();
    import(&stage.platform, id, ImportMode::Merge, &large).await;
    let done = import(&stage.platform, id, ImportMode::Merge, &small).await;
    assert_eq!((done.relationships, done.created, done.updated), (500, 0, 500));
    let again = import(&stage.platform, id, ImportMode::Merge, &small).await;
    assert_eq!((again.created, again.updated), (0, 0));
}

#[actix::test]
async fn one_read_never_goes_on_in_what_replaced_its_state() {
    let stage = Stage::new(settings(0)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    import(&stage.platform, id, ImportMode::Merge, &side("left", 50)).await;
    let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let read = async || {
        let all = RelationshipFilter::default();
        let mut read = vault
            .read_all(all, None, Consistency::default(), now())
            .await
            .unwrap();
        assert_eq!(read.next(10).await.unwrap().unwrap().len(), 10);
        read
    };
    // What was merely written to goes on.
    let mut written = read().await;
    write(&stage.platform, &stage, id, &["document:d0#right@user:ann"]).await;
    stage.switch.arm(Some(id), Fault::RowsTooOld, 1);
    assert!(written.next(10).await.is_ok());
    assert_ne!(written.first_revision(), written.revision());

    let mut replaced = read().await;
    import(&stage.platform, id, ImportMode::Replace, &side("right", 50)).await;
    stage.switch.arm(Some(id), Fault::RowsTooOld, 1);
    assert!(matches!(replaced.next(10).await, Err(VaultError::HistoryGone)));
}

#[actix::test]
async fn what_does_not_fit_is_named_and_nothing_is_stored() {
    let stage = Stage::new(settings(64 << 20)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    write(&stage.platform, &stage, id, &["document:old#left@user:ann"]).await;
    let start = stage
        .platform
        .stats(id, Reach::Everything)
        .await
        .unwrap()
        .revision;
    for mode in [ImportMode::Merge, ImportMode::Replace] {
        let mut import = begin(&stage.platform, id, mode).await;
        let mut page = side("left", 1_000);
        import.add(page.clone()).await.unwrap();
        page[17] = relationship("document:x#middle@user:ann");
        match import.add(page).await {
            Err(VaultError::Misfit { at, .. }) => assert_eq!(at, "relationships[17]"),
            other => panic!("{other:?}"),
        }
        let partly = import.finish().await;
        assert!(matches!(partly, Err(VaultError::Conflict { .. })), "{partly:?}");
        let late = begin(&stage.platform, id, mode)
            .await
            .add(side("left", 1_001))
            .await;
        assert!(matches!(late, Err(VaultError::Invalid { .. })));
        let mut import = begin(&stage.platform, id, mode).await;
        let bad = import.schema(Format::Native, "definition {").await;
        assert!(matches!(bad, Err(VaultError::Schema(_))));
        import.schema(Format::Native, "definition user {}").await.unwrap();
        let twice = import.schema(Format::Native, "definition user {}").await;
        assert!(matches!(twice, Err(VaultError::Invalid { .. })));
        let misfit = import.add(side("left", 1)).await;
        assert!(matches!(misfit, Err(VaultError::Misfit { .. })));
    }
    // What the vault holds does not fit a schema that is merged in.
    let mut import = begin(&stage.platform, id, ImportMode::Merge).await;
    import.schema(Format::Native, "definition user {}").await.unwrap();
    let outcome = import.finish().await;
    assert!(
        matches!(outcome, Err(VaultError::SchemaInUse { .. })),
        "{outcome:?}"
    );
    let limits = serde_json::json!({"max_depth": 5});
    let merged = begin(&stage.platform, id, ImportMode::Merge)
        .await
        .settings(limits.as_object().cloned())
        .await;
    assert!(matches!(merged, Err(VaultError::Invalid { .. })));
    let unknown = serde_json::json!({"depth": 5});
    let unknown = begin(&stage.platform, id, ImportMode::Replace)
        .await
        .settings(unknown.as_object().cloned())
        .await;
    assert!(matches!(unknown, Err(VaultError::Invalid { .. })));
    let foreign = stage.platform.create_account("other").await.unwrap().id;
    let hidden = stage
        .platform
        .import(id, Reach::Account(foreign), ImportMode::Merge)
        .await;
    assert!(matches!(hidden.err(), Some(VaultError::NotFound("vault"))));
    let hidden = stage.platform.export(id, Reach::Account(foreign)).await;
    assert!(matches!(hidden.err(), Some(VaultError::NotFound("vault"))));
    let stats = stage.platform.stats(id, Reach::Everything).await.unwrap();
    assert_eq!((stats.revision, stats.relationships), (start, 1));
    // A schema of its own, settings and all.
    let mut import = begin(&stage.platform, id, ImportMode::Replace).await;
    import.schema(Format::Native, "definition user {}").await.unwrap();
    import.settings(limits.as_object().cloned()).await.unwrap();
    let done = import.finish().await.unwrap();
    assert!(done.schema_changed);
    let stats = stage.platform.stats(id, Reach::Everything).await.unwrap();
    assert_eq!((stats.relationships, stats.limits.max_depth), (0, 5));
    let export = stage.platform.export(id, Reach::Everything).await.unwrap();
    assert_eq!(export.schema().unwrap().text, "definition user {}");
    assert_eq!(export.vault().limits, limits.as_object().cloned());
}

#[actix::test]
async fn a_schema_that_changes_under_an_import_ends_it() {
    let stage = Stage::new(settings(64 << 20)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    for count in [10, 1_500] {
        for mode in [ImportMode::Merge, ImportMode::Replace] {
            let mut import = begin(&stage.platform, id, mode).await;
            for page in side("left", count).chunks(1_000) {
                import.add(page.to_vec()).await.unwrap();
            }
            put_schema(&stage, id, &format!("{SCHEMA}// {count} {mode:?}")).await;
            match import.finish().await {
                Err(VaultError::Conflict { code, .. }) => assert_eq!(code, "schema_changed"),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(exported(&stage.platform, id).await, BTreeSet::new());
}

#[actix::test]
async fn a_vault_moves_between_engines_and_back() {
    let stage = Stage::new(settings(64 << 20)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    let mut rows = side("left", 3_000);
    rows.extend(side("right", 400));
    import(&stage.platform, id, ImportMode::Merge, &rows).await;
    let folder = tempfile::tempdir().unwrap();
    let backend = Backend::Embedded {
        path: folder.path().into(),
    };
    let disk = Platform::start(backend, settings(64 << 20), &prometheus::Registry::new())
        .await
        .unwrap();
    let account = disk.create_account("disk").await.unwrap().id;
    let there = disk.create_vault(account, "vault").await.unwrap().id;
    let copy = async |from: &Platform, source: VaultId, to: &Platform, target: VaultId, mode| {
        let mut export = from.export(source, Reach::Everything).await.unwrap();
        let mut import = begin(to, target, mode).await;
        let schema = export.schema().unwrap();
        import.schema(schema.format, &schema.text).await.unwrap();
        while let Some(page) = export.next().await.unwrap() {
            import.add(page).await.unwrap();
        }
        import.finish().await.unwrap()
    };
    let there_done = copy(&stage.platform, id, &disk, there, ImportMode::Merge).await;
    assert_eq!((there_done.created, there_done.schema_changed), (3_400, true));
    assert_eq!(exported(&disk, there).await, keys(&rows));
    let back = copy(&disk, there, &stage.platform, id, ImportMode::Merge).await;
    assert_eq!(
        (
            back.relationships,
            back.created,
            back.updated,
            back.schema_changed
        ),
        (3_400, 0, 0, false)
    );
    let back = copy(&disk, there, &stage.platform, id, ImportMode::Replace).await;
    assert_eq!(
        (back.created, back.removed, back.schema_changed),
        (3_400, Some(3_400), false)
    );
    assert_eq!(exported(&stage.platform, id).await, keys(&rows));
}

#[actix::test]
async fn a_clone_is_the_source_as_it_was() {
    let stage = Stage::new(settings(64 << 20)).await;
    let id = stage.vault().await;
    let first = put_schema(&stage, id, SCHEMA).await;
    import(&stage.platform, id, ImportMode::Merge, &side("left", 700)).await;
    let filled = write(&stage.platform, &stage, id, &["document:x#left@user:bob"]).await;
    put_schema(&stage, id, &format!("{SCHEMA}// later")).await;
    write(&stage.platform, &stage, id, &["document:y#left@user:bob"]).await;
    let clone = async |at: Option<Revision>| {
        let source = stage
            .platform
            .clone_vault(id, Reach::Everything, "staging", None, at)
            .await;
        source.map(|record| record.id)
    };
    let newest = clone(None).await.unwrap();
    assert_eq!(
        exported(&stage.platform, newest).await,
        exported(&stage.platform, id).await
    );
    let past = clone(Some(filled)).await.unwrap();
    let mut expected = keys(&side("left", 700));
    assert_eq!(
        exported(&stage.platform, clone(Some(first)).await.unwrap()).await,
        BTreeSet::new()
    );
    expected.insert(relationship("document:x#left@user:bob").key().to_string());
    assert_eq!(exported(&stage.platform, past).await, expected);
    let schema = stage.platform.export(past, Reach::Everything).await.unwrap();
    assert_eq!(schema.schema().unwrap().text, SCHEMA);
    assert_eq!(
        decide(&stage.platform, &stage, past, "document:d1", "any").await,
        Decision::Allow
    );
    // What is done to one is not done to the other.
    write(&stage.platform, &stage, past, &["document:d1#right@user:ann"]).await;
    assert_eq!(
        decide(&stage.platform, &stage, id, "document:d1", "both").await,
        Decision::Deny
    );
    let ahead = write(&stage.platform, &stage, past, &["document:d2#right@user:ann"]).await;
    assert!(matches!(clone(Some(ahead)).await, Err(VaultError::RevisionAhead)));
    let done = import(&stage.platform, id, ImportMode::Replace, &[]).await;
    assert!(matches!(clone(Some(filled)).await, Err(VaultError::HistoryGone)));
    clone(Some(done.revision)).await.unwrap();
    let other = stage.platform.create_account("other").await.unwrap().id;
    let clone_into = async |reach, account| {
        let made = stage
            .platform
            .clone_vault(id, reach, "there", Some(account), None)
            .await;
        made.map(|record| record.account)
    };
    assert_eq!(clone_into(Reach::Everything, other).await.unwrap(), other);
    for (reach, account) in [(stage.account, other), (other, stage.account), (other, other)] {
        let hidden = clone_into(Reach::Account(reach), account).await;
        assert!(matches!(hidden, Err(VaultError::NotFound(_))), "{hidden:?}");
    }
    let vaults = stage.platform.vaults(other, true, None, 10).await.unwrap();
    assert_eq!(vaults.items.len(), 1);
}

#[actix::test]
async fn a_state_that_too_much_has_been_done_to_is_gone_for_good() {
    let stage = Stage::new(settings(0)).await;
    let id = stage.vault().await;
    let schema = "
        definition user {}
        caveat known(word string) { word != \"\" }
        definition document {
            relation left: user | user with known
        }
    ";
    put_schema(&stage, id, schema).await;
    let (vault, _pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let write = async |touch: Vec<Relationship>| {
        let request = WriteRequest {
            touch,
            ..WriteRequest::default()
        };
        vault.write(request).await.unwrap()
    };
    let small = side("left", 400);
    let mut last = None;
    for some in small.chunks(25) {
        let large = some.iter().map(|one| Relationship {
            caveat: Some(CaveatRef {
                name: Name::parse("known").unwrap(),
                context: [("word".to_owned(), Value::String("x".repeat(90_000)))].into(),
            }),
            ..one.clone()
        });
        last = Some(write(large.collect()).await);
    }
    for some in small.chunks(25) {
        write(some.to_vec()).await;
    }
    let clone = async |at| {
        let made = stage
            .platform
            .clone_vault(id, Reach::Everything, "copy", None, at)
            .await;
        made.map(|record| record.id)
    };
    assert!(matches!(clone(last).await, Err(VaultError::HistoryGone)));
    let copy = clone(None).await.unwrap();
    assert_eq!(exported(&stage.platform, copy).await, keys(&small));
}

#[actix::test]
async fn what_does_not_fit_does_not_add_kinds_of_relationships_without_end() {
    let stage = Stage::new(settings(0)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    let of_kinds = |kinds: std::ops::Range<usize>| -> Vec<Relationship> {
        let text = |kind| format!("document:d#r{kind}@user:ann");
        kinds.map(|kind| relationship(&text(kind))).collect()
    };
    let force = async |mode, rows: Vec<Relationship>| {
        let mut import = begin(&stage.platform, id, mode).await;
        import.force();
        for page in rows.chunks(1_000) {
            import.add(page.to_vec()).await?;
        }
        import.finish().await
    };
    for thousand in 0..10 {
        let rows = of_kinds(thousand * 1_000..(thousand + 1) * 1_000);
        let imported = force(ImportMode::Merge, rows).await.unwrap();
        assert_eq!((imported.created, imported.misfits), (1_000, 1_000));
    }
    let too_many = |outcome: Result<Imported, VaultError>| {
        assert!(
            matches!(outcome, Err(VaultError::Storage(StoreError::TooLarge(_)))),
            "{outcome:?}"
        );
    };
    // One more is too many, and another one of a kind that is there is not.
    too_many(force(ImportMode::Merge, of_kinds(10_000..10_001)).await);
    let other = vec![relationship("document:e#r1@user:ann")];
    assert_eq!(force(ImportMode::Merge, other).await.unwrap().created, 1);
    too_many(force(ImportMode::Replace, of_kinds(0..10_001)).await);
    let imported = force(ImportMode::Replace, of_kinds(1..10_001)).await.unwrap();
    assert_eq!(imported.removed, Some(10_001));
}

#[actix::test]
async fn a_merge_may_replace_what_does_not_fit_its_schema() {
    let stage = Stage::new(settings(0)).await;
    for count in [2, 1_500] {
        let id = stage.vault().await;
        let schema = "
            definition user {}
            caveat known(word string) { word != \"\" }
            definition document {
                relation left: user | user with known
            }
        ";
        put_schema(&stage, id, schema).await;
        import(&stage.platform, id, ImportMode::Merge, &side("left", count)).await;
        // Only with a caveat from now on: all that is there comes again with one.
        let narrow = schema.replace("user | user with", "user with");
        let mut rows = side("left", count);
        for one in &mut rows {
            one.caveat = Some(CaveatRef {
                name: Name::parse("known").unwrap(),
                context: [("word".to_owned(), Value::String("x".into()))].into(),
            });
        }
        let merge = async |rows: &[Relationship]| {
            let mut import = begin(&stage.platform, id, ImportMode::Merge).await;
            import.schema(Format::Native, &narrow).await.unwrap();
            for page in rows.chunks(700) {
                import.add(page.to_vec()).await.unwrap();
            }
            import.finish().await
        };
        match merge(&rows[1..]).await {
            Err(VaultError::SchemaInUse { examples, .. }) => assert_eq!(examples, [rows[0].key()]),
            other => panic!("{other:?}"),
        }
        let merged = merge(&rows).await.unwrap();
        assert_eq!((merged.updated, merged.schema_changed), (count as u64, true));
    }
}

async fn until_allowed(stage: &Stage, id: VaultId, document: &str) {
    let allowed = async {
        while decide(&stage.platform, stage, id, document, "any").await != Decision::Allow {
            tokio::task::yield_now().await;
        }
    };
    let allowed = tokio::time::timeout(PATIENCE, allowed).await;
    assert!(allowed.is_ok(), "what was stored after all is not shown");
}

#[actix::test]
async fn what_is_stored_after_its_outcome_was_unknown_comes_to_be_shown() {
    let stage = Stage::new(settings(64 << 20)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    write(&stage.platform, &stage, id, &["document:old#left@user:ann"]).await;
    let shown = async |document: &str| decide(&stage.platform, &stage, id, document, "any").await;
    assert_eq!(shown("document:old").await, Decision::Allow);

    // A write.
    stage.switch.lose_a_commit();
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let request = WriteRequest {
        touch: vec![relationship("document:write#left@user:ann")],
        ..WriteRequest::default()
    };
    let outcome = vault.write(request).await;
    assert!(matches!(outcome, Err(VaultError::OutcomeUnknown)), "{outcome:?}");
    drop((vault, pass));
    assert_eq!(shown("document:write").await, Decision::Deny);
    stage.switch.recover().await;
    until_allowed(&stage, id, "document:write").await;

    // An import, into a vault that is active, that is not, and that is activated before it is stored.
    stage.platform.deactivate(id, Reach::Everything).await.unwrap();
    for (document, is_active) in [
        ("document:i0", false),
        ("document:i1", true),
        ("document:i2", false),
    ] {
        if is_active {
            shown("document:old").await;
        } else {
            stage.platform.deactivate(id, Reach::Everything).await.unwrap();
        }
        let mut import = begin(&stage.platform, id, ImportMode::Merge).await;
        let row = relationship(&format!("{document}#left@user:ann"));
        import.add(vec![row]).await.unwrap();
        stage.switch.lose_a_commit();
        let outcome = import.finish().await;
        assert!(matches!(outcome, Err(VaultError::OutcomeUnknown)), "{outcome:?}");
        assert_eq!(shown(document).await, Decision::Deny);
        stage.switch.recover().await;
        until_allowed(&stage, id, document).await;
    }
}

#[actix::test]
async fn an_export_of_misfits_is_imported_by_force() {
    let stage = Stage::new(settings(64 << 20)).await;
    let id = stage.vault().await;
    put_schema(&stage, id, SCHEMA).await;
    write(
        &stage.platform,
        &stage,
        id,
        &["document:d#left@user:ann", "document:d#right@user:ann"],
    )
    .await;
    let narrow = SCHEMA.replace("relation right: user", "relation right: document");
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let schema = SchemaWrite {
        text: narrow.clone(),
        format: Format::Native,
        force: true,
    };
    vault.put_schema(schema).await.unwrap();
    drop((vault, pass));
    let rows = exported(&stage.platform, id).await;
    assert_eq!(rows.len(), 2);
    for (mode, count) in [
        (ImportMode::Merge, 2),
        (ImportMode::Replace, 2),
        // More than one ordinary write.
        (ImportMode::Merge, 1_500),
    ] {
        let other = stage.vault().await;
        if count > 2 {
            // What is there does not fit either.
            put_schema(&stage, other, SCHEMA).await;
            write(&stage.platform, &stage, other, &["document:there#right@user:ann"]).await;
        }
        let page: Vec<Relationship> = rows.iter().map(|text| relationship(text)).collect();
        let mut import = begin(&stage.platform, other, mode).await;
        import.force();
        import.schema(Format::Native, &narrow).await.unwrap();
        import.add(page).await.unwrap();
        for page in side("left", count - 2).chunks(700) {
            import.add(page.to_vec()).await.unwrap();
        }
        let imported = import.finish().await.unwrap();
        assert_eq!((imported.relationships, imported.misfits), (count as u64, 1));
        let both = decide(&stage.platform, &stage, other, "document:d", "both").await;
        let any = decide(&stage.platform, &stage, other, "document:d", "any").await;
        assert_eq!(
            (both, any),
            (Decision::Deny, Decision::Allow),
            "the misfit is ignored"
        );
        let there = decide(&stage.platform, &stage, other, "document:there", "any").await;
        assert_eq!(there, Decision::Deny);
        let stored = exported(&stage.platform, other).await;
        assert!(rows.is_subset(&stored));
        assert_eq!(stored.len(), count + usize::from(count > 2));
    }
}
