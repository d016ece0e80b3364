//! What the process itself uses, under the names that Prometheus clients share.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// How many ticks of `/proc/self/stat` make a second: fixed at 100 for programs on Linux, whatever the kernel's own.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` each time it is asked. On systems without one only the start time is there.
pub(super) struct Process {
    cpu_seconds: Counter,
    resident_bytes: Gauge,
    virtual_bytes: Gauge,
    open_files: Gauge,
    threads: Gauge,
    start_seconds: Gauge,
}

impl Process {
    /// Describes the series.
    pub fn new() -> prometheus::Result<Self> {
        let start_seconds = Gauge::new(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
        )?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        start_seconds.set(now.as_secs_f64());
        Ok(Self {
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time spent, in seconds",
            )?,
            resident_bytes: Gauge::new("process_resident_memory_bytes", "Memory in RAM")?,
            virtual_bytes: Gauge::new("process_virtual_memory_bytes", "Memory addressed")?,
            open_files: Gauge::new("process_open_fds", "Open file descriptors")?,
            threads: Gauge::new("process_threads", "Threads")?,
            start_seconds,
        })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [
            &self.resident_bytes,
            &self.virtual_bytes,
            &self.open_files,
            &self.threads,
            &self.start_seconds,
        ];
        gauges
            .into_iter()
            .flat_map(Collector::desc)
            .chain(self.cpu_seconds.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.start_seconds.collect();
        if let Ok(status) = fs::read_to_string("/proc/self/status") {
            for (name, gauge, unit) in [
                ("VmRSS:", &self.resident_bytes, 1024.0),
                ("VmSize:", &self.virtual_bytes, 1024.0),
                ("Threads:", &self.threads, 1.0),
            ] {
                if let Some(value) = status_value(&status, name) {
                    gauge.set(value * unit);
                    families.extend(gauge.collect());
                }
            }
        }
        if let Some(seconds) = fs::read_to_string("/proc/self/stat")
            .ok()
            .as_deref()
            .and_then(cpu_seconds)
        {
            self.cpu_seconds
                .inc_by((seconds - self.cpu_seconds.get()).max(0.0));
            families.extend(self.cpu_seconds.collect());
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            self.open_files.set(entries.count().saturating_sub(1) as f64); // the directory itself is open too
            families.extend(self.open_files.collect());
        }
        families
    }
}

fn status_value(status: &str, name: &str) -> Option<f64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// User and system time of `/proc/self/stat`: the 14th and 15th field; the 2nd, a name, may hold blanks and `)`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_process_does_not_mislead() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 150 0 0 20 0";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(status_value("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"), Some(12.0));
    }
}
