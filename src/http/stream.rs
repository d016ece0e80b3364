//! Streamed answers: a task writes them record by record, a bounded queue holds what their reader has yet to take, and a
//! reader that takes nothing for too long is cut off. Whatever a reader does, a stream costs a bounded amount of memory.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse};
use inferadb_actors::HeavyThreads;
use tokio::sync::{mpsc, watch};

use super::problem::Problem;
use crate::telemetry::LogScope;

/// One JSON value a line.
pub const NDJSON: &str = "application/x-ndjson";
/// Server-Sent Events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// The size of a piece handed to the connection, in bytes; a record of more takes several.
const PIECE_BYTES: usize = 16 << 10;
/// How many pieces wait for the connection.
const QUEUED_PIECES: usize = 4;

/// Tells answers without an end that the server is stopping. Clones tell each other.
#[derive(Debug, Clone)]
pub struct Stopping(watch::Sender<bool>);

/// The writing end of a streamed answer. If it is dropped before it is finished, the reader finds its answer broken off.
pub struct Writer {
    queue: mpsc::Sender<Bytes>,
    /// A place in the queue for how the stream ends.
    last: mpsc::OwnedPermit<Bytes>,
    /// What is not in the queue yet.
    gathered: Vec<u8>,
    /// How much of that ends with a whole record; `None`: none of it, nor what is in the queue.
    whole: Option<usize>,
    is_broken_off: Arc<AtomicBool>,
    patience: Duration,
}

/// Why nobody reads a stream any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The reader went away.
    Gone,
    /// The reader took nothing for too long.
    Slow,
}

/// The reading end: the body of the answer.
struct Body {
    queue: mpsc::Receiver<Bytes>,
    is_broken_off: Arc<AtomicBool>,
}

/// Ends a body such that its reader can tell.
#[derive(Debug)]
struct BrokenOff;

impl Default for Stopping {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Stopping {
    /// From now on the server is stopping.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Ends once the server is stopping.
    pub async fn begun(&self) {
        let mut stopping = self.0.subscribe();
        // The other end is in this very value.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }
}

/// A 200 whose body is what `work` writes, on a thread for heavy work and in the log scope of its request. A reader that takes nothing
/// for as long as `patience` though something waits for it is reported to `work` as [`Unread::Slow`].
pub fn answer<F>(
    threads: &HeavyThreads,
    scope: &Arc<LogScope>,
    content_type: &'static str,
    patience: Duration,
    work: impl FnOnce(Writer) -> F + Send + 'static,
) -> HttpResponse
where
    F: Future<Output = ()> + 'static,
{
    let (writer, body) = channel(patience);
    if let Some(writer) = writer {
        let scope = Arc::clone(scope);
        // Where there are no threads any more the answer is broken off.
        threads.begin(move || scope.around(Box::pin(work(writer))));
    }
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, content_type))
        .insert_header((CACHE_CONTROL, "no-store"))
        // What stands in between is to pass each record on as it comes.
        .insert_header(("x-accel-buffering", "no"))
        .body(body)
}

/// The one of `offered` that the request's `Accept` likes best; the first where it does not matter, or none is liked.
pub fn preferred(request: &HttpRequest, offered: &[&'static str]) -> &'static str {
    let headers = request.headers().get_all(ACCEPT);
    let ranges: Vec<(&str, f32)> = headers
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(range_and_quality)
        .collect();
    let liking = |media: &str| -> (f32, usize) {
        let kind = media.split('/').next().unwrap_or_default();
        let precise = |range: &str| match range.split_once('/') {
            _ if range.eq_ignore_ascii_case(media) => 3,
            Some((of, "*")) if of.eq_ignore_ascii_case(kind) => 2,
            Some(("*", "*")) => 1,
            _ => 0,
        };
        let matches = ranges.iter().map(|(range, quality)| (precise(range), *quality));
        let best = matches
            .filter(|(precision, _)| *precision > 0)
            .max_by_key(|(precision, _)| *precision);
        best.map_or((0.0, 0), |(precision, quality)| (quality, precision))
    };
    let mut best = (offered.first().copied().unwrap_or_default(), (0.0, 0));
    for media in offered {
        let liked = liking(media);
        if liked > best.1 && liked.0 > 0.0 {
            best = (media, liked);
        }
    }
    best.0
}

/// What a stream ends with whose reader takes nothing.
pub fn slow_reader(patience: Duration) -> Problem {
    let seconds = patience.as_secs();
    let detail =
        format!("what was sent has not been read for {seconds} seconds; go on from the last event that came");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "slow_reader", detail)
}

fn range_and_quality(range: &str) -> (&str, f32) {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    (media, quality.map_or(1.0, |text| text.parse().unwrap_or(0.0)))
}

fn channel(patience: Duration) -> (Option<Writer>, Body) {
    let (queue, reading) = mpsc::channel(QUEUED_PIECES + 1);
    let is_broken_off = Arc::new(AtomicBool::new(true));
    let body = Body {
        queue: reading,
        is_broken_off: Arc::clone(&is_broken_off),
    };
    // Of a new queue no place is taken and its other end is in hand.
    let writer = queue.clone().try_reserve_owned().ok().map(|last| Writer {
        queue,
        last,
        gathered: Vec::new(),
        whole: Some(0),
        is_broken_off,
        patience,
    });
    (writer, body)
}

impl Writer {
    /// Adds a record. It may wait for others to fill a piece: [`Writer::flush`] ends that.
    pub async fn write(&mut self, record: &[u8]) -> Result<(), Unread> {
        self.part(record).await?;
        self.end_record();
        Ok(())
    }

    /// Adds a part of a record, which [`Writer::end_record`] ends: a large one need not be in memory as a whole.
    pub async fn part(&mut self, bytes: &[u8]) -> Result<(), Unread> {
        if !self.gathered.is_empty() && self.gathered.len() + bytes.len() > PIECE_BYTES {
            self.flush().await?;
        }
        for piece in bytes.chunks(PIECE_BYTES) {
            if self.gathered.len() + piece.len() > PIECE_BYTES {
                self.flush().await?;
            }
            self.gathered.extend_from_slice(piece);
        }
        Ok(())
    }

    /// Ends the record whose parts were added.
    pub fn end_record(&mut self) {
        self.whole = Some(self.gathered.len());
    }

    /// Sends what was gathered.
    pub async fn flush(&mut self) -> Result<(), Unread> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let permit = match self.queue.try_reserve() {
            Ok(permit) => permit,
            Err(mpsc::error::TrySendError::Closed(())) => return Err(Unread::Gone),
            Err(mpsc::error::TrySendError::Full(())) => {
                match tokio::time::timeout(self.patience, self.queue.reserve()).await {
                    Ok(Ok(permit)) => permit,
                    Ok(Err(_)) => return Err(Unread::Gone),
                    Err(_) => return Err(Unread::Slow),
                }
            }
        };
        permit.send(Bytes::copy_from_slice(&self.gathered));
        let is_whole = self.whole == Some(self.gathered.len());
        self.whole = is_whole.then_some(0);
        self.gathered.clear();
        Ok(())
    }

    /// Ends when the reader went away.
    pub fn gone(&self) -> impl Future<Output = ()> + use<> {
        let queue = self.queue.clone();
        async move { queue.closed().await }
    }

    /// Ends the stream with `record`: behind what waits for its reader, never within another record.
    pub fn finish(mut self, record: &[u8]) {
        let Some(whole) = self.whole else { return };
        self.gathered.truncate(whole);
        self.gathered.extend_from_slice(record);
        self.is_broken_off.store(false, Ordering::SeqCst);
        self.last.send(Bytes::from(self.gathered));
    }
}

impl MessageBody for Body {
    type Error = BrokenOff;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        match self.queue.poll_recv(context) {
            Poll::Ready(Some(piece)) => Poll::Ready(Some(Ok(piece))),
            Poll::Ready(None) if self.is_broken_off.load(Ordering::SeqCst) => {
                Poll::Ready(Some(Err(BrokenOff)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the stream was broken off within a record")
    }
}

impl std::error::Error for BrokenOff {}

#[cfg(test)]
mod tests {
    use actix_web::body::to_bytes;
    use actix_web::test::TestRequest;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(20);

    fn pair() -> (Writer, Body) {
        let (writer, body) = channel(PATIENCE);
        (writer.unwrap(), body)
    }

    #[tokio::test]
    async fn records_come_whole_and_in_order() {
        let (mut writer, body) = pair();
        let writing = async move {
            for at in 0..5_000 {
                writer.write(format!("{at}\n").as_bytes()).await.unwrap();
            }
            writer.write(&[b'x'; 100_000]).await.unwrap();
            writer.finish(b"\nend\n");
        };
        let (read, ()) = tokio::join!(to_bytes(body), writing);
        let text = String::from_utf8(read.unwrap().to_vec()).unwrap();
        let mut expected: String = (0..5_000).map(|at| format!("{at}\n")).collect();
        expected.push_str(&"x".repeat(100_000));
        expected.push_str("\nend\n");
        assert!(text == expected);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_why_unless_that_would_be_within_a_record() {
        let (mut writer, body) = pair();
        let record = [b'a'; PIECE_BYTES];
        let mut written = 0;
        let end = loop {
            match writer.write(&record).await {
                Ok(()) => written += 1,
                Err(end) => break end,
            }
        };
        assert_eq!(end, Unread::Slow);
        assert_eq!(written, QUEUED_PIECES + 1, "what is queued and what is gathered");
        writer.finish(b"slow");
        let read = to_bytes(body).await.unwrap();
        assert!(read.ends_with(b"slow"));

        let (mut writer, body) = pair();
        assert_eq!(writer.write(&[b'a'; 10 * PIECE_BYTES]).await, Err(Unread::Slow));
        writer.finish(b"slow");
        assert!(to_bytes(body).await.is_err());

        // What was gathered of a record that has not begun to be sent is left out.
        let (mut writer, body) = pair();
        writer.write(b"whole.").await.unwrap();
        writer.part(b"half").await.unwrap();
        writer.finish(b"end");
        assert_eq!(to_bytes(body).await.unwrap(), "whole.end");
        let (mut writer, body) = pair();
        writer.part(b"half").await.unwrap();
        writer.flush().await.unwrap();
        writer.finish(b"end");
        assert!(to_bytes(body).await.is_err());
    }

    #[tokio::test]
    async fn a_reader_that_went_away_is_noticed_and_a_lost_writer_too() {
        let (mut writer, body) = pair();
        drop(body);
        writer.gone().await;
        writer.write(b"x").await.unwrap();
        assert_eq!(writer.flush().await, Err(Unread::Gone));

        let (mut writer, body) = pair();
        writer.write(b"x").await.unwrap();
        writer.flush().await.unwrap();
        drop(writer);
        assert!(to_bytes(body).await.is_err());
    }

    #[test]
    fn accept_decides_between_what_is_offered() {
        let offered = ["application/json", NDJSON];
        for (accept, expected) in [
            (None, 0),
            (Some("*/*"), 0),
            (Some("application/x-ndjson"), 1),
            (Some("Application/X-NDJSON; charset=utf-8"), 1),
            (Some("application/x-ndjson, */*"), 1),
            (Some("application/x-ndjson;q=0.5, application/json"), 0),
            (Some("application/json;q=0.5, application/x-ndjson;q=0.9"), 1),
            (Some("application/x-ndjson;q=0"), 0),
            (Some("application/*"), 0),
            (Some("text/html"), 0),
            (Some("nonsense"), 0),
            (Some("application/x-ndjson;q=nan"), 0),
        ] {
            let mut request = TestRequest::default();
            if let Some(accept) = accept {
                request = request.insert_header(("accept", accept));
            }
            assert_eq!(
                preferred(&request.to_http_request(), &offered),
                offered[expected],
                "{accept:?}"
            );
        }
    }
}
