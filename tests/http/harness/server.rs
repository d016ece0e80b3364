//! The real binary with a configuration of its own on free ports, killed when it is dropped.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::keys::ISSUER;
use super::{Answer, Keys, Request, claims, exchange, until};

/// Names the cluster file of the FoundationDB cluster to test on, if it is to be that.
const CLUSTER_FILE: &str = "INFERADB_TEST_FDB_CLUSTER_FILE";

/// A server that runs.
pub struct Server {
    child: Child,
    pub port: u16,
    pub metrics_port: u16,
    pub directory: Arc<TempDir>,
    /// Where in the log file this process began.
    log_start: u64,
}

/// A process that may not become a server.
pub struct Launched {
    pub child: Child,
    pub directory: Arc<TempDir>,
    log_start: u64,
}

/// Starts the binary over a directory with this configuration, and does not wait for it.
pub fn launch(directory: Arc<TempDir>, config: &Value) -> Launched {
    let path = directory.path().join("config.yaml");
    // JSON is YAML.
    fs::write(&path, serde_json::to_string_pretty(config).unwrap()).unwrap();
    fs::write(directory.path().join("jwks.json"), Keys::shared().key_set()).unwrap();
    let log_start = fs::metadata(log_path(directory.path())).map_or(0, |data| data.len());
    let output = |name: &str| File::create(directory.path().join(name)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_inferadb"))
        .args(["serve", "--config", path.to_str().unwrap()])
        .env_clear()
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(output("stdout"))
        .stderr(output("stderr"))
        .spawn()
        .unwrap();
    Launched {
        child,
        directory,
        log_start,
    }
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("logs/inferadb.log")
}

/// A configuration for tests, over this directory.
fn configuration(directory: &Path) -> Value {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    json!({
        "auth": { "jwks_url": format!("file://{}", path("jwks.json")), "issuer": ISSUER },
        "server": { "host": "127.0.0.1", "port": 0, "worker_threads": 2 },
        "storage": storage(directory),
        "vaults": { "actor_threads": 2 },
        "observability": {
            "metrics": { "port": 0 },
            "logging": { "format": "json", "file": log_path(directory).to_str().unwrap() },
        },
    })
}

/// The embedded engine; or, where `INFERADB_TEST_FDB_CLUSTER_FILE` names a cluster, a part of that which belongs to this
/// directory. Needs a build with FoundationDB then.
fn storage(directory: &Path) -> Value {
    match std::env::var(CLUSTER_FILE) {
        Ok(cluster_file) => {
            // The names of temporary directories are random, and no prefix of each other.
            let name = directory.file_name().unwrap().to_str().unwrap();
            let process = std::process::id();
            static STARTED: OnceLock<u64> = OnceLock::new();
            let started = STARTED.get_or_init(super::seconds_now);
            let key_prefix = format!("test/{started}/{process}/{}", name.trim_start_matches('.'));
            json!({ "backend": "foundationdb", "cluster_file": cluster_file, "key_prefix": key_prefix })
        }
        Err(_) => json!({ "backend": "embedded", "path": directory.join("store").to_str().unwrap() }),
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

/// Puts what asks for memory on the cluster too, where one is tested.
fn place(config: &mut Value, directory: &Path) {
    if std::env::var_os(CLUSTER_FILE).is_some() && config["storage"]["backend"] == "memory" {
        config["storage"] = storage(directory);
    }
}

impl Launched {
    /// The exit code and standard error of a process that ends by itself.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let status = until("the process ends", || self.child.try_wait().unwrap());
        let text = fs::read_to_string(self.directory.path().join("stderr")).unwrap();
        (status.code(), text)
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprint!(
                "{}",
                fs::read_to_string(log_path(self.directory.path())).unwrap_or_default()
            );
        }
    }
}

impl Server {
    /// A server that tests share which need no settings of their own; it ends with the last of those that run.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::with(json!({})));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server with these settings over those of all tests.
    pub fn with(settings: Value) -> Self {
        Self::over(Arc::new(tempfile::tempdir().unwrap()), settings)
    }

    /// A server over a directory that may hold another one's data.
    pub fn over(directory: Arc<TempDir>, settings: Value) -> Self {
        let mut config = configuration(directory.path());
        merge(&mut config, settings);
        place(&mut config, directory.path());
        Self::ready(launch(directory, &config))
    }

    /// What would be started with these settings.
    pub fn launched_with(settings: Value) -> Launched {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let mut config = configuration(directory.path());
        merge(&mut config, settings);
        place(&mut config, directory.path());
        launch(directory, &config)
    }

    fn ready(launched: Launched) -> Self {
        // A `Launched` kills what it holds when it is dropped; it is taken apart once the server listens.
        let mut launched = launched;
        let (port, metrics_port) = until("the server listens", || {
            if let Some(status) = launched.child.try_wait().unwrap() {
                let read = |name: &str| fs::read_to_string(launched.directory.path().join(name)).unwrap();
                panic!("the server ended with {status}: {}", read("stderr"));
            }
            let lines = log_lines(launched.directory.path(), launched.log_start);
            let port = |message: &str| {
                let line = lines.iter().find(|line| line["message"] == message)?;
                line["address"].as_str()?.rsplit(':').next()?.parse::<u16>().ok()
            };
            Some((port("listening")?, port("serving metrics").unwrap_or(0)))
        });
        let replacement = Command::new("true").spawn().unwrap();
        let child = std::mem::replace(&mut launched.child, replacement);
        let server = Self {
            child,
            port,
            metrics_port,
            directory: Arc::clone(&launched.directory),
            log_start: launched.log_start,
        };
        until("the server is ready", || {
            (server.request("GET", "/readyz").send().status == 200).then_some(())
        });
        server
    }

    pub fn request<'a>(&'a self, method: &'a str, path: &str) -> Request<'a> {
        Request::new(self, method, path)
    }

    /// A call of the platform's administrator.
    pub fn admin(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let token = Keys::shared()
            .ed
            .sign(&claims(json!({"scope": "inferadb.admin"})));
        let request = self.request(method, path).bearer(&token);
        match body {
            Some(body) => request.json(&body).send(),
            None => request.send(),
        }
    }

    /// The lines of this process's log so far.
    pub fn log(&self) -> Vec<Value> {
        log_lines(self.directory.path(), self.log_start)
    }

    /// Waits for a line of the log that is asked for.
    pub fn logged(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, || self.log().into_iter().find(&wanted))
    }

    /// The metrics page.
    pub fn metrics(&self) -> String {
        let request = b"GET /metrics HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n";
        let answer = exchange(self.metrics_port, request);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text()
    }

    /// The value of one series, named as the metrics page does.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let page = self.metrics();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.trim().parse().unwrap())
    }

    /// The process.
    #[cfg(feature = "foundationdb")]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to end, as an orchestrator does.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(status.success());
    }

    pub fn ended(&mut self) -> ExitStatus {
        until("the server ends", || self.child.try_wait().unwrap())
    }

    /// Ends the server in good order and starts another one over its data.
    pub fn restarted(mut self, settings: Value) -> Self {
        self.terminate();
        assert_eq!(self.ended().code(), Some(0));
        Self::over(Arc::clone(&self.directory), settings)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // The directory goes; what the server said should not.
            for name in ["stderr", "stdout"] {
                let text = fs::read_to_string(self.directory.path().join(name)).unwrap_or_default();
                eprint!("{text}");
            }
        }
    }
}

/// The whole lines of a log from `start` on. Each must be a JSON object.
fn log_lines(directory: &Path, start: u64) -> Vec<Value> {
    let Ok(mut file) = File::open(log_path(directory)) else {
        return Vec::new();
    };
    file.seek(SeekFrom::Start(start)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(value.is_object(), "{line}");
            value
        })
        .collect()
}
