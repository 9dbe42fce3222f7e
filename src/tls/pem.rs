//! Certificates and keys as files in PEM form.
//!
//! Invariant: what is returned was read whole and is of the kind that was asked for. Must not know: what it is for.

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;

/// Why a file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(std::io::Error),
    /// It is not PEM, or holds nothing of the kind.
    #[error("{0}")]
    NotPem(String),
}

impl From<Error> for PemError {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(why) => Self::Unreadable(why),
            Error::NoItemsFound => Self::NotPem("nothing of that kind is in it".to_owned()),
            other => Self::NotPem(other.to_string().to_lowercase()),
        }
    }
}

/// All certificates in a file; at least one.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)?.collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(PemError::NotPem("expected a line -----BEGIN CERTIFICATE-----".to_owned()));
    }
    Ok(found)
}

/// The first private key in a file.
///
/// # Errors
/// It cannot be read, or holds none.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    Ok(PrivateKeyDer::from_pem_file(path)?)
}

/// All certificates in the text of a file; at least one.
///
/// # Errors
/// It holds none.
pub fn certificates_in(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Err(PemError::NotPem("expected a line -----BEGIN CERTIFICATE-----".to_owned()));
    }
    Ok(found)
}

/// The first private key in the text of a file.
///
/// # Errors
/// It holds none.
pub fn private_key_in(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    Ok(PrivateKeyDer::from_pem_slice(text)?)
}

/// Whether the key is the first certificate's.
pub fn key_fits(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> bool {
    CertifiedKey::from_der(chain, key, &super::provider()).is_ok()
}
