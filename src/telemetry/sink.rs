//! The log's way out: a bounded buffer that takes lines at once, and a thread of its own that writes them.
//!
//! A line costs the thread that logs it a copy under a lock. It never waits for a disk or a pipe: when the writer
//! cannot keep up, lines are dropped, counted, and the log says how many.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant, SystemTime};

use prometheus::IntCounter;
use tracing::Level;

use super::line::Line;
use super::log_file::LogFile;
use crate::config::LogFormat;

/// The most bytes that wait to be written; as many again may be on their way.
const CAPACITY_BYTES: usize = 8 << 20;
/// So many bytes are written without waiting for more.
const THRESHOLD_BYTES: usize = 256 << 10;
/// How long a line waits for others, so that a busy server writes many at once.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the last lines.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// A failing destination is complained about on standard error this often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// Where log lines go.
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file that is appended to, made with its directories, and made anew when it was moved away.
    File(PathBuf),
    /// Anything else that can be written to.
    Writer(Box<dyn Write + Send>),
}

/// The way into the log. Clones share one buffer.
#[derive(Clone)]
pub struct LogSink {
    shared: Arc<Shared>,
}

/// Keeps the log's thread; dropping it writes what is left, waiting a few seconds at most.
#[derive(Debug)]
pub struct LogGuard {
    sink: LogSink,
}

struct Shared {
    state: Mutex<State>,
    /// Something waits to be written, or should be written now.
    filled: Condvar,
    /// Something was written.
    drained: Condvar,
    dropped: IntCounter,
    capacity_bytes: usize,
}

#[derive(Default)]
struct State {
    lines: Vec<u8>,
    /// Lines dropped since the log last said so.
    dropped: u64,
    /// Write now, without waiting for more.
    urgent: bool,
    closing: bool,
    /// The thread that writes, while it runs.
    writer: Option<ThreadId>,
    /// How often `lines` was taken, and how many of those takes are written.
    taken: u64,
    written: u64,
}

impl LogSink {
    /// Opens `destination` and starts the thread that writes to it. `format` is that of the line about dropped lines.
    pub fn start(destination: Destination, format: LogFormat) -> io::Result<(Self, LogGuard)> {
        Self::start_bounded(destination, format, CAPACITY_BYTES)
    }

    fn start_bounded(
        destination: Destination,
        format: LogFormat,
        capacity_bytes: usize,
    ) -> io::Result<(Self, LogGuard)> {
        let dropped = IntCounter::new(
            "inferadb_log_lines_dropped_total",
            "Log lines dropped because their destination could not keep up or failed",
        )
        .map_err(io::Error::other)?;
        let output = Output::open(destination)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            dropped,
            capacity_bytes,
        });
        let mut drain = Drain {
            shared: Arc::clone(&shared),
            output,
            format,
            torn: false,
            complained: None,
        };
        let thread = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || drain.run())?;
        shared.lock().writer = Some(thread.thread().id());
        let sink = Self { shared };
        Ok((sink.clone(), LogGuard { sink }))
    }

    /// Counts the lines that were dropped.
    pub fn dropped(&self) -> IntCounter {
        self.shared.dropped.clone()
    }

    /// Takes a whole line, its newline included. An urgent one, an error, is written at once.
    pub fn push(&self, line: &[u8], urgent: bool) {
        let mut state = self.shared.lock();
        let before = state.lines.len();
        if state.closing || before + line.len() > self.shared.capacity_bytes {
            state.dropped += 1;
            drop(state);
            self.shared.dropped.inc();
            return;
        }
        state.lines.extend_from_slice(line);
        state.urgent |= urgent;
        // The thread sleeps while there is nothing, then for a pause while lines gather: between two pauses only
        // the first line, the one that passes the threshold and errors wake it.
        let passes = before < THRESHOLD_BYTES && state.lines.len() >= THRESHOLD_BYTES;
        drop(state);
        if before == 0 || passes || urgent {
            self.shared.filled.notify_one();
        }
    }

    /// Waits until every line taken so far is written, for `timeout` at most; answers whether they are.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        if state.writer == Some(thread::current().id()) {
            return false; // the thread that writes cannot wait for itself
        }
        let target = state.taken + u64::from(!state.lines.is_empty());
        state.urgent |= !state.lines.is_empty();
        self.shared.filled.notify_one();
        while state.written < target {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (state, _) = self
                .shared
                .drained
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Whether the log has ended: lines pushed now are lost.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closing
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.sink.shared.lock().closing = true;
        self.sink.shared.filled.notify_one();
        // A destination that takes nothing any more must not keep the process: the thread ends with it.
        self.sink.flush(CLOSE_TIMEOUT);
    }
}

impl Shared {
    /// A panic elsewhere cannot leave the state half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread owns.
struct Drain {
    shared: Arc<Shared>,
    output: Output,
    format: LogFormat,
    /// The last write failed, perhaps within a line.
    torn: bool,
    complained: Option<Instant>,
}

impl Drain {
    fn run(&mut self) {
        let mut lines = Vec::new();
        while let Some(dropped) = self.next(&mut lines) {
            if dropped > 0 {
                let mut line = Vec::new();
                dropped_line(&mut line, self.format, dropped);
                lines.extend_from_slice(&line);
            }
            if let Err(error) = self.write(&lines) {
                let lost = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.shared.dropped.inc_by(lost);
                self.shared.lock().dropped += lost;
                self.complain(&error);
            }
            lines.clear(); // its memory stays: a server that logs much once will again
            self.shared.lock().written += 1;
            self.shared.drained.notify_all();
        }
    }

    /// Waits for lines, exchanges them for the empty `lines`, and answers how many were dropped since the last time;
    /// `None` once the log is closed and empty.
    fn next(&self, lines: &mut Vec<u8>) -> Option<u64> {
        let mut state = self.shared.lock();
        while state.lines.is_empty() {
            if state.closing {
                state.writer = None;
                return None;
            }
            state = self
                .shared
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let until = Instant::now() + PAUSE;
        while !state.urgent && !state.closing && state.lines.len() < THRESHOLD_BYTES {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            (state, _) = self
                .shared
                .filled
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.lines, lines);
        state.urgent = false;
        state.taken += 1;
        Some(std::mem::take(&mut state.dropped))
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let output = self.output.writer()?;
        if self.torn {
            output.write_all(b"\n")?;
        }
        self.torn = true;
        output.write_all(lines)?;
        output.flush()?;
        self.torn = false;
        Ok(())
    }

    /// Says on standard error that the log fails: now and then, it is the only place left.
    fn complain(&mut self, error: &io::Error) {
        if self
            .complained
            .is_some_and(|last| last.elapsed() < COMPLAINT_INTERVAL)
        {
            return;
        }
        self.complained = Some(Instant::now());
        // If standard error fails too there is nobody to tell; the counter tells all the same.
        let _ = writeln!(io::stderr(), "warning: log lines are lost: {error}");
    }
}

enum Output {
    Stdout(io::Stdout),
    File(LogFile),
    Writer(Box<dyn Write + Send>),
}

impl Output {
    fn open(destination: Destination) -> io::Result<Self> {
        Ok(match destination {
            Destination::Stdout => Self::Stdout(io::stdout()),
            Destination::File(path) => Self::File(LogFile::open(path)?),
            Destination::Writer(writer) => Self::Writer(writer),
        })
    }

    fn writer(&mut self) -> io::Result<&mut dyn Write> {
        Ok(match self {
            Self::Stdout(stdout) => stdout,
            Self::File(file) => file.current()?,
            Self::Writer(writer) => writer,
        })
    }
}

fn dropped_line(out: &mut Vec<u8>, format: LogFormat, dropped: u64) {
    let mut line = Line::begin(
        out,
        format,
        SystemTime::now(),
        Level::WARN,
        "inferadb::log",
        "log lines were dropped",
    );
    line.number("dropped", dropped);
    line.end();
}

impl fmt::Debug for LogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogSink")
            .field("dropped", &self.shared.dropped.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use serde_json::Value;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    /// A destination that the test reads, and that can be held up or made to fail.
    struct Pipe {
        written: mpsc::Sender<Vec<u8>>,
        permits: mpsc::Receiver<bool>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.permits.recv() == Ok(false) {
                return Err(io::Error::other("no room on the disk"));
            }
            self.written.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Destination, mpsc::Receiver<Vec<u8>>, mpsc::Sender<bool>) {
        let (written, read) = mpsc::channel();
        let (permit, permits) = mpsc::channel();
        (
            Destination::Writer(Box::new(Pipe { written, permits })),
            read,
            permit,
        )
    }

    #[test]
    fn lines_arrive_whole_in_order_and_the_end_writes_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/too/server.log");
        let (sink, guard) = LogSink::start(Destination::File(path.clone()), LogFormat::Json).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let sink = sink.clone();
                thread::spawn(move || {
                    for number in 0..5000 {
                        sink.push(format!("{thread} {number}\n").as_bytes(), number % 1000 == 0);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        drop(guard);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut next = [0; 4];
        for line in text.lines() {
            let (thread, number) = line.split_once(' ').unwrap();
            let thread: usize = thread.parse().unwrap();
            assert_eq!(number.parse(), Ok(next[thread]));
            next[thread] += 1;
        }
        assert_eq!(next, [5000; 4]);
        assert_eq!(sink.dropped().get(), 0);
        sink.push(b"too late\n", false);
        assert_eq!(sink.dropped().get(), 1);
    }

    #[test]
    fn a_full_buffer_drops_lines_counts_them_and_says_so() {
        let (destination, read, permit) = pipe();
        let (sink, guard) = LogSink::start_bounded(destination, LogFormat::Json, 100).unwrap();
        sink.push(b"first\n", true);
        // Once the first line is taken its writer is stuck; ten lines of ten bytes fit behind it.
        while sink.shared.lock().taken == 0 {
            thread::yield_now();
        }
        for _ in 0..13 {
            sink.push(b"123456789\n", false);
        }
        assert_eq!(sink.dropped().get(), 3);
        for _ in 0..2 {
            permit.send(true).unwrap();
        }
        assert!(sink.flush(LONG));
        assert_eq!(read.recv().unwrap(), b"first\n");
        let rest = String::from_utf8(read.recv().unwrap()).unwrap();
        assert_eq!(rest.matches("123456789\n").count(), 10);
        let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&last["message"], &last["dropped"]),
            (&"log lines were dropped".into(), &3.into())
        );
        drop(guard);
    }

    #[test]
    fn a_failed_write_is_counted_and_the_next_begins_a_new_line() {
        let (destination, read, permit) = pipe();
        let (sink, guard) = LogSink::start(destination, LogFormat::Text).unwrap();
        permit.send(false).unwrap();
        sink.push(b"lost\n", true);
        assert!(sink.flush(LONG));
        assert_eq!(sink.dropped().get(), 1);
        permit.send(true).unwrap();
        permit.send(true).unwrap();
        sink.push(b"next\n", true);
        assert!(sink.flush(LONG));
        assert_eq!(read.recv().unwrap(), b"\n");
        let text = String::from_utf8(read.recv().unwrap()).unwrap();
        assert!(
            text.starts_with("next\n") && text.ends_with("log lines were dropped dropped=1\n"),
            "{text}"
        );
        drop(guard);
    }

    #[test]
    fn a_flush_gives_up_on_a_stuck_destination() {
        let (destination, read, permit) = pipe();
        let (sink, guard) = LogSink::start(destination, LogFormat::Json).unwrap();
        assert!(sink.flush(Duration::ZERO), "nothing waits");
        sink.push(b"stuck\n", true);
        assert!(!sink.flush(Duration::from_millis(1)));
        permit.send(true).unwrap();
        assert!(sink.flush(LONG));
        assert_eq!(read.recv().unwrap(), b"stuck\n");
        drop(guard);
    }
}
