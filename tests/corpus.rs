//! Every file in `tests/corpus`: its schema is stored in a vault, its relationships are written, and each of its
//! assertions holds, whatever is cached or in memory, in whatever order they are asked; and the lists say the same.
//!
//! The files have the form of SpiceDB's validation files: `schema`, `relationships` (one a line), and `assertions` with
//! the lists `assertTrue`, `assertFalse` and `assertCaveated`, whose items can end in ` with {…}`, the request's context. A new
//! case needs no Rust. `INFERADB_CORPUS_DIR=folder` runs the files of another folder.
#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use inferadb_actors::{
    Backend, CacheSettings, CheckRequest, Consistency, ListRequest, Paging, Platform, Reach,
    ResourcesRequest, SchemaWrite, Settings, SubjectsRequest, Vault, VaultError, WriteRequest, now,
};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::list::Listed;
use inferadb_engine::noun::{CaveatRef, Name, ObjectRef, Relationship, SubjectRef, Timestamp};
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One file. What it holds beside this is for other tools.
#[derive(Debug, Deserialize)]
struct Case {
    schema: String,
    #[serde(default)]
    relationships: Option<String>,
    #[serde(default)]
    assertions: Option<Assertions>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Assertions {
    #[serde(default)]
    assert_true: Option<Vec<String>>,
    #[serde(default)]
    assert_false: Option<Vec<String>>,
    #[serde(default)]
    assert_caveated: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    True,
    False,
    Caveated,
}

struct Assertion {
    text: String,
    check: CheckRequest,
    expected: Expected,
}

impl Case {
    fn assertions(&self) -> Result<Vec<Assertion>, String> {
        let Some(lists) = &self.assertions else {
            return Ok(Vec::new());
        };
        let lists = [
            (&lists.assert_true, Expected::True),
            (&lists.assert_false, Expected::False),
            (&lists.assert_caveated, Expected::Caveated),
        ];
        let mut assertions = Vec::new();
        for (list, expected) in lists {
            for text in list.iter().flatten() {
                assertions.push(Assertion {
                    text: text.clone(),
                    check: parse_check(text).map_err(|error| format!("{text}: {error}"))?,
                    expected,
                });
            }
        }
        Ok(assertions)
    }

    fn relationships(&self) -> Result<Vec<Relationship>, String> {
        let lines = self.relationships.iter().flat_map(|text| text.lines());
        let lines = lines.map(str::trim);
        lines
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .map(|line| parse_relationship(line).map_err(|error| format!("{line}: {error}")))
            .collect()
    }
}

/// `type:id#relation@type:id`, `…@type:id#relation` or `…@type:*`, then perhaps `[caveat]` or `[caveat:{…}]`, then
/// perhaps `[expiration:2030-01-01T00:00:00Z]`.
fn parse_relationship(line: &str) -> Result<Relationship, String> {
    let (resource, relation, rest) = parse_resource(line)?;
    let (subject, mut terms) = rest.split_at(rest.find('[').unwrap_or(rest.len()));
    let mut caveat = None;
    let mut expires_at = None;
    while let Some(inner) = terms.strip_prefix('[') {
        if let Some(text) = inner.strip_prefix("expiration:") {
            let (moment, rest) = text.split_once(']').ok_or("`]` is missing")?;
            let moment = OffsetDateTime::parse(moment, &Rfc3339).map_err(|error| error.to_string())?;
            let micros = i64::try_from(moment.unix_timestamp_nanos() / 1_000);
            expires_at = Some(Timestamp(micros.map_err(|error| error.to_string())?));
            terms = rest;
            continue;
        }
        let end = inner.find([':', ']']).ok_or("`]` is missing")?;
        let (name, rest) = inner.split_at(end);
        let (context, rest) = match rest.strip_prefix(':') {
            Some(json) => parse_context(json)?,
            None => (Context::new(), rest),
        };
        caveat = Some(CaveatRef {
            name: Name::parse(name).map_err(|error| error.to_string())?,
            context,
        });
        terms = rest.trim_start().strip_prefix(']').ok_or("`]` is missing")?;
    }
    if !terms.is_empty() {
        return Err(format!("`{terms}` is too much"));
    }
    Ok(Relationship {
        resource,
        relation,
        subject: SubjectRef::parse(subject).map_err(|error| error.to_string())?,
        caveat,
        expires_at,
    })
}

/// `type:id#permission@subject`, then perhaps ` with {…}`.
fn parse_check(text: &str) -> Result<CheckRequest, String> {
    let (text, context) = match text.split_once(" with ") {
        Some((text, json)) => (text, parse_context(json)?.0),
        None => (text, Context::new()),
    };
    let (resource, permission, subject) = parse_resource(text.trim())?;
    Ok(CheckRequest {
        subject: SubjectRef::parse(subject).map_err(|error| error.to_string())?,
        resource,
        permission,
        context: context.into(),
        trace: false,
    })
}

fn parse_resource(text: &str) -> Result<(ObjectRef, Name, &str), String> {
    let (resource, rest) = text.split_once('#').ok_or("`#` is missing")?;
    let (member, rest) = rest.split_once('@').ok_or("`@` is missing")?;
    let resource = ObjectRef::parse(resource).map_err(|error| error.to_string())?;
    let member = Name::parse(member).map_err(|error| error.to_string())?;
    Ok((resource, member, rest))
}

/// A JSON object at the start of `text`, and what follows it.
fn parse_context(text: &str) -> Result<(Context, &str), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
    let value = values.next().ok_or("there is no context")?;
    let rest = text.get(values.byte_offset()..).unwrap_or_default();
    match value.map(value_of) {
        Ok(Value::Map(context)) => Ok((context, rest)),
        Ok(_) => Err("the context is not an object".into()),
        Err(error) => Err(error.to_string()),
    }
}

fn value_of(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(held) => Value::Bool(held),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Uint(number),
            (None, None) => Value::Double(number.as_f64().unwrap()),
        },
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(value_of).collect()),
        serde_json::Value::Object(members) => Value::Map(
            members
                .into_iter()
                .map(|(name, held)| (name, value_of(held)))
                .collect(),
        ),
    }
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
async fn by_resources(vault: &Vault, check: &CheckRequest, limit: usize) -> Result<Decision, VaultError> {
    let request = ListRequest::Resources(ResourcesRequest {
        subject: check.subject.clone(),
        permission: check.permission.clone(),
        resource_type: check.resource.object_type.clone(),
        context: check.context.clone(),
    });
    let listed = list(vault, &request, limit).await?;
    let found = listed.into_iter().find(|item| item.id == check.resource.id);
    Ok(found.map_or(Decision::Deny, |item| item.decision))
}

/// What the list of the resource's subjects says of the check's.
async fn by_subjects(vault: &Vault, check: &CheckRequest, limit: usize) -> Result<Decision, VaultError> {
    let request = ListRequest::Subjects(SubjectsRequest {
        resource: check.resource.clone(),
        permission: check.permission.clone(),
        subject_type: check.subject.object_type.clone(),
        subject_relation: check.subject.relation.clone(),
        context: check.context.clone(),
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
    let case: Case = serde_yaml::from_str(&text).map_err(|error| error.to_string())?;
    let assertions = case.assertions()?;
    let relationships = case.relationships()?;
    let failed = |what: &str, error: VaultError| format!("{what}: {error}: {error:?}");
    let account = platform.create_account("corpus").await.unwrap().id;
    let id = platform.create_vault(account, "case").await.unwrap().id;
    let (vault, pass) = platform.enter(id, account).await.unwrap();
    let schema = SchemaWrite {
        text: case.schema,
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
    let mut judge = |assertion: &Assertion, found: Result<&Decision, &VaultError>, how: &str| {
        let holds = matches!(
            (found, assertion.expected),
            (Ok(Decision::Allow), Expected::True)
                | (Ok(Decision::Deny), Expected::False)
                | (Ok(Decision::Conditional { .. }), Expected::Caveated)
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
            for assertion in &assertions {
                for limit in [1, 2, 1_000] {
                    let found = by_resources(&vault, &assertion.check, limit).await;
                    judge(assertion, found.as_ref(), "by the list of resources");
                    let found = by_subjects(&vault, &assertion.check, limit).await;
                    judge(assertion, found.as_ref(), "by the list of subjects");
                }
            }
        }
        drop((vault, _pass));
        if round == "again" {
            platform.deactivate(id, Reach::Everything).await.unwrap();
        }
    }
    Ok((assertions.len(), failures))
}

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
