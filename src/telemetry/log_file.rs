//! A log file that is appended to, and made anew when it was moved away: rotation without a signal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is looked whether the file is still where it was.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    looked: Instant,
    look_interval: Duration,
}

impl LogFile {
    /// Opens the file at `path` for appending; makes it and its directories if need be.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = open(&path)?;
        Ok(Self {
            path,
            file,
            looked: Instant::now(),
            look_interval: LOOK_INTERVAL,
        })
    }

    /// The file to write to now.
    pub fn current(&mut self) -> io::Result<&mut File> {
        if self.looked.elapsed() >= self.look_interval {
            self.looked = Instant::now();
            if !self.is_in_place()? {
                self.file = open(&self.path)?;
            }
        }
        Ok(&mut self.file)
    }

    #[cfg(unix)]
    fn is_in_place(&self) -> io::Result<bool> {
        use std::os::unix::fs::MetadataExt;

        let open = self.file.metadata()?;
        // A file that cannot be looked at is opened anew, which tells why.
        Ok(
            fs::metadata(&self.path)
                .is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino())),
        )
    }

    #[cfg(not(unix))]
    fn is_in_place(&self) -> io::Result<bool> {
        self.path.try_exists()
    }
}

fn open(path: &PathBuf) -> io::Result<File> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(named)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(named)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/server.log");
        let mut log = LogFile::open(path.clone()).unwrap();
        log.look_interval = Duration::ZERO;
        log.current().unwrap().write_all(b"one\n").unwrap();
        let rotated = directory.path().join("logs/server.log.1");
        fs::rename(&path, &rotated).unwrap();
        log.current().unwrap().write_all(b"two\n").unwrap();
        fs::remove_dir_all(directory.path().join("logs")).unwrap();
        log.current().unwrap().write_all(b"three\n").unwrap();
        log.current().unwrap().write_all(b"four\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\nfour\n");

        // An existing file is appended to.
        LogFile::open(path.clone())
            .unwrap()
            .current()
            .unwrap()
            .write_all(b"five\n")
            .unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "three\nfour\nfive\n");
    }

    #[test]
    fn a_path_that_cannot_be_opened_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = LogFile::open(directory.path().to_owned())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(&directory.path().display().to_string()), "{error}");
    }
}
