//! Which certificates are believed, and how a refusal is told.
//!
//! Invariant: there is no way to connect without verification; TLS 1.2 and 1.3 only; one provider (aws-lc-rs).
//! The system's roots are read at the first connection, once, and shared with the session tickets by all later
//! ones. Must not know: SMTP.

use crate::mail::{Cause, Failure, Stage, WallTime};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
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

/// Why a `ca_file` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not there, or not readable by the relay.
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
}

/// The roots and the TLS settings made of them. Clones share both.
#[derive(Clone)]
pub struct Trust(Arc<Shared>);

struct Shared {
    /// In place of the system's; empty: those.
    own: Vec<CertificateDer<'static>>,
    connector: OnceCell<TlsConnector>,
}

impl Trust {
    /// The system's roots, or in their place those in `ca_file` (PEM).
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, TrustError> {
        let own = ca_file.map(read_certificates).transpose()?.unwrap_or_default();
        Ok(Self(Arc::new(Shared { own, connector: OnceCell::new() })))
    }

    /// The connector, made at the first call: a hundred and fifty roots are read from disk then, so off the
    /// runtime's threads.
    pub(super) async fn connector(&self) -> Result<&TlsConnector, Failure> {
        self.0
            .connector
            .get_or_try_init(|| async {
                let own = self.0.own.clone();
                tokio::task::spawn_blocking(move || connector(own))
                    .await
                    .map_err(|e| e.to_string())
                    .and_then(|made| made.map_err(|e| e.to_string()))
            })
            .await
            .map_err(|why| Failure::new(Stage::Tls, Cause::Certificate(why)))
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust").field("own_roots", &self.0.own.len()).finish_non_exhaustive()
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let pem = std::fs::read(path).map_err(|e| TrustError::Unreadable { path: path.to_owned(), why: e })?;
    let bad = |why: String| TrustError::NotCertificates { path: path.to_owned(), why };
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|e| bad(e.to_string()))?;
    if certificates.is_empty() {
        return Err(bad("expected a line -----BEGIN CERTIFICATE-----".to_owned()));
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store.add(certificate.clone()).map_err(|e| bad(e.to_string()))?;
    }
    Ok(certificates)
}

fn connector(own: Vec<CertificateDer<'static>>) -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if own.is_empty() {
        Arc::new(Verifier::new(Arc::clone(&provider))?)
    } else {
        let mut store = RootCertStore::empty();
        for certificate in own {
            store.add(certificate)?;
        }
        WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider))
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
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

/// Why the handshake failed. Only what verification says is about the certificate; a server or a load balancer that
/// is out of order breaks handshakes off with an alert, and is well again a minute later.
pub(super) fn cause(error: &rustls::Error) -> Cause {
    use rustls::AlertDescription::{InsufficientSecurity, ProtocolVersion};
    use rustls::Error as E;
    let (said, lasts) = match error {
        E::InvalidCertificate(why) => return Cause::Certificate(explain_certificate(why)),
        E::NoCertificatesPresented => return Cause::Certificate("the server shows none".to_owned()),
        E::InvalidMessage(_) => ("the server does not speak TLS here".to_owned(), false),
        E::AlertReceived(alert) => {
            let lasts = matches!(alert, ProtocolVersion | InsufficientSecurity);
            (format!("the server broke the handshake off: {alert:?}"), lasts)
        }
        E::PeerIncompatible(why) => (format!("the server speaks no TLS 1.2 or 1.3 we do: {why:?}"), true),
        other => (other.to_string(), false),
    };
    Cause::Handshake { said, lasts }
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

fn date(at: UnixTime) -> WallTime {
    WallTime::from_ms(i64::try_from(at.as_secs()).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
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
