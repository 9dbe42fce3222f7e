//! `[[listen]]`: where devices connect.
//!
//! Invariant: a listener that comes out of here has read the certificate it names.

use super::ListenerCertificate;
use super::address::listen_address;
use super::read::At;
use super::secret::{certificates, private_key};
use super::section::{Findings, Section};
use crate::receive::{Auth, Listen, Tls};
use crate::tls::server::{self, CertificateError};
use std::sync::Arc;

/// A listener, and the files of its certificate, if it names some.
pub(super) struct Listener {
    pub(super) listen: At<Listen>,
    pub(super) certificate: Option<ListenerCertificate>,
}

pub(super) fn listener(mut section: Section<'_>) -> Option<Listener> {
    let address = section.field("address");
    let tls = section.field("tls");
    let (certificate, key) = (section.field("certificate"), section.field("key"));
    let auth = section.field("auth");

    let example = "\"0.0.0.0:25\"";
    if !address.is_set() {
        address.error("is missing", format!("for example {example}"));
    }
    let parsed = address.read(example, listen_address);
    let mode = tls.word(&[("off", Tls::Off), ("starttls", Tls::StartTls), ("implicit", Tls::Implicit)]);
    let mode = if tls.is_set() { mode? } else { Tls::default() };
    let files = (certificates(&certificate), private_key(&key));
    for field in [&certificate, &key] {
        if mode == Tls::Off && field.is_set() {
            field.error("is of no use with tls = \"off\"", "set tls = \"starttls\", or remove it");
        }
    }
    // Neither: the relay makes a pair of its own.
    for (field, other) in [(&certificate, &key), (&key, &certificate)] {
        if mode != Tls::Off && !field.is_set() && other.is_set() {
            field.error(
                "is missing",
                "certificate and key go together, both PEM files; without either, the relay makes its own",
            );
        }
    }
    let logins = auth.word(&[("off", Auth::Off), ("any", Auth::Any), ("required", Auth::Required)]);
    let logins = if auth.is_set() { logins? } else { Auth::default() };
    if logins == Auth::Required && mode == Tls::Off {
        auth.warn(
            "passwords cross the network in the clear",
            "set tls = \"starttls\", if the devices can do it",
        );
    }
    if logins == Auth::Any && mode == Tls::StartTls {
        auth.warn(
            "a login is taken inside TLS only, so devices that log in without it are refused",
            "give devices that cannot do TLS a [[listen]] of their own with tls = \"off\"",
        );
    }
    let is_given = mode != Tls::Off && (certificate.is_set() || key.is_set());
    let certificate = match is_given.then_some(files) {
        Some((Some(certificate), Some(key_file))) => match server::load(&certificate, &key_file) {
            Ok(pair) => Some(ListenerCertificate { listener: parsed?, certificate, key: key_file, pair }),
            Err(CertificateError::Useless(_)) => {
                key.error(
                    "is not the key of the certificate",
                    "they must be made together; the chain begins with our own",
                );
                None
            }
            // Both were read a moment ago.
            Err(e) => {
                key.unreadable(true, e.to_string(), "");
                None
            }
        },
        Some(_) => return None,
        None => None,
    };
    let config = certificate.as_ref().map(|c| Arc::clone(&c.pair.config));
    let listen = Listen { address: parsed?, tls: mode, certificate: config, auth: logins };
    Some(Listener { listen: At(listen, address.place()), certificate })
}

pub(super) fn listeners_go_together(findings: &Findings<'_>, listen: &[At<Listen>], has_users: bool) {
    for (i, At(one, place)) in listen.iter().enumerate() {
        let taken = listen[..i].iter().any(|At(other, _)| {
            let (a, b) = (one.address.ip().to_canonical(), other.address.ip().to_canonical());
            let everywhere = a.is_unspecified() || b.is_unspecified();
            one.address.port() != 0
                && one.address.port() == other.address.port()
                && (a == b || (everywhere && a.is_ipv4() == b.is_ipv4()))
        });
        if taken {
            let what = format!("{} is already taken by another listener", one.address);
            findings.error(place.clone(), "listen.address", what, "remove one of them");
        }
        if one.auth == Auth::Required && !has_users {
            let hint = "add [[receive.users]] with name and password, or set auth = \"any\"";
            findings.error(place.clone(), "listen.auth", "a login is required, and there are no users", hint);
        }
    }
}
