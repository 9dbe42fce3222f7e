//! Facts of `receive`.

use super::count::{Add, Family, Kind, Value};
use crate::mail::{ClientName, Escaped, Mailbox, QueueId, ReversePath};
use crate::policy::admission::Standing;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use tracing::{debug, error, info, warn};

/// Why the queue could not take a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unable {
    /// There is too little room.
    NoSpace,
    /// The disk fails, or what is on it is damaged.
    Failed,
    /// The relay stops.
    Stopping,
}

/// One of them. A `client` is the one whose network the peer is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A listener is open.
    Listening {
        /// Where.
        address: SocketAddr,
    },
    /// The system gives no more connections; the listener waits and tries again.
    AcceptFailed {
        /// Which listener.
        address: SocketAddr,
        /// The system's words.
        why: String,
    },
    /// Connections are taken again.
    AcceptRecovered {
        /// Which listener.
        address: SocketAddr,
    },
    /// A connection was taken.
    Connected {
        /// Whose.
        peer: IpAddr,
        /// None: it may not relay.
        client: Option<ClientName>,
    },
    /// A connection was turned away for the number of those there are.
    TurnedAway {
        /// Whose.
        peer: IpAddr,
        /// None: it may not relay.
        client: Option<ClientName>,
        /// What it was told.
        reply: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A peer outside every client network wanted to send.
    RelayRefused {
        /// Which.
        peer: IpAddr,
        /// What it called itself: peer text.
        helo: Vec<u8>,
    },
    /// A recipient was refused.
    RecipientRefused {
        /// Who named it.
        peer: IpAddr,
        /// Of which client.
        client: ClientName,
        /// What is wrong with it.
        why: String,
    },
    /// A client sends more messages a minute than it may.
    RateLimited {
        /// Who was put off.
        peer: IpAddr,
        /// Of which client.
        client: ClientName,
        /// So many it may.
        per_minute: u32,
    },
    /// MAIL or RCPT had parameters nobody here knows.
    UnknownParameters {
        /// Who said them.
        peer: IpAddr,
        /// They.
        parameters: Vec<String>,
    },
    /// A message is durable in the queue.
    Queued {
        /// Its id.
        id: QueueId,
        /// Who sent it.
        peer: IpAddr,
        /// Of which client.
        client: ClientName,
        /// MAIL FROM.
        from: ReversePath,
        /// RCPT TO.
        to: Vec<Mailbox>,
        /// As the device sent it.
        size_bytes: u64,
        /// What it called itself: peer text.
        helo: Vec<u8>,
    },
    /// A message was refused for what it is: its size, its head, a loop.
    MessageRefused {
        /// Who sent it.
        peer: IpAddr,
        /// Of which client.
        client: ClientName,
        /// What it was told.
        reply: String,
    },
    /// The queue could not take a message.
    QueueRefused {
        /// Who sent it.
        peer: IpAddr,
        /// Of which client.
        client: ClientName,
        /// Why, in words.
        why: String,
        /// Why.
        unable: Unable,
    },
    /// DATA went silent without its end.
    EndOfDataMissing {
        /// Who sent it.
        peer: IpAddr,
        /// Of which client.
        client: ClientName,
        /// So far it came.
        raw_bytes: u64,
        /// It ends lines in LF alone, and one of them was the end it meant.
        lf_dot_lf: bool,
    },
    /// The peer closed inside DATA.
    ClosedInData {
        /// Which.
        peer: IpAddr,
        /// Of which client.
        client: ClientName,
        /// So far it came.
        raw_bytes: u64,
    },
    /// A device speaks TLS on a plain port.
    TlsOnPlainPort {
        /// Which.
        peer: IpAddr,
        /// Whether it may relay.
        standing: Standing,
    },
    /// A peer speaks another protocol than SMTP, and was closed.
    OtherProtocol {
        /// Which.
        peer: IpAddr,
        /// Whether it may relay.
        standing: Standing,
        /// What it speaks.
        protocol: &'static str,
    },
    /// A device wants to log in where no login is offered.
    AuthNotOffered {
        /// Which.
        peer: IpAddr,
        /// Whether it may relay.
        standing: Standing,
    },
    /// A device wants to log in before TLS, where TLS is offered.
    AuthInTheClear {
        /// Which.
        peer: IpAddr,
        /// Whether it may relay.
        standing: Standing,
    },
    /// A login was accepted.
    LoggedIn {
        /// Whose.
        peer: IpAddr,
        /// As whom, of those that are configured.
        user: String,
    },
    /// A login failed.
    LoginFailed {
        /// Whose.
        peer: IpAddr,
        /// Whether it may relay.
        standing: Standing,
        /// As whom: peer text.
        user: Vec<u8>,
    },
    /// A TLS handshake failed.
    HandshakeFailed {
        /// With whom.
        peer: IpAddr,
        /// Whether it may relay.
        standing: Standing,
        /// Why.
        why: String,
    },
    /// What is remembered of devices could not be written; it is tried again.
    DevicesNotKept {
        /// Why.
        why: String,
    },
    /// A peer made too many errors and was closed.
    TooManyErrors {
        /// Which.
        peer: IpAddr,
        /// Whether it may relay.
        standing: Standing,
    },
}

macro_rules! families {
    ($($family:ident = $name:literal $labels:expr, $help:literal;)*) => {
        $(static $family: Family =
            Family { name: $name, help: $help, labels: &$labels, kind: Kind::Counter };)*
        /// Everything that is counted here.
        pub(super) static FAMILIES: &[&Family] = &[$(&$family),*];
    };
}

families! {
    CONNECTIONS = "connections_total" [], "Connections taken.";
    RECEIVED = "messages_received_total" ["client"], "Messages that got a 250.";
    RECEIVED_BYTES = "received_bytes_total" ["client"], "Bytes of these messages, as the devices sent them.";
    REJECTED = "rejected_total" ["reason"],
        "Connections, recipients and messages that were refused or put off, by the event of the journal.";
    UNFINISHED = "data_unfinished_total" [], "DATA that never came to its end.";
    LOGINS_FAILED = "logins_failed_total" [], "Logins of devices that failed.";
    HANDSHAKES_FAILED = "handshakes_failed_total" [], "TLS handshakes of devices that failed.";
    OTHER_PROTOCOL = "other_protocol_total" [], "Connections that spoke another protocol than SMTP.";
}

impl Fact {
    /// See `super::Fact::event`.
    pub fn event(&self) -> &'static str {
        match self {
            Self::Listening { .. } => "listening",
            Self::AcceptFailed { .. } => "accept_failed",
            Self::AcceptRecovered { .. } => "accept_recovered",
            Self::Connected { .. } => "connected",
            Self::TurnedAway { .. } => "too_many_connections",
            Self::RelayRefused { .. } => "relay_refused",
            Self::RecipientRefused { .. } => "recipient_refused",
            Self::RateLimited { .. } => "rate_limited",
            Self::UnknownParameters { .. } => "unknown_parameters",
            Self::Queued { .. } => "queued",
            Self::MessageRefused { .. } => "message_refused",
            Self::QueueRefused { .. } => "queue_refused",
            Self::EndOfDataMissing { .. } => "end_of_data_missing",
            Self::ClosedInData { .. } => "closed_in_data",
            Self::TlsOnPlainPort { .. } => "tls_on_plain_port",
            Self::OtherProtocol { .. } => "other_protocol",
            Self::AuthNotOffered { .. } => "auth_not_offered",
            Self::AuthInTheClear { .. } => "auth_in_the_clear",
            Self::LoggedIn { .. } => "logged_in",
            Self::LoginFailed { .. } => "login_failed",
            Self::HandshakeFailed { .. } => "handshake_failed",
            Self::DevicesNotKept { .. } => "devices_not_kept",
            Self::TooManyErrors { .. } => "too_many_errors",
        }
    }

    pub(super) fn is_detail(&self) -> bool {
        matches!(self, Self::Connected { .. } | Self::LoggedIn { .. })
    }

    /// Of what a peer can repeat at will: whose it is, so that no peer writes the log full.
    pub(super) fn repeated_by(&self) -> Option<(IpAddr, Standing)> {
        match self {
            Self::TurnedAway { peer, client: Some(_), .. }
            | Self::RateLimited { peer, .. }
            | Self::UnknownParameters { peer, .. } => Some((*peer, Standing::Device)),
            Self::TurnedAway { peer, client: None, .. } | Self::RelayRefused { peer, .. } => {
                Some((*peer, Standing::Stranger))
            }
            Self::TlsOnPlainPort { peer, standing }
            | Self::OtherProtocol { peer, standing, .. }
            | Self::AuthNotOffered { peer, standing }
            | Self::AuthInTheClear { peer, standing }
            | Self::LoginFailed { peer, standing, .. }
            | Self::HandshakeFailed { peer, standing, .. }
            | Self::TooManyErrors { peer, standing } => Some((*peer, *standing)),
            Self::Listening { .. }
            | Self::AcceptFailed { .. }
            | Self::AcceptRecovered { .. }
            | Self::Connected { .. }
            | Self::RecipientRefused { .. }
            | Self::Queued { .. }
            | Self::MessageRefused { .. }
            | Self::QueueRefused { .. }
            | Self::EndOfDataMissing { .. }
            | Self::ClosedInData { .. }
            | Self::DevicesNotKept { .. }
            | Self::LoggedIn { .. } => None,
        }
    }

    pub(super) fn count(&self, add: Add<'_>) {
        match self {
            Self::Connected { .. } => add(&CONNECTIONS, &[], Value::More(1)),
            Self::Queued { client, size_bytes, .. } => {
                add(&RECEIVED, &[client.as_str()], Value::More(1));
                add(&RECEIVED_BYTES, &[client.as_str()], Value::More(*size_bytes));
            }
            Self::TurnedAway { .. }
            | Self::RelayRefused { .. }
            | Self::RecipientRefused { .. }
            | Self::RateLimited { .. }
            | Self::MessageRefused { .. }
            | Self::QueueRefused { .. } => add(&REJECTED, &[self.event()], Value::More(1)),
            Self::EndOfDataMissing { .. } | Self::ClosedInData { .. } => {
                add(&UNFINISHED, &[], Value::More(1));
            }
            Self::LoginFailed { .. } => add(&LOGINS_FAILED, &[], Value::More(1)),
            Self::HandshakeFailed { .. } => add(&HANDSHAKES_FAILED, &[], Value::More(1)),
            Self::OtherProtocol { .. } => add(&OTHER_PROTOCOL, &[], Value::More(1)),
            Self::Listening { .. }
            | Self::AcceptFailed { .. }
            | Self::AcceptRecovered { .. }
            | Self::UnknownParameters { .. }
            | Self::TlsOnPlainPort { .. }
            | Self::AuthNotOffered { .. }
            | Self::AuthInTheClear { .. }
            | Self::LoggedIn { .. }
            | Self::DevicesNotKept { .. }
            | Self::TooManyErrors { .. } => {}
        }
    }

    /// `held_back`: how many lines about the same peer and event were not written since the last one.
    pub(super) fn log(&self, held_back: u64) {
        let (event, words) = (self.event(), Words { fact: self, held_back });
        match self {
            Self::Listening { address } | Self::AcceptRecovered { address } => {
                info!(event, %address, "{words}");
            }
            Self::AcceptFailed { address, why } => error!(event, %address, %why, "{words}"),
            Self::Connected { peer, .. } => debug!(event, %peer, "{words}"),
            Self::TurnedAway { peer, .. }
            | Self::RelayRefused { peer, .. }
            | Self::TlsOnPlainPort { peer, .. }
            | Self::AuthNotOffered { peer, .. }
            | Self::AuthInTheClear { peer, .. }
            | Self::LoginFailed { peer, .. } => warn!(event, %peer, held_back, "{words}"),
            Self::RecipientRefused { peer, client, .. } | Self::MessageRefused { peer, client, .. } => {
                warn!(event, %peer, %client, "{words}");
            }
            Self::RateLimited { peer, client, per_minute } => {
                warn!(event, %peer, %client, per_minute, held_back, "{words}");
            }
            Self::Queued { id, peer, client, from, to, size_bytes, .. } => {
                let (recipients, to) = (to.len(), First(to));
                info!(event, %id, %peer, %client, %from, %to, recipients, size_bytes, "{words}");
            }
            Self::QueueRefused { peer, client, .. } => error!(event, %peer, %client, "{words}"),
            Self::EndOfDataMissing { peer, client, raw_bytes, .. }
            | Self::ClosedInData { peer, client, raw_bytes } => {
                warn!(event, %peer, %client, raw_bytes, "{words}");
            }
            Self::OtherProtocol { peer, protocol, .. } => {
                warn!(event, %peer, protocol, held_back, "{words}");
            }
            Self::DevicesNotKept { why } => warn!(event, %why, "{words}"),
            Self::LoggedIn { peer, user } => debug!(event, %peer, user, "{words}"),
            Self::UnknownParameters { peer, .. }
            | Self::HandshakeFailed { peer, .. }
            | Self::TooManyErrors { peer, .. } => info!(event, %peer, held_back, "{words}"),
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Words { fact: self, held_back: 0 }.fmt(f)
    }
}

/// The words of a fact in a line that says how many more there were.
struct Words<'a> {
    fact: &'a Fact,
    held_back: u64,
}

impl fmt::Display for Words<'_> {
    #[expect(clippy::too_many_lines, reason = "a table: the words of each fact")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = More(self.held_back);
        match self.fact {
            Fact::Listening { address } => write!(f, "listening on {address}"),
            Fact::AcceptFailed { address, why } => write!(
                f,
                "cannot take connections on {address}: {why}. hint: raise the limit on open files (LimitNOFILE)"
            ),
            Fact::AcceptRecovered { address } => write!(f, "taking connections on {address} again"),
            Fact::Connected { peer, .. } => write!(f, "{peer} connected"),
            Fact::TurnedAway { peer, reply, hint, .. } => {
                write!(f, "{peer} turned away: {}{more}{hint}", reply.trim_end())
            }
            Fact::RelayRefused { peer, .. } => write!(
                f,
                "{peer} may not relay{more}. hint: if it is yours: mailferry allow {peer} --as CLIENT"
            ),
            Fact::RecipientRefused { peer, client, why } => {
                write!(f, "recipient of {peer} ({client}) refused: {why}")
            }
            Fact::RateLimited { peer, client, per_minute } => {
                write!(f, "{peer} ({client}) put off: more than {per_minute} messages a minute{more}")
            }
            Fact::UnknownParameters { peer, parameters } => {
                write!(f, "{peer} said {}, which was ignored{more}", parameters.join(" "))
            }
            Fact::Queued { id, peer, client, from, to, size_bytes, .. } => write!(
                f,
                "{id} from {peer} ({client}): {from} to {}, recipients: {}, {size_bytes} bytes",
                First(to),
                to.len()
            ),
            Fact::MessageRefused { peer, client, reply } => {
                write!(f, "message of {peer} ({client}) refused: {}", reply.trim_end())
            }
            Fact::QueueRefused { peer, client, why, .. } => {
                write!(f, "message of {peer} ({client}) not taken: {why}")
            }
            Fact::EndOfDataMissing { peer, client, raw_bytes, lf_dot_lf } => {
                let hint = if *lf_dot_lf {
                    "it ends lines in LF alone: set line_endings = \"lf\" for this client"
                } else {
                    "it never sent the end of data (CRLF.CRLF): look for a firmware update"
                };
                write!(
                    f,
                    "{peer} ({client}) fell silent {raw_bytes} bytes into a message, nothing was queued. hint: {hint}"
                )
            }
            Fact::ClosedInData { peer, client, raw_bytes } => {
                write!(f, "{peer} ({client}) closed {raw_bytes} bytes into a message, nothing was queued")
            }
            Fact::TlsOnPlainPort { peer, .. } => {
                write!(f, "device {peer} speaks TLS on a plain port{more}. hint: turn TLS off at the device")
            }
            Fact::OtherProtocol { peer, protocol, .. } => write!(
                f,
                "{peer} speaks {protocol} to the SMTP port, closed{more}. hint: correct the port at the device; a \
                 browser or a scanner of the network does this, too"
            ),
            Fact::AuthNotOffered { peer, .. } => write!(
                f,
                "{peer} wants to log in, which this listener does not offer{more}. hint: turn authentication off at \
                 the device, or set auth = \"any\""
            ),
            Fact::AuthInTheClear { peer, .. } => write!(
                f,
                "{peer} wants to log in in the clear, where STARTTLS is offered: refused{more}. hint: turn TLS on at \
                 the device, or give devices that cannot do it a listener of their own with tls = \"off\""
            ),
            Fact::LoggedIn { peer, .. } => write!(f, "{peer} logged in"),
            Fact::LoginFailed { peer, user, .. } => {
                write!(f, "login of {peer} as {} failed{more}", Escaped(user))
            }
            Fact::HandshakeFailed { peer, why, .. } => {
                write!(f, "TLS handshake with {peer} failed: {why}{more}")
            }
            Fact::DevicesNotKept { why } => write!(f, "cannot write what is remembered of devices: {why}"),
            Fact::TooManyErrors { peer, .. } => write!(f, "{peer} closed after too many errors{more}"),
        }
    }
}

/// The first recipient, of all.
struct First<'a>(&'a [Mailbox]);

impl fmt::Display for First<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.first().map_or(Ok(()), |to| to.fmt(f))
    }
}

/// How many more there were, in a line that is written.
struct More(u64);

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { Ok(()) } else { write!(f, " ({} more before, held back)", self.0) }
    }
}
