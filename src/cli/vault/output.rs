//! The file that an export is written to, which is there only once it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write};
use std::path::{Path, PathBuf};

use crate::cli::console::CliError;

/// Where an export goes.
pub(super) enum Target {
    /// A file that takes its name at the end.
    File {
        file: BufWriter<File>,
        unfinished: Unfinished,
        path: PathBuf,
    },
    /// What cannot be renamed: a device, a pipe.
    Special { file: File, path: PathBuf },
    /// Standard output.
    Stdout(Stdout),
}

/// A file that is removed unless it is finished.
pub(super) struct Unfinished(Option<PathBuf>);

impl Target {
    /// Opens `path`; `-` is standard output.
    pub(super) fn open(path: &Path) -> Result<Self, CliError> {
        if path == Path::new("-") {
            return Ok(Self::Stdout(io::stdout()));
        }
        let failed = |error| unwritable(path, &error);
        if fs::metadata(path).is_ok_and(|data| !data.is_file()) {
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return Ok(Self::Special {
                file,
                path: path.to_owned(),
            });
        }
        // A link is followed, not replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let Some(name) = path.file_name() else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        // In a container each run has the same id of process: what one that was killed left is not to be in the way.
        hidden.push(format!(".{}.part", uuid::Uuid::new_v4().simple()));
        let beside = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&beside)
            .map_err(failed)?;
        Ok(Self::File {
            file: BufWriter::with_capacity(256 << 10, file),
            unfinished: Unfinished(Some(beside)),
            path,
        })
    }

    /// Adds to what was written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        match self {
            Self::File { file, path, .. } => file.write_all(bytes).map_err(|error| unwritable(path, &error)),
            Self::Special { file, path } => file.write_all(bytes).map_err(|error| unwritable(path, &error)),
            Self::Stdout(stdout) => stdout.lock().write_all(bytes).map_err(CliError::Output),
        }
    }

    /// Everything was written: from now on the file is there, on disk.
    pub(super) fn finish(self) -> Result<(), CliError> {
        match self {
            Self::File {
                file,
                mut unfinished,
                path,
            } => {
                let done = || -> io::Result<()> {
                    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
                    file.sync_all()?;
                    if let Some(beside) = &unfinished.0 {
                        fs::rename(beside, &path)?;
                    }
                    unfinished.0 = None;
                    sync_directory_of(&path)
                };
                done().map_err(|error| unwritable(&path, &error))
            }
            Self::Special { .. } => Ok(()),
            Self::Stdout(stdout) => stdout.lock().flush().map_err(CliError::Output),
        }
    }

    /// Whether it is standard output.
    pub(super) const fn is_stdout(&self) -> bool {
        matches!(self, Self::Stdout(_))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // It is hidden and named as what it is, if it cannot be removed.
            let _ = fs::remove_file(path);
        }
    }
}

/// Makes a new name last through a failure of the machine.
#[cfg(unix)]
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(directory.unwrap_or(Path::new(".")))?.sync_all() {
        // Some file systems cannot do that for a directory.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

/// Directories cannot be opened there; the file system sees to it.
#[cfg(not(unix))]
fn sync_directory_of(_path: &Path) -> io::Result<()> {
    Ok(())
}

fn unwritable(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("{}: cannot be written: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.json");
        let mut target = Target::open(&path).unwrap();
        target.write(b"half").unwrap();
        assert!(!path.exists());
        drop(target);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);

        // What a run that was killed left behind is not in the way of the next.
        std::mem::forget(Target::open(&path).unwrap());
        drop(Target::open(&path).unwrap());
        for left in fs::read_dir(directory.path()).unwrap() {
            fs::remove_file(left.unwrap().path()).unwrap();
        }

        for text in ["one", "two"] {
            let mut target = Target::open(&path).unwrap();
            target.write(text.as_bytes()).unwrap();
            target.finish().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mut target = Target::open(&path).unwrap();
        target.write(b"three").unwrap();
        drop(target);
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(Target::open(&directory.path().join("absent/x")).is_err());
        assert!(Target::open(directory.path()).is_err());
        Target::open(Path::new("/dev/null")).unwrap().finish().unwrap();
        assert!(Path::new("/dev/null").exists());
    }
}
