//! The languages that schemas are written in.

use super::diagnostic::Diagnostic;
use super::{Compiled, native, openfga};

/// A language that schemas are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// The native language, which is SpiceDB's.
    #[default]
    Native,
    /// An OpenFGA model: its DSL, the JSON of its API, or several modules in a JSON object.
    OpenFga,
}

impl Format {
    /// Its name: `native` or `openfga`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::OpenFga => "openfga",
        }
    }

    /// The format of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Native, Self::OpenFga]
            .into_iter()
            .find(|format| format.name() == name)
    }

    /// Compiles a text in this language.
    ///
    /// # Errors
    ///
    /// All errors at once, in the order of their places, at most [`MAX_DIAGNOSTICS`](super::MAX_DIAGNOSTICS).
    pub fn compile(self, source: &str) -> Result<Compiled, Vec<Diagnostic>> {
        match self {
            Self::Native => native::compile(source),
            Self::OpenFga => openfga::compile(source),
        }
    }
}
