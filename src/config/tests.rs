//! Configuration against data: `tests/config_cases/*.yaml`, the sample files and the documentation.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_yaml::Value;

use super::keys::{KEYS, Key, Kind};
use super::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    file: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    error: Option<String>,
    #[serde(default)]
    error_contains: Vec<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(in_project(path)).unwrap()
}

/// Loads `file` as if it were called `c.yaml`.
fn load(file: Option<&str>, environment: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let mut settings = Settings::default();
    if let Some(text) = file {
        settings.read_file(file::File::parse(Path::new("c.yaml"), text.to_owned())?)?;
    }
    resolve(
        settings,
        environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

fn run_cases(path: &str, file_by_default: Option<&str>) {
    let cases: Vec<Case> = serde_yaml::from_str(&text_of(path)).unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let environment: Vec<_> = case
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let fails = case.error.is_some() || !case.error_contains.is_empty();
        match load(case.file.as_deref().or(file_by_default), &environment) {
            Ok(loaded) => {
                assert!(!fails, "{}: loads, but must not", case.name);
                assert_eq!(loaded.warnings, case.warnings, "{}", case.name);
            }
            Err(error) => {
                let line = error.to_string();
                assert!(fails, "{}: {line}", case.name);
                assert!(!line.contains('\n'), "{}: {line}", case.name);
                if let Some(expected) = case.error {
                    assert_eq!(line, expected, "{}", case.name);
                }
                for part in case.error_contains {
                    assert!(line.contains(&part), "{}: `{part}` is not in `{line}`", case.name);
                }
            }
        }
    }
}

#[test]
fn single_values() {
    run_cases("tests/config_cases/values.yaml", None);
}

#[test]
fn values_together() {
    run_cases("tests/config_cases/together.yaml", None);
}

#[test]
fn variables() {
    run_cases(
        "tests/config_cases/environment.yaml",
        Some("auth: { jwks_url: 'https://keys.example.com/' }"),
    );
}

#[test]
fn the_published_example_loads() {
    let text = text_of("tests/config_cases/published_example/config.yaml");
    let Loaded { config, .. } = load(Some(&text), &[]).unwrap();
    assert_eq!(
        config.auth.jwks_url.as_deref(),
        Some("https://your-auth-provider.com/.well-known/jwks.json")
    );
    assert_eq!((config.server.port, config.server.worker_threads), (8080, 8));
    assert_eq!(config.storage.backend, Backend::FoundationDb);
    assert_eq!(
        config.cache,
        CacheConfig {
            enabled: true,
            max_entries: 10_000,
            ttl_seconds: 300
        }
    );
    assert_eq!(config.observability.tracing.endpoint, "http://jaeger:4317");
    assert!(config.observability.tracing.enabled && config.observability.metrics.enabled);
}

#[test]
fn a_build_without_foundationdb_says_so() {
    let text = "auth: { jwks_url: 'https://k.example.com/' }\nstorage: { backend: foundationdb }";
    let warnings = load(Some(text), &[]).unwrap().warnings;
    assert_eq!(
        warnings.is_empty(),
        cfg!(feature = "foundationdb"),
        "{warnings:?}"
    );
    assert!(
        warnings
            .iter()
            .all(|line| line.contains("--features foundationdb")),
        "{warnings:?}"
    );
}

#[test]
fn the_sample_is_the_defaults_and_complete() {
    let text = text_of("config/inferadb.yaml");
    let keys = ("INFERADB__AUTH__JWKS_URL", "https://keys.example.com/jwks.json");
    let mut expected = Config::default();
    expected.auth.jwks_url = Some(keys.1.to_owned());
    let loaded = load(Some(&text), &[keys]).unwrap();
    assert_eq!(
        loaded,
        Loaded {
            config: expected.clone(),
            warnings: vec![]
        }
    );
    assert_eq!(load(None, &[keys]).unwrap().config, expected);

    // A key without a default is written `#key: value`; every other comment has a blank after its `#`.
    let uncommented = text
        .lines()
        .map(|line| match line.trim_start().strip_prefix('#') {
            Some(rest) if rest.starts_with(char::is_alphabetic) => {
                format!("{}{rest}", " ".repeat(line.len() - line.trim_start().len()))
            }
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n");
    let root: Value = serde_yaml::from_str(&uncommented).unwrap();
    let mut found = Vec::new();
    leaves(&root, "", &mut found);
    let mut known = KEYS.iter().map(|key| key.path.to_owned()).collect::<Vec<_>>();
    found.sort();
    known.sort();
    assert_eq!(found, known);
    load(Some(&uncommented), &[]).unwrap();
}

#[test]
fn the_production_example_loads() {
    let text = text_of("config/multi-tenant.yaml");
    let config = load(Some(&text), &[]).unwrap().config;
    assert_eq!(config.storage.backend, Backend::FoundationDb);
    assert!(config.auth.enabled && config.auth.issuer.is_some());
}

#[test]
fn every_key_is_documented_with_its_range_and_default() {
    let docs = text_of("docs/configuration.md");
    for key in KEYS {
        let row = docs
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", key.path)));
        let row = row.unwrap_or_else(|| panic!("`{}` is not in docs/configuration.md", key.path));
        let parts = match &key.kind {
            Kind::Whole(min, max) => vec![format!("{min}–{max}")],
            Kind::Word(words) => words.iter().map(|word| format!("`{word}`")).collect(),
            Kind::Address(schemes) => schemes.iter().map(|scheme| format!("`{scheme}`")).collect(),
            _ => vec![],
        };
        for part in parts {
            assert!(row.contains(&part), "`{part}` is not in the row {row}");
        }
    }
    let rows = docs
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains('.'))
        .count();
    assert!(rows >= KEYS.len());
}

#[test]
fn each_key_can_be_set_by_its_variable_and_reaches_its_field() {
    let plain = load(None, &[("INFERADB__AUTH__JWKS_URL", "https://a.example.com/")])
        .unwrap()
        .config;
    for key in KEYS {
        let value = another_value(key);
        let variable = key.variable();
        let mut environment = vec![
            ("INFERADB__AUTH__JWKS_URL", "https://a.example.com/"),
            ("INFERADB__AUTH__ALLOW_UNAUTHENTICATED_NETWORK", "true"),
        ];
        environment.retain(|(name, _)| *name != variable);
        environment.push((&variable, &value));
        let mut expected = plain.clone();
        expected.auth.allow_unauthenticated_network = true;
        match load(None, &environment) {
            Ok(loaded) => {
                assert_ne!(loaded.config, expected, "{variable}={value} changes nothing");
            }
            // Some values only go with others: that too shows that the value arrived.
            Err(ConfigError::Conflict { .. }) => {}
            Err(error) => panic!("{variable}={value}: {error}"),
        }
    }
}

/// A value that `key` allows and that differs from its default.
fn another_value(key: &Key) -> String {
    match &key.kind {
        Kind::Flag
            if [
                "auth.allow_unauthenticated_network",
                "observability.tracing.enabled",
                "server.pin_threads",
            ]
            .contains(&key.path) =>
        {
            (key.path != "auth.allow_unauthenticated_network").to_string()
        }
        Kind::Flag => "false".to_owned(),
        // Their defaults are the most there can be.
        Kind::Whole(..) if ["limits.max_write_changes", "limits.max_schema_bytes"].contains(&key.path) => {
            "7".to_owned()
        }
        Kind::Whole(_, max) => max.to_string(),
        Kind::Ratio => "0.25".to_owned(),
        Kind::Text => "some text".to_owned(),
        Kind::TextList => "[one, two]".to_owned(),
        Kind::Word(words) => (*words.last().unwrap()).to_owned(),
        Kind::Address(schemes) => format!("{}://b.example.com/x", schemes[0]),
        Kind::Id => "1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d".to_owned(),
        Kind::Host => "192.0.2.7".to_owned(),
        Kind::Levels => "warn,h2=off".to_owned(),
    }
}

#[test]
fn audiences_are_united() {
    let audiences = |environment: &[(&str, &str)]| {
        let file = "auth: { jwks_url: 'https://k.example.com/' }";
        load(Some(file), environment)
            .unwrap()
            .config
            .auth
            .allowed_audiences
    };
    assert_eq!(audiences(&[]), ["inferadb"]);
    assert_eq!(audiences(&[("INFERADB__AUTH__AUDIENCE", "api")]), ["api"]);
    assert_eq!(
        audiences(&[("INFERADB__AUTH__ALLOWED_AUDIENCES", "[a, b]")]),
        ["a", "b"]
    );
    assert_eq!(
        audiences(&[("INFERADB__AUTH__ALLOWED_AUDIENCES", "solo")]),
        ["solo"]
    );
    let both = [
        ("INFERADB__AUTH__AUDIENCE", "c"),
        ("INFERADB__AUTH__ALLOWED_AUDIENCES", "[a, b]"),
    ];
    assert_eq!(audiences(&both), ["a", "b", "c"]);
}

#[test]
fn actor_threads_follow_worker_threads_unless_set() {
    let environment = [
        ("INFERADB__AUTH__JWKS_URL", "https://k.example.com/"),
        ("INFERADB__SERVER__WORKER_THREADS", "1"),
    ];
    assert_eq!(load(None, &environment).unwrap().config.vaults.actor_threads, 1);
}

#[test]
fn a_named_file_must_be_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("absent.yaml");
    let line = Config::load(Some(&path), std::iter::empty())
        .unwrap_err()
        .to_string();
    assert!(
        line.starts_with(&format!("{}: cannot be read: ", path.display())),
        "{line}"
    );

    std::fs::write(&path, vec![b' '; (1 << 20) + 1]).unwrap();
    let line = Config::load(Some(&path), std::iter::empty())
        .unwrap_err()
        .to_string();
    assert!(line.ends_with("is larger than 1048576 bytes"), "{line}");

    std::fs::write(&path, b"server: \xff").unwrap();
    let line = Config::load(Some(&path), std::iter::empty())
        .unwrap_err()
        .to_string();
    assert!(line.ends_with(": is not valid UTF-8"), "{line}");

    std::fs::write(
        &path,
        "auth: { jwks_url: 'https://k.example.com/' }\nserver: { port: 81 }",
    )
    .unwrap();
    let port = ("INFERADB__SERVER__PORT".to_owned(), "82".to_owned());
    assert_eq!(
        Config::load(Some(&path), std::iter::empty())
            .unwrap()
            .config
            .server
            .port,
        81
    );
    assert_eq!(
        Config::load(Some(&path), std::iter::once(port))
            .unwrap()
            .config
            .server
            .port,
        82
    );
}

/// The paths of the values in `value` that are no mappings.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Mapping(entries) => {
            for (name, inner) in entries {
                let name = name.as_str().unwrap();
                let inner_path = if path.is_empty() {
                    name.to_owned()
                } else {
                    format!("{path}.{name}")
                };
                leaves(inner, &inner_path, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}
