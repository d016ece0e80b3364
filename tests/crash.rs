//! The server is killed in the middle of a storm of writes, again and again: what it acknowledged is there when it
//! comes back, and no write is half there.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const KILLS: u64 = 10;
const WRITERS: usize = 8;
/// Relationships that each write stores, and that a later one deletes.
const ROWS: usize = 6;
/// How many writes of a writer are there at a time: the next one deletes the oldest.
const KEPT: u64 = 3;
/// Long enough for a busy machine; nothing waits so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(30);

const SCHEMA: &str = "
definition user {}

definition document {
    relation reader: user
    permission read = reader
}
";

/// A running server.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_inferadb"))
            .args(["serve", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stdout.take().unwrap());
        let (heard, listening) = mpsc::channel();
        std::thread::spawn(move || {
            // To its end, so that the server never waits for somebody to read its log.
            for line in log.lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == "listening" {
                    let address = line["address"].as_str().and_then(|text| text.parse().ok());
                    let _ = heard.send(address.expect("an address in the log line"));
                }
            }
        });
        let Ok(address) = listening.recv_timeout(PATIENCE) else {
            let _ = child.kill();
            panic!("the server does not listen: {:?}", child.wait());
        };
        Self { child, address }
    }

    fn client(&self) -> Client {
        Client::new(self.address)
    }
}

/// SIGKILL: nothing is told, nothing is finished. A test that fails leaves no server behind either.
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection, kept open.
struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            stream: None,
        }
    }

    /// The status and the whole body, or an error: then nothing is known of what became of the request.
    fn call(&mut self, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        let body = body.to_string();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let bad = || io::Error::from(ErrorKind::UnexpectedEof);
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|text| text.parse().ok())
            .ok_or_else(bad)?;
        let mut length = None;
        loop {
            line.clear();
            stream.read_line(&mut line)?;
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse::<usize>().ok();
                }
                Some(_) => {}
                None if line == "\r\n" => break,
                None => return Err(bad()),
            }
        }
        let mut bytes = vec![0; length.ok_or_else(bad)?];
        stream.read_exact(&mut bytes)?;
        self.stream = Some(stream);
        let body = serde_json::from_slice(&bytes).map_err(|_| bad())?;
        Ok((status, body))
    }

    fn post(&mut self, path: &str, body: &Value) -> Value {
        let (status, body) = self.call("POST", path, body).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

/// What one writer knows: the number of its next write, and the revision of its latest acknowledged one.
#[derive(Debug, Clone, Default)]
struct Writer {
    next: u64,
    revision: Option<String>,
}

fn document(writer: usize, number: u64, row: usize) -> String {
    format!("document:w{writer}-{number}-{row}")
}

fn rows(writer: usize, number: u64) -> Vec<Value> {
    let row =
        |row| json!({"resource": document(writer, number, row), "relation": "reader", "subject": "user:ann"});
    (0..ROWS).map(row).collect()
}

impl Writer {
    /// Writes until the server is gone. Each write stores some rows and deletes those of an earlier one.
    fn storm(mut self, at: usize, address: SocketAddr, written: &AtomicU64, is_over: &AtomicBool) -> Self {
        let mut client = Client::new(address);
        while !is_over.load(Ordering::SeqCst) {
            let gone = match self.next.checked_sub(KEPT) {
                Some(number) => rows(at, number),
                None => Vec::new(),
            };
            let body = json!({"touch": rows(at, self.next), "delete": gone});
            let Ok((status, answer)) = client.call("POST", "/v1/relationships/write", &body) else {
                return self;
            };
            assert_eq!(status, 200, "{answer}");
            self.revision = answer["revision"].as_str().map(str::to_owned);
            self.next += 1;
            written.fetch_add(1, Ordering::SeqCst);
        }
        self
    }
}

/// How many rows of each write of each writer are stored.
fn stored(client: &mut Client) -> BTreeMap<(usize, u64), usize> {
    let mut counts = BTreeMap::new();
    let mut cursor = Value::Null;
    loop {
        let mut body = json!({"filter": {"resource_type": "document"}, "limit": 1_000});
        if !cursor.is_null() {
            body["cursor"] = cursor;
        }
        let page = client.post("/v1/relationships/read", &body);
        for relationship in page["relationships"].as_array().unwrap() {
            let name = relationship["resource"].as_str().unwrap();
            let mut parts = name.strip_prefix("document:w").unwrap().split('-');
            let writer = parts.next().unwrap().parse().unwrap();
            let number = parts.next().unwrap().parse().unwrap();
            *counts.entry((writer, number)).or_default() += 1;
        }
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            return counts;
        }
    }
}

/// What is stored is what was acknowledged, and at most the one write of each writer that was under way beside; each
/// write whole, its deletions with it.
fn judge(client: &mut Client, writers: &mut [Writer]) {
    let counts = stored(client);
    for (count, (writer, number)) in counts.iter().map(|(key, count)| (count, key)) {
        assert_eq!(
            *count, ROWS,
            "write {number} of writer {writer} is half there: {counts:?}"
        );
    }
    for (at, writer) in writers.iter_mut().enumerate() {
        let held: Vec<u64> = counts.keys().filter(|key| key.0 == at).map(|key| key.1).collect();
        let next = held.last().map_or(0, |last| last + 1);
        assert!(
            next == writer.next || next == writer.next + 1,
            "writer {at} was acknowledged {} writes, and {next} are there",
            writer.next
        );
        let expected: Vec<u64> = (next.saturating_sub(KEPT)..next).collect();
        assert_eq!(
            held, expected,
            "writer {at}: a write without its deletions, or the other way round"
        );
        // A revision that was answered is one that the server that came back knows.
        let Some(revision) = &writer.revision else {
            continue;
        };
        let check = json!({
            "subject": "user:ann",
            "resource": document(at, next - 1, ROWS - 1),
            "permission": "read",
            "consistency": {"at_least_as_fresh": revision},
        });
        assert_eq!(client.post("/v1/check", &check)["decision"], "allow");
        writer.next = next;
    }
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("inferadb.yaml");
    let text = format!(
        "auth: {{ enabled: false }}\n\
         server: {{ host: 127.0.0.1, port: 0, worker_threads: 2 }}\n\
         storage: {{ backend: embedded, path: '{}' }}\n\
         observability: {{ metrics: {{ enabled: false }}, logging: {{ format: json, level: info }} }}\n",
        directory.path().join("data").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut server = Server::start(&config);
    let (status, answer) = server
        .client()
        .call("PUT", "/v1/schema", &json!({"schema": SCHEMA}))
        .unwrap();
    assert_eq!(status, 200, "{answer}");
    let mut writers = vec![Writer::default(); WRITERS];
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let written = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let address = server.address;
        let storms: Vec<_> = writers
            .iter()
            .cloned()
            .enumerate()
            .map(|(at, writer)| {
                let (written, is_over) = (Arc::clone(&written), Arc::clone(&is_over));
                std::thread::spawn(move || writer.storm(at, address, &written, &is_over))
            })
            .collect();
        // In the middle of the storm: after another number of writes each time.
        let begun = Instant::now();
        while written.load(Ordering::SeqCst) < 40 + 37 * kill {
            assert!(begun.elapsed() < PATIENCE, "the writes do not get on");
            std::thread::yield_now();
            std::thread::sleep(Duration::from_micros(200));
        }
        drop(server);
        is_over.store(true, Ordering::SeqCst);
        writers = storms.into_iter().map(|storm| storm.join().unwrap()).collect();
        acknowledged += written.load(Ordering::SeqCst);
        server = Server::start(&config);
        judge(&mut server.client(), &mut writers);
    }
    drop(server);
    assert!(acknowledged > 1_000, "only {acknowledged} writes");
}
