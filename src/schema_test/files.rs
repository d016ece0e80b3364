//! The other files that a test file can refer to.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The longest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Reads the files that a test file names.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    ///
    /// In words, without the file's name.
    fn read(&self, path: &str) -> Result<String, String>;
}

/// No files at all: what comes over the network refers to none.
#[derive(Debug, Clone, Copy)]
pub struct NoFiles;

/// The files beside a test file: those in its directory and below.
#[derive(Debug, Clone)]
pub struct Beside {
    directory: PathBuf,
}

impl Files for NoFiles {
    fn read(&self, _path: &str) -> Result<String, String> {
        Err("a test that is sent to the server cannot refer to files".to_owned())
    }
}

impl Beside {
    /// The files beside `file`.
    pub fn new(file: &Path) -> Self {
        Self {
            directory: file.parent().map_or_else(PathBuf::new, Path::to_path_buf),
        }
    }
}

impl Files for Beside {
    fn read(&self, path: &str) -> Result<String, String> {
        let relative = Path::new(path.trim());
        let is_inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        if !relative.components().all(is_inside) {
            return Err(format!(
                "`{}` must lie in the test file's directory or below",
                relative.display()
            ));
        }
        read_text(&self.directory.join(relative))
            .map_err(|error| format!("`{}` cannot be read: {error}", relative.display()))
    }
}

/// The text of a file of a bounded size.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    bounded_text(file)
}

/// What is left to read, if it is a text of a bounded size.
pub(crate) fn bounded_text(source: impl Read) -> Result<String, String> {
    let mut text = String::new();
    let mut bounded = source.take(MAX_FILE_BYTES + 1);
    bounded
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}
