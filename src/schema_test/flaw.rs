//! What is wrong with a test file, and where.

use std::fmt;

use inferadb_engine::schema::{Diagnostic, Misfit};

/// A place in a text: line and column, both from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// Something is wrong at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// The other file that the place is in, if the test file refers to one.
    pub file: Option<String>,
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

/// Why a test file cannot be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is not what a test file must be.
    Malformed(Flaw),
    /// It is larger than may be run here.
    TooLarge(String),
    /// Its schema does not compile. The places are those of the file where `in_file` says so, else those of the
    /// schema's own text.
    Schema {
        /// The file of the schema, if it has one of its own.
        file: Option<String>,
        /// The errors.
        errors: Vec<Diagnostic>,
        /// Whether lines and columns count from the start of the file.
        in_file: bool,
    },
    /// One of its relationships does not fit its schema.
    Misfit {
        /// Where the relationship is.
        flaw: Flaw,
        /// Why it does not fit.
        misfit: Misfit,
    },
}

impl Flaw {
    /// Something is wrong at a place of the test file itself.
    pub fn at(place: Place, message: impl Into<String>) -> Self {
        Self {
            file: None,
            place,
            message: message.into(),
        }
    }
}

impl From<Flaw> for Unfit {
    fn from(flaw: Flaw) -> Self {
        Self::Malformed(flaw)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}
