//! Several servers over one FoundationDB cluster that the test starts, freezes and kills.
//!
//! Needs `fdbserver` and `fdbcli`: `INFERADB_TEST_FDBSERVER` and `INFERADB_TEST_FDBCLI` name them where they are not on the path.
//! Run with `cargo test --features foundationdb --test http cluster -- --ignored --nocapture --test-threads 1`.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Answer, DOCUMENTS, Server, Tenant, exchange, question_body, relationship, until};

/// A cluster of one process.
struct Cluster {
    directory: TempDir,
    port: u16,
    process: Option<Child>,
}

fn program(variable: &str, name: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| name.to_owned())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Cluster {
    /// A cluster file, and nobody behind it.
    fn absent() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        fs::write(
            directory.path().join("fdb.cluster"),
            format!("test:test@127.0.0.1:{port}\n"),
        )
        .unwrap();
        for name in ["data", "log"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self {
            directory,
            port,
            process: None,
        }
    }

    fn file(&self) -> String {
        self.directory
            .path()
            .join("fdb.cluster")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn start(&mut self) {
        let path = |name: &str| self.directory.path().join(name).to_str().unwrap().to_owned();
        let process = Command::new(program("INFERADB_TEST_FDBSERVER", "fdbserver"))
            .args(["-p", &format!("127.0.0.1:{}", self.port), "-C", &self.file()])
            .args(["-d", &path("data"), "-L", &path("log")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
    }

    /// Makes the database, once the process runs.
    fn configure(&self) {
        until("the database is made", || {
            let output = Command::new(program("INFERADB_TEST_FDBCLI", "fdbcli"))
                .args([
                    "-C",
                    &self.file(),
                    "--timeout",
                    "5",
                    "--exec",
                    "configure new single ssd",
                ])
                .output()
                .unwrap();
            // That it exists is an error, and what an attempt finds that comes after one which was too slow to be told so.
            let says = |text: &[u8], word| String::from_utf8_lossy(text).contains(word);
            (says(&output.stdout, "created") || says(&output.stderr, "exists")).then_some(())
        });
    }

    fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        let status = Command::new("kill").args([name, &id]).status().unwrap();
        assert!(status.success());
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// What servers over this cluster are told.
    fn storage(&self) -> Value {
        json!({ "storage": { "backend": "foundationdb", "cluster_file": self.file(), "key_prefix": "several/servers" } })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
#[ignore = "needs fdbserver"]
fn a_server_without_its_cluster_waits_says_so_and_serves_once_it_is_there() {
    let mut cluster = Cluster::absent();
    let (port, metrics_port) = (free_port(), free_port());
    let mut settings = cluster.storage();
    settings["server"] = json!({ "port": port });
    settings["observability"] = json!({ "metrics": { "port": metrics_port } });
    let mut launched = Server::launched_with(settings);
    let ask = |port: u16, path: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        exchange(port, request.as_bytes())
    };
    let get = |path: &str| ask(port, path);
    until("it says something", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    assert_eq!(get("/livez").status, 200);
    for path in ["/readyz", "/healthz", "/v1/accounts"] {
        let answer = get(path);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    get("/v1/accounts").problem(503, "storage_unavailable");
    // Whoever watches servers sees one that starts.
    let metrics = ask(metrics_port, "/metrics");
    assert_eq!(metrics.status, 200, "{metrics:?}");
    assert!(metrics.text().contains("# TYPE "), "{metrics:?}");
    until("the log says so", || {
        let log = fs::read_to_string(launched.directory.path().join("logs/inferadb.log")).ok()?;
        log.contains("waiting for storage").then_some(())
    });
    assert!(launched.child.try_wait().unwrap().is_none());
    cluster.start();
    cluster.configure();
    let started = Instant::now();
    until("it is ready", || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
        use std::io::{Read, Write};
        stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.1 200").then_some(())
    });
    eprintln!("ready {:?} after the database was made", started.elapsed());
}

#[test]
#[ignore = "needs fdbserver"]
fn a_server_that_waits_for_its_cluster_can_be_stopped() {
    let cluster = Cluster::absent();
    let port = free_port();
    let mut settings = cluster.storage();
    settings["server"] = json!({ "port": port });
    let launched = Server::launched_with(settings);
    until("it waits", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let id = launched.child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &id])
            .status()
            .unwrap()
            .success()
    );
    let (code, text) = launched.ended();
    assert_eq!(code, Some(0), "{text}");
}

/// A pair of relationships that one request wrote, and what became of it.
struct Attempt {
    document: String,
    user: String,
    /// The revision, if the write was acknowledged.
    revision: Option<String>,
}

/// What the threads of the load share.
#[derive(Default)]
struct Load {
    ends: AtomicBool,
    attempts: Mutex<Vec<Attempt>>,
    /// When and by which server something was answered with 200.
    answered: Mutex<Vec<(Instant, usize)>>,
    checks: AtomicUsize,
    refused: AtomicUsize,
    killed: AtomicUsize,
}

impl Load {
    /// Whether the server answered what was asked. If not, what it says must be that it cannot now.
    fn answered(&self, server: usize, answer: Option<&Answer>) -> bool {
        let Some(answer) = answer else {
            assert_eq!(
                self.killed.load(Ordering::SeqCst),
                server + 1,
                "no answer from a living server"
            );
            return false;
        };
        if answer.status == 200 {
            self.answered.lock().unwrap().push((Instant::now(), server));
            return true;
        }
        assert!([503, 504].contains(&answer.status), "{answer:?}");
        assert!(
            answer.status == 504 || answer.header("retry-after").is_some(),
            "{answer:?}"
        );
        self.refused.fetch_add(1, Ordering::SeqCst);
        false
    }

    fn goes_on(&self, server: usize) -> bool {
        !self.ends.load(Ordering::SeqCst) && self.killed.load(Ordering::SeqCst) != server + 1
    }

    fn write(&self, tenant: &Tenant<&Server>, server: usize, writer: usize) {
        for n in 0.. {
            if !self.goes_on(server) {
                return;
            }
            let (document, user) = (format!("d{server}-{writer}-{n}"), format!("u{writer}"));
            let pair = ["owner", "approver"]
                .map(|name| relationship(&format!("document:{document}#{name}@user:{user}")));
            let answer = send(tenant, "/v1/relationships/write", &json!({ "touch": pair }));
            let revision = self.answered(server, answer.as_ref()).then(|| {
                let body = answer.unwrap().expect(200);
                body["revision"].as_str().unwrap().to_owned()
            });
            self.attempts.lock().unwrap().push(Attempt {
                document,
                user,
                revision,
            });
        }
    }

    /// Asks one server for what any of them acknowledged.
    fn check(&self, tenant: &Tenant<&Server>, server: usize) {
        for n in 0_usize.. {
            if !self.goes_on(server) {
                return;
            }
            let question = {
                let attempts = self.attempts.lock().unwrap();
                let acknowledged = attempts.iter().rev().filter(|attempt| attempt.revision.is_some());
                let picked = acknowledged.take(50).nth(n * 7 % 50);
                picked.map(|one| {
                    (
                        format!("user:{} publish document:{}", one.user, one.document),
                        one.revision.clone(),
                    )
                })
            };
            let Some((question, revision)) = question else {
                thread::yield_now();
                continue;
            };
            let mut body = question_body(&question);
            let (consistency, expected) = match n % 4 {
                0 => (json!("fully_consistent"), "allow"),
                1 | 2 => (json!({ "at_least_as_fresh": revision }), "allow"),
                _ => {
                    body["resource"] = json!("document:never-written");
                    (json!("minimize_latency"), "deny")
                }
            };
            body["consistency"] = consistency;
            let answer = send(tenant, "/v1/check", &body);
            if self.answered(server, answer.as_ref()) {
                self.checks.fetch_add(1, Ordering::SeqCst);
                assert_eq!(answer.unwrap().expect(200)["decision"], expected, "{body}");
            }
        }
    }

    /// How long after `moment` each server answered again.
    fn recovered(&self, moment: Instant) {
        for server in 0..2 {
            let after = until("the server answers again", || {
                let answered = self.answered.lock().unwrap();
                answered
                    .iter()
                    .find(|(at, by)| *at > moment && *by == server)
                    .map(|(at, _)| *at - moment)
            });
            eprintln!("server {server} answered {after:?} after the cluster's return");
            assert!(after < Duration::from_secs(15), "{after:?}");
        }
    }
}

fn send(tenant: &Tenant<&Server>, path: &str, body: &Value) -> Option<Answer> {
    let token = tenant.token(crate::harness::ALL_SCOPES);
    tenant
        .server
        .request("POST", path)
        .bearer(&token)
        .json(body)
        .send_to_mortal()
}

#[test]
#[ignore = "needs fdbserver, and takes a minute and a half"]
fn what_was_acknowledged_outlives_a_cluster_that_freezes_and_dies_and_a_server_that_is_killed() {
    let mut cluster = Cluster::absent();
    cluster.start();
    cluster.configure();
    let first = Server::with(cluster.storage());
    let second = Server::with(cluster.storage());
    let tenant = Tenant::new(&first, "load");
    tenant.put_schema(DOCUMENTS);
    let tenants = [
        Tenant::of(&first, tenant.account.clone(), tenant.vault.clone()),
        Tenant::of(&second, tenant.account.clone(), tenant.vault.clone()),
    ];
    let load = Load::default();
    let count = || {
        let attempts = load.attempts.lock().unwrap();
        let acknowledged = attempts.iter().filter(|one| one.revision.is_some()).count();
        let (checks, refused) = (
            load.checks.load(Ordering::SeqCst),
            load.refused.load(Ordering::SeqCst),
        );
        eprintln!(
            "{} writes, {acknowledged} acknowledged; {checks} checks; {refused} refused",
            attempts.len()
        );
    };
    thread::scope(|scope| {
        for (server, tenant) in tenants.iter().enumerate() {
            let load = &load;
            for writer in 0..3 {
                scope.spawn(move || load.write(tenant, server, writer));
            }
            for _ in 0..2 {
                scope.spawn(move || load.check(tenant, server));
            }
        }
        let pause = |seconds| thread::sleep(Duration::from_secs(seconds));
        pause(4);
        count();
        cluster.signal("-STOP");
        pause(20);
        eprintln!("frozen for 20 seconds");
        count();
        cluster.signal("-CONT");
        load.recovered(Instant::now());
        pause(4);
        count();
        cluster.kill();
        pause(5);
        cluster.start();
        eprintln!("killed, started 5 seconds later");
        load.recovered(Instant::now());
        pause(4);
        count();
        load.killed.store(1, Ordering::SeqCst);
        let id = first.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-KILL", &id])
                .status()
                .unwrap()
                .success()
        );
        eprintln!("one server killed");
        pause(4);
        count();
        load.ends.store(true, Ordering::SeqCst);
    });
    let (mut kept, mut lost) = (0, 0);
    for attempt in load.attempts.lock().unwrap().iter() {
        let holds = |permission: &str| {
            let mut body = question_body(&format!(
                "user:{} {permission} document:{}",
                attempt.user, attempt.document
            ));
            body["consistency"] = json!("fully_consistent");
            tenants[1].post("/v1/check", body).expect(200)["decision"] == "allow"
        };
        let (edit, publish) = (holds("edit"), holds("publish"));
        assert_eq!(edit, publish, "half a write: {}", attempt.document);
        match attempt.revision {
            Some(_) => assert!(edit, "an acknowledged write is lost: {}", attempt.document),
            None if edit => kept += 1,
            None => lost += 1,
        }
    }
    eprintln!("of the writes that were not acknowledged {kept} are there and {lost} are not");
}
