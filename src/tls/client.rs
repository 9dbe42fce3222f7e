//! Whose certificates are believed, and how a handshake that failed is told.
//!
//! Invariant: there is no way to connect without verification. The system's roots are read once, and shared with the
//! session tickets by all connections. Must not know: what is spoken inside.

use super::pem::{self, PemError};
use super::{VERSIONS, provider};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use rustls_platform_verifier::Verifier;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use x509_cert::der::Decode;

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file is not there, or not readable by the relay.
    #[error("cannot read {}: {why}", path.display())]
    Unreadable {
        /// As configured.
        path: PathBuf,
        /// The system's words.
        why: std::io::Error,
    },
    /// No certificate in PEM form in it, or one that is none.
    #[error("{} holds no usable certificate: {why}", path.display())]
    NotCertificates {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The system's own authorities cannot be read.
    #[error("no certificate authorities to trust: {0}")]
    System(rustls::Error),
}

/// The roots and the TLS settings made of them. Clones share both.
#[derive(Clone)]
pub struct Trust(Arc<Shared>);

struct Shared {
    roots: Roots,
    connector: OnceCell<TlsConnector>,
}

#[derive(Clone, PartialEq, Eq)]
enum Roots {
    System,
    /// In place of the system's.
    Only(Vec<CertificateDer<'static>>),
    /// The system's, and these.
    Besides(Vec<CertificateDer<'static>>),
}

impl Trust {
    /// The system's roots, or in their place those in `ca_file` (PEM).
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let own = ca_file.map(read_certificates).transpose()?;
        Ok(Self::of(own.map_or(Roots::System, Roots::Only)))
    }

    /// The system's roots, and those in `ca_file` (PEM) besides.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub fn besides_the_system(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let more = ca_file.map(read_certificates).transpose()?;
        Ok(Self::of(more.map_or(Roots::System, Roots::Besides)))
    }

    fn of(roots: Roots) -> Self {
        Self(Arc::new(Shared { roots, connector: OnceCell::new() }))
    }

    /// Whether it believes the same authorities as the other, as far as settings say whom.
    pub fn is_same(&self, other: &Self) -> bool {
        self.0.roots == other.0.roots
    }

    /// The connector, made at the first call: a hundred and fifty roots are read from disk then, so off the
    /// runtime's threads.
    ///
    /// # Errors
    /// `System`.
    pub async fn connector(&self) -> Result<&TlsConnector, TrustError> {
        self.0
            .connector
            .get_or_try_init(|| async {
                let roots = self.0.roots.clone();
                tokio::task::spawn_blocking(move || connector(roots))
                    .await
                    .map_err(|e| rustls::Error::General(e.to_string()))
                    .and_then(|made| made)
                    .map_err(TrustError::System)
            })
            .await
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let own_roots = match &self.0.roots {
            Roots::System => 0,
            Roots::Only(own) | Roots::Besides(own) => own.len(),
        };
        f.debug_struct("Trust").field("own_roots", &own_roots).finish_non_exhaustive()
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let bad = |why: String| TrustError::NotCertificates { path: path.to_owned(), why };
    let certificates = pem::certificates(path).map_err(|e| match e {
        PemError::Unreadable(why) => TrustError::Unreadable { path: path.to_owned(), why },
        PemError::NotPem(why) => bad(why),
    })?;
    store(&certificates).map_err(|e| bad(e.to_string()))?;
    Ok(certificates)
}

fn store(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore, rustls::Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates {
        store.add(certificate.clone())?;
    }
    Ok(store)
}

fn connector(roots: Roots) -> Result<TlsConnector, rustls::Error> {
    let provider = provider();
    let verifier: Arc<dyn ServerCertVerifier> = match roots {
        Roots::System => Arc::new(Verifier::new(Arc::clone(&provider))?),
        Roots::Besides(more) => Arc::new(Verifier::new_with_extra_roots(more, Arc::clone(&provider))?),
        Roots::Only(own) => {
            WebPkiServerVerifier::builder_with_provider(Arc::new(store(&own)?), Arc::clone(&provider))
                .build()
                .map_err(|e| rustls::Error::General(e.to_string()))?
        }
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&VERSIONS)?
        // The only way to hand rustls a verifier of one's own; this one verifies everything.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Naming(verifier)))
        .with_no_client_auth();
    // A relay talks to one or two hosts; the default keeps room for 256.
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    Ok(TlsConnector::from(Arc::new(config)))
}

/// A verifier that, where the one inside does not know the issuer, says whom it does not know: a firewall that reads
/// TLS signs with a name of its own. What is believed is the decision of the one inside alone.
#[derive(Debug)]
struct Naming(Arc<dyn ServerCertVerifier>);

/// The issuer of a certificate that is not believed. Peer text.
#[derive(Debug, thiserror::Error)]
#[error("{UNKNOWN_ISSUER}: {0}")]
struct UnknownIssuer(String);

const UNKNOWN_ISSUER: &str = "its issuer is not among the authorities this system trusts, nor in ca_file";

impl ServerCertVerifier for Naming {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.verify_server_cert(certificate, intermediates, name, ocsp, now).map_err(|e| {
            let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
            match x509_cert::Certificate::from_der(certificate) {
                Ok(read) if e == unknown => {
                    let issuer = UnknownIssuer(read.tbs_certificate().issuer().to_string());
                    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(issuer))))
                }
                _ => e,
            }
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Why a handshake failed. Only what verification says is about the certificate; a server or a load balancer that is
/// out of order breaks handshakes off with an alert, and is well again a minute later.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The certificate is not believed.
    #[error("{0}")]
    Certificate(String),
    /// Anything else.
    #[error("{said}")]
    Broken {
        /// In words. Peer text.
        said: String,
        /// Both sides speak, and will not agree tomorrow either.
        lasts: bool,
    },
}

impl From<&rustls::Error> for HandshakeError {
    fn from(error: &rustls::Error) -> Self {
        use rustls::AlertDescription::{InsufficientSecurity, ProtocolVersion};
        use rustls::Error as E;
        let (said, lasts) = match error {
            E::InvalidCertificate(why) => return Self::Certificate(explain_certificate(why)),
            E::NoCertificatesPresented => return Self::Certificate("the server shows none".to_owned()),
            E::InvalidMessage(_) => ("the server does not speak TLS here".to_owned(), false),
            E::AlertReceived(alert) => {
                let lasts = matches!(alert, ProtocolVersion | InsufficientSecurity);
                (format!("the server broke the handshake off: {alert:?}"), lasts)
            }
            E::PeerIncompatible(why) => (format!("the server speaks no TLS 1.2 or 1.3 we do: {why:?}"), true),
            other => (other.to_string(), false),
        };
        Self::Broken { said, lasts }
    }
}

fn explain_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::ExpiredContext { not_after, .. } => format!("it expired on {}", date(*not_after)),
        CertificateError::Expired => "it has expired".to_owned(),
        CertificateError::NotValidYetContext { not_before, time } => {
            format!(
                "it is valid only from {}, and this machine's clock says {}",
                date(*not_before),
                date(*time)
            )
        }
        CertificateError::UnknownIssuer => UNKNOWN_ISSUER.to_owned(),
        CertificateError::Other(why) => why.to_string(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|n| bare_name(n)).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            format!("it is for {names}, not for {}", expected.to_str())
        }
        other => rustls::Error::InvalidCertificate(other.clone()).to_string(),
    }
}

/// webpki prints `DnsName("mail.example")` and `IpAddress(192.0.2.1)`.
fn bare_name(presented: &str) -> &str {
    presented
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .map_or(presented, |inner| inner.trim_matches('"'))
}

/// RFC 3339 in UTC, to the second.
fn date(at: UnixTime) -> jiff::Timestamp {
    let seconds = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_cannot_serve_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        assert!(matches!(Trust::new(Some(&path)), Err(TrustError::Unreadable { .. })));
        for (content, why) in [
            ("", "expected a line"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no usable certificate"),
            ("-----BEGIN CERTIFICATE-----\n", "holds no usable certificate"),
        ] {
            std::fs::write(&path, content).unwrap();
            let said = Trust::new(Some(&path)).unwrap_err().to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
