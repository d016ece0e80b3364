//! What a person at the terminal reads: one line for an error, more when asked, and no panic over a closed pipe.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use crate::config::ConfigError;

/// Why a command failed. Its `Display` is the one line on standard error.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The configuration was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// Schemas do not compile; what is wrong with them was said already.
    #[error("{failed} of {all} schemas {}", if *failed == 1 { "does not compile" } else { "do not compile" })]
    Schemas {
        /// How many do not compile.
        failed: usize,
        /// How many there are.
        all: usize,
    },
    /// Assertions of schema tests do not hold; which, was said already.
    #[error("{failed} of {all} assertions {}", if *failed == 1 { "does not hold" } else { "do not hold" })]
    Assertions {
        /// How many do not hold.
        failed: usize,
        /// How many there are.
        all: usize,
    },
    /// Test files cannot be run; why, was said already.
    #[error("{failed} of {all} test files cannot be run")]
    TestFiles {
        /// How many cannot.
        failed: usize,
        /// How many there are.
        all: usize,
    },
    /// Two things that were compared differ, which is an answer and no failure.
    #[error("there are differences")]
    Differences,
    /// A text is not what it should be.
    #[error("{0}")]
    Unfit(String),
    /// What was to be compared or tried could not be: told from a comparison or trial that went badly.
    #[error(transparent)]
    Trouble(Box<Self>),
    /// Standard output takes nothing.
    #[error("cannot write the answer: {0}")]
    Output(#[source] io::Error),
    /// The server stopped, or did not start.
    #[error("{0}")]
    Failed(Box<dyn Error + Send + Sync>),
}

impl CliError {
    /// The process's exit code.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Trouble(_) => 2,
            _ => 1,
        }
    }

    /// The same error, of something that could not even be tried.
    pub fn trouble(self) -> Self {
        Self::Trouble(Box::new(self))
    }

    /// The server's own error.
    pub fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

/// Writes `error` as one line; `verbose` adds what caused it and how it is built.
pub(super) fn report(error: &CliError, verbose: bool) {
    let mut text = format!("error: {}\n", one_line(error));
    if verbose {
        let mut cause = error.source();
        while let Some(next) = cause {
            text.push_str(&format!("  caused by: {}\n", one_line(next)));
            cause = next.source();
        }
        text.push_str(&format!("  in full: {error:?}\n"));
    }
    complain(&text);
}

/// Writes a warning as one line.
pub(super) fn warn(warning: &str) {
    complain(&format!("warning: {warning}\n"));
}

/// Writes whole lines to standard error. If it is closed there is nobody left to tell.
pub(super) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes an answer to standard output. A reader that has seen enough, such as `head`, is no failure.
pub(super) fn answer(text: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

fn one_line(error: &(impl fmt::Display + ?Sized)) -> String {
    error.to_string().replace('\n', " ")
}
