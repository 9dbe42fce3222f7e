//! The certificate a listener shows.
//!
//! Invariant: a private key made here is readable by its owner alone. Must not know: listeners, sessions.

use super::pem::{self, PemError};
use super::{VERSIONS, provider};
use crate::files;
use aws_lc_rs::digest::{Context, SHA256};
use rustls::ServerConfig;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_cert::der::Decode;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {why}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("cannot use {path}: {why}", path = path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// A file cannot be written.
    #[error("cannot write {path}: {why}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: std::io::Error,
    },
    /// Certificate and key do not fit, or are of a kind nobody takes.
    #[error("certificate and key are of no use: {0}")]
    Useless(String),
}

impl CertificateError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "it must be there and readable by the service's user",
            Self::NotPem { .. } => "it must be PEM",
            Self::Write { .. } => "see whether the disk is full, or the directory another user's",
            Self::Useless(_) => "check that the key belongs to the certificate",
        }
    }
}

/// A certificate that can be shown.
#[derive(Debug, Clone)]
pub struct Pair {
    /// Shows it.
    pub config: Arc<ServerConfig>,
    /// What was in the two files.
    pub content: Content,
    /// When it ends, in milliseconds of the Unix epoch; `None` where it does not say so in a way that can be read.
    pub ends_at_ms: Option<i64>,
}

/// What was in a certificate's file and its key's, without telling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content([u8; 32]);

/// The files of a certificate and its key, as they are at one moment.
pub struct Files {
    certificate: (PathBuf, Vec<u8>),
    key: (PathBuf, Vec<u8>),
}

impl Files {
    /// Reads them.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let read = |path: &Path| match std::fs::read(path) {
            Ok(text) => Ok((path.to_owned(), text)),
            Err(why) => Err(CertificateError::Unreadable { path: path.into(), why }),
        };
        Ok(Self { certificate: read(certificate)?, key: read(key)? })
    }

    /// What is in them.
    pub fn content(&self) -> Content {
        let mut digest = Context::new(&SHA256);
        for part in [&self.certificate.1, &self.key.1] {
            // The length stands before each, so that nothing passes from one into the other unseen.
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let mut content = [0; 32];
        content.copy_from_slice(digest.finish().as_ref());
        Content(content)
    }

    /// Makes them into something that can be shown.
    ///
    /// # Errors
    /// They are not PEM, or do not fit.
    pub fn pair(&self) -> Result<Pair, CertificateError> {
        let failed = |path: &Path, e| match e {
            PemError::Unreadable(why) => CertificateError::Unreadable { path: path.into(), why },
            PemError::NotPem(why) => CertificateError::NotPem { path: path.into(), why },
        };
        let (certificate, key) = (&self.certificate, &self.key);
        let chain = pem::certificates_in(&certificate.1).map_err(|e| failed(&certificate.0, e))?;
        let key = pem::private_key_in(&key.1).map_err(|e| failed(&key.0, e))?;
        let ends_at_ms = chain.first().and_then(|own| ends_at_ms(own));
        let useless = |e: rustls::Error| CertificateError::Useless(e.to_string());
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&VERSIONS)
            .map_err(useless)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(useless)?;
        Ok(Pair { config: Arc::new(config), content: self.content(), ends_at_ms })
    }
}

fn ends_at_ms(der: &[u8]) -> Option<i64> {
    let certificate = x509_cert::Certificate::from_der(der).ok()?;
    let not_after = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    i64::try_from(not_after.as_millis()).ok()
}

/// Loads a certificate chain and its key from PEM files.
///
/// # Errors
/// They cannot be read, or do not fit.
pub fn load(certificate: &Path, key: &Path) -> Result<Pair, CertificateError> {
    Files::read(certificate, key)?.pair()
}

/// Loads `certificate.pem` and `key.pem` from a directory; makes a self-signed pair for `hostname` when there is
/// none yet, or none that can be used. Devices do not verify, so this protects against listening only, and another
/// pair is as good.
///
/// # Errors
/// They cannot be written or read, or do not fit.
pub fn load_or_make(directory: &Path, hostname: &str) -> Result<Pair, CertificateError> {
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    let cannot = |path: &Path, why| CertificateError::Write { path: path.into(), why };
    files::open_or_make_directory(directory).map_err(|why| cannot(directory, why))?;
    match load(&certificate, &key) {
        Err(CertificateError::Unreadable { why, .. }) if why.kind() == ErrorKind::NotFound => {}
        Err(CertificateError::NotPem { .. } | CertificateError::Useless(_)) => {}
        loaded => return loaded,
    }
    let made = rcgen::generate_simple_self_signed(vec![hostname.to_owned()])
        .map_err(|e| CertificateError::Useless(e.to_string()))?;
    for (path, pem) in [(&key, made.signing_key.serialize_pem()), (&certificate, made.cert.pem())] {
        files::replace(path, pem.as_bytes()).map_err(|why| cannot(path, why))?;
    }
    load(&certificate, &key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_pair_is_made_once_and_its_key_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("tls");
        load_or_make(&dir, "relay.contoso.local").unwrap();
        let key = std::fs::read(dir.join("key.pem")).unwrap();
        load_or_make(&dir, "relay.contoso.local").unwrap();
        assert_eq!(std::fs::read(dir.join("key.pem")).unwrap(), key);
        for file in ["key.pem", "certificate.pem"] {
            let mode = std::fs::metadata(dir.join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn a_pair_of_our_own_that_cannot_be_used_is_made_anew() {
        for (file, content) in [
            ("key.pem", Some("")),
            ("certificate.pem", Some("")),
            ("certificate.pem", Some("-----BEGIN CERTIFICATE-----\nAA")),
            ("key.pem", None),
            ("certificate.pem", None),
        ] {
            let directory = tempfile::tempdir().unwrap();
            load_or_make(directory.path(), "relay.contoso.local").unwrap();
            let path = directory.path().join(file);
            match content {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            load_or_make(directory.path(), "relay.contoso.local").unwrap();
        }
    }

    #[test]
    fn a_missing_or_foreign_key_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let missing = load(&dir.path().join("c.pem"), &dir.path().join("k.pem")).unwrap_err();
        assert!(matches!(missing, CertificateError::Unreadable { .. }), "{missing}");
        assert!(missing.to_string().contains("c.pem"), "{missing}");
        let other = tempfile::tempdir().unwrap();
        load_or_make(dir.path(), "a.example").unwrap();
        load_or_make(other.path(), "a.example").unwrap();
        let foreign = load(&dir.path().join("certificate.pem"), &other.path().join("key.pem")).unwrap_err();
        assert!(matches!(foreign, CertificateError::Useless(_)), "{foreign}");
    }
}
