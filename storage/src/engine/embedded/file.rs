//! The store's file: redb's own, but whoever writes it lets others have the core between one small piece and the next.
//!
//! A sync has the system write all that was changed since the last one, which takes it the better part of a millisecond for a large
//! commit, in one go: nobody else has the core meanwhile. So what was changed is handed to the disk in pieces before it.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

use crate::background;

/// About how many bytes are handed to the disk at once: the system spends some tens of microseconds on so many.
const PIECE_BYTES: u64 = 64 << 10;

/// The file, as redb is given it.
#[derive(Debug)]
pub(super) struct PacedFile {
    inner: FileBackend,
    /// The same file once more: `inner` keeps its own to itself.
    file: File,
    /// What was written since the latest sync.
    unsynced: Mutex<Vec<Range<u64>>>,
}

impl PacedFile {
    /// Opens the file at `path`, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        Ok(Self {
            file: file.try_clone()?,
            inner: FileBackend::new(file)?,
            unsynced: Mutex::default(),
        })
    }

    /// Has the disk begin with what was written, in the order of the file.
    fn hand_over(&self) {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        let written = mem::take(&mut *unsynced);
        drop(unsynced);
        for piece in pieces(written) {
            background::breathe();
            start_writing(&self.file, &piece);
        }
    }
}

/// Joins what was written to stretches of the file, in its order, each with about as much in it as is handed over at once.
fn pieces(mut written: Vec<Range<u64>>) -> Vec<Range<u64>> {
    written.sort_unstable_by_key(|range| range.start);
    let mut pieces: Vec<Range<u64>> = Vec::new();
    let mut bytes = 0;
    for range in written {
        match pieces.last_mut() {
            Some(piece) if bytes < PIECE_BYTES => piece.end = piece.end.max(range.end),
            _ => {
                pieces.push(range.clone());
                bytes = 0;
            }
        }
        bytes += range.end - range.start;
    }
    pieces
}

/// Has the system begin to write what was changed in a stretch of the file, and waits for nothing. What fails here is left to the
/// sync that follows, which does the same once more, and knows of all that went wrong since the one before.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no call for it")]
fn start_writing(file: &File, piece: &Range<u64>) {
    use std::os::fd::AsRawFd;

    let (Ok(start), Ok(length)) = (
        libc::off64_t::try_from(piece.start),
        libc::off64_t::try_from(piece.end - piece.start),
    ) else {
        return;
    };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is handed over.
    let outcome =
        unsafe { libc::sync_file_range(file.as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE) };
    if outcome != 0 {
        let error = io::Error::last_os_error();
        tracing::debug!(%error, "a piece of the store's file is left to the sync");
    }
}

#[cfg(not(target_os = "linux"))]
fn start_writing(_file: &File, _piece: &Range<u64>) {}

impl StorageBackend for PacedFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.hand_over();
        background::breathe();
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        background::breathe();
        self.inner.write(offset, data)?;
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        unsynced.push(offset..offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4 << 10;

    fn page(number: u64) -> Range<u64> {
        number * PAGE..(number + 1) * PAGE
    }

    #[test]
    fn what_was_written_is_handed_over_in_order_and_in_pieces() {
        assert_eq!(pieces(Vec::new()), []);
        assert_eq!(pieces(vec![page(3)]), [page(3)]);
        // Far apart or close, sixteen pages are a piece.
        let scattered = |number: u64| page(number * number);
        let written: Vec<_> = (0..40).rev().map(scattered).collect();
        let expected =
            [(0, 15), (16, 31), (32, 39)].map(|(first, last)| scattered(first).start..scattered(last).end);
        assert_eq!(pieces(written), expected);
        // What is large is no more than one piece, and ends it.
        let large = 0..100 * PAGE;
        assert_eq!(pieces(vec![page(200), large.clone()]), [large, page(200)]);
        // What was written twice is in it once.
        let both = pieces(vec![page(1), page(0), page(1)]);
        assert_eq!((both.len(), &both[0]), (1, &(0..2 * PAGE)));
    }

    #[test]
    fn what_was_written_is_there_after_a_sync_and_is_handed_over_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = PacedFile::open(&directory.path().join("file")).unwrap();
        file.set_len(100 * PAGE).unwrap();
        for number in [7, 3, 90] {
            file.write(number * PAGE, &[number as u8; PAGE as usize]).unwrap();
        }
        assert_eq!(file.unsynced.lock().unwrap().len(), 3);
        file.sync_data().unwrap();
        assert_eq!(file.unsynced.lock().unwrap().len(), 0);
        let mut read = [0; PAGE as usize];
        for (number, expected) in [(3, 3), (4, 0), (7, 7), (90, 90)] {
            file.read(number * PAGE, &mut read).unwrap();
            assert_eq!(read, [expected; PAGE as usize]);
        }
        assert_eq!(file.len().unwrap(), 100 * PAGE);
    }
}
