//! The store's file: redb's own, but whoever writes it lets others have the core between one small piece and the next.
//!
//! A sync has the system write all that was changed since the last one, which takes it the better part of a millisecond for a large
//! commit, in one go: nobody else has the core meanwhile. So what was changed is handed to the disk in pieces before it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::mem;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, DatabaseError, StorageBackend};

use crate::background;

/// About how many bytes are handed to the disk at once: the system spends some tens of microseconds on so many. What no more was
/// written than that is left to the sync.
const PIECE_BYTES: u64 = 64 << 10;

/// Has the system begin to write what was changed in a stretch of the file, and waits for nothing.
type StartWriting = dyn Fn(&Range<u64>) -> io::Result<()> + Send + Sync;

/// The file, as redb is given it.
pub(super) struct PacedFile<B> {
    inner: B,
    start_writing: Box<StartWriting>,
    /// Whether the system takes what was written in pieces.
    is_piecewise: AtomicBool,
    /// What was written since the latest sync: no more than a transaction changes.
    unsynced: Mutex<Vec<Range<u64>>>,
}

impl PacedFile<FileBackend> {
    /// Opens the file at `path`, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let same = file.try_clone()?;
        let start_writing = move |piece: &Range<u64>| start_writing(&same, piece);
        Ok(Self::new(FileBackend::new(file)?, start_writing))
    }
}

impl<B: StorageBackend> PacedFile<B> {
    /// Paces another file.
    pub(super) fn new(
        inner: B,
        start_writing: impl Fn(&Range<u64>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            inner,
            start_writing: Box::new(start_writing),
            is_piecewise: AtomicBool::new(true),
            unsynced: Mutex::default(),
        }
    }

    /// Has the disk begin with what was written, in the order of the file. An error may be the only word of what could not be written: it
    /// is the sync's.
    fn hand_over(&self) -> io::Result<()> {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        let written = mem::take(&mut *unsynced);
        drop(unsynced);
        let bytes: u64 = written.iter().map(|range| range.end - range.start).sum();
        if bytes <= PIECE_BYTES || !self.is_piecewise.load(Ordering::Relaxed) {
            return Ok(());
        }
        for piece in pieces(written) {
            background::breathe();
            match (self.start_writing)(&piece) {
                Ok(()) => {}
                Err(error) if is_no_failure(&error) => {
                    tracing::debug!(%error, "the store's file is written by syncs alone");
                    self.is_piecewise.store(false, Ordering::Relaxed);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        background::breathe();
        Ok(())
    }
}

/// Whether an error says that the system, or the file system, knows nothing of pieces.
fn is_no_failure(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unsupported | ErrorKind::InvalidInput | ErrorKind::NotSeekable
    )
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

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "the standard library has no call for it")]
fn start_writing(file: &File, piece: &Range<u64>) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let too_far = |_| io::Error::from(ErrorKind::InvalidInput);
    let start = libc::off64_t::try_from(piece.start).map_err(too_far)?;
    let length = libc::off64_t::try_from(piece.end - piece.start).map_err(too_far)?;
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and no memory is handed over.
    let outcome =
        unsafe { libc::sync_file_range(file.as_raw_fd(), start, length, libc::SYNC_FILE_RANGE_WRITE) };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(not(target_os = "linux"))]
fn start_writing(_file: &File, _piece: &Range<u64>) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

impl<B> fmt::Debug for PacedFile<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PacedFile")
    }
}

impl<B: StorageBackend> StorageBackend for PacedFile<B> {
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
        let handed_over = self.hand_over();
        self.inner.sync_data().and(handed_over)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // Of redb's locks, the caller holds that of one in 131 of the pages yet to be written.
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
    use std::sync::Arc;

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
        let expected = [(0, 15), (16, 31), (32, 39)];
        let expected = expected.map(|(first, last)| scattered(first).start..scattered(last).end);
        assert_eq!(pieces(written), expected);
        // What is large is no more than one piece, and ends it.
        let large = 0..100 * PAGE;
        assert_eq!(pieces(vec![page(200), large.clone()]), [large, page(200)]);
        // What was written twice is in it once.
        let both = pieces(vec![page(1), page(0), page(1)]);
        assert_eq!((both.len(), &both[0]), (1, &(0..2 * PAGE)));
    }

    /// What a file was asked for, and what of it fails.
    #[derive(Debug, Default)]
    struct Asked {
        calls: Mutex<Vec<String>>,
        failing: Mutex<Vec<(&'static str, ErrorKind)>>,
    }

    #[derive(Debug)]
    struct Recorded(Arc<Asked>);

    impl Asked {
        fn ask(&self, call: String) -> io::Result<()> {
            let failing = self.failing.lock().unwrap();
            let kind = failing.iter().find(|(name, _)| call.starts_with(name));
            self.calls.lock().unwrap().push(call);
            kind.map_or(Ok(()), |(_, kind)| Err((*kind).into()))
        }

        fn calls(&self) -> Vec<String> {
            mem::take(&mut *self.calls.lock().unwrap())
        }
    }

    impl StorageBackend for Recorded {
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn read(&self, _offset: u64, _out: &mut [u8]) -> io::Result<()> {
            self.0.ask("read".into())
        }

        fn set_len(&self, _len: u64) -> io::Result<()> {
            self.0.ask("set length".into())
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.ask("sync".into())
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.ask(format!("write {} of {}", data.len(), offset / PAGE))
        }
    }

    fn recorded() -> (Arc<Asked>, PacedFile<Recorded>) {
        let asked = Arc::new(Asked::default());
        let same = Arc::clone(&asked);
        let start =
            move |piece: &Range<u64>| same.ask(format!("start {}..{}", piece.start / PAGE, piece.end / PAGE));
        (Arc::clone(&asked), PacedFile::new(Recorded(asked), start))
    }

    fn write(file: &PacedFile<Recorded>, pages: impl IntoIterator<Item = u64>) {
        for number in pages {
            file.write(number * PAGE, &[7; PAGE as usize]).unwrap();
        }
    }

    #[test]
    fn all_that_was_written_is_synced_and_in_pieces_where_it_is_much() {
        let (asked, file) = recorded();
        write(&file, [5, 3]);
        file.sync_data().unwrap();
        assert_eq!(asked.calls(), ["write 4096 of 5", "write 4096 of 3", "sync"]);
        write(&file, (0..20).rev());
        assert_eq!(asked.calls().len(), 20);
        file.sync_data().unwrap();
        assert_eq!(asked.calls(), ["start 0..16", "start 16..20", "sync"]);
        // Nothing is handed over twice.
        file.sync_data().unwrap();
        assert_eq!(asked.calls(), ["sync"]);
    }

    #[test]
    fn a_failure_of_either_is_the_syncs() {
        for (failing, expected) in [
            (
                vec![("start", ErrorKind::StorageFull)],
                Some(ErrorKind::StorageFull),
            ),
            (vec![("sync", ErrorKind::Other)], Some(ErrorKind::Other)),
            (
                vec![("start", ErrorKind::StorageFull), ("sync", ErrorKind::Other)],
                Some(ErrorKind::Other),
            ),
            // A system that knows nothing of pieces.
            (vec![("start", ErrorKind::Unsupported)], None),
            (vec![("start", ErrorKind::InvalidInput)], None),
        ] {
            let (asked, file) = recorded();
            *asked.failing.lock().unwrap() = failing.clone();
            write(&file, 0..40);
            asked.calls();
            let outcome = file.sync_data().map_err(|error| error.kind());
            assert_eq!(outcome.err(), expected, "{failing:?}");
            let calls = asked.calls();
            assert_eq!(calls.last().map(String::as_str), Some("sync"), "{failing:?}");
            if expected.is_none() {
                // It is not asked again.
                assert_eq!(calls, ["start 0..16", "sync"]);
                write(&file, 0..40);
                asked.calls();
                file.sync_data().unwrap();
                assert_eq!(asked.calls(), ["sync"]);
            }
        }
    }

    #[test]
    fn a_file_of_the_system_takes_pieces() {
        let directory = tempfile::tempdir().unwrap();
        let file = PacedFile::open(&directory.path().join("file")).unwrap();
        file.set_len(100 * PAGE).unwrap();
        for number in (0..100).rev() {
            file.write(number * PAGE, &[number as u8; PAGE as usize]).unwrap();
        }
        file.sync_data().unwrap();
        assert_eq!(
            file.is_piecewise.load(Ordering::Relaxed),
            cfg!(target_os = "linux")
        );
        let mut read = [0; PAGE as usize];
        for number in 0..100 {
            file.read(number * PAGE, &mut read).unwrap();
            assert_eq!(read, [number as u8; PAGE as usize]);
        }
        assert_eq!(file.len().unwrap(), 100 * PAGE);
    }
}
