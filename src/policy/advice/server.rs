//! Entries: reaching the smart host and speaking with it.

use super::{Entry, Side};

pub(super) static UNREACHABLE: Entry = Entry {
    slug: "unreachable",
    title: "The smart host cannot be reached",
    blame: Side::Network,
    texts: &[
        "connecting: cannot resolve smtp.office365.com",
        "connecting: Connection refused (os error 111)",
        "connecting: no answer in time",
        "connecting: Network is unreachable (os error 101)",
        "connecting: the server closed the connection",
        "connecting: not an SMTP reply",
    ],
    meaning: "the server cannot be reached, or something else answers in its place",
    waiting: None,
    steps: &[
        "can this host reach {smart_host}? check dns (getent ahosts), route and firewall: port 587 out",
        "some providers block port 25 out: exchange online takes 587 as well",
        "if only its ipv6 addresses fail, mend the host's ipv6 route, or take the address away",
    ],
};

pub(super) static NO_AUTH: Entry = Entry {
    slug: "no-auth-offered",
    title: "504 5.7.4 Unrecognized authentication type; no AUTH offered",
    blame: Side::Network,
    texts: &[
        "504 5.7.4 Unrecognized authentication type",
        "AUTH: the server offers no AUTH mechanism we speak",
    ],
    meaning: "the server offers no login that mailferry can use",
    waiting: None,
    steps: &[
        "is {smart_host} the right server and port (smtp.office365.com:587)? a firewall may be answering in its place",
        "a smart host that wants no login: remove password from the account",
    ],
};

pub(super) static NO_STARTTLS: Entry = Entry {
    slug: "no-starttls",
    title: "The server does not offer STARTTLS",
    blame: Side::Network,
    texts: &[
        "STARTTLS: the server does not offer STARTTLS",
        "451 5.7.3 Must issue a STARTTLS command first",
        "530 5.7.0 Must issue a STARTTLS command first",
    ],
    meaning: "the connection cannot be encrypted, so neither password nor mail was sent",
    waiting: None,
    steps: &[
        "is {smart_host} the right server and port (587)? switch off smtp inspection in the firewall (cisco: no inspect \
         esmtp), it removes STARTTLS",
        "a server that speaks tls from the first byte (port 465): tls = \"implicit\"",
    ],
};

pub(super) static TLS_HANDSHAKE: Entry = Entry {
    slug: "tls-handshake",
    title: "The TLS handshake is broken off",
    blame: Side::Network,
    texts: &[
        "STARTTLS: the server broke the handshake off: InternalError",
        "STARTTLS: the server broke the handshake off: HandshakeFailure",
        "STARTTLS: the server does not speak TLS here",
    ],
    meaning: "the connection could not be encrypted this time, so neither password nor mail was sent",
    waiting: Some(
        "nothing, if it ends within minutes: the server, or what balances its load, was out of order",
    ),
    steps: &[
        "if it stays, is {smart_host} the right server and port? tls = \"starttls\" goes with 587 and 25, tls = \
         \"implicit\" with 465",
        "a firewall that inspects tls must leave {smart_host} alone",
    ],
};

pub(super) static CERTIFICATE_ENDS: Entry = Entry {
    slug: "certificate-ends",
    title: "The server's certificate ends soon",
    blame: Side::Service,
    texts: &["STARTTLS: TLS 1.3; certificate for mail.contoso.com, issued by CN=example, 3 days left"],
    meaning: "the server's certificate is good today; when it has ended, nothing is sent there",
    waiting: None,
    steps: &["whoever runs {smart_host} must renew its certificate"],
};

pub(super) static CERTIFICATE: Entry = Entry {
    slug: "certificate",
    title: "Certificate not accepted",
    blame: Side::Network,
    texts: &[
        "STARTTLS: certificate not accepted: it expired on 2026-11-23T12:00:00Z",
        "STARTTLS: certificate not accepted: it is valid only from 2026-11-23T12:00:00Z, and this machine's clock says",
        "STARTTLS: certificate not accepted: its issuer is not among the authorities this system trusts, nor in ca_file",
        "STARTTLS: certificate not accepted: it is for other.example, not for smtp.office365.com",
    ],
    meaning: "the server's certificate cannot be trusted, so neither password nor mail was sent",
    waiting: None,
    steps: &[
        "a firewall that inspects tls must leave {smart_host} alone",
        "for a smart host with a certificate of your own, name its ca in ca_file",
        "check this host's date and time: timedatectl status",
    ],
};

pub(super) static TLS_VERSION: Entry = Entry {
    slug: "tls-version",
    title: "421 4.7.66 TLS 1.0 and 1.1 are not supported",
    blame: Side::Network,
    texts: &[
        "421 4.7.66 TLS 1.0 and 1.1 are not supported. Please upgrade/update your client to support TLS 1.2.",
        "STARTTLS: the server broke the handshake off: ProtocolVersion",
        "STARTTLS: the server speaks no TLS 1.2 or 1.3 we do",
    ],
    meaning: "the server asks for another tls version",
    waiting: None,
    steps: &["is there a proxy between this host and {smart_host}? mailferry speaks tls 1.2 and 1.3"],
};

pub(super) static BUSY: Entry = Entry {
    slug: "server-busy",
    title: "451 4.7.500 Server busy",
    blame: Side::Service,
    texts: &[
        "451 4.7.500 Server busy. Please try again later",
        "451 4.7.651 The mail server has been temporarily rate limited",
        "450 4.7.851 Server busy",
        "454 4.7.0 Temporary authentication failure",
        "451 4.7.3 Temporary server error",
        "452 4.3.1 Insufficient system resources",
        "421 4.3.2 Service not available",
        "432 4.3.2 STOREDRV.Deliver; recipient thread limit exceeded",
    ],
    meaning: "the server is busy or throttles this address",
    waiting: Some("nothing: mailferry waits and tries again"),
    steps: &[],
};

pub(super) static TOO_MANY_ERRORS: Entry = Entry {
    slug: "too-many-errors",
    title: "421 4.7.0 Too many errors on this connection",
    blame: Side::Host,
    texts: &["421 4.7.0 Too many errors on this connection, closing transmission channel"],
    meaning: "the server has seen too many errors from this address",
    waiting: None,
    steps: &["look at the replies before this one: mailferry queue show ID"],
};

pub(super) static NOT_SMTP: Entry = Entry {
    slug: "not-smtp",
    title: "What answers is no SMTP server, or a firewall masks it (XXXX, 220 ****)",
    blame: Side::Network,
    texts: &[
        "500 5.5.1 Command unrecognized: \"XXXXXXXX\"",
        "connecting: not an SMTP reply: 220*************",
        "connecting: not an SMTP reply: * OK IMAP4 ready",
        "connecting: not an SMTP reply: +OK POP3 server ready",
    ],
    meaning: "what answers does not speak smtp as it should: another service on this port, or a firewall that rewrites it",
    waiting: None,
    steps: &[
        "is {smart_host} the right server and port? * OK is imap and +OK is pop3: the wrong port; smtp is 587, or 465 with \
         tls = \"implicit\"",
        "asterisks or X in place of words: a firewall masks smtp; switch its inspection off (cisco: no inspect esmtp, no \
         fixup protocol smtp)",
    ],
};

pub(super) static OUT_OF_STEP: Entry = Entry {
    slug: "out-of-step",
    title: "503 5.5.1 Bad sequence of commands",
    blame: Side::Service,
    texts: &["503 5.5.1 EHLO/HELO first.", "500 5.5.1 Command unrecognized"],
    meaning: "server and relay are out of step on this connection, so mailferry reconnects",
    waiting: Some("nothing, if it ends by itself: the message is sent on a new connection"),
    steps: &[
        "if it stays: does a firewall or a virus scanner stand between this host and {smart_host}? it must leave smtp alone",
    ],
};
