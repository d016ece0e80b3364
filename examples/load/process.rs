//! The processes that are measured: servers that this one starts from its own program, and the CPU time they use.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Failure;

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// A server under measurement; one that was started here ends with this.
pub struct Target {
    /// What it is called in the report.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process, if it is known.
    pub pid: Option<u32>,
    child: Option<Child>,
}

/// How the server that is started differs from its defaults.
pub struct Setup<'a> {
    /// The program; `None` is this one.
    pub program: Option<&'a Path>,
    /// A directory for its configuration and log.
    pub directory: &'a Path,
    /// Threads that serve requests.
    pub workers: usize,
    /// Whether each of them is bound to a core.
    pub pin: bool,
    /// Whether decisions are cached.
    pub cache: bool,
    /// Whether each check leaves a line in the log file.
    pub log_checks: bool,
    /// Whether the store is on disk.
    pub embedded: bool,
}

impl Target {
    /// A server that runs already.
    pub const fn running(address: SocketAddr, pid: Option<u32>) -> Self {
        Self {
            name: "server",
            address,
            pid,
            child: None,
        }
    }

    /// Starts a server with a store in memory, which trusts the keys in `key_set`.
    pub fn start(name: &'static str, setup: &Setup<'_>, key_set: &str) -> Result<Self, Failure> {
        let path = |name: &str| setup.directory.join(name);
        fs::create_dir_all(setup.directory)?;
        fs::write(path("jwks.json"), key_set)?;
        let storage = match setup.embedded {
            true => serde_json::json!({ "backend": "embedded", "path": path("data") }),
            false => serde_json::json!({ "backend": "memory" }),
        };
        let config = serde_json::json!({
            "auth": { "jwks_url": format!("file://{}", path("jwks.json").display()) },
            "server": { "host": "127.0.0.1", "port": 0, "worker_threads": setup.workers, "pin_threads": setup.pin },
            "storage": storage,
            "cache": { "enabled": setup.cache },
            "observability": {
                "metrics": { "port": 0 },
                "logging": { "file": path("server.log"), "permission_checks": setup.log_checks },
            },
        });
        // JSON is YAML.
        fs::write(path("config.yaml"), config.to_string())?;
        let mut command = command(setup.program)?;
        command.arg("serve").arg("--config").arg(path("config.yaml"));
        let mut target = Self::of(name, command.spawn()?);
        target.address = target.address_in(&path("server.log"))?;
        Ok(target)
    }

    /// Starts the bare handler.
    pub fn start_bare(workers: usize) -> Result<Self, Failure> {
        let mut command = command(None)?;
        command
            .arg("bare")
            .arg(workers.to_string())
            .stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take();
        let mut target = Self::of("bare handler", child);
        let mut line = String::new();
        BufReader::new(stdout.ok_or("the bare handler has no output")?).read_line(&mut line)?;
        target.address = line.trim().parse()?;
        Ok(target)
    }

    fn of(name: &'static str, child: Child) -> Self {
        Self {
            name,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            pid: Some(child.id()),
            child: Some(child),
        }
    }

    /// The address that the server says in its log that it listens on.
    fn address_in(&mut self, log: &Path) -> Result<SocketAddr, Failure> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            let text = fs::read_to_string(log).unwrap_or_default();
            let mut lines = text
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let member = |line: &Value, name| line.get(name).and_then(Value::as_str).map(str::to_owned);
            if let Some(line) = lines.find(|line| member(line, "message").as_deref() == Some("listening")) {
                return Ok(member(&line, "address").unwrap_or_default().parse()?);
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                return Err(format!("the server ended at once: {status}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err("the server does not say that it listens".into())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // It may have ended by itself, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn command(program: Option<&Path>) -> Result<Command, Failure> {
    let program = match program {
        Some(program) => program.to_owned(),
        None => std::env::current_exe()?,
    };
    Ok(Command::new(program))
}

/// CPU time of a process, and how it is spread over its threads.
pub struct CpuTime {
    /// Ticks of 10 ms: enough to tell user from system time, too coarse for a short turn.
    user_ticks: u64,
    system_ticks: u64,
    /// Nanoseconds on a core, as the scheduler counts them.
    threads: Vec<(String, u64)>,
}

impl CpuTime {
    /// What the process has used so far.
    pub fn of(pid: u32) -> Result<Self, Failure> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let (user_ticks, system_ticks) = ticks(&process)?;
        let mut threads = Vec::new();
        for thread in fs::read_dir(process.join("task"))? {
            let thread = thread?.path();
            // A thread that ends meanwhile is left out: a server's workers stay.
            if let Ok(text) = fs::read_to_string(thread.join("schedstat")) {
                let nanos = text
                    .split_ascii_whitespace()
                    .next()
                    .and_then(|field| field.parse().ok())
                    .ok_or("/proc/<pid>/task/<tid>/schedstat has another form")?;
                threads.push((thread.display().to_string(), nanos));
            }
        }
        Ok(Self {
            user_ticks,
            system_ticks,
            threads,
        })
    }

    /// What was used since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let earlier = |thread: &str| {
            let known = before.threads.iter().find(|(name, _)| name == thread);
            known.map_or(0, |(_, nanos)| *nanos)
        };
        let mut threads: Vec<_> = self
            .threads
            .iter()
            .map(|(name, nanos)| (name.clone(), nanos - earlier(name)))
            .collect();
        threads.sort_by_key(|(_, nanos)| std::cmp::Reverse(*nanos));
        Self {
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
            threads,
        }
    }

    /// User and system time together.
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.threads.iter().map(|(_, nanos)| nanos).sum())
    }

    /// The part that was user time, from 0 to 1.
    pub fn user_share(&self) -> f64 {
        self.user_ticks as f64 / (self.user_ticks + self.system_ticks).max(1) as f64
    }

    /// Each busy thread's part of the whole, from 0 to 1, the busiest first.
    pub fn thread_shares(&self) -> impl Iterator<Item = f64> {
        let total = self.total().as_nanos().max(1) as f64;
        let shares = self.threads.iter().map(move |(_, nanos)| *nanos as f64 / total);
        shares.take_while(|share| *share >= 0.01)
    }
}

fn ticks(process: &Path) -> Result<(u64, u64), Failure> {
    let stat = fs::read_to_string(process.join("stat"))?;
    // The name, in parentheses, may hold anything; user and system time are fields 14 and 15 of the whole.
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/<pid>/stat has another form")?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next().and_then(|field| field.parse().ok());
    let times = next().zip(next());
    Ok(times.ok_or("/proc/<pid>/stat has another form")?)
}

/// Has the calling thread run before all that have no real-time priority, as soon as it wants to.
pub fn come_first() -> io::Result<()> {
    schedule(libc::SCHED_FIFO, 1)
}

/// Has the calling thread run when nobody else wants to.
pub fn come_last() -> io::Result<()> {
    schedule(libc::SCHED_IDLE, 0)
}

#[expect(unsafe_code, reason = "the standard library has no call for it")]
fn schedule(policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let mut parameters = MaybeUninit::<libc::sched_param>::zeroed();
    // SAFETY: it consists of integers, which may be zero.
    let parameters = unsafe { parameters.assume_init_mut() };
    parameters.sched_priority = priority;
    // SAFETY: 0 is the calling thread, and the parameters are only read.
    match unsafe { libc::sched_setscheduler(0, policy, parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
