//! Every file in `tests/corpus`: its schema is stored in a vault, its relationships are written, and each of its
//! assertions holds, whatever is cached or in memory, in whatever order they are asked; and the lists say the same.
//!
//! The files have the form of SpiceDB's validation files (docs/schema-tools.md): each is run as a schema test, too. A
//! new case needs no Rust. `INFERADB_CORPUS_DIR=folder` runs the files of another folder.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use inferadb::schema_test::{self, Bounds, Expectable, Expected, NoFiles, Suite};
use inferadb_actors::{
    Backend, CacheSettings, CheckRequest, Consistency, ListRequest, MAX_CONTEXTUAL_RELATIONSHIPS, Paging,
    Platform, Reach, ResourcesRequest, SchemaWrite, Settings, SimulateRequest, SubjectsRequest, Vault,
    VaultError, WriteRequest, now,
};
use inferadb_engine::evaluate::{Decision, Limits};
use inferadb_engine::list::Listed;
use inferadb_engine::noun::Relationship;
use inferadb_engine::schema::Format;

/// One assertion of a file.
struct Assertion {
    text: String,
    check: CheckRequest,
    expected: Expectable,
}

/// The assertions of a suite.
fn assertions(suite: &Suite) -> Vec<Assertion> {
    let expectations = suite.groups.iter().flat_map(|group| &group.expectations);
    let decisions = expectations.filter_map(|expectation| match &expectation.kind {
        Expected::Decision(check, expected) => Some(Assertion {
            text: expectation.text.clone(),
            check: check.clone(),
            expected: *expected,
        }),
        _ => None,
    });
    decisions.collect()
}

/// Whether decisions are cached, and how much a vault may hold in memory.
fn settings(is_cached: bool, memory_budget_bytes: usize) -> Settings {
    Settings {
        cache: CacheSettings {
            enabled: is_cached,
            max_entries: 10_000,
            ttl: Duration::from_secs(300),
        },
        memory_budget_bytes,
        ..Settings::default()
    }
}

/// All pages of a list.
async fn list(vault: &Vault, request: &ListRequest, limit: usize) -> Result<Vec<Listed>, VaultError> {
    let mut listed = Vec::new();
    let mut cursor = None;
    loop {
        let paging = Paging {
            limit,
            cursor,
            consistency: Consistency::default(),
            now: now(),
        };
        let page = vault.list(request, &paging).await?;
        listed.extend(page.items);
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(listed);
        }
    }
}

/// What the list of the subject's resources says of the check's.
async fn by_resources(
    vault: &Vault,
    check: &CheckRequest,
    contextual: &Arc<[Relationship]>,
    limit: usize,
) -> Result<Decision, VaultError> {
    let request = ListRequest::Resources(ResourcesRequest {
        subject: check.subject.clone(),
        permission: check.permission.clone(),
        resource_type: check.resource.object_type.clone(),
        context: check.context.clone(),
        contextual: Arc::clone(contextual),
    });
    let listed = list(vault, &request, limit).await?;
    let found = listed.into_iter().find(|item| item.id == check.resource.id);
    Ok(found.map_or(Decision::Deny, |item| item.decision))
}

/// What the list of the resource's subjects says of the check's.
async fn by_subjects(
    vault: &Vault,
    check: &CheckRequest,
    contextual: &Arc<[Relationship]>,
    limit: usize,
) -> Result<Decision, VaultError> {
    let request = ListRequest::Subjects(SubjectsRequest {
        resource: check.resource.clone(),
        permission: check.permission.clone(),
        subject_type: check.subject.object_type.clone(),
        subject_relation: check.subject.relation.clone(),
        context: check.context.clone(),
        contextual: Arc::clone(contextual),
    });
    let listed = list(vault, &request, limit).await?;
    let id = &check.subject.id;
    let wildcard = listed.first().filter(|item| item.id.is_wildcard());
    Ok(match listed.iter().find(|item| item.id == *id) {
        Some(item) => item.decision.clone(),
        // Whom nothing names is meant by the wildcard.
        None => match wildcard {
            Some(wildcard) if !wildcard.excluded.contains(id) => wildcard.decision.clone(),
            _ => Decision::Deny,
        },
    })
}

/// Runs one file on one platform; answers how many assertions there were, and the failures.
async fn run(platform: &Platform, path: &Path) -> Result<(usize, Vec<String>), String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let suite = schema_test::parse(&text, None, &NoFiles).map_err(|unfit| format!("{unfit:?}"))?;
    let assertions = assertions(&suite);
    let relationships: Vec<Relationship> = suite
        .relationships
        .iter()
        .map(|placed| placed.value.clone())
        .collect();
    // The same file says the same where nothing is stored.
    let bounds = Bounds {
        limits: Limits::default(),
        max_relationships: 1_000_000,
        max_checks: 1_000_000,
    };
    let report = schema_test::run(&suite, &bounds, now(), &AtomicUsize::new(0), false).await;
    let report = report.map_err(|unfit| format!("{unfit:?}"))?;
    if report.failed() > 0 {
        return Err(report.to_text("as a schema test"));
    }
    let failed = |what: &str, error: VaultError| format!("{what}: {error}: {error:?}");
    let account = platform.create_account("corpus").await.unwrap().id;
    let id = platform.create_vault(account, "case").await.unwrap().id;
    let (vault, pass) = platform.enter(id, account).await.unwrap();
    let schema = SchemaWrite {
        text: suite.schema_text.clone(),
        format: Format::Native,
        force: false,
    };
    vault
        .put_schema(schema)
        .await
        .map_err(|error| failed("schema", error))?;
    for touch in relationships.chunks(500) {
        let request = WriteRequest {
            touch: touch.to_vec(),
            ..WriteRequest::default()
        };
        vault
            .write(request)
            .await
            .map_err(|error| failed("relationships", error))?;
    }
    drop((vault, pass));
    let mut failures = Vec::new();
    let mut disagreements = Vec::new();
    let mut judge = |assertion: &Assertion, found: Result<&Decision, &VaultError>, how: &str| {
        let holds = matches!(
            (found, assertion.expected),
            (Ok(Decision::Allow), Expectable::Allow)
                | (Ok(Decision::Deny), Expectable::Deny)
                | (Ok(Decision::Conditional { .. }), Expectable::Conditional)
        );
        if !holds {
            let Assertion { text, expected, .. } = assertion;
            failures.push(format!("{text}: expected {expected:?}, found {found:?} ({how})"));
        }
    };
    for round in ["at first", "again", "backwards", "once more"] {
        let (vault, _pass) = platform.enter(id, account).await.unwrap();
        let mut order: Vec<&Assertion> = assertions.iter().collect();
        if round == "backwards" {
            order.reverse();
        }
        for assertion in order {
            let found = vault.check(&assertion.check, Consistency::default(), now()).await;
            judge(assertion, found.as_ref().map(|answer| &answer.decision), round);
        }
        if round == "once more" {
            let checks: Vec<CheckRequest> = assertions
                .iter()
                .map(|assertion| assertion.check.clone())
                .collect();
            let batch = vault
                .check_batch(&checks, Consistency::FullyConsistent, now())
                .await
                .unwrap();
            for (assertion, found) in assertions.iter().zip(&batch.results) {
                judge(
                    assertion,
                    found.as_ref().map(|answer| &answer.decision),
                    "in a batch",
                );
            }
            let stored = Arc::default();
            for (assertion, of_batch) in assertions.iter().zip(&batch.results) {
                let check = &assertion.check;
                for limit in [1, 2, 1_000] {
                    for (found, how) in [
                        (
                            by_resources(&vault, check, &stored, limit).await,
                            "by the list of resources",
                        ),
                        (
                            by_subjects(&vault, check, &stored, limit).await,
                            "by the list of subjects",
                        ),
                    ] {
                        judge(assertion, found.as_ref(), how);
                        // What is missing is the same as in a check.
                        let checked = of_batch.as_ref().map(|answer| &answer.decision);
                        if found.as_ref().ok() != checked.ok() {
                            let text = &assertion.text;
                            disagreements.push(format!("{text}: {found:?} {how}, {checked:?} in a check"));
                        }
                    }
                }
            }
        }
        drop((vault, _pass));
        if round == "again" {
            platform.deactivate(id, Reach::Everything).await.unwrap();
        }
    }
    for (how, decisions) in imagined(platform, &suite.schema_text, &relationships, &assertions).await? {
        for (assertion, found) in assertions.iter().zip(&decisions) {
            judge(assertion, found.as_ref(), how);
        }
    }
    failures.extend(disagreements);
    Ok((assertions.len(), failures))
}

/// The same decisions where nothing is stored: with all relationships in a simulation, together with the schema or without
/// it, and with each check, as far as they may be so many.
async fn imagined(
    platform: &Platform,
    schema: &str,
    relationships: &[Relationship],
    assertions: &[Assertion],
) -> Result<Vec<(&'static str, Decisions)>, String> {
    let account = platform.create_account("imagined").await.unwrap().id;
    let id = platform.create_vault(account, "empty").await.unwrap().id;
    let (vault, _pass) = platform.enter(id, account).await.unwrap();
    let checks: Vec<CheckRequest> = assertions
        .iter()
        .map(|assertion| assertion.check.clone())
        .collect();
    let mut found = Vec::new();
    for (how, text) in [("simulated with its schema", Some(schema)), ("simulated", None)] {
        if text.is_none() {
            let text = schema.to_owned();
            let format = Format::Native;
            let write = vault
                .put_schema(SchemaWrite {
                    text,
                    format,
                    force: false,
                })
                .await;
            write.map_err(|error| format!("{error:?}"))?;
        }
        let request = SimulateRequest {
            touch: relationships.to_vec(),
            schema: text.map(str::to_owned),
            checks: checks.clone(),
            ..SimulateRequest::default()
        };
        let simulation = vault.simulate(request, Consistency::default(), now()).await;
        let simulation = simulation.map_err(|error| format!("{how}: {error:?}"))?;
        let after = simulation.results.into_iter().map(|result| result.after);
        found.push((how, after.collect()));
    }
    if relationships.len() <= MAX_CONTEXTUAL_RELATIONSHIPS {
        let consistency = Consistency::default();
        let batch = vault
            .check_batch_with(&checks, relationships, consistency, now())
            .await;
        let batch = batch.map_err(|error| format!("contextual: {error:?}"))?;
        let decisions = batch.results.into_iter();
        let decisions = decisions.map(|found| found.map(|answer| answer.decision));
        found.push(("with contextual relationships", decisions.collect()));
        let contextual: Arc<[Relationship]> = relationships.into();
        let (mut resources, mut subjects) = (Vec::new(), Vec::new());
        for check in &checks {
            resources.push(by_resources(&vault, check, &contextual, 2).await);
            subjects.push(by_subjects(&vault, check, &contextual, 2).await);
        }
        found.push(("by the list of resources, contextual", resources));
        found.push(("by the list of subjects, contextual", subjects));
    }
    Ok(found)
}

type Decisions = Vec<Result<Decision, VaultError>>;

#[test]
fn every_assertion_of_every_file_holds() {
    let elsewhere = std::env::var_os("INFERADB_CORPUS_DIR").map(PathBuf::from);
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let folder = elsewhere.as_ref().unwrap_or(&own);
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut failures = Vec::new();
    let mut asserted = 0;
    actix_web::rt::System::new().block_on(async {
        for (how, settings) in [
            ("in memory", settings(true, 64 << 20)),
            ("from storage", settings(true, 0)),
            ("without caches", settings(false, 64 << 20)),
        ] {
            let metrics = prometheus::Registry::new();
            let platform = Platform::start(Backend::Memory, settings, &metrics)
                .await
                .unwrap();
            for path in &files {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                match run(&platform, path).await {
                    Ok((count, failed)) => {
                        asserted += count;
                        failures.extend(
                            failed
                                .into_iter()
                                .map(|failure| format!("{name}, {how}: {failure}")),
                        );
                    }
                    Err(error) => failures.push(format!("{name}, {how}: {error}")),
                }
            }
            platform.stop(Duration::from_secs(30)).await;
        }
    });
    eprintln!("{} files, {asserted} assertions", files.len());
    assert!(
        failures.is_empty(),
        "{}\n{} failures",
        failures.join("\n"),
        failures.len()
    );
    assert!(
        elsewhere.is_some() || files.len() >= 25,
        "only {} files in {}",
        files.len(),
        folder.display()
    );
}
