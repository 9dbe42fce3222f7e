//! The certificate a listener shows.
//!
//! Invariant: a private key on disk is readable by its owner alone; TLS 1.2 and 1.3 only, through one provider.
//! Must not know: listeners, sessions.

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or is no PEM.
    #[error("cannot read {path}: {why}. hint: it must be PEM and readable by the service's user", path = path.display())]
    Read {
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
    #[error("certificate and key are of no use: {0}. hint: check that the key belongs to the certificate")]
    Useless(String),
}

/// Loads a certificate chain and its key from PEM files.
///
/// # Errors
/// They cannot be read, or do not fit.
pub fn load(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, CertificateError> {
    let unreadable = |path: &Path, why: &dyn std::fmt::Display| CertificateError::Read {
        path: path.into(),
        why: why.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(certificate, &e))?;
    if chain.is_empty() {
        return Err(unreadable(certificate, &"no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|e| unreadable(key, &e))?;
    let useless = |e: rustls::Error| CertificateError::Useless(e.to_string());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(useless)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(useless)?;
    Ok(Arc::new(config))
}

/// Loads `certificate.pem` and `key.pem` from a directory; makes a self-signed pair for `hostname` when there is
/// none yet. Devices do not verify, so this protects against listening only.
///
/// # Errors
/// They cannot be written or read, or do not fit.
pub fn load_or_make(directory: &Path, hostname: &str) -> Result<Arc<ServerConfig>, CertificateError> {
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    if !certificate.exists() {
        let cannot = |why| CertificateError::Write { path: directory.into(), why };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(cannot)?;
        let made = rcgen::generate_simple_self_signed(vec![hostname.to_owned()])
            .map_err(|e| CertificateError::Useless(e.to_string()))?;
        // The key first: a certificate on disk means that the pair is complete.
        write(&key, made.signing_key.serialize_pem().as_bytes())?;
        write(&certificate, made.cert.pem().as_bytes())?;
    }
    load(&certificate, &key)
}

fn write(path: &Path, pem: &[u8]) -> Result<(), CertificateError> {
    let try_write = || {
        let partial = path.with_extension("new");
        let _ = std::fs::remove_file(&partial);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(pem)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    try_write().map_err(|why| CertificateError::Write { path: path.into(), why })
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
    fn a_missing_or_foreign_key_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let missing = load(&dir.path().join("c.pem"), &dir.path().join("k.pem")).unwrap_err();
        assert!(missing.to_string().contains("c.pem"), "{missing}");
        let other = tempfile::tempdir().unwrap();
        load_or_make(dir.path(), "a.example").unwrap();
        load_or_make(other.path(), "a.example").unwrap();
        let foreign = load(&dir.path().join("certificate.pem"), &other.path().join("key.pem")).unwrap_err();
        assert!(matches!(foreign, CertificateError::Useless(_)), "{foreign}");
    }
}
