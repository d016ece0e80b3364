//! The metrics registry, its text form, and the listener that serves it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::Server;
use actix_web::{App, HttpResponse, HttpServer, web};
use prometheus::{IntGauge, Opts, Registry, TextEncoder};

use super::process::Process;

/// The content type of Prometheus's text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4";

/// Owns the registry that every series of the server is registered with.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
}

impl Metrics {
    /// A registry that holds what every server has: its build and its process.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let build = Opts::new("inferadb_build_info", "Always 1; the label tells the version")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let build = IntGauge::with_opts(build)?;
        build.set(1);
        registry.register(Box::new(build))?;
        registry.register(Box::new(Process::new()?))?;
        Ok(Self { registry })
    }

    /// Where further series are registered.
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Every series in Prometheus's text format.
    pub fn encode(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Serves `GET /metrics`, and nothing else, on a thread of its own; port 0 takes any free one.
///
/// Answers the server, which runs once it is awaited or spawned, and the addresses it is bound to. It leaves signals alone: whoever spawned it
/// stops it.
pub fn serve(metrics: Arc<Metrics>, host: &str, port: u16) -> io::Result<(Server, Vec<SocketAddr>)> {
    let data = web::Data::from(metrics);
    let server = HttpServer::new(move || {
        App::new().app_data(data.clone()).service(
            web::resource("/metrics")
                .route(web::get().to(text))
                .default_service(web::to(|| async {
                    HttpResponse::MethodNotAllowed()
                        .insert_header(("Allow", "GET"))
                        .finish()
                })),
        )
    })
    .workers(1)
    .max_connections(256)
    .disable_signals()
    .shutdown_timeout(1)
    .bind((host, port))?;
    let addresses = server.addrs();
    Ok((server.run(), addresses))
}

async fn text(metrics: web::Data<Metrics>) -> HttpResponse {
    match metrics.encode() {
        Ok(text) => HttpResponse::Ok().content_type(TEXT_FORMAT).body(text),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            HttpResponse::InternalServerError().finish()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_process_describes_itself() {
        let text = Metrics::new().unwrap().encode().unwrap();
        assert!(
            text.contains(&format!(
                "inferadb_build_info{{version=\"{}\"}} 1",
                env!("CARGO_PKG_VERSION")
            )),
            "{text}"
        );
        assert!(text.contains("process_start_time_seconds"), "{text}");
        if cfg!(target_os = "linux") {
            let resident = text
                .lines()
                .find_map(|line| line.strip_prefix("process_resident_memory_bytes "))
                .unwrap();
            assert!(resident.parse::<f64>().unwrap() > 1e6, "{resident}");
            for name in [
                "process_cpu_seconds_total",
                "process_open_fds",
                "process_threads",
                "process_virtual_memory_bytes",
            ] {
                assert!(
                    text.lines().any(|line| line.starts_with(name)),
                    "{name} is not in {text}"
                );
            }
        }
    }

    #[test]
    fn only_get_metrics_is_served() {
        let metrics = Arc::new(Metrics::new().unwrap());
        actix_web::rt::System::new().block_on(async move {
            let (server, addresses) = serve(metrics, "127.0.0.1", 0).unwrap();
            let handle = server.handle();
            let running = actix_web::rt::spawn(server);
            let address = addresses[0];
            let answers = actix_web::rt::task::spawn_blocking(move || {
                ["GET /metrics", "POST /metrics", "GET /", "GET /metrics/x"]
                    .map(|request| ask(address, request))
            });
            let answers = answers.await.unwrap();
            assert!(answers[0].starts_with("HTTP/1.1 200 OK\r\n"), "{}", answers[0]);
            assert!(
                answers[0].contains("content-type: text/plain; version=0.0.4\r\n"),
                "{}",
                answers[0]
            );
            assert!(answers[0].contains("\ninferadb_build_info"), "{}", answers[0]);
            assert!(answers[1].starts_with("HTTP/1.1 405 "), "{}", answers[1]);
            assert!(answers[2].starts_with("HTTP/1.1 404 "), "{}", answers[2]);
            assert!(answers[3].starts_with("HTTP/1.1 404 "), "{}", answers[3]);
            handle.stop(false).await;
            running.await.unwrap().unwrap();
        });
    }
}
