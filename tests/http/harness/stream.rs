//! An answer that is read while it is being sent.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::{PATIENCE, Server};

/// An answer of which the head was read.
pub struct Stream {
    pub status: u16,
    pub headers: String,
    lines: BufReader<Chunked>,
}

/// One event of a stream of Server-Sent Events.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub kind: String,
    pub data: Value,
}

/// The body of an answer in chunks.
struct Chunked {
    socket: BufReader<TcpStream>,
    left: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    First,
    Between,
    Ended,
}

impl Stream {
    /// Asks, and reads as far as the end of the answer's head.
    pub fn open(
        server: &Server,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        Self::over(socket, token, method, path, headers, body)
    }

    /// The same over a connection that holds next to nothing of what was not read yet.
    pub fn open_narrow(
        server: &Server,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], server.port));
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into(), token, method, path, headers, body)
    }

    fn over(
        mut socket: TcpStream,
        token: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        socket.write_all(head.as_bytes()).unwrap();
        let mut socket = BufReader::new(socket);
        let mut headers = String::new();
        while !headers.ends_with("\r\n\r\n") {
            assert_ne!(socket.read_line(&mut headers).unwrap(), 0, "{headers}");
        }
        let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
        let chunked = Chunked {
            socket,
            left: 0,
            state: State::First,
        };
        Self {
            status,
            headers: headers.to_ascii_lowercase(),
            lines: BufReader::new(chunked),
        }
    }

    /// The next line; `None` at the end of the answer. Panics if the answer breaks off.
    pub fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line).unwrap() {
            0 => None,
            _ => Some(
                line.strip_suffix('\n')
                    .unwrap_or_else(|| panic!("cut: {line}"))
                    .to_owned(),
            ),
        }
    }

    /// The next line as JSON.
    pub fn json(&mut self) -> Option<Value> {
        self.line()
            .map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next event; `None` at the end of the answer.
    pub fn event(&mut self) -> Option<Event> {
        let (mut id, mut kind, mut data): (Option<String>, Option<String>, Option<String>) =
            (None, None, None);
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Some(Event {
                    id,
                    kind: kind.unwrap(),
                    data: serde_json::from_str(&data.unwrap()).unwrap(),
                });
            }
            let (name, value) = line.split_once(": ").unwrap();
            let field = match name {
                "id" => &mut id,
                "event" => &mut kind,
                "data" => &mut data,
                _ => panic!("{line}"),
            };
            assert_eq!(field.replace(value.to_owned()), None, "{line}");
        }
    }

    /// The next event that is not a heartbeat.
    pub fn news(&mut self) -> Option<Event> {
        loop {
            let event = self.event()?;
            if event.kind != "heartbeat" {
                return Some(event);
            }
        }
    }

    /// Everything until the connection ends, however it does.
    pub fn rest(mut self) -> (String, std::io::Result<usize>) {
        let mut bytes = Vec::new();
        let outcome = self.lines.read_to_end(&mut bytes);
        (String::from_utf8_lossy(&bytes).into_owned(), outcome)
    }

    /// Goes away.
    pub fn close(self) {
        let socket = self.lines.get_ref().socket.get_ref();
        let _ = socket.shutdown(Shutdown::Both);
    }
}

impl Chunked {
    fn framing(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.socket.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Read for Chunked {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.state == State::Ended {
            return Ok(0);
        }
        if self.left == 0 {
            if self.state == State::Between {
                assert_eq!(self.framing()?, "");
            }
            self.left = usize::from_str_radix(&self.framing()?, 16).unwrap();
            self.state = State::Between;
            if self.left == 0 {
                self.state = State::Ended;
                return Ok(0);
            }
        }
        let most = into.len().min(self.left);
        let read = self.socket.read(&mut into[..most])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read;
        Ok(read)
    }
}
