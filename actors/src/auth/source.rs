//! Where a key set comes from: a provider's address, a file, or the program itself; always bounded in time and size.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{ACCEPT, CACHE_CONTROL, HeaderMap};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};
use thiserror::Error;

use super::error::StartError;
use super::keys::KeySetError;

/// How long one fetch may take, from connecting to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest key set that is read, in bytes.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How many redirects are followed, all of them within the configured scheme, host and port.
const MAX_REDIRECTS: usize = 3;

/// Something that a key set can be fetched from, again and again.
#[async_trait]
pub trait KeySource: Send + Sync + 'static {
    /// Fetches the text of the key set. Whoever implements this bounds its size and its time.
    async fn fetch(&self) -> Result<Fetched, FetchError>;

    /// Where the key set comes from, for the log; without credentials.
    fn describe(&self) -> String;
}

/// The text of a key set, unread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// What should be a JWK set.
    pub body: Vec<u8>,
    /// How long the provider says it may be kept (`Cache-Control: max-age`).
    pub max_age: Option<Duration>,
}

/// Why a fetch brought no usable key set. None of it repeats the address, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FetchError {
    /// It took longer than allowed.
    #[error("the key set did not arrive in time")]
    Timeout,
    /// The provider could not be reached, or broke off.
    #[error("the key set's provider cannot be reached: {0}")]
    Network(String),
    /// The provider answered with something other than 200.
    #[error("the key set's provider answered with status {0}")]
    Status(u16),
    /// A redirect to another scheme, host or port, or one too many.
    #[error("the key set's provider redirects to where this server does not follow")]
    Redirect,
    /// Larger than 1 MiB.
    #[error("the key set is larger than 1 MiB")]
    TooLarge,
    /// The file could not be read.
    #[error("the key set's file cannot be read: {0}")]
    File(String),
    /// It arrived, and is not a key set with a usable key in it.
    #[error(transparent)]
    KeySet(#[from] KeySetError),
}

impl FetchError {
    /// Every word that [`FetchError::word`] can answer.
    pub(super) const WORDS: [&'static str; 7] = [
        "timeout",
        "network",
        "status",
        "redirect",
        "too_large",
        "file",
        "not_a_key_set",
    ];

    /// The stable word for metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Network(_) => "network",
            Self::Status(_) => "status",
            Self::Redirect => "redirect",
            Self::TooLarge => "too_large",
            Self::File(_) => "file",
            Self::KeySet(_) => "not_a_key_set",
        }
    }
}

/// The source that an address names: `http:`, `https:`, `file:`, or the bare path of a file.
pub(super) fn source(address: &str) -> Result<Box<dyn KeySource>, StartError> {
    let scheme = address
        .split_once(':')
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("http" | "https") => Ok(Box::new(HttpKeys::new(address)?)),
        Some("file") => {
            let url = Url::parse(address).map_err(|_| StartError::BadAddress("it is not a URL"))?;
            let path = url.to_file_path().map_err(|()| {
                StartError::BadAddress("a file URL is written `file:///` with an absolute path behind it")
            })?;
            Ok(Box::new(FileKeys::new(path)))
        }
        _ if address.contains("://") => Err(StartError::BadAddress(
            "the scheme has to be `http`, `https` or `file`",
        )),
        _ if address.trim().is_empty() => Err(StartError::BadAddress("it is empty")),
        _ => Ok(Box::new(FileKeys::new(address))),
    }
}

/// A key set at a provider's address.
pub struct HttpKeys {
    client: Client,
    url: Url,
}

impl HttpKeys {
    /// The key set at an `http:` or `https:` URL. Proxies named in the environment are not used.
    ///
    /// # Errors
    ///
    /// If the address is no such URL, or if the system's certificates cannot be read.
    pub fn new(address: &str) -> Result<Self, StartError> {
        Self::with_timeout(address, FETCH_TIMEOUT)
    }

    fn with_timeout(address: &str, timeout: Duration) -> Result<Self, StartError> {
        let url = Url::parse(address).map_err(|_| StartError::BadAddress("it is not a URL"))?;
        let mut builder = Client::builder()
            .user_agent(concat!("inferadb/", env!("CARGO_PKG_VERSION")))
            .timeout(timeout)
            .redirect(Policy::custom(|attempt| match may_follow(&attempt) {
                true => attempt.follow(),
                false => attempt.error("refused"),
            }))
            .referer(false)
            .no_proxy()
            .pool_max_idle_per_host(0);
        builder = match url.scheme() {
            "https" => builder.https_only(true),
            // Nothing here will speak TLS, so a machine without certificates is no reason to fail.
            "http" => builder.tls_certs_only(std::iter::empty()),
            _ => return Err(StartError::BadAddress("the scheme has to be `http` or `https`")),
        };
        let client = builder
            .build()
            .map_err(|error| StartError::Client(root_cause(&error)))?;
        Ok(Self { client, url })
    }
}

#[async_trait]
impl KeySource for HttpKeys {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "application/jwk-set+json, application/json");
        let mut response = request.send().await.map_err(|error| classify(&error))?;
        if response.status().as_u16() != 200 {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let max_age = max_age(response.headers());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| classify(&error))? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Fetched { body, max_age })
    }

    fn describe(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let port = self.url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}://{host}{port}{}", self.url.scheme(), self.url.path())
    }
}

/// Redirects stay with the provider that the operator chose; anywhere else would be the provider's choice, or that of
/// whoever has got between.
fn may_follow(attempt: &Attempt<'_>) -> bool {
    let origin = |url: &Url| {
        (
            url.scheme().to_owned(),
            url.host_str().map(str::to_owned),
            url.port_or_known_default(),
        )
    };
    attempt.previous().len() <= MAX_REDIRECTS
        && attempt
            .previous()
            .first()
            .is_some_and(|first| origin(first) == origin(attempt.url()))
}

fn classify(error: &reqwest::Error) -> FetchError {
    if error.is_timeout() {
        FetchError::Timeout
    } else if error.is_redirect() {
        FetchError::Redirect
    } else {
        FetchError::Network(root_cause(error))
    }
}

/// The innermost error: the only one of the chain that says what happened, and none of its outer ones' addresses.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause.and_then(std::error::Error::source) {
        cause = Some(inner);
    }
    cause.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

/// `max-age` of a `Cache-Control` field (RFC 9111, 5.2.2.1); the first that is a number counts.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives = headers
        .get_all(CACHE_CONTROL)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    directives
        .flat_map(|value| value.split(','))
        .find_map(|directive| {
            let (name, value) = directive.split_once('=')?;
            let seconds = value.trim().trim_matches('"').parse::<u64>().ok()?;
            name.trim()
                .eq_ignore_ascii_case("max-age")
                .then_some(Duration::from_secs(seconds))
        })
}

/// A key set in a file, read anew at every fetch.
pub struct FileKeys {
    path: PathBuf,
}

impl FileKeys {
    /// The key set in the file at `path`, which does not have to be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl KeySource for FileKeys {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read_file(&path));
        let body = read
            .await
            .map_err(|_| FetchError::File("reading it failed".to_owned()))??;
        Ok(Fetched { body, max_age: None })
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, FetchError> {
    use std::io::Read;

    let failed = |error: std::io::Error| FetchError::File(error.to_string());
    // Looked at before it is opened: opening a pipe would wait for a writer that may never come.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(FetchError::File("it is not a regular file".to_owned()));
    }
    let mut body = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(MAX_BODY_BYTES as u64 + 1)
        .read_to_end(&mut body)
        .map_err(failed)?;
    if body.len() > MAX_BODY_BYTES {
        Err(FetchError::TooLarge)
    } else {
        Ok(body)
    }
}

/// A key set that the program itself holds: the development server's own key.
pub struct FixedKeys(pub String);

#[async_trait]
impl KeySource for FixedKeys {
    async fn fetch(&self) -> Result<Fetched, FetchError> {
        Ok(Fetched {
            body: self.0.clone().into_bytes(),
            max_age: None,
        })
    }

    fn describe(&self) -> String {
        "the server's own key".to_owned()
    }
}

#[cfg(test)]
mod tests;
