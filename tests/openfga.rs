//! Every file in `tests/corpus/openfga`: its models are stored in a vault as they are written, its tuples become
//! relationships, and each of its assertions holds, whatever is cached or in memory.
//!
//! The files have the form of OpenFGA's own suites: `tests`, each with `stages`, each with a `model`, `tuples` that are
//! added to those before, and lists of assertions. `INFERADB_OPENFGA_DIR=folder` runs the files of another folder. To
//! what OpenFGA knows, an assertion of a check can add `missing`: the decision is conditional, on exactly these names.
//! Assertions of lists say who or what is listed with an allow, in no order; `excluded` adds who is left out of a wildcard. Contextual
//! tuples are stored for as long as an assertion takes, or come with it.
//!
//! Every case runs once more with its models converted to the native language: what was split is written to its new
//! name, and every decision is the same.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

#[path = "openfga/lists.rs"]
mod lists;
#[path = "openfga/random.rs"]
mod random;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use inferadb_actors::{
    Backend, CacheSettings, CheckRequest, Consistency, MAX_CONTEXTUAL_RELATIONSHIPS, Platform, Reach,
    SchemaWrite, Settings, Vault, VaultError, WriteRequest, now,
};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{CaveatRef, Name, ObjectRef, Relationship, RelationshipKey, SubjectRef};
use inferadb_engine::schema::{self, Format, Printed};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    tests: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    stages: Vec<Stage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Stage {
    #[serde(default)]
    name: Option<String>,
    model: String,
    #[serde(default)]
    tuples: Option<Vec<Tuple>>,
    #[serde(default)]
    check_assertions: Option<Vec<CheckAssertion>>,
    #[serde(default)]
    list_objects_assertions: Option<Vec<lists::ListAssertion<lists::ObjectsQuestion>>>,
    #[serde(default)]
    list_users_assertions: Option<Vec<lists::ListAssertion<lists::UsersQuestion>>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tuple {
    user: String,
    relation: String,
    object: String,
    #[serde(default)]
    condition: Option<Condition>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    name: String,
    #[serde(default)]
    context: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CheckAssertion {
    #[serde(default)]
    name: Option<String>,
    tuple: Tuple,
    #[serde(default)]
    contextual_tuples: Option<Vec<Tuple>>,
    #[serde(default)]
    context: Option<serde_json::Value>,
    #[serde(default)]
    expectation: Option<bool>,
    #[serde(default)]
    error_code: Option<u32>,
    #[serde(default)]
    missing: Option<Vec<String>>,
}

/// OpenFGA's code for a condition that lacks a value, among other things.
const VALIDATION_ERROR: u32 = 2000;
/// OpenFGA's code for a recursion that it cut. The least fixpoint has an answer there.
const RESOLUTION_TOO_COMPLEX: u32 = 2002;

impl Tuple {
    fn relationship(&self) -> Result<Relationship, String> {
        let caveat = self.condition.as_ref().map(|condition| {
            Ok::<_, String>(CaveatRef {
                name: Name::parse(&condition.name).map_err(told)?,
                context: context_of(condition.context.as_ref())?,
            })
        });
        Ok(Relationship {
            resource: ObjectRef::parse(&self.object).map_err(told)?,
            relation: Name::parse(&self.relation).map_err(told)?,
            subject: SubjectRef::parse(&self.user).map_err(told)?,
            caveat: caveat.transpose()?,
            expires_at: None,
        })
    }
}

impl CheckAssertion {
    fn request(&self) -> Result<CheckRequest, String> {
        let Relationship {
            resource,
            relation,
            subject,
            ..
        } = self.tuple.relationship()?;
        Ok(CheckRequest {
            subject,
            resource,
            permission: relation,
            context: context_of(self.context.as_ref())?.into(),
            contextual: Default::default(),
            trace: false,
        })
    }

    /// Whether the outcome is the expected one.
    fn holds(&self, found: &Result<Decision, String>, how: How) -> bool {
        // Where OpenFGA denies, the native language finds that there is no answer.
        if how.is_converted
            && let Err(error) = found
            && error.contains("excludes itself")
        {
            return self.expectation != Some(true);
        }
        match (found, self.error_code, &self.missing) {
            (Ok(Decision::Conditional { missing, .. }), None, Some(expected)) => missing == expected,
            (Ok(Decision::Conditional { .. }), Some(VALIDATION_ERROR), _) => true,
            // OpenFGA asks for every value of a condition, even for one that could change nothing.
            (Ok(Decision::Allow), Some(VALIDATION_ERROR), _) => how.is_elsewhere && self.context.is_some(),
            (_, Some(RESOLUTION_TOO_COMPLEX), _) => true,
            (Err(_), Some(_), _) => true,
            (Ok(Decision::Allow), None, None) => self.expectation == Some(true),
            (Ok(Decision::Deny), None, None) => self.expectation == Some(false),
            _ => false,
        }
    }
}

fn told(error: impl ToString) -> String {
    error.to_string()
}

fn context_of(json: Option<&serde_json::Value>) -> Result<Context, String> {
    match json.cloned().map(value_of) {
        None | Some(Value::Null) => Ok(Context::new()),
        Some(Value::Map(context)) => Ok(context),
        Some(_) => Err("the context is not an object".to_owned()),
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

/// How a case is run.
#[derive(Debug, Clone, Copy)]
struct How {
    /// With its models converted to the native language.
    is_converted: bool,
    /// From another suite than our own.
    is_elsewhere: bool,
    /// With contextual tuples that come with the question and are not stored.
    is_brought: bool,
}

/// How a stage's model is stored.
enum Model {
    AsWritten(String),
    Converted(Printed),
}

impl Model {
    /// The model converted, or `None` where it has no native equivalent.
    fn converted(text: &str) -> Result<Option<Self>, String> {
        let compiled = Format::OpenFga.compile(text).map_err(|errors| told(&errors[0]))?;
        Ok(schema::print(&compiled.schema).ok().map(Self::Converted))
    }

    fn schema(&self) -> SchemaWrite {
        let (text, format) = match self {
            Self::AsWritten(text) => (text, Format::OpenFga),
            Self::Converted(printed) => (&printed.text, Format::Native),
        };
        SchemaWrite {
            text: text.clone(),
            format,
            // A model may leave tuples of earlier stages without a place.
            force: true,
        }
    }

    /// The relationship that a tuple is.
    fn relationship(&self, tuple: &Tuple) -> Result<Relationship, String> {
        let mut relationship = tuple.relationship()?;
        if let Self::Converted(printed) = self {
            let split = printed.splits.iter().find(|split| {
                split.object_type == relationship.resource.object_type
                    && split.member == relationship.relation
            });
            if let Some(split) = split {
                relationship.relation = split.relation.clone();
            }
        }
        Ok(relationship)
    }
}

/// What was asked of how many, and what went wrong.
#[derive(Debug, Default)]
struct Tally {
    tests: usize,
    checks: usize,
    lists: usize,
    not_converted: usize,
    failures: Vec<String>,
}

/// Runs one case in a vault of its own.
async fn run(platform: &Platform, case: &Case, label: &str, how: How, tally: &mut Tally) {
    let account = platform.create_account("openfga").await.unwrap().id;
    let id = platform.create_vault(account, "case").await.unwrap().id;
    tally.tests += 1;
    for (position, stage) in case.stages.iter().enumerate() {
        let label = match &stage.name {
            Some(name) => format!("{label}, stage {name}"),
            None => format!("{label}, stage {position}"),
        };
        let model = match how.is_converted {
            false => Ok(Some(Model::AsWritten(stage.model.clone()))),
            true => Model::converted(&stage.model),
        };
        let model = match model {
            Ok(Some(model)) => model,
            Ok(None) => {
                tally.not_converted += 1;
                return;
            }
            Err(error) => return tally.failures.push(format!("{label}: {error}")),
        };
        let (vault, pass) = platform.enter(id, account).await.unwrap();
        let earlier = case.stages.get(..position).unwrap_or_default();
        if let Err(error) = prepare(&vault, earlier, stage, &model).await {
            tally.failures.push(format!("{label}: {error}"));
            return;
        }
        drop((vault, pass));
        for (round, page) in [("at first", 1_000), ("again", 2), ("evicted", 1)] {
            let (vault, _pass) = platform.enter(id, account).await.unwrap();
            for assertion in stage.check_assertions.iter().flatten() {
                tally.checks += 1;
                let found = check(&vault, assertion, &model, how).await;
                if !assertion.holds(&found, how) {
                    let Tuple {
                        user,
                        relation,
                        object,
                        ..
                    } = &assertion.tuple;
                    let name = assertion.name.as_deref().unwrap_or_default();
                    tally.failures.push(format!(
                        "{label}: {name} {user} {relation} {object} with {:?} and {:?} ({round}): expected {:?}, {:?}, \
                         {:?}, found {found:?}",
                        assertion.context,
                        assertion.contextual_tuples,
                        assertion.expectation,
                        assertion.error_code,
                        assertion.missing,
                    ));
                }
            }
            let listing = lists::Listing {
                vault: &vault,
                model: &model,
                how,
                page,
            };
            for assertion in stage.list_objects_assertions.iter().flatten() {
                listing
                    .judge(assertion, &format!("{label} ({round})"), tally)
                    .await;
            }
            for assertion in stage.list_users_assertions.iter().flatten() {
                listing
                    .judge(assertion, &format!("{label} ({round})"), tally)
                    .await;
            }
            drop((vault, _pass));
            if round == "again" {
                platform.deactivate(id, Reach::Everything).await.unwrap();
            }
        }
    }
}

/// Stores the model and adds the tuples.
async fn prepare(vault: &Arc<Vault>, earlier: &[Stage], stage: &Stage, model: &Model) -> Result<(), String> {
    let stored = vault.put_schema(model.schema()).await;
    stored.map_err(|error| match error {
        VaultError::Schema(diagnostics) => {
            let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            format!("the model does not compile: {}", lines.join("; "))
        }
        error => format!("{error:?}"),
    })?;
    if matches!(model, Model::Converted(_)) {
        carry(vault, earlier, model).await;
    }
    let tuples = stage.tuples.iter().flatten();
    let relationships: Result<Vec<Relationship>, String> =
        tuples.map(|tuple| model.relationship(tuple)).collect();
    for touch in relationships?.chunks(500) {
        let request = WriteRequest {
            touch: touch.to_vec(),
            ..WriteRequest::default()
        };
        vault.write(request).await.map_err(told)?;
    }
    Ok(())
}

/// Puts the tuples of earlier stages where the native equivalent of this stage's model has them. One may have no place there.
async fn carry(vault: &Vault, stages: &[Stage], model: &Model) {
    for tuple in stages.iter().filter_map(|stage| stage.tuples.as_ref()).flatten() {
        if let Ok(relationship) = model.relationship(tuple) {
            let touch = vec![relationship];
            let request = WriteRequest {
                touch,
                ..WriteRequest::default()
            };
            let _ = vault.write(request).await;
        }
    }
}

/// Asks one check.
async fn check(
    vault: &Vault,
    assertion: &CheckAssertion,
    model: &Model,
    how: How,
) -> Result<Decision, String> {
    let mut request = assertion.request()?;
    let contextual = Contextual::of(vault, assertion.contextual_tuples.as_deref(), model, how).await?;
    request.contextual = contextual.brought.clone();
    let found = vault.check(&request, Consistency::default(), now()).await;
    contextual.end(vault).await?;
    found.map(|answer| answer.decision).map_err(told)
}

/// The contextual tuples of one assertion.
#[derive(Default)]
struct Contextual {
    /// Those that come with the question.
    brought: Arc<[Relationship]>,
    /// Those that are stored until it is answered.
    stored: Vec<RelationshipKey>,
}

impl Contextual {
    async fn of(vault: &Vault, tuples: Option<&[Tuple]>, model: &Model, how: How) -> Result<Self, String> {
        let tuples = tuples.unwrap_or_default().iter();
        let relationships: Result<Vec<Relationship>, String> =
            tuples.map(|tuple| model.relationship(tuple)).collect();
        let mut relationships = relationships?;
        // OpenFGA takes one twice; here that is refused.
        let mut seen = HashSet::new();
        relationships.retain(|relationship| seen.insert(relationship.key()));
        if relationships.is_empty() {
            return Ok(Self::default());
        }
        if how.is_brought && relationships.len() <= MAX_CONTEXTUAL_RELATIONSHIPS {
            return Ok(Self {
                brought: relationships.into(),
                ..Self::default()
            });
        }
        let stored = relationships.iter().map(Relationship::key).collect();
        let request = WriteRequest {
            create: relationships,
            ..WriteRequest::default()
        };
        vault.write(request).await.map_err(told)?;
        Ok(Self {
            stored,
            ..Self::default()
        })
    }

    async fn end(self, vault: &Vault) -> Result<(), String> {
        if !self.stored.is_empty() {
            let request = WriteRequest {
                delete: self.stored,
                ..WriteRequest::default()
            };
            vault.write(request).await.map_err(told)?;
        }
        Ok(())
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

fn suites(folder: &Path) -> Vec<(String, Suite)> {
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let read = files.into_iter().map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let suite = serde_yaml::from_str(&text);
        let suite = suite.map_err(|error| format!("{name}: {error}"));
        (name, suite.unwrap())
    });
    read.collect()
}

#[test]
fn every_assertion_of_every_file_holds() {
    let elsewhere = std::env::var_os("INFERADB_OPENFGA_DIR").map(PathBuf::from);
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/openfga");
    let suites = suites(elsewhere.as_ref().unwrap_or(&own));
    let mut tally = Tally::default();
    actix_web::rt::System::new().block_on(async {
        for (mode, is_converted, is_brought, settings) in [
            ("in memory", false, false, settings(true, 64 << 20)),
            ("from storage", false, true, settings(true, 0)),
            ("without caches", false, true, settings(false, 64 << 20)),
            ("converted", true, false, settings(true, 64 << 20)),
        ] {
            let metrics = prometheus::Registry::new();
            let platform = Platform::start(Backend::Memory, settings, &metrics)
                .await
                .unwrap();
            let how = How {
                is_converted,
                is_elsewhere: elsewhere.is_some(),
                is_brought,
            };
            for (file, suite) in &suites {
                for case in &suite.tests {
                    let label = format!("{file}, {}, {mode}", case.name);
                    run(&platform, case, &label, how, &mut tally).await;
                }
            }
            platform.stop(Duration::from_secs(30)).await;
        }
    });
    eprintln!(
        "{} files, {} tests, {} checks, {} lists, {} tests not converted, {} failures",
        suites.len(),
        tally.tests,
        tally.checks,
        tally.lists,
        tally.not_converted,
        tally.failures.len()
    );
    assert!(tally.failures.is_empty(), "{}", tally.failures.join("\n"));
    assert!(
        elsewhere.is_some() || (tally.checks > 500 && tally.lists > 100),
        "{tally:?}"
    );
}
