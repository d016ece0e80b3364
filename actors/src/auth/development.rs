//! The signing key of the development server and of tests. Production tokens are signed by the provider, never here.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};
use thiserror::Error;

/// A PKCS#8 Ed25519 key has fewer than 100 bytes; a file larger than this is something else.
const MAX_KEY_FILE_BYTES: u64 = 1024;

/// An Ed25519 key that signs tokens by `EdDSA`.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    id: String,
}

/// Why there is no signing key.
#[derive(Debug, Error)]
pub enum SigningKeyError {
    /// The key's file could not be read or written.
    #[error("the signing key's file `{path}` cannot be used: {error}")]
    File {
        /// Which file.
        path: String,
        /// What went wrong.
        error: io::Error,
    },
    /// Others may read the key's file.
    #[error(
        "the signing key's file `{0}` can be read by others: `chmod 600` it, or delete it to have a new key made"
    )]
    Exposed(String),
    /// The file holds no Ed25519 key in PKCS#8.
    #[error("the signing key's file `{0}` holds no Ed25519 key in PKCS#8: delete it to have a new one made")]
    NotAKey(String),
    /// The system's source of random numbers failed.
    #[error("no signing key could be made: the system has no random numbers")]
    NoRandomness,
}

impl SigningKey {
    /// A new key that is kept nowhere.
    ///
    /// # Errors
    ///
    /// If the system has no random numbers.
    pub fn generate() -> Result<Self, SigningKeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| SigningKeyError::NoRandomness)?;
        Ok(Self::of(pair))
    }

    /// The key in the file at `path`, or a new one that is written there, readable by its owner alone.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written, can be read by others, or holds something else.
    pub fn load_or_create(path: &Path) -> Result<Self, SigningKeyError> {
        match fs::File::open(path) {
            Ok(file) => Self::load(file, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(file_error(path, error)),
        }
    }

    /// The key's name: its thumbprint (RFC 7638).
    pub fn key_id(&self) -> &str {
        &self.id
    }

    /// The public half as JWK set, in JSON.
    pub fn key_set(&self) -> String {
        let x = BASE64URL_NOPAD.encode(self.pair.public_key().as_ref());
        let key =
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.id, "x": x});
        json!({ "keys": [key] }).to_string()
    }

    /// A signed token with these claims. Nothing is added to them.
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": self.id});
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// A signed token with exactly this header and this payload, which may break every rule.
    pub fn sign_text(&self, header: &str, payload: &str) -> String {
        let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }

    fn of(pair: Ed25519KeyPair) -> Self {
        let x = BASE64URL_NOPAD.encode(pair.public_key().as_ref());
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
        let id = BASE64URL_NOPAD.encode(digest(&SHA256, canonical.as_bytes()).as_ref());
        Self { pair, id }
    }

    fn load(file: fs::File, path: &Path) -> Result<Self, SigningKeyError> {
        verify_private(&file, path)?;
        let mut bytes = Vec::new();
        file.take(MAX_KEY_FILE_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| file_error(path, error))?;
        let pair = Ed25519KeyPair::from_pkcs8(&bytes)
            .map_err(|_| SigningKeyError::NotAKey(path.display().to_string()))?;
        Ok(Self::of(pair))
    }

    fn create(path: &Path) -> Result<Self, SigningKeyError> {
        let bytes = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| SigningKeyError::NoRandomness)?;
        let pair = Ed25519KeyPair::from_pkcs8(bytes.as_ref())
            .map_err(|_| SigningKeyError::NotAKey(path.display().to_string()))?;
        write_private(path, bytes.as_ref()).map_err(|error| file_error(path, error))?;
        Ok(Self::of(pair))
    }
}

fn file_error(path: &Path, error: io::Error) -> SigningKeyError {
    SigningKeyError::File {
        path: path.display().to_string(),
        error,
    }
}

#[cfg(unix)]
fn verify_private(file: &fs::File, path: &Path) -> Result<(), SigningKeyError> {
    use std::os::unix::fs::PermissionsExt;

    let mode = file
        .metadata()
        .map_err(|error| file_error(path, error))?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(SigningKeyError::Exposed(path.display().to_string()))
    }
}

#[cfg(not(unix))]
fn verify_private(_: &fs::File, _: &Path) -> Result<(), SigningKeyError> {
    Ok(())
}

/// Writes a file that nobody else may read, never over one that is there, and whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}.tmp", std::process::id()));
    let mut file = options.open(&unfinished)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    // A hard link, unlike a rename, fails where a file has appeared meanwhile.
    let linked = written.and_then(|()| fs::hard_link(&unfinished, path));
    fs::remove_file(&unfinished)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing-key.p8");
        let made = SigningKey::load_or_create(&path).unwrap();
        let kept = SigningKey::load_or_create(&path).unwrap();
        assert_eq!(made.key_set(), kept.key_set());
        assert_ne!(made.key_set(), SigningKey::generate().unwrap().key_set());
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            1,
            "nothing unfinished is left behind"
        );
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing-key.p8");
        SigningKey::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            SigningKey::load_or_create(&path),
            Err(SigningKeyError::Exposed(_))
        ));
    }

    #[test]
    fn a_file_with_something_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing-key.p8");
        write_private(&path, b"a diary").unwrap();
        assert!(matches!(
            SigningKey::load_or_create(&path),
            Err(SigningKeyError::NotAKey(_))
        ));
        assert_eq!(fs::read(&path).unwrap(), b"a diary");
    }
}
