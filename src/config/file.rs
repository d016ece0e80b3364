//! A configuration file: its text, its YAML, and the line on which a key's value stands.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_yaml::Value;

use super::error::{ConfigError, Origin};

/// No configuration is larger than this many bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A file that was read and is YAML.
#[derive(Debug)]
pub(super) struct File {
    path: PathBuf,
    text: String,
    root: Value,
}

impl File {
    /// Reads and parses the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let unreadable = |error| ConfigError::Unreadable {
            path: path.to_owned(),
            error,
        };
        let mut bytes = Vec::new();
        let opened = fs::File::open(path).map_err(unreadable)?;
        opened
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(ConfigError::TooLarge {
                path: path.to_owned(),
                limit: MAX_FILE_BYTES,
            });
        }
        let text = String::from_utf8(bytes).map_err(|_| ConfigError::Malformed {
            origin: Origin::File(path.to_owned(), None),
            message: "is not valid UTF-8".to_owned(),
        })?;
        Self::parse(path, text)
    }

    /// Parses `text`, which stands in the file at `path`.
    pub fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        // An empty file, or one with comments only, is the defaults.
        let root = serde_yaml::from_str(&text).map_err(|error| {
            let line = error.location().map(|at| at.line());
            let message = format!("is not valid YAML: {}", error.to_string().replace('\n', " "));
            ConfigError::Malformed {
                origin: Origin::File(path.to_owned(), line),
                message,
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
            text,
            root,
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The document.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// The line, from 1, on which the value at `path` begins; `None` if it is not there.
    ///
    /// The YAML reader knows positions only in its errors, so the value is read in a way that fails exactly there.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        let names = path
            .split('.')
            .filter(|name| !name.is_empty())
            .collect::<Vec<_>>();
        let error = Locate(&names)
            .deserialize(serde_yaml::Deserializer::from_str(&self.text))
            .err()?;
        error.to_string().contains(FOUND).then_some(())?;
        error.location().map(|at| at.line())
    }
}

/// What the error says that is raised at the value that was looked for.
const FOUND: &str = "the value looked for";

/// Walks down the names, and fails on the value at their end.
struct Locate<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Locate<'_> {
    /// The end of the path is reached by a value that is no mapping.
    fn end<E: de::Error>(&self) -> Result<(), E> {
        if self.0.is_empty() {
            Err(E::custom(FOUND))
        } else {
            Ok(())
        }
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else {
            return Err(de::Error::custom(FOUND));
        };
        while let Some(name) = entries.next_key::<Value>()? {
            if name.as_str() == Some(first) {
                entries.next_value_seed(Locate(rest))?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.end()?;
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        self.end()
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        self.end()
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        self.end()
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        self.end()
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        self.end()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.end()
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.end()
    }

    fn visit_some<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File::parse(Path::new("c.yaml"), text.to_owned()).unwrap()
    }

    #[test]
    fn lines_of_values_in_every_style() {
        let file = file(
            "# a comment\nserver:\n  host: localhost\n\n  port: 99\nauth: {enabled: true,\n  issuer: 'x'}\n\
             cache:\n  ttl_seconds:\n    - 1\nvaults:\nlast: -1.5\n",
        );
        for (path, line) in [
            ("server.host", Some(3)),
            ("server.port", Some(5)),
            ("auth.enabled", Some(6)),
            ("auth.issuer", Some(7)),
            ("cache.ttl_seconds", Some(10)),
            ("last", Some(12)),
            ("server.absent", None),
            ("server.port.deeper", None),
            ("absent", None),
        ] {
            assert_eq!(file.line_of(path), line, "{path}");
        }
    }

    #[test]
    fn what_is_not_yaml_names_its_line() {
        let error = File::parse(Path::new("c.yaml"), "server:\n  port: [1\nx: }".to_owned())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("c.yaml:") && error.contains("is not valid YAML"),
            "{error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }

    #[test]
    fn nested_text_and_alias_bombs_are_refused_not_followed() {
        let deep = format!("a: {}{}", "[".repeat(1000), "]".repeat(1000));
        assert!(File::parse(Path::new("c.yaml"), deep).is_err());
        let mut bomb = "a0: &a0 [x, x]\n".to_owned();
        for level in 1..40 {
            let last = level - 1;
            bomb.push_str(&format!("a{level}: &a{level} [*a{last}, *a{last}]\n"));
        }
        assert!(File::parse(Path::new("c.yaml"), bomb).is_err());
    }
}
