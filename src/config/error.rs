//! What is wrong with a configuration, as the one line that a person reads.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration was refused. Its `Display` is one line that names where, which key, the value and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The file is larger than a configuration can be.
    #[error("{}: is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file is not YAML, or not a mapping.
    #[error("{origin}: {message}")]
    Malformed {
        /// Where.
        origin: Origin,
        /// What is wrong.
        message: String,
    },
    /// A key that does not exist.
    #[error("{origin}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// Where.
        origin: Origin,
        /// The key's path.
        key: String,
        /// What may have been meant, beginning with its punctuation.
        hint: String,
    },
    /// A variable that names no key.
    #[error("environment variable {name}: names no key of the configuration{hint}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// What may have been meant, beginning with its punctuation.
        hint: String,
    },
    /// A variable whose value is not UTF-8.
    #[error("environment variable {name}: its value is not valid UTF-8")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// A value of the wrong type or out of range.
    #[error("{origin}: {key}: {value} is not allowed: must be {allowed}")]
    Value {
        /// Where.
        origin: Origin,
        /// The key's path.
        key: &'static str,
        /// The value as written, in backticks.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Values that do not go together.
    #[error("{origin}: {key}: {message}")]
    Conflict {
        /// Where.
        origin: Origin,
        /// The key to change.
        key: &'static str,
        /// What is wrong and what to do.
        message: String,
    },
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file, and the line if it is known.
    File(PathBuf, Option<usize>),
    /// An environment variable.
    Variable(String),
    /// Neither: the value is a default, or missing.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, Some(line)) => write!(f, "{}:{line}", path.display()),
            Self::File(path, None) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Unset => f.write_str("configuration"),
        }
    }
}
