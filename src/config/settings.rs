//! The settings that a file and the environment make, key by key, each with where it comes from.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_yaml::{Mapping, Value};

use super::error::{ConfigError, Origin};
use super::file::File;
use super::keys::{KEYS, Key, Kind, shorten};
use super::nearest::nearest;

/// What was set, by the key's path.
#[derive(Debug, Default)]
pub(super) struct Settings {
    values: BTreeMap<&'static str, (Value, Source)>,
    file: Option<File>,
}

#[derive(Debug, Clone)]
enum Source {
    File,
    Variable(String),
}

impl Settings {
    /// Takes every key of `file`. Unknown keys and values that are not allowed end it.
    pub fn read_file(&mut self, file: File) -> Result<(), ConfigError> {
        let result = self.take_section(&file, "", file.root());
        self.file = Some(file);
        result
    }

    /// Takes one environment variable, over what the file says.
    pub fn read_variable(&mut self, name: &str, raw: &str) -> Result<(), ConfigError> {
        let key = KEYS
            .iter()
            .find(|key| key.variable() == name)
            .ok_or_else(|| unknown_variable(name))?;
        if raw.is_empty() && key.optional {
            self.values.remove(key.path);
            return Ok(());
        }
        let value = match (key.is_textual(), serde_yaml::from_str::<Value>(raw)) {
            (false, Ok(Value::String(one))) if matches!(key.kind, Kind::TextList) => {
                Value::Sequence(vec![Value::String(one)])
            }
            (false, Ok(value)) => value,
            _ => Value::String(raw.to_owned()),
        };
        let source = Source::Variable(name.to_owned());
        if !key.allows(&value) {
            return Err(ConfigError::Value {
                origin: Origin::Variable(name.to_owned()),
                key: key.path,
                value: shown(key, &Value::String(raw.to_owned())),
                allowed: key.allowed(),
            });
        }
        self.values.insert(key.path, (value, source));
        Ok(())
    }

    /// Whether the key at `path` was set.
    pub fn is_set(&self, path: &str) -> bool {
        self.values.contains_key(path)
    }

    /// Where the value at `path` comes from.
    pub fn origin(&self, path: &str) -> Origin {
        match (self.values.get(path), &self.file) {
            (Some((_, Source::Variable(name))), _) => Origin::Variable(name.clone()),
            (Some(_), Some(file)) => Origin::File(file.path().to_owned(), file.line_of(path)),
            (None, Some(file)) => Origin::File(file.path().to_owned(), None),
            (_, None) => Origin::Unset,
        }
    }

    /// The settings in the form of `T`.
    pub fn to_typed<T: for<'de> Deserialize<'de>>(&self) -> Result<T, ConfigError> {
        let mut root = Value::Mapping(Mapping::new());
        for (path, (value, _)) in &self.values {
            let mut place = &mut root;
            for name in path.split('.') {
                let Value::Mapping(section) = place else { break };
                place = section
                    .entry(Value::String(name.to_owned()))
                    .or_insert_with(|| Value::Mapping(Mapping::new()));
            }
            *place = value.clone();
        }
        // Every value was checked against its key: what fails here is a table that disagrees with the structs.
        serde_yaml::from_value(root).map_err(|error| ConfigError::Malformed {
            origin: self.origin(""),
            message: error.to_string(),
        })
    }

    fn take_section(&mut self, file: &File, section: &str, content: &Value) -> Result<(), ConfigError> {
        let entries = match content {
            Value::Null => return Ok(()), // every key of the section is commented out
            Value::Mapping(entries) => entries,
            other => {
                let known = names_in(section).join(", ");
                let value = shorten(&inline(other));
                return Err(ConfigError::Malformed {
                    origin: Origin::File(file.path().to_owned(), file.line_of(section)),
                    message: match section {
                        "" => format!("{value} is not allowed: must be a mapping with any of {known}"),
                        _ => format!(
                            "{section}: {value} is not allowed: must be a mapping with any of {known}"
                        ),
                    },
                });
            }
        };
        for (name, value) in entries {
            let name = name.as_str().map_or_else(|| inline(name), str::to_owned);
            let path = if section.is_empty() {
                name.clone()
            } else {
                format!("{section}.{name}")
            };
            match Key::find(&path) {
                Some(key) => self.take_value(file, key, value)?,
                None if is_section(&path) => self.take_section(file, &path, value)?,
                None => return Err(unknown_key(file, section, &name, path)),
            }
        }
        Ok(())
    }

    fn take_value(&mut self, file: &File, key: &'static Key, value: &Value) -> Result<(), ConfigError> {
        if value.is_null() && key.optional {
            return Ok(());
        }
        if !key.allows(value) {
            return Err(ConfigError::Value {
                origin: Origin::File(file.path().to_owned(), file.line_of(key.path)),
                key: key.path,
                value: shown(key, value),
                allowed: key.allowed(),
            });
        }
        self.values.insert(key.path, (value.clone(), Source::File));
        Ok(())
    }
}

/// A line about a variable that looks like one of ours but is not read, or `None`.
pub(super) fn overlooked_variable(name: &str) -> Option<String> {
    let parts = |text: &str| {
        text.split('_')
            .filter(|part| !part.is_empty())
            .collect::<String>()
    };
    if name.starts_with("INFERADB__") || !name.starts_with("INFERADB_") {
        return None;
    }
    let meant = KEYS
        .iter()
        .map(Key::variable)
        .find(|variable| parts(variable) == parts(name))?;
    Some(format!(
        "environment variable {name} is not read: did you mean {meant}?"
    ))
}

fn unknown_variable(name: &str) -> ConfigError {
    let variables = KEYS.iter().map(Key::variable).collect::<Vec<_>>();
    let upper = name.to_ascii_uppercase();
    let hint = match nearest(&upper, variables.iter().map(String::as_str)) {
        Some(variable) => format!(", did you mean {variable}?"),
        None => ": its name must be INFERADB__SECTION__KEY, such as INFERADB__SERVER__PORT".to_owned(),
    };
    ConfigError::UnknownVariable {
        name: name.escape_debug().to_string(),
        hint,
    }
}

fn unknown_key(file: &File, section: &str, name: &str, path: String) -> ConfigError {
    let names = names_in(section);
    let elsewhere = KEYS
        .iter()
        .map(|key| key.path)
        .find(|key| key.rsplit('.').next() == Some(name));
    let hint = match (nearest(name, names.iter().copied()), elsewhere) {
        (Some(near), _) if section.is_empty() => format!(", did you mean `{near}`?"),
        (Some(near), _) => format!(", did you mean `{section}.{near}`?"),
        (None, Some(key)) => format!(", did you mean `{key}`?"),
        (None, None) => format!(": known here are {}", names.join(", ")),
    };
    let origin = Origin::File(file.path().to_owned(), file.line_of(&path));
    ConfigError::UnknownKey {
        origin,
        key: path.escape_debug().to_string(),
        hint,
    }
}

/// The names directly in `section`, keys and sections alike.
fn names_in(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let inner = match section {
            "" => Some(key.path),
            _ => key
                .path
                .strip_prefix(section)
                .and_then(|rest| rest.strip_prefix('.')),
        };
        if let Some(name) = inner.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}

fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| {
        key.path
            .strip_prefix(path)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

/// `value` in backticks, short, and without a password.
fn shown(key: &Key, value: &Value) -> String {
    let text = inline(value);
    match &key.kind {
        Kind::Address(_) if text.contains('@') => "an address with a user name".to_owned(),
        _ => shorten(&text),
    }
}

/// `value` on one line, as YAML's flow style would write it.
fn inline(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        Value::Tagged(tagged) => format!("{} {}", tagged.tag, inline(&tagged.value)),
        other => serde_json::to_string(other).unwrap_or_else(|_| "a value".to_owned()),
    }
}

/// Where a configuration file is looked for when none is named.
pub(super) const DEFAULT_PATH: &str = "/etc/inferadb/config.yaml";

/// The file to read: the one named, or the default one if it is there.
pub(super) fn file_to_read(named: Option<&Path>) -> Option<&Path> {
    named.or_else(|| {
        let default = Path::new(DEFAULT_PATH);
        // One that is there but cannot be looked at is read all the same, for the error.
        (!matches!(default.try_exists(), Ok(false))).then_some(default)
    })
}
