//! One keep-alive HTTP/1.1 connection that costs next to nothing: a blocking socket, requests made by hand, one at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer that takes longer counts as failed, and ends the run.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// No answer to what is asked here is nearly as large.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// What is handed to the system at once.
const PIECE_BYTES: usize = 4 << 10;

/// A connection and the buffers that its requests and answers share.
pub struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

/// An answer, valid until the next request.
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

impl Connection {
    /// Connects.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream,
            received: vec![0; 16 << 10],
        })
    }

    /// Sends a whole request and waits for its whole answer.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        // As a network would: the system does not deliver all of a large one before it does anything else.
        for piece in request.chunks(PIECE_BYTES) {
            self.stream.write_all(piece)?;
        }
        let mut filled = 0;
        loop {
            let free = self.received.get_mut(filled..).unwrap_or_default();
            let read = self.stream.read(free)?;
            if read == 0 {
                return Err(malformed("the server closed the connection"));
            }
            filled += read;
            if let Some(head) = Head::parse(self.received.get(..filled).unwrap_or_default())? {
                let end = head.body_start + head.body_bytes;
                if filled >= end {
                    let body = self.received.get(head.body_start..end).unwrap_or_default();
                    return Ok(Answer {
                        status: head.status,
                        body,
                    });
                }
                if end > MAX_ANSWER_BYTES {
                    return Err(malformed("an answer is far larger than expected"));
                }
                self.received.resize(self.received.len().max(end), 0);
            } else if filled == self.received.len() {
                return Err(malformed("an answer's headers do not end"));
            }
        }
    }
}

struct Head {
    status: u16,
    body_start: usize,
    body_bytes: usize,
}

impl Head {
    /// The head of an answer, once it is there as a whole.
    fn parse(received: &[u8]) -> io::Result<Option<Self>> {
        let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = received
            .get(..end)
            .and_then(|head| std::str::from_utf8(head).ok());
        let mut lines = text.unwrap_or_default().split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let length = lines.find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse().ok())?
        });
        match (status, length) {
            (Some(status), Some(body_bytes)) => Ok(Some(Self {
                status,
                body_start: end + 4,
                body_bytes,
            })),
            // A 204 has no body and need not say so.
            (Some(204), None) => Ok(Some(Self {
                status: 204,
                body_start: end + 4,
                body_bytes: 0,
            })),
            _ => Err(malformed("an answer has no status or no `Content-Length`")),
        }
    }
}

fn malformed(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// Replaces `out` with a request.
pub fn write_request(out: &mut Vec<u8>, method: &str, path: &str, token: &str, body: &[u8]) {
    let length = body.len().to_string();
    out.clear();
    for part in [
        method,
        " ",
        path,
        " HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ",
        token,
        "\r\nContent-Type: application/json\r\nContent-Length: ",
        &length,
        "\r\n\r\n",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    out.extend_from_slice(body);
}
