//! Providers that answer well, badly, slowly, endlessly and from somewhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a test provider does with a connection, once it has read the request.
type Answer = fn(&str, u16) -> Reply;

enum Reply {
    Text(String),
    /// The text, and then the same bytes over and over until the other side hangs up.
    Endless(String, Vec<u8>),
    /// The text, and then nothing more, with the connection held open.
    Stalled(String),
    /// The text, and then a byte every few milliseconds until the other side hangs up.
    Dripping(String),
}

struct Provider {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Provider {
    /// A provider on a port of its own; `answer` gets the request's path and that port.
    async fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, answer, port));
            }
        });
        Self { port, connections }
    }

    async fn fetch(&self, path: &str) -> Result<Fetched, FetchError> {
        let address = format!("http://127.0.0.1:{}{path}", self.port);
        HttpKeys::with_timeout(&address, Duration::from_secs(20))
            .unwrap()
            .fetch()
            .await
    }
}

async fn serve(mut stream: TcpStream, answer: Answer, port: u16) {
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap();
    match answer(path, port) {
        Reply::Text(text) => stream.write_all(text.as_bytes()).await.unwrap_or_default(),
        Reply::Endless(text, bytes) => {
            let mut alive = stream.write_all(text.as_bytes()).await.is_ok();
            while alive {
                alive = stream.write_all(&bytes).await.is_ok();
            }
        }
        Reply::Stalled(text) => {
            stream.write_all(text.as_bytes()).await.unwrap_or_default();
            let _closed = stream.read(&mut buffer).await;
        }
        Reply::Dripping(text) => {
            let mut alive = stream.write_all(text.as_bytes()).await.is_ok();
            while alive {
                tokio::time::sleep(Duration::from_millis(10)).await;
                alive = stream.write_all(b" ").await.is_ok();
            }
        }
    }
}

fn ok(body: &str, more: &str) -> Reply {
    let length = body.len();
    Reply::Text(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n{body}"
    ))
}

fn redirect(to: &str) -> Reply {
    Reply::Text(format!(
        "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ))
}

#[tokio::test]
async fn a_key_set_and_its_age_are_read() {
    let provider = Provider::start(|path, _| match path {
        "/plain" => ok("{}", ""),
        "/aged" => ok(
            "{}",
            "Cache-Control: public\r\nCache-Control: Max-Age=\"90\", must-revalidate\r\n",
        ),
        _ => ok("{}", "Cache-Control: max-age=soon, s-maxage=5\r\n"),
    })
    .await;
    let fetched = |max_age: Option<u64>| {
        Ok(Fetched {
            body: b"{}".to_vec(),
            max_age: max_age.map(Duration::from_secs),
        })
    };
    assert_eq!(provider.fetch("/plain").await, fetched(None));
    assert_eq!(provider.fetch("/aged").await, fetched(Some(90)));
    assert_eq!(provider.fetch("/odd").await, fetched(None));
    assert_eq!(
        provider.connections.load(Ordering::Relaxed),
        3,
        "no connection is kept for minutes"
    );
}

#[tokio::test]
async fn only_200_is_a_key_set() {
    let provider = Provider::start(|path, _| {
        Reply::Text(format!(
            "HTTP/1.1 {} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            &path[1..]
        ))
    })
    .await;
    for status in [201, 204, 206, 304, 401, 404, 500, 503] {
        assert_eq!(
            provider.fetch(&format!("/{status}")).await,
            Err(FetchError::Status(status))
        );
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_off() {
    let provider = Provider::start(|path, _| match path {
        "/chunked" => Reply::Endless(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
            format!("4000\r\n{}\r\n", "x".repeat(0x4000)).into_bytes(),
        ),
        "/unsized" => Reply::Endless("HTTP/1.1 200 OK\r\n\r\n".to_owned(), vec![b'x'; 0x4000]),
        _ => Reply::Endless(
            "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n".to_owned(),
            vec![b'x'; 0x4000],
        ),
    })
    .await;
    for path in ["/chunked", "/unsized", "/declared"] {
        assert_eq!(provider.fetch(path).await, Err(FetchError::TooLarge), "{path}");
    }
    let full = Provider::start(|_, _| ok(&"x".repeat(MAX_BODY_BYTES), "")).await;
    assert_eq!(full.fetch("/").await.unwrap().body.len(), MAX_BODY_BYTES);
}

#[tokio::test]
async fn a_provider_that_stalls_or_drips_is_given_up() {
    let provider = Provider::start(|path, _| match path {
        "/silent" => Reply::Stalled(String::new()),
        "/head" => Reply::Stalled("HTTP/1.1 200 OK\r\nContent-".to_owned()),
        // A drip resets any limit on the time between two bytes; only a limit on the whole ends it.
        "/drip" => Reply::Dripping("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_owned()),
        "/slow-head" => Reply::Dripping("HTTP/1.1 200 OK\r\nX-Padding:".to_owned()),
        _ => Reply::Stalled("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned()),
    })
    .await;
    for path in ["/silent", "/head", "/slow-head", "/body", "/drip"] {
        let address = format!("http://127.0.0.1:{}{path}", provider.port);
        let keys = HttpKeys::with_timeout(&address, Duration::from_millis(200)).unwrap();
        assert_eq!(keys.fetch().await, Err(FetchError::Timeout), "{path}");
    }
}

#[tokio::test]
async fn redirects_stay_with_the_provider() {
    let provider = Provider::start(|path, port| match path {
        "/here" => ok("{}", ""),
        "/once" => redirect("/here"),
        "/twice" => redirect("/once"),
        "/thrice" => redirect(&format!("http://127.0.0.1:{port}/twice")),
        "/too-often" => redirect("/thrice"),
        "/loop" => redirect("/loop"),
        "/host" => redirect(&format!("http://localhost:{port}/here")),
        "/scheme" => redirect(&format!("https://127.0.0.1:{port}/here")),
        "/file" => redirect("file:///etc/passwd"),
        other => redirect(&format!("http://127.0.0.1:{}/here", &other[1..])),
    })
    .await;
    for path in ["/once", "/twice", "/thrice"] {
        assert_eq!(provider.fetch(path).await.unwrap().body, b"{}", "{path}");
    }
    for path in ["/too-often", "/loop", "/host", "/scheme"] {
        assert_eq!(provider.fetch(path).await, Err(FetchError::Redirect), "{path}");
    }
    assert!(provider.fetch("/file").await.is_err());
    let foreign = Provider::start(|_, _| ok("{}", "")).await;
    assert_eq!(
        provider.fetch(&format!("/{}", foreign.port)).await,
        Err(FetchError::Redirect)
    );
    assert_eq!(
        foreign.connections.load(Ordering::Relaxed),
        0,
        "nobody else is ever asked"
    );
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_without_its_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let keys = HttpKeys::new(&format!("http://user:hunter2@127.0.0.1:{port}/?key=hunter2")).unwrap();
    let error = keys.fetch().await.unwrap_err();
    assert!(matches!(error, FetchError::Network(_)), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert_eq!(keys.describe(), format!("http://127.0.0.1:{port}/"));
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secure = HttpKeys::new(&format!("https://{}/", plain.local_addr().unwrap())).unwrap();
    let answer = async {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.read_exact(&mut [0]).await.unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            .await
            .unwrap();
    };
    let (fetched, ()) = tokio::join!(secure.fetch(), answer);
    assert!(
        matches!(fetched, Err(FetchError::Network(_))),
        "https is never plain http: {fetched:?}"
    );
}

#[tokio::test]
async fn files_are_read_and_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key set.json");
    std::fs::write(&path, "{}").unwrap();
    let url = Url::from_file_path(&path).unwrap();
    for address in [url.as_str(), path.to_str().unwrap()] {
        assert_eq!(
            source(address).unwrap().fetch().await.unwrap().body,
            b"{}",
            "{address}"
        );
    }
    std::fs::write(&path, vec![b'x'; MAX_BODY_BYTES + 1]).unwrap();
    assert_eq!(FileKeys::new(&path).fetch().await, Err(FetchError::TooLarge));
    for odd in [
        directory.path().join("none"),
        directory.path().to_owned(),
        PathBuf::from("/dev/zero"),
    ] {
        assert!(
            matches!(FileKeys::new(&odd).fetch().await, Err(FetchError::File(_))),
            "{}",
            odd.display()
        );
    }
}

#[test]
fn addresses_that_lead_nowhere_are_refused_at_the_start() {
    for address in [
        "",
        " ",
        "ftp://example.com/keys",
        "http://",
        "https://exa mple/",
        "file://host/keys",
        "http:",
    ] {
        assert!(
            matches!(source(address), Err(StartError::BadAddress(_))),
            "{address:?}"
        );
    }
    assert!(source("keys.json").is_ok());
    assert!(source("HTTPS://example.com/keys").is_ok());
}
