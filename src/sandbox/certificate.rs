//! The certificate the sandbox shows.
//!
//! Invariant: made anew at every start, good for loopback names only; its key is on the disk for the moment in which
//! mailin-embedded reads it, in a directory nobody else can enter. Must not know: SMTP.

use super::{Connection, SandboxError};
use crate::files;
use mailin_embedded::{Server, SslConfig};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use std::io::{self, Write};
use std::path::Path;

/// A certificate for loopback with the authority that signed it.
pub(super) struct Certificate {
    /// The authority's certificate.
    pub(super) ca_pem: String,
    chain_pem: String,
    key_pem: String,
}

impl Certificate {
    pub(super) fn make() -> Result<Self, rcgen::Error> {
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.distinguished_name.push(rcgen::DnType::CommonName, "mailferry sandbox authority");
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca_key = KeyPair::generate()?;
        let ca_pem = ca.self_signed(&ca_key)?.pem();

        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "mailferry sandbox");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf_pem = leaf.signed_by(&key, &Issuer::new(ca, ca_key))?.pem();
        Ok(Self { chain_pem: leaf_pem + &ca_pem, ca_pem, key_pem: key.serialize_pem() })
    }

    /// mailin-embedded reads certificates from files only, at once: they exist for that moment, for us alone.
    pub(super) fn load_into(&self, server: &mut Server<Connection>) -> Result<(), SandboxError> {
        let name = format!("mailferry-sandbox-{}-{:016x}", std::process::id(), fastrand::u64(..));
        let directory = std::env::temp_dir().join(name);
        files::create_directory(&directory)?;
        let loaded = self.load_through(&directory, server);
        std::fs::remove_dir_all(&directory)?;
        loaded
    }

    fn load_through(&self, directory: &Path, server: &mut Server<Connection>) -> Result<(), SandboxError> {
        let write = |name: &str, pem: &str| -> io::Result<String> {
            let path = directory.join(name);
            files::create(&path)?.write_all(pem.as_bytes())?;
            Ok(path.to_string_lossy().into_owned())
        };
        let cert_path = write("certificate.pem", &self.chain_pem)?;
        let key_path = write("key.pem", &self.key_pem)?;
        server
            .with_ssl(SslConfig::SelfSigned { cert_path, key_path })
            .map_err(|e| SandboxError::Certificate(e.to_string()))?;
        Ok(())
    }
}
